"""`count`: exact, whatever the order and whoever counts, and nothing written on a fault."""

from __future__ import annotations

import json
from collections import Counter
from itertools import count as clock_ticks
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer as Backend

from tests.calibration import SAID, as_counter, counted, ids_of, put, put_records
from tests.outside_data import outside_files
from tests.real_tokenizers import NAMES, real_directory
from tests.tiny_tokenizer import ADDED, backend, write_tokenizer
from vocabtrim.core.counts_file import read_counts
from vocabtrim.core.errors import CalibrationError, OutputExists, TokenizerError
from vocabtrim.core.manifest import file_hash, read_manifest
from vocabtrim.pipeline.count import count
from vocabtrim.pipeline.counting import inputs as cutting
from vocabtrim.pipeline.counting.run import Progress
from vocabtrim.sources.records import OTHER_TOKENIZER
from vocabtrim.tokens.chat import NO_ASSISTANT, NO_TEMPLATE
from vocabtrim.tokens.tokenizer import fingerprint_of


def test_text_and_chats_and_records_together(place: Path) -> None:
    result, counts = counted("data")
    text = Path("data/a.txt").read_text()
    assert as_counter(counts) == ids_of(text, "an ant<|im_end|>", "the = 1", "a")
    assert (result.files, result.documents, result.empty) == (3, 4, 2)
    assert result.tokens == counts.n_tokens
    assert result.distinct == counts.n_distinct
    assert result.bytes == sum(path.stat().st_size for path in (place / "data").iterdir())
    assert result.warnings == (f"{NO_ASSISTANT} (1 document)",)
    assert counts.special.eos == counts.special.template == (256 + 6 + ADDED.index("<|im_end|>"),)


def test_the_order_and_spelling_of_inputs_change_nothing(place: Path) -> None:
    count(["data"], Path("t"), Path("one"))
    files = sorted(path.as_posix() for path in Path("data").iterdir())
    count([*files[::-1], "data", "./data/a.txt"], Path("t/tokenizer.json"), Path("two"))
    assert (place / "one").read_bytes() == (place / "two").read_bytes()


def test_what_lies_beside_the_output_may_be_left_out(place: Path) -> None:
    count(["data"], Path("t"), Path("one"))
    (place / "data" / "out").mkdir()
    put("data/out/more.txt", "the ants")
    count(["data"], Path("t"), Path("data/out/two"), leave_out=[Path("data/out")])
    assert (place / "one").read_bytes() == (place / "data/out/two").read_bytes()


def test_what_the_manifest_says(place: Path) -> None:
    result, _ = counted("data", role="all", cap_per_document=2, domains={"code": "*code*"})
    manifest = read_manifest(place / result.output)
    files = [f"data/{name}" for name in ("a.txt", "chat.jsonl", "code.jsonl")]
    assert manifest.inputs == {name: file_hash(Path(name)) for name in files}
    expected = {"role": "all", "cap_per_document": 2, "field": None, "domains": {"code": "*code*"}}
    assert manifest.options == expected
    assert manifest.tokenizer == fingerprint_of(Path("t")) == result.tokenizer
    assert manifest.facts["tokens"] == result.tokens
    assert manifest.facts["empty"] == result.empty == 1
    assert manifest.facts["warnings"] == list(result.warnings)


def test_the_cap_holds_in_every_document(place: Path) -> None:
    put("loop.txt", "\n" * 10_000)
    put("more.jsonl", [{"text": "\n\n" * 40}, {"text": "\n\n" * 3}])
    newlines = backend().token_to_id("ĊĊ")
    _, free = counted("loop.txt", "more.jsonl")
    assert free.counts[newlines] == 5_000 + 40 + 3
    _, capped = counted("loop.txt", "more.jsonl", cap_per_document=10)
    assert capped.counts[newlines] == 10 + 10 + 3
    assert capped.documents[newlines] == free.documents[newlines] == 3


def test_domains_by_pattern_and_by_the_records_own_word(place: Path) -> None:
    patterns = {"code": "*code*", "chat": "chat.jsonl", "all": "data/*", "extra": "", "no": ""}
    result, counts = counted("data", domains=patterns)
    texts = {"code": ["the = 1", "a"], "chat": ["an ant<|im_end|>"], "extra": ["a"], "no": []}
    for name, expected in texts.items():
        assert as_counter(counts.domains[name]) == ids_of(*expected)
    assert counts.domains["all"].counts.tolist() == counts.counts.tolist()
    assert result.domains["code"] == {
        "documents": 2,
        "tokens": ids_of(*texts["code"]).total(),
        "distinct": len(ids_of(*texts["code"])),
    }
    assert "domain no has no document" in result.warnings


