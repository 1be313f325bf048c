"""Token counts: how often, and in how many documents, each id occurs.

Two int64 vectors over the tokenizer's ids say all that frequency selection
needs, so counts add up: shards made on different machines, or on different
days, are merged with `+` and the result does not depend on the order. Counts
know the fingerprint of their tokenizer and refuse to meet another's. The ids
that must be kept come along (`SpecialIds`), so that selection needs neither
the tokenizer nor the text again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from vocabtrim.core.errors import CalibrationError, TokenizerMismatch


@dataclass(frozen=True)
class SpecialIds:
    """Ids that a tokenizer sets apart.

    Args:
        eos: Ids that end a generation (the whole `eos_token_id` list).
        template: Ids that the chat template emits in an assistant turn.
        added: Every added or special token of the tokenizer; kept only where
            seen in calibration, for most are placeholders (Gemma-3 has 6,242).
    """

    eos: tuple[int, ...] = ()
    template: tuple[int, ...] = ()
    added: tuple[int, ...] = ()

    def __or__(self, other: SpecialIds) -> SpecialIds:
        """Return the union, each tuple ascending."""
        return SpecialIds(
            tuple(sorted({*self.eos, *other.eos})),
            tuple(sorted({*self.template, *other.template})),
            tuple(sorted({*self.added, *other.added})),
        )


@dataclass(frozen=True, eq=False)
class TokenCounts:
    """Occurrences and document frequencies of every id.

    Args:
        counts: [V] int64 occurrences.
        documents: [V] int64 documents in which the id occurs at least once.
        n_documents: Documents counted, empty ones left out.
        tokenizer: Fingerprint of the tokenizer.
        special: The ids it sets apart.
        domains: The share of named domains in the totals; a domain's own
            `domains` is empty.

    Raises:
        CalibrationError: Shapes, signs or totals contradict each other.
    """

    counts: NDArray[np.int64]
    documents: NDArray[np.int64]
    n_documents: int
    tokenizer: str
    special: SpecialIds = SpecialIds()
    domains: Mapping[str, TokenCounts] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("counts", "documents"):
            vector = np.asarray(getattr(self, name))
            if vector.ndim != 1 or vector.dtype != np.int64 or vector.size == 0:
                raise CalibrationError(
                    f"{name} must be [V] int64, found shape {vector.shape} of {vector.dtype}"
                )
            frozen = vector.copy()
            frozen.setflags(write=False)
            object.__setattr__(self, name, frozen)
        if self.counts.shape != self.documents.shape:
            raise CalibrationError(
                f"counts cover {self.counts.size} ids but documents {self.documents.size}"
            )
        if (self.documents < 0).any() or (self.counts < self.documents).any():
            raise CalibrationError("an id occurs in more documents than times, or a negative time")
        if ((self.counts > 0) & (self.documents == 0)).any():
            raise CalibrationError("an id occurs, but in no document")
        if int(self.documents.max()) > self.n_documents:
            raise CalibrationError(
                f"an id occurs in {int(self.documents.max())} of {self.n_documents} documents"
            )
        for name, part in self.domains.items():
            if part.tokenizer != self.tokenizer or part.vocab_size != self.vocab_size:
                raise CalibrationError(f"domain {name} was counted with another tokenizer")
            if part.n_documents > self.n_documents or (part.counts > self.counts).any():
                raise CalibrationError(f"domain {name} counts more than the total")

    @property
    def vocab_size(self) -> int:
        """V of the tokenizer: ids at or above it do not exist."""
        return int(self.counts.size)

    @property
    def n_tokens(self) -> int:
        """Tokens counted."""
        return int(self.counts.sum())

    @property
    def n_distinct(self) -> int:
        """Ids seen at least once."""
        return int(np.count_nonzero(self.counts))

    @classmethod
    def empty(
        cls, vocab_size: int, tokenizer: str, special: SpecialIds = SpecialIds()
    ) -> TokenCounts:
        """Return counts of nothing: the neutral element of `+`."""
        zeros = np.zeros(vocab_size, dtype=np.int64)
        return cls(zeros, zeros, 0, tokenizer, special)

    def __add__(self, other: TokenCounts) -> TokenCounts:
        """Add two counts, domain by domain.

        Raises:
            TokenizerMismatch: They were made with different tokenizers.
        """
        if self.tokenizer != other.tokenizer or self.vocab_size != other.vocab_size:
            raise TokenizerMismatch(
                "counts of different tokenizers cannot be added",
                expected=self.tokenizer,
                found=other.tokenizer,
            )
        domains = dict(self.domains)
        for name, part in other.domains.items():
            domains[name] = domains[name] + part if name in domains else part
        return TokenCounts(
            self.counts + other.counts,
            self.documents + other.documents,
            self.n_documents + other.n_documents,
            self.tokenizer,
            self.special | other.special,
            {name: domains[name] for name in sorted(domains)},
        )

    def without(self, part: TokenCounts) -> TokenCounts:
        """Take out counts of documents that are among these; domains are left out.

        What remains is exactly what counting the other documents gives, so text
        can be held out of counts that have been made already.

        Raises:
            TokenizerMismatch: They were made with different tokenizers.
            CalibrationError: Those documents are not among these.
        """
        if self.tokenizer != part.tokenizer or self.vocab_size != part.vocab_size:
            raise TokenizerMismatch(
                "counts of different tokenizers cannot be taken from one another",
                expected=self.tokenizer,
                found=part.tokenizer,
            )
        return TokenCounts(
            self.counts - part.counts,
            self.documents - part.documents,
            self.n_documents - part.n_documents,
            self.tokenizer,
            self.special,
        )

    def order(self) -> NDArray[np.int64]:
        """Return all ids, most frequent first; ties by documents, then id.

        Returns:
            [V] int64, a permutation that does not depend on the order in which
            the data was read.
        """
        ids = np.arange(self.vocab_size)
        return np.lexsort((ids, -self.documents, -self.counts)).astype(np.int64)

    def coverage(self, ids: NDArray[np.int64]) -> float:
        """Return the share of counted tokens whose id is among `ids`.

        Args:
            ids: [K] unique ids.

        Returns:
            A share in [0, 1]; 0 where nothing was counted.
        """
        total = self.n_tokens
        return float(self.counts[ids].sum() / total) if total else 0.0

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, TokenCounts):
            return NotImplemented
        return (
            self.tokenizer == other.tokenizer
            and self.n_documents == other.n_documents
            and self.special == other.special
            and bool(np.array_equal(self.counts, other.counts))
            and bool(np.array_equal(self.documents, other.documents))
            and dict(self.domains) == dict(other.domains)
        )

    def __hash__(self) -> int:
        return hash((self.tokenizer, self.n_documents, self.counts.tobytes()))
