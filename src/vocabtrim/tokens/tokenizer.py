"""A tokenizer from its files: text to ids, and which tokenizer it is.

The reference is the `tokenizers` library on the model's own `tokenizer.json`, so
ids are those of the model by construction. Everything in that file that would
make counts wrong without a word is switched off: padding, truncation, BPE
dropout, and the post-processor, which adds special tokens and shortens offsets.
Batches go through something faster with the same ids: gigatoken, where it is
asked for and agrees (`agreement.py`), else tables of words (`encoders.py`).

The fingerprint is of the id-to-token list alone. Draft vocabularies are lists
of ids, so two tokenizers may share them exactly when the same id is the same
token; merges, normalisers and JSON formatting do not enter, and a GGUF file,
which holds the same list, has the same fingerprint.

Names on a hub and built-in names are resolved to a directory by the caller.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from functools import cached_property
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import AddedToken
from tokenizers import Tokenizer as Backend

from vocabtrim.core.errors import MissingExtra, TokenizerError
from vocabtrim.tokens.agreement import ComparedEncoder
from vocabtrim.tokens.cuts import find_cuts
from vocabtrim.tokens.declared import Declared, read_declared
from vocabtrim.tokens.encoders import Encoder, Reference, WordEncoder, slices
from vocabtrim.tokens.gigatoken_backend import GigatokenEncoder
from vocabtrim.tokens.id_tables import Flat

BACKENDS = ("auto", "gigatoken", "tokenizers")
"""What encodes batches; "auto": gigatoken where it is installed and takes the tokenizer."""

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


class Tokenizer:
    """Text to ids and back, with what its files declare.

    Args:
        backend: The loaded tokenizer; it is changed in place.
        declared: What the files beside it say.
        warnings: What is known to be wrong with its own file.

    Attributes:
        vocab_size: V, the largest id + 1, added tokens included.
        special_tokens: Name to text, as in `eos_token`.
        eos_ids: Ids that end a generation by one of the files, ascending.
        added_ids: Ids of all added and special tokens, ascending.
        chat_template: Jinja source, or None.
        warnings: What the files say that cannot be true of this tokenizer.
        backend: What encodes batches, with its version.
        backend_reason: Why it is not gigatoken though that was asked for where
            possible; empty where it was not, or is.
    """

    def __init__(
        self, backend: Backend, declared: Declared, *, warnings: Sequence[str] = ()
    ) -> None:
        backend.no_padding()
        backend.no_truncation()
        backend.post_processor = None
        if getattr(backend.model, "dropout", None) is not None:
            backend.model.dropout = None
        self._backend = backend
        unplaced = _add_tokens(backend, declared)
        ids = backend.get_vocab(with_added_tokens=True).values()
        if not ids:
            raise TokenizerError("a tokenizer without tokens cannot be used")
        self.vocab_size = max(ids) + 1
        self.special_tokens = dict(declared.special_tokens)
        self.chat_template = declared.chat_template
        self._added = {
            token_id: token.content
            for token_id, token in sorted(backend.get_added_tokens_decoder().items())
        }
        self.added_ids = tuple(self._added)
        self.eos_ids, unknown = self._known_eos(declared)
        self.warnings = (*warnings, *unplaced, *unknown)
        self.backend = f"tokenizers {version('tokenizers')}"
        self.backend_reason = ""

    @classmethod
    def open(cls, path: Path, *, backend: str = "tokenizers") -> Tokenizer:
        """Open a directory with a `tokenizer.json`, or that file itself.

        Nothing is encoded yet and no thread started, so that a process may open
        a tokenizer and then fork.

        Args:
            path: The directory or the file.
            backend: One of `BACKENDS`.

        Raises:
            TokenizerError: There is none, or a file is damaged; or gigatoken was
                asked for by name and does not take it.
            MissingExtra: gigatoken was asked for by name and is not installed.
        """
        if backend not in BACKENDS:
            raise TokenizerError(
                f"the backend must be one of {', '.join(BACKENDS)}, found {backend!r}"
            )
        file = path / "tokenizer.json" if path.is_dir() else path
        if not file.is_file():
            missing = (
                "there is no tokenizer.json in it" if path.is_dir() else "there is no such file"
            )
            raise TokenizerError(f"{path} cannot be opened as a tokenizer: {missing}")
        try:
            text = file.read_text(encoding="utf-8")
            reference = Backend.from_str(text)
        except Exception as fault:
            # tokenizers raises bare Exception for every text that it does not take
            raise TokenizerError(f"{file} is not a usable tokenizer.json ({fault})") from fault
        renumbered = _renumbered(text, reference)
        made = cls(reference, read_declared(file.parent), warnings=renumbered)
        if backend != "tokenizers":
            made._use_gigatoken(required=backend == "gigatoken")
        return made

    @cached_property
    def fingerprint(self) -> str:
        """The identity of the id-to-token list; see `fingerprint_tokens`."""
        return fingerprint_tokens([self.token(one) for one in range(self.vocab_size)])

    def token(self, token_id: int) -> str | None:
        """Return the token as the vocabulary spells it, or None for a hole."""
        token: str | None = self._backend.id_to_token(token_id)
        return token

    def added_text(self, token_id: int) -> str | None:
        """Return the text that an added token stands for, None for another token.

        Text is split at added tokens before anything else happens to it.
        """
        return self._added.get(token_id)

    def id_of(self, token: str) -> int | None:
        """Return the id of a token as the vocabulary spells it, or None."""
        token_id: int | None = self._backend.token_to_id(token)
        return token_id

    def token_text(self, token_id: int) -> str:
        """Return what a reader sees of the token.

        Parts of a character have no text of their own and are returned as the
        vocabulary spells them.
        """
        token = self.token(token_id)
        if token is None:
            return f"<no token {token_id}>"
        text: str = self._backend.decode([token_id], skip_special_tokens=False)
        return token if not text or REPLACEMENT in text else text

    def encode(self, text: str) -> NDArray[np.int64]:
        """Return the ids of `text`, [T] int64, without special tokens around it."""
        return np.array(self._backend.encode(text, add_special_tokens=False).ids, dtype=np.int64)

    def encode_batch(self, texts: Sequence[str]) -> list[NDArray[np.int64]]:
        """Return the ids of each text, as `encode` does; raises as `encode_flat`."""
        ids, lengths = self.encode_flat(texts)
        whole = ids.astype(np.int64, copy=False)
        return np.split(whole, np.cumsum(lengths)[:-1]) if len(texts) else []

    def encode_flat(self, texts: Sequence[str]) -> Flat:
        """Return the ids of all texts as one array, the fastest way.

        Returns:
            [T] integers, the ids of the first text, then those of the second and
            so on; and [n] int64, how many each has.

        Raises:
            BackendMismatch: gigatoken encodes and differs from the reference on a
                sample of the texts. What was encoded before may be wrong, too.
        """
        return self._encoder.encode_flat(texts)

    def encode_with_offsets(self, text: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return ids [T] int64 and offsets [T, 2] int64.

        Offsets are the first character of `text` that a token covers and the
        one after its last. The tokens of a character that takes several of
        them each have the whole character.
        """
        return self.encode_batch_with_offsets([text])[0]

    def decode(self, ids: Sequence[int] | NDArray[np.int64]) -> str:
        """Return the text of ids, special tokens left out."""
        text: str = self._backend.decode([int(one) for one in ids], skip_special_tokens=True)
        return text

    def encode_batch_with_offsets(
        self, texts: Sequence[str]
    ) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """Return what `encode_with_offsets` does for each text, on all cores."""
        return [
            (
                np.array(encoding.ids, dtype=np.int64),
                np.array(encoding.offsets, dtype=np.int64).reshape(-1, 2),
            )
            for run in slices(texts)
            for encoding in self._backend.encode_batch(run, add_special_tokens=False)
        ]

    @cached_property
    def _encoder(self) -> Encoder:
        reference = Reference(self._backend)
        cuts = find_cuts(self._backend)
        return reference if cuts is None else WordEncoder(reference, cuts)

    def _use_gigatoken(self, *, required: bool) -> None:
        reference = Reference(self._backend)
        try:
            fast = GigatokenEncoder(self._backend.to_str(), reference)
        except (MissingExtra, TokenizerError) as fault:
            if required:
                raise
            self.backend_reason = str(fault)
            return
        self.backend = fast.name
        self._encoder = ComparedEncoder(fast, reference, self.vocab_size, name=fast.name)

    def _known_eos(self, declared: Declared) -> tuple[tuple[int, ...], list[str]]:
        known: set[int] = set()
        warnings: list[str] = []
        for name, ids in declared.eos_ids.items():
            for token_id in ids:
                if 0 <= token_id < self.vocab_size and self.token(token_id) is not None:
                    known.add(token_id)
                else:
                    warnings.append(
                        f"{name} names EOS id {token_id}, which the tokenizer's "
                        f"{self.vocab_size} ids do not have; it is left out"
                    )
        eos_token = self.special_tokens.get("eos_token")
        if eos_token is not None:
            spelled = self.id_of(eos_token)
            if spelled is None:
                warnings.append(f"the EOS token {eos_token!r} has no id; it is left out")
            else:
                known.add(spelled)
        return tuple(sorted(known)), warnings


