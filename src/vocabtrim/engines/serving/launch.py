"""Starting an engine until it answers, and saying in one sentence why it does not.

A server is up when its health route says so and its list of models has the name
that we gave it, which no other server on that port can have. Until then its
process is watched: one that ends is explained by its own last lines, and told
apart are a port that is taken, a machine without memory, and a model that the
engine refuses.

Servers get a directory of their own for temporary files, so that those which a
killed one leaves behind go with ours.
"""

from __future__ import annotations

import os
import re
import secrets
import signal
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vocabtrim.engines.openai.exchange import Endpoint, ExchangeError
from vocabtrim.engines.openai.wire import MalformedAnswer, read_models
from vocabtrim.engines.serving.base import (
    HOST,
    EngineError,
    EngineFailure,
    OutOfMemory,
    Program,
    Serve,
    Serving,
)
from vocabtrim.engines.serving.group import ProcessGroup, end_all
from vocabtrim.engines.serving.interrupts import Interrupts

POLL_S = 0.1
PROBE_S = 5.0
LINES_SHOWN = 6
ATTEMPTS = 3
"""Ports that are tried where any will do, should another program be faster."""

_PORT_TAKEN = re.compile(r"address already in use|couldn't bind|errno 98|eaddrinuse", re.IGNORECASE)
_NO_MEMORY = re.compile(
    r"out of memory|insufficient memory|cannot allocate memory|can't allocate memory"
    r"|not enough memory|bad_alloc|MemoryError|failed to allocate|unable to allocate"
    r"|No available memory for the cache|larger than the available KV cache memory"
    r"|(Available|Free) memory .* is less than desired",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Limits:
    """How long is waited, in seconds.

    Args:
        start_s: For a server to come up.
        answer_s: For an answer.
        end_s: For a server to end by itself.
        port: The first of our ports; None takes any that is free.

    Raises:
        EngineError: A number is out of range.
    """

    start_s: float = 600.0
    answer_s: float = 600.0
    end_s: float = 10.0
    port: int | None = None

    def __post_init__(self) -> None:
        if min(self.start_s, self.answer_s) <= 0 or self.end_s < 0:
            raise EngineError("a server needs more than 0 s to start and to answer")
        if self.port is not None and not 1024 <= self.port < 65_500:
            raise EngineError(f"--port must lie in 1024 to 65499, found {self.port}")


@dataclass(frozen=True, eq=False)
class Server:
    """A server that is up.

    Args:
        engine: What it is.
        endpoint: Where it listens, `/v1` included.
        model: What it calls its model.
        group: Its processes; None where somebody else has started it.
        start_s: Seconds that it took to come up.
    """

    engine: Serving
    endpoint: Endpoint
    model: str
    group: ProcessGroup | None = None
    start_s: float | None = None

    @property
    def root(self) -> Endpoint:
        """Where its routes outside of the protocol are: health, metrics."""
        prefix = self.endpoint.prefix.removesuffix("/v1")
        return Endpoint(
            self.endpoint.host,
            self.endpoint.port,
            prefix,
            self.endpoint.secure,
            self.endpoint.api_key,
        )

    def explain(self) -> EngineError | EngineFailure | None:
        """Return why it is not there any more; None where it runs, or is not ours."""
        if self.group is None or self.group.alive:
            return None
        return _ended(self.engine, self.group, "in the middle of its work")


@dataclass(frozen=True, eq=False)
class Launcher:
    """Starts servers of one engine.

    Args:
        engine: The engine.
        program: Its program.
        scratch: Directory for what servers write on the side.
        limits: How long is waited.
        interrupts: Held by the caller.
    """

    engine: Serving
    program: Program
    scratch: Path
    limits: Limits
    interrupts: Interrupts

    def start(self, serve: Serve, started: list[Server], *, number: int = 0) -> Server:
        """Start a server and wait until it is up.

        Args:
            serve: What it serves.
            started: Gets the server as soon as there is a process to end.
            number: Counts servers that run at once, for their ports.

        Raises:
            EngineError: The port is taken, or the engine refuses the model.
            OutOfMemory: There is no memory.
            EngineFailure: It does not come up in time.
            KeyboardInterrupt: A signal came.
        """
        attempts = 1 if self.limits.port is not None else ATTEMPTS
        while True:
            attempts -= 1
            try:
                return self._start(serve, self._port(number), started)
            except _PortTaken:
                if not attempts:
                    raise

    def _port(self, number: int) -> int:
        if self.limits.port is None:
            return free_port()
        port = self.limits.port + number
        if not is_free(port):
            raise EngineError(
                f"the port {port} is taken by another program; give another --port, or leave it "
                "out to have a free one chosen"
            )
        return port

    def _start(self, serve: Serve, port: int, started: list[Server]) -> Server:
        alias = f"vocabtrim-{secrets.token_hex(4)}"
        words = self.engine.command(self.program, serve, port=port, alias=alias)
        began = time.monotonic()
        environment = os.environ | {"TMPDIR": str(self.scratch)}
        try:
            group = ProcessGroup.start(words, environment)
        except OSError as fault:
            raise EngineError(f"{words[0]} cannot be run ({fault.strerror})") from fault
        endpoint = Endpoint(HOST, port, "/v1", secure=False, api_key=None)
        server = Server(self.engine, endpoint, alias, group)
        started.append(server)
        while not self._is_up(server, alias):
            if not group.alive:
                raise _ended(self.engine, group, "before it was up")
            if time.monotonic() - began > self.limits.start_s:
                raise EngineFailure(
                    f"{self.engine.name} was not up within {self.limits.start_s:g} s; its last "
                    f"lines:{_shown(group.lines())}"
                )
            with self.interrupts.open():
                time.sleep(POLL_S)
        up = Server(self.engine, endpoint, alias, group, time.monotonic() - began)
        started[-1] = up
        return up

    def _is_up(self, server: Server, alias: str) -> bool:
        try:
            with self.interrupts.open():
                if server.root.send("/health", timeout_s=PROBE_S).status != 200:
                    return False
                reply = server.endpoint.send("/models", timeout_s=PROBE_S)
            return reply.status == 200 and alias in read_models(reply.body)
        except (ExchangeError, MalformedAnswer):
            return False


def end_servers(servers: Sequence[Server], limits: Limits, interrupts: Interrupts) -> None:
    """End the processes of all servers that we have started.

    Raises:
        EngineFailure: One of them cannot be ended.
    """
    groups = [server.group for server in servers if server.group is not None]
    left = end_all(groups, limits.end_s, lambda: interrupts.hurry)
    if left:
        raise EngineFailure(f"these processes could not be ended: {', '.join(map(str, left))}")


class _PortTaken(EngineError):
    """Another program was faster to listen."""


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def is_free(port: int) -> bool:
    """Return whether nobody listens on a port."""
    with socket.socket() as probe:
        # as servers do: what a closed connection leaves behind is no listener
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def _ended(engine: Serving, group: ProcessGroup, when: str) -> EngineError | EngineFailure:
    """Say why a server has ended, from its exit code and its last lines."""
    code, lines = group.process.wait(), group.lines()
    telling = [line for line in lines if engine.telling.search(line)] or lines
    said = _shown(telling)
    if any(_PORT_TAKEN.search(line) for line in telling):
        return _PortTaken(f"{engine.name} could not listen: its port is taken; it said:{said}")
    if code == -signal.SIGKILL:
        return OutOfMemory(
            f"{engine.name} was killed {when}, most likely because the machine has no memory "
            f"left; serve a smaller model, or never two servers at once (--one-at-a-time); its "
            f"last lines:{said}"
        )
    if any(_NO_MEMORY.search(line) for line in telling):
        return OutOfMemory(
            f"{engine.name} found too little memory and ended {when}; give it a smaller context, "
            f"serve a smaller model, or never two servers at once (--one-at-a-time); it said:{said}"
        )
    how = f"with {code}" if code >= 0 else f"by signal {signal.Signals(-code).name}"
    return EngineError(f"{engine.name} ended {when}, {how}; it said:{said}")


def _shown(lines: Sequence[str]) -> str:
    distinct = list(dict.fromkeys(line.strip() for line in lines))
    return "".join(f"\n  {line[:500]}" for line in distinct[-LINES_SHOWN:]) or " nothing"
