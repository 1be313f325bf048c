"""A drafter opened for a model that is in memory already.

`eval`, `trace` and `generate` open target and drafter together. Whoever has a
model of `transformers` in hand, and decodes through its own `generate`
(`engines/transformers/`), opens the drafter alone: it finds its family, borrows
what it has to from the target's files and its embedding from the model.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from vocabtrim.core.errors import TokenizerMismatch
from vocabtrim.core.vocab import DraftVocab
from vocabtrim.families.base import family_of
from vocabtrim.tensors.checkpoint import Checkpoint
from vocabtrim.tensors.locate import locate
from vocabtrim.tokens.tokenizer import fingerprint_of

if TYPE_CHECKING:
    from vocabtrim.decode.drafters.base import Drafter


def open_drafter(
    drafter: str | Path, model: Any, *, target: str | Path, vocab: DraftVocab | None = None
) -> Drafter:
    """Open a drafter for a target.

    Args:
        drafter: Directory, hub name or built-in name.
        model: The target, in memory; the drafter takes its dtype and device.
        target: Where the target's files are, named alike.
        vocab: Ids to draft over; by default those of the drafter's head.

    Raises:
        CheckpointError: The drafter is damaged or does not fit the target.
        VocabError: Its head has no row for an id of the vocabulary.
        TokenizerMismatch: Drafter or vocabulary belong to another tokenizer.
        DecodeError: Such drafters are not decoded with here.
    """
    path, place = locate(str(drafter)), locate(str(target))
    expected = fingerprint_of(place)
    shown = {
        f"the drafter {drafter}": fingerprint_of(path),
        "the draft vocabulary": None if vocab is None else vocab.tokenizer,
    }
    for what, found in shown.items():
        TokenizerMismatch.check(
            f"{what} was made with another tokenizer than the target's",
            expected=expected,
            found=found,
        )
    checkpoint = Checkpoint.open(path)
    family = family_of(checkpoint, to_decode=True)
    return family.load_drafter(checkpoint, Checkpoint.open(place), model, vocab)
