"""Count files to be merged, ours or another tool's, told apart by content.

`count --merge` is the one door for frequencies that others counted (speculators'
`token_freq.pt`, prepared samples and vocabulary caches of EAGLE and SpecForge):
behind it they are a count file like any other, so that no later verb has to know
of them, nor be told the tokenizer again. The tokenizer has to be named, for
nothing in such a file says whose ids it holds.

What the file does not say goes into the manifest as a warning (in how many
documents an id occurs, mostly), and the numbers that need it are not printed.
"""

from __future__ import annotations

import re
from pathlib import Path

from vocabtrim.core.counts import TokenCounts
from vocabtrim.core.counts_file import KIND, read_counts
from vocabtrim.core.errors import ArtifactError
from vocabtrim.core.manifest import Manifest, file_hash
from vocabtrim.tensors.id_frequencies import read_frequencies
from vocabtrim.tokens.must_keep import special_ids
from vocabtrim.tokens.tokenizer import Tokenizer

_SAFETENSORS = re.compile(rb".{4}\0{4}\{", re.DOTALL)
"""The length of a header, below 4 GiB, and the header; no `.pt` file or JSON begins so."""


def read_any_counts(
    path: Path, tokenizer: Tokenizer | None = None, *, fingerprint: str | None = None
) -> tuple[TokenCounts, Manifest]:
    """Read a count file of ours, or another tool's frequencies.

    Args:
        path: The file.
        tokenizer: Whose ids it holds; needed for another tool's file, and checked
            against ours.
        fingerprint: Of the tokenizer that ours must have been counted with; by
            default that of `tokenizer`.

    Raises:
        ArtifactError: It is missing or damaged, or another tool's file and no
            tokenizer is named.
        CalibrationError: It holds no frequencies.
        TokenizerMismatch: Ours was counted with another tokenizer.
        MissingExtra: It is a `.pt` file, and torch is not installed.
    """
    if not path.is_file() or _is_safetensors(path):
        expected = fingerprint if tokenizer is None else tokenizer.fingerprint
        return read_counts(path, tokenizer=expected)
    if tokenizer is None:
        raise ArtifactError(
            f"{path} is no count file of ours; where it holds another tool's frequencies, "
            "say whose ids they are with --tokenizer T"
        )
    found = read_frequencies(
        path, tokenizer.vocab_size, tokenizer.fingerprint, special_ids(tokenizer)
    )
    manifest = Manifest(
        KIND,
        tokenizer.vocab_size,
        tokenizer.fingerprint,
        inputs={str(path): file_hash(path)},
        facts={"warnings": [f"{path}, {found.kind}: {note}" for note in found.notes]},
    )
    return found.counts, manifest


def _is_safetensors(path: Path) -> bool:
    with path.open("rb") as stream:
        return _SAFETENSORS.match(stream.read(9)) is not None
