"""`count` and `merge`: exact, whatever the order, and nothing written on a fault."""

from __future__ import annotations

import json
from collections import Counter
from itertools import count as clock_ticks
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer as Backend

from tests.outside_data import outside_files
from tests.real_tokenizers import NAMES, real_directory
from tests.tiny_tokenizer import ADDED, backend, write_tokenizer
from vocabtrim.core.counts import TokenCounts
from vocabtrim.core.counts_file import read_counts
from vocabtrim.core.errors import (
    ArtifactError,
    CalibrationError,
    OutputExists,
    TokenizerError,
    TokenizerMismatch,
)
from vocabtrim.core.manifest import file_hash, read_manifest
from vocabtrim.pipeline import count as module
from vocabtrim.pipeline.count import CountResult, count, merge
from vocabtrim.sources.jsonl import OTHER_TOKENIZER
from vocabtrim.tokens.chat import NO_ASSISTANT, NO_TEMPLATE
from vocabtrim.tokens.tokenizer import fingerprint_of

SAID = [{"role": "user", "content": "the a"}, {"role": "assistant", "content": "an ant"}]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a tokenizer in `t` and some data in `data`."""
    monkeypatch.chdir(tmp_path)
    write_tokenizer(tmp_path / "t")
    (tmp_path / "data").mkdir()
    put("data/a.txt", "The ants\n\nand 🙂 the é.\n")
    put("data/chat.jsonl", [{"messages": SAID}, {"messages": SAID[:1]}])
    put("data/code.jsonl", [{"text": "the = 1"}, {"text": ""}, {"text": "a", "domain": "extra"}])
    return tmp_path


def put(name: str, content: str | bytes | list[Any]) -> Path:
    path = Path(name)
    if isinstance(content, list):
        content = "".join(json.dumps(record) + "\n" for record in content)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def counted(*data: str, **options: Any) -> tuple[CountResult, TokenCounts]:
    output = Path(f"{len(list(Path().iterdir()))}.safetensors")
    result = count(list(data), Path("t"), output, **options)
    return result, read_counts(output)[0]


def ids_of(*texts: str) -> Counter[int]:
    return Counter(token_id for text in texts for token_id in backend().encode(text).ids)


def as_counter(counts: TokenCounts) -> Counter[int]:
    return Counter({int(one): int(counts.counts[one]) for one in np.flatnonzero(counts.counts)})


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


def test_what_the_manifest_says(place: Path) -> None:
    result, _ = counted("data", role="all", cap_per_document=2, domains={"code": "*code*"})
    manifest = read_manifest(place / result.output)
    files = [f"data/{name}" for name in ("a.txt", "chat.jsonl", "code.jsonl")]
    assert manifest.inputs == {name: file_hash(Path(name)) for name in files}
    expected = {"role": "all", "cap_per_document": 2, "domains": {"code": "*code*"}}
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


def test_batches_do_not_show_in_the_result(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put("many.jsonl", [{"text": f"the ants {number}"} for number in range(50)])
    whole = counted("many.jsonl", "data", domains={"m": "many*"})
    monkeypatch.setattr(module, "BATCH_DOCUMENTS", 7)
    by_number = counted("many.jsonl", "data", domains={"m": "many*"})
    monkeypatch.setattr(module, "BATCH_BYTES", 20)
    by_size = counted("many.jsonl", "data", domains={"m": "many*"})
    assert whole[1] == by_number[1] == by_size[1]
    assert whole[0].warnings == by_number[0].warnings == by_size[0].warnings


def test_a_batch_is_bounded_by_documents_and_by_bytes(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put("many.jsonl", [{"text": "x" * 100} for _ in range(30)])
    told: list[tuple[int, int]] = []
    monkeypatch.setattr(module, "BATCH_DOCUMENTS", 8)
    counted("many.jsonl", progress=lambda done, total: told.append((done, total)))
    size = Path("many.jsonl").stat().st_size
    line = size // 30
    assert told == [(8 * line, size), (16 * line, size), (24 * line, size), (size, size)]
    told.clear()
    monkeypatch.setattr(module, "BATCH_BYTES", 3 * line)
    counted("many.jsonl", "data/a.txt", progress=lambda done, total: told.append((done, total)))
    assert len(told) == 10
    assert told[-1][0] == told[-1][1] == size + Path("data/a.txt").stat().st_size


def test_seconds_are_the_clocks(place: Path) -> None:
    ticks = clock_ticks(step=5)
    result, _ = counted("data", clock=lambda: next(ticks))
    assert result.seconds == 5
    assert result.to_json()["count"]["seconds"] == 5
    assert json.loads(json.dumps(result.to_json()))["count"]["V"] == result.V


def test_lines_for_a_reader(place: Path) -> None:
    result, _ = counted("data", domains={"code": "*code*"})
    text = "\n".join(result.lines())
    assert f"{result.tokens:,} tokens" in text
    assert "4 in 3 files; 2 without a token to count" in text
    assert f"{result.distinct} of {result.V} seen" in text
    assert "  code            " in text


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("bad.jsonl", b'{"text": "a"}\n{"text": \n', "bad.jsonl, line 2: not valid JSON"),
        ("bad.jsonl", b"not JSON\n", "bad.jsonl, line 1: not valid JSON"),
        ("bad.txt", b"a\n\xff", "bad.txt, line 2: byte 0xff is not UTF-8"),
        ("bad.bin", b"\0\1", "bad.bin: cannot tell what is in this file"),
    ],
)
def test_damaged_data_is_refused_and_nothing_written(
    place: Path, name: str, content: bytes, message: str
) -> None:
    put(name, content)
    with pytest.raises(CalibrationError, match=message):
        count(["data", name], Path("t"), Path("out"))
    assert not (place / "out").exists()
    assert not [path for path in place.iterdir() if path.name.startswith(".")]


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

    monkeypatch.setattr(module, "source_of", refuse)
    with pytest.raises(CalibrationError, match=r"a\.txt: it cannot be read \(Permission denied\)"):
        counted("data")


def test_warnings_of_the_tokenizer_come_along(place: Path) -> None:
    write_tokenizer(place / "t", template=None, config={"eos_token": None})
    result, counts = counted("data/chat.jsonl")
    assert [text.split(":")[0] for text in result.warnings] == [
        "no file of the tokenizer says which id ends a generation",
        "a conversation has no assistant turn, so nothing in it was counted (1 document)",
        NO_TEMPLATE.split(":")[0],
    ]
    assert as_counter(counts) == ids_of("an ant")


def test_merging_parts_equals_counting_the_whole(place: Path) -> None:
    options: dict[str, Any] = {"domains": {"d": "data/c*"}, "cap_per_document": 2}
    whole = counted("data", **options)
    names = ["a", "b", "c"]
    files = ["data/code.jsonl", "data/chat.jsonl", "data/a.txt"]
    for name, file in zip(names, files, strict=True):
        more = options if "/c" in file else {"cap_per_document": 2}
        count([file], Path("t"), Path(name), **more)
    result = merge([Path(name) for name in names], Path("sum"))
    assert read_counts(Path("sum"))[0] == whole[1]
    assert (result.tokens, result.documents, result.empty) == (
        whole[0].tokens,
        whole[0].documents,
        whole[0].empty,
    )
    assert result.files == 3
    assert result.warnings == whole[0].warnings
    merge([Path(name) for name in (*names[::-1], "a")], Path("mus"))
    assert Path("sum").read_bytes() == Path("mus").read_bytes()


def test_merging_says_what_was_counted_twice(place: Path) -> None:
    put("copy.txt", Path("data/a.txt").read_text())
    count(["data/a.txt"], Path("t"), Path("one"))
    count(["copy.txt", "data/code.jsonl"], Path("t"), Path("two"), role="all")
    result = merge([Path("one"), Path("two")], Path("both"))
    assert result.warnings == (
        "copy.txt was counted in 2 of the files, so its tokens count that often",
        "the files were counted with different role: ['all', 'assistant']",
    )
    # and also behind counts that were merged before
    again = merge([Path("both"), Path("one")], Path("again"))
    assert "copy.txt was counted in 2 of the files" in again.warnings[0]


def test_merging_what_does_not_fit_is_refused(place: Path) -> None:
    count(["data"], Path("t"), Path("one"))
    write_tokenizer(place / "u", added=(*ADDED, "<more>"))
    count(["data"], Path("u"), Path("two"))
    with pytest.raises(TokenizerMismatch, match="two was counted with another tokenizer"):
        merge([Path("one"), Path("two")], Path("out"))
    with pytest.raises(ArtifactError, match=r"a\.txt is not a readable safetensors file"):
        merge([Path("one"), Path("data/a.txt")], Path("out"))
    with pytest.raises(CalibrationError, match="no count files"):
        merge([], Path("out"))
    with pytest.raises(OutputExists):
        merge([Path("one")], Path("two"))
    assert not (place / "out").exists()


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
