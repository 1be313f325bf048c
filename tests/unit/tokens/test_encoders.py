"""Encoders: the reference's ids, from a table that may be full, empty or cut short."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, pre_tokenizers
from tokenizers import Tokenizer as Backend

from tests.nasty_text import nasty_text
from tests.real_tokenizers import NAMES, opened
from tests.tiny_tokenizer import ADDED, backend
from vocabtrim.tokens import encoders, id_tables
from vocabtrim.tokens.cuts import find_cuts
from vocabtrim.tokens.encoders import Reference, WordEncoder, slices
from vocabtrim.tokens.id_tables import Flat

TEXTS = [
    "the ants and the ants\n\n the",
    "",
    " ",
    "<|im_start|>user\n<think>the ants</think>  <|im_end|>",
    "漢字 é the\r\n\tthe",
    "",
]


class Listening(Reference):
    """A reference that remembers what it was asked, and can be interrupted."""

    def __init__(self, made: Backend) -> None:
        super().__init__(made)
        self.asked: list[str] = []
        self.is_interrupted = False

    def encode_flat(self, texts: Sequence[str]) -> Flat:
        self.asked += texts
        return super().encode_flat(texts)

    def encode_pre_token(self, pre_token: str) -> list[int]:
        if self.is_interrupted:
            raise KeyboardInterrupt
        self.asked.append(pre_token.replace("Ġ", " "))
        return super().encode_pre_token(pre_token)


def word_encoder(made: Backend, reference: Reference | None = None) -> WordEncoder:
    cuts = find_cuts(made)
    assert cuts is not None
    return WordEncoder(reference or Reference(made), cuts)


def as_lists(flat: Flat) -> list[list[int]]:
    ids, lengths = flat
    assert lengths.dtype == np.int64
    assert ids.size == lengths.sum()
    return [part.tolist() for part in np.split(ids, np.cumsum(lengths))[:-1]]


def by_library(made: Backend, texts: Sequence[str]) -> list[list[int]]:
    return [made.encode(text, add_special_tokens=False).ids for text in texts]


@pytest.mark.parametrize("kind", [Reference, word_encoder])
def test_ids_are_the_librarys_text_by_text(kind: Any) -> None:
    made = backend()
    encoder = kind(made)
    for texts in ([], [""], TEXTS, TEXTS[::-1], TEXTS * 5):
        assert as_lists(encoder.encode_flat(texts)) == by_library(made, texts)


def test_a_word_is_encoded_once() -> None:
    made = backend()
    listening = Listening(made)
    encoder = word_encoder(made, listening)
    encoder.encode_flat(["the ants the ants", "the the ants"])
    assert sorted(listening.asked) == [" ants", " the", "the"]
    encoder.encode_flat(["ants the"])
    assert sorted(listening.asked) == [" ants", " the", "ants", "the"]
    encoder.encode_flat(["ants the ants"])
    assert len(listening.asked) == 4


@pytest.mark.parametrize(("name", "value"), [("ENTRIES", 3), ("CHARACTERS", 20)])
def test_full_tables_do_not_show(name: str, value: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(id_tables, name, value)
    made = backend()
    listening = Listening(made)
    encoder = word_encoder(made, listening)
    for texts in (TEXTS, TEXTS[2:], TEXTS):
        assert as_lists(encoder.encode_flat(texts)) == by_library(made, texts)
    assert listening.asked.count(" ants") > 1


@pytest.mark.parametrize("run_bytes", [1, 2, 5, 16, 40])
def test_short_runs_do_not_show(run_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoders, "RUN_BYTES", run_bytes)
    made = backend()
    made.add_tokens([AddedToken("<mask>", normalized=False, lstrip=True)])
    encoder = word_encoder(made)
    texts = [*TEXTS, "the \n\n <mask> ants, and", "the" * 30 + ", ants" * 20, "漢字" * 20 + " the"]
    assert as_lists(encoder.encode_flat(texts)) == by_library(made, texts)


def test_a_text_longer_than_a_run_is_taken_in_parts() -> None:
    made = backend()
    encoder = word_encoder(made)
    whole = "the ants, " * 100_000 + "x" * 700_000 + " and the" * 9
    parts = list(encoder._parts(whole.encode()))
    assert b"".join(parts) == whole.encode()
    assert len(parts) >= 5
    assert sorted(map(len, parts))[-2] <= encoders.RUN_BYTES
    assert parts[-2] == b" " + b"x" * 700_000
    short = whole[:600_000]
    assert as_lists(encoder.encode_flat(["", short, "the"])) == by_library(made, ["", short, "the"])


def test_tables_survive_an_interrupted_call() -> None:
    made = backend()
    reference = Listening(made)
    encoder = word_encoder(made, reference)
    reference.is_interrupted = True
    with pytest.raises(KeyboardInterrupt):
        encoder.encode_flat(TEXTS)
    reference.is_interrupted = False
    assert as_lists(encoder.encode_flat(TEXTS)) == by_library(made, TEXTS)


def test_many_words_and_ids_make_tables_grow() -> None:
    made = backend()
    encoder = word_encoder(made)
    texts = [" ".join(f"{one:x}ants" for one in range(start, start + 900)) for start in range(9)]
    texts.append("".join(map(chr, range(1, 20_000))))
    assert as_lists(encoder.encode_flat(texts)) == by_library(made, texts)


def test_slices_hold_whole_texts_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoders, "SLICE_CHARACTERS", 3)
    assert list(slices(["ab", "c", "", "defgh", "i"])) == [["ab", "c"], ["", "defgh"], ["i"]]
    assert list(slices([])) == []


ADVERSARIAL: dict[str, dict[str, Any]] = {
    "gpt2": {},
    "nfc": {"normalizer": {"type": "NFC"}},
    "digits": {
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [
                {"type": "Digits", "individual_digits": True},
                json.loads(pre_tokenizers.ByteLevel(add_prefix_space=False).__getstate__()),
            ],
        }
    },
}
MEAN = ("a", "s", "'s", " the", "the ", "\n", "é", "e\u0301", "<", "1 2", " ", "Ġthe", "<|im_end|")
"""Added tokens that a text is full of."""


@pytest.fixture(scope="module", params=ADVERSARIAL)
def adversarial(request: pytest.FixtureRequest) -> Backend:
    """A tiny tokenizer whose added tokens are mean, in one of several families."""
    made = backend(added=(*ADDED, *MEAN[1:4], "\u0301x", "|>"))
    made.add_tokens([AddedToken("<mask>", normalized=False, lstrip=True, rstrip=True)])
    made.add_tokens([AddedToken("ans", normalized=False, single_word=True)])
    return Backend.from_str(json.dumps(json.loads(made.to_str()) | ADVERSARIAL[request.param]))


@settings(deadline=None, max_examples=300)
@given(st.lists(nasty_text((*ADDED, *MEAN, "<mask>", "ans")), max_size=4))
def test_nasty_text_with_mean_added_tokens(adversarial: Backend, texts: list[str]) -> None:
    found = as_lists(word_encoder(adversarial).encode_flat(texts))
    assert found == by_library(adversarial, texts)


@pytest.fixture(scope="module", params=NAMES)
def published(request: pytest.FixtureRequest) -> tuple[Backend, WordEncoder]:
    """A published tokenizer, and a table that all examples share."""
    made = opened(request.param)._backend
    return made, word_encoder(made)


ADDED_OF_ALL = (
    *("<|im_start|>", "<|im_end|>", "<|endoftext|>", "<think>", "</think>", "<tool_call>"),
    *("<|eot_id|>", "<|begin_of_text|>", "<|start_header_id|>", "<start_of_turn>", "<unk>", "<b>"),
    *("</b>", "<bos>", "▁▁▁", "\n\n\n", "\t\t", "<unused17>", "[multimodal]", "<file_sep>"),
)


@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(nasty_text(ADDED_OF_ALL), max_size=4))
def test_nasty_text_in_published_tokenizers(
    published: tuple[Backend, WordEncoder], texts: list[str]
) -> None:
    made, encoder = published
    assert as_lists(encoder.encode_flat(texts)) == by_library(made, texts)


def test_this_repositorys_own_text(published: tuple[Backend, WordEncoder]) -> None:
    made, encoder = published
    root = Path(__file__).parents[3]
    files = [*(root / "src").rglob("*.py"), *root.glob("*.md")][:60]
    texts = [file.read_text(encoding="utf-8") for file in files]
    assert as_lists(encoder.encode_flat(texts)) == by_library(made, texts)
