"""Timing by a clock that counts what is computed, so that every number is known."""

from __future__ import annotations

from typing import Any

import pytest

from tests.tiny_models import V, tiny_model
from tests.tiny_pairs import eagle_drafter, lm_drafter
from vocabtrim.core.errors import DecodeError
from vocabtrim.core.vocab import DraftVocab
from vocabtrim.decode.target import Target
from vocabtrim.replay.latency import Meter, conditions

SIZES, GAMMAS = (8, 32, V), (1, 2, 4)


class Work:
    """A machine on which a pass takes 1 s a text, 0.1 s a token, and a head row 1 ms."""

    def __init__(self, target: Target, drafter: Any) -> None:
        self.now = 0.0
        self.heads: list[int] = []
        for reader in (target, drafter):
            self._watch(reader)

    def __call__(self) -> float:
        return self.now

    def _watch(self, reader: Any) -> None:
        if isinstance(reader, Target):
            read = reader.read_rows

            def reading(ids: Any, **more: Any) -> Any:
                self.now += len(ids) + 0.1 * sum(map(len, ids))
                return read(ids, **more)

            reader.read_rows = reading  # type: ignore[method-assign]
            return
        for name, seconds in (("start", 0.5), ("step", 0.3), ("rewind", 0.05)):
            self._drafting(reader, name, seconds)

    def _drafting(self, drafter: Any, name: str, seconds: float) -> None:
        method = getattr(drafter, name)

        def counted(*given: Any) -> Any:
            self.now += seconds
            if name != "rewind":
                self.now += 0.001 * drafter.head.vocab.size
                self.heads.append(drafter.head.vocab.size)
            return method(*given)

        setattr(drafter, name, counted)


@pytest.fixture(params=["eagle3", "independent"])
def pair(request: pytest.FixtureRequest) -> tuple[Target, Any]:
    model = tiny_model()
    full = DraftVocab.full(V)
    drafter: Any = (
        eagle_drafter(model, full) if request.param == "eagle3" else lm_drafter(model, full)
    )
    return Target(model, drafter.feature_layers), drafter


@pytest.mark.parametrize("batch", [1, 3])
def test_parts_are_told_apart(pair: tuple[Target, Any], batch: int) -> None:
    target, drafter = pair
    clock = Work(target, drafter)
    head = drafter.head
    meter = Meter(target, drafter, sizes=SIZES, gammas=GAMMAS, batch=batch, context=5, clock=clock)
    clock._watch(meter.plain)
    for _ in range(2):
        meter.round()
    assert drafter.head is head
    found = meter.latency()
    assert found.batch == batch
    assert found.draft == pytest.approx({size: 0.3 + 0.001 * size for size in SIZES})
    assert found.verify == pytest.approx({n: batch * (1 + 0.1 * n) for n in (1, 2, 3, 5)})
    # the first step is longer by 0.2, and the rest of a cycle is the rewind
    assert found.commit == pytest.approx(0.25)
    assert found.noise == pytest.approx(0.0)
    assert set(clock.heads) == set(SIZES)


def test_noise_is_what_rounds_differ_by(pair: tuple[Target, Any]) -> None:
    target, drafter = pair
    clock = Work(target, drafter)
    meter = Meter(target, drafter, sizes=[8], gammas=[1], context=5, clock=clock)
    clock._watch(meter.plain)
    meter.round()
    assert meter.latency().noise == 0.0  # of one round nothing is known
    slow = clock._drafting
    slow(drafter, "start", 0.5)  # from now on, a first step takes twice as long
    meter.round()
    both = meter.latency()
    quick = 0.5 + 0.05 + 1.2 + 0.008
    slower = quick + 0.5 + 0.008
    assert both.noise == pytest.approx((slower - quick) / (slower + quick))


def test_there_is_no_latency_without_a_round(pair: tuple[Target, Any]) -> None:
    with pytest.raises(DecodeError, match="without a round"):
        Meter(*pair, sizes=[4], gammas=[1]).latency()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"sizes": []}, "between 1 and the head's"),
        ({"sizes": [V + 1]}, "between 1 and the head's"),
        ({"sizes": [0]}, "between 1 and the head's"),
        ({"gammas": []}, "draft lengths"),
        ({"gammas": [0]}, "draft lengths"),
        ({"batch": 0}, "draft lengths"),
        ({"context": 1}, "draft lengths"),
    ],
)
def test_numbers_out_of_range(pair: tuple[Target, Any], wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(DecodeError, match=said):
        Meter(*pair, **({"sizes": [4], "gammas": [1]} | wrong))


def test_conditions_are_named(pair: tuple[Target, Any]) -> None:
    found = conditions(pair[0])
    assert (found["dtype"], found["device"]) == ("float32", "cpu")
    assert found["threads"] >= 1
