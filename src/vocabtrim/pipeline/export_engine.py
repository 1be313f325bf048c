"""A drafter in the form in which an engine is given it.

Which form that is, the engine's cells say; how its config must read, the engine.
Tensors are copied byte for byte. A directory becomes GGUF through llama.cpp's own
converter (`gguf_converter.py`), a GGUF drafter stays one. Before an export takes
its place it is read back by the engine's own rules and must come out as the
drafter that went in: the same ids in the order of the rows, the same layers.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vocabtrim.core.errors import CheckpointError, PluginError
from vocabtrim.core.manifest import (
    DIRECTORY_MANIFEST,
    Manifest,
    atomic_directory,
    atomic_file,
    refuse_existing,
)
from vocabtrim.engines.base import Cell, Container, Engine, ReadBack, cell_of
from vocabtrim.families.base import trimmed_architectures
from vocabtrim.pipeline.convert import convert
from vocabtrim.pipeline.export_request import ExportResult, Request
from vocabtrim.pipeline.export_source import ExportSource, open_source
from vocabtrim.pipeline.gguf_converter import run_converter
from vocabtrim.pipeline.trim import other_files
from vocabtrim.tensors.built_in import BUILT_IN
from vocabtrim.tensors.checkpoint import CONFIG_FILE, WEIGHTS_FILE, Checkpoint
from vocabtrim.tensors.eagle3_layout import Layout, is_eagle3, layout_of, with_layers
from vocabtrim.tensors.gguf_model import SPLIT_KEYS, GgufModel, open_gguf
from vocabtrim.tensors.gguf_writer import GgufWriter
from vocabtrim.tensors.head_source import (
    D2T,
    HEAD_WEIGHT,
    T2D,
    stores_head,
)
from vocabtrim.tensors.id_writer import write_ids
from vocabtrim.tensors.locate import locate
from vocabtrim.tensors.locate_pair import gguf_drafter
from vocabtrim.tensors.writer import CheckpointWriter

KIND = "exported drafter"
ID_LIST_FILE = "token_map.pt"
UNNAMED_TARGET = "TARGET"

_HEAD_PREFIX = HEAD_WEIGHT.removesuffix("weight")
_SIDE_FILES = ("vocabtrim-original.json",)
"""Of our conversions; they describe the drafter that an export is made from."""


def export_to_engine(engine: Engine, request: Request) -> ExportResult:
    """Write a drafter as `engine` takes it, and say how it is served.

    Raises:
        PluginError: The engine has not been seen to take such a drafter, and
            `unproven` is not given.
        CheckpointError: The engine takes no such drafter, or it is damaged.
        OutputExists: The output is there and may not be replaced.
        EnvironmentFailure: The disk is full, or the converter cannot be run.
    """
    refuse_existing(request.output, force=request.force)
    path = gguf_drafter(request.source) or locate(request.source)
    source = open_source(path, request.family)
    cell = allowed_cell(engine, source, unproven=request.unproven)
    if cell.container is Container.ID_LIST and source.vocab.is_full:
        raise CheckpointError(
            "it drafts over all ids, so there is no list to write: trim it first",
            path=source.path,
        )
    if source.plugin is not None and source.plugin.sidecar and source.vocab.is_full:
        raise CheckpointError(
            f"it is a target that drafts over all its ids, which {engine.name} serves as it is: "
            "trim it first",
            path=source.path,
        )
    if cell.container is Container.GGUF:
        with atomic_file(request.output, force=request.force) as file:
            _write_gguf(engine, source, file, request)
            _compare(engine.read_back(file, cell.container), source, cell, request.source)
    else:
        with atomic_directory(request.output, force=request.force) as directory:
            _write_directory(engine, source, directory, cell.container)
            _compare(engine.read_back(directory, cell.container), source, cell, request.source)
            manifest = Manifest(
                KIND,
                source.vocab.vocab_size,
                source.tokenizer,
                {},
                {"engine": engine.name, "container": cell.container.value},
                {"family": source.family, "level": cell.level.value, "before": source.before},
            )
            (directory / DIRECTORY_MANIFEST).write_text(manifest.to_json() + "\n", encoding="utf-8")
    return ExportResult(
        form=engine.name,
        outputs=(str(request.output),),
        K=source.vocab.size,
        V=source.vocab.vocab_size,
        tokenizer=source.tokenizer,
        level=cell.level.value,
        command=engine.command(
            request.output, _served(request.target, cell), cell, gamma=request.gamma
        ),
        warnings=(f"{engine.name}: {cell.note}",) if cell.note else (),
    )


def _served(name: str | None, cell: Cell) -> str:
    """Return how a command names the target, which is not fetched for that.

    As everywhere, what is on disk comes first. Built-in names mean nothing to an
    engine, nor does a shell expand `~` once it is quoted, and llama.cpp serves a file.
    """
    if name is None:
        return UNNAMED_TARGET
    path = Path(name).expanduser()
    if cell.container is Container.GGUF and not path.is_file():
        return f"{UNNAMED_TARGET}.gguf"
    if path.exists():
        return str(path)
    return str(BUILT_IN[name]()) if name in BUILT_IN else name


def allowed_cell(engine: Engine, source: ExportSource, *, unproven: bool) -> Cell:
    """Return what an engine is given of a drafter, trimmed or to be trimmed.

    Args:
        engine: Who is to draft with it.
        source: The drafter.
        unproven: Whether what no test has loaded into the engine will do.

    Raises:
        CheckpointError: The engine takes no such drafter.
        PluginError: No test has loaded one into it, and that was not allowed.
    """
    cell = cell_of(engine, source.family, source.containers)
    if cell is None:
        given = "GGUF files" if source.plugin is None else "directories"
        raise CheckpointError(
            f"{engine.name} takes no drafters of the family {source.family} from {given} "
            "(`vocabtrim engines` lists what it takes)",
            path=source.path,
        )
    if not (cell.level.proven or unproven):
        raise PluginError(
            f"that {engine.name} drafts with {source.family} in {cell.container.value} is known "
            "by reading its source only: give --unproven to write it nevertheless"
            + (f" ({cell.note})" if cell.note else "")
        )
    return cell


def _write_directory(
    engine: Engine, source: ExportSource, directory: Path, container: Container
) -> None:
    """Write what is given to the engine into an empty directory."""
    if container is not Container.ID_LIST:
        with _in_layout(source, container) as drafter:
            _copy(engine, drafter, directory, source, without_head=False)
        return
    write_ids(directory / ID_LIST_FILE, source.vocab, "ids-pt")
    if source.plugin is not None and not source.plugin.sidecar:
        _copy(engine, Checkpoint.open(source.path), directory, source, without_head=True)


@contextmanager
def _in_layout(source: ExportSource, container: Container) -> Iterator[Checkpoint]:
    """Yield the drafter in the layout of a container, converted where it is in another."""
    drafter = Checkpoint.open(source.path)
    nested = layout_of(drafter.config) is Layout.SPECULATORS
    if not nested or container is Container.SPECULATORS:
        yield drafter
        return
    with tempfile.TemporaryDirectory() as place:
        convert(source.path, Layout.FLAT, Path(place) / "flat")
        yield Checkpoint.open(Path(place) / "flat")


def _copy(
    engine: Engine,
    drafter: Checkpoint,
    directory: Path,
    source: ExportSource,
    *,
    without_head: bool,
) -> None:
    """Copy a drafter, its config as the engine reads it."""
    maps = (D2T, T2D) if source.vocab.is_full or without_head else ()
    writer = CheckpointWriter()
    for name in drafter.tensors:
        if name not in maps and not (without_head and name.startswith(_HEAD_PREFIX)):
            writer.copy(drafter, name)
    writer.write(directory / WEIGHTS_FILE)
    config = engine_config(engine, drafter, source, without_head=without_head)
    text = json.dumps(config, indent=2, ensure_ascii=False) + "\n"
    (directory / CONFIG_FILE).write_text(text, encoding="utf-8")
    for file in other_files(drafter.path, sidecar=False):
        place = directory / file.relative_to(drafter.path)
        if place.name not in _SIDE_FILES:
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, place)


def engine_config(
    engine: Engine, drafter: Checkpoint, source: ExportSource, *, without_head: bool
) -> Mapping[str, Any]:
    """Return the config under which an engine is given a drafter.

    Args:
        engine: Who is to draft with it.
        drafter: What is written, in the layout in which it is given.
        source: What it is made from.
        without_head: Whether it is given beside a list of ids.

    Raises:
        CheckpointError: The engine has no place for such a drafter.
    """
    config = dict(drafter.config)
    if layout_of(config) is Layout.SPECULATORS:
        return config
    if is_eagle3(drafter):
        config = with_layers(config, source.layers, engine.counting)
    if without_head:
        # the stock class: the head that it goes by is the target's
        config["architectures"] = trimmed_architectures(config, full=True)
        config.pop("draft_vocab_size", None)
    container = Container.ID_LIST if without_head else Container.FLAT
    return engine.config(config, container, owns_head=not without_head and stores_head(drafter))


def _write_gguf(engine: Engine, source: ExportSource, file: Path, request: Request) -> None:
    """Write a GGUF file: the one that there is, or what the engine's converter makes."""
    if source.gguf is not None:
        _joined(source.gguf).write(file)
        return
    if request.target is None:
        raise CheckpointError(
            "llama.cpp's converter reads layers and tokenizer from the target's directory: "
            "give --target",
            path=source.path,
        )
    target = locate(request.target)
    with tempfile.TemporaryDirectory() as place:
        flat = Path(place)
        _write_directory(engine, source, flat, Container.FLAT)
        run_converter(request.converter, flat, target, file)
        _compare_rows(Checkpoint.open(flat), open_gguf(file), source.path)


