"""Safe cuts: what they rest on, character by character, and what is refused."""

from __future__ import annotations

import itertools
import json
import sys
import unicodedata
from typing import Any

import numpy as np
import pytest
from tokenizers import AddedToken, Regex, pre_tokenizers
from tokenizers import Tokenizer as Backend

from tests.real_tokenizers import NAMES, opened
from tests.tiny_tokenizer import backend
from vocabtrim.tokens import cuts as module
from vocabtrim.tokens.cuts import Cuts, find_cuts

EVERY_CHARACTER = [chr(one) for one in range(sys.maxunicode + 1) if not 0xD800 <= one < 0xE000]

LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
BYTES_GPT2 = {**BYTES, "use_regex": True}
DIGITS = {"type": "Digits", "individual_digits": True}


def split(regex: str, behavior: str = "Isolated", *, invert: bool = False) -> dict[str, Any]:
    return {
        "type": "Split",
        "pattern": {"Regex": regex},
        "behavior": behavior,
        "invert": invert,
    }


def sequence(*steps: dict[str, Any]) -> dict[str, Any]:
    return {"type": "Sequence", "pretokenizers": list(steps)}


FAMILIES = {
    "gpt2": BYTES_GPT2,
    "gpt2 as a split": sequence(split(GPT2), BYTES),
    "digits, gpt2": sequence(DIGITS, BYTES_GPT2),
    "llama3": sequence(split(LLAMA3), BYTES),
    "llama3, the gaps removed": sequence(split(LLAMA3, "Removed", invert=True), BYTES),
    "qwen2": sequence(split(LLAMA3.replace("{1,3}", "")), BYTES),
}


def made(
    pre_tokenizer: dict[str, Any] | None, normalizer: dict[str, Any] | None = None, **model: Any
) -> Backend:
    """Return the tiny tokenizer with other parts."""
    document = json.loads(backend().to_str())
    document |= {"pre_tokenizer": pre_tokenizer, "normalizer": normalizer}
    document["model"] |= model
    return Backend.from_str(json.dumps(document))


def cuts_of(tokenizer: Backend) -> Cuts:
    cuts = find_cuts(tokenizer)
    assert cuts is not None
    return cuts


def pieces_of(cuts: Cuts, text: str) -> list[str]:
    data = text.encode()
    if cuts.is_uncut(text) or not data:
        return [text] * bool(data)
    places = cuts.places(np.frombuffer(data, dtype=np.uint8))
    assert places[0]
    starts = [*np.flatnonzero(places).tolist(), len(data)]
    return [data[start:stop].decode() for start, stop in itertools.pairwise(starts)]


def pre_tokens(tokenizer: Backend, text: str) -> list[str]:
    """Return the pre-tokens that the library makes of a text without added tokens."""
    if tokenizer.normalizer is not None:
        text = tokenizer.normalizer.normalize_str(text)
    return [part for part, _ in tokenizer.pre_tokenizer.pre_tokenize_str(text)]


def lengths_by_library(tokenizer: Backend, text: str) -> list[int]:
    return [stop - start for _, (start, stop) in tokenizer.pre_tokenizer.pre_tokenize_str(text)]


def test_white_space_is_what_the_library_takes_for_it() -> None:
    splitter = pre_tokenizers.Split(Regex(r"\s"), "isolated")
    text = "x" + "x".join(EVERY_CHARACTER) + "x"
    by_library = {part for part, _ in splitter.pre_tokenize_str(text) if len(part) == 1}
    assert set(module._WHITE) == by_library - {"x"}


def test_what_is_said_of_normal_forms_is_so() -> None:
    white = set(module._WHITE)
    assert not any(map(unicodedata.combining, white))
    for character in EVERY_CHARACTER:
        apart = unicodedata.normalize("NFD", character)
        assert not white & set(apart) or (character in white and set(apart) <= white)
        if apart != character:
            assert not any(one.isascii() for one in apart[1:])
            # what composes with ASCII that is no letter behind it is no letter
            assert unicodedata.category(character)[0] != "L" or not (
                apart[0].isascii() and not apart[0].isalpha()
            )


@pytest.mark.parametrize("family", FAMILIES)
def test_words_of_ascii_are_the_librarys_pre_tokens(family: str) -> None:
    tokenizer = made(FAMILIES[family])
    cuts = cuts_of(tokenizer)
    # one of every kind that the expressions tell apart, contractions in both cases included
    for letters in itertools.product("asSlL1'! \t\n\r\x1c", repeat=4):
        text = "".join(letters)
        found = cuts.words([text])
        assert list(map(len, found)) == lengths_by_library(tokenizer, text), repr(text)
        assert "".join(found) == text
        for word in found:
            assert cuts.words([word]) == [word]


