"""Counts are taken where they are of the same traffic, and made anew where not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.fitting import write_traffic
from tests.tiny_tokenizer import write_tokenizer
from vocabtrim.pipeline.count import count
from vocabtrim.pipeline.count_result import CountResult
from vocabtrim.pipeline.fitting import counted as module
from vocabtrim.pipeline.fitting.counted import counted
from vocabtrim.pipeline.fitting.request import Fit


@pytest.fixture
def asked(tmp_path: Path) -> Fit:
    (tmp_path / "logs").mkdir()
    write_traffic(tmp_path / "logs" / "a.jsonl", documents=30)
    write_traffic(tmp_path / "logs" / "b.jsonl", documents=20, seed=1)
    write_tokenizer(tmp_path / "t")
    return Fit("d", "t", [str(tmp_path / "logs")], "vllm", tmp_path / "logs" / "out")


@pytest.fixture
def again(asked: Fit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., bool]:
    """Count once, and return what asks whether another call counts again."""
    counted(asked, tmp_path / "t")

    def asks(other: Fit = asked, **more: bool) -> bool:
        called = []

        def counting(*given: object, **options: object) -> CountResult:
            called.append(given)
            return count(*given, **options)  # type: ignore[arg-type]

        with monkeypatch.context() as patched:
            patched.setattr(module, "count", counting)
            counted(other, tmp_path / "t", **more)
        return bool(called)

    return asks


def test_what_is_taken_came_to_the_same(asked: Fit, tmp_path: Path) -> None:
    with (tmp_path / "logs" / "b.jsonl").open("a") as stream:
        stream.write('no record\n{"text": ""}\n')
    first, second = (counted(asked, tmp_path / "t") for _ in range(2))
    assert (first.files, first.documents, first.empty) == (2, 50, 1)
    assert first.left_out
    assert first.warnings
    assert replace(second, seconds=0) == replace(first, seconds=0)


def test_the_same_traffic_is_not_counted_again(again: Callable[..., bool], asked: Fit) -> None:
    assert not again()
    assert not again(replace(asked, engine="sglang", drafter="e", gamma=1))
    assert again(restart=True)


def test_other_traffic_is(again: Callable[..., bool], asked: Fit, tmp_path: Path) -> None:
    path = tmp_path / "logs" / "a.jsonl"
    before = path.read_text()
    path.write_text(before.replace("the", "The", 1))
    assert again()
    assert not again()
    write_traffic(tmp_path / "logs" / "c.jsonl", documents=2)
    assert again()
    assert again(replace(asked, traffic=[str(path)]))


@pytest.mark.parametrize("option", [{"role": "user"}, {"cap_per_document": 1}])
def test_what_was_read_otherwise_is(
    again: Callable[..., bool], asked: Fit, option: dict[str, object]
) -> None:
    assert again(replace(asked, **option))


def test_damaged_counts_are_made_anew(again: Callable[..., bool], asked: Fit) -> None:
    (asked.output / "counts.safetensors").write_bytes(b"torn")
    assert again()


def test_standard_input_is_left_for_the_counting(
    asked: Fit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted(asked, tmp_path / "t")
    monkeypatch.setattr(module.Inputs, "find", lambda *_, **__: pytest.fail("it was looked at"))
    monkeypatch.setattr(module, "count", lambda *_, **__: "counted")
    assert counted(replace(asked, traffic=["-"]), tmp_path / "t") == "counted"
