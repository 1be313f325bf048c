"""EAGLE-3 drafters as they lie on disk: two layouts, and two ways to count layers.

*Flat* (SafeAILab/EAGLE `cnets.py`, SpecForge, ModelOpt): one config, the decoder
layer under `midlayer.` (SafeAILab, SpecForge) or `layers.0.` (ModelOpt).
*speculators* (vllm-project/speculators `models/eagle3`): the decoder's config is
nested in `transformer_layer_config`, the layer under `layers.0.`. Tensors are
otherwise the same, and either may lack embedding, head or maps.

Which of the target's features are fused is here always a list of indices of
`hidden_states` in transformers: i is the *input* of layer i. At the top level of
a config that is what the list says (speculators, vLLM, llama.cpp). Inside
`eagle_config` it counts *outputs*, one less (ModelOpt's hooks, SGLang's reader).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any

from vocabtrim.core.errors import CheckpointError
from vocabtrim.tensors.checkpoint import Checkpoint

FUSION = "fc.weight"
EMBEDDING = "embed_tokens.weight"
MIDLAYER = "midlayer."
FIRST_LAYER = "layers.0."
LAYER_PREFIXES = (MIDLAYER, FIRST_LAYER)

FEATURE_KEY = "eagle_aux_hidden_state_layer_ids"
NESTED_CONFIG = "eagle_config"
MODEL_TYPE = "speculators_model_type"


class Layout(StrEnum):
    """How a drafter's config and names are laid out."""

    FLAT = "flat"
    SPECULATORS = "speculators"


class Counting(StrEnum):
    """How a config counts the target's layers."""

    INPUTS = "inputs"
    """`hidden_states[i]`, at the top level: vLLM, llama.cpp, speculators."""
    OUTPUTS = "outputs"
    """`hidden_states[i + 1]`, inside `eagle_config`: SGLang, ModelOpt."""
    BOTH = "both"
    """Each in its place: every one of these readers finds its own."""


def is_eagle3(checkpoint: Checkpoint) -> bool:
    """Return whether the tensors are those of an EAGLE-3 drafter, in either layout.

    It has a fusion layer, and a decoder layer with a `hidden_norm` that no
    ordinary one has. Drafters that predict several tokens at once have a
    `mask_hidden` besides, and are another family.
    """
    return (
        FUSION in checkpoint.tensors
        and any(f"{prefix}hidden_norm.weight" in checkpoint.tensors for prefix in LAYER_PREFIXES)
        and "mask_hidden" not in checkpoint.tensors
        and checkpoint.config.get(MODEL_TYPE, "eagle3") == "eagle3"
        and "hidden_size" in checkpoint.text_config
    )


def layout_of(config: Mapping[str, Any]) -> Layout:
    """Return which layout a config has."""
    return Layout.SPECULATORS if MODEL_TYPE in config else Layout.FLAT


def layer_prefix(names: Sequence[str]) -> str:
    """Return the prefix of the decoder layer among the names of tensors."""
    return next(
        prefix for prefix in LAYER_PREFIXES if any(name.startswith(prefix) for name in names)
    )


def stated_layers(config: Mapping[str, Any]) -> tuple[int, ...] | None:
    """Return which `hidden_states` a config says are fused; None where it does not.

    Raises:
        CheckpointError: It says it twice, and differently, or not as integers.
    """
    top = _integers(config.get(FEATURE_KEY))
    outputs = _integers(_nested(config).get(FEATURE_KEY))
    nested = None if outputs is None else tuple(index + 1 for index in outputs)
    if top is not None and nested is not None and top != nested:
        raise CheckpointError(
            f"its config names different feature layers: {FEATURE_KEY} {list(top)} counts inputs, "
            f"and {list(outputs or ())} inside {NESTED_CONFIG}, which counts outputs, are the "
            f"inputs {list(nested)}; remove the list that is wrong"
        )
    return nested if top is None else top


def feature_layers(config: Mapping[str, Any], target_layers: int) -> tuple[int, ...]:
    """Return the indices of the target's `hidden_states` that a drafter reads.

    Where nothing is stated: low, middle and high, as in the reference
    (SafeAILab/EAGLE, vLLM and SGLang agree).

    Args:
        config: The drafter's.
        target_layers: Layers of the target.

    Raises:
        CheckpointError: The config contradicts itself.
    """
    stated = stated_layers(config)
    return (2, target_layers // 2, target_layers - 3) if stated is None else stated


def with_layers(
    config: Mapping[str, Any], layers: Sequence[int] | None, counting: Counting
) -> dict[str, Any]:
    """Return a flat config that states its feature layers as its readers count.

    Args:
        config: Flat.
        layers: Indices of `hidden_states`; None to state none.
        counting: Who is to read it.

    Raises:
        CheckpointError: The embedding (index 0) is fused, which a count of
            outputs cannot say.
    """
    changed = {key: value for key, value in config.items() if key != FEATURE_KEY}
    nested = {key: value for key, value in _nested(config).items() if key != FEATURE_KEY}
    if layers is not None and counting is not Counting.OUTPUTS:
        changed[FEATURE_KEY] = list(layers)
    if layers is not None and counting is not Counting.INPUTS:
        if min(layers) < 1:
            raise CheckpointError(
                f"feature layers {list(layers)} include the embedding (0), which engines that "
                "count the outputs of layers cannot be given; write them for those that count "
                "inputs"
            )
        nested |= {"use_aux_hidden_state": True, FEATURE_KEY: [index - 1 for index in layers]}
    if nested:
        changed[NESTED_CONFIG] = nested
    else:
        changed.pop(NESTED_CONFIG, None)
    return changed


def _nested(config: Mapping[str, Any]) -> Mapping[str, Any]:
    nested = config.get(NESTED_CONFIG)
    return nested if isinstance(nested, dict) else {}


def _integers(stated: Any) -> tuple[int, ...] | None:
    # ModelOpt's configs hold an empty list where readers take their default
    if stated is None or stated == []:
        return None
    if not isinstance(stated, list) or any(type(one) is not int for one in stated):
        raise CheckpointError(f"{FEATURE_KEY} must be a list of integers, found {stated!r}")
    return tuple(stated)
