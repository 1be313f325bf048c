"""`check --probe`: draft a little, rightly and in the ways in which it could be wrong.

A wrong map and wrong feature layers change nothing but how much is accepted. So a
few prompts are decoded greedily with the drafter as it is, and again with its map
undone (rows in other orders) and with the layers that it is fed moved by one. What
is accepted more than as it is by a margin that chance does not explain is a fault.
The text is the target's own in all of them; only acceptance is looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import sqrt
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vocabtrim.core.errors import CheckpointError, DecodeError, VocabError
from vocabtrim.core.metrics import AcceptCounts
from vocabtrim.core.vocab import DraftVocab
from vocabtrim.families.base import DrafterFamily, family_of
from vocabtrim.pipeline.checks.base import ALL, Said, odd, said, wrong
from vocabtrim.pipeline.checks.subject import Subject
from vocabtrim.tensors.checkpoint import Checkpoint
from vocabtrim.tensors.eagle3_layout import (
    FEATURE_KEY,
    NESTED_CONFIG,
    Layout,
    feature_layers,
    is_eagle3,
    layout_of,
)
from vocabtrim.tensors.head_source import T2D
from vocabtrim.tensors.locate import locate
from vocabtrim.tokens.prompts import Prompt, PromptEncoder

GAMMA, NEW_TOKENS, MOST_PROMPTS = 4, 48, 8

SIGMAS = 4.0
"""Standard errors by which two means differ before chance is ruled out."""

AS_IS = "as it is"


@dataclass(frozen=True)
class Probed:
    """What a probe says.

    Args:
        name: Of the check.
        said: What was found.
    """

    name: str
    said: Said


def probe_drafter(
    subject: Subject, prompts: Sequence[Prompt]
) -> tuple[list[Probed], tuple[tuple[str, float], ...]]:
    """Decode prompts with a drafter and with what it could have been meant to be.

    Args:
        subject: A drafter, with its target.
        prompts: The first few are decoded.

    Returns:
        What was found, and acceptance by variant.

    Raises:
        DecodeError: It has no target, or its family is not decoded here.
        TokenizerError: The target's tokenizer cannot be read.
    """
    if subject.checkpoint is None:
        raise DecodeError(
            f"a probe decodes drafters that are directories, and {subject.path} is "
            f"{subject.form.value}"
        )
    if subject.target is None:
        raise DecodeError("a probe decodes a drafter with its target: give --target")
    from vocabtrim.decode.model import load_model

    # a GGUF file is converted, once: it is to be computed with
    target = Checkpoint.open(locate(str(subject.target.path)))
    encoder = PromptEncoder(target.path)
    texts = [encoder.encode(one).tolist() for one in prompts[:MOST_PROMPTS]]
    # the map is what engines go by; a mask that contradicts it has its own check
    plain = {name: info for name, info in subject.checkpoint.tensors.items() if name != T2D}
    drafter = replace(subject.checkpoint, tensors=MappingProxyType(plain))
    family = family_of(drafter, to_decode=True)
    model = load_model(target.path, "float32")
    try:
        counted = {
            name: _accepted(model, build(), texts)
            for name, build in _variants(family, drafter, target, model)
        }
    except (CheckpointError, VocabError) as fault:
        what = said(
            f"it cannot be drafted with ({fault})", odd(ALL, "is not told apart by a probe")
        )
        return [Probed("probe", what)], ()
    figures = tuple((name, one.acceptance_rate or 0.0) for name, one in counted.items())
    return list(_judged(counted)), figures


def _variants(
    family: DrafterFamily, drafter: Checkpoint, target: Checkpoint, model: Any
) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Yield what to decode with: a name, and what opens it."""
    opened = partial(family.load_drafter, target=target, model=model, vocab=None)
    yield AS_IS, partial(opened, drafter)
    source = family.head(drafter, target)
    if not source.held.is_full:
        ids = np.empty_like(source.held.ids)
        ids[np.arange(ids.size) if source.order is None else source.order] = source.held.ids
        for name, other in _other_maps(ids, source.held.vocab_size).items():
            yield name, partial(_remapped, partial(opened, drafter), ids, other)
    if is_eagle3(drafter):
        depth = target.integer("num_hidden_layers")
        layers = feature_layers(drafter.config, depth)
        for step in (-1, 1):
            moved = [index + step for index in layers]
            if min(moved) >= 0 and max(moved) <= depth:
                yield f"feature layers {step:+d}", partial(opened, _with_layers(drafter, moved))


