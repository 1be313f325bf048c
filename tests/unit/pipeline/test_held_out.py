"""Held-out text: read as counted text is, judged by domain, never what was counted."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.tiny_tokenizer import tokenizer, write_tokenizer
from vocabtrim.core.errors import CalibrationError
from vocabtrim.core.manifest import Manifest, file_hash
from vocabtrim.core.vocab import DraftVocab
from vocabtrim.pipeline.held_out import HeldOutText, judge_held_out, read_held_out
from vocabtrim.tokens.tokenizer import Tokenizer


@pytest.fixture
def opened(tmp_path: Path) -> Tokenizer:
    return tokenizer(tmp_path / "tokenizer")


def records(path: Path, *rows: dict[str, object]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def chat(answer: str) -> dict[str, object]:
    question = {"role": "user", "content": "why?"}
    return {"messages": [question, {"role": "assistant", "content": answer}]}


def counts_manifest(path: Path, **facts: object) -> Manifest:
    return Manifest("counts", 10, "sha256:t", {str(path): file_hash(path)}, facts=facts)


def test_of_a_chat_what_the_assistant_wrote(tmp_path: Path, opened: Tokenizer) -> None:
    path = records(tmp_path / "a.jsonl", chat("the ants"), {"text": "then"})
    text = read_held_out([path], opened)
    end = opened.id_of("<|im_end|>")
    assert end is not None
    expected = [[*opened.encode("the ants").tolist(), end], opened.encode("then").tolist()]
    assert [ids.tolist() for ids in text.documents] == expected
    assert text.domains == (None, None)
    asked = read_held_out([path], opened, role="user")
    assert asked.documents[0].tolist() == opened.encode("why?").tolist()


def test_ids_of_the_same_tokenizer_are_used_as_they_are(tmp_path: Path, opened: Tokenizer) -> None:
    row = {"completion": "x", "completion_ids": [5, 6, 7], "tokenizer": opened.fingerprint}
    text = read_held_out([records(tmp_path / "a.jsonl", row)], opened)
    assert [ids.tolist() for ids in text.documents] == [[5, 6, 7]]


def test_domains_are_those_that_records_name_else_the_files(
    tmp_path: Path, opened: Tokenizer
) -> None:
    one = records(tmp_path / "one.jsonl", {"text": "a", "domain": "x"}, {"text": "b"})
    two = records(tmp_path / "two.jsonl", {"text": "c", "domain": "y"})
    assert read_held_out([one, two], opened).domains == ("x", None, "y")
    plain = records(tmp_path / "plain.jsonl", {"text": "a"}, {"text": ""}, {"text": "b"})
    other = records(tmp_path / "other.jsonl", {"text": "c"})
    assert read_held_out([plain, other], opened).domains == ("other", "plain", "plain")
    assert read_held_out([plain], opened).domains == (None, None)


def test_what_was_counted_is_refused(tmp_path: Path, opened: Tokenizer) -> None:
    path = records(tmp_path / "a.jsonl", {"text": "a"})
    (tmp_path / "copy.jsonl").write_bytes(path.read_bytes())
    counted = [counts_manifest(path)]
    for again in (path, tmp_path / "copy.jsonl"):
        with pytest.raises(CalibrationError, match=r"this was counted \(as .*a\.jsonl\)"):
            read_held_out([again], opened, counted=counted)
    other = records(tmp_path / "b.jsonl", {"text": "b"})
    assert read_held_out([other], opened, counted=counted).documents
    # behind counts that were merged, the files are a fact
    counts = records(tmp_path / "counts", {})
    merged = counts_manifest(counts, data=[[str(path), file_hash(path)]])
    with pytest.raises(CalibrationError, match="this was counted"):
        read_held_out([path], opened, counted=[merged])


def test_records_that_cannot_be_used_are_told(tmp_path: Path, opened: Tokenizer) -> None:
    path = records(tmp_path / "a.jsonl", {"text": "a"})
    path.write_text(path.read_text() + '{"nothing": "known"}\n')
    text = read_held_out([path], opened)
    assert len(text.documents) == 1
    (warning,) = text.warnings
    assert warning.startswith(f"1 held-out records left out; {path}, line 2: ")


def test_nothing_held_out_is_an_error(tmp_path: Path, opened: Tokenizer) -> None:
    path = records(tmp_path / "a.jsonl", {"text": ""})
    with pytest.raises(CalibrationError, match=r"there is no held-out token in .*a\.jsonl"):
        read_held_out([path], opened)
    with pytest.raises(CalibrationError, match="no such file"):
        read_held_out([tmp_path / "absent.jsonl"], opened)


def test_substitutes_are_told_once_with_their_number(tmp_path: Path) -> None:
    plain = Tokenizer.open(write_tokenizer(tmp_path / "plain", template=None))
    path = records(tmp_path / "a.jsonl", chat("one"), chat("two"))
    (warning,) = read_held_out([path], plain).warnings
    assert warning.startswith("held out: the tokenizer has no chat template")
    assert warning.endswith("(2 documents)")


def test_coverage_by_domain_worst_first_and_the_ceiling() -> None:
    documents = tuple(np.array(ids) for ids in ([1, 1, 1, 1, 0], [1, 2, 2, 2, 0], [1, 1, 2, 1, 0]))
    vocab = DraftVocab(np.array([0, 1]), 10, "t")
    text = HeldOutText(documents, ("good", "bad", "good"), ("a warning",))
    found = judge_held_out(text, vocab, ends=[0])
    assert found.coverage.share == pytest.approx(11 / 15)
    assert list(found.coverage.domains) == ["bad", "good"]
    assert found.coverage.domains["bad"].share == pytest.approx(2 / 5)
    assert list(found.ceiling) == list(range(1, 9))
    # behind the prefill: 1110 | 2 2 2 0 | 12 10; every token outside ends a cycle
    assert found.ceiling[8] == pytest.approx(12 / 7)
    assert found.warnings == ("a warning",)
    # without ids that end a generation, the last token is an ordinary one
    assert judge_held_out(text, vocab, ends=[]).ceiling[1] is not None
    assert judge_held_out(text, vocab, ends=[0]) == found


def test_the_lines() -> None:
    vocab = DraftVocab(np.array([0, 1]), 10, "t")
    documents = (np.array([1, 1, 0]), np.array([1, 2, 0]))
    lines = judge_held_out(HeldOutText(documents, ("a", "b")), vocab, [0]).lines(14)
    assert lines[0].startswith("held out      83.3% (66.7 to 100.0%) of 6 tokens in 2 documents")
    assert lines[1] == "  b           66.7% of 3 tokens in 1 document"
    assert lines[2] == "  a           100.0% of 3 tokens in 1 document"
    assert lines[3].startswith("ceiling of τ  γ 1: 1.33  γ 2: 1.33")
    single = judge_held_out(HeldOutText((np.array([1]),), (None,)), vocab, [0])
    assert single.lines(14)[-1] == "ceiling of τ  no cycle to count"
