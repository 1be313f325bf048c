"""Independent drafters: tied, untied, and trimmed ones that remember which they were."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.tiny import H, V, edit, numbers, raw_tensors, tiny_eagle3, tiny_lm, write_raw
from vocabtrim.core.errors import CheckpointError, VocabError
from vocabtrim.core.metrics import StepCost
from vocabtrim.core.vocab import DraftVocab
from vocabtrim.families.independent import PLUGIN, was_tied
from vocabtrim.pipeline.trim import trim
from vocabtrim.tensors.checkpoint import Checkpoint
from vocabtrim.tensors.head_source import HeadOrigin, vocabulary_maps
from vocabtrim.tensors.locate import locate

PART = DraftVocab(np.arange(0, V, 3), V)
K = PART.size
EMBEDDING = "model.embed_tokens.weight"


def _trimmed(directory: Path, *, tied: bool) -> Path:
    """Write by hand what a trim of a tiny LM should come to."""
    tiny_lm(directory, tied=tied)
    drafter = Checkpoint.open(directory)
    config = PLUGIN.trimmed_config(drafter.config, PART, PLUGIN.head(drafter, None))
    head = numbers(raw_tensors(directory)[EMBEDDING])[PART.ids]
    return edit(directory, add={"lm_head.weight": head, **vocabulary_maps(PART)}, config=config)


def _trunk(directory: Path) -> int:
    aside = (EMBEDDING, "lm_head.weight", "d2t", "t2d")
    return sum(numbers(r).size for name, r in raw_tensors(directory).items() if name not in aside)


def test_an_ordinary_causal_lm_is_recognised_trimmed_or_not(tmp_path: Path) -> None:
    assert PLUGIN.matches(Checkpoint.open(tiny_lm(tmp_path / "tied")))
    assert PLUGIN.matches(Checkpoint.open(tiny_lm(tmp_path / "untied", tied=False)))
    assert PLUGIN.matches(Checkpoint.open(_trimmed(tmp_path / "trimmed", tied=True)))


def test_what_is_no_causal_lm(tmp_path: Path) -> None:
    encoder = edit(tiny_lm(tmp_path / "e"), config={"architectures": ["BertModel"]})
    nameless = edit(tiny_lm(tmp_path / "n"), forget=["architectures"])
    for directory in (encoder, nameless, tiny_eagle3(tmp_path / "d")):
        assert not PLUGIN.matches(Checkpoint.open(directory))


@pytest.mark.parametrize(
    ("tied", "origin"), [(True, HeadOrigin.OWN_EMBEDDING), (False, HeadOrigin.OWN)]
)
def test_the_head_is_its_own(tmp_path: Path, tied: bool, origin: HeadOrigin) -> None:
    drafter = Checkpoint.open(tiny_lm(tmp_path / "lm", tied=tied))
    head = PLUGIN.head(drafter, None)
    assert (head.origin, head.checkpoint) == (origin, drafter)
    assert head.held.is_full
    assert not PLUGIN.needs_target(drafter)


def test_a_trimmed_one_holds_the_ids_of_its_map(tmp_path: Path) -> None:
    head = PLUGIN.head(Checkpoint.open(_trimmed(tmp_path / "lm", tied=True)), None)
    assert head.origin is HeadOrigin.OWN
    assert head.held == PART


def test_only_what_follows_the_head_changes_in_the_config(tmp_path: Path) -> None:
    drafter = Checkpoint.open(tiny_lm(tmp_path / "lm"))
    config = PLUGIN.trimmed_config(drafter.config, PART, PLUGIN.head(drafter, None))
    changed = {key for key in config if config[key] != drafter.config.get(key)}
    assert changed == {"architectures", "draft_vocab_size", "tie_word_embeddings", "vocabtrim"}
    assert config["architectures"] == ["TrimmedLlamaForCausalLM"]
    assert (config["vocab_size"], config["draft_vocab_size"]) == (V, K)
    assert config["tie_word_embeddings"] is False


def test_transformers_refuses_a_trimmed_one_instead_of_filling_a_random_head(
    tmp_path: Path,
) -> None:
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("torch")
    directory = _trimmed(tmp_path / "lm", tied=True)
    with pytest.raises(RuntimeError, match="ignore_mismatched_sizes"):
        transformers.AutoModelForCausalLM.from_pretrained(directory)


@pytest.mark.parametrize("tied", [True, False])
def test_trimming_again_keeps_the_name_and_the_memory_of_tying(tmp_path: Path, tied: bool) -> None:
    drafter = Checkpoint.open(_trimmed(tmp_path / "lm", tied=tied))
    smaller = DraftVocab(PART.ids[:5], V)
    config = PLUGIN.trimmed_config(drafter.config, smaller, PLUGIN.head(drafter, None))
    assert config["architectures"] == ["TrimmedLlamaForCausalLM"]
    assert was_tied(config) is tied


def test_all_ids_make_it_an_ordinary_model_again(tmp_path: Path) -> None:
    drafter = Checkpoint.open(tiny_lm(tmp_path / "lm", tied=False))
    once = PLUGIN.trimmed_config(drafter.config, PART, PLUGIN.head(drafter, None))
    back = PLUGIN.trimmed_config(once, DraftVocab.full(V), PLUGIN.head(drafter, None))
    assert back == dict(drafter.config) | {"draft_vocab_size": V}


def test_cost_of_a_tied_one_before_and_after(tmp_path: Path) -> None:
    before, after = tiny_lm(tmp_path / "lm"), _trimmed(tmp_path / "trimmed", tied=True)
    trunk = _trunk(before)
    for directory, rows in ((before, V), (after, K)):
        assert PLUGIN.cost(Checkpoint.open(directory), None) == StepCost(
            params=trunk + rows * H,
            head_params=rows * H,
            step_bytes=4 * (trunk + rows * H + H),
            head_bytes=4 * rows * H,
        )


def test_cost_of_an_untied_one_before_and_after(tmp_path: Path) -> None:
    before = tiny_lm(tmp_path / "lm", tied=False)
    after = _trimmed(tmp_path / "trimmed", tied=False)
    for directory, rows in ((before, V), (after, K)):
        cost = PLUGIN.cost(Checkpoint.open(directory), None)
        assert cost.params == _trunk(before) + V * H + rows * H
        assert cost.step_bytes == 4 * (_trunk(before) + rows * H + H)


def test_cost_at_another_precision(tmp_path: Path) -> None:
    drafter = Checkpoint.open(tiny_lm(tmp_path / "lm"))
    stored, halved = PLUGIN.cost(drafter, None), PLUGIN.cost(drafter, None, itemsize=2)
    assert halved.params == stored.params
    assert 2 * halved.step_bytes == stored.step_bytes
    assert 2 * halved.head_bytes == stored.head_bytes


def test_contradictions_are_refused(tmp_path: Path) -> None:
    padded = edit(tiny_lm(tmp_path / "v"), config={"vocab_size": V + 1})
    with pytest.raises(CheckpointError, match=f"vocab_size is {V + 1}, but .* has {V} rows"):
        PLUGIN.head(Checkpoint.open(padded), None)
    mapped = edit(tiny_lm(tmp_path / "m"), add={"d2t": PART.d2t})
    with pytest.raises(CheckpointError, match="its head is its whole embedding"):
        PLUGIN.head(Checkpoint.open(mapped), None)
    lost = edit(_trimmed(tmp_path / "l", tied=True), drop=["lm_head.weight"])
    with pytest.raises(CheckpointError, match=r"it has no lm_head\.weight"):
        PLUGIN.head(Checkpoint.open(lost), None)


def test_it_opens_for_decoding_trimmed_in_memory_or_on_disk(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    model = pytest.importorskip("transformers").AutoModelForCausalLM.from_pretrained(
        tiny_lm(tmp_path / "target", seed=9)
    )
    target = Checkpoint.open(tmp_path / "target")
    for tied in (True, False):
        whole = Checkpoint.open(tiny_lm(tmp_path / f"lm{tied}", tied=tied))
        cut = Checkpoint.open(_trimmed(tmp_path / f"cut{tied}", tied=True))
        full = PLUGIN.load_drafter(whole, target, model, None)
        assert full.head.vocab.is_full
        name = EMBEDDING if tied else "lm_head.weight"
        own = torch.from_numpy(numbers(raw_tensors(whole.path)[name]).copy())
        assert torch.equal(full.head.weight, own)
        part = PLUGIN.load_drafter(whole, target, model, PART)
        assert part.head.vocab == PART
        assert torch.equal(part.head.weight, own[torch.from_numpy(PART.ids.copy())])
        if tied:
            drafters = [part, PLUGIN.load_drafter(cut, target, model, None)]
            assert torch.equal(drafters[0].head.weight, drafters[1].head.weight)
            drafts = []
            for drafter in drafters:
                drafter.begin(40)
                drafter.commit(list(range(3, 20)), None)
                drafts.append(drafter.propose(6))
            assert drafts[0] == drafts[1]
            assert set(drafts[0]) <= set(PART.ids.tolist())


def test_a_vocabulary_that_its_head_cannot_serve(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    model = pytest.importorskip("transformers").AutoModelForCausalLM.from_pretrained(
        tiny_lm(tmp_path / "target")
    )
    target = Checkpoint.open(tmp_path / "target")
    cut = Checkpoint.open(_trimmed(tmp_path / "cut", tied=True))
    with pytest.raises(VocabError, match="1 of 2 ids have no row in the head"):
        PLUGIN.load_drafter(cut, target, model, DraftVocab.from_ids([3, 4], V))
    with pytest.raises(VocabError, match="found 3 to 96"):
        PLUGIN.load_drafter(cut, target, model, DraftVocab.from_ids([3, V], V + 1))
    # another padding of the same ids is no other vocabulary
    padded = DraftVocab.from_ids([3, 6], V + 64)
    assert PLUGIN.load_drafter(cut, target, model, padded).head.vocab.vocab_size == V


def test_the_demo_drafter(demo_cache: Path) -> None:
    cost = PLUGIN.cost(Checkpoint.open(locate("demo-lm")), None)
    assert cost.params == 42_472_512
    assert cost.head_share(4) == pytest.approx(0.667, abs=1e-3)


def _gpt_neox(directory: Path) -> Path:
    tiny_lm(directory, tied=False)
    raw = raw_tensors(directory)
    embedding, head = (numbers(raw[name]) for name in (EMBEDDING, "lm_head.weight"))
    return edit(
        directory,
        drop=[EMBEDDING, "lm_head.weight"],
        add={"gpt_neox.embed_in.weight": embedding, "embed_out.weight": head},
        config={"architectures": ["GPTNeoXForCausalLM"]},
    )


def test_a_head_keeps_the_name_that_its_model_gives_it(tmp_path: Path) -> None:
    drafter = _gpt_neox(tmp_path / "d")
    trim(drafter, PART, tmp_path / "out")
    written, original = raw_tensors(tmp_path / "out"), raw_tensors(drafter)
    rows = numbers(original["embed_out.weight"])[PART.ids]
    assert np.array_equal(numbers(written["embed_out.weight"]), rows)
    assert "lm_head.weight" not in written
    opened = Checkpoint.open(tmp_path / "out")
    assert PLUGIN.head(opened, None).held == PART
    assert PLUGIN.cost(opened, None).head_params == K * H
    assert opened.config["architectures"] == ["TrimmedGPTNeoXForCausalLM"]


def test_a_bias_follows_the_rows_of_a_tied_head(tmp_path: Path) -> None:
    bias = np.arange(V, dtype=np.float32)
    drafter = edit(tiny_lm(tmp_path / "d"), add={"lm_head.bias": bias})
    trim(drafter, PART, tmp_path / "out")
    assert numbers(raw_tensors(tmp_path / "out")["lm_head.bias"]).tolist() == PART.ids.tolist()


def test_what_shapes_the_logits_stays_in_the_config(tmp_path: Path) -> None:
    shaping = {"final_logit_softcapping": 30.0, "logit_scale": 0.0625, "logits_scaling": 8.0}
    drafter = edit(tiny_lm(tmp_path / "d"), config=shaping)
    trim(drafter, PART, tmp_path / "out")
    config = Checkpoint.open(tmp_path / "out").config
    assert {key: config[key] for key in shaping} == shaping


def test_a_model_that_also_sees_is_one_by_its_language_model(tmp_path: Path) -> None:
    tiny_lm(tmp_path / "d")
    config = dict(Checkpoint.open(tmp_path / "d").config)
    raw = raw_tensors(tmp_path / "d")
    renamed = {name.replace("model.", "model.language_model.", 1): one for name, one in raw.items()}
    write_raw(tmp_path / "d", renamed)
    seen = {"model.visual.patch_embed.weight": np.zeros((3, 3), np.float32)}
    edit(
        tmp_path / "d",
        add=seen,
        forget=list(config),
        config={"text_config": config, "tie_word_embeddings": True},
    )
    edit(tmp_path / "d", config={"architectures": ["Qwen3_5ForConditionalGeneration"]})
    trim(tmp_path / "d", PART, tmp_path / "out")
    out = Checkpoint.open(tmp_path / "out")
    assert out.config["draft_vocab_size"] == K
    assert out.config["text_config"]["vocab_size"] == V
    assert "model.visual.patch_embed.weight" in out.tensors
    assert (
        PLUGIN.cost(out, None).params
        == PLUGIN.cost(Checkpoint.open(_trimmed(tmp_path / "t", tied=True)), None).params
    )


@pytest.mark.parametrize("kind", ["llama", "gemma2", "cohere"])
def test_kept_logits_are_those_of_transformers(tmp_path: Path, kind: str) -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    shape = {
        "vocab_size": V,
        "hidden_size": H,
        "intermediate_size": 2 * H,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
    }
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(kind, **shape)
    model = transformers.AutoModelForCausalLM.from_config(config).eval().double()
    model.save_pretrained(tmp_path / "d")
    trim(tmp_path / "d", PART, tmp_path / "out")
    ids = torch.tensor([[3, 14, 15, 9, 2]])
    with torch.no_grad():
        states = model.model(ids).last_hidden_state
        full = model(ids).logits[0, :, torch.from_numpy(PART.ids.copy())]
    trimmed = Checkpoint.open(tmp_path / "out")
    rows = trimmed.array("lm_head.weight")
    logits = states[0] @ torch.from_numpy(rows.copy()).T
    scale = trimmed.config.get("logit_scale")
    cap = trimmed.config.get("final_logit_softcapping")
    logits = logits * scale if scale is not None else logits
    logits = torch.tanh(logits / cap) * cap if cap is not None else logits
    assert (scale is not None, cap is not None) == (kind == "cohere", kind == "gemma2")
    torch.testing.assert_close(logits, full, rtol=1e-12, atol=1e-12)
