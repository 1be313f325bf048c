import json
import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from recipes import train_eagle3
from recipes.training.corpus import Document, collate
from recipes.training.eagle3 import LOGITS_SIZE, Eagle3, Eagle3Task
from recipes.training.teacher import Teacher
from tests.unit.recipes.world import gemma_world, world, write_generated
from vocabtrim.core.errors import CheckpointError
from vocabtrim.families import eagle3
from vocabtrim.tensors.checkpoint import Checkpoint

LAYERS = (1, 2, 3)


@pytest.fixture
def teacher(tmp_path):
    torch.set_num_threads(1)
    return Teacher(world(tmp_path), layers=LAYERS, dtype="float32", device=torch.device("cpu"))


def document(length: int, asked: int, seed: int) -> Document:
    tokens = np.random.default_rng(seed).integers(3, 96, length).astype(np.int32)
    return Document(tokens, np.arange(length) >= asked, "00")


def drafter(teacher, lesson) -> Eagle3:
    """A drafter whose every weight matters."""
    made = Eagle3.begin(teacher, lesson, 0)
    with torch.no_grad():
        for parameter in made.parameters():
            noise = torch.randn_like(parameter)
            parameter.add_(noise, alpha=0.3 / math.sqrt(parameter.shape[-1]))
    return made


