"""gigatoken: a hundred times the speed of `tokenizers`, where it takes a tokenizer.

It is handed the reference's own state, so that both encode by the same file.
They are known to differ in one thing: gigatoken 0.10 takes the letters that
Unicode 17 added for letters, tokenizers 0.23 does not know them yet. Texts with
one of those go to the reference. That there is no other difference is compared
on every run (`agreement.py`), not assumed.

Texts are handed over one by one: `encode` returns an array without a copy, and
remembers words from call to call, which `encode_batch` does not for all kinds of
tokenizers. Everything runs on the calling thread, so processes share the cores.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vocabtrim.core.errors import MissingExtra, TokenizerError
from vocabtrim.tokens.encoders import Encoder
from vocabtrim.tokens.id_tables import Flat

# First and last of the runs in which the two libraries part, found by comparing them
# on every character of Unicode (a proof in `tests/unit/tokens/` repeats it).
NEW_LETTERS = (
    *((0x088F, 0x088F), (0x0C5C, 0x0C5C), (0x0CDC, 0x0CDC), (0xA7CE, 0xA7CF), (0xA7D2, 0xA7D2)),
    *((0xA7D4, 0xA7D4), (0xA7F1, 0xA7F1), (0x10940, 0x10959), (0x10EC5, 0x10EC7)),
    *((0x11DB0, 0x11DDB), (0x11DE0, 0x11DE9), (0x16EA0, 0x16EB8), (0x16EBB, 0x16ED3)),
    *((0x16FF2, 0x16FF6), (0x187F8, 0x187FF), (0x18D09, 0x18D1E), (0x18D80, 0x18DF2)),
    *((0x1E6C0, 0x1E6DE), (0x1E6E0, 0x1E6E2), (0x1E6E4, 0x1E6E5), (0x1E6E7, 0x1E6ED)),
    *((0x1E6F0, 0x1E6F4), (0x1E6FE, 0x1E6FF), (0x2B73A, 0x2B73F), (0x2CEA2, 0x2CEAD)),
    (0x323B0, 0x33479),
)


class GigatokenEncoder:
    """Encodes with gigatoken what it and the reference are known to agree on.

    Args:
        document: The text of `tokenizer.json`.
        reference: Encodes texts with letters that gigatoken alone knows.

    Raises:
        MissingExtra: gigatoken is not installed.
        TokenizerError: It does not take this tokenizer.
    """

    def __init__(self, document: str, reference: Encoder) -> None:
        try:
            from gigatoken import Tokenizer
        except ImportError as fault:
            raise MissingExtra("gigatoken is not installed", "fast") from fault
        try:
            self._backend = Tokenizer.from_json(document)
        except Exception as fault:
            # it raises whatever its parser meets, mostly RuntimeError with a trace behind it
            reason = str(fault).strip().partition("\n")[0]
            raise TokenizerError(f"gigatoken does not take this tokenizer ({reason})") from fault
        self._reference = reference
        self._new_letters = np.zeros(0x110000, dtype=np.bool_)
        for first, last in NEW_LETTERS:
            self._new_letters[first : last + 1] = True

    @property
    def name(self) -> str:
        """The library and its version."""
        return f"gigatoken {version('gigatoken')}"

    def encode_flat(self, texts: Sequence[str]) -> Flat:
        """Return the ids of all texts, [T] uint32, and the number of each."""
        found: list[NDArray[Any]] = [np.empty(0, dtype=np.uint32)]
        for text in texts:
            if text.isascii() or not self._has_new_letters(text):
                found.append(self._backend.encode(text))
            else:
                found.append(self._reference.encode_flat([text])[0].astype(np.uint32))
        lengths = np.fromiter((ids.size for ids in found[1:]), np.int64, len(texts))
        return np.concatenate(found), lengths

    def _has_new_letters(self, text: str) -> bool:
        codes = np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32)
        # most of what is not ASCII lies before the first of them
        beyond = codes[codes >= NEW_LETTERS[0][0]]
        return bool(self._new_letters[beyond].any())
