import itertools
import json

import numpy as np
import pytest

from recipes.training.corpus import (
    Document,
    Visits,
    collate,
    fingerprint,
    limited,
    read_documents,
    split,
)
from tests.unit.recipes.world import ROW, world, write_generated
from vocabtrim.core.errors import CalibrationError, TokenizerMismatch


def document(first: int, length: int, group: str = "00000000") -> Document:
    return Document(np.arange(first, first + length, dtype=np.int32), np.ones(length, bool), group)


def digest(number: int) -> str:
    return f"{number * 2654435761 % (1 << 32):08x}"


def test_only_the_completion_of_generated_text_is_learnt(tmp_path):
    target = world(tmp_path)
    file = write_generated(tmp_path / "g.jsonl", target, prompts=1, length=6)
    record = json.loads(file.read_text())
    (found,) = read_documents(file, target, row_tokens=ROW)
    assert found.tokens[found.learnt].tolist() == record["completion_ids"]
    assert found.tokens[~found.learnt].tolist() == [
        int(word[1:]) for word in record["messages"][0]["content"].split()
    ]
    assert found.domain == "code"


def test_a_long_completion_is_cut_and_a_prompt_that_fills_the_row_left_out(tmp_path):
    target = world(tmp_path)
    file = write_generated(tmp_path / "g.jsonl", target, prompts=1, length=20)
    assert [len(one.tokens) for one in read_documents(file, target, row_tokens=8)] == [8]
    with pytest.raises(CalibrationError, match="nothing to train on"):
        read_documents(file, target, row_tokens=5)


def test_text_is_learnt_whole_in_pieces_of_a_row(tmp_path):
    target = world(tmp_path)
    file = tmp_path / "t.jsonl"
    file.write_text(json.dumps({"text": " ".join(f"w{one}" for one in range(20))}) + "\n")
    found = read_documents(file, target, row_tokens=8)
    assert [one.tokens.tolist() for one in found] == [
        list(range(8)),
        list(range(8, 16)),
        list(range(16, 20)),
    ]
    assert all(one.learnt.all() for one in found)
    assert len({one.group for one in found}) == 1


def test_an_unfinished_output_of_generate_is_read(tmp_path):
    target = world(tmp_path)
    file = write_generated(tmp_path / "g.jsonl", target, prompts=2)
    file.write_text('{"vocabtrim generate": {}}\n' + file.read_text() + '{"id": "p2", "comp')
    assert len(read_documents(file, target, row_tokens=ROW)) == 2


def test_faults_name_file_and_line(tmp_path):
    target = world(tmp_path)
    file = write_generated(tmp_path / "g.jsonl", target, prompts=1)
    record = json.loads(file.read_text())
    file.write_text(file.read_text() + '{"nothing": 1}\n')
    with pytest.raises(CalibrationError, match=r"g\.jsonl, line 2"):
        read_documents(file, target, row_tokens=ROW)
    file.write_text(json.dumps(record | {"tokenizer": "sha256:" + "0" * 64}) + "\n")
    with pytest.raises(TokenizerMismatch):
        read_documents(file, target, row_tokens=ROW)


def test_two_answers_to_a_prompt_are_held_out_together(tmp_path):
    target = world(tmp_path)
    greedy = write_generated(tmp_path / "g.jsonl", target, prompts=60, length=12)
    sampled = write_generated(tmp_path / "s.jsonl", target, prompts=60, length=14)
    first = read_documents(greedy, target, row_tokens=ROW)
    _, held = split(first, heldout_share=0.3)
    more = read_documents(sampled, target, row_tokens=ROW)
    kept_now, held_now = split([*first, *more], heldout_share=0.3)
    assert held
    assert {one.group for one in held} == {one.group for one in held_now}
    assert not {one.group for one in kept_now} & {one.group for one in held_now}
    assert len(held_now) == 2 * len(held)


def test_smaller_limits_are_nested():
    documents = [document(0, 10, digest(one)) for one in range(50)]
    some, more = limited(documents, 100), limited(documents, 300)
    assert len(some) == 10
    assert len(more) == 30
    assert {one.group for one in some} < {one.group for one in more}
    assert limited(documents, None) == documents


def sources():
    long = [document(1000 * one, 5 + one % 11) for one in range(40)]
    short = [document(100_000 + 100 * one, 3) for one in range(30)]
    return [(0.75, long), (0.25, short)]


def ids_of(batch):
    """The first token of every document of a batch."""
    firsts = (batch.positions == 0) & (batch.documents >= 0)
    return batch.tokens[firsts].tolist()


def test_visits_go_on_where_they_stopped():
    visits = Visits(sources(), seed=3, rows=4, row_tokens=16)
    whole = list(itertools.islice(visits.batches(), 90))
    later = list(itertools.islice(visits.batches(70), 20))
    assert all(
        one.tokens.equal(other.tokens) and one.documents.equal(other.documents)
        for one, other in zip(whole[70:], later, strict=True)
    )
    other = next(Visits(sources(), seed=4, rows=4, row_tokens=16).batches())
    assert not other.tokens.equal(whole[0].tokens)


def test_every_document_is_visited_once_an_epoch_and_sources_keep_their_shares():
    visits = Visits(sources(), seed=0, rows=4, row_tokens=16)
    seen, tokens = [], [0, 0]
    for batch in itertools.islice(visits.batches(), 128):  # two windows
        for first in ids_of(batch):
            seen.append(first)
        filled = batch.tokens[batch.documents >= 0]
        tokens[0] += int((filled < 100_000).sum())
        tokens[1] += int((filled >= 100_000).sum())
    times = [seen.count(1000 * one) for one in range(40)]
    assert max(times) - min(times) <= 2
    assert abs(tokens[1] / sum(tokens) - 0.25) < 0.03


def test_rows_are_filled_and_documents_whole():
    batch = next(Visits(sources(), seed=1, rows=64, row_tokens=16).batches())
    assert batch.n_tokens / batch.tokens.numel() > 0.9
    for row in range(64):
        for index in set(batch.documents[row].tolist()) - {-1}:
            place = batch.documents[row] == index
            run = batch.tokens[row][place]
            assert run.tolist() == list(range(int(run[0]), int(run[0]) + len(run)))
            assert batch.positions[row][place].tolist() == list(range(len(run)))


def test_what_is_not_filled_belongs_to_no_document():
    batch = collate([[document(7, 3), document(20, 2)], [document(1, 6)]], 6)
    assert batch.documents.tolist() == [[0, 0, 0, 1, 1, -1], [0] * 6]
    assert batch.tokens.tolist() == [[7, 8, 9, 20, 21, 0], [1, 2, 3, 4, 5, 6]]
    assert batch.learnt.tolist() == [[True] * 5 + [False], [True] * 6]
    assert batch.n_tokens == 11


def test_fingerprint_tells_data_apart():
    one = fingerprint(sources())
    assert one == fingerprint(sources())
    changed = sources()
    changed[0][1][5] = document(5, 9)
    assert fingerprint(changed) != one
    assert fingerprint([(0.5, docs) for _, docs in sources()]) != one


def test_no_documents_is_an_error():
    with pytest.raises(CalibrationError):
        Visits([(1.0, []), (0.0, [document(0, 4)])], seed=0, rows=1, row_tokens=8)
