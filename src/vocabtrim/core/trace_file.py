"""A trace on disk: safetensors, with the texts' names in the manifest.

Tensors `prompt_ids` and `tokens`, all texts one after another, `lengths` [P, 2]
of both; `candidates`, `scores`, `target_rank`, `target_score` as in `Trace`; and
of positions resolved for a vocabulary `above_at` [n, 3] (row, depth, how many)
with `above` one after another. `head_ids` [R] where the head has not all rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vocabtrim.core.errors import ArtifactError
from vocabtrim.core.manifest import Manifest, read_artifact, read_manifest, write_artifact
from vocabtrim.core.trace import Trace, TracedText, TraceError

KIND = "trace"
SAMPLED_KIND = "sampled trace"
"""What `core/sampled_trace_file.py` writes."""


def write_trace(
    path: Path,
    trace: Trace,
    *,
    inputs: Mapping[str, str],
    options: Mapping[str, Any],
    facts: Mapping[str, Any],
    force: bool = False,
) -> None:
    """Write `trace`, atomically.

    Args:
        path: The file to make.
        trace: What to write.
        inputs: Name of each input to its hash.
        options: What was asked for.
        facts: What came out besides: names of target and drafter, costs.
        force: Replace `path` if it exists.

    Raises:
        OutputExists: `path` is there and `force` is not given.
        EnvironmentFailure: The disk is full or not writable.
    """
    places = sorted(trace.above)
    above = [trace.above[place] for place in places]
    tensors, texts = packed_texts(trace.texts)
    tensors |= {
        "candidates": trace.candidates,
        "scores": trace.scores,
        "target_rank": trace.target_rank,
        "target_score": trace.target_score,
        "above_at": np.array(
            [(*place, ids.size) for place, ids in zip(places, above, strict=True)], dtype=np.int64
        ).reshape(-1, 3),
        "above": _joined(above).astype(np.int32),
    }
    if trace.head_ids is not None:
        tensors["head_ids"] = trace.head_ids
    own = {
        "texts": texts,
        "own_depths": trace.own_depths,
        "max_gamma": trace.max_gamma,
    }
    manifest = Manifest(KIND, trace.vocab_size, trace.tokenizer, inputs, options, {**facts, **own})
    write_artifact(path, tensors, manifest, force=force)


def holds_trace(path: Path) -> bool:
    """Return whether a file is a trace of ours, by its content."""
    try:
        return read_manifest(path).kind == KIND
    except ArtifactError:
        return False


def read_trace(path: Path) -> tuple[Trace, Manifest]:
    """Read a trace and its manifest.

    Raises:
        ArtifactError: The file is missing, damaged, or something else.
    """
    if read_manifest(path).kind == SAMPLED_KIND:
        raise ArtifactError(
            f"{path} is of sampled texts, which say nothing of other vocabularies than their own: "
            "give a greedy trace (`vocabtrim trace` without --temperature)"
        )
    tensors, manifest = read_artifact(path, KIND)
    if manifest.tokenizer is None:
        raise ArtifactError(f"{path}: this trace does not name its tokenizer")
    try:
        trace = _from_tensors(tensors, manifest, manifest.tokenizer)
    except (KeyError, TypeError, ValueError, IndexError, TraceError) as fault:
        raise ArtifactError(f"{path}: this trace is damaged ({fault})") from fault
    return trace, manifest


def _from_tensors(tensors: Mapping[str, NDArray[Any]], manifest: Manifest, tokenizer: str) -> Trace:
    facts = manifest.facts
    places = tensors["above_at"]
    above = _split(tensors["above"], places[:, 2])
    return Trace(
        texts=unpacked_texts(tensors, facts["texts"]),
        candidates=tensors["candidates"],
        scores=tensors["scores"],
        target_rank=tensors["target_rank"],
        target_score=tensors["target_score"],
        own_depths=bool(facts["own_depths"]),
        max_gamma=int(facts["max_gamma"]),
        vocab_size=manifest.vocab_size,
        tokenizer=tokenizer,
        above={
            (int(row), int(depth)): ids
            for (row, depth, _), ids in zip(places.tolist(), above, strict=True)
        },
        head_ids=tensors.get("head_ids"),
    )


def packed_texts(
    texts: Sequence[TracedText],
) -> tuple[dict[str, NDArray[Any]], list[tuple[str, str, int]]]:
    """Return texts as tensors, and their names, domains and budgets."""
    lengths = [(text.prompt_ids.size, text.tokens.size) for text in texts]
    tensors: dict[str, NDArray[Any]] = {
        "prompt_ids": _joined([text.prompt_ids for text in texts]),
        "tokens": _joined([text.tokens for text in texts]),
        "lengths": np.array(lengths, dtype=np.int64).reshape(-1, 2),
    }
    return tensors, [(text.name, text.domain, text.budget) for text in texts]


def unpacked_texts(
    tensors: Mapping[str, NDArray[Any]], named: Sequence[Sequence[Any]]
) -> tuple[TracedText, ...]:
    """Return what `packed_texts` was given.

    Raises:
        KeyError, TypeError, ValueError, IndexError, TraceError: They contradict each other.
    """
    prompts = _split(tensors["prompt_ids"], tensors["lengths"][:, 0])
    tokens = _split(tensors["tokens"], tensors["lengths"][:, 1])
    return tuple(
        TracedText(str(name), str(domain), prompt, new, int(budget))
        for (name, domain, budget), prompt, new in zip(named, prompts, tokens, strict=True)
    )


def _joined(parts: list[NDArray[Any]]) -> NDArray[np.int64]:
    return np.concatenate([np.empty(0, dtype=np.int64), *parts]).astype(np.int64)


def _split(flat: NDArray[Any], lengths: NDArray[np.int64]) -> list[NDArray[Any]]:
    if (lengths < 0).any() or int(lengths.sum()) != flat.size:
        raise ValueError(f"lengths that sum to {lengths.sum()} over {flat.size} entries")
    return np.split(flat, np.cumsum(lengths)[:-1]) if lengths.size else []
