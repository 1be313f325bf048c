"""An export tried out before there is anything to export.

What an engine refuses of a trimmed drafter follows from names, shapes and config,
and from no value. So a drafter of the same names and shapes, its head cut down to a
few rows and all of its weights holes in a file, is read back by the engine's rules
as the export will be: in milliseconds, before counting and trimming take hours.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from vocabtrim.core.errors import CheckpointError
from vocabtrim.core.vocab import ROW_MULTIPLE, DraftVocab
from vocabtrim.engines.base import Cell, Container, Engine
from vocabtrim.families.base import DrafterFamily
from vocabtrim.pipeline.export_engine import engine_config
from vocabtrim.pipeline.export_source import ExportSource
from vocabtrim.tensors.checkpoint import CONFIG_FILE, WEIGHTS_FILE, Checkpoint
from vocabtrim.tensors.eagle3_layout import Layout, layout_of
from vocabtrim.tensors.head_source import D2T, T2D, HeadSource, vocabulary_maps
from vocabtrim.tensors.writer import CheckpointWriter


def rehearse(engine: Engine, cell: Cell, source: ExportSource, target: Path | None) -> None:
    """Refuse a drafter that an engine would not take once it is trimmed.

    Only flat directories are tried: lists of ids have nothing to refuse, and GGUF
    files come from a converter that has to be run.

    Args:
        engine: Who is to draft with it.
        cell: As what.
        source: The drafter, before it is trimmed.
        target: Directory of the target, whose head it may use.

    Raises:
        CheckpointError: The engine would not take it; says why.
    """
    if source.plugin is None or cell.container is not Container.FLAT:
        return
    drafter = Checkpoint.open(source.path)
    if layout_of(drafter.config) is Layout.SPECULATORS:
        return
    head = source.plugin.head(drafter, None if target is None else Checkpoint.open(target))
    some = head.held.ids[: max(1, min(ROW_MULTIPLE, head.held.size // 2))]
    kept = DraftVocab(some, head.held.vocab_size)
    with tempfile.TemporaryDirectory() as place:
        hollow = Path(place)
        _write(hollow, source.plugin, drafter, head, kept)
        try:
            config = engine_config(engine, Checkpoint.open(hollow), source, without_head=False)
            _write_config(hollow, config)
            engine.read_back(hollow, cell.container)
        except CheckpointError as fault:
            why = str(fault).removeprefix(f"{hollow}: ")
            raise CheckpointError(
                f"{engine.name} would not take it once trimmed: {why}", path=source.path
            ) from fault


def _write(
    directory: Path, family: DrafterFamily, drafter: Checkpoint, head: HeadSource, kept: DraftVocab
) -> None:
    """Write what `trim` would, without its bytes."""
    writer = CheckpointWriter()
    for name, tensor in head.tensors.items():
        info = head.checkpoint.tensors[tensor.name]
        writer.add(name, info.dtype, (kept.size, *info.shape[1:]), kept.size * info.row_bytes, list)
    for name, array in vocabulary_maps(kept).items():
        writer.add_array(name, array)
    replaced = {D2T, T2D, *head.tensors}
    for name, info in ({} if family.sidecar else drafter.tensors).items():
        if name not in replaced:
            writer.add(name, info.dtype, info.shape, info.nbytes, list)
    writer.write_hollow(directory / WEIGHTS_FILE)
    _write_config(directory, family.trimmed_config(drafter.config, kept, head))


def _write_config(directory: Path, config: object) -> None:
    (directory / CONFIG_FILE).write_text(json.dumps(config), encoding="utf-8")
