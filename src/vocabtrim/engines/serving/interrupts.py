"""Interrupts that wait for a moment at which nothing can be lost.

A KeyboardInterrupt can strike between any two instructions, also between the
start of a process and the line that remembers it, or inside the block that ends
it. So here signals are only noted, and raised where the program waits and says
that this is a good place (`open`). Every wait of a measurement is one: for a
server to come up, for an answer, for a batch. Leaving such a place by the
exception, the handler notes again, so clean-up runs to its end.

A second signal during clean-up is noted too (`hurry`): what is being asked to
end is killed at once then.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupts:
    """The interrupts of one measurement.

    Attributes:
        hurry: Whether a signal came that has not been raised.
    """

    def __init__(self) -> None:
        self.hurry = False
        self._open = False

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold signals back; raise what is left at the end.

        A signal that is ignored, as SIGHUP is under nohup, stays ignored.
        Elsewhere than in the main thread, which alone gets signals, and may set
        what is done about them, nothing changes.

        Raises:
            KeyboardInterrupt: A signal came, at one of the places or before the end.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before: dict[signal.Signals, Any] = {}
        try:
            for number in NUMBERS:
                if signal.getsignal(number) is not signal.SIG_IGN:
                    before[number] = signal.signal(number, self._signalled)
            yield
        finally:
            for number, handler in before.items():
                # None is a handler that was not set from Python and cannot be put back
                signal.signal(number, signal.SIG_DFL if handler is None else handler)
        if self.hurry:
            raise KeyboardInterrupt

    @contextmanager
    def open(self) -> Iterator[None]:
        """Let signals through while the block runs.

        Raises:
            KeyboardInterrupt: One came, now or since the last such block.
        """
        self._open = True
        try:
            if self.hurry:
                self.hurry = False
                raise KeyboardInterrupt
            yield
        finally:
            self._open = False

    def _signalled(self, _number: int, _frame: FrameType | None) -> None:
        if self._open:
            # closed by the handler itself: a further signal must not hit the clean-up
            self._open = False
            raise KeyboardInterrupt
        self.hurry = True
