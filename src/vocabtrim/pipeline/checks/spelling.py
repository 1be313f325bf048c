"""The tokenizers of drafter and target, id by id: is an id the same token in both?

Fingerprints say only whether two lists are equal. A drafter's may be shorter than
its target's, where tokens were added later; a GGUF file writes the spaces of some
tokens as spaces; holes are filled with names that stand for nothing. None of that
makes an id another token, so lists are compared where both are at hand.

What a chat template writes is known once it is rendered, and a template may take for
ever. The target's is rendered; that of a drafter, which is the file in doubt, is not.

A tokenizer of 262,144 tokens takes half a gigabyte while it is open: one is opened
at a time, none twice, and none at all whose file is that of another, byte for byte.
"""

from __future__ import annotations

import filecmp
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from vocabtrim.core.errors import VocabtrimError
from vocabtrim.tensors.checkpoint import Checkpoint
from vocabtrim.tensors.gguf_model import GgufModel
from vocabtrim.tokens.must_keep import special_ids
from vocabtrim.tokens.tokenizer import Tokenizer, fingerprint_tokens

DRAFTER, TARGET = "the drafter", "the target"
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")

Model = Checkpoint | GgufModel
Tokens = Sequence[str | None]

RENAMED = 0.01
"""Share of ids below which two lists may be versions of one: reserved tokens get names."""

_SPACE = "\N{LOWER ONE EIGHTH BLOCK}"


@dataclass(frozen=True)
class Written:
    """What a tokenizer's files say of its ids.

    Args:
        ends: Ids that end a generation.
        template: Added tokens that the target's chat template writes in an answer.
    """

    ends: frozenset[int]
    template: frozenset[int]


@dataclass(frozen=True, eq=False)
class Spelling:
    """The tokenizers of a drafter and of its target, read once.

    Args:
        drafter: The drafter, where it is one.
        target: The target, where it was given.
    """

    drafter: Model | None
    target: Model | None

    @property
    def tokens(self) -> Mapping[str, Tokens]:
        """Id-to-token lists by whose they are; of those that there are and that can be read."""
        return self._read[0]

    @property
    def damaged(self) -> Mapping[str, str]:
        """Why a tokenizer that is there cannot be read, by whose it is."""
        return self._read[1]

    @property
    def written(self) -> Written | None:
        """What files say of the ids: the target's, else the drafter's; None where none do."""
        return self._read[2]

    @cached_property
    def fingerprints(self) -> Mapping[str, str]:
        """Fingerprints of the lists, by whose they are."""
        return {role: fingerprint_tokens(tokens) for role, tokens in self.tokens.items()}

    @cached_property
    def size(self) -> int | None:
        """Ids that stand for a token, the padding left out: the target's, else the drafter's."""
        tokens = self.tokens.get(TARGET, self.tokens.get(DRAFTER))
        return None if tokens is None else length_of(tokens)

    @cached_property
    def _read(self) -> tuple[dict[str, Tokens], dict[str, str], Written | None]:
        found: dict[str, Tokens] = {}
        damaged: dict[str, str] = {}
        written: Written | None = None
        for role, model in self._models():
            if role == DRAFTER and TARGET in found and _same_files(model, self.target):
                found[role] = found[TARGET]
                continue
            try:
                if isinstance(model, GgufModel):
                    found[role] = model.tokens()
                    continue
                tokenizer = Tokenizer.open(model.path)
                found[role] = [tokenizer.token(one) for one in range(tokenizer.vocab_size)]
                if written is None:
                    written = _written(tokenizer, template=role == TARGET)
            except VocabtrimError as fault:
                damaged[role] = str(fault)
        return found, damaged, written

    def _models(self) -> Iterator[tuple[str, Model]]:
        for role, model in ((TARGET, self.target), (DRAFTER, self.drafter)):
            if model is not None and _has_tokenizer(model):
                yield role, model


@dataclass(frozen=True)
class Differing:
    """Where two lists of tokens differ.

    Args:
        compared: Ids that both have.
        ids: Those that are other tokens, ascending.
        moved: How many of these tokens the other list has under another id.
    """

    compared: int
    ids: tuple[int, ...]
    moved: int

    @property
    def renamed(self) -> bool:
        """Whether they are versions of one: few ids, and only of tokens that got other names."""
        return not self.moved and len(self.ids) < RENAMED * self.compared


def compare_tokens(one: Tokens, other: Tokens) -> Differing:
    """Compare two lists as far as both reach; what is a hole in one is not compared."""
    compared, ids = 0, []
    for position, (a, b) in enumerate(zip(one, other, strict=False)):
        if a is None or b is None:
            continue
        compared += 1
        if a != b and a.replace(_SPACE, " ") != b.replace(_SPACE, " "):
            ids.append(position)
    elsewhere = set(other) if ids else set()
    return Differing(compared, tuple(ids), sum(one[position] in elsewhere for position in ids))


def length_of(tokens: Tokens) -> int:
    """Return the ids of a list without the holes that pad it."""
    return next((at + 1 for at in reversed(range(len(tokens))) if tokens[at] is not None), 0)


def _written(tokenizer: Tokenizer, *, template: bool) -> Written:
    if not template:
        return Written(frozenset(tokenizer.eos_ids), frozenset())
    special = special_ids(tokenizer)
    return Written(frozenset(special.eos), frozenset(special.template))


def _same_files(one: Model, other: Model | None) -> bool:
    """Return whether two directories have a tokenizer of the same bytes."""
    if not (isinstance(one, Checkpoint) and isinstance(other, Checkpoint)):
        return False
    pairs = [(one.path / name, other.path / name) for name in TOKENIZER_FILES]
    present = [(a, b) for a, b in pairs if a.is_file() or b.is_file()]
    return all(a.is_file() and b.is_file() and filecmp.cmp(a, b, shallow=False) for a, b in present)


def _has_tokenizer(model: Model) -> bool:
    if isinstance(model, GgufModel):
        return bool(model.header.count("tokenizer.ggml.tokens"))
    return (model.path / TOKENIZER_FILES[0]).is_file()