def fingerprint_tokens(tokens: Sequence[str | None]) -> str:
    """Return "sha256:…" of an id-to-token list.

    The digest is over the list as compact ASCII JSON, holes as null, none at
    the end: padding a vocabulary does not make it another.

    Args:
        tokens: [V] tokens as the vocabulary spells them; None for a hole.
    """
    length = len(tokens)
    while length and tokens[length - 1] is None:
        length -= 1
    document = json.dumps(list(tokens[:length]), separators=(",", ":"))
    return "sha256:" + hashlib.sha256(document.encode("ascii")).hexdigest()


def fingerprint_of(path: Path) -> str | None:
    """Return the fingerprint of the tokenizer at `path`, None where there is none.

    Args:
        path: A directory or a `tokenizer.json`; of any other file, None.

    Raises:
        TokenizerError: There is one, but it is damaged.
    """
    if path.is_dir():
        there = (path / "tokenizer.json").is_file()
        return Tokenizer.open(path).fingerprint if there else None
    if not path.is_file():
        return None
    with path.open("rb") as stream:
        head = stream.read(64)
    # a safetensors header is JSON too, but behind a length with zero bytes in it
    is_json = head.lstrip().startswith(b"{") and b"\0" not in head
    return Tokenizer.open(path).fingerprint if is_json else None


