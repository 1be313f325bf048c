"""Asking a server for texts, and timing it.

Greedy, one answer a prompt, no second try: a measurement that hides failures
measures something else. Tokens are those that the server states in `usage`, or
the ids that it returns; pieces of a stream are never counted, for a speculating
server sends several tokens in one.

Several prompts in flight are threads, each asking for one at a time, and what is
timed is the whole pass from the first request to the last answer.
"""

from __future__ import annotations

import json
import queue
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vocabtrim.core.errors import ServerError
from vocabtrim.engines.openai.asking import Ask
from vocabtrim.engines.openai.exchange import ExchangeError
from vocabtrim.engines.openai.wire import Asking, MalformedAnswer, read_complaint, read_text
from vocabtrim.engines.serving.base import EngineFailure
from vocabtrim.engines.serving.counters import Metrics, read_metrics
from vocabtrim.engines.serving.interrupts import Interrupts
from vocabtrim.engines.serving.launch import Server

METRICS_S = 10.0


@dataclass(frozen=True)
class Answer:
    """What came of one prompt.

    Args:
        key: Of the prompt.
        content: The text.
        token_ids: All ids emitted; None where the server does not give them.
        new_tokens: Tokens emitted.
        wall_s: Seconds from the request to the last byte, prefill included.
        decode_s: Seconds of decoding, where the answer states them.
    """

    key: str
    content: str
    token_ids: tuple[int, ...] | None
    new_tokens: int
    wall_s: float
    decode_s: float | None

    def same_text(self, other: Answer) -> bool:
        """Whether two answers are one text: by ids, where both have them."""
        if self.token_ids is not None and other.token_ids is not None:
            return self.token_ids == other.token_ids
        return self.content == other.content


@dataclass(frozen=True)
class Asker:
    """How servers are asked.

    Args:
        max_new_tokens: An answer, at most.
        raw: Send texts as they are, without the server's chat template.
        timeout_s: For one answer.
        interrupts: Held by the caller.
    """

    max_new_tokens: int
    raw: bool
    timeout_s: float
    interrupts: Interrupts

    def one(self, server: Server, ask: Ask, *, max_new_tokens: int | None = None) -> Answer:
        """Ask for one prompt and wait for its answer.

        Raises:
            ServerError: The server refuses the prompt, or does not count.
            EngineFailure: It gives no answer, or none in time.
            EngineError: It has ended.
            KeyboardInterrupt: A signal came.
        """
        with self.interrupts.open():
            return self._ask(server, ask, max_new_tokens or self.max_new_tokens)

    def all(
        self, server: Server, asks: Sequence[Ask], concurrency: int
    ) -> tuple[list[Answer], float]:
        """Ask for all prompts, so many at once; return answers in order, and seconds.

        Raises:
            As for `one`; of several faults, the first that is seen.
        """
        waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
        done: queue.SimpleQueue[tuple[int, Answer | Exception]] = queue.SimpleQueue()
        for index in range(len(asks)):
            waiting.put(index)

        def work() -> None:
            while True:
                try:
                    index = waiting.get_nowait()
                except queue.Empty:
                    return
                try:
                    done.put((index, self._ask(server, asks[index], self.max_new_tokens)))
                except Exception as fault:  # noqa: BLE001 (raised again by the thread that waits)
                    done.put((index, fault))
                    return

        began = time.perf_counter()
        # daemons: whoever is interrupted ends the server, and with it what they wait for
        for _ in range(min(concurrency, len(asks))):
            threading.Thread(target=work, daemon=True, name="vocabtrim asking").start()
        answers: dict[int, Answer] = {}
        for _ in asks:
            with self.interrupts.open():
                index, found = done.get()
            if isinstance(found, Exception):
                raise found
            answers[index] = found
        return [answers[index] for index in range(len(asks))], time.perf_counter() - began

    def metrics(self, server: Server) -> Metrics | None:
        """Read a server's counters; None where it shows none.

        Raises:
            EngineFailure: It does not answer at all.
            EngineError: It has ended.
            KeyboardInterrupt: A signal came.
        """
        try:
            with self.interrupts.open():
                reply = server.root.send("/metrics", timeout_s=METRICS_S)
        except ExchangeError as fault:
            raise _unanswered(server, "for its counters", fault) from fault
        if reply.status != 200:
            return None
        return read_metrics(reply.body.decode("utf-8", "replace"))

    def _ask(self, server: Server, ask: Ask, max_new_tokens: int) -> Answer:
        asking = Asking(server.model, max_new_tokens, raw=self.raw)
        document = asking.document(ask.key, ask.messages, server.engine.fields)
        began = time.perf_counter()
        try:
            reply = server.endpoint.send(asking.path, document, timeout_s=self.timeout_s)
        except ExchangeError as fault:
            raise _unanswered(server, f"to prompt {ask.key}", fault) from fault
        wall_s = time.perf_counter() - began
        if reply.status != 200:
            raise ServerError(
                f"{server.engine.name} refuses prompt {ask.key} (HTTP {reply.status}: "
                f"{read_complaint(reply.body) or 'it does not say why'})"
            )
        try:
            text = read_text(reply.body)
        except MalformedAnswer as fault:
            raise EngineFailure(
                f"{server.engine.name} gave no usable answer to prompt {ask.key}: {fault}"
            ) from fault
        answered: Mapping[str, Any] = json.loads(reply.body)
        return Answer(
            ask.key,
            text.content,
            text.token_ids,
            _tokens(server, answered, text.token_ids),
            wall_s,
            server.engine.decode_seconds(answered),
        )


def _tokens(server: Server, answered: Mapping[str, Any], ids: tuple[int, ...] | None) -> int:
    usage = answered.get("usage")
    stated = usage.get("completion_tokens") if isinstance(usage, dict) else None
    if type(stated) is int and stated > 0:
        return stated
    if ids:
        return len(ids)
    raise ServerError(
        f"{server.engine.name} states neither `usage` nor token ids, so tokens cannot be counted"
    )


def _unanswered(server: Server, what: str, fault: ExchangeError) -> Exception:
    """Say why there was no answer; a server that has ended is the better reason."""
    # a process that was killed takes a moment to be seen as ended
    limit = time.monotonic() + 1.0
    while not (reason := server.explain()) and server.group and time.monotonic() < limit:
        if "within" in fault.reason:
            break
        time.sleep(0.02)
    if reason is not None:
        return reason
    return EngineFailure(f"{server.engine.name} gave no answer {what}: {fault.reason}")
