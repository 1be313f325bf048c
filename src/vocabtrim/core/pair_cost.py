"""What a drafter costs beside its target, for every number of head rows.

`StepCost` says what one model holds and reads. Planning asks the same of heads
that nobody has made yet, so the pair is kept with all rows of its head, and c,
c_read and memory follow for any K.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from vocabtrim.core.metrics import MetricsError, StepCost, relative_bytes, relative_cost


@dataclass(frozen=True)
class PairCost:
    """A target and a drafter with all rows of its head.

    Args:
        target: What a target step holds and reads.
        drafter: The same of a draft step.
        head_rows: Rows of the drafter's head.
        shared: Whether they are the target's, so that trimming adds a copy.
    """

    target: StepCost
    drafter: StepCost
    head_rows: int
    shared: bool

    def __post_init__(self) -> None:
        if self.head_rows < 1 or min(self.target.params, self.target.step_bytes) < 1:
            raise MetricsError("the cost of a pair needs head rows and a target's parameters")

    def drafter_at(self, size: int) -> StepCost:
        """Return the cost of a draft step with `size` head rows."""
        return self.drafter.with_head_rows(size, self.head_rows)

    def c(self, size: int) -> float:
        """Return the relative cost by parameters with `size` head rows."""
        return relative_cost(self.drafter_at(size), self.target)

    def c_read(self, size: int, gamma: int) -> float:
        """Return the relative cost by bytes read with `size` head rows."""
        return relative_bytes(self.drafter_at(size), self.target, gamma)

    def memory_delta(self, size: int) -> int:
        """Return the bytes of weights that trimming to `size` rows adds, or frees below 0."""
        if size == self.head_rows:
            return 0
        kept = self.drafter_at(size).head_bytes
        return kept if self.shared else kept - self.drafter.head_bytes

    def to_json(self) -> dict[str, Any]:
        """Return the document that holds it."""
        return asdict(self)

    @classmethod
    def from_json(cls, document: Any) -> PairCost:
        """Read what `to_json` wrote.

        Raises:
            MetricsError: It is something else.
        """
        try:
            return cls(
                StepCost(**document["target"]),
                StepCost(**document["drafter"]),
                int(document["head_rows"]),
                bool(document["shared"]),
            )
        except (KeyError, TypeError, ValueError) as fault:
            raise MetricsError(f"these are no costs of a pair ({fault!r})") from fault
