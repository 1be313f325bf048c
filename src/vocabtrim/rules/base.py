"""What a selection rule gets, gives, and may lean on.

A rule is a frozen dataclass whose fields are its options; `select` turns
evidence into a draft vocabulary. Rules differ in how many rows they take and
in which order ids enter. `ranking` is the order by frequency that most of them
want: kept ids first, so that they are inside K, then ids seen in calibration,
then the fill. `parse_rule` reads the command line's `NAME:option=value,…`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, Protocol, get_type_hints

import numpy as np
from numpy.typing import NDArray

from vocabtrim.core.counts import TokenCounts
from vocabtrim.core.errors import PluginError, TokenizerMismatch, VocabError
from vocabtrim.core.registry import Registry
from vocabtrim.core.trace import Trace
from vocabtrim.core.vocab import DraftVocab, rounded_rows

RULES = Registry("vocabtrim.rules", "selection rule")


@dataclass(frozen=True)
class Evidence:
    """What is known about the ids.

    Args:
        counts: Calibration counts, merged.
        base: Counts of broader text that only order the fill, where given.
        weights: Domain name to factor; a domain's tokens count that often.
        trace: What a drafter ranks best along the target's text, where given.

    Raises:
        TokenizerMismatch: `base` or `trace` was made with another tokenizer.
        PluginError: A weight is negative or names no domain of the counts.
    """

    counts: TokenCounts
    base: TokenCounts | None = None
    weights: Mapping[str, float] = field(default_factory=dict)
    trace: Trace | None = None

    def __post_init__(self) -> None:
        for what, other in (("trace", self.trace), ("base counts", self.base)):
            TokenizerMismatch.check(
                f"{what} and calibration counts have different tokenizers",
                expected=self.counts.tokenizer,
                found=None if other is None else other.tokenizer,
            )
        for name, weight in self.weights.items():
            if name not in self.counts.domains:
                known = ", ".join(self.counts.domains) or "none"
                raise PluginError(f"no domain {name!r} to weight; the counts have: {known}")
            if not (np.isfinite(weight) and weight >= 0):
                raise PluginError(f"the weight of domain {name} must be 0 or more, found {weight}")

    @property
    def vocab_size(self) -> int:
        """V of the tokenizer."""
        return self.counts.vocab_size

    @property
    def frequency(self) -> NDArray[np.float64]:
        """[V] float64 occurrences, each domain's times its weight."""
        total = self.counts.counts.astype(np.float64)
        for name, weight in self.weights.items():
            total += (weight - 1.0) * self.counts.domains[name].counts
        return total

    def ranking(self, must_keep: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return all ids in the order in which they enter a draft vocabulary.

        Kept ids; ids seen, by (frequency, documents, id); ids that only the
        base saw, likewise; ordinary ids in ascending order, which for BPE is
        the order of the merges; at last added tokens never seen, for most are
        placeholders.

        Args:
            must_keep: Ids that enter first.

        Returns:
            [V] int64, a permutation.
        """
        ids = np.arange(self.vocab_size)
        frequency = self.frequency
        base = np.zeros_like(ids) if self.base is None else self.base.counts
        base_documents = np.zeros_like(ids) if self.base is None else self.base.documents
        placeholder = np.zeros(ids.size, dtype=np.bool_)
        placeholder[list(self.counts.special.added)] = True
        placeholder &= (frequency == 0) & (base == 0)
        optional = np.ones(ids.size, dtype=np.bool_)
        optional[must_keep] = False
        keys = (
            ids,
            placeholder,
            -base_documents,
            -base,
            -self.counts.documents,
            -frequency,
            optional,
        )
        return np.lexsort(keys).astype(np.int64)


class SelectionRule(Protocol):
    """What `rules/NAME.py` defines as `PLUGIN`: a frozen dataclass with this method.

    A rule whose ids do not follow from the counts says so with
    `by_counts: ClassVar[bool] = False`; see `by_counts`. One that wants a trace
    says `by_trace: ClassVar[bool] = True`.
    """

    def select(self, evidence: Evidence, must_keep: NDArray[np.int64]) -> DraftVocab:
        """Choose the draft vocabulary.

        Args:
            evidence: Counts and what else is known.
            must_keep: Ids that the result contains, ascending.

        Raises:
            VocabError: The rule's K is impossible.
        """
        ...


def by_counts(rule: SelectionRule) -> bool:
    """Whether the ids that a rule takes besides the kept ones follow from the counts.

    Where they do, coverage of the text that was counted is too high for new text.
    """
    return bool(getattr(rule, "by_counts", True))


def by_trace(rule: SelectionRule) -> bool:
    """Whether a rule asks what a drafter gets accepted, which takes a trace."""
    return bool(getattr(rule, "by_trace", False))


def rows_asked(k: int, vocab_size: int, *, exact: bool) -> int:
    """Return K for `k` rows asked for: rounded up to 64 unless `exact`.

    Raises:
        VocabError: `k` is below 1 or above V.
    """
    if not 1 <= k <= vocab_size:
        raise VocabError(f"K must lie between 1 and the {vocab_size} ids there are, found {k}")
    return k if exact else rounded_rows(k, vocab_size)


def take(
    order: NDArray[np.int64], rows: int, must_keep: NDArray[np.int64], evidence: Evidence
) -> DraftVocab:
    """Return the first `rows` ids of `order`, in which kept ids come first.

    Raises:
        VocabError: There are more kept ids than rows; names the smallest K.
    """
    if must_keep.size > rows:
        raise VocabError(
            f"K = {rows} is smaller than the {must_keep.size} ids that must be kept; "
            f"the smallest K is {must_keep.size} (--keep none lifts the rule)"
        )
    return DraftVocab.from_ids(order[:rows], evidence.vocab_size, evidence.counts.tokenizer)


def parse_rule(text: str) -> SelectionRule:
    """Build a rule from `NAME` or `NAME:option=value,option=value`.

    Raises:
        PluginError: No such rule or option, a value that does not parse, or an
            option without a default that is missing.
    """
    name, _, tail = text.partition(":")
    rule = RULES.load(name)
    types = get_type_hints(rule)
    options: dict[str, Any] = {}
    for pair in filter(None, tail.split(",")):
        option, equals, value = pair.partition("=")
        if option not in {entry.name for entry in fields(rule)} or not equals:
            raise PluginError(f"rule {name}: cannot read {pair!r}; it is used as {usage(name)}")
        options[option] = _parse_value(name, option, value, types[option])
    missing = [
        entry.name
        for entry in fields(rule)
        if entry.default is MISSING and entry.name not in options
    ]
    if missing:
        raise PluginError(f"rule {name} needs {', '.join(missing)}; it is used as {usage(name)}")
    built: SelectionRule = rule(**options)
    return built


def usage(name: str) -> str:
    """Return how a rule is written on the command line, with its defaults."""
    rule = RULES.load(name)
    types = get_type_hints(rule)
    shown = [
        f"{entry.name}={types[entry.name].__name__.upper()}"
        if entry.default is MISSING
        else f"{entry.name}={entry.default}"
        for entry in fields(rule)
    ]
    return f"{name}:{','.join(shown)}"


def _parse_value(rule: str, option: str, value: str, kind: type) -> Any:
    if kind is bool:
        if value.lower() not in ("true", "false"):
            raise PluginError(f"rule {rule}: {option} is true or false, found {value!r}")
        return value.lower() == "true"
    try:
        return kind(value)
    except ValueError as fault:
        raise PluginError(f"rule {rule}: {option} is a {kind.__name__}, found {value!r}") from fault
