"""Where text may be cut so that its pieces can be encoded one by one.

A tokenizer cuts text itself, at added tokens and then into pre-tokens, and the
ids of a pre-token depend on nothing else. A place that is such a cut whatever
stands around it is a *safe cut*: the ids of a text are those of its pieces, one
after the other, so a piece that has been met before need not be encoded again.
Here a place is judged by the two bytes beside it, in UTF-8.

`find_cuts` recognises tokenizers for which safe cuts are proved; the proofs are
the comments below, and the tests compare them with the library on every
character of Unicode. Another tokenizer has none, and is used as it is.

Pieces of plain ASCII are cut further, into the very pre-tokens, by a regular
expression that does on ASCII what the tokenizer's does.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import AddedToken, Tokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel

_BETWEEN = "\uffff"  # no character, and in no expression below: a match ends before it
_UNDERSCORE = "\N{LOWER ONE EIGHTH BLOCK}"


@dataclass(frozen=True, eq=False)
class Cuts:
    """Where a tokenizer lets text be cut.

    Args:
        pairs: [256, 256] bool, whether text may be cut between two bytes.
        word: Finds the pre-tokens in pieces of ASCII with `_BETWEEN` between them;
            None where nothing is known below pieces.
        added: Occurs in every piece with an added token, which is no word.
        uncut: Occurs in every text that must be left whole.
        spelled: How the model has the bytes of ASCII, for `str.translate`.
    """

    pairs: NDArray[np.bool_]
    word: re.Pattern[str] | None = None
    added: re.Pattern[str] | None = None
    uncut: re.Pattern[str] | None = None
    spelled: Mapping[int, str] = field(default_factory=dict)

    def places(self, text: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """Return before which bytes of a text it may be cut, [n] bool; the first is one."""
        joints = text[:-1].astype(np.uint16) << 8 | text[1:]
        places = np.ones(text.size, dtype=np.bool_)
        places[1:] = self.pairs.ravel()[joints]
        return places

    def is_uncut(self, text: str) -> bool:
        """Whether a text must be left whole."""
        return self.uncut is not None and self.uncut.search(text) is not None

    def words(self, pieces: Sequence[str]) -> list[str]:
        """Return the pre-tokens of pieces, or a piece where they are not known.

        Laid end to end they are the pieces laid end to end.
        """
        if self.word is None:
            return list(pieces)
        words: list[str] = []
        for is_ascii, run in groupby(pieces, str.isascii):
            if not is_ascii:
                words += run
                continue
            joined = _BETWEEN.join(run)
            if self.added is None or not self.added.search(joined):
                words += self.word.findall(joined)
                continue
            for piece in joined.split(_BETWEEN):
                words += [piece] if self.added.search(piece) else self.word.findall(piece)
        return words

    def is_pre_token(self, word: str) -> bool:
        """Whether a word, as of `words`, is a pre-token and not a whole piece.

        The model takes a pre-token as it is, its bytes spelled as `spelled` says.
        """
        return word.isascii() and not (self.added and self.added.search(word))


def find_cuts(tokenizer: Tokenizer) -> Cuts | None:
    """Return where a tokenizer lets text be cut, None where nothing is proved of it."""
    normalizer, pre_tokenizer = _state(tokenizer.normalizer), _state(tokenizer.pre_tokenizer)
    added = list(tokenizer.get_added_tokens_decoder().values())
    # these are looked for in the normalised text, where they may be what the text is not
    if normalizer is not None and any(token.normalized for token in added):
        return None
    family = _FAMILIES.get(_steps(pre_tokenizer))
    if family is not None and normalizer in (None, {"type": "NFC"}):
        return _by_expression(*family, added)
    if normalizer == _SPACES_UNDERSCORED and pre_tokenizer in (None, _SPLIT_AT_SPACES):
        return _by_vocabulary(tokenizer, added)
    return None


# ── Added tokens ──────────────────────────────────────────────────────────────
#
# They are found before anything else, in all of the text: of those that begin
# first, the longest, and on from its end. Two bytes that stand together in one of
# them are no cut, so that none lies across a cut, and the same ones are found on
# either side as in the whole. What is between two of them is a text of its own,
# of which everything below is true.
#
# Tokens that take in or look at what is beside them (lstrip, rstrip, single_word)
# leave the texts that they occur in uncut.


def _around(
    added: Collection[AddedToken],
    pairs: NDArray[np.bool_],
    word: re.Pattern[str] | None = None,
    spelled: Mapping[int, str] | None = None,
) -> Cuts:
    """Return cuts at these pairs, and not in or across added tokens."""
    texts = {token.content for token in added}
    leaning = {one.content for one in added if one.lstrip or one.rstrip or one.single_word}
    return Cuts(pairs & ~_joints(texts), word, _any_of(texts), _any_of(leaning), spelled or {})


def _joints(texts: Collection[str]) -> NDArray[np.bool_]:
    """Return which bytes stand together in one of the texts, [256, 256] bool."""
    encoded = [text.encode() for text in texts]
    data = np.frombuffer(b"".join(encoded), dtype=np.uint8)
    within = np.ones(data.size, dtype=np.bool_)
    within[np.cumsum([0, *map(len, encoded)])[:-1]] = False
    joints = np.zeros((256, 256), dtype=np.bool_)
    joints[data[:-1][within[1:]], data[1:][within[1:]]] = True
    return joints


def _any_of(texts: Iterable[str]) -> re.Pattern[str] | None:
    spelled = sorted(re.escape(text) for text in texts)
    return re.compile("|".join(spelled)) if spelled else None


# ── Pre-tokenizers by regular expression ──────────────────────────────────────
#
# The expressions known here match at every place of every text, so a text falls
# into matches without gaps, each found from where the one before it ends, and
# none looks back: behind a place where a match ends, whatever its text, nothing
# depends on what came before. Let "white" be what \s matches.
#
# (1) A match ends between a character that is not white and one that is, \r and
#     \n set aside in LLAMA3 and QWEN2. For in a match white space is the first
#     character or stands among white space alone; only [\r\n]* of those two takes
#     it behind something else.
# (2) A match ends between a letter and what is not one. For behind a letter,
#     every alternative takes letters alone.
#
# What follows such a cut has no say in the matches before it, either: they could
# not have gone on, and only `\s+(?!\S)` looks ahead, from white space, which is
# followed by a character on this side of the cut. So both sides are matched as if
# they were alone.
#
# NFC comes before. White space composes with nothing, reorders with nothing, and
# is in no other character's normal form. ASCII composes with nothing before it;
# what it becomes with something behind it is no letter if it was none. So the two
# sides are normalised as if they were alone, and (1), and (2) between an ASCII
# letter and other ASCII, hold of the normalised text at the same place.
#
# `Digits` before an expression cuts around every digit. At a cut by (1) or (2)
# that leaves parts of which (1) or (2) is true again, or the cut is one of its own.
#
# Words: on ASCII, \p{L} is [A-Za-z], \p{N} is [0-9] and \s is [\t-\r ], so `word`
# makes the tokenizer's matches. Each, standing alone, is matched whole again: an
# alternative that takes less of it, or comes earlier, would have done so in the
# text as well, but for `\s+(?!\S)`, which yields to `\s+` there and takes the
# same here. NFC leaves ASCII as it is.

# `\s` of the tokenizers library; Python's has U+001C to U+001F besides.
_WHITE = (
    *"\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000",
    *map(chr, range(0x2000, 0x200B)),
)


def _word_ends(*, set_aside: str = "") -> NDArray[np.bool_]:
    """Return the pairs of (1) and (2), white space `set_aside` in (1), [256, 256] bool."""
    byte = np.arange(256)
    white = np.isin(byte, [ord(one) for one in _WHITE if one.isascii()])
    # the last byte of a character does not tell which it is, but of these it may be
    not_white = ~np.isin(byte, [one.encode()[-1] for one in _WHITE])
    letter = np.isin(byte, [*b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"])
    taken = white & ~np.isin(byte, [*set_aside.encode()])
    pairs: NDArray[np.bool_] = np.outer(not_white, taken) | np.outer(
        letter, (byte < 0x80) & ~letter
    )
    return pairs


_WORD_GPT2 = re.compile(
    r"'(?:[sdmt]|ll|ve|re)| ?[A-Za-z]+| ?[0-9]+| ?[^\t-\r A-Za-z0-9\uffff]+"
    r"|[\t-\r ]+(?![^\t-\r \uffff])|[\t-\r ]+"
)
# a digit is a part of its own, and the end of what is before it
_WORD_DIGITS_GPT2 = re.compile(
    r"[0-9]|'(?:[sdmt]|ll|ve|re)| ?[A-Za-z]+| ?[^\t-\r A-Za-z0-9\uffff]+"
    r"|[\t-\r ]+(?![^\t-\r 0-9\uffff])|[\t-\r ]+"
)
_WORD_LINES = (
    r"'(?:[sStTmMdD]|[rR][eE]|[vV][eE]|[lL][lL])|[^\r\nA-Za-z0-9\uffff]?[A-Za-z]+|[0-9]{%s}"
    r"| ?[^\t-\r A-Za-z0-9\uffff]+[\r\n]*|[\t-\r ]*[\r\n]+"
    r"|[\t-\r ]+(?![^\t-\r \uffff])|[\t-\r ]+"
)
_WORD_LLAMA3 = re.compile(_WORD_LINES % "1,3")
_WORD_QWEN2 = re.compile(_WORD_LINES % "1")

_FAMILIES = {
    ("gpt2", "bytes"): (_WORD_GPT2, ""),
    ("digits", "gpt2", "bytes"): (_WORD_DIGITS_GPT2, ""),
    ("llama3", "bytes"): (_WORD_LLAMA3, "\r\n"),
    ("qwen2", "bytes"): (_WORD_QWEN2, "\r\n"),
}
_LINES = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|NUMBER"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_NAMES = {
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+": "gpt2",
    r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+": "gpt2",
    _LINES.replace("NUMBER", r"\p{N}{1,3}"): "llama3",
    _LINES.replace("NUMBER", r"\p{N}"): "qwen2",
}
# The two ways to say that matches are the parts: what is between them is kept, or
# it is not, but there is nothing.
_ALL_PARTS = (
    {"behavior": "Isolated", "invert": False},
    {"behavior": "Removed", "invert": True},
)


def _by_expression(word: re.Pattern[str], set_aside: str, added: Collection[AddedToken]) -> Cuts:
    to_bytes = ByteLevel(add_prefix_space=False, use_regex=False)
    spelled = {one: to_bytes.pre_tokenize_str(chr(one))[0][0] for one in range(128)}
    return _around(added, _word_ends(set_aside=set_aside), word, spelled)


def _steps(pre_tokenizer: Mapping[str, Any] | None) -> tuple[str, ...]:
    """Return what a pre-tokenizer does, as a key of `_FAMILIES` where it is known."""
    if pre_tokenizer is None:
        return ()
    stages = pre_tokenizer.get("pretokenizers", [pre_tokenizer])
    steps = []
    for position, stage in enumerate(stages):
        # bytes are spelled as other characters from here on, so nothing may follow
        last = position == len(stages) - 1
        match stage:
            case {"type": "Digits", "individual_digits": True}:
                steps.append("digits")
            case {"type": "ByteLevel", "add_prefix_space": False, "use_regex": regex} if last:
                steps += ["gpt2", "bytes"] if regex else ["bytes"]
            case {"type": "Split", "pattern": {"Regex": str(regex)}, **how} if how in _ALL_PARTS:
                steps.append(_NAMES.get(regex, "unknown"))
            case _:
                steps.append("unknown")
    return tuple(steps)


# ── Byte-pair encoding without a pre-tokenizer (Gemma) ────────────────────────
#
# Spaces become "▁" and then all that is between two added tokens is one word. A
# merge makes a token of the vocabulary, so none joins x and y where no token has
# y behind x; and as merges on either side of such a place do not see one another,
# each side merges as if it were alone. Bytes stand for characters here: two that
# stand together in no token are ends of characters that do not, either.
#
# Characters outside the vocabulary become tokens for their bytes, or the unknown
# token, of which neighbours are fused; without one they would be left out, and
# what is beside them would meet. A fused token reaches no further than to the next
# character that is in the vocabulary, and one of the two beside a cut is: one of
# ASCII. No token is made of such stand-ins.
#
# A space and "▁" are the same to the model, so what is said of " " is true of the
# bytes of "▁", and of all characters that begin or end as it does.

_SPACES_UNDERSCORED = {"type": "Replace", "pattern": {"String": " "}, "content": _UNDERSCORE}
_SPLIT_AT_SPACES = {
    "type": "Split",
    "pattern": {"String": " "},
    "behavior": "MergedWithPrevious",
    "invert": False,
}


def _by_vocabulary(tokenizer: Tokenizer, added: Collection[AddedToken]) -> Cuts | None:
    model = tokenizer.model
    if not isinstance(model, BPE) or model.unk_token is None:
        return None
    if model.ignore_merges or model.continuing_subword_prefix or model.end_of_word_suffix:
        # a word of the vocabulary is then taken whole, or its ends are marked
        return None
    vocabulary = tokenizer.get_vocab(with_added_tokens=False)
    stand_in = re.compile(rf"<0x[0-9A-F]{{2}}>|{re.escape(model.unk_token)}")
    if any(stand_in.search(text) and not stand_in.fullmatch(text) for text in vocabulary):
        return None
    texts = {token.content for token in added} | vocabulary.keys()
    pairs = ~_joints({text.replace(_UNDERSCORE, " ") for text in texts})
    known = np.zeros(256, dtype=np.bool_)
    known[:128] = [chr(one).replace(" ", _UNDERSCORE) in vocabulary for one in range(128)]
    pairs &= np.logical_or.outer(known, known)
    first, *_, last = _UNDERSCORE.encode()
    pairs[last] &= pairs[ord(" ")]
    pairs[:, first] &= pairs[:, ord(" ")]
    return _around(added, pairs)


def _state(component: Any) -> dict[str, Any] | None:
    """Return a component as `tokenizer.json` has it."""
    if component is None:
        return None
    state: dict[str, Any] = json.loads(component.__getstate__())
    return state
