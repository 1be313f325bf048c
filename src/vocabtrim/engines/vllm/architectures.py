"""The classes that vLLM gets a reduced head for, under the names that exports carry.

A trimmed drafter names its class `Trimmed…`, which stock vLLM refuses. Each of
these names stands here with the class of vLLM whose trunk it has. A class belongs
here when its logits are `logits_processor(lm_head, hidden)` and nothing else: then
head and processor can be replaced by smaller ones.

Data only, read by the exporter, which has no vLLM, and by the plug-in inside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

TRIMMED = "Trimmed"
EAGLE = "Eagle"


class Kind(StrEnum):
    """Where vLLM takes a drafter's layers from."""

    WHOLE = "its own directory"
    PREDICTION = "the target"


@dataclass(frozen=True)
class Architecture:
    """A class of vLLM that can have a reduced head.

    Args:
        stock: Its name in vLLM's registry.
        kind: Where its layers are.
        model_type: What a config that names it has as `model_type`, where that is
            none that transformers knows.
    """

    stock: str
    kind: Kind = Kind.WHOLE
    model_type: str | None = None


def _named(family: Mapping[str, Architecture]) -> Mapping[str, Architecture]:
    return MappingProxyType(dict(family))


INDEPENDENT: Mapping[str, Architecture] = _named(
    {
        f"{TRIMMED}{name}": Architecture(name)
        for name in (
            "LlamaForCausalLM",
            "MistralForCausalLM",
            "Qwen2ForCausalLM",
            "Qwen3ForCausalLM",
        )
    }
)
"""Independent drafters (`method: draft_model`)."""

EAGLES: Mapping[str, Architecture] = _named(
    {f"{EAGLE}{TRIMMED}LlamaForCausalLM": Architecture("EagleLlamaForCausalLM")}
)
"""EAGLE-1 and EAGLE-2: vLLM puts `Eagle` before the name in the config."""

PREDICTIONS: Mapping[str, Architecture] = _named(
    {
        f"{TRIMMED}Qwen3_5MTP": Architecture("Qwen3_5MTP", Kind.PREDICTION, "qwen3_5_mtp"),
        f"{TRIMMED}Qwen3_5MoeMTP": Architecture("Qwen3_5MoeMTP", Kind.PREDICTION, "qwen3_5_mtp"),
        f"{TRIMMED}Qwen3NextMTP": Architecture("Qwen3NextMTP", Kind.PREDICTION, "qwen3_next_mtp"),
    }
)
"""Prediction layers that targets bring along (`method: mtp`)."""

OF_TARGET: Mapping[str, str] = MappingProxyType(
    {
        "qwen3_5": f"{TRIMMED}Qwen3_5MTP",
        "qwen3_5_text": f"{TRIMMED}Qwen3_5MTP",
        "qwen3_5_moe": f"{TRIMMED}Qwen3_5MoeMTP",
        "qwen3_5_moe_text": f"{TRIMMED}Qwen3_5MoeMTP",
        "qwen3_next": f"{TRIMMED}Qwen3NextMTP",
    }
)
"""`model_type` of a target → the class of its prediction layers."""

ARCHITECTURES: Mapping[str, Architecture] = _named({**INDEPENDENT, **EAGLES, **PREDICTIONS})
"""All of them, by the name in vLLM's registry."""