@pytest.mark.parametrize("family", FAMILIES)
def test_words_of_every_ascii_character_are_the_librarys(family: str) -> None:
    tokenizer = made(FAMILIES[family])
    cuts = cuts_of(tokenizer)
    for character in map(chr, range(128)):
        text = f"a{character}1{character} {character}\n{character}{character}b'{character}!"
        assert list(map(len, cuts.words([text]))) == lengths_by_library(tokenizer, text)


@pytest.mark.parametrize("normalizer", [None, {"type": "NFC"}], ids=["as it is", "NFC"])
@pytest.mark.parametrize("family", FAMILIES)
def test_pieces_are_pre_tokenized_alone_as_in_their_text(
    family: str, normalizer: dict[str, Any] | None
) -> None:
    tokenizer = made(FAMILIES[family], normalizer)
    cuts = cuts_of(tokenizer)
    # both sides of every rule, what they set aside, and what composes
    characters = ("a", "é", "1", "٣", "'", "=", " ", "\n", "\r", "\xa0", "\u0338")
    for letters in itertools.product(characters, repeat=4):
        text = "".join(letters)
        alone = [part for piece in pieces_of(cuts, text) for part in pre_tokens(tokenizer, piece)]
        assert alone == pre_tokens(tokenizer, text), repr(text)


@pytest.mark.parametrize("family", FAMILIES)
def test_pieces_with_any_character_in_them(family: str) -> None:
    tokenizer = made(FAMILIES[family])
    cuts = cuts_of(tokenizer)
    every = EVERY_CHARACTER[:0x3100] + EVERY_CHARACTER[0x3100::61]
    for one in every:
        text = f"a{one}b {one} {one}\n{one}\n {one}, {one}{one}1"
        alone = [part for piece in pieces_of(cuts, text) for part in pre_tokens(tokenizer, piece)]
        assert alone == pre_tokens(tokenizer, text), repr(text)


@pytest.mark.parametrize(
    ("family", "last"),
    [("gpt2", [" 12", "\n\n\tend", ".", "\n"]), ("llama3", [" 12\n\n\tend", ".\n"])],
)
def test_pieces_are_short(family: str, last: list[str]) -> None:
    cuts = cuts_of(made(FAMILIES[family]))
    found = pieces_of(cuts, "if (x_y->z) été! 12\n\n\tend.\n")
    assert found == ["if", " (x", "_y", "->z", ")", " été!", *last]


def test_words_of_several_pieces_do_not_run_into_one_another() -> None:
    cuts = cuts_of(made(BYTES_GPT2))
    pieces = ["ab", "c'", "s ", " ", "x  ", "d\uffff", "é1", "12", "3"]
    expected = ["ab", "c", "'", "s", " ", " ", "x", "  ", "d\uffff", "é1", "12", "3"]
    assert cuts.words(pieces) == expected
    assert cuts.words([]) == []


def test_a_piece_with_an_added_token_is_no_word_and_is_not_taken_apart() -> None:
    cuts = cuts_of(made(BYTES_GPT2))
    assert cuts.words(["a<think>b", "a<thin>b"]) == ["a<think>b", "a", "<", "thin", ">", "b"]


def test_no_cut_is_inside_an_added_token() -> None:
    tokenizer = made(BYTES_GPT2)
    assert pieces_of(cuts_of(tokenizer), "a b|c a,") == ["a", " b", "|c", " a", ","]
    tokenizer.add_tokens([AddedToken("<a b|é>", normalized=False)])
    assert pieces_of(cuts_of(tokenizer), "a b|c a,") == ["a b|c", " a", ","]


@pytest.mark.parametrize("lean", ["lstrip", "rstrip", "single_word"])
def test_texts_with_tokens_that_look_around_are_left_whole(lean: str) -> None:
    tokenizer = made(BYTES_GPT2)
    tokenizer.add_tokens([AddedToken("<c>", normalized=False, **{lean: True})])
    cuts = cuts_of(tokenizer)
    assert pieces_of(cuts, "one two <c> three") == ["one two <c> three"]
    assert pieces_of(cuts, "one two") == ["one", " two"]


@pytest.mark.parametrize(
    ("pre_tokenizer", "normalizer"),
    [
        (None, None),
        (split(r"\s+"), None),
        (sequence(split(LLAMA3, "MergedWithNext"), BYTES), None),
        (sequence(split(LLAMA3, "Removed"), BYTES), None),
        (sequence(split(LLAMA3), {**BYTES, "add_prefix_space": True}), None),
        ({**BYTES_GPT2, "add_prefix_space": True}, None),
        (sequence(BYTES_GPT2, DIGITS), None),
        (sequence({**DIGITS, "individual_digits": False}, BYTES_GPT2), None),
        (sequence(DIGITS, DIGITS, BYTES_GPT2), None),
        ({"type": "Whitespace"}, None),
        (BYTES_GPT2, {"type": "Lowercase"}),
        (BYTES_GPT2, {"type": "NFKC"}),
        (BYTES_GPT2, {"type": "Prepend", "prepend": "x"}),
    ],
)
def test_what_is_not_proved_has_no_cuts(
    pre_tokenizer: dict[str, Any] | None, normalizer: dict[str, Any] | None
) -> None:
    assert find_cuts(made(pre_tokenizer, normalizer)) is None


