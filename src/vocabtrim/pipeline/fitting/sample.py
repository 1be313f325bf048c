"""Documents of the traffic that are held out, and the counts of all the others.

All of the traffic is counted once, and the vocabulary is chosen from all of it. To
say what a vocabulary is worth on text that it has not seen, some documents are
read again and their counts are taken out of the whole, which leaves exactly the
counts of the others: nothing is counted twice, and nothing is copied.

Which documents follows from the data alone: blocks evenly over all files, and of
their documents every fifth or fewer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vocabtrim.core.ceiling import Generations
from vocabtrim.core.counts import TokenCounts
from vocabtrim.core.errors import CalibrationError
from vocabtrim.pipeline.counting.inputs import Inputs
from vocabtrim.pipeline.held_out import encoded_documents
from vocabtrim.sources.base import Block, Document, Reading, Source
from vocabtrim.tokens.id_counts import count_ids
from vocabtrim.tokens.tokenizer import Tokenizer

MOST_BLOCKS = 32
"""Blocks that are looked into: some 64 MB of text."""

ONE_IN = 5
MOST_DOCUMENTS = 2000
FEWEST_DOCUMENTS = 20
"""Documents of traffic below which nothing is said of new text."""


@dataclass(frozen=True, eq=False)
class HeldOutTraffic:
    """Traffic in two parts.

    Args:
        generations: The documents held out.
        n_documents: How many they are.
        others: Counts of all others.
    """

    generations: Generations
    n_documents: int
    others: TokenCounts


def hold_out(
    traffic: Sequence[str | Path],
    counts: TokenCounts,
    tokenizer: Tokenizer,
    *,
    role: str = "assistant",
    cap_per_document: int | None = None,
    leave_out: Sequence[Path] = (),
) -> HeldOutTraffic:
    """Hold some documents of counted traffic out.

    Args:
        traffic: What was counted, as it was named.
        counts: What it came to.
        tokenizer: That of the counts.
        role: Whose turns of a conversation were counted.
        cap_per_document: How often an id was counted in one document, at most.
        leave_out: Files and directories that were not counted.

    Raises:
        CalibrationError: There are too few documents, or the traffic has changed
            since it was counted.
    """
    if counts.n_documents < FEWEST_DOCUMENTS:
        raise CalibrationError(
            f"the traffic has {counts.n_documents} documents with a token that counts; it takes "
            f"{FEWEST_DOCUMENTS} to choose K by: give more, or say K yourself (--top-k)"
        )
    inputs = Inputs.find(traffic, {}, leave_out=leave_out)
    reading = Reading(tokenizer.fingerprint, tokenizer.vocab_size, role)
    found = [one for block in _blocks(inputs) for one in _read(*block, reading)]
    step = max(ONE_IN, -(-len(found) // MOST_DOCUMENTS))
    encoded, _ = encoded_documents(found[::step], tokenizer, role)
    documents = [ids for ids in encoded if ids.size]
    if not documents:
        raise CalibrationError("the documents that would be held out have no token that counts")
    lengths = np.array([ids.size for ids in documents], dtype=np.int64)
    part = count_ids(
        np.concatenate(documents),
        lengths,
        counts.vocab_size,
        cap_per_document=cap_per_document,
    )
    times, documents_with = np.zeros((2, counts.vocab_size), dtype=np.int64)
    times[part.ids], documents_with[part.ids] = part.counts, part.documents
    held = TokenCounts(times, documents_with, part.n_documents, counts.tokenizer, counts.special)
    try:
        others = counts.without(held)
    except CalibrationError as fault:
        raise CalibrationError(
            "the traffic has changed since it was counted: run this again with --force"
        ) from fault
    return HeldOutTraffic(Generations.of(documents, counts.special.eos), held.n_documents, others)


def _blocks(inputs: Inputs) -> list[tuple[Source, Block]]:
    """Return some blocks, evenly over all there are."""
    kept: list[tuple[Source, Block]] = []
    stride = 1
    for number, one in enumerate(_every_block(inputs)):
        if number % stride == 0:
            kept.append(one)
        if len(kept) > 2 * MOST_BLOCKS:
            kept, stride = kept[::2], 2 * stride
    return kept


def _every_block(inputs: Inputs) -> Iterator[tuple[Source, Block]]:
    for file, source in zip(inputs.files, inputs.sources, strict=True):
        for block in source.blocks(file):
            yield source, block


def _read(source: Source, block: Block, reading: Reading) -> list[Document]:
    return [one for one in source.read(block, reading) if isinstance(one, Document)]
