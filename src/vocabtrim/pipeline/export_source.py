"""The drafter that an export is made from: its ids by row, its layers, its forms.

A directory or a GGUF file, opened by its family. What an engine reads back is
compared with this, so ids are in the order of the rows here, whatever order that
is.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vocabtrim.core.errors import CheckpointError
from vocabtrim.core.manifest import DIRECTORY_MANIFEST
from vocabtrim.core.vocab import DraftVocab
from vocabtrim.engines.base import Container
from vocabtrim.families.base import DrafterFamily, family_of
from vocabtrim.tensors.checkpoint import Checkpoint
from vocabtrim.tensors.eagle3_layout import Layout, is_eagle3, layout_of, stated_layers
from vocabtrim.tensors.gguf_drafter import drafter_kind, gguf_head
from vocabtrim.tensors.gguf_model import GgufModel, open_gguf
from vocabtrim.tensors.head_source import D2T, held_rows
from vocabtrim.tensors.weight_files import read_json_object
from vocabtrim.tokens.tokenizer import fingerprint_of


@dataclass(frozen=True, eq=False)
class ExportSource:
    """The drafter that is exported.

    Args:
        path: Where it is.
        family: Of which family.
        containers: In what an engine could be given it, the nearest first.
        vocab: The ids that it drafts over.
        order: [K] int64, the ids in the order of its rows; None where all.
        layers: Indices of `hidden_states`, where it states them.
        tokenizer: Fingerprint of the tokenizer beside it.
        plugin: Its family; None for GGUF.
        gguf: The opened file, where it is one.
    """

    path: Path
    family: str
    containers: tuple[Container, ...]
    vocab: DraftVocab
    order: NDArray[np.int64] | None
    layers: tuple[int, ...] | None
    tokenizer: str | None
    plugin: DrafterFamily | None = None
    gguf: GgufModel | None = None

    @property
    def before(self) -> Any:
        """What had made it, where that is known."""
        path = self.path / DIRECTORY_MANIFEST
        return read_json_object(path) if path.is_file() else None


def open_source(path: Path, family: str | None = None) -> ExportSource:
    """Open a drafter.

    Args:
        path: A directory, or a GGUF file.
        family: Which family is meant, where a directory is of several.

    Raises:
        CheckpointError: It is of no known family, of several and none is named, of
            another than the one named, or damaged.
        PluginError: There is no family of that name.
    """
    return _gguf(path, family) if path.is_file() else _directory(path, family)


def _directory(path: Path, name: str | None) -> ExportSource:
    drafter = Checkpoint.open(path)
    family = family_of(drafter, name)
    V = family.vocab_size(drafter)
    if family.needs_target(drafter):
        held, order = held_rows(drafter, V, V).vocab, None
    else:
        head = family.head(drafter, None)
        held, order = head.held, head.order
    nested = layout_of(drafter.config) is Layout.SPECULATORS
    first = [Container.SPECULATORS] if nested else []
    return ExportSource(
        path,
        family.name,
        (*first, Container.FLAT, Container.ID_LIST, Container.GGUF),
        held,
        None if held.is_full else _by_row(held, order),
        stated_layers(drafter.config) if is_eagle3(drafter) else None,
        fingerprint_of(path),
        family,
    )


def _gguf(path: Path, name: str | None) -> ExportSource:
    model = open_gguf(path)
    kind = drafter_kind(model)
    if kind is None:
        raise CheckpointError(f"{model.architecture} is no drafter of llama.cpp's", path=path)
    if name not in (None, kind.family):
        raise CheckpointError(f"it is a drafter of {kind.family}, not of {name}", path=path)
    vocab, order = DraftVocab.full(model.vocab_size), None
    if D2T in model.tensors:
        head = gguf_head(model, kind, None)
        vocab, order = head.held, _by_row(head.held, head.order)
    layers = tuple(int(one) for one in model.header.numbers("eagle3.target_layers")) or None
    return ExportSource(
        path, kind.family, (Container.GGUF,), vocab, order, layers, None, gguf=model
    )


def _by_row(held: DraftVocab, order: NDArray[np.int64] | None) -> NDArray[np.int64]:
    """Return the ids in the order of the rows: [K] int64."""
    if order is None:
        return held.ids
    ids = np.empty_like(held.ids)
    ids[order] = held.ids
    return ids
