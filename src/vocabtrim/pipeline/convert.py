"""One EAGLE-3 drafter in the layout that somebody else reads.

From flat to speculators and back, and from one way of counting the target's
layers to the other. Tensors are copied byte for byte under the names of the new
layout; a head is added from the target where the new layout must have one, and
maps are added or left out as its readers ask. Converting back restores the
former drafter (`tensors/layout_memory.py`): flat → speculators → flat is the
identity, in every tensor and in the text of the config.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from vocabtrim.core.errors import CheckpointError, OutputExists
from vocabtrim.core.manifest import (
    DIRECTORY_MANIFEST,
    Manifest,
    atomic_directory,
    refuse_existing,
)
from vocabtrim.core.vocab import DraftVocab
from vocabtrim.pipeline.trim import other_files
from vocabtrim.tensors.checkpoint import CONFIG_FILE, WEIGHTS_FILE, Checkpoint
from vocabtrim.tensors.eagle3_layout import (
    FIRST_LAYER,
    MIDLAYER,
    Counting,
    Layout,
    feature_layers,
    is_eagle3,
    layer_prefix,
    layout_of,
    stated_layers,
    with_layers,
)
from vocabtrim.tensors.head import select_rows
from vocabtrim.tensors.head_source import (
    D2T,
    T2D,
    HeadSource,
    held_rows,
    own_head,
    stores_head,
    target_head,
    vocabulary_maps,
)
from vocabtrim.tensors.layout_memory import MEMORY_FILE, LayoutMemory, ids_hash
from vocabtrim.tensors.speculators_config import flat_config, speculators_config
from vocabtrim.tensors.weight_files import read_json_object
from vocabtrim.tensors.writer import CheckpointWriter
from vocabtrim.tokens.tokenizer import fingerprint_of

KIND = "converted drafter"
TOKENS = 3
"""Tokens of a draft that a speculators config proposes unless told otherwise."""

REORDERED = "its ids were in another order than ascending: rows and map were put in order"
NO_VERIFIER = "no target is named in its config, and what loads this layout asks for one"
NO_LAYERS = (
    "no feature layers are stated, and without --target they stay unstated: readers take "
    "low, middle and high"
)


@dataclass(frozen=True)
class ConvertResult:
    """What a conversion came to.

    Args:
        output: The directory written.
        layout_before: The layout that it had.
        layout: The layout that it has.
        K: Rows of its head, or of the target's where it has none.
        feature_layers: Indices of `hidden_states`; None where none are stated.
        head_added: Whether the target's head was copied into it.
        restored: Whether the config is the former one, letter by letter.
        warnings: What a reader should know.
    """

    output: str
    layout_before: str
    layout: str
    K: int
    feature_layers: tuple[int, ...] | None
    head_added: bool
    restored: bool
    warnings: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the document that `--json` writes."""
        return {"convert": asdict(self)}


def convert(
    drafter: Path,
    layout: Layout,
    output: Path,
    *,
    target: Path | None = None,
    counting: Counting = Counting.BOTH,
    verifier: str | None = None,
    tokens: int = TOKENS,
    force: bool = False,
) -> ConvertResult:
    """Write an EAGLE-3 drafter in another layout.

    Args:
        drafter: Directory of a drafter in either layout.
        layout: The one to write.
        output: The directory to make.
        target: Directory of the target: needed where a head must be added; tells
            the layers that are fused where the drafter does not.
        counting: How a flat config counts the target's layers; speculators
            counts inputs.
        verifier: Name of the target in a speculators config, on the hub or on
            the machine that will load it; without it, none.
        tokens: Tokens of a draft in a speculators config.
        force: Replace an `output` that vocabtrim wrote.

    Raises:
        CheckpointError: It is no EAGLE-3 drafter, damaged, has the layout
            already, or cannot be said in it; or a head is needed and no target
            was given.
        OutputExists: `output` is there and may not be replaced.
        EnvironmentFailure: The disk is full or not writable.
    """
    refuse_existing(output, force=force)
    places = output.resolve(), drafter.resolve()
    if places[0] in (places[1], *places[1].parents) or places[1] in places[0].parents:
        raise OutputExists(output, f"it may lie neither in the drafter {drafter} nor around it")
    source = Checkpoint.open(drafter)
    if not is_eagle3(source):
        raise CheckpointError("it is no EAGLE-3 drafter, and others have one layout", path=drafter)
    if layout is Layout.SPECULATORS and layout_of(source.config) is layout:
        raise CheckpointError(f"it is in the layout of {layout} already", path=drafter)
    verifying = None if target is None else Checkpoint.open(target)
    plan = _plan(source, verifying, layout, counting)
    said = partial(_said, plan, verifying, verifier=verifier, tokens=tokens)
    text = json.dumps(said(source.config), indent=2, ensure_ascii=False) + "\n"
    if plan.memory is not None:
        text = plan.memory.config(source.config, said)
    with atomic_directory(output, force=force) as directory:
        (directory / CONFIG_FILE).write_bytes(text.encode())
        _weights(plan).write(directory / WEIGHTS_FILE)
        for file in other_files(drafter, sidecar=False):
            place = directory / file.relative_to(drafter)
            place.parent.mkdir(parents=True, exist_ok=True)
            if file.name != MEMORY_FILE:
                shutil.copyfile(file, place)
        _remember(plan, text, directory)
        _verify(plan, directory)
        result = _result(plan, output, text)
        (directory / DIRECTORY_MANIFEST).write_text(
            _manifest(plan, result).to_json() + "\n", encoding="utf-8"
        )
    return result


