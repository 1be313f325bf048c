"""Documents to counts: encode a batch, and count its ids.

A document counts as a whole: an id occurs so and so often in it, at most
`cap_per_document` times where that is given, and it is one document more for
every id that it has. `BatchCounter` is a function of a batch and the
tokenizer's files, so that a batch can be counted anywhere and the results be
added in any order.

Where documents come from, and what is done with their counts, is decided in
`pipeline/count.py`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vocabtrim.core.counts import SpecialIds, TokenCounts
from vocabtrim.core.errors import CalibrationError
from vocabtrim.tokens.chat import ChatEncoder
from vocabtrim.tokens.id_counts import Group, RunningCounts, SparseBatch, count_ids
from vocabtrim.tokens.messages import Conversation
from vocabtrim.tokens.must_keep import special_ids
from vocabtrim.tokens.tokenizer import Tokenizer

Content = str | Conversation | NDArray[np.int64]
"""What a document holds: text, a conversation, or ids as they are."""

NO_EOS = (
    "no file of the tokenizer says which id ends a generation: a draft vocabulary "
    "may lack it (put generation_config.json or tokenizer_config.json beside it)"
)


@dataclass(frozen=True)
class TokenizerFacts:
    """What has to be known of a tokenizer that another process holds.

    Args:
        fingerprint: Of its id-to-token list.
        vocab_size: V.
        special: The ids it sets apart.
        warnings: What is wrong with its files, one sentence each.
        backend: What encodes, with its version.
        backend_reason: Why not a faster one; empty where there is none.
    """

    fingerprint: str
    vocab_size: int
    special: SpecialIds
    warnings: tuple[str, ...]
    backend: str
    backend_reason: str


@dataclass(frozen=True)
class BatchCounts:
    """What a batch comes to, as counts of the tokenizer.

    Args:
        counts: Counts of its documents, by domain too.
        empty: Documents without a token that counts; they are in no count.
        warnings: Sentence to the number of documents that it is about.
    """

    counts: TokenCounts
    empty: int = 0
    warnings: Counter[str] = field(default_factory=Counter)


class BatchCounter:
    """Counts batches of documents with one tokenizer.

    Args:
        tokenizer: To encode with.
        role: Whose turns of a conversation count.
        cap_per_document: An id counts at most so often in one document.

    Attributes:
        tokenizer: As given.
        special: The ids that the tokenizer sets apart.
        warnings: What is wrong with the tokenizer's files, one sentence each.

    Raises:
        CalibrationError: No such role, or a cap below 1.
        TokenizerError: The chat template is not valid.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        *,
        role: str = "assistant",
        cap_per_document: int | None = None,
    ) -> None:
        if cap_per_document is not None and cap_per_document < 1:
            raise CalibrationError(
                f"the cap per document must be 1 or more, found {cap_per_document}"
            )
        self.tokenizer = tokenizer
        self.special: SpecialIds = special_ids(tokenizer)
        self.warnings = (*tokenizer.warnings, *(() if self.special.eos else (NO_EOS,)))
        self._chat = ChatEncoder(tokenizer, role)
        self._cap = cap_per_document

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        role: str = "assistant",
        cap_per_document: int | None = None,
        backend: str = "tokenizers",
    ) -> BatchCounter:
        """Open the tokenizer at `path`; a worker process does this once.

        Args:
            path: A directory with a `tokenizer.json`, or that file.
            role: Whose turns of a conversation count.
            cap_per_document: An id counts at most so often in one document.
            backend: What encodes: one of `tokenizer.BACKENDS`.

        Raises:
            TokenizerError: There is none, or a file of it is damaged.
            CalibrationError: No such role, or a cap below 1.
        """
        tokenizer = Tokenizer.open(path, backend=backend)
        return cls(tokenizer, role=role, cap_per_document=cap_per_document)

    @property
    def facts(self) -> TokenizerFacts:
        """What another process has to know of the tokenizer."""
        return TokenizerFacts(
            self.tokenizer.fingerprint,
            self.tokenizer.vocab_size,
            self.special,
            self.warnings,
            self.tokenizer.backend,
            self.tokenizer.backend_reason,
        )

    def nothing(self, domains: Iterable[str] = ()) -> TokenCounts:
        """Return counts of nothing, by domain too, to which batches are added."""
        sums = RunningCounts(self.tokenizer.vocab_size, domains)
        return sums.total(self.tokenizer.fingerprint, self.special)

    def count(
        self, contents: Sequence[Content], domains: Sequence[Group] | None = None
    ) -> BatchCounts:
        """Count a batch and return dense counts; arguments as of `count_sparse`."""
        batch = self.count_sparse(contents, domains)
        named = frozenset[str]().union(*domains or [])
        sums = RunningCounts(self.tokenizer.vocab_size, sorted(named))
        sums.add(batch)
        counts = sums.total(self.tokenizer.fingerprint, self.special)
        return BatchCounts(counts, batch.empty, batch.warnings)

    def count_sparse(
        self, contents: Sequence[Content], domains: Sequence[Group] | None = None
    ) -> SparseBatch:
        """Count a batch.

        Args:
            contents: What each document holds.
            domains: The domains that each document belongs to; None: to none.

        Raises:
            BackendMismatch: The fast backend and the reference disagree.
        """
        warnings: Counter[str] = Counter()
        ids, lengths = self._encode(contents, warnings)
        groups = domains if domains is not None else [Group()] * len(contents)
        counted = {}
        for group in set(groups):
            chosen = np.fromiter((one == group for one in groups), np.bool_, len(groups))
            # nearly always all documents are of one group, and nothing need be copied
            of_group = ids if chosen.all() else ids[np.repeat(chosen, lengths)]
            counted[group] = count_ids(
                of_group,
                lengths[chosen],
                self.tokenizer.vocab_size,
                cap_per_document=self._cap,
            )
        empty = len(contents) - int(np.count_nonzero(lengths))
        return SparseBatch(counted, empty, warnings)

    def _encode(
        self, contents: Sequence[Content], warnings: Counter[str]
    ) -> tuple[NDArray[Any], NDArray[np.int64]]:
        """Return the ids that count, [T], and how many each document has, [n] int64."""
        texts = [content for content in contents if isinstance(content, str)]
        ids, lengths = self.tokenizer.encode_flat(texts)
        if len(texts) == len(contents):
            return ids, lengths
        of_texts = iter(np.split(ids, np.cumsum(lengths)[:-1]) if texts else ())
        chats = [content for content in contents if isinstance(content, Conversation)]
        of_chats = iter(self._chat.encode_batch(chats))
        encoded: list[NDArray[Any]] = []
        for content in contents:
            if isinstance(content, str):
                encoded.append(next(of_texts))
            elif isinstance(content, Conversation):
                tokens = next(of_chats)
                warnings.update(set(tokens.warnings))
                encoded.append(tokens.counted_ids)
            else:
                encoded.append(content)
        return np.concatenate(encoded), np.array([one.size for one in encoded], dtype=np.int64)
