"""What the target answers, and what was recorded of it before an interruption."""

from __future__ import annotations

import json
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vocabtrim.pipeline.traced_texts as module
from tests.sampled_traces import drawn
from tests.tiny import tiny_eagle3
from tests.tiny_models import write_target
from vocabtrim.core.errors import CalibrationError, OutputExists
from vocabtrim.core.sampled_trace import SampledTrace
from vocabtrim.core.sampled_trace_file import read_sampled_trace, write_sampled_trace
from vocabtrim.core.trace import Trace, TracedText, TraceError
from vocabtrim.core.trace_file import read_trace
from vocabtrim.pipeline.trace import trace
from vocabtrim.pipeline.traced_texts import Asking, UnfinishedTrace, digest_of_texts


@pytest.fixture
def place(tmp_path: Path) -> Path:
    write_target(tmp_path / "target", num_hidden_layers=4)
    tiny_eagle3(tmp_path / "drafter")
    (tmp_path / "prompts").write_text(json.dumps({"prompt": "red green", "domain": "a"}) + "\n")
    return tmp_path


def traced(place: Path, **given: Any) -> Trace:
    options = {"gamma": 2, "width": 4} | given
    asking = Asking([place / "prompts"], place / "target", 5)
    trace(asking, place / "drafter", place / "out", **options)
    return read_trace(place / "out")[0]


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\u0085"])
def test_separators_within_a_prompt_are_text(place: Path, separator: str) -> None:
    asked = json.dumps({"prompt": f"red{separator}green"}, ensure_ascii=False)
    (place / "prompts").write_text(asked + "\n", encoding="utf-8")
    assert len(traced(place).texts) == 1


def test_answers_to_another_prompt_of_that_name_are_not_taken(
    place: Path,
) -> None:
    (place / "prompts").write_text(json.dumps({"id": "1", "prompt": "red green"}) + "\n")
    with pytest.raises(TraceError):
        traced(place, width=5000)
    assert list(place.glob("out.texts-*.jsonl"))  # the answers were there already
    (place / "prompts").write_text(json.dumps({"id": "1", "prompt": "blue"}) + "\n")
    (place / "out.part" / "request.json").unlink(missing_ok=True)
    again = traced(place)
    alone = place / "alone"
    alone.mkdir()
    for name in ("target", "drafter", "prompts"):
        (alone / name).symlink_to(place / name)
    fresh = traced(alone)
    assert again.texts[0].tokens.tolist() == fresh.texts[0].tokens.tolist()
    assert again.texts[0].prompt_ids.tolist() == fresh.texts[0].prompt_ids.tolist()


def test_an_answer_that_is_none_is_named(place: Path) -> None:
    with pytest.raises(TraceError):
        traced(place, width=5000)
    (answers,) = place.glob("out.texts-*.jsonl")
    answers.write_bytes(answers.read_bytes()[:30] + b"\n")
    with pytest.raises(CalibrationError, match="line 1: this is no answer to these prompts"):
        traced(place)


def test_the_end_of_the_context_ends_the_budget(place: Path) -> None:
    config = json.loads((place / "target/config.json").read_text())
    long = json.dumps({"prompt": "red green " * 20})
    (place / "prompts").write_text(long + "\n")
    size = traced(place).texts[0].prompt_ids.size
    (place / "out").unlink()
    (place / "target/config.json").write_text(
        json.dumps(config | {"max_position_embeddings": int(size) + 3})
    )
    (text,) = traced(place).texts
    assert text.budget == 3


def test_each_way_of_sampling_has_its_answers(place: Path) -> None:
    def written(**sampling: Any) -> Path:
        return Asking([place / "prompts"], place / "target", 5, sampling=sampling).answers(
            place / "out"
        )

    warm = {"temperature": 0.7, "top_k": None, "top_p": None, "seed": 0}
    files = [written(), written(**warm), written(**warm | {"seed": 1}), written(**warm)]
    assert files[1] == files[3]
    assert len(set(files)) == 3
    assert all(one.is_file() for one in files)


def unfinished(tmp_path: Path, **request: Any) -> UnfinishedTrace[SampledTrace]:
    return UnfinishedTrace(
        tmp_path / "out",
        request,
        write=lambda path, one: write_sampled_trace(path, one, inputs={}, options={}, facts={}),
        read=lambda path: read_sampled_trace(path)[0],
    )


def test_what_was_recorded_is_not_recorded_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TEXTS_A_FILE", 2)
    texts = list(drawn(1).texts + drawn(2).texts)
    asked: list[str] = []
    said: list[tuple[int, int]] = []

    def record(some: Any) -> SampledTrace:
        if len(asked) == 4:
            raise KeyboardInterrupt
        asked.extend(one.name for one in some)
        chances = np.zeros((sum(one.starts for one in some), 2, 2))
        whole = drawn()
        return SampledTrace(
            tuple(some), whole.sizes, whole.order, chances, chances, True, 2, 9, "t"
        )

    ticks = count()
    with pytest.raises(KeyboardInterrupt):
        unfinished(tmp_path, gamma=2).go_on(
            texts, record, lambda *at: said.append(at), lambda: float(next(ticks))
        )
    assert said == [(2, 6), (4, 6)]
    with pytest.raises(OutputExists, match="another command began it"):
        unfinished(tmp_path, gamma=3)
    asked.clear()
    part = unfinished(tmp_path, gamma=2)
    told = part.go_on(texts, record, None, lambda: float(next(ticks)))
    assert asked == [one.name for one in texts[4:]]
    assert [one.name for piece in part.pieces() for one in piece.texts] == [
        one.name for one in texts
    ]
    fresh = sum(one.tokens.size for one in texts[4:])
    assert told == {
        "texts": 6,
        "tokens": sum(one.tokens.size for one in texts),
        "positions": sum(one.starts for one in texts),
        "continued": 4,
        "seconds": 1.0,
        "tokens_per_second": fresh,
    }
    part.remove()
    assert not list(tmp_path.iterdir())


def test_texts_are_told_apart() -> None:
    def text(name: str, *tokens: int) -> TracedText:
        return TracedText(name, "", np.arange(2), np.array(tokens), 9)

    kinds = [[text("a", 1, 2)], [text("b", 1, 2)], [text("a", 1, 3)], [text("a", 1), text("a", 2)]]
    assert len({digest_of_texts(one) for one in kinds}) == len(kinds)
    assert digest_of_texts(kinds[0]) == digest_of_texts([text("a", 1, 2)])
