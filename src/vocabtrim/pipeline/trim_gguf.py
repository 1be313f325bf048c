"""Trimming a drafter that is a GGUF file, in its own form.

Kept rows of the head are copied as the blocks they are, `d2t` says as absolute
ids what they stand for, and metadata, tokenizer and every other tensor are
copied byte for byte. A drafter in parts comes out as one file. What made it
stands behind the metadata that was there, under a key of ours that llama.cpp
passes over. Rows of a target in the layout of transformers go in as they are
there too, since GGUF has the same float types.

The file is written beside its place, opened again, and must say of itself what
was asked for before it takes that place.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vocabtrim.core.errors import CheckpointError, OutputExists
from vocabtrim.core.manifest import METADATA_KEY, Manifest, atomic_file, refuse_existing
from vocabtrim.core.metrics import StepCost
from vocabtrim.core.vocab import DraftVocab
from vocabtrim.pipeline.fingerprints import fingerprint_in
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
from vocabtrim.tensors.checkpoint import Checkpoint
from vocabtrim.tensors.gguf_drafter import (
    GgufHead,
    GgufKind,
    drafter_kind,
    gguf_cost,
    gguf_head,
)
from vocabtrim.tensors.gguf_model import SPLIT_KEYS, GgufModel, open_gguf
from vocabtrim.tensors.gguf_types import GgufType, stored_type
from vocabtrim.tensors.gguf_writer import GgufWriter
from vocabtrim.tensors.head import HeadTensor, select_rows
from vocabtrim.tensors.head_source import D2T
from vocabtrim.tensors.head_type import retyped, writable_type
from vocabtrim.tensors.taken import Taken
from vocabtrim.tensors.tensor_info import TensorInfo

PACKING = "gguf_blocks"
QUANTISATION_KEY, QUANTISATION_VERSION = "general.quantization_version", 2
"""What GGUF asks of a file as soon as one tensor is quantised."""

_NOT_COPIED = SPLIT_KEYS | {METADATA_KEY}
"""Metadata that is true of the drafter and not of what is made of it."""


def trim_gguf(
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
    """Write a GGUF drafter with a head that holds only the rows of `vocab`.

    Args:
        drafter: Its only file, or the first of its parts.
        vocab: The ids to keep; a head that is reduced already must hold them.
        output: The file to make.
        target: A GGUF file or a directory, where the head is the target's.
        head_type: The type to write the rows in; None keeps every bit of them.
        family: Which family is meant; a file is of one.
        vocab_manifest: What made `vocab`, to be remembered in the output.
        force: Replace `output`.

    Raises:
        CheckpointError: It is no GGUF drafter, damaged, or its head cannot be
            found or written.
        TokenizerMismatch: Drafter or target have another tokenizer than `vocab`.
        VocabError: An id has no row in the head.
        OutputExists: `output` is there and may not be replaced.
        EnvironmentFailure: The disk is full or not writable.
    """
    refuse_existing(output, force=force)
    source = open_gguf(drafter)
    if output.resolve() in [file.resolve() for file in source.files]:
        raise OutputExists(output, "it is the drafter itself")
    kind = drafter_kind(source)
    if kind is None:
        raise CheckpointError(
            f"it holds a model of architecture {source.architecture} that llama.cpp would not "
            "draft with by a reduced head",
            path=drafter,
        )
    if family not in (None, kind.family):
        raise CheckpointError(f"it is a drafter of {kind.family}, not of {family}", path=drafter)
    verifier = None if target is None else open_target(target)
    found = {"drafter": fingerprint_in(source)}
    if verifier is not None:
        found["target"] = fingerprint_in(verifier)
    check_fingerprints(vocab, found)
    known = any(found.values()) and vocab.tokenizer is not None
    warnings: tuple[str, ...] = () if known else (NO_TOKENIZER,)
    head = gguf_head(source, kind, verifier)
    kept = over(vocab, head.held.vocab_size, drafter)
    kept.rows_in(head.held)
    hidden = head.weight.shape[1]
    wanted = None if head_type is None else writable_type(head_type, hidden=hidden, gguf=True)
    job = _Job(source, kind, head, kept, wanted)
    if job.stays:
        refuse_retyped(head_type, drafter)
        warnings += (nothing_trimmed(kept, head.origin),)
    if kind.needs is not None and not kept.is_full:
        warnings += (f"stock llama.cpp refuses the result: it needs {kind.needs}",)
    before = gguf_cost(source, kind, head)
    result = job.result(output, before, warnings)
    with atomic_file(output, force=force) as temporary:
        job.write(temporary, job.manifest(vocab, vocab_manifest, result))
        job.verify(temporary)
    return result


@dataclass(frozen=True)
class _Job:
    """One trim, once everything that can be refused has been."""

    source: GgufModel
    kind: GgufKind
    head: GgufHead
    kept: DraftVocab
    wanted: GgufType | None

    @property
    def stored(self) -> GgufType:
        """The type of the rows as they are."""
        weight = self.head.weight
        return stored_type(weight.dtype, tensor=weight.name, path=weight.file)

    @property
    def written(self) -> GgufType:
        """The type in which they are written."""
        return self.stored if self.wanted is None else self.wanted

    def write(self, path: Path, manifest: Manifest) -> None:
        """Write the trimmed drafter; the hashes of its inputs are known at the end."""
        taken = Taken()
        writer = self._writer(taken)
        roles = ["drafter", "vocab"]
        if self.head.origin.targets_own and not self.stays:
            roles.append("target head")
        blank = dict.fromkeys(roles, "sha256:" + "0" * 64)
        writer.add_text(METADATA_KEY, replace(manifest, inputs=blank).to_json())
        writer.write(path)
        for key in self.source.header.entries.keys() - _NOT_COPIED:
            taken.note("drafter", f"metadata {key}", self.source.header.raw(key))
        inputs = {**taken.hashes(), "vocab": ids_hash(self.kept)}
        writer.add_text(METADATA_KEY, replace(manifest, inputs=inputs).to_json())
        writer.write_head(path)

    def _writer(self, taken: Taken) -> GgufWriter:
        header = self.source.header
        writer = GgufWriter(header.alignment)
        writer.copy_entries(header, without=_NOT_COPIED)
        if self.written.block > 1 and QUANTISATION_KEY not in header.entries:
            writer.add_number(QUANTISATION_KEY, QUANTISATION_VERSION)
        rows = self.head.rows(self.kept)
        cut = {info.name: info for info in self.head.followers}
        if not self.stays:
            cut[self.head.name] = self.head.weight
        for name, info in self.source.tensors.items():
            if name in cut:
                self._add_rows(writer, taken, name, cut.pop(name), rows)
            elif name != D2T:
                chunks = partial(self.source.weights.chunks, name)
                passing = taken.passing("drafter", name, chunks)
                writer.add(name, info.dtype, info.shape, info.nbytes, passing)
        for name, info in cut.items():
            self._add_rows(writer, taken, name, info, rows)
        if not self.kept.is_full:
            ids = self.kept.ids.astype("<i8")
            writer.add(D2T, "I64", ids.shape, ids.nbytes, lambda: [ids.tobytes()])
        return writer

    def _add_rows(
        self,
        writer: GgufWriter,
        taken: Taken,
        name: str,
        info: TensorInfo,
        rows: NDArray[np.int64],
    ) -> None:
        is_head = info is self.head.weight
        holder = self.head.holder if is_head else self.source.weights
        kind = self.written if is_head else stored_type(info.dtype, tensor=name, path=info.file)
        role = "target head" if is_head and self.head.origin.targets_own else "drafter"
        tensor = HeadTensor(info.name, packing=PACKING)
        kept = taken.passing(role, f"rows of {name}", partial(select_rows, holder, tensor, rows))
        shape = (rows.size, info.shape[1])
        writer.add(
            name, kind.name, shape, kind.bytes_of(shape), lambda: retyped(kept(), info, kind)
        )

    @property
    def stays(self) -> bool:
        """Whether all of a shared head is kept, so that no copy is needed."""
        return self.kept.is_full and self.head.origin.shared

    def verify(self, path: Path) -> None:
        """Open what was written.

        Raises:
            CheckpointError: It is not the drafter that was asked for.
        """
        if self.stays:
            return
        written = open_gguf(path)
        head = gguf_head(written, self.kind, None)
        unchanged = self.source.tensors.keys() - {D2T, self.head.name}
        if (
            not np.array_equal(head.held.ids, self.kept.ids)
            or head.weight.dtype != self.written.name
            or not unchanged <= written.tensors.keys()
        ):
            raise CheckpointError(
                f"the trimmed drafter reads back over {head.held.size} ids as "
                f"{head.weight.dtype}; this is a fault of vocabtrim, please report it",
                path=self.source.path,
            )

    def result(self, output: Path, before: StepCost, warnings: tuple[str, ...]) -> TrimResult:
        """Put the outcome into one record."""
        after = before.with_head_rows(self.kept.size, self.head.held.size)
        hidden = self.head.weight.shape[1]
        shape = (self.kept.size, hidden)
        saved = self.stored.bytes_of(shape) - self.written.bytes_of(shape)
        head_bytes = after.head_bytes - saved
        grown = head_bytes - (0 if self.head.origin.shared else before.head_bytes)
        moved = after.cycle_bytes / GAMMA
        return TrimResult(
            output=str(output),
            family=self.kind.family,
            V=self.kept.vocab_size,
            K_before=self.head.held.size,
            K=self.kept.size,
            hidden=hidden,
            dtype_before=self.stored.name,
            dtype=self.written.name,
            head_source=self.head.origin.value,
            head_bytes_before=before.head_bytes,
            head_bytes=head_bytes,
            step_bytes_before=before.bytes_per_draft(GAMMA),
            step_bytes=after.step_bytes - saved + moved,
            memory_delta_bytes=0 if self.stays else grown,
            warnings=warnings,
        )

    def manifest(
        self, vocab: DraftVocab, vocab_manifest: Manifest | None, result: TrimResult
    ) -> Manifest:
        """Say what makes the output; the hashes of its inputs come while it is written."""
        facts = {key: value for key, value in asdict(result).items() if key not in ("output", "V")}
        facts["selection"] = selection_facts(vocab_manifest)
        options = {"family": result.family, "K": self.kept.size} | (
            {} if self.wanted is None else {"head_type": self.wanted.name}
        )
        return Manifest(KIND, self.kept.vocab_size, vocab.tokenizer, {}, options, facts)


def open_target(path: Path) -> GgufModel | Checkpoint:
    """Open the target of a GGUF drafter: a GGUF file, or a directory."""
    return Checkpoint.open(path) if path.is_dir() else open_gguf(path)
