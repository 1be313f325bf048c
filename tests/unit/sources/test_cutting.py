"""Cutting: whole records, bounded memory, and the same cuts from any cut on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.reading import sizes_of
from tests.tiny import WATCH_MEMORY
from vocabtrim.sources.base import BLOCK_BYTES, LONGEST_RECORD, Block
from vocabtrim.sources.cutting import SIZES, Ends, LineScanner, cut, line_ends
from vocabtrim.sources.files import DataFile


def blocks(path: Path, content: bytes, size: int, longest: int = 1 << 20) -> list[Block]:
    path.write_bytes(content)
    scanner = {"scanner": lambda _: LineScanner(), "sizes": sizes_of(size, longest)}
    return list(cut(DataFile.find(path), "lines", 0, 1, **scanner))


def pieces(path: Path, content: bytes, size: int) -> list[bytes]:
    return [block.data or b"" for block in blocks(path, content, size)]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", []),
        (b"a", [b"a"]),
        (b"ab\ncd\nef\n", [b"ab\n", b"cd\n", b"ef\n"]),
        (b"a\nb\nc\n", [b"a\nb\n", b"c\n"]),
        (b"a\nbcdefgh\nc\nd", [b"a\n", b"bcdefgh\n", b"c\nd"]),
        (b"abcdefgh", [b"abcdefgh"]),
        (b"a\r\nb\r\nc", [b"a\r\n", b"b\r\n", b"c"]),
        (b"ab\rcd\ref", [b"ab\r", b"cd\r", b"ef"]),
        (b"abc\r\n", [b"abc\r\n"]),
        (b"\n\n\n\n\n", [b"\n\n\n\n", b"\n"]),
    ],
)
def test_blocks_of_four_bytes_are_whole_lines(
    tmp_path: Path, content: bytes, expected: list[bytes]
) -> None:
    assert pieces(tmp_path / "x", content, 4) == expected


@settings(deadline=None)
@given(st.lists(st.sampled_from([b"a", b"bcd", b"\n", b"\r", b"\r\n"])), st.integers(1, 9))
def test_blocks_are_the_file_and_know_their_places(
    tmp_path_factory: pytest.TempPathFactory, parts: list[bytes], size: int
) -> None:
    content = b"".join(parts)
    path = tmp_path_factory.mktemp("cut") / "x"
    place, line = 0, 1
    for block in blocks(path, content, size):
        assert (block.start, block.line) == (place, line)
        assert block.data == content[block.start : block.stop]
        place, line = block.stop, line + block.lines
        begun = content[:place].splitlines()
        assert line - 1 in (len(begun), len(begun) - 1)
        if place < len(content):
            assert content[:place].endswith((b"\n", b"\r"))
            assert not (content[:place].endswith(b"\r") and content[place:].startswith(b"\n"))
    assert place == len(content)


@pytest.mark.parametrize(
    ("data", "ends"), [(b"", 0), (b"a", 0), (b"a\nb\n", 2), (b"a\rb\r\nc\n\r", 4)]
)
def test_lines_end_as_everywhere(data: bytes, ends: int) -> None:
    assert line_ends(data) == ends


def test_a_return_at_the_end_of_a_chunk_waits_for_the_next() -> None:
    scanner = LineScanner()
    assert scanner.feed(b"a\r") is None
    assert scanner.feed(b"b") == Ends(0, 0)
    scanner = LineScanner()
    assert scanner.feed(b"a\r") is None
    assert scanner.feed(b"\nb") == Ends(1, 1)


def test_a_record_that_is_too_long_is_passed_over(tmp_path: Path) -> None:
    content = b"a\n" + b"x" * 100 + b"\nb\nc\n"
    found = blocks(tmp_path / "x", content, 4, longest=16)
    assert [(block.start, block.stop, block.line, block.lines, block.data) for block in found] == [
        (0, 2, 1, 1, b"a\n"),
        (2, 103, 2, 1, None),
        (103, 107, 3, 2, b"b\nc\n"),
    ]
    fault = found[1].fault
    assert fault is not None
    assert (fault.line, fault.reason) == (2, "the record is longer than 0 MiB")
    assert [block.fault for block in found[::2]] == [None, None]


@pytest.mark.parametrize("length", [15, 16, 17])
def test_the_longest_record_is_counted_with_its_line_end(tmp_path: Path, length: int) -> None:
    found = blocks(tmp_path / "x", b"x" * length + b"\ny", 4, longest=16)
    assert (found[0].fault is None) == (length < 16)
    assert found[1].data == b"y"


def test_what_never_ends_is_passed_over_to_the_end(tmp_path: Path) -> None:
    (only,) = blocks(tmp_path / "x", b"x" * 100, 4, longest=16)
    assert (only.start, only.stop, only.data) == (0, 100, None)
    assert only.fault is not None


def test_the_sizes_of_the_package() -> None:
    assert (SIZES.block, SIZES.longest) == (BLOCK_BYTES, LONGEST_RECORD) == (2 << 20, 64 << 20)


@pytest.mark.parametrize("name", ["jsonl", "json", "csv", "text"])
def test_a_line_of_200_mb_takes_little_memory(tmp_path: Path, name: str) -> None:
    begins = {"jsonl": b'{"text": "', "json": b'[{"text": "', "csv": b'id,text\n1,"', "text": b""}
    ends = {"jsonl": b'"}\n', "json": b'"}, {"text": "b"}]', "csv": b'"\n2,b\n', "text": b""}
    with (tmp_path / "x").open("wb") as stream:
        stream.write(begins[name])
        for _ in range(200):
            stream.write(b"a" * (1 << 20))
        stream.write(ends[name] + (b'{"text": "b"}\n' if name == "jsonl" else b""))
    script = WATCH_MEMORY + (
        "import sys\n"
        "from tests.reading import READING\n"
        "from vocabtrim.sources.base import SOURCES, Skipped\n"
        "from vocabtrim.sources.files import DataFile\n"
        "file, source = DataFile.find(sys.argv[1]), SOURCES.load(sys.argv[2])\n"
        "before, found = _anonymous_kib(), []\n"
        "for block in source.blocks(file):\n"
        "    for one in source.read(block, READING):\n"
        "        found.append(one.reason if isinstance(one, Skipped) else len(one.content))\n"
        "print(peak_kib() - before, found[:2], sum(one for one in found[1:]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "x"), name],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[3],
    )
    kib, _, found = done.stdout.partition(" ")
    assert int(kib) < 200 << 10
    if name == "text":
        assert found == f"[{4 << 20}, {4 << 20}] {(200 << 20) - (4 << 20)}\n"
    else:
        assert found == "['the record is longer than 64 MiB', 1] 1\n"