@pytest.mark.parametrize("pattern", ["data/code.jsonl", "code.*", "*/code*", "{here}/data/co*"])
def test_patterns_of_domains(place: Path, pattern: str) -> None:
    result, _ = counted("data", domains={"code": pattern.format(here=place)})
    assert result.domains["code"]["documents"] == 2


def test_a_pattern_that_matches_nothing_is_refused(place: Path) -> None:
    with pytest.raises(CalibrationError, match=r"domain code: none of the files matches '\*\.py'"):
        counted("data", domains={"code": "*.py"})
    assert not list(place.glob("*.safetensors"))


def test_generated_ids_count_as_they_are(place: Path) -> None:
    record = {
        "completion": "the",
        "completion_ids": [1, 1, 5],
        "tokenizer": fingerprint_of(Path("t")),
    }
    put("ours.jsonl", [record])
    put("other.jsonl", [record, {**record, "tokenizer": "sha256:other"}] * 2)
    assert as_counter(counted("ours.jsonl")[1]) == Counter({1: 2, 5: 1})
    result, counts = counted("other.jsonl")
    assert as_counter(counts) == Counter({1: 4, 5: 2}) + ids_of("the", "the")
    assert result.warnings == (f"{OTHER_TOKENIZER} (2 documents)",)


def test_bom_and_crlf(place: Path) -> None:
    put("bom.txt", "\ufeffthe\r\na".encode())
    put("bom.jsonl", '\ufeff{"text": "the\\r\\na"}\r\n\r\n'.encode())
    expected = ids_of("the\r\na")
    assert as_counter(counted("bom.txt")[1]) == as_counter(counted("bom.jsonl")[1]) == expected


def test_neither_tasks_nor_workers_show_in_the_result(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_records("many.jsonl", 200_000)
    options: dict[str, Any] = {
        "domains": {"m": "many*", "third": ""},
        "cap_per_document": 3,
        "force": True,
    }
    count(["many.jsonl", "data"], Path("t"), Path("out"), workers=1, **options)
    whole = Path("out").read_bytes()
    assert read_counts(Path("out"))[0].domains["third"].n_documents > 10
    for size in (1, 50_000):
        monkeypatch.setattr(cutting, "TASK_BYTES", size)
        count(["many.jsonl", "data"], Path("t"), Path("out"), workers=1, **options)
        assert Path("out").read_bytes() == whole


def test_progress_after_every_task(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cutting, "TASK_BYTES", 1)
    told: list[Progress] = []
    result, counts = counted("data", progress=told.append, clock=clock_ticks().__next__)
    sizes = [path.stat().st_size for path in sorted(Path("data").iterdir())]
    assert [one.done for one in told] == np.cumsum(sizes).tolist()
    assert told[-1].read == told[-1].total == result.bytes == sum(sizes)
    assert (told[-1].tokens, told[-1].distinct) == (counts.n_tokens, counts.n_distinct)
    assert told[-1].seconds > told[0].seconds > 0


def test_seconds_are_the_clocks(place: Path) -> None:
    times: list[float] = []

    def clock() -> float:
        times.append(5.0 * len(times))
        return times[-1]

    result, _ = counted("data", clock=clock)
    assert result.seconds == times[-1] > 0
    assert result.to_json()["count"]["seconds"] == times[-1]
    assert json.loads(json.dumps(result.to_json()))["count"]["V"] == result.V


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("bad.jsonl", b"not JSON\nnor this\n", "bad.jsonl, line 1: nothing in this file can be"),
        ("bad.txt", b"\xff", "bad.txt, line 1: nothing in this file can be used"),
        ("bad.bin", b"\0\1", "bad.bin: cannot tell what is in this file"),
    ],
)
def test_a_file_without_anything_to_use_is_refused_and_nothing_written(
    place: Path, name: str, content: bytes, message: str
) -> None:
    put(name, content)
    with pytest.raises(CalibrationError, match=message):
        count(["data", name], Path("t"), Path("out"))
    assert not (place / "out").exists()
    assert not [path for path in place.iterdir() if path.name.startswith(".")]


def test_what_cannot_be_used_is_left_out_and_reported(place: Path) -> None:
    put("bad.jsonl", b'{"text": "a"}\n{"text": \n[1]\n{"text": "the"}\n{"text": 3}\n')
    result, counts = counted("bad.jsonl", "data")
    assert as_counter(counts) == as_counter(counted("data")[1]) + ids_of("a", "the")
    left_out = result.left_out
    assert sum(entry["records"] for entry in left_out.values()) == 3
    places = {place for entry in left_out.values() for place in entry["places"]}
    assert places == {"bad.jsonl:2", "bad.jsonl:3", "bad.jsonl:5"}
    assert read_manifest(Path(result.output)).facts["left_out"] == left_out
    told = [text for text in result.warnings if "left out" in text]
    assert len(told) == len(left_out)
    assert any("1 record left out" in text and "bad.jsonl, line 2" in text for text in told)


