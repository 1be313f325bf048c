from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator

import pytest

from vocabtrim.engines.serving.interrupts import NUMBERS, Interrupts


@pytest.fixture(autouse=True)
def _not_ignored() -> Iterator[None]:
    """Have signals do what they do at a terminal, also in a job under nohup."""
    before = {number: signal.getsignal(number) for number in NUMBERS}
    for number in NUMBERS:
        if number != signal.SIGINT:
            signal.signal(number, signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def send(number: int = signal.SIGTERM) -> None:
    os.kill(os.getpid(), number)
    time.sleep(0.01)


@pytest.mark.parametrize("number", NUMBERS)
def test_a_signal_waits_for_an_open_place(number: int) -> None:
    interrupts, reached = Interrupts(), []
    with pytest.raises(KeyboardInterrupt), interrupts.held():
        send(number)
        reached.append("past the signal")
        assert interrupts.hurry
        with interrupts.open():
            reached.append("inside")
    assert reached == ["past the signal"]
    assert not interrupts.hurry


def test_a_signal_in_an_open_place_is_raised_there() -> None:
    interrupts, reached = Interrupts(), []
    with pytest.raises(KeyboardInterrupt), interrupts.held(), interrupts.open():
        reached.append("waiting")
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(5)
        reached.append("past it")
    assert reached == ["waiting"]


def test_clean_up_after_one_runs_to_its_end_and_is_told_to_hurry() -> None:
    interrupts, cleaned = Interrupts(), []
    with pytest.raises(KeyboardInterrupt), interrupts.held():
        try:
            with interrupts.open():
                send()
        finally:
            assert not interrupts.hurry
            send()
            send(signal.SIGINT)
            cleaned.append(interrupts.hurry)
    assert cleaned == [True]


def test_one_that_nobody_let_through_is_raised_at_the_end() -> None:
    interrupts = Interrupts()
    with pytest.raises(KeyboardInterrupt), interrupts.held():
        send()


def test_another_error_is_not_hidden_by_a_signal() -> None:
    interrupts = Interrupts()
    with pytest.raises(ValueError, match="mine"), interrupts.held():
        send()
        raise ValueError("mine")


@pytest.mark.parametrize("number", NUMBERS)
def test_what_is_ignored_stays_ignored(number: int) -> None:
    signal.signal(number, signal.SIG_IGN)
    interrupts = Interrupts()
    with interrupts.held(), interrupts.open():
        send(number)
    assert not interrupts.hurry


def test_handlers_are_put_back() -> None:
    before = [signal.getsignal(number) for number in NUMBERS]
    with Interrupts().held():
        assert [signal.getsignal(number) for number in NUMBERS] != before
    assert [signal.getsignal(number) for number in NUMBERS] == before


def test_elsewhere_than_in_the_main_thread_nothing_changes() -> None:
    before = [signal.getsignal(number) for number in NUMBERS]
    seen: list[object] = []

    def work() -> None:
        with Interrupts().held():
            seen.extend(signal.getsignal(number) for number in NUMBERS)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == before
