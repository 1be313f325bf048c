"""The unfinished output: what it survives, and whom it refuses."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vocabtrim.core.errors import ArtifactError, EnvironmentFailure, OutputExists
from vocabtrim.pipeline.part import HEADER, Part

REQUEST = {"model": "tiny", "seed": 0}
KEYS = ("a", "b", "c")


def line(key: str, completion: str = "red") -> dict[str, Any]:
    return {
        "id": key,
        "completion": completion,
        "completion_ids": [6, 2],
        "finish_reason": "stop",
    }


def part_of(output: Path) -> Path:
    return output.with_name(output.name + ".part")


def begin(output: Path, *keys: str) -> None:
    with Part.open(output, REQUEST, KEYS, force=False) as part:
        for key in keys:
            part.append(line(key))


def test_lines_are_there_as_soon_as_they_are_written(tmp_path: Path) -> None:
    output = tmp_path / "deep" / "out.jsonl"
    with Part.open(output, REQUEST, KEYS, force=False) as part:
        assert json.loads(part_of(output).read_text()) == {HEADER: REQUEST}
        part.append(line("b", "grün"))
        written = part_of(output).read_text(encoding="utf-8").splitlines()
        assert json.loads(written[1]) == line("b", "grün")
        assert "grün" in written[1]


def test_the_same_command_goes_on_and_finishes_in_order(tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    begin(output, "c", "a")
    with Part.open(output, REQUEST, KEYS, force=False) as part:
        assert list(part.lines) == ["c", "a"]
        part.append(line("b"))
        part.finish(output, KEYS, force=False)
    assert [json.loads(one)["id"] for one in output.read_text().splitlines()] == [*KEYS]
    assert not part_of(output).exists()


def test_a_second_answer_is_dropped_whoever_wrote_it(tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    with Part.open(output, REQUEST, KEYS, force=False) as part:
        part.append(line("a", "first"))
        part.append(line("a", "second"))
    assert len(part_of(output).read_text().splitlines()) == 2
    with part_of(output).open("a") as stream:
        stream.write(json.dumps(line("a", "third")) + "\n")
    with Part.open(output, REQUEST, KEYS, force=False) as part:
        assert part.lines["a"]["completion"] == "first"
        part.append(line("b"))
        part.append(line("c"))
        part.finish(output, KEYS, force=False)
    assert [json.loads(one)["id"] for one in output.read_text().splitlines()] == [*KEYS]


def test_lines_of_other_prompts_are_left_out(tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    begin(output, "a", "b")
    with Part.open(output, REQUEST, ["b", "c"], force=False) as part:
        assert list(part.lines) == ["b"]


@given(cut=st.integers(min_value=0))
@settings(deadline=None, max_examples=60)
def test_a_crash_at_any_byte_is_gone_on_from(
    tmp_path_factory: pytest.TempPathFactory, cut: int
) -> None:
    output = tmp_path_factory.mktemp("cut") / "out.jsonl"
    begin(output, "a", "b")
    whole = part_of(output).read_bytes()
    left = whole[: cut % (len(whole) + 1)]
    part_of(output).write_bytes(left)
    with Part.open(output, REQUEST, KEYS, force=False) as part:
        assert len(part.lines) == max(0, left.count(b"\n") - 1)
        assert part.damaged == 0
        for key in KEYS:
            part.append(line(key))
    assert [json.loads(one).get("id") for one in part_of(output).read_text().splitlines()] == [
        None,
        *KEYS,
    ]


@pytest.mark.parametrize(
    "damage",
    [
        b"\0" * 300,
        b"{}",
        b"[]",
        b'{"id": "b"}',
        b'{"id": 7, "completion": "", "completion_ids": [], "finish_reason": "stop"}',
        b"\xff\xfe",
        b"[" * 100_000,
    ],
)
def test_a_damaged_line_is_no_answer_and_costs_no_other(tmp_path: Path, damage: bytes) -> None:
    output = tmp_path / "out.jsonl"
    begin(output, "a")
    with part_of(output).open("ab") as stream:
        stream.write(damage + b"\n")
    begin(output, "c")
    with Part.open(output, REQUEST, KEYS, force=False) as part:
        assert list(part.lines) == ["a", "c"]
        assert part.damaged == 1


@pytest.mark.parametrize(
    ("request_then", "says"),
    [
        ({"model": "other", "seed": 0}, "begun with model tiny, not other"),
        ({"model": "tiny", "seed": 0, "drafter": "d"}, "begun with drafter None, not d"),
        ({"model": "tiny"}, "begun with seed 0, not None"),
    ],
)
def test_another_command_is_refused_unless_forced(
    tmp_path: Path, request_then: dict[str, Any], says: str
) -> None:
    output = tmp_path / "out.jsonl"
    begin(output, "a")
    before = part_of(output).read_bytes()
    with pytest.raises(OutputExists, match=says):
        Part.open(output, request_then, KEYS, force=False)
    assert part_of(output).read_bytes() == before
    with Part.open(output, request_then, KEYS, force=True) as part:
        assert not part.lines
    assert json.loads(part_of(output).read_text()) == {HEADER: request_then}


def test_a_part_without_answers_is_anybody_s(tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    begin(output)
    with Part.open(output, {"model": "other"}, KEYS, force=False) as part:
        assert not part.lines
    assert json.loads(part_of(output).read_text()) == {HEADER: {"model": "other"}}


@pytest.mark.parametrize("text", ['{"dear": "diary"}\n', "[1]\n", '{"vocabtrim generate": 1}\n'])
def test_what_is_no_part_is_not_touched(tmp_path: Path, text: str) -> None:
    part_of(tmp_path / "out").write_text(text)
    with pytest.raises(OutputExists, match="no unfinished output of vocabtrim"):
        Part.open(tmp_path / "out", REQUEST, KEYS, force=False)
    assert part_of(tmp_path / "out").read_text() == text


@pytest.mark.parametrize("text", ["not json\n", "not json", "[" * 100_000])
@pytest.mark.parametrize("force", [False, True])
def test_what_is_no_json_is_damaged(tmp_path: Path, text: str, *, force: bool) -> None:
    part_of(tmp_path / "out").write_text(text)
    with pytest.raises(ArtifactError, match="is damaged"):
        Part.open(tmp_path / "out", REQUEST, KEYS, force=force)
    assert part_of(tmp_path / "out").read_text() == text


def test_two_commands_do_not_write_at_once(tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    with (
        Part.open(output, REQUEST, KEYS, force=False),
        pytest.raises(OutputExists, match="another command is writing it now"),
    ):
        Part.open(output, REQUEST, KEYS, force=True)
    begin(output, "a")


def test_the_lock_dies_with_its_holder(tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    code = (
        "import os, sys; from pathlib import Path; from vocabtrim.pipeline.part import Part\n"
        f"part = Part.open(Path(sys.argv[1]), {REQUEST!r}, {KEYS!r}, force=False)\n"
        f"part.append({line('a')!r}); os.kill(os.getpid(), 9)"
    )
    killed = subprocess.run([sys.executable, "-c", code, str(output)], check=False)
    assert killed.returncode == -9
    with Part.open(output, REQUEST, KEYS, force=False) as part:
        assert list(part.lines) == ["a"]


def test_a_file_system_without_locks_works_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(*_: Any) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("fcntl.flock", none)
    begin(tmp_path / "out.jsonl", "a")
    assert part_of(tmp_path / "out.jsonl").is_file()


def test_a_full_disk_keeps_what_is_there(tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    begin(output, "a")
    size = part_of(output).stat().st_size
    # the limit on the size of files is what a full disk looks like, without one
    code = (
        "import resource, signal, sys; from pathlib import Path\n"
        "from vocabtrim.core.errors import EnvironmentFailure\n"
        "from vocabtrim.pipeline.part import Part\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({size + 20}, {size + 20}))\n"
        "try:\n"
        f"    with Part.open(Path(sys.argv[1]), {REQUEST!r}, {KEYS!r}, force=False) as part:\n"
        f"        part.append({line('b')!r})\n"
        "except EnvironmentFailure as fault:\n"
        "    print(fault)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(output)], capture_output=True, text=True, check=True
    )
    assert "see to the disk and run the same command again" in done.stdout
    # a part of the line was written; it is no answer, and the next one is whole
    assert part_of(output).stat().st_size == size + 20
    begin(output, "b")
    with Part.open(output, REQUEST, KEYS, force=False) as part:
        assert list(part.lines) == ["a", "b"]
        assert part.damaged == 0


def test_a_directory_that_cannot_be_written_is_one_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EnvironmentFailure, match="cannot be written"):
        Part.open(tmp_path / "file" / "out.jsonl", REQUEST, KEYS, force=False)


def test_an_output_that_appeared_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    with Part.open(output, REQUEST, ["a"], force=False) as part:
        part.append(line("a"))
        output.write_text("mine")
        with pytest.raises(OutputExists):
            part.finish(output, ["a"], force=False)
    assert output.read_text() == "mine"
    assert part_of(output).is_file()
