"""A sampled trace on disk: safetensors, with the texts' names in the manifest.

Tensors `prompt_ids`, `tokens` and `lengths` as in `core/trace_file.py`, and
`accepted`, `overlap`, `order` as in `SampledTrace`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vocabtrim.core.errors import ArtifactError
from vocabtrim.core.manifest import Manifest, read_artifact, read_manifest, write_artifact
from vocabtrim.core.sampled_trace import SampledTrace
from vocabtrim.core.trace import Trace, TraceError
from vocabtrim.core.trace_file import SAMPLED_KIND, packed_texts, read_trace, unpacked_texts


def write_sampled_trace(
    path: Path,
    trace: SampledTrace,
    *,
    inputs: Mapping[str, str],
    options: Mapping[str, Any],
    facts: Mapping[str, Any],
    force: bool = False,
) -> None:
    """Write `trace`, atomically; arguments and errors are those of `write_trace`."""
    tensors, texts = packed_texts(trace.texts)
    tensors |= {"accepted": trace.accepted, "overlap": trace.overlap, "order": trace.order}
    own = {
        "texts": texts,
        "sizes": list(trace.sizes),
        "own_depths": trace.own_depths,
        "max_gamma": trace.max_gamma,
    }
    manifest = Manifest(
        SAMPLED_KIND, trace.vocab_size, trace.tokenizer, inputs, options, {**facts, **own}
    )
    write_artifact(path, tensors, manifest, force=force)


def read_sampled_trace(path: Path) -> tuple[SampledTrace, Manifest]:
    """Read a sampled trace and its manifest.

    Raises:
        ArtifactError: The file is missing, damaged, or something else.
    """
    tensors, manifest = read_artifact(path, SAMPLED_KIND)
    if manifest.tokenizer is None:
        raise ArtifactError(f"{path}: this trace does not name its tokenizer")
    facts = manifest.facts
    try:
        trace = SampledTrace(
            texts=unpacked_texts(tensors, facts["texts"]),
            sizes=tuple(int(size) for size in facts["sizes"]),
            order=tensors["order"].astype(np.int64),
            accepted=tensors["accepted"],
            overlap=tensors["overlap"],
            own_depths=bool(facts["own_depths"]),
            max_gamma=int(facts["max_gamma"]),
            vocab_size=manifest.vocab_size,
            tokenizer=manifest.tokenizer,
        )
    except (KeyError, TypeError, ValueError, IndexError, TraceError) as fault:
        raise ArtifactError(f"{path}: this trace is damaged ({fault})") from fault
    return trace, manifest


def read_any_trace(path: Path) -> tuple[Trace | SampledTrace, Manifest]:
    """Read a trace of either kind, by its content.

    Raises:
        ArtifactError: The file is missing, damaged, or something else.
    """
    if read_manifest(path).kind == SAMPLED_KIND:
        return read_sampled_trace(path)
    return read_trace(path)