def _joined(model: GgufModel) -> GgufWriter:
    """Announce everything of a model, in parts or not, for one file."""
    writer = GgufWriter(model.header.alignment)
    writer.copy_entries(model.header, without=SPLIT_KEYS)
    for name, info in model.tensors.items():
        writer.add(name, info.dtype, info.shape, info.nbytes, partial(model.weights.chunks, name))
    return writer


def _compare_rows(drafter: Checkpoint, made: GgufModel, path: Path) -> None:
    """Hold the converter's head against the drafter's, byte for byte.

    Raises:
        CheckpointError: They differ.
    """
    head = made.tensors.get("output.weight")
    own = drafter.tensors.get(HEAD_WEIGHT)
    if own is None or head is None or own.dtype != head.dtype:
        return
    pairs = zip(drafter.chunks(own.name), made.weights.chunks(head.name), strict=True)
    if own.shape != head.shape or not all(one == other for one, other in pairs):
        raise CheckpointError("llama.cpp's converter changed the rows of its head", path=path)


def _compare(found: ReadBack, source: ExportSource, cell: Cell, name: str) -> None:
    """Hold what an engine reads against what was exported.

    Raises:
        CheckpointError: They differ.
    """
    listed = cell.container is Container.ID_LIST
    wanted = source.vocab.ids if listed else source.order
    # what is not stated, a converter may state
    layers = listed or source.layers is None or found.layers == source.layers
    if not (layers and _equal(found.ids, wanted)):
        raise CheckpointError(
            "the export reads back as another drafter (ids, rows or layers differ); this is a "
            "fault of vocabtrim, please report it",
            path=name,
        )


def _equal(one: NDArray[np.int64] | None, other: NDArray[np.int64] | None) -> bool:
    if one is None or other is None:
        return one is other
    return bool(np.array_equal(one, other))
