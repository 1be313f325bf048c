import numpy as np
import pytest
import torch

from recipes.training.corpus import Document, collate
from recipes.training.teacher import LIKELIEST, Teacher, feature_layers
from tests.tiny import edit
from tests.unit.recipes.world import world
from vocabtrim.core.errors import DecodeError

CPU = torch.device("cpu")


def documents():
    generator = np.random.default_rng(0)
    made = []
    for length, asked in ((9, 4), (6, 2), (12, 0)):
        tokens = generator.integers(3, 96, length).astype(np.int32)
        made.append(Document(tokens, np.arange(length) >= asked, "00"))
    return made


def test_packed_documents_do_not_see_one_another(tmp_path):
    teacher = Teacher(world(tmp_path), layers=(1, 2, 3), dtype="float32", device=CPU)
    lesson = teacher.teach(collate([documents()[:2], documents()[2:]], 16))
    for row, index, document in ((0, 0, 0), (0, 1, 1), (1, 0, 2)):
        tokens = torch.from_numpy(documents()[document].tokens.astype("int64"))[None]
        alone = teacher.model.model(tokens, output_hidden_states=True, use_cache=False)
        expected = torch.cat([alone.hidden_states[one] for one in (1, 2, 3)], -1)[0]
        place = lesson.batch.documents[row] == index
        torch.testing.assert_close(lesson.features[row][place], expected, rtol=1e-4, atol=1e-5)


def test_a_label_is_the_distribution_after_a_position(tmp_path):
    teacher = Teacher(world(tmp_path), dtype="float32", device=CPU)
    (long,) = documents()[2:]
    lesson = teacher.teach(collate([[long]], 16))
    tokens = torch.from_numpy(long.tokens.astype("int64"))
    logits = teacher.model(tokens[None]).logits[0]
    assert lesson.row_of[0].tolist() == [*range(11), -1, -1, -1, -1, -1]
    assert lesson.labels.ids.shape == (11, LIKELIEST + 1)
    for place in range(11):
        likeliest = set(logits[place].topk(LIKELIEST).indices.tolist())
        ids = lesson.labels.ids[place].tolist()
        assert likeliest | {int(tokens[place + 1])} <= set(ids)
        assert ids == sorted(set(ids))
        torch.testing.assert_close(lesson.labels.chances[place], logits[place][ids].softmax(0))
        assert int(lesson.greedy[place]) == int(logits[place].argmax())


def test_chances_are_exact_where_the_target_is_not(tmp_path):
    """The 64 likeliest ids are read off bfloat16 logits, their chances are float32."""
    teacher = Teacher(world(tmp_path), dtype="bfloat16", device=CPU)
    batch = collate([documents()[:2], documents()[2:]], 16)
    lesson = teacher.teach(batch)
    outputs = teacher.model.model(batch.tokens, position_ids=batch.positions, use_cache=False)
    hidden = outputs.last_hidden_state
    assert hidden.dtype == torch.bfloat16
    for row, column in (lesson.row_of >= 0).nonzero().tolist():
        logits = teacher.head @ hidden[row, column].float()
        place = lesson.row_of[row, column]
        ids = lesson.labels.ids[place]
        torch.testing.assert_close(lesson.labels.chances[place], logits[ids].softmax(0))
        assert lesson.labels.chances.dtype == torch.float32
        assert int(lesson.greedy[place]) == int(logits.argmax())
        # an id that was passed over is within the rounding of the last one taken
        others = logits.clone()
        others[ids] = -torch.inf
        taken = ids[ids != batch.tokens[row, column + 1]]
        assert others.max() <= logits[taken].min() + 2.0**-6 * logits.abs().max()


def test_only_learnt_tokens_have_labels(tmp_path):
    teacher = Teacher(world(tmp_path), dtype="float32", device=CPU)
    lesson = teacher.teach(collate([documents()[:2]], 16))
    # 9 tokens of which 4 are the prompt, then 6 of which 2 are
    assert (lesson.row_of[0] >= 0).nonzero()[:, 0].tolist() == [3, 4, 5, 6, 7, 10, 11, 12, 13]
    assert len(lesson.labels.ids) == len(lesson.greedy) == 9


def test_layers_follow_the_depth_of_the_target():
    assert feature_layers(30) == (2, 15, 27)
    assert feature_layers(18) == (2, 9, 15)
    with pytest.raises(DecodeError, match="4 layers"):
        feature_layers(4)


def test_capped_logits_are_refused(tmp_path):
    target = edit(world(tmp_path), config={"final_logit_softcapping": 30.0})
    with pytest.raises(DecodeError, match="final_logit_softcapping"):
        Teacher(target, dtype="float32", device=CPU)
