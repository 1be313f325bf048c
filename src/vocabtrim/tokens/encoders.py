"""What encodes batches of text: the reference, and the reference asked less often.

`Reference` is the `tokenizers` library. `WordEncoder` has the same ids: it cuts
text where that is proved to be exact (`cuts.py`) and looks the pieces up in a
table; what is new is cut into words, which are looked up again, and only words
that have not been met are encoded by the reference. Text repeats itself, so those
are few (`id_tables.py`).

Both hold what they need for a bounded run of text, however much they are given;
a text that cannot be cut is held as a whole.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from vocabtrim.tokens.cuts import Cuts
from vocabtrim.tokens.id_tables import PADDING, PIECE_BYTES, Flat, PieceTable, WordTable

SLICE_CHARACTERS = 1 << 20
RUN_BYTES = PIECE_BYTES // 2


class Encoder(Protocol):
    """Encodes texts as the tokenizer does, without special tokens around them."""

    def encode_flat(self, texts: Sequence[str]) -> Flat:
        """Return the ids of all texts and the number of each."""
        ...


class Reference:
    """The `tokenizers` library, on all cores that it is left."""

    def __init__(self, backend: Tokenizer) -> None:
        self._backend = backend
        self._model = backend.model

    def encode_flat(self, texts: Sequence[str]) -> Flat:
        """Return the ids of all texts and the number of each."""
        parts = [_flat([])]
        for run in slices(texts):
            encodings = self._backend.encode_batch_fast(run, add_special_tokens=False)
            parts.append(_flat([encoding.ids for encoding in encodings]))
        ids, lengths = zip(*parts, strict=True)
        return np.concatenate(ids), np.concatenate(lengths)

    def encode_pre_token(self, pre_token: str) -> list[int]:
        """Return the ids of a pre-token, spelled as the model has it."""
        return [token.id for token in self._model.tokenize(pre_token)]


class WordEncoder:
    """A reference that is asked once for each piece of text.

    Args:
        reference: Encodes what has not been met.
        cuts: Where its tokenizer lets text be cut.
    """

    def __init__(self, reference: Reference, cuts: Cuts) -> None:
        self._reference, self._cuts = reference, cuts
        self._words = WordTable(self._encode_words)
        self._pieces = PieceTable(self._encode_pieces)
        self._lock = threading.Lock()

    def encode_flat(self, texts: Sequence[str]) -> Flat:
        """Return the ids of all texts and the number of each."""
        found: list[NDArray[np.int64]] = [np.empty(0, dtype=np.int64)]
        lengths = np.zeros(len(texts), dtype=np.int64)
        run = _Run()
        with self._lock:
            for owner, text in enumerate(texts):
                is_uncut = self._cuts.is_uncut(text)
                for part in [text.encode()] if is_uncut else self._parts(text.encode()):
                    run.add(owner, part, is_uncut=is_uncut)
                    if run.size >= RUN_BYTES:
                        found.append(self._encode_run(run, lengths))
                        run = _Run()
            found.append(self._encode_run(run, lengths))
        return np.concatenate(found), lengths

    def _parts(self, data: bytes) -> Iterator[bytes]:
        """Yield a text in parts no longer than a run, or of a single longer piece."""
        start, length = 0, RUN_BYTES
        while len(data) - start > RUN_BYTES:
            window = np.frombuffer(data[start : start + length + 1], dtype=np.uint8)
            cuts = np.flatnonzero(self._cuts.places(window))[1:]
            if cuts.size:
                stop = start + int(cuts[-1 if length == RUN_BYTES else 0])
                yield data[start:stop]
                start, length = stop, RUN_BYTES
            elif start + length < len(data):
                length *= 2
            else:
                break
        yield data[start:]

    def _encode_run(self, run: _Run, lengths: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the ids of a run and add to the `lengths` of its texts."""
        if not run.size:
            return np.empty(0, dtype=np.int64)
        data = run.data()
        places = self._cuts.places(np.frombuffer(data, dtype=np.uint8)[: run.size])
        for start, stop in run.uncut:
            places[start:stop] = False
        places[run.starts] = True
        starts = np.flatnonzero(places)
        ids, sizes = self._pieces.encode_flat(data, starts, run.size)
        before = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(sizes)])
        firsts = np.searchsorted(starts, [*run.starts, run.size])
        np.add.at(lengths, run.owners, np.diff(before[firsts]))
        return ids

    def _encode_pieces(self, pieces: Sequence[str]) -> Flat:
        words = self._cuts.words(pieces)
        ids, lengths = self._words.encode_flat(words)
        # words lie end to end as the pieces do, so characters tell whose they are
        places = np.searchsorted(_ends(words), _ends(pieces), side="right")
        before = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(lengths)])
        return ids, np.diff(before[places], prepend=0)

    def _encode_words(self, words: Sequence[str]) -> Flat:
        """Return the ids of words, of pre-tokens without the way up to the model."""
        cuts = self._cuts
        if cuts.word is None:
            return self._reference.encode_flat(words)
        known = list(map(cuts.is_pre_token, words))
        whole = [word for word, is_known in zip(words, known, strict=True) if not is_known]
        ids, lengths = self._reference.encode_flat(whole)
        of_whole = iter(np.split(ids, np.cumsum(lengths)))
        return _flat(
            [
                self._reference.encode_pre_token(word.translate(cuts.spelled))
                if is_known
                else next(of_whole).tolist()
                for word, is_known in zip(words, known, strict=True)
            ]
        )


class _Run:
    """Parts of consecutive texts that are encoded together.

    Attributes:
        size: Their bytes.
        starts: Where each begins.
        owners: Which text each belongs to.
        uncut: From where to where nothing may be cut.
    """

    def __init__(self) -> None:
        self.size = 0
        self.starts: list[int] = []
        self.owners: list[int] = []
        self.uncut: list[tuple[int, int]] = []
        self._parts: list[bytes] = []

    def add(self, owner: int, part: bytes, *, is_uncut: bool) -> None:
        """Add a part of a text."""
        if not part:
            return
        self.starts.append(self.size)
        self.owners.append(owner)
        self._parts.append(part)
        if is_uncut:
            self.uncut.append((self.size, self.size + len(part)))
        self.size += len(part)

    def data(self) -> bytes:
        """Return all parts, and zero bytes as a `PieceTable` wants them."""
        return b"".join([*self._parts, bytes(PADDING + -self.size % 8)])


def slices(texts: Iterable[str]) -> Iterator[list[str]]:
    """Yield the texts in runs that are long enough for all cores and no longer.

    The library's encodings take more than a hundred bytes a character, and some
    hundred a text, so only those of one run are held at a time.
    """
    run: list[str] = []
    length = 0
    for text in texts:
        run.append(text)
        length += len(text)
        if length >= SLICE_CHARACTERS:
            yield run
            run, length = [], 0
    if run:
        yield run


def _flat(lists: Sequence[list[int]]) -> Flat:
    lengths = np.fromiter(map(len, lists), np.int64, len(lists))
    return np.fromiter(chain.from_iterable(lists), np.int64, int(lengths.sum())), lengths


def _ends(texts: Sequence[str]) -> NDArray[np.int64]:
    """Return where each of several texts ends if they lie end to end, [n] int64."""
    return np.cumsum(np.fromiter(map(len, texts), np.int64, len(texts)))
