"""Console: data to stdout, talk to stderr, results to a file that is not overwritten."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vocabtrim.cli import console as module
from vocabtrim.cli.console import Console
from vocabtrim.core.errors import OutputExists


def test_streams_are_kept_apart(capsys: pytest.CaptureFixture[str]) -> None:
    console = Console(None, quiet=False, force=False)
    console.data("data")
    console.talk("talk")
    console.warn("careful")
    captured = capsys.readouterr()
    assert captured.out == "data\n"
    assert captured.err == "talk\nwarning: careful\n"


def test_quiet_leaves_warnings(capsys: pytest.CaptureFixture[str]) -> None:
    console = Console(None, quiet=True, force=False)
    console.data("data")
    console.talk("talk")
    console.warn("careful")
    with console.progress("counting", "bytes") as advance:
        advance(1, 2)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "warning: careful\n"


def test_the_result_goes_to_the_file_or_to_stdout(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document = {"select": {"K": 3, "note": "γ"}}
    Console(tmp_path / "r.json", quiet=True, force=False).result(document)
    assert json.loads((tmp_path / "r.json").read_text(encoding="utf-8")) == document
    console = Console(Path("-"), quiet=False, force=False)
    console.data("not among the JSON")
    console.result(document)
    assert json.loads(capsys.readouterr().out) == document


def test_a_result_that_exists_is_refused_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text("old")
    with pytest.raises(OutputExists):
        Console(tmp_path / "r.json", quiet=False, force=False)
    Console(tmp_path / "r.json", quiet=False, force=True).result({})
    assert (tmp_path / "r.json").read_text() == "{}\n"


def test_progress_is_plain_lines_away_from_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([0.0, 1.0, 6.0, 7.0, 12.0])
    monkeypatch.setattr(module.time, "monotonic", lambda: next(clock))
    with Console(None, quiet=False, force=False).progress("counting", "bytes") as advance:
        for done in (1, 2, 3, 4):
            advance(done * 10**6, 10**7)
    assert capsys.readouterr().err == "counting: 2 of 10 MB\ncounting: 4 of 10 MB\n"


def test_plain_lines_end_with_a_note(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `count` gives one: its speed."""
    monkeypatch.setattr(module, "PLAIN_LINE_EVERY_S", 0.0)
    with Console(None, quiet=False, force=False).progress("counting", "bytes") as advance:
        advance(2 * 10**6, 10**7, "3.5 MB/s with a note")
        advance(3 * 10**6, 0)
    expected = "counting: 2 of 10 MB, 3.5 MB/s with a note\ncounting: 3 MB\n"
    assert capsys.readouterr().err == expected
