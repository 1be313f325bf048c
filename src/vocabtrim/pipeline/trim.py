"""`vocabtrim trim`: a drafter and a draft vocabulary to a smaller drafter.

The head's kept rows are copied byte for byte, the maps and the config follow,
and every other tensor and file of the drafter is copied as it is: nothing is
computed, so nothing can drift. Before the result takes its place it is opened
again and must say of itself what was asked for.

A head that belongs to the target, or that doubles as the input embedding, is
still needed where it is: then the K rows come on top, the memory grows a little,
and only the bytes that a draft step reads fall. Of a target only those rows are
read, however large it is; a drafter that is part of one is left where it is, and
what is written is a sidecar: rows, ids, config and tokenizer.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from vocabtrim.core.errors import CheckpointError, OutputExists
from vocabtrim.core.manifest import (
    DIRECTORY_MANIFEST,
    Manifest,
    atomic_directory,
    refuse_existing,
)
from vocabtrim.core.metrics import StepCost
from vocabtrim.core.vocab import DraftVocab
from vocabtrim.families.base import DrafterFamily, family_of
from vocabtrim.pipeline.trim_result import (
    GAMMA,
    KIND,
    NO_TOKENIZER,
    TrimResult,
    check_fingerprints,
    ids_hash,
    nothing_trimmed,
    over,
    refuse_retyped,
    selection_facts,
)
from vocabtrim.tensors.checkpoint import CONFIG_FILE, WEIGHTS_FILE, Checkpoint
from vocabtrim.tensors.gguf_types import GgufType
from vocabtrim.tensors.head import select_rows
from vocabtrim.tensors.head_source import D2T, T2D, HeadSource, vocabulary_maps
from vocabtrim.tensors.head_type import retyped, writable_type
from vocabtrim.tensors.id_writer import write_ids
from vocabtrim.tensors.taken import Chunks, Taken
from vocabtrim.tensors.tensor_info import TensorInfo
from vocabtrim.tensors.writer import CheckpointWriter
from vocabtrim.tokens.tokenizer import fingerprint_of

ID_LIST_FILE = "token_map.json"
"""The kept ids as a list, where an engine takes one."""

# Weights in whatever format, and what indexes them: the trimmed file replaces them all.
_WEIGHT_PATTERNS = (
    "*.safetensors",
    "*.safetensors.index.json",
    "pytorch_model*.bin",
    "pytorch_model.bin.index.json",
    "consolidated*.pth",
    "*.gguf",
    "*.h5",
    "*.msgpack",
    "*.onnx",
)

# What a sidecar takes along, so that its tokenizer can be compared with others.
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")


def trim(
    drafter: Path,
    vocab: DraftVocab,
    output: Path,
    *,
    target: Path | None = None,
    head_type: str | None = None,
    family: str | None = None,
    vocab_manifest: Manifest | None = None,
    force: bool = False,
) -> TrimResult:
    """Write `drafter` with a head that holds only the rows of `vocab`.

    Args:
        drafter: Directory of a drafter, trimmed or not; or a drafter that is a
            GGUF file.
        vocab: The ids to keep; a head that is reduced already must hold them.
        output: The directory to make; for a GGUF drafter, the file.
        target: Directory of the target, where the head is the target's; for a
            GGUF drafter also a GGUF file.
        head_type: The type to write the rows in, "f16" or another; None keeps
            every bit of them.
        family: Which family is meant, where a directory is of several.
        vocab_manifest: What made `vocab`, to be remembered in the output.
        force: Replace an `output` that vocabtrim wrote.

    Raises:
        CheckpointError: The drafter is of no known family, damaged, of another
            V than the target, its head is the target's and none was given, or
            it cannot be written in `head_type`.
        TokenizerMismatch: Drafter or target have another tokenizer than `vocab`.
        VocabError: An id has no row in the head.
        OutputExists: `output` is there and may not be replaced.
        EnvironmentFailure: The disk is full or not writable.
    """
    if drafter.is_file():
        from vocabtrim.pipeline.trim_gguf import trim_gguf

        return trim_gguf(
            drafter,
            vocab,
            output,
            target=target,
            head_type=head_type,
            family=family,
            vocab_manifest=vocab_manifest,
            force=force,
        )
    refuse_existing(output, force=force)
    refuse_nested(output, drafter)
    source = Checkpoint.open(drafter)
    verifier = None if target is None else Checkpoint.open(target)
    kind = family_of(source, family)
    warnings = _check_tokenizers(vocab, source, verifier)
    head = kind.head(source, verifier)
    kept = over(vocab, head.held.vocab_size, drafter)
    if kind.sidecar and kept.is_full:
        raise CheckpointError(
            f"all {kept.size} ids are kept, so there is nothing to write beside it", path=drafter
        )
    hidden = head.weight.shape[1]
    wanted = None if head_type is None else writable_type(head_type, hidden=hidden, gguf=False)
    if head.stays(kept):
        refuse_retyped(head_type, drafter)
        warnings += (nothing_trimmed(kept, head.origin),)
    job = _Job(kind, source, verifier, head, kept, wanted, Taken())
    before = kind.cost(source, verifier)
    with atomic_directory(output, force=force) as directory:
        job.write(directory)
        after = job.verified_cost(directory)
        result = job.result(output, before, after, warnings)
        (directory / DIRECTORY_MANIFEST).write_text(
            job.manifest(vocab, vocab_manifest, result).to_json() + "\n", encoding="utf-8"
        )
    return result


@dataclass(frozen=True)
class _Job:
    """One trim, once everything that can be refused has been."""

    family: DrafterFamily
    source: Checkpoint
    target: Checkpoint | None
    head: HeadSource
    kept: DraftVocab
    wanted: GgufType | None
    taken: Taken

    def write(self, directory: Path) -> None:
        """Write the trimmed drafter into `directory`."""
        self._weights().write(directory / WEIGHTS_FILE)
        config = self.family.trimmed_config(self.source.config, self.kept, self.head)
        (directory / CONFIG_FILE).write_text(
            json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
        )
        if self.family.token_map and not self.kept.is_full:
            write_ids(directory / ID_LIST_FILE, self.kept, "ids-json")
        for file in other_files(self.source.path, sidecar=self.family.sidecar):
            place = directory / file.relative_to(self.source.path)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, place)

    def _weights(self) -> CheckpointWriter:
        writer = CheckpointWriter()
        replaced = {D2T, T2D}
        if not self.head.stays(self.kept):
            replaced |= self.head.tensors.keys()
            rows = self.head.rows_of(self.kept)
            for name, tensor in self.head.tensors.items():
                info = self.head.checkpoint.tensors[tensor.name]
                role = "target head" if self.head.origin.targets_own else "drafter"
                read = partial(select_rows, self.head.checkpoint, tensor, rows)
                chunks = self.taken.passing(role, f"rows of {name}", read)
                shape = (rows.size, *info.shape[1:])
                if self.wanted is None or tensor.role != "weight":
                    writer.add(name, info.dtype, shape, rows.size * info.row_bytes, chunks)
                else:
                    retype = partial(_retyped, chunks, info, self.wanted)
                    writer.add(name, self.wanted.name, shape, self.wanted.bytes_of(shape), retype)
        for name, array in vocabulary_maps(self.kept).items():
            writer.add_array(name, array)
        # what a sidecar lies beside stays where it is
        beside = () if self.family.sidecar else self.source.tensors
        for name in beside:
            if name not in replaced:
                info = self.source.tensors[name]
                chunks = self.taken.passing("drafter", name, partial(self.source.chunks, name))
                writer.add(name, info.dtype, info.shape, info.nbytes, chunks)
        return writer

    def verified_cost(self, directory: Path) -> StepCost:
        """Open what was written and return its cost.

        Raises:
            CheckpointError: It is not the drafter that was asked for.
        """
        written = Checkpoint.open(directory)
        family = family_of(written, self.family.name)
        held = family.head(written, self.target).held
        if family.name != self.family.name or not np.array_equal(held.ids, self.kept.ids):
            raise CheckpointError(
                f"the trimmed drafter reads back as {family.name} over {held.size} ids; "
                "this is a fault of vocabtrim, please report it",
                path=self.source.path,
            )
        return family.cost(written, self.target)

    def result(
        self, output: Path, before: StepCost, after: StepCost, warnings: tuple[str, ...]
    ) -> TrimResult:
        """Put the outcome into one record."""
        grown = after.head_bytes - (0 if self.head.origin.shared else before.head_bytes)
        return TrimResult(
            output=str(output),
            family=self.family.name,
            V=self.kept.vocab_size,
            K_before=self.head.held.size,
            K=self.kept.size,
            hidden=self.head.weight.shape[1],
            dtype_before=self.head.weight.dtype,
            dtype=self.head.weight.dtype if self.wanted is None else self.wanted.name,
            head_source=self.head.origin.value,
            head_bytes_before=before.head_bytes,
            head_bytes=after.head_bytes,
            step_bytes_before=before.bytes_per_draft(GAMMA),
            step_bytes=after.bytes_per_draft(GAMMA),
            memory_delta_bytes=0 if self.head.stays(self.kept) else grown,
            warnings=warnings,
        )

    def manifest(
        self, vocab: DraftVocab, vocab_manifest: Manifest | None, result: TrimResult
    ) -> Manifest:
        """Say what made the output; paths are left out, equal inputs give equal bytes."""
        config = json.dumps(dict(self.source.config), sort_keys=True)
        self.taken.note("drafter", CONFIG_FILE, config.encode())
        facts = {key: value for key, value in asdict(result).items() if key not in ("output", "V")}
        facts["selection"] = selection_facts(vocab_manifest)
        options: dict[str, Any] = {"family": self.family.name, "K": self.kept.size}
        if self.wanted is not None:
            options["head_type"] = self.wanted.name
        inputs = {**self.taken.hashes(), "vocab": ids_hash(vocab)}
        return Manifest(KIND, self.kept.vocab_size, vocab.tokenizer, inputs, options, facts)


def refuse_nested(output: Path, drafter: Path) -> None:
    """Refuse an output inside the drafter, which would copy itself, or around it.

    Raises:
        OutputExists: It is one of the two.
    """
    places = output.resolve(), drafter.resolve()
    if places[0] in places[1].parents or places[1] in places[0].parents:
        raise OutputExists(output, f"it may lie neither inside the drafter {drafter} nor around it")


def _check_tokenizers(
    vocab: DraftVocab, drafter: Checkpoint, target: Checkpoint | None
) -> tuple[str, ...]:
    """Compare every tokenizer at hand; return a warning where none can be compared.

    Drafter and target may pad V differently; only where both ship the same
    tokenizer is that known to be padding.
    """
    models = {"drafter": drafter} | ({} if target is None else {"target": target})
    found = {role: fingerprint_of(model.path) for role, model in models.items()}
    check_fingerprints(vocab, found)
    if target is not None and None in found.values():
        sizes = [model.integer("vocab_size") for model in (drafter, target)]
        if sizes[0] != sizes[1]:
            raise CheckpointError(
                f"it has {sizes[0]} ids, but the target has {sizes[1]}, and no pair of "
                "tokenizers shows that only the padding differs",
                path=drafter.path,
            )
    if vocab.tokenizer is None or set(found.values()) == {None}:
        return (NO_TOKENIZER,)
    return ()


def _retyped(
    chunks: Callable[[], Chunks], source: TensorInfo, kind: GgufType
) -> Iterator[bytes | memoryview]:
    yield from retyped(chunks(), source, kind)


def other_files(directory: Path, *, sidecar: bool) -> Iterator[Path]:
    """Yield the files that are copied as they are: tokenizer, generation config, licence."""
    if sidecar:
        yield from (directory / name for name in _TOKENIZER_FILES if (directory / name).is_file())
        return
    for path in sorted(directory.rglob("*")):
        parts = path.relative_to(directory).parts
        hidden = any(part.startswith(".") for part in parts)
        ours = parts in ((CONFIG_FILE,), (DIRECTORY_MANIFEST,), (ID_LIST_FILE,))
        weights = any(path.match(pattern) for pattern in _WEIGHT_PATTERNS)
        if path.is_file() and not (hidden or ours or weights):
            yield path
