"""What a drafter family is, and which one a checkpoint belongs to.

A family says, of the drafters built one way: how to recognise one by its
tensors and config (never by its path), where its LM head is, what its config
says once trimmed, and what a draft step costs. It states facts; cutting and
writing is `pipeline/trim.py`, for all families alike.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from vocabtrim.core.errors import CheckpointError
from vocabtrim.core.metrics import StepCost
from vocabtrim.core.registry import Registry
from vocabtrim.core.vocab import DraftVocab
from vocabtrim.tensors.checkpoint import CONFIG_FILE, WEIGHTS_FILE, Checkpoint
from vocabtrim.tensors.head_source import HeadSource
from vocabtrim.tensors.writer import CheckpointWriter

if TYPE_CHECKING:
    from vocabtrim.decode.drafters.base import Drafter

FAMILIES = Registry("vocabtrim.families", "drafter family")


class DrafterFamily(Protocol):
    """One way in which drafters are built."""

    @property
    def name(self) -> str:
        """The key of the registry."""
        ...

    @property
    def summary(self) -> str:
        """One line for `vocabtrim families`."""
        ...

    def matches(self, checkpoint: Checkpoint) -> bool:
        """Return whether `checkpoint` is such a drafter, trimmed or not."""
        ...

    def vocab_size(self, drafter: Checkpoint) -> int:
        """Return V, the ids that its input embedding and its logits run over."""
        ...

    def needs_target(self, drafter: Checkpoint) -> bool:
        """Return whether the head is the target's."""
        ...

    def head(self, drafter: Checkpoint, target: Checkpoint | None) -> HeadSource:
        """Find the head.

        Raises:
            CheckpointError: It is the target's and no target was given, or head,
                maps and config contradict each other.
        """
        ...

    def trimmed_config(
        self, config: Mapping[str, Any], vocab: DraftVocab, head: HeadSource
    ) -> dict[str, Any]:
        """Return the config of the drafter once its head holds `vocab`."""
        ...

    def cost(
        self, drafter: Checkpoint, target: Checkpoint | None, *, itemsize: float | None = None
    ) -> StepCost:
        """Return what a draft step holds and reads.

        Args:
            drafter: The drafter.
            target: The target; without it, what the drafter borrows counts in
                the drafter's own precision.
            itemsize: Bytes a weight, where the model runs in another precision
                than it is stored in.

        Raises:
            CheckpointError: Head, maps and config contradict each other.
        """
        ...

    def load_drafter(
        self, drafter: Checkpoint, target: Checkpoint, model: Any, vocab: DraftVocab | None
    ) -> Drafter:
        """Open it for decoding, over `vocab` or over all that its head holds.

        Args:
            drafter: The drafter.
            target: The target, whose embedding and head it may use.
            model: The same target as a loaded `transformers` model; gives device
                and precision too.
            vocab: The ids that it may draft.

        Raises:
            CheckpointError: The drafter is damaged, or does not fit the target.
            VocabError: Its head has no row for an id.
            DecodeError: Its arithmetic is not known here.
        """
        ...

    def tiny_checkpoint(self, directory: Path, *, vocab_size: int, hidden: int, seed: int) -> None:
        """Write an untrimmed drafter of a few kilobytes, for tests."""
        ...


def family_of(checkpoint: Checkpoint) -> DrafterFamily:
    """Return the family of a drafter.

    Raises:
        CheckpointError: None knows it, or several do; names those there are.
    """
    found = known_families(checkpoint)
    if len(found) == 1:
        return found[0]
    if found:
        names = " and ".join(family.name for family in found)
        raise CheckpointError(f"it is a drafter of {names} at once", path=checkpoint.path)
    raise CheckpointError(
        f"it is no drafter of a known family (there are {', '.join(FAMILIES.names())})",
        path=checkpoint.path,
    )


def known_families(checkpoint: Checkpoint) -> list[DrafterFamily]:
    """Return the families that recognise a checkpoint."""
    families: dict[str, DrafterFamily] = FAMILIES.load_all()
    return [family for family in families.values() if family.matches(checkpoint)]


def write_tiny(
    directory: Path, config: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]], seed: int
) -> None:
    """Write a checkpoint of random float32 weights; norms (vectors) are ones.

    The scale 0.2 spreads the logits of a tiny model far enough for its greedy
    choices to differ from position to position.
    """
    directory.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(seed)
    writer = CheckpointWriter()
    for name, shape in shapes.items():
        values = generator.normal(0.0, 0.2, shape) if len(shape) > 1 else np.ones(shape)
        writer.add_array(name, values.astype(np.float32))
    writer.write(directory / WEIGHTS_FILE)
    (directory / CONFIG_FILE).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