def draft(model: Eagle3, teacher, tokens: list[int], last: int, given: list[int]) -> torch.Tensor:
    """Draft as a decoder does: one position at a time, with a cache of lists.

    Args:
        tokens: The text, of which `last` + 2 are known.
        last: Position of the last true feature.
        given: Tokens taken as drafted, one a further step.

    Returns:
        [1 + len(given), V] logits.
    """
    known = torch.tensor([tokens[: last + 1]])
    states = teacher.model.model(known, output_hidden_states=True).hidden_states
    features = model.fuse(torch.cat([states[one] for one in LAYERS], -1))[0]
    layer, config = model.midlayer, model.config
    d, groups = config.head_dim, config.num_attention_heads // config.num_key_value_heads
    keys, values, logits = [], [], []
    following = [*tokens[1 : last + 2], *given]
    feature = None
    for position in range(last + 1 + len(given)):
        feature = features[position] if position <= last else feature
        embedding = teacher.embeddings[following[position]]
        pair = torch.cat([layer.input_layernorm(embedding), layer.hidden_norm(feature)])
        attention = layer.self_attn
        query = rotated(attention.q_proj(pair).view(-1, d), position, config)
        keys.append(rotated(attention.k_proj(pair).view(-1, d), position, config))
        values.append(attention.v_proj(pair).view(-1, d))
        heads = []
        for head in range(config.num_attention_heads):
            scores = torch.stack([query[head] @ key[head // groups] for key in keys])
            weights = (scores / math.sqrt(d)).softmax(0)
            heads.append(sum(w * v[head // groups] for w, v in zip(weights, values, strict=True)))
        feature = feature + attention.o_proj(torch.cat(heads))
        feature = feature + layer.mlp(layer.post_attention_layernorm(feature))
        if position >= last:
            logits.append(teacher.head @ model.norm(feature))
    return torch.stack(logits)


def rotated(heads: torch.Tensor, position: int, config) -> torch.Tensor:
    d = config.head_dim
    angles = position * config.rope_parameters["rope_theta"] ** (-torch.arange(0, d, 2) / d)
    cos, sin = angles.cos().repeat(2), angles.sin().repeat(2)
    half = torch.cat([-heads[:, d // 2 :], heads[:, : d // 2]], 1)
    return heads * cos + half * sin


@torch.no_grad()
def test_an_unrolled_step_is_real_drafting(teacher):
    first, second = document(10, 3, 1), document(14, 5, 2)
    lesson = teacher.teach(collate([[first, second], [document(20, 2, 3)]], 24))
    model = drafter(teacher, lesson)
    starts = torch.tensor([[4, 6, 10 + 7], [9, 2, 15]])
    outputs = list(model.unroll(lesson, teacher, starts, 4))
    texts = [(first, 0), (first, 0), (second, 10)], [(document(20, 2, 3), 0)] * 3
    for row in range(2):
        for column in range(3):
            text, begin = texts[row][column]
            tokens, last = text.tokens.tolist(), int(starts[row, column]) - begin
            given = tokens[last + 2 : last + 5]
            expected = draft(model, teacher, tokens, last, given)
            for step in range(1 + len(given)):
                ours = teacher.head @ model.norm(outputs[step][row, column])
                torch.testing.assert_close(ours, expected[step], rtol=1e-3, atol=1e-4)


@torch.no_grad()
def test_drafts_begin_behind_generated_tokens_and_have_the_targets_labels(teacher):
    text = document(10, 4, 1)
    lesson = teacher.teach(collate([[text, document(5, 1, 2)]], 16))
    task = Eagle3Task(drafter(teacher, lesson), teacher, steps=3)
    steps = list(task.losses(lesson, None))
    logits = teacher.model(torch.tensor([text.tokens.tolist()], dtype=torch.int64)).logits[0]
    greedy = logits.argmax(-1).tolist()
    # tokens 4…9 are generated: the first draft follows token 4, and predicts token 5
    assert steps[0].greedy.tolist()[:5] == greedy[4:9]
    assert steps[1].greedy.tolist()[:4] == greedy[5:9]
    assert [len(one.greedy) for one in steps] == [5 + 3, 4 + 2, 3 + 1]
    assert [one.weight for one in steps] == [1.0, 0.8, pytest.approx(0.64)]
    expected = torch.stack(
        [draft(task.module, teacher, text.tokens.tolist(), last, [])[0] for last in range(3, 8)]
    )
    assert steps[0].choices.tolist()[:5] == expected.argmax(1).tolist()


def test_every_parameter_has_a_gradient(teacher):
    lesson = teacher.teach(collate([[document(20, 4, 1)]], 24))
    task = Eagle3Task(drafter(teacher, lesson), teacher)
    sum(one.total for one in task.losses(lesson, None)).backward()
    learnt = [one for one in task.module.parameters() if one.requires_grad]
    assert all(one.grad is not None and one.grad.abs().sum() > 0 for one in learnt)


def test_what_is_saved_is_an_eagle3_drafter(teacher, tmp_path):
    lesson = teacher.teach(collate([[document(20, 4, 1)]], 24))
    model = drafter(teacher, lesson)
    model.save(tmp_path / "drafter")
    saved = Checkpoint.open(tmp_path / "drafter")
    assert eagle3.PLUGIN.matches(saved)
    eagle3.PLUGIN.tiny_checkpoint(tmp_path / "other")
    other = Checkpoint.open(tmp_path / "other")
    assert {n: i.shape for n, i in saved.tensors.items()} == {
        n: i.shape for n, i in other.tensors.items()
    }
    config = json.loads((tmp_path / "drafter" / "config.json").read_text())
    assert config["draft_vocab_size"] == config["vocab_size"] == 96
    assert config["eagle_aux_hidden_state_layer_ids"] == [1, 2, 3]
    again = Eagle3.open(tmp_path / "drafter")
    for name, parameter in again.named_parameters():
        expected = model.get_parameter(name)
        if name == "fc.weight":
            expected = expected / model.feature_size
        elif name == "feature_size":
            expected = torch.ones_like(expected)  # a plain drafter divides by nothing
        assert parameter.equal(expected.bfloat16().float())


def test_another_checkpoint_is_no_drafter_to_start_from(tmp_path):
    target = world(tmp_path)
    with pytest.raises(CheckpointError, match="EAGLE-3"):
        Eagle3.open(target)


@torch.no_grad()
def test_a_new_drafter_says_what_the_late_layer_says(tmp_path):
    torch.set_num_threads(1)
    target = gemma_world(tmp_path)
    teacher = Teacher(target, layers=(2, 3, 4), dtype="float32", device=torch.device("cpu"))
    # as in trained models: one channel of the stream and one gain much larger than the others
    teacher.model.model.embed_tokens.weight[:, 3] += 5.0
    teacher.model.model.norm.weight[5] = 40.0
    teacher.embeddings = teacher.head = teacher.model.model.embed_tokens.weight.float()
    lesson = teacher.teach(collate([[document(20, 4, 1)]], 20))
    model = Eagle3.begin(teacher, lesson, 0)
    fused = model.fuse(lesson.features)[:, 1:]
    assert 0.5 < float(fused.pow(2).mean().sqrt()) < 2
    late = teacher.model.model.norm(lesson.features[..., -32:])[:, 1:] @ teacher.head.T
    ours = model.norm(fused) @ teacher.head.T
    assert float(functional.cosine_similarity(ours, late, dim=-1).min()) > 0.9
    # a nudge of any channel moves the logits by about as much
    moved = (model.norm.weight * (teacher.head - teacher.head.mean(0))).pow(2).mean(0).sqrt()
    assert float(moved.max() / moved.min()) < 1.01
    assert 0.1 < float((ours - ours.mean(-1, keepdim=True)).std()) < 2 * LOGITS_SIZE


def test_a_gemma_target_is_trained_for(tmp_path):
    torch.set_num_threads(1)
    target = gemma_world(tmp_path)
    text = write_generated(tmp_path / "g.jsonl", target)
    options = ["--target", str(target), "--generated", str(text), "--work", str(tmp_path / "work")]
    options += ["--row-tokens", "32", "--rows", "4", "--steps", "12", "--warmup", "2"]
    assert train_eagle3.main([*options, "--heldout-share", "0.1", "--sampled", "32"]) == 0
    folder = tmp_path / "work" / "constant"
    points = [json.loads(line) for line in (folder / "curve.jsonl").open()]
    assert points[-1]["loss"] < points[0]["loss"]
    saved = Checkpoint.open(folder / "drafter")
    assert saved.config["eagle_aux_hidden_state_layer_ids"] == [2, 3, 4]
    assert eagle3.PLUGIN.matches(saved)
