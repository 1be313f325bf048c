"""Draft vocabularies on disk: one tensor `ids` and the manifest that made it.

Reading validates twice: the file is ours and of this kind, and its ids are a
draft vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vocabtrim.core.errors import ArtifactError
from vocabtrim.core.manifest import Manifest, read_artifact, write_artifact
from vocabtrim.core.vocab import DraftVocab

KIND = "draft vocabulary"


def write_vocab(
    path: Path,
    vocab: DraftVocab,
    *,
    inputs: Mapping[str, str],
    options: Mapping[str, Any],
    facts: Mapping[str, Any],
    force: bool = False,
) -> None:
    """Write `vocab` as safetensors with `ids` int64 [K] ascending.

    Args:
        path: The file to make.
        vocab: What to write.
        inputs: Name of each input to its hash.
        options: What was asked for.
        facts: What came out: fill, coverage, warnings.
        force: Replace `path` if it exists.

    Raises:
        OutputExists: `path` is there and `force` is not given.
        EnvironmentFailure: The disk is full or not writable.
    """
    manifest = Manifest(KIND, vocab.vocab_size, vocab.tokenizer, inputs, options, facts)
    write_artifact(path, {"ids": vocab.ids}, manifest, force=force)


def read_vocab(path: Path) -> tuple[DraftVocab, Manifest]:
    """Read a draft vocabulary and its manifest.

    Raises:
        ArtifactError: The file is missing, damaged, or something else.
        VocabError: Its ids are no draft vocabulary.
    """
    try:
        tensors, manifest = read_artifact(path, KIND)
    except ArtifactError as fault:
        if not path.exists():
            raise
        raise ArtifactError(
            f"{fault}; of a list of ids, or of a drafter's, `vocabtrim select --ids` makes one"
        ) from fault
    if "ids" not in tensors:
        raise ArtifactError(f"{path}: its tensor `ids` is missing")
    return DraftVocab(tensors["ids"], manifest.vocab_size, manifest.tokenizer), manifest
