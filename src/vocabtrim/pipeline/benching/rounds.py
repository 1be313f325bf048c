"""The measurement itself: servers up, arms in turns, everything ended.

Where memory allows, a server for each arm is up all the time and idle but for its
turn: arms then take turns prompt by prompt, in an order that rotates, and a
machine that slows down slows all of them. An idle server costs memory only. Where
it does not, one server is up at a time and arms take turns repeat by repeat, at
the price of starting each anew. Which it was is said, with what a start took. Of
an accelerator's memory nothing is known before: a later server that finds none
has all of them up one at a time.

Nothing that is started outlives `run`, however it ends (`interrupts.py`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from vocabtrim.engines.openai.asking import Ask
from vocabtrim.engines.serving.answers import Answer, Asker
from vocabtrim.engines.serving.base import OutOfMemory, Serve
from vocabtrim.engines.serving.counters import Counted, Metrics, counted, is_exact
from vocabtrim.engines.serving.launch import Launcher, Server, end_servers

Advance = Callable[[int, int], None]

WARM_UP_TOKENS = 8
SETTLE_S = 5.0
"""How long an engine may take to count what it has answered."""

ROOM = 1.3
"""Memory of a server with a drafter over one without, at most, as far as is planned."""

_MEMORY = Path("/proc/meminfo")

UNSETTLED = (
    "the counters of {name} do not add up to its answers, so acceptance is not known: does "
    "somebody else use the server?"
)
ROUNDED = "the counters of {name} are so high that they are printed rounded; start it anew"
CROWDED = (
    "{name} found no memory for another server beside those that were up, so one is up at a time; "
    "--one-at-a-time begins so"
)


@dataclass(frozen=True)
class Block:
    """What one arm answered in one go: a prompt, or a pass over all of them.

    Args:
        arm: Number of the arm.
        repeat: Which repeat.
        index: Number of the prompt; 0 for a pass.
        concurrency: Requests in flight.
        answers: One a prompt.
        wall_s: Seconds from the first request to the last answer.
        counted: What the engine counted; None where it does not say.
    """

    arm: int
    repeat: int
    index: int
    concurrency: int = 1
    answers: tuple[Answer, ...] = ()
    wall_s: float = 0.0
    counted: Counted | None = None

    @property
    def new_tokens(self) -> int:
        """Tokens emitted."""
        return sum(answer.new_tokens for answer in self.answers)

    @property
    def decode_s(self) -> float | None:
        """Seconds of decoding, by the engine's clock; None where it does not say."""
        stated = [answer.decode_s for answer in self.answers if answer.new_tokens > 1]
        known = [one for one in stated if one is not None]
        if len(known) == len(stated):
            return sum(known)
        return None if self.counted is None else self.counted.decode_s


