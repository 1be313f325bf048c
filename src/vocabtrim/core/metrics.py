"""What speculative decoding gained, from histograms of accepted drafts.

Conventions (they decide the third digit, so they are fixed here once):

* The prefill pass emits the first token and is no cycle. A cycle with R tokens
  left drafts min(gamma, R - 1). An accepted end-of-sequence id ends its cycle:
  nothing after it counts as drafted, and there is no bonus token.
* Block efficiency tau = tokens emitted in cycles / cycles, pooled over prompts.
* Acceptance at position j divides by the cycles that drafted a j-th token.

MBSU = tau / (c * gamma + 1), with c the drafter's parameters over the target's,
counted by family and never by what a checkpoint ties (VocabTrim, arXiv
2506.22694; the speed-up model is Leviathan et al., 2211.17192, section 3.3).
With bytes read in place of parameters it is `mbsu_read`, closer to a machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vocabtrim.core.errors import VocabtrimError


class MetricsError(VocabtrimError):
    """Numbers that no decoding run can have produced."""


class CycleCounts:
    """What histograms of cycles say, be they counted or expected.

    Attributes:
        accepted: [gamma + 1] cycles in which exactly j drafts were accepted.
        drafted: [gamma + 1] cycles in which exactly j drafts counted.
        tokens: Emitted in cycles, bonus tokens included.
    """

    accepted: NDArray[Any]
    drafted: NDArray[Any]
    tokens: int

    @property
    def gamma(self) -> int:
        """Draft length."""
        return int(self.accepted.size) - 1

    @property
    def cycles(self) -> float:
        """Target passes after the prefill."""
        return float(self.accepted.sum())

    @property
    def n_accepted(self) -> float:
        """Drafts accepted."""
        return float(self.accepted @ np.arange(self.accepted.size))

    @property
    def n_drafted(self) -> float:
        """Drafts that counted."""
        return float(self.drafted @ np.arange(self.drafted.size))

    @property
    def block_efficiency(self) -> float | None:
        """Tau, tokens per cycle; None where there was no cycle."""
        return self.tokens / self.cycles if self.cycles else None

    @property
    def acceptance_rate(self) -> float | None:
        """Accepted / drafted tokens; None where nothing was drafted."""
        return self.n_accepted / self.n_drafted if self.n_drafted else None

    @property
    def acceptance_by_position(self) -> list[float | None]:
        """[gamma] acceptance of the j-th draft among cycles that drafted one."""
        accepted, drafted = _at_least(self.accepted), _at_least(self.drafted)
        return [float(a / d) if d else None for a, d in zip(accepted[1:], drafted[1:], strict=True)]


@dataclass(frozen=True, eq=False)
class ExpectedCounts(CycleCounts):
    """Cycles on average over what may be drawn; how tokens fall into them is left to chance.

    Args:
        accepted: [gamma + 1] float64, expected cycles in which exactly j drafts were
            accepted.
        drafted: [gamma + 1] float64, expected cycles in which exactly j drafts counted.
        tokens: Tokens emitted in cycles, bonus tokens included.
    """

    accepted: NDArray[np.float64]
    drafted: NDArray[np.float64]
    tokens: int


@dataclass(frozen=True, eq=False)
class AcceptCounts(CycleCounts):
    """Cycles by number of drafts, with the tokens that they emitted.

    Args:
        accepted: [gamma + 1] int64, cycles in which exactly j drafts were
            accepted.
        drafted: [gamma + 1] int64, cycles in which exactly j drafts counted.
        tokens: Tokens emitted in cycles, bonus tokens included.

    Raises:
        MetricsError: The three contradict each other.
    """

    accepted: NDArray[np.int64]
    drafted: NDArray[np.int64]
    tokens: int

    def __post_init__(self) -> None:
        for name in ("accepted", "drafted"):
            vector = np.array(getattr(self, name), dtype=np.int64)
            if vector.ndim != 1 or vector.size == 0 or (vector < 0).any():
                raise MetricsError(f"the histogram of {name} drafts is no vector of counts")
            vector.setflags(write=False)
            object.__setattr__(self, name, vector)
        if self.accepted.size != self.drafted.size:
            raise MetricsError(
                f"histograms for gamma {self.accepted.size - 1} and {self.drafted.size - 1}"
            )
        if self.accepted.sum() != self.drafted.sum():
            raise MetricsError("the histograms count different numbers of cycles")
        if (_at_least(self.accepted) > _at_least(self.drafted)).any():
            raise MetricsError("more drafts were accepted at a position than were drafted there")
        if not self.n_accepted <= self.tokens <= self.n_accepted + self.cycles:
            raise MetricsError(
                f"{self.cycles} cycles that accepted {self.n_accepted} drafts "
                f"cannot have emitted {self.tokens} tokens"
            )

    @classmethod
    def zero(cls, gamma: int) -> AcceptCounts:
        """Return the counts of no cycle at draft length `gamma`."""
        zeros = np.zeros(gamma + 1, dtype=np.int64)
        return cls(zeros, zeros, 0)

    @classmethod
    def of_cycles(cls, gamma: int, cycles: Sequence[tuple[int, int, int]]) -> AcceptCounts:
        """Count cycles given as (drafted, accepted, emitted tokens)."""
        drafted = np.zeros(gamma + 1, dtype=np.int64)
        accepted = np.zeros(gamma + 1, dtype=np.int64)
        for n_drafted, n_accepted, _ in cycles:
            drafted[n_drafted] += 1
            accepted[n_accepted] += 1
        return cls(accepted, drafted, sum(emitted for _, _, emitted in cycles))

    @property
    def cycles(self) -> int:
        """Target passes after the prefill."""
        return int(self.accepted.sum())

    @property
    def n_accepted(self) -> int:
        """Drafts accepted."""
        return int(self.accepted @ np.arange(self.accepted.size))

    @property
    def n_drafted(self) -> int:
        """Drafts that counted."""
        return int(self.drafted @ np.arange(self.drafted.size))

    def __add__(self, other: AcceptCounts) -> AcceptCounts:
        """Pool two runs of one draft length.

        Raises:
            MetricsError: The draft lengths differ.
        """
        return AcceptCounts(
            _same_gamma(self, other).accepted + other.accepted,
            self.drafted + other.drafted,
            self.tokens + other.tokens,
        )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, AcceptCounts):
            return NotImplemented
        return (
            self.tokens == other.tokens
            and bool(np.array_equal(self.accepted, other.accepted))
            and bool(np.array_equal(self.drafted, other.drafted))
        )

    def __hash__(self) -> int:
        return hash((self.tokens, self.accepted.tobytes(), self.drafted.tobytes()))


def _same_gamma(one: AcceptCounts, other: AcceptCounts) -> AcceptCounts:
    if one.gamma != other.gamma:
        raise MetricsError(f"runs at gamma {one.gamma} and {other.gamma} cannot be pooled")
    return one


def _at_least(histogram: NDArray[Any]) -> NDArray[Any]:
    """[gamma + 1] exactly-j counts to at-least-j counts."""
    return np.cumsum(histogram[::-1])[::-1]


def untied_parameters(trunk: int, hidden: int, vocab_size: int, head_rows: int) -> int:
    """Return a drafter's parameters where embedding and head count apart.

    The rule for the EAGLE family, also where both are the target's one tied
    matrix, and for an independent model that was never tied.

    Args:
        trunk: Parameters besides embedding and head.
        hidden: H.
        vocab_size: V, rows of the input embedding.
        head_rows: K, rows of the head.
    """
    return trunk + vocab_size * hidden + head_rows * hidden


def tied_parameters(trunk: int, hidden: int, head_rows: int) -> int:
    """Return the parameters of an independent model tied before trimming.

    The rule is the same before and after, so that untying does not count as
    growth: the input embedding is read one row a step.

    Args:
        trunk: Parameters besides the tied matrix.
        hidden: H.
        head_rows: K, rows of the head.
    """
    return trunk + head_rows * hidden


@dataclass(frozen=True)
class StepCost:
    """What one step of a model holds and reads.

    Args:
        params: Parameters, by the family's rule.
        head_params: Parameters of the LM head.
        step_bytes: Bytes of weights that every step reads: everything but the
            input embedding, of which one row.
        head_bytes: The LM head's part of `step_bytes`.
        cycle_bytes: Bytes read once a cycle however long the draft is
            (EAGLE-3's fusion layer); not part of `step_bytes`.
    """

    params: int
    head_params: int
    step_bytes: int
    head_bytes: int
    cycle_bytes: int = 0

    def bytes_per_draft(self, gamma: int) -> float:
        """Return bytes read a draft step, averaged over a cycle of `gamma`."""
        return self.step_bytes + self.cycle_bytes / max(gamma, 1)

    def with_head_rows(self, rows: int, before: int) -> StepCost:
        """Return the cost once the head has `rows` in place of `before` rows."""
        params, nbytes = self.head_params // before, self.head_bytes / before
        return StepCost(
            params=self.params - params * (before - rows),
            head_params=params * rows,
            step_bytes=self.step_bytes - round(nbytes * (before - rows)),
            head_bytes=round(nbytes * rows),
            cycle_bytes=self.cycle_bytes,
        )

    def head_share(self, gamma: int) -> float:
        """Return the head's share of `bytes_per_draft`."""
        return self.head_bytes / self.bytes_per_draft(gamma)


def relative_cost(drafter: StepCost, target: StepCost) -> float:
    """Return c: the drafter's parameters over the target's."""
    return drafter.params / target.params


def relative_bytes(drafter: StepCost, target: StepCost, gamma: int) -> float:
    """Return c_read: bytes of a draft step over bytes of a target step."""
    return drafter.bytes_per_draft(gamma) / target.step_bytes


def mbsu(block_efficiency: float, cost: float, gamma: int) -> float:
    """Return the memory-bound speed-up tau / (c * gamma + 1) (2506.22694).

    Args:
        block_efficiency: tau, tokens per target pass.
        cost: c, or c_read for `mbsu_read`.
        gamma: Draft length; 0 gives tau.
    """
    return block_efficiency / (cost * gamma + 1.0)


def block_efficiency_interval(
    per_prompt: Sequence[CycleCounts],
    generator: np.random.Generator,
    *,
    confidence: float = 0.95,
    resamples: int = 2000,
) -> tuple[float, float]:
    """Return a percentile bootstrap interval of the pooled block efficiency.

    Prompts are resampled, not cycles: cycles of one text are not independent.

    Args:
        per_prompt: Counts of each prompt; those without cycles are left out.
        generator: Source of randomness.
        confidence: Mass inside the interval.
        resamples: Bootstrap samples.

    Raises:
        MetricsError: No prompt had a cycle.
    """
    used = [counts for counts in per_prompt if counts.cycles]
    if not used:
        raise MetricsError("no prompt has a cycle, so block efficiency has no interval")
    tokens = np.array([counts.tokens for counts in used], dtype=np.float64)
    cycles = np.array([counts.cycles for counts in used], dtype=np.float64)
    picks = generator.integers(0, len(used), size=(resamples, len(used)))
    ratios = tokens[picks].sum(axis=1) / cycles[picks].sum(axis=1)
    low, high = np.quantile(ratios, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)