def test_strict_refuses_the_first_record_that_cannot_be_used(place: Path) -> None:
    put("bad.jsonl", b'{"text": "a"}\n{"text": \n')
    with pytest.raises(CalibrationError, match=r"bad\.jsonl, line 2"):
        counted("bad.jsonl", "data", strict=True)
    assert not list(place.glob("*.safetensors*"))


def test_missing_data_and_tokenizers(place: Path) -> None:
    with pytest.raises(CalibrationError, match="gone: no such file"):
        count(["gone"], Path("t"), Path("out"))
    with pytest.raises(TokenizerError, match="nowhere cannot be opened"):
        count(["data"], Path("nowhere"), Path("out"))
    with pytest.raises(CalibrationError, match="found 'bot'"):
        count(["data"], Path("t"), Path("out"), role="bot")
    with pytest.raises(CalibrationError, match="1 or more, found 0"):
        count(["data"], Path("t"), Path("out"), cap_per_document=0)
    assert not (place / "out").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "nothing to count in 0 documents"),
        ([{"text": ""}], "nothing to count in 1 documents"),
        ([{"messages": SAID[:1]}], "no assistant turn.*1 document"),
    ],
)
def test_nothing_to_count_is_refused_with_the_reason(
    place: Path, content: str | list[Any], message: str
) -> None:
    put("x", content)
    with pytest.raises(CalibrationError, match=message):
        count(["x"], Path("t"), Path("out"))
    assert not (place / "out").exists()


def test_an_empty_file_among_others_is_no_fault(place: Path) -> None:
    put("empty.txt", "")
    assert counted("empty.txt", "data")[1] == counted("data")[1]


def test_an_existing_output_is_refused_before_the_work(place: Path) -> None:
    put("out", "mine")
    with pytest.raises(OutputExists):
        count(["gone"], Path("t"), Path("out"))
    assert Path("out").read_text() == "mine"


def test_the_output_is_no_input(place: Path) -> None:
    first = count(["data"], Path("t"), Path("data/out"))
    again = count(["data"], Path("t"), Path("data/out"), force=True)
    assert (again.files, again.tokens) == (first.files, first.tokens)


def test_an_unreadable_file_is_named(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(cutting, "source_of", refuse)
    with pytest.raises(CalibrationError, match=r"a\.txt: it cannot be read \(Permission denied\)"):
        counted("data")


def test_a_file_that_changes_while_it_is_counted_is_a_warning(place: Path) -> None:
    def change(_: Progress) -> None:
        put("data/code.jsonl", [{"text": "something else"}])

    result, _ = counted("data", progress=change)
    assert "data/code.jsonl changed while it was counted" in result.warnings


def test_a_number_of_workers_below_one_is_refused(place: Path) -> None:
    with pytest.raises(CalibrationError, match="1 worker or more to count, found 0"):
        counted("data", workers=0)


def test_a_field_is_read_whatever_else_a_record_has(place: Path) -> None:
    put("own.jsonl", [{"text": "an", "mine": "the"}])
    result, counts = counted("own.jsonl", field="mine")
    assert as_counter(counts) == ids_of("the")
    assert read_manifest(Path(result.output)).options["field"] == "mine"


def test_warnings_of_the_tokenizer_come_along(place: Path) -> None:
    write_tokenizer(place / "t", template=None, config={"eos_token": None})
    result, counts = counted("data/chat.jsonl")
    assert [text.split(":")[0] for text in result.warnings] == [
        "no file of the tokenizer says which id ends a generation",
        "a conversation has no assistant turn, so nothing in it was counted (1 document)",
        NO_TEMPLATE.split(":")[0],
    ]
    assert as_counter(counts) == ids_of("an ant")


@pytest.mark.parametrize("name", NAMES)
def test_all_outside_data_equals_a_plain_loop(name: str, tmp_path: Path) -> None:
    files = outside_files("[pr]*_*.jsonl")
    result = count(files, real_directory(name), tmp_path / "out")
    library = Backend.from_file(str(real_directory(name) / "tokenizer.json"))
    expected: Counter[int] = Counter()
    frequency: Counter[int] = Counter()
    for file in files:
        for line in file.read_text(encoding="utf-8").splitlines():
            record = json.loads(line)
            text = record["text"] if "text" in record else record["prompt"]
            ids = library.encode(text, add_special_tokens=False).ids
            expected.update(ids)
            frequency.update(set(ids))
    counts, _ = read_counts(tmp_path / "out")
    assert as_counter(counts) == expected
    assert {int(i): int(counts.documents[i]) for i in np.flatnonzero(counts.documents)} == frequency
    assert result.warnings == ()
