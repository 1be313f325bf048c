"""What a drafter family is, and which one a checkpoint belongs to.

A family says, of the drafters built one way: how to recognise one by its
tensors and config (never by its path), where its LM head is, what its config
says once trimmed, and what a draft step costs. It states facts; cutting and
writing is `pipeline/trim.py`, for all families alike. What those share that feed on
the target's features is `fused.py`; what they all write for tests, `tiny.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from vocabtrim.core.errors import CheckpointError
from vocabtrim.core.metrics import StepCost
from vocabtrim.core.registry import Registry
from vocabtrim.core.vocab import DraftVocab
from vocabtrim.tensors.checkpoint import Checkpoint
from vocabtrim.tensors.head_source import HeadSource

if TYPE_CHECKING:
    from vocabtrim.decode.drafters.base import Drafter

FAMILIES = Registry(
    "vocabtrim.families", "drafter family", beside=frozenset({"base", "fused", "tiny"})
)

TRIMMED_PREFIX = "Trimmed"


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

    @property
    def sidecar(self) -> bool:
        """Whether a trim writes the head alone, for a checkpoint that stays as it is."""
        ...

    @property
    def token_map(self) -> bool:
        """Whether an engine takes the ids as a list beside the checkpoint."""
        ...

    @property
    def decoded(self) -> bool:
        """Whether `load_drafter` opens such drafters; engines decode the others."""
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


def family_of(
    checkpoint: Checkpoint, name: str | None = None, *, to_decode: bool = False
) -> DrafterFamily:
    """Return the family of a drafter.

    Args:
        checkpoint: The drafter.
        name: Which one is meant, where it is several: a model that predicts
            further tokens can also draft for a larger one.
        to_decode: Of several, take the one whose drafters are decoded here.

    Raises:
        CheckpointError: None knows it, or several do; names those there are.
        PluginError: There is no family `name`.
    """
    found = known_families(checkpoint)
    if name is not None:
        wanted: DrafterFamily = FAMILIES.load(name)
        if wanted.name not in [family.name for family in found]:
            raise CheckpointError(f"it is no drafter of the family {name}", path=checkpoint.path)
        return wanted
    if to_decode and len(found) > 1:
        found = [family for family in found if family.decoded] or found
    if len(found) == 1:
        return found[0]
    if found:
        names = " and ".join(family.name for family in found)
        raise CheckpointError(
            f"it is a drafter of {names} at once: say with --family which is meant",
            path=checkpoint.path,
        )
    raise CheckpointError(
        f"it is no drafter of a known family (there are {', '.join(FAMILIES.names())})",
        path=checkpoint.path,
    )


def known_families(checkpoint: Checkpoint) -> list[DrafterFamily]:
    """Return the families that recognise a checkpoint."""
    families: dict[str, DrafterFamily] = FAMILIES.load_all()
    return [family for family in families.values() if family.matches(checkpoint)]


def trimmed_architectures(config: Mapping[str, Any], *, full: bool) -> list[str]:
    """Return the names of a drafter's class, so that stock loaders refuse a trimmed one.

    Where no engine reads a reduced head, one that does not know better would
    fill a random one; a name that nobody registered is refused instead.

    Args:
        config: Its config, before or after trimming.
        full: Whether every id is kept, so that the stock name is right again.
    """
    stated = config.get("architectures")
    names = stated if isinstance(stated, list) else []
    plain = [str(name).removeprefix(TRIMMED_PREFIX) for name in names]
    return plain if full else [TRIMMED_PREFIX + name for name in plain]
