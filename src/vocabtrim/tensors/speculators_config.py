"""The config of an EAGLE-3 drafter, from the flat layout to speculators' and back.

speculators nests the decoder's config in `transformer_layer_config` and says
beside it how many tokens to propose and for which target. The values are the
same; only what the one layout cannot say is refused, never dropped. Source:
vllm-project/speculators `config.py`, `models/eagle3/config.py`, version 0.9; its
readers take keys that they do not know.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vocabtrim.core.errors import CheckpointError
from vocabtrim.tensors.eagle3_layout import (
    FEATURE_KEY,
    MODEL_TYPE,
    NESTED_CONFIG,
    Counting,
    stated_layers,
    with_layers,
)

SPECULATORS_VERSION = "0.9.0"
LAYER_CONFIG = "transformer_layer_config"

_FLAT_ARCHITECTURE = "LlamaForCausalLMEagle3"
_ARCHITECTURE = "Eagle3Speculator"

_SWITCHES = (
    "norm_before_residual",
    "norm_before_fc",
    "fc_norm",
    "norm_output",
    "embed_requires_grad",
)
_DRAFTER_KEYS = ("draft_vocab_size", "target_hidden_size", *_SWITCHES)
"""What describes the drafter and not its decoder layer, in both layouts."""

_ONLY_SPECULATORS = (
    MODEL_TYPE,
    LAYER_CONFIG,
    "speculators_config",
    "speculators_version",
    "auto_map",
    "has_no_defaults_at_init",
)
_OF_ANY_CONFIG = ("architectures", "dtype", "torch_dtype", "transformers_version")
_NESTED_DEFAULTS = {
    "use_aux_hidden_state": True,
    "use_input_layernorm_in_first_layer": True,
    "use_last_layernorm": True,
    "use_mtp_layernorm": False,
}
"""ModelOpt's switches, as the arithmetic of all other layouts has them."""


def flat_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the flat config of a drafter in speculators' layout.

    Feature layers are stated at the top level, as indices of `hidden_states`.

    Args:
        config: In speculators' layout.
    """
    layer = {key: value for key, value in config[LAYER_CONFIG].items() if key != "architectures"}
    of_drafter = {
        key: value
        for key, value in config.items()
        if key not in (*_ONLY_SPECULATORS, "architectures", FEATURE_KEY)
        and not (key in _DRAFTER_KEYS and value in (None, False))
    }
    flat = {"architectures": [_FLAT_ARCHITECTURE], **layer, **of_drafter}
    flat["tie_word_embeddings"] = False
    return with_layers(flat, stated_layers(config), Counting.INPUTS)


def speculators_config(
    config: Mapping[str, Any],
    *,
    verifier: str | None,
    verifier_architectures: Sequence[str],
    tokens: int,
    layers: Sequence[int] | None,
) -> dict[str, Any]:
    """Return the config in speculators' layout of a flat drafter.

    Args:
        config: Flat.
        verifier: Name or path of the target; None to name none.
        verifier_architectures: What its config calls its class.
        tokens: How many tokens a draft has.
        layers: Indices of `hidden_states` that are fused; None leaves the
            default, which speculators takes from the target.

    Raises:
        CheckpointError: It computes something that this layout cannot say.
    """
    nested = _switches(config)
    layer = {
        key: value
        for key, value in config.items()
        if key not in (*_DRAFTER_KEYS, *_OF_ANY_CONFIG, NESTED_CONFIG, FEATURE_KEY)
    }
    own = {key: config[key] for key in (*_DRAFTER_KEYS, *_OF_ANY_CONFIG) if key in config}
    own |= {"architectures": [_ARCHITECTURE], "draft_vocab_size": _rows(config)}
    for key in _SWITCHES:
        own[key] = bool(config.get(key, nested.get(key, False)))
    return {
        **own,
        FEATURE_KEY: None if layers is None else list(layers),
        "speculators_config": {
            "algorithm": "eagle3",
            "default_proposal_method": "greedy",
            "proposal_methods": [{"proposal_type": "greedy", "speculative_tokens": tokens}],
            "verifier": {
                "architectures": list(verifier_architectures),
                "name_or_path": verifier,
            },
        },
        MODEL_TYPE: "eagle3",
        "speculators_version": SPECULATORS_VERSION,
        "tie_word_embeddings": False,
        LAYER_CONFIG: {"model_type": "llama", **layer, "tie_word_embeddings": False},
    }


def _rows(config: Mapping[str, Any]) -> int:
    """Return K; a flat config that states none means V."""
    stated = config.get("draft_vocab_size")
    return int(config["vocab_size"] if stated is None else stated)


def _switches(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return ModelOpt's switches, refusing what speculators has none for."""
    nested = config.get(NESTED_CONFIG)
    nested = nested if isinstance(nested, dict) else {}
    for key, default in _NESTED_DEFAULTS.items():
        if nested.get(key, default) != default:
            raise CheckpointError(
                f"its {NESTED_CONFIG} sets {key} to {nested[key]!r}, and speculators' layout "
                "has no word for that"
            )
    return nested