@dataclass(frozen=True)
class _Plan:
    """What a conversion is to do.

    Args:
        source: The drafter.
        layout: The layout to write.
        counting: How a flat config is to count layers.
        layers: Which `hidden_states` are fused, where that is known.
        head: Where the rows are; None for a head that stays the target's.
        held: The ids that they stand for.
        memory: The drafter as it was in that layout, if it ever was.
    """

    source: Checkpoint
    layout: Layout
    counting: Counting
    layers: tuple[int, ...] | None
    head: HeadSource | None
    held: DraftVocab
    memory: LayoutMemory | None

    @property
    def same_layout(self) -> bool:
        """Whether only the config changes."""
        return layout_of(self.source.config) is self.layout

    @property
    def reordered(self) -> bool:
        """Whether rows change places."""
        return self.head is not None and self.head.order is not None

    @property
    def names(self) -> set[str] | None:
        """The tensors to write, where that is settled: those that there are, or were."""
        if self.same_layout and not self.reordered:
            return set(self.source.tensors)
        if self.memory is not None and self.memory.ids == ids_hash(self.held):
            return set(self.memory.tensors)
        return None


def _plan(
    source: Checkpoint, target: Checkpoint | None, layout: Layout, counting: Counting
) -> _Plan:
    """Find head, layers and memory.

    Raises:
        CheckpointError: The layout needs a head, and no target was given; or
            head, maps and config contradict each other.
    """
    V, head = source.integer("vocab_size"), None
    if stores_head(source):
        head = own_head(source, V)
    elif layout is Layout.SPECULATORS and target is not None:
        head = target_head(target, vocab_size=V, hidden=source.integer("hidden_size"))
    elif layout is Layout.SPECULATORS:
        raise CheckpointError(
            f"it has no head of its own, and the layout of {layout} needs one: give --target "
            "to copy the target's",
            path=source.path,
        )
    own = held_rows(source, V, V).vocab if head is None else head.held
    layers = stated_layers(source.config)
    if layers is None and target is not None:
        layers = feature_layers(source.config, target.integer("num_hidden_layers"))
    changes = layout_of(source.config) is not layout
    memory = LayoutMemory.read(source.path, layout) if changes else None
    return _Plan(source, layout, counting, layers, head, own, memory)


def _said(
    plan: _Plan,
    target: Checkpoint | None,
    config: Mapping[str, Any],
    *,
    verifier: str | None,
    tokens: int,
) -> dict[str, Any]:
    """Return what a config of the drafter's layout says in the new one."""
    if plan.layout is Layout.SPECULATORS:
        classes = None if target is None else target.config.get("architectures")
        return speculators_config(
            config,
            verifier=verifier,
            verifier_architectures=classes or (),
            tokens=tokens,
            layers=plan.layers,
        )
    flat = dict(config) if plan.same_layout else flat_config(config)
    return with_layers(flat, plan.layers, plan.counting)