def _other_maps(ids: NDArray[np.int64], vocab_size: int) -> dict[str, NDArray[np.int64]]:
    """Return other ids for the same rows, [K] each, that are possible and not the same."""
    numbers = ids - np.arange(ids.size)
    others = {
        "map undone (the first ids)": np.arange(ids.size),
        "map of ids in place of offsets": numbers,
        "map in ascending order": np.sort(ids),
    }
    return {
        name: other
        for name, other in others.items()
        if not np.array_equal(other, ids)
        and np.unique(other).size == other.size
        and other.min() >= 0
        and other.max() < vocab_size
    }


def _remapped(opened: Callable[[], Any], ids: NDArray[np.int64], other: NDArray[np.int64]) -> Any:
    """Open a drafter and let the rows of its head stand for other ids.

    Args:
        opened: Opens it; its head has the rows in ascending order of `ids`.
        ids: [K] by row of the file.
        other: [K] the same rows' other ids.
    """
    from vocabtrim.decode.drafters.base import ReducedHead

    drafter = opened()
    head = drafter.head
    meant = other[np.argsort(ids)]
    order = np.argsort(meant)
    vocab = DraftVocab(meant[order], head.vocab.vocab_size)
    bias = None if head.bias is None else head.bias[order]
    drafter.head = ReducedHead(head.weight[order], vocab, bias)
    return drafter


def _with_layers(drafter: Checkpoint, layers: Sequence[int]) -> Checkpoint:
    """Return the drafter as if its config stated other layers."""
    config = {**drafter.config, FEATURE_KEY: list(layers)}
    if layout_of(config) is Layout.FLAT:
        config.pop(NESTED_CONFIG, None)
    return replace(drafter, config=MappingProxyType(config))


def _accepted(model: Any, drafter: Any, texts: Sequence[Sequence[int]]) -> AcceptCounts:
    from vocabtrim.decode.chain import speculate
    from vocabtrim.decode.target import Target

    target = Target(model, drafter.feature_layers)
    counts = AcceptCounts.zero(GAMMA)
    for ids in texts:
        text = speculate(target, drafter, ids, gamma=GAMMA, max_new_tokens=NEW_TOKENS)
        counts = counts + text.counts
    return counts


def _judged(counted: dict[str, AcceptCounts]) -> Iterator[Probed]:
    """Say which variant is accepted more than the drafter as it is, if one is."""
    base = counted.pop(AS_IS)
    for name, other in counted.items():
        if _better(other, base):
            what = (
                f"{name}: {other.acceptance_rate:.1%} of its drafts are accepted, and "
                f"{base.acceptance_rate:.1%} as it is"
            )
            check = "probe-layers" if name.startswith("feature") else "probe-map"
            yield Probed(check, said(what, wrong(ALL, "is given the wrong one by this file")))


def _better(one: AcceptCounts, base: AcceptCounts) -> bool:
    """Return whether more is accepted in a cycle than chance explains."""
    (mean, error), (base_mean, base_error) = _per_cycle(one), _per_cycle(base)
    return mean - base_mean > SIGMAS * sqrt(error**2 + base_error**2)


def _per_cycle(counts: AcceptCounts) -> tuple[float, float]:
    """Return the mean of accepted drafts in a cycle, and its standard error."""
    cycles, depths = max(counts.cycles, 1), np.arange(counts.accepted.size)
    mean = counts.n_accepted / cycles
    variance = float(counts.accepted @ (depths - mean) ** 2) / cycles
    return mean, sqrt(variance / cycles)