# tokens with such text would be spelled with backslashes before the quotation marks
_ADDED_TOKENS = re.compile(r'"added_tokens"\s*:\s*(?=\[)')


def _renumbered(text: str, backend: Backend) -> list[str]:
    """Return a warning where the library gave added tokens other ids than their file.

    It numbers them on from the vocabulary and closes gaps without a word, here
    and in everything that is built on it.
    """
    # the rest of the file, a hundred times as long, has been parsed already
    place = _ADDED_TOKENS.search(text)
    listed = json.JSONDecoder().raw_decode(text, place.end())[0] if place else []
    moved = [
        token["content"] for token in listed if backend.token_to_id(token["content"]) != token["id"]
    ]
    if not moved:
        return []
    return [
        f"{len(moved)} added tokens, {moved[0]!r} first, have other ids than tokenizer.json says: "
        "the tokenizers library numbers them without gaps"
    ]


def _add_tokens(backend: Backend, declared: Declared) -> list[str]:
    """Add tokens that only tokenizer_config.json declares; return warnings."""
    present = backend.get_added_tokens_decoder()
    missing = {one: token for one, token in declared.added_tokens.items() if one not in present}
    if not missing:
        return []
    warnings = []
    vocabulary = backend.get_vocab(with_added_tokens=True)
    following = max(vocabulary.values(), default=-1) + 1
    for token_id, fields in sorted(missing.items()):
        content = fields["content"]
        if vocabulary.get(content, following) != token_id:
            warnings.append(
                f"tokenizer_config.json gives {content!r} the id {token_id}, which "
                "tokenizer.json does not leave free; it is left out"
            )
            continue
        following = max(following, token_id + 1)
        flags = {
            name: fields[name]
            for name in ("single_word", "lstrip", "rstrip", "normalized")
            if isinstance(fields.get(name), bool)
        }
        special = fields.get("special") is True
        add = backend.add_special_tokens if special else backend.add_tokens
        add([AddedToken(content, special=special, **flags)])
    return warnings
