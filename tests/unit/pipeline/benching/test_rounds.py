from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.serving import asker, asks, launcher, logged, runs, tell
from vocabtrim.core.errors import VocabtrimError
from vocabtrim.engines.serving.answers import Answer
from vocabtrim.engines.serving.base import EngineError, EngineFailure, Serve
from vocabtrim.engines.serving.counters import Counted
from vocabtrim.pipeline.benching import rounds as module
from vocabtrim.pipeline.benching.rounds import Block, Rounds

SERVES = [
    Serve(Path("t.gguf")),
    Serve(Path("t.gguf"), Path("full.gguf"), "draft-eagle3", 2),
    Serve(Path("t.gguf"), Path("trimmed.gguf"), "draft-eagle3", 2),
]


def measured(
    directory: Path, *, one_at_a_time: bool = False, serves: list[Serve] = SERVES, **given: Any
) -> Rounds:
    texts = given.pop("texts", ("a", "b", "c"))
    rounds = Rounds(asks(*texts), asker(), **{"repeat": 2, **given})
    rounds.run(launcher(directory), serves, one_at_a_time=one_at_a_time)
    return rounds


@pytest.mark.parametrize("one_at_a_time", [False, True])
def test_every_arm_answers_every_prompt_in_every_repeat(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one_at_a_time: bool
) -> None:
    tell(monkeypatch, log=str(tmp_path / "log"), accepts={"full.gguf": 1, "trimmed.gguf": 1})
    seen: list[tuple[int, int]] = []
    rounds = measured(
        tmp_path,
        one_at_a_time=one_at_a_time,
        concurrency=2,
        progress=lambda done, total: seen.append((done, total)),
    )
    places = [(one.arm, one.repeat, one.concurrency, one.index) for one in rounds.blocks]
    expected = [
        (arm, repeat, *rest)
        for arm in range(3)
        for repeat in range(2)
        for rest in ((1, 0), (1, 1), (1, 2), (2, 0))
    ]
    assert sorted(places) == sorted(expected)
    assert seen[-1] == (24, 24)
    assert rounds.together is not one_at_a_time
    starts = 2 if one_at_a_time else 1
    assert {arm: len(times) for arm, times in rounds.start_s.items()} == dict.fromkeys(
        range(3), starts
    )
    assert len(logged(tmp_path / "log")) == 3 * starts
    assert not any(map(runs, logged(tmp_path / "log")))
    assert all(rounds.peak_bytes[arm] > 1_000_000 for arm in range(3))
    for block in rounds.blocks:
        assert len(block.answers) == (3 if block.concurrency == 2 else 1)
        assert block.counted is not None
        # what the engine counted is of this block alone
        assert block.counted.new_tokens == block.new_tokens
        assert (block.counted.drafts > 0) == (block.arm > 0)
    assert not rounds.warnings


def test_arms_take_turns_in_an_order_that_rotates(tmp_path: Path) -> None:
    rounds = measured(tmp_path, repeat=1)
    assert [block.arm for block in rounds.blocks] == [0, 1, 2, 1, 2, 0, 2, 0, 1]


def test_one_server_is_up_at_a_time_where_there_is_no_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ROOM", 1e9)
    assert not measured(tmp_path, repeat=1).together
    monkeypatch.setattr(module, "_MEMORY", tmp_path / "nothing")
    assert not measured(tmp_path, repeat=1).together


def test_the_time_of_decoding_is_the_engines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tell(monkeypatch, ms={"": 10.0, "full.gguf": 40.0})
    rounds = measured(tmp_path, repeat=1, serves=SERVES[:2])
    for block in rounds.blocks:
        each = 0.04 if block.arm else 0.01
        assert block.decode_s == pytest.approx((block.new_tokens - 1) * each)


def test_counters_that_come_late_are_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tell(monkeypatch, metrics="late")
    rounds = measured(tmp_path, repeat=1, serves=SERVES[:2])
    assert not rounds.warnings
    for block in rounds.blocks:
        assert block.counted is not None
        assert block.counted.new_tokens == block.new_tokens


@pytest.mark.parametrize(
    ("metrics", "says"),
    [("none", None), ("rounded", "printed rounded"), ("busy", "somebody else use")],
)
def test_counters_that_cannot_be_trusted_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, metrics: str, says: str | None
) -> None:
    monkeypatch.setattr(module, "SETTLE_S", 0.3)
    tell(monkeypatch, metrics=metrics)
    rounds = measured(tmp_path, repeat=1, serves=SERVES[:2])
    assert all(block.counted is None for block in rounds.blocks)
    assert [block for block in rounds.blocks if block.decode_s is not None] == rounds.blocks
    assert len(rounds.warnings) == (0 if says is None else 1)
    assert says is None or says in rounds.warnings[0]


FAULTS: dict[str, tuple[dict[str, Any], type[VocabtrimError]]] = {
    "a later server refuses": ({"fail": "refuse", "fail_with": "trimmed.gguf"}, EngineError),
    "a later server has no room ever": (
        {"fail": "gpu", "fail_with": "trimmed.gguf"},
        EngineFailure,
    ),
    "the first refuses": ({"fail": "memory"}, EngineFailure),
    "one dies in the middle": ({"dies_after": 3}, EngineError),
    "none ends by itself": ({"dies_after": 3, "stubborn": True, "children": True}, EngineError),
}


def test_servers_that_find_no_memory_beside_others_are_up_one_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tell(monkeypatch, log=str(tmp_path / "log"), room=2)
    rounds = measured(tmp_path)
    assert not rounds.together
    (warning,) = rounds.warnings
    assert "llama.cpp found no memory for another server beside those" in warning
    assert "--one-at-a-time" in warning
    places = sorted((block.arm, block.repeat, block.index) for block in rounds.blocks)
    assert places == [(arm, turn, at) for arm in range(3) for turn in range(2) for at in range(3)]
    # two that were up and one that was not, then each arm in each repeat
    assert len(logged(tmp_path / "log")) == 3 + 6
    assert not any(map(runs, logged(tmp_path / "log")))


@pytest.mark.parametrize("one_at_a_time", [False, True])
@pytest.mark.parametrize("fault", FAULTS)
def test_whatever_fails_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str, one_at_a_time: bool
) -> None:
    told, kind = FAULTS[fault]
    tell(monkeypatch, log=str(tmp_path / "log"), **told)
    with pytest.raises(kind):
        measured(tmp_path, one_at_a_time=one_at_a_time)
    assert logged(tmp_path / "log")
    assert not any(map(runs, logged(tmp_path / "log")))


def test_a_block_without_a_clock_says_so() -> None:
    def answer(tokens: int, decode_s: float | None) -> Answer:
        return Answer("k", "", None, tokens, 1.0, decode_s)

    assert Block(0, 0, 0, answers=(answer(5, 0.5), answer(1, None))).decode_s == 0.5
    assert Block(0, 0, 0, answers=(answer(5, 0.5), answer(5, None))).decode_s is None
    counted = Counted(5, decode_s=0.75)
    assert Block(0, 0, 0, answers=(answer(5, None),), counted=counted).decode_s == 0.75
