"""`vocabtrim select --ids`: a list that somebody else chose, as a draft vocabulary.

The list is taken as it is, whatever the form (`tensors/id_lists.py` reads it and
says what it repaired): no id is added, not even one that ends a turn, but the lack
of such is said. V and the fingerprint come from the tokenizer, or from counts.
Counts, where given, judge the list; it does not follow from them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vocabtrim.core.counts import SpecialIds, TokenCounts
from vocabtrim.core.errors import TokenizerMismatch, VocabError
from vocabtrim.core.manifest import Manifest, file_hash, refuse_existing
from vocabtrim.core.vocab import DraftVocab
from vocabtrim.core.vocab_file import write_vocab
from vocabtrim.pipeline.appraisal import appraise
from vocabtrim.pipeline.held_out import judge_held_out, read_held_out
from vocabtrim.pipeline.select import (
    SelectResult,
    read_merged,
    reading_tokenizer,
    role_of,
    tokenizer_of,
)
from vocabtrim.rules.base import Evidence
from vocabtrim.tensors.id_lists import read_ids
from vocabtrim.tensors.id_vectors import Reading
from vocabtrim.tokens.must_keep import special_ids
from vocabtrim.tokens.tokenizer import Tokenizer

IDS_NAMED = 8


def adopt(
    ids: Path,
    output: Path,
    *,
    tokenizer: Path | None = None,
    reading: Reading | None = None,
    counts: Sequence[Path] = (),
    held_out: Sequence[str | Path] = (),
    force: bool = False,
) -> SelectResult:
    """Write a list of ids as a draft vocabulary.

    Args:
        ids: The list: a file, or the directory of a drafter.
        output: The file to make.
        tokenizer: The tokenizer whose ids they are; counts can stand for it.
        reading: Whether the numbers are ids or offsets, where that is known.
        counts: Count files to judge the list by; they are added.
        held_out: Text to measure coverage on.
        force: Replace `output` if it exists.

    Raises:
        VocabError: It holds no ids, impossible ones, or numbers that can be ids
            as well as offsets; or nothing says how many ids there are.
        TokenizerMismatch: List, counts or tokenizer differ.
        CalibrationError: Held-out text cannot be used.
        ArtifactError: A file is not what it should be.
        MissingExtra: The list is a `.pt` file, and torch is not installed.
        OutputExists: `output` is there and `force` is not given.
    """
    refuse_existing(output, force=force)
    whose = _Whose.of(tokenizer, counts)
    found = read_ids(ids, whose.vocab_size, reading=reading)
    TokenizerMismatch.check(
        f"{ids} is of another tokenizer", expected=whose.fingerprint, found=found.tokenizer
    )
    vocab = found.vocab(whose.vocab_size, whose.fingerprint)
    counted = judged = None
    if whose.counts is not None:
        evidence = Evidence(whose.counts)
        counted = appraise(vocab, evidence, vocab.ids, chosen=False, tokenizer=whose.tokenizer)
    if held_out:
        text = read_held_out(
            held_out,
            reading_tokenizer(whose.tokenizer),
            role=role_of(whose.manifests),
            counted=whose.manifests,
        )
        judged = judge_held_out(text, vocab, whose.special.eos)
    notes = (*found.notes, *_lacking(vocab, whose.special))
    write_vocab(
        output,
        vocab,
        inputs={str(path): file_hash(path) for path in [*_files(ids), *counts]},
        options={"ids": str(ids), "as": reading},
        facts={"read_as": found.kind, "notes": list(notes)} | (counted.facts() if counted else {}),
        force=force,
    )
    return SelectResult(
        str(output),
        f"the ids of {ids} ({found.kind}, {found.order})",
        vocab.size,
        vocab.vocab_size,
        counted,
        judged,
        (*notes, *(() if judged is None else judged.warnings)),
    )


@dataclass(frozen=True)
class _Whose:
    """What is known of the tokenizer whose ids a list holds."""

    vocab_size: int
    fingerprint: str
    special: SpecialIds
    tokenizer: Tokenizer | None
    counts: TokenCounts | None
    manifests: Sequence[Manifest]

    @classmethod
    def of(cls, path: Path | None, counts: Sequence[Path]) -> _Whose:
        """Ask the tokenizer, or else the counts."""
        if counts:
            merged, manifests = read_merged(counts)
            opened = None if path is None else tokenizer_of(path, merged)
            return cls(
                merged.vocab_size, merged.tokenizer, merged.special, opened, merged, manifests
            )
        if path is None:
            raise VocabError(
                "say whose ids these are: --tokenizer T, or counts that were made with it"
            )
        tokenizer = Tokenizer.open(path)
        special = special_ids(tokenizer)
        return cls(tokenizer.vocab_size, tokenizer.fingerprint, special, tokenizer, None, ())


def _lacking(vocab: DraftVocab, special: SpecialIds) -> list[str]:
    """Say which ids that a drafter should be able to propose are not in a list."""
    present = vocab.t2d
    missing = sorted(one for one in {*special.eos, *special.template} if not present[one])
    if not missing:
        return []
    shown = ", ".join(map(str, missing[:IDS_NAMED])) + (", …" if len(missing) > IDS_NAMED else "")
    return [
        f"the list lacks ids that end a generation or stand in an assistant's turn ({shown}): "
        "a drafter with it cannot propose them"
    ]


def _files(ids: Path) -> list[Path]:
    return [ids] if ids.is_file() else sorted(file for file in ids.iterdir() if file.is_file())