def test_tokens_found_in_normalised_text_have_no_cuts() -> None:
    tokenizer = made(BYTES_GPT2, {"type": "NFC"})
    assert find_cuts(tokenizer) is not None
    tokenizer.add_tokens([AddedToken("K", normalized=True)])
    assert find_cuts(tokenizer) is None
    assert tokenizer.encode("\N{KELVIN SIGN}").tokens == ["K"]


# ── Without a pre-tokenizer, by the vocabulary ────────────────────────────────

UNDERSCORED = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}


def by_vocabulary(*merges: tuple[str, str], **model: Any) -> Backend:
    """Return a tokenizer of a few characters and merges, with spaces underscored."""
    merged = ["".join(pair) for pair in merges]
    vocab = {token: one for one, token in enumerate(["▁", "\n", *"abc<>/", *merged])}
    settings = {
        "vocab": vocab,
        "merges": [list(pair) for pair in merges],
        "unk_token": "c",
        "fuse_unk": True,
    }
    document = json.loads(made(None, UNDERSCORED).to_str())
    document["model"] |= settings | model
    document["added_tokens"] = []
    return Backend.from_str(json.dumps(document))


def test_cuts_are_where_no_token_reaches_across() -> None:
    cuts = cuts_of(by_vocabulary(("a", "b"), ("▁", "ab"), (">", "▁")))
    text = "ab  ab> <c\n\nb >▁a▁b漢漢 漢a"
    pieces = pieces_of(cuts, text)
    joined = ["ab", " ", " ab", "> ", "<", "c", "\n", "\n", "b", " ", ">▁ab"]
    assert pieces[:10] == joined[:10]
    assert "".join(pieces) == text
    assert "漢漢" in pieces
    assert cuts.words(pieces) == pieces


def test_no_cut_is_made_where_a_merge_reaches_across() -> None:
    merges = [("a", "b"), ("▁", "ab"), ("b", "▁"), (">", "▁"), (">▁", "<"), ("▁", "▁")]
    for fused in (True, False):
        tokenizer = by_vocabulary(*merges, fuse_unk=fused)
        cuts = cuts_of(tokenizer)
        # the last are not in the vocabulary, and begin or end as "▁" does
        for characters in itertools.product("ab>< \n▁\u2592\u2041", repeat=4):
            text = "".join(characters)
            pieces = pieces_of(cuts, text)
            alone = [one for piece in pieces for one in tokenizer.encode(piece).ids]
            assert alone == tokenizer.encode(text).ids, repr(text)


@pytest.mark.parametrize(
    ("merges", "model"),
    [
        ([], {"unk_token": None}),
        ([], {"ignore_merges": True}),
        ([], {"end_of_word_suffix": "a"}),
        ([], {"continuing_subword_prefix": "a"}),
        ([], {"vocab": {"c": 0, "<0x41>b": 1}}),
        ([], {"vocab": {"a": 0, "c": 1, "ac": 2}}),
    ],
)
def test_a_model_whose_words_hang_together_has_no_cuts(
    merges: list[tuple[str, str]], model: dict[str, Any]
) -> None:
    assert find_cuts(by_vocabulary()) is not None
    assert find_cuts(by_vocabulary(*merges, **model)) is None


def test_spaces_and_line_ends_of_added_tokens_are_no_cuts() -> None:
    tokenizer = by_vocabulary()
    assert pieces_of(cuts_of(tokenizer), "a b\n\nc  ") == ["a", " ", "b", "\n", "\n", "c", " ", " "]
    tokenizer.add_tokens([AddedToken(one, normalized=False) for one in ("\n\n", "▁▁", "<a b>")])
    assert pieces_of(cuts_of(tokenizer), "a b\n\nc  ") == ["a b", "\n\n", "c", "  "]


@pytest.mark.parametrize("name", NAMES)
def test_published_tokenizers_have_cuts(name: str) -> None:
    cuts = cuts_of(opened(name)._backend)
    assert pieces_of(cuts, "two words, and\nmore") == (
        ["two", " words", ",", " and", "\n", "more"]
        if cuts.word is None
        else ["two", " words", ",", " and", "\nmore"]
    )
    assert (cuts.word is None) == (name == "gemma3")
