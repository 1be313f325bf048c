"""Documents to counts: encode a batch, and count its ids.

A document counts as a whole: an id occurs so and so often in it, at most
`cap_per_document` times where that is given, and it is one document more for
every id that it has. `count_ids` is a pure function of ids, and `BatchCounter`
one of a batch and the tokenizer's files, so that a batch can be counted
anywhere and the results be added in any order.

Where documents come from, and what is done with their counts, is decided in
`pipeline/count.py`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vocabtrim.core.counts import SpecialIds, TokenCounts
from vocabtrim.core.errors import CalibrationError
from vocabtrim.tokens.chat import ChatEncoder
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
class BatchCounts:
    """What a batch comes to.

    Args:
        counts: Counts of its documents, by domain too.
        empty: Documents without a token that counts; they are in no count.
        warnings: Sentence to the number of documents that it is about.
    """

    counts: TokenCounts
    empty: int = 0
    warnings: Counter[str] = field(default_factory=Counter)


def count_ids(
    documents: Sequence[NDArray[np.int64]], vocab_size: int, *, cap_per_document: int | None = None
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return occurrences and document frequencies of every id.

    Args:
        documents: [T] int64 ids of each document, all in [0, vocab_size).
        vocab_size: V.
        cap_per_document: An id counts at most so often in one document.

    Returns:
        Two vectors, [V] int64.
    """
    lengths = [ids.size for ids in documents]
    ids = np.concatenate([np.empty(0, dtype=np.int64), *documents])
    # one number for every pair of document and id, so that one sort finds them all
    pairs = np.repeat(np.arange(len(documents), dtype=np.int64), lengths) * vocab_size + ids
    distinct, times = np.unique(pairs, return_counts=True)
    owners = distinct % vocab_size
    document_frequency = np.bincount(owners, minlength=vocab_size).astype(np.int64)
    if cap_per_document is None:
        return np.bincount(ids, minlength=vocab_size).astype(np.int64), document_frequency
    capped = np.zeros(vocab_size, dtype=np.int64)
    np.add.at(capped, owners, np.minimum(times, cap_per_document))
    return capped, document_frequency


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
        cls, path: Path, *, role: str = "assistant", cap_per_document: int | None = None
    ) -> BatchCounter:
        """Open the tokenizer at `path`; a worker process does this once.

        Raises:
            TokenizerError: There is none, or a file of it is damaged.
            CalibrationError: No such role, or a cap below 1.
        """
        return cls(Tokenizer.open(path), role=role, cap_per_document=cap_per_document)

    def nothing(self, domains: Iterable[str] = ()) -> TokenCounts:
        """Return counts of nothing, by domain too, to which batches are added."""
        parts = {name: self._counts([]) for name in domains}
        return self._counts([], parts)

    def count(
        self, contents: Sequence[Content], domains: Sequence[frozenset[str]] | None = None
    ) -> BatchCounts:
        """Count a batch.

        Args:
            contents: What each document holds.
            domains: The domains that each document belongs to; None: to none.
        """
        warnings: Counter[str] = Counter()
        encoded = self._encode(contents, warnings)
        filled = [position for position, ids in enumerate(encoded) if ids.size]
        named = domains if domains is not None else [frozenset[str]()] * len(contents)
        parts = {
            name: self._counts([encoded[one] for one in filled if name in named[one]])
            for name in sorted(frozenset[str]().union(*named))
        }
        counts = self._counts([encoded[one] for one in filled], parts)
        return BatchCounts(counts, len(encoded) - len(filled), warnings)

    def _encode(
        self, contents: Sequence[Content], warnings: Counter[str]
    ) -> list[NDArray[np.int64]]:
        """Return the ids that count of each document, and add to `warnings`."""
        texts = [content for content in contents if isinstance(content, str)]
        chats = [content for content in contents if isinstance(content, Conversation)]
        of_texts = iter(self.tokenizer.encode_batch(texts))
        of_chats = iter(self._chat.encode_batch(chats))
        encoded = []
        for content in contents:
            if isinstance(content, str):
                encoded.append(next(of_texts))
            elif isinstance(content, Conversation):
                tokens = next(of_chats)
                warnings.update(set(tokens.warnings))
                encoded.append(tokens.counted_ids)
            else:
                encoded.append(content)
        return encoded

    def _counts(
        self,
        documents: Sequence[NDArray[np.int64]],
        parts: Mapping[str, TokenCounts] | None = None,
    ) -> TokenCounts:
        tokenizer = self.tokenizer
        counts, frequency = count_ids(documents, tokenizer.vocab_size, cap_per_document=self._cap)
        return TokenCounts(
            counts,
            frequency,
            len(documents),
            tokenizer.fingerprint,
            self.special,
            dict(parts or {}),
        )