def _weights(plan: _Plan) -> CheckpointWriter:
    """Announce every tensor under its new name."""
    writer = CheckpointWriter()
    aside = {D2T, T2D, *(() if plan.head is None else plan.head.tensors)}
    for name, new in _new_names(plan).items():
        if name not in aside:
            info = plan.source.tensors[name]
            chunks = partial(plan.source.chunks, name)
            writer.add(new, info.dtype, info.shape, info.nbytes, chunks)
    if plan.head is not None:
        rows = plan.head.rows_of(plan.held)
        for name, tensor in plan.head.tensors.items():
            if plan.names is None or name in plan.names:
                info = plan.head.checkpoint.tensors[tensor.name]
                read = partial(select_rows, plan.head.checkpoint, tensor, rows)
                writer.add(name, info.dtype, info.shape, info.nbytes, read)
    maps: Mapping[str, NDArray[Any]] = {D2T: plan.held.d2t, T2D: plan.held.t2d}
    for name in (
        vocabulary_maps(plan.held) if plan.names is None else sorted(plan.names & {D2T, T2D})
    ):
        if name in plan.source.tensors and not plan.reordered:
            writer.copy(plan.source, name)
        else:
            writer.add_array(name, maps[name])
    return writer


def _new_names(plan: _Plan) -> dict[str, str]:
    """Return name → name in the new layout; only the decoder layer is called otherwise."""
    names = list(plan.source.tensors)
    now = layer_prefix(names)
    several = any(name.startswith("layers.1.") for name in names)
    new = MIDLAYER if plan.layout is Layout.FLAT and not several else FIRST_LAYER
    if plan.memory is not None:
        new = layer_prefix(plan.memory.tensors)
    elif plan.same_layout:
        new = now
    return {name: new + name.removeprefix(now) if name.startswith(now) else name for name in names}


def _remember(plan: _Plan, text: str, directory: Path) -> None:
    """Put into the new directory what it takes to come back."""
    came_back = plan.memory is not None and text == plan.memory.config_text
    if plan.same_layout or plan.reordered or came_back:
        return
    LayoutMemory(
        layout=layout_of(plan.source.config).value,
        config_text=(plan.source.path / CONFIG_FILE).read_bytes().decode(),
        made=json.loads(text),
        tensors=tuple(plan.source.tensors),
        ids=ids_hash(plan.held),
    ).write(directory)


def _verify(plan: _Plan, directory: Path) -> None:
    """Open what was written.

    Raises:
        CheckpointError: It is not the drafter that was asked for.
    """
    written = Checkpoint.open(directory)
    V = written.integer("vocab_size")
    held = own_head(written, V).held if stores_head(written) else held_rows(written, V, V).vocab
    if (
        not is_eagle3(written)
        or layout_of(written.config) is not plan.layout
        or stated_layers(written.config) != plan.layers
        or held != plan.held
    ):
        raise CheckpointError(
            "the converted drafter reads back as another one; this is a fault of vocabtrim, "
            "please report it",
            path=plan.source.path,
        )


def _result(plan: _Plan, output: Path, text: str) -> ConvertResult:
    warnings = [REORDERED] if plan.reordered else []
    if plan.layers is None:
        warnings.append(NO_LAYERS)
    named = json.loads(text).get("speculators_config", {}).get("verifier", {}).get("name_or_path")
    if plan.layout is Layout.SPECULATORS and not named:
        warnings.append(NO_VERIFIER)
    return ConvertResult(
        output=str(output),
        layout_before=layout_of(plan.source.config).value,
        layout=plan.layout.value,
        K=plan.held.size,
        feature_layers=plan.layers,
        head_added=plan.head is not None and plan.head.origin.of_target,
        restored=plan.memory is not None and text == plan.memory.config_text,
        warnings=tuple(warnings),
    )


def _manifest(plan: _Plan, result: ConvertResult) -> Manifest:
    """Say what made the output, and what had made the drafter."""
    before = plan.source.path / DIRECTORY_MANIFEST
    facts = asdict(result) | {"feature_layers": plan.layers}
    del facts["output"]
    facts["before"] = read_json_object(before) if before.is_file() else None
    return Manifest(
        KIND,
        plan.held.vocab_size,
        fingerprint_of(plan.source.path),
        {"drafter": plan.source.content_hash()},
        {"layout": plan.layout.value, "counting": plan.counting.value},
        facts,
    )
