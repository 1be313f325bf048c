"""gigatoken: the reference's ids, and the one known difference routed around."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as Backend

from tests.nasty_text import nasty_text
from tests.real_tokenizers import NAMES, opened
from tests.tiny_tokenizer import backend
from vocabtrim.core.errors import MissingExtra, TokenizerError
from vocabtrim.tokens.encoders import Reference
from vocabtrim.tokens.gigatoken_backend import NEW_LETTERS, GigatokenEncoder

pytest.importorskip("gigatoken", reason="gigatoken is not installed")

ALL = [one for one in range(sys.maxunicode + 1) if not 0xD800 <= one < 0xE000]
TAKEN = [name for name in NAMES if name != "smollm2"]
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def encoder_of(made: Backend) -> GigatokenEncoder:
    return GigatokenEncoder(made.to_str(), Reference(made))


def assert_equal(encoder: GigatokenEncoder, made: Backend, texts: list[str]) -> None:
    ids, lengths = encoder.encode_flat(texts)
    assert ids.dtype == np.uint32
    found = [part.tolist() for part in np.split(ids, np.cumsum(lengths))[:-1]]
    expected = [made.encode(text, add_special_tokens=False).ids for text in texts]
    assert found == expected


@pytest.fixture(scope="module", params=TAKEN)
def published(request: pytest.FixtureRequest) -> tuple[Backend, GigatokenEncoder]:
    made = opened(request.param)._backend
    return made, encoder_of(made)


def llama3_like() -> Backend:
    """Return the tiny tokenizer with Llama 3's split."""
    document = json.loads(backend().to_str())
    split = {
        "type": "Split",
        "pattern": {"Regex": LLAMA3},
        "behavior": "Isolated",
        "invert": False,
    }
    document["pre_tokenizer"]["use_regex"] = False
    steps = [split, document["pre_tokenizer"]]
    document["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": steps}
    return Backend.from_str(json.dumps(document))


def test_texts_of_every_sort(published: tuple[Backend, GigatokenEncoder]) -> None:
    made, encoder = published
    letter = chr(NEW_LETTERS[-1][0])
    texts = ["", "one", f"{letter}'S and <b>", "", " ", "<|im_end|><eos>", "x" * 3000, "\n" * 3000]
    assert_equal(encoder, made, texts)
    assert_equal(encoder, made, [])
    assert_equal(encoder, made, [""])


@settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_nasty_text(published: tuple[Backend, GigatokenEncoder], data: st.DataObject) -> None:
    made, encoder = published
    added = sorted(token.content for token in made.get_added_tokens_decoder().values())
    assert_equal(encoder, made, data.draw(st.lists(nasty_text(added[:: len(added) // 40 + 1]))))


def assert_of_the_same_kind(characters: list[int]) -> None:
    """Fail where gigatoken takes a character for something else and nobody knows of it."""
    made = llama3_like()
    encoder = encoder_of(made)
    differing = []
    for start in range(0, len(characters), 1 << 15):
        some = characters[start : start + (1 << 15)]
        # behind a letter a quote begins a contraction, behind another sign it does not,
        # and a digit takes the next one to it
        texts = [f"'{chr(one)}'S {chr(one)}1" for one in some]
        expected = made.encode_batch_fast(texts, add_special_tokens=False)
        for one, text, right in zip(some, texts, expected, strict=True):
            if encoder._backend.encode(text).tolist() != right.ids:
                differing.append(one)
    known = {one for first, last in NEW_LETTERS for one in range(first, last + 1)}
    assert set(differing) <= known
    assert_equal(encoder, made, [f"'{chr(one)}'S {chr(one)}1" for one in differing])


def test_characters_are_of_the_same_kind_or_go_to_the_reference() -> None:
    ends = {one + by for run in NEW_LETTERS for one in run for by in (-1, 0, 1)}
    assert_of_the_same_kind(sorted({*ALL[:0x600], *ALL[::97], *ends}))


@pytest.mark.proof
def test_every_character_is_of_the_same_kind_or_goes_to_the_reference() -> None:
    assert_of_the_same_kind(ALL)


def test_new_letters_are_found_and_others_are_not() -> None:
    encoder = encoder_of(backend())
    for first, last in NEW_LETTERS:
        for one in (first, last):
            assert encoder._has_new_letters(f"é 漢 🙂 {chr(one)}")
        assert not encoder._has_new_letters(chr(first - 1))
        assert not encoder._has_new_letters(chr(last + 1))


def test_a_tokenizer_that_it_does_not_take_is_refused_with_its_reason() -> None:
    made = opened("smollm2")._backend
    with pytest.raises(TokenizerError, match="gigatoken does not take this tokenizer") as caught:
        encoder_of(made)
    assert "byte 0x04" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_its_name_has_its_version() -> None:
    name, _, number = encoder_of(backend()).name.partition(" ")
    assert name == "gigatoken"
    assert number.split(".")[0].isdigit()


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gigatoken", None)
    with pytest.raises(MissingExtra, match=r"not installed: run `pip install vocabtrim\[fast\]`"):
        encoder_of(backend())