@dataclass(eq=False)
class Rounds:
    """One measurement of several arms.

    Args:
        asks: The prompts.
        asker: How they are asked.
        repeat: Times that every arm answers every prompt.
        concurrency: Requests in flight of the passes; 1 for no passes.
        progress: Called with (blocks done, blocks in all).

    Attributes:
        blocks: What was answered.
        start_s: Arm to the seconds that its starts took.
        peak_bytes: Arm to the peak of its server's memory.
        together: Whether all servers were up at once.
        warnings: What a reader should know.
    """

    asks: Sequence[Ask]
    asker: Asker
    repeat: int
    concurrency: int = 1
    progress: Advance = lambda _done, _total: None
    blocks: list[Block] = field(default_factory=list)
    start_s: dict[int, list[float]] = field(default_factory=dict)
    peak_bytes: dict[int, int] = field(default_factory=dict)
    together: bool = False
    warnings: list[str] = field(default_factory=list)

    def run(
        self, launcher: Launcher, serves: Sequence[Serve], *, one_at_a_time: bool = False
    ) -> None:
        """Serve every arm, ask in turns, and end all servers.

        Args:
            launcher: Starts them.
            serves: What each arm's server serves.
            one_at_a_time: Never have two servers up.

        Raises:
            EngineError: A server does not start, or ends.
            EngineFailure: There is no memory, or a server hangs.
            ServerError: A prompt is refused.
            KeyboardInterrupt: A signal came.
        """
        started: list[Server] = []
        try:
            first = self._started(launcher, serves, 0, started)
            unused: Server | None = first
            if not one_at_a_time and _fits(first, len(serves)):
                servers = self._beside(first, launcher, serves, started)
                self.together = servers is not None
                if servers is not None:
                    self.ask(servers)
                    self._remember_peaks(dict(enumerate(servers)))
                    return
                unused = None
            for turn in range(self.repeat):
                for arm in _rotated(range(len(serves)), turn):
                    server = unused or self._started(launcher, serves, arm, started)
                    unused = None
                    self._turn({arm: server}, turn, len(serves))
                    self._remember_peaks({arm: server})
                    end_servers(started, launcher.limits, launcher.interrupts)
                    started.clear()
        finally:
            end_servers(started, launcher.limits, launcher.interrupts)

    def ask(self, servers: Sequence[Server]) -> None:
        """Ask servers that are up, in turns, for all repeats.

        Raises:
            As for `run`.
        """
        for turn in range(self.repeat):
            self._turn(dict(enumerate(servers)), turn, len(servers))

    def _turn(self, servers: dict[int, Server], turn: int, arms: int) -> None:
        """Do one repeat with the servers that are up."""
        total = self.repeat * arms * (len(self.asks) + (self.concurrency > 1))
        for index, ask in enumerate(self.asks):
            for arm in _rotated(list(servers), turn + index):
                self._block(servers[arm], [ask], Block(arm, turn, index))
                self.progress(len(self.blocks), total)
        if self.concurrency > 1:
            for arm in _rotated(list(servers), turn):
                place = Block(arm, turn, 0, self.concurrency)
                self._block(servers[arm], self.asks, place)
                self.progress(len(self.blocks), total)

    def _block(self, server: Server, asks: Sequence[Ask], place: Block) -> None:
        """Ask for some prompts and keep what came of it."""
        before = self.asker.metrics(server)
        if place.concurrency == 1:
            answers = [self.asker.one(server, asks[0])]
            wall_s = answers[0].wall_s
        else:
            answers, wall_s = self.asker.all(server, asks, place.concurrency)
        tokens = sum(answer.new_tokens for answer in answers)
        found = None if before is None else self._counted(server, before, tokens)
        self.blocks.append(replace(place, answers=tuple(answers), wall_s=wall_s, counted=found))

    def _counted(self, server: Server, before: Metrics, tokens: int) -> Counted | None:
        """Read the counters until the engine has counted what it answered."""
        names, name = server.engine.counters, server.engine.name
        unsettled = UNSETTLED.format(name=name)
        # whoever had to wait in vain once will have to again
        limit = time.monotonic() + (0.0 if unsettled in self.warnings else SETTLE_S)
        while True:
            after = self.asker.metrics(server)
            if after is None:
                return None
            found = counted(names, before, after, tokens)
            if found is not None:
                if not is_exact(names, after):
                    self._warn(ROUNDED.format(name=name))
                    return None
                return found
            if time.monotonic() > limit:
                self._warn(unsettled)
                return None
            with self.asker.interrupts.open():
                time.sleep(0.01)

    def _warn(self, text: str) -> None:
        if text not in self.warnings:
            self.warnings.append(text)

    def _beside(
        self, first: Server, launcher: Launcher, serves: Sequence[Serve], started: list[Server]
    ) -> list[Server] | None:
        """Start the other arms' servers; where one finds no memory, end all and return None."""
        servers = [first]
        try:
            for arm in range(1, len(serves)):
                servers.append(self._started(launcher, serves, arm, started))
        except OutOfMemory:
            self._warn(CROWDED.format(name=first.engine.name))
            end_servers(started, launcher.limits, launcher.interrupts)
            started.clear()
            return None
        return servers

    def _started(
        self, launcher: Launcher, serves: Sequence[Serve], arm: int, started: list[Server]
    ) -> Server:
        """Start an arm's server and let it answer once, which is not counted."""
        server = launcher.start(serves[arm], started, number=arm)
        self.start_s.setdefault(arm, []).append(server.start_s or 0.0)
        self.asker.one(server, self.asks[0], max_new_tokens=WARM_UP_TOKENS)
        return server

    def _remember_peaks(self, servers: dict[int, Server]) -> None:
        for arm, server in servers.items():
            peak = None if server.group is None else server.group.peak_memory()
            if peak is not None:
                self.peak_bytes[arm] = max(peak, self.peak_bytes.get(arm, 0))


def _fits(first: Server, servers: int) -> bool:
    """Return whether so many servers like this one have room; False where nobody can say."""
    held = None if first.group is None else first.group.memory()
    try:
        lines = _MEMORY.read_text().splitlines()
    except OSError:
        return False
    free = [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
    return held is not None and bool(free) and (servers - 1) * ROOM * held <= 0.8 * free[0]


def _rotated(arms: Sequence[int], by: int) -> list[int]:
    shift = by % len(arms) if arms else 0
    return [*arms[shift:], *arms[:shift]]
