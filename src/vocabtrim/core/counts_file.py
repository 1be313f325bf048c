"""Token counts on disk: two int64 vectors, a pair for each domain, the manifest.

Tensors `counts` and `documents` [V], and `counts.NAME`, `documents.NAME` for
every domain. How many documents there were, and the ids that the tokenizer sets
apart, are facts of the manifest, so that a file is all that selection needs.
Counting itself is in `tokens/counting.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vocabtrim.core.counts import SpecialIds, TokenCounts
from vocabtrim.core.errors import ArtifactError, CalibrationError, TokenizerMismatch
from vocabtrim.core.manifest import Manifest, read_artifact, write_artifact

KIND = "counts"


def write_counts(
    path: Path,
    counts: TokenCounts,
    *,
    inputs: Mapping[str, str],
    options: Mapping[str, Any],
    facts: Mapping[str, Any],
    force: bool = False,
) -> None:
    """Write `counts` as safetensors, atomically.

    Args:
        path: The file to make.
        counts: What to write. Special ids are stored once, for the total.
        inputs: Name of each input to its hash.
        options: What was asked for.
        facts: What came out besides the counts: skipped documents, warnings.
        force: Replace `path` if it exists.

    Raises:
        OutputExists: `path` is there and `force` is not given.
        EnvironmentFailure: The disk is full or not writable.
    """
    tensors = {"counts": counts.counts, "documents": counts.documents}
    for name, part in counts.domains.items():
        tensors[f"counts.{name}"] = part.counts
        tensors[f"documents.{name}"] = part.documents
    own_facts = {
        "n_documents": counts.n_documents,
        "n_documents_by_domain": {
            name: part.n_documents for name, part in sorted(counts.domains.items())
        },
        "special_ids": {
            "eos": list(counts.special.eos),
            "template": list(counts.special.template),
            "added": list(counts.special.added),
        },
    }
    manifest = Manifest(
        KIND, counts.vocab_size, counts.tokenizer, inputs, options, {**facts, **own_facts}
    )
    write_artifact(path, tensors, manifest, force=force)


def read_counts(path: Path, *, tokenizer: str | None = None) -> tuple[TokenCounts, Manifest]:
    """Read counts and their manifest.

    Args:
        path: A file that `write_counts` made.
        tokenizer: Fingerprint that the counts must have; None takes any.

    Raises:
        ArtifactError: The file is missing, damaged, or something else.
        TokenizerMismatch: The counts belong to another tokenizer.
    """
    tensors, manifest = read_artifact(path, KIND)
    if manifest.tokenizer is None:
        raise ArtifactError(f"{path}: these counts do not name their tokenizer")
    TokenizerMismatch.check(
        f"{path} was counted with another tokenizer", expected=tokenizer, found=manifest.tokenizer
    )
    try:
        counts = _from_tensors(tensors, manifest.tokenizer, manifest.facts)
    except (KeyError, TypeError, ValueError, CalibrationError) as fault:
        raise ArtifactError(f"{path}: these counts are damaged ({fault})") from fault
    if counts.vocab_size != manifest.vocab_size:
        raise ArtifactError(
            f"{path}: these counts cover {counts.vocab_size} ids, "
            f"but their manifest says {manifest.vocab_size}"
        )
    return counts, manifest


def _from_tensors(
    tensors: Mapping[str, NDArray[np.int64]], tokenizer: str, facts: Mapping[str, Any]
) -> TokenCounts:
    special = SpecialIds(
        **{
            kind: tuple(int(token) for token in facts["special_ids"][kind])
            for kind in ("eos", "template", "added")
        }
    )
    for token_id in (*special.eos, *special.template, *special.added):
        if not 0 <= token_id < tensors["counts"].size:
            raise ValueError(f"special id {token_id} is none of the ids counted")
    domains = {
        name: TokenCounts(
            tensors[f"counts.{name}"],
            tensors[f"documents.{name}"],
            int(n_documents),
            tokenizer,
            special,
        )
        for name, n_documents in facts["n_documents_by_domain"].items()
    }
    return TokenCounts(
        tensors["counts"],
        tensors["documents"],
        int(facts["n_documents"]),
        tokenizer,
        special,
        domains,
    )
