"""Many prompts to a server that may fail, each answered or given up with a reason.

Threads each ask for one prompt at a time. What may pass is tried again after a
pause that doubles, never shorter than the server's own `Retry-After`, and drawn
from (seed, id, try), so that clients that failed together do not return
together: no server, no whole answer in time, an answer that is none, and the
statuses 408, 409, 425, 429 and 5xx. Any other status is the prompt's end: asked
again, the server would say the same.

A server that answers nothing any more is not asked for all that is left: after
a run of prompts given up, the rest is given up unasked. Nobody at the address
at the very start is one error at once.
"""

from __future__ import annotations

import email.utils
import queue
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from vocabtrim.core.errors import EnvironmentFailure, ServerError
from vocabtrim.engines.openai.exchange import Endpoint, ExchangeError, Reply
from vocabtrim.engines.openai.wire import (
    EXACT_NAMES,
    EXTENSIONS,
    Asking,
    MalformedAnswer,
    Text,
    hashed,
    read_complaint,
    read_models,
    read_text,
)

RETRIED = frozenset({408, 409, 425, 429})
REFUSES_FIELDS = frozenset({400, 422})
REFUSES_KEY = frozenset({401, 403})

LONGEST_PAUSE_S = 30.0
LONGEST_WAIT_S = 600.0
"""A server that asks for more than this is come back to by another run."""

PROBE_TIMEOUT_S = 20.0
THREAD_NAME = "vocabtrim asking"

LEAST_SILENCE = 8
"""Prompts given up in a row, at least, before a server is taken for gone."""


@dataclass(frozen=True)
class Patience:
    """How hard a server is asked, and for how long.

    Args:
        concurrency: Prompts in flight.
        timeout_s: For one answer, from the first byte sent to the last received.
        retries: Further tries after the first.
        pause_s: Before the first further try; doubles each time.

    Raises:
        ServerError: An option is out of range.
    """

    concurrency: int = 16
    timeout_s: float = 600.0
    retries: int = 5
    pause_s: float = 0.5

    def __post_init__(self) -> None:
        if not 1 <= self.concurrency <= 1024:
            raise ServerError(f"concurrency must lie in 1 to 1024, found {self.concurrency}")
        if not 0.0 < self.timeout_s <= 86_400.0:
            raise ServerError(
                f"timeout must be above 0 s and at most a day, found {self.timeout_s}"
            )
        if self.retries < 0 or self.pause_s < 0.0:
            raise ServerError("retries and the pause between them must be 0 or more")

    def pause(self, seed: int, key: str, attempt: int) -> float:
        """Return the seconds before try `attempt` + 1, between half of the full pause and all."""
        full = min(LONGEST_PAUSE_S, self.pause_s * 2.0 ** min(attempt, 30))
        return full * (0.5 + hashed(32, seed, key, attempt) / float(1 << 33))


@dataclass(frozen=True)
class Ask:
    """One prompt.

    Args:
        key: Its id: names its seed and its pauses, and comes back with the answer.
        messages: In the OpenAI form.
    """

    key: str
    messages: Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Given:
    """What became of a prompt.

    Args:
        key: Of the prompt.
        text: The answer, or None.
        reason: Why there is none.
        final: Whether it was refused, and not merely left unanswered.
    """

    key: str
    text: Text | None
    reason: str = ""
    final: bool = False


