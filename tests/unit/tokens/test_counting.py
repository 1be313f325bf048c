"""Counting: equal to a plain loop, whatever the batch."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as Backend

from tests.outside_data import outside_files
from tests.real_tokenizers import NAMES, opened, real_directory
from tests.tiny_tokenizer import backend, tokenizer, write_tokenizer
from vocabtrim.core.errors import CalibrationError
from vocabtrim.tokens.chat import NO_ASSISTANT
from vocabtrim.tokens.counting import NO_EOS, BatchCounter
from vocabtrim.tokens.messages import Conversation


def looped(
    documents: list[list[int]], vocab_size: int, cap: int | None = None
) -> tuple[list[int], list[int]]:
    """Count with nothing but dictionaries."""
    counts: Counter[int] = Counter()
    frequency: Counter[int] = Counter()
    for document in documents:
        for token_id, times in Counter(document).items():
            counts[token_id] += times if cap is None else min(times, cap)
            frequency[token_id] += 1
    ids = range(vocab_size)
    return [counts[one] for one in ids], [frequency[one] for one in ids]


@pytest.mark.parametrize("cap", [0, -1])
def test_a_cap_below_one_is_refused(tmp_path: Path, cap: int) -> None:
    with pytest.raises(CalibrationError, match=f"1 or more, found {cap}"):
        BatchCounter(tokenizer(tmp_path), cap_per_document=cap)


def test_a_batch_of_everything(tmp_path: Path) -> None:
    counter = BatchCounter(tokenizer(tmp_path))
    said = Conversation([{"role": "user", "content": "a"}, {"role": "assistant", "content": "the"}])
    asked = Conversation([{"role": "user", "content": "a"}])
    contents = ["the ants", said, np.array([1, 1, 2]), "", asked, "the"]
    result = counter.count(contents)
    encode = backend().encode
    expected = looped(
        [encode("the ants").ids, encode("the<|im_end|>").ids, [1, 1, 2], encode("the").ids],
        counter.tokenizer.vocab_size,
    )
    assert (result.counts.counts.tolist(), result.counts.documents.tolist()) == expected
    assert (result.counts.n_documents, result.empty) == (4, 2)
    assert result.warnings == {NO_ASSISTANT: 1}
    assert result.counts.tokenizer == counter.tokenizer.fingerprint
    assert result.counts.special == counter.special
    assert counter.special.eos == (counter.tokenizer.id_of("<|im_end|>"),)


def test_domains_are_counted_beside_the_total(tmp_path: Path) -> None:
    counter = BatchCounter(tokenizer(tmp_path))
    both, one, none = frozenset({"x", "y"}), frozenset({"y"}), frozenset[str]()
    result = counter.count(["the", "a", "an", ""], [both, one, none, frozenset({"z"})])
    assert {name: part.n_documents for name, part in result.counts.domains.items()} == {
        "x": 1,
        "y": 2,
        "z": 0,
    }
    assert result.counts.domains["y"].n_tokens == 2
    assert result.counts.n_documents == 3
    assert counter.count(["the"]).counts.domains == {}


@settings(deadline=None, max_examples=20)
@given(st.lists(st.text(max_size=30), max_size=8), st.integers(0, 8))
def test_parts_of_a_batch_add_up_in_any_order(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], cut: int
) -> None:
    counter = BatchCounter(tokenizer(tmp_path_factory.mktemp("t")), cap_per_document=3)
    whole = counter.count(texts)
    parts = [counter.count(texts[cut:]), counter.count(texts[:cut])]
    total = counter.nothing() + parts[0].counts + parts[1].counts
    assert total == whole.counts
    assert parts[0].empty + parts[1].empty == whole.empty


def test_a_sparse_batch_holds_one_entry_a_group(tmp_path: Path) -> None:
    counter = BatchCounter(tokenizer(tmp_path), cap_per_document=1)
    both, none = frozenset({"x", "y"}), frozenset[str]()
    batch = counter.count_sparse(["the the", "an", "the", ""], [both, none, both, none])
    assert batch.groups.keys() == {both, none}
    assert (batch.groups[both].n_documents, batch.groups[none].n_documents) == (2, 1)
    the = counter.tokenizer.id_of("the")
    (position,) = np.flatnonzero(batch.groups[both].ids == the)
    assert batch.groups[both].counts[position] == batch.groups[both].documents[position] == 2
    assert batch.empty == 1


def test_the_facts_are_the_tokenizers(tmp_path: Path) -> None:
    counter = BatchCounter(tokenizer(tmp_path))
    facts = counter.facts
    assert facts.fingerprint == counter.tokenizer.fingerprint
    assert (facts.vocab_size, facts.special) == (counter.tokenizer.vocab_size, counter.special)
    assert facts.backend.startswith("tokenizers")


def test_a_tokenizer_that_names_no_eos_is_warned_of(tmp_path: Path) -> None:
    directory = write_tokenizer(tmp_path, template=None, config={"eos_token": None})
    assert BatchCounter.open(directory).warnings == (NO_EOS,)
    write_tokenizer(tmp_path, template=None, config={"eos_token": "<gone>"})
    assert len(BatchCounter.open(directory).warnings) == 2


def test_nothing_has_the_domains_asked_for(tmp_path: Path) -> None:
    nothing = BatchCounter(tokenizer(tmp_path)).nothing(["b", "a"])
    assert (nothing.n_tokens, sorted(nothing.domains)) == (0, ["a", "b"])


def library_counts(name: str, texts: list[str]) -> tuple[list[int], list[int]]:
    """Count with the library, one text after the other."""
    library = Backend.from_file(str(real_directory(name) / "tokenizer.json"))
    encoded = [library.encode(text, add_special_tokens=False).ids for text in texts]
    return looped(encoded, opened(name).vocab_size)


@pytest.mark.parametrize("name", NAMES)
def test_published_tokenizers_on_packaged_text(name: str) -> None:
    from importlib.resources import files

    lines = files("vocabtrim.demo").joinpath("prompts.jsonl").read_text("utf-8").splitlines()
    texts = [json.loads(line)["prompt"] for line in lines]
    result = BatchCounter(opened(name)).count(texts)
    assert len(texts) >= 100
    found = (result.counts.counts.tolist(), result.counts.documents.tolist())
    assert found == library_counts(name, texts)


@pytest.mark.parametrize("name", NAMES)
def test_published_tokenizers_on_outside_text(name: str) -> None:
    texts = [
        record.get("text") or record.get("prompt") or ""
        for file in outside_files("[pr]*_*.jsonl")
        for record in map(json.loads, file.read_text("utf-8").splitlines())
    ]
    result = BatchCounter(opened(name)).count(texts)
    found = (result.counts.counts.tolist(), result.counts.documents.tolist())
    assert found == library_counts(name, texts)
