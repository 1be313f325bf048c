"""What an export came to, in lines and in a document."""

from __future__ import annotations

from pathlib import Path

from vocabtrim.pipeline.export_request import ExportResult, Request


def test_lists_have_no_level_and_no_command() -> None:
    result = ExportResult("ids-pt", ("a.pt", "a.json"), 3, 10, None)
    assert [line.split("→")[1].strip() for line in result.lines()] == ["a.pt", "a.json"]
    document = result.to_json()["export"]
    assert (document["level"], document["command"], document["warnings"]) == (None, None, [])


def test_an_engine_has_both() -> None:
    result = ExportResult("vllm", ("out",), 3, 10, "sha256:t", "served", "vllm serve T", ("mind",))
    first, last = result.lines()
    assert first.endswith("out  (served)")
    assert last == "vllm serve T"
    assert result.to_json()["export"]["warnings"] == ["mind"]


def test_nothing_is_asked_for_unless_said() -> None:
    request = Request("d", Path("out"))
    assert not request.unproven
    assert not request.force
    assert request.target is None