@dataclass
class Server:
    """A server, and how it is asked.

    Args:
        endpoint: Where it is.
        asking: How every prompt is asked.
        patience: How hard.

    Attributes:
        kind: What it says it is, one of `EXTENSIONS`; None where it does not.
        is_plain: Whether it refused the fields beyond the protocol, and is asked
            without them.
    """

    endpoint: Endpoint
    asking: Asking
    patience: Patience = Patience()
    kind: str | None = field(default=None, init=False)
    is_plain: bool = field(default=False, init=False)

    def identify(self) -> None:
        """Find out what answers; call before `answers`.

        Raises:
            EnvironmentFailure: Nobody listens there.
            ServerError: It refuses the key, or serves other models only.
        """
        try:
            reply = self.endpoint.send(
                "/models", timeout_s=min(PROBE_TIMEOUT_S, self.patience.timeout_s)
            )
        except ExchangeError as fault:
            if not fault.connected:
                raise EnvironmentFailure(
                    f"no server at {self.endpoint.url}: {fault.reason}; start it, or correct "
                    "--base-url"
                ) from fault
            return
        if reply.status in REFUSES_KEY:
            raise ServerError(
                f"{self.endpoint.url} refuses access (HTTP {reply.status}): name the variable "
                "that holds its key with --api-key-env"
            )
        try:
            models = read_models(reply.body) if reply.status == 200 else {}
        except MalformedAnswer:
            return
        owners = set(models.values()) & EXTENSIONS.keys()
        self.kind = owners.pop() if len(owners) == 1 else None
        if self.kind in EXACT_NAMES and self.asking.model not in models:
            raise ServerError(
                f"{self.endpoint.url} serves {', '.join(sorted(models))}, "
                f"not {self.asking.model!r}: correct --model"
            )

    def answers(self, asks: Sequence[Ask]) -> Iterator[Given]:
        """Ask for all prompts and yield what became of each, as it comes.

        Closing the iterator ends the threads after the answer that each waits for.
        """
        waiting: queue.SimpleQueue[Ask] = queue.SimpleQueue()
        for ask in asks:
            waiting.put(ask)
        done: queue.SimpleQueue[Given | None] = queue.SimpleQueue()
        stop = threading.Event()
        # daemons, so that an interrupt need not wait for a server that hangs
        for _ in range(min(self.patience.concurrency, len(asks))):
            threading.Thread(
                target=self._work, args=(waiting, done, stop), daemon=True, name=THREAD_NAME
            ).start()
        silence = 0
        try:
            for _ in asks:
                given = done.get()
                if given is None:
                    raise RuntimeError("a thread ended by a fault of ours, which is printed above")
                yield given
                silence = 0 if given.final or given.text is not None else silence + 1
                if silence >= max(LEAST_SILENCE, 2 * self.patience.concurrency):
                    stop.set()
        finally:
            stop.set()

    def _work(
        self,
        waiting: queue.SimpleQueue[Ask],
        done: queue.SimpleQueue[Given | None],
        stop: threading.Event,
    ) -> None:
        """Take prompts until there are none; once stopped, give the rest up unasked."""
        while True:
            try:
                ask = waiting.get_nowait()
            except queue.Empty:
                return
            given = None
            try:
                given = self._answer(ask, stop)
            finally:
                done.put(given)

    def _answer(self, ask: Ask, stop: threading.Event) -> Given:
        """Ask until there is an answer, a refusal, or no patience left."""
        reason = "not asked: the server had stopped answering"
        tries = 0
        while not stop.is_set():
            tries += 1
            wait = 0.0
            try:
                reply = self._post(ask)
                if reply.status == 200:
                    return Given(ask.key, read_text(reply.body))
                reason = self._complaint(reply)
                if reply.status not in RETRIED and reply.status < 500:
                    return Given(ask.key, None, reason, final=True)
                wait = retry_after(reply.headers)
            except ExchangeError as fault:
                reason = fault.reason
            except MalformedAnswer as fault:
                reason = str(fault)
            if wait > LONGEST_WAIT_S:
                reason += f"; it asks to be left alone for {wait:.0f} s"
                break
            if tries > self.patience.retries:
                break
            stop.wait(max(wait, self.patience.pause(self.asking.seed, ask.key, tries - 1)))
        if tries > 1:
            reason += f" ({tries} tries)"
        return Given(ask.key, None, reason)

    def _post(self, ask: Ask) -> Reply:
        """Send one request; to a server of no known kind, without our fields if it refuses them."""
        extension = {} if self.is_plain else EXTENSIONS[self.kind]
        reply = self._send(ask, extension)
        # a top-k that was asked for is no field to do without
        may_drop = self.kind is None and extension and self.asking.top_k is None
        if reply.status not in REFUSES_FIELDS or not may_drop:
            return reply
        plain = self._send(ask, {})
        if plain.status != 200:
            return reply
        self.is_plain = True
        return plain

    def _send(self, ask: Ask, extension: Mapping[str, Any]) -> Reply:
        document = self.asking.document(ask.key, ask.messages, extension)
        return self.endpoint.send(self.asking.path, document, timeout_s=self.patience.timeout_s)

    def _complaint(self, reply: Reply) -> str:
        text = f"HTTP {reply.status}"
        if told := read_complaint(reply.body):
            text += f": {told}"
        if self.endpoint.api_key is not None:
            text = text.replace(self.endpoint.api_key, "…")
        if reply.status == 404 and not self.endpoint.prefix:
            text += " (a base URL often ends in /v1)"
        if 300 <= reply.status < 400:
            text += " (redirects are not followed: give the URL that it leads to)"
        return text


def retry_after(headers: Mapping[str, str], *, now_s: float | None = None) -> float:
    """Return the seconds that a server asks to wait, 0 where it does not say.

    Args:
        headers: Of its answer, by lower-case name.
        now_s: Seconds since 1970, for a header that names a time.
    """
    said = headers.get("retry-after", "").strip()
    try:
        return (
            max(0.0, float(said)) if said.isascii() and said[:1].isdigit() else _until(said, now_s)
        )
    except (ValueError, OverflowError):
        return 0.0


def _until(said: str, now_s: float | None) -> float:
    if not said:
        return 0.0
    moment = email.utils.parsedate_to_datetime(said).timestamp()
    return max(0.0, moment - (time.time() if now_s is None else now_s))
