"""What a trim comes to, what it is refused for and what it remembers, in any container.

A directory (`trim.py`) and a GGUF file (`trim_gguf.py`) are cut each their own way;
the draft vocabulary is held against drafter and target by the same rules, and the
same facts go into the manifest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vocabtrim.core.errors import CheckpointError, TokenizerMismatch
from vocabtrim.core.manifest import Manifest
from vocabtrim.core.vocab import DraftVocab
from vocabtrim.tensors.head_source import HeadOrigin

KIND = "trimmed drafter"

GAMMA = 4
"""Draft length at which bytes of a step are stated."""

NO_TOKENIZER = "no tokenizer shows that the draft vocabulary belongs to this drafter"


@dataclass(frozen=True)
class TrimResult:
    """What a trim came to.

    Args:
        output: The directory, or the GGUF file, written.
        family: The drafter's family.
        V: Ids that the drafter reads.
        K_before: Rows of the head before.
        K: Rows of the head now.
        hidden: H, the width of a row.
        dtype_before: Type of the head's values before.
        dtype: Type of the head's values now; the same unless asked otherwise.
        head_source: Where the rows came from.
        head_bytes_before: Bytes of the head before.
        head_bytes: Bytes of the head now.
        step_bytes_before: Bytes that a draft step read before, at gamma 4.
        step_bytes: Bytes that a draft step reads now, at gamma 4.
        memory_delta_bytes: Bytes of weights that serving the pair gains, or
            frees where negative.
        warnings: What a reader should know before trusting the result.
    """

    output: str
    family: str
    V: int
    K_before: int
    K: int
    hidden: int
    dtype_before: str
    dtype: str
    head_source: str
    head_bytes_before: int
    head_bytes: int
    step_bytes_before: float
    step_bytes: float
    memory_delta_bytes: int
    warnings: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the document that `--json` writes."""
        return {"trim": asdict(self) | {"warnings": list(self.warnings)}}


def over(vocab: DraftVocab, vocab_size: int, drafter: Path) -> DraftVocab:
    """Return `vocab` over the drafter's padded V.

    Raises:
        CheckpointError: It holds an id that the drafter does not have.
    """
    highest = int(vocab.ids[-1])
    if highest >= vocab_size:
        raise CheckpointError(
            f"it has {vocab_size} ids, but the draft vocabulary holds id {highest}: "
            "it was counted with another tokenizer",
            path=drafter,
        )
    return vocab.over(vocab_size)


def ids_hash(vocab: DraftVocab) -> str:
    """Return "sha256:…" of a draft vocabulary's ids."""
    return "sha256:" + hashlib.sha256(vocab.ids.astype("<i8").tobytes()).hexdigest()


def selection_facts(vocab_manifest: Manifest | None) -> dict[str, Any]:
    """Return what made a draft vocabulary, as a drafter's manifest remembers it."""
    if vocab_manifest is None:
        return {}
    return {
        "inputs": dict(vocab_manifest.inputs),
        "options": dict(vocab_manifest.options),
        "facts": dict(vocab_manifest.facts),
    }


def nothing_trimmed(kept: DraftVocab, origin: HeadOrigin) -> str:
    """Return the warning where a shared head keeps all its rows."""
    return f"all {kept.size} ids are kept, so the head stays {origin} and nothing was trimmed"


def refuse_retyped(head_type: str | None, drafter: Path) -> None:
    """Refuse another type for a head that is not written.

    Raises:
        CheckpointError: A type was asked for.
    """
    if head_type is not None:
        raise CheckpointError(
            f"all ids are kept, so its head stays where it is and cannot become {head_type}",
            path=drafter,
        )


def check_fingerprints(vocab: DraftVocab, found: Mapping[str, str | None]) -> None:
    """Compare every tokenizer at hand.

    Args:
        vocab: Knows the tokenizer that it was counted with, or does not.
        found: Fingerprint of the drafter's, and of the target's where there is
            a target; None where a model has none beside it.

    Raises:
        TokenizerMismatch: Two of them differ.
    """
    for role, fingerprint in found.items():
        TokenizerMismatch.check(
            f"the draft vocabulary was counted with another tokenizer than the {role}'s",
            expected=fingerprint,
            found=vocab.tokenizer,
        )
    TokenizerMismatch.check(
        "drafter and target have different tokenizers",
        expected=found.get("target"),
        found=found.get("drafter"),
    )
