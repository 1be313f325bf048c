"""Whether a fast encoder has the reference's ids: compared on the very data.

A sample of every run is encoded by both: as much of the first texts as takes the
reference a fraction of a second, then a small share of what follows. What is
compared is chosen, not drawn: of each batch, the texts with the most ids that no
comparison has met yet, and of a long text the part around the first of those.
A difference shows where something is new.

The first difference is an error. What has been encoded before cannot be trusted
either, so whoever counts begins again with the reference.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vocabtrim.core.errors import BackendMismatch
from vocabtrim.tokens.encoders import Encoder
from vocabtrim.tokens.id_tables import Flat

FIRST_CHARACTERS = 1 << 17
SHARE = 1 / 4000
EXCERPT_CHARACTERS = 1 << 13
SHORT_CHARACTERS = 40


class ComparedEncoder:
    """A fast encoder that is held to a reference.

    Args:
        fast: Whose ids are returned.
        reference: Whose ids they must be.
        vocab_size: V.
        name: What the fast one is called, for the error.
    """

    def __init__(self, fast: Encoder, reference: Encoder, vocab_size: int, *, name: str) -> None:
        self._fast, self._reference, self._name = fast, reference, name
        self._met = np.zeros(vocab_size, dtype=np.bool_)
        self._seen = self._compared = 0

    def encode_flat(self, texts: Sequence[str]) -> Flat:
        """Return the ids of all texts and the number of each.

        Raises:
            BackendMismatch: The two encoders differ on a text of the sample.
        """
        ids, lengths = self._fast.encode_flat(texts)
        self._seen += sum(map(len, texts))
        if self._left > 0 and any(texts):
            self._compare(texts, ids, lengths)
        return ids, lengths

    @property
    def _left(self) -> float:
        """Characters that may be compared by now."""
        return FIRST_CHARACTERS + SHARE * self._seen - self._compared

    def _compare(self, texts: Sequence[str], ids: NDArray[Any], lengths: NDArray[np.int64]) -> None:
        ends = np.cumsum(lengths)
        new = np.concatenate([[0], np.cumsum(~np.take(self._met, ids, mode="clip"))])
        news = new[ends] - new[ends - lengths]
        chosen, found = [], []
        for position in np.argsort(-news, kind="stable"):
            if self._left <= 0:
                break
            text, stop = texts[position], ends[position]
            own = ids[stop - lengths[position] : stop]
            if len(text) > EXCERPT_CHARACTERS:
                text = self._excerpt(text, own)
                own = self._fast.encode_flat([text])[0]
            self._compared += len(text)
            chosen.append(text)
            found.append(own)
        expected, sizes = self._reference.encode_flat(chosen)
        self._met[expected] = True
        for text, own, right in zip(
            chosen, found, np.split(expected, np.cumsum(sizes)[:-1]), strict=True
        ):
            if not np.array_equal(own, right):
                raise self._mismatch(text)

    def _excerpt(self, text: str, ids: NDArray[Any]) -> str:
        """Return the part of a text around the first id that no comparison has met."""
        first = int(np.argmin(np.take(self._met, ids, mode="clip")))
        place = len(text) * first // max(ids.size, 1)
        start = min(max(0, place - EXCERPT_CHARACTERS // 2), len(text) - EXCERPT_CHARACTERS)
        return text[start : start + EXCERPT_CHARACTERS]

    def _mismatch(self, text: str) -> BackendMismatch:
        """Return the error for a text, shortened as long as the encoders differ on it."""
        while len(text) > SHORT_CHARACTERS:
            half, quarter = len(text) // 2, len(text) // 4
            parts = (
                *(text[:half], text[half:], text[quarter : quarter + half]),
                *(text[quarter:], text[:-quarter]),
            )
            shorter = next((part for part in parts if self._differ(part)), None)
            if shorter is None:
                break
            text = shorter
        found, expected = (
            encoder.encode_flat([text])[0].tolist() for encoder in (self._fast, self._reference)
        )
        return BackendMismatch(self._name, text, found=found, expected=expected)

    def _differ(self, text: str) -> bool:
        return not np.array_equal(
            self._fast.encode_flat([text])[0], self._reference.encode_flat([text])[0]
        )
