"""`vocabtrim inspect` on a drafter that is a GGUF file.

The same facts as for a drafter in a directory, read from the file's header and
its map. A head that is the target's is looked up in the target, GGUF or not;
without a target its size is assumed, in the type that most of the drafter has.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from vocabtrim.core.errors import CheckpointError
from vocabtrim.core.manifest import METADATA_KEY, Manifest
from vocabtrim.core.metrics import relative_bytes, relative_cost
from vocabtrim.core.vocab import DraftVocab
from vocabtrim.pipeline.fingerprints import fingerprint_in
from vocabtrim.pipeline.inspect import (
    BORROWED,
    GAMMA,
    NO_MAPS,
    DrafterFacts,
    InspectResult,
    drafter_text,
)
from vocabtrim.pipeline.trim_gguf import open_target
from vocabtrim.tensors.causal import target_cost
from vocabtrim.tensors.checkpoint import Checkpoint
from vocabtrim.tensors.gguf_drafter import (
    OUTPUT,
    GgufHead,
    drafter_kind,
    gguf_cost,
    gguf_head,
    needs_target,
)
from vocabtrim.tensors.gguf_model import GgufModel, open_gguf
from vocabtrim.tensors.gguf_types import stored_type
from vocabtrim.tensors.head_source import D2T, HeadOrigin
from vocabtrim.tensors.locate_pair import locate_pair
from vocabtrim.tensors.tensor_info import TensorInfo

SUMMARY = "a GGUF file, for llama.cpp"


def inspect_gguf(what: str, target: str | None) -> InspectResult:
    """Say what a GGUF drafter is.

    Args:
        what: The file as the user named it.
        target: The target of the drafter, as the user named it.

    Raises:
        CheckpointError: One of them is damaged, or they do not belong together.
    """
    path, beside = locate_pair(what, target)
    drafter = open_gguf(path)
    kind = drafter_kind(drafter)
    if kind is None:
        raise CheckpointError("llama.cpp does not draft with it", path=path)
    verifier = None if beside is None else open_target(beside)
    assumed = verifier is None and needs_target(drafter, kind)
    head = _assumed_head(drafter) if assumed else gguf_head(drafter, kind, verifier)
    cost = gguf_cost(drafter, kind, head)
    against = target_cost(verifier) if isinstance(verifier, Checkpoint) else None
    facts = DrafterFacts(
        path=str(path),
        family=kind.family,
        V=head.held.vocab_size,
        K=head.held.size,
        hidden=head.weight.shape[1],
        dtype=None if assumed else head.weight.dtype,
        head_source=BORROWED if assumed else head.origin.value,
        tied=head.origin.tied,
        mapping=_mapping(head),
        head_bytes=cost.head_bytes,
        head_share=cost.head_share(GAMMA),
        head_params=cost.head_params,
        gamma=GAMMA,
        step_bytes=cost.bytes_per_draft(GAMMA),
        params=cost.params,
        c=None if against is None else relative_cost(cost, against),
        c_read=None if against is None else relative_bytes(cost, against, GAMMA),
        tokenizer=fingerprint_in(drafter),
        trimmed=_trimmed_by(drafter),
    )
    return InspectResult(what, "drafter", asdict(facts), drafter_text(facts, SUMMARY))


def _assumed_head(drafter: GgufModel) -> GgufHead:
    """Return a head [V, H] as the target may have it."""
    matrices = [info for info in drafter.tensors.values() if len(info.shape) == 2]
    if not matrices:
        raise CheckpointError("it holds no matrices", path=drafter.path)
    dtype, _ = Counter(info.dtype for info in matrices).most_common(1)[0]
    held = DraftVocab.full(drafter.vocab_size)
    shape = (held.size, drafter.integer("embedding_length"))
    nbytes = stored_type(dtype, tensor=OUTPUT, path=drafter.path).bytes_of(shape)
    weight = TensorInfo(OUTPUT, dtype, shape, drafter.path, 0, nbytes)
    order = np.arange(held.size)
    return GgufHead(drafter.weights, weight, OUTPUT, (), HeadOrigin.TARGET, held, order)


def _mapping(head: GgufHead) -> str:
    if head.held.is_full:
        return NO_MAPS
    ascending = "ascending" if (np.diff(head.order) > 0).all() else "not in ascending order"
    return f"{D2T} of absolute ids, {ascending}: {head.held.ids[0]:,} to {head.held.ids[-1]:,}"


def _trimmed_by(drafter: GgufModel) -> dict[str, Any]:
    if METADATA_KEY not in drafter.header.entries:
        return {}
    manifest = Manifest.from_json(drafter.header.text(METADATA_KEY), Path(drafter.path))
    return {"tool": manifest.tool, "options": dict(manifest.options), "facts": dict(manifest.facts)}
