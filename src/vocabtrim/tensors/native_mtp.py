"""Where a checkpoint keeps the multi-token-prediction layers it was trained with.

Some targets ship their own drafter: a fusion layer and one decoder layer more,
beside the ordinary ones. They have no vocabulary of their own; engines give them
the target's embedding and head, and overwrite copies that a file may hold. Two
layouts:

* `mtp.*`, with `mtp.fc` (Qwen3-Next, Qwen3.5; vLLM `qwen3_next_mtp.py`);
* `model.layers.{N}.*` for N at and beyond `num_hidden_layers`, with `eh_proj`
  (DeepSeek-V3, `num_nextn_predict_layers`; vLLM `deepseek_mtp.py`; GLM-4.5 too).

Not covered: drafters exported on their own, and layers that read fewer ids
anyhow (Gemma's assistants).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from vocabtrim.tensors.tensor_info import TensorInfo

_QWEN_PREFIX = "mtp."
_QWEN_FUSION = "mtp.fc."
_NEXT_LAYER = re.compile(r"(?:^|\.)layers\.(\d+)\.")
_NEXT_FUSION = "eh_proj."
_COPIES = ("embed_tokens.", "shared_head.head.")


@dataclass(frozen=True)
class NativeMtp:
    """The prediction layers of a target.

    Args:
        layout: "qwen3-next" or "deepseek-v3".
        tensors: Their weights; copies of the target's embedding and head are
            not among them.
        copies: Those copies, which engines replace by the target's own.
        depths: Prediction layers that follow one another; a draft step reads one.
    """

    layout: str
    tensors: tuple[TensorInfo, ...]
    copies: tuple[TensorInfo, ...]
    depths: int


def native_mtp(tensors: Mapping[str, TensorInfo], layers: int | None) -> NativeMtp | None:
    """Find the prediction layers among a checkpoint's tensors.

    Args:
        tensors: All of them, by name.
        layers: `num_hidden_layers`; without it, no layer is one too many.

    Returns:
        None where there are none.
    """
    if any(name.startswith(_QWEN_FUSION) for name in tensors):
        found = [info for name, info in tensors.items() if name.startswith(_QWEN_PREFIX)]
        return _split("qwen3-next", found, 1)
    beyond: dict[int, list[TensorInfo]] = {}
    for name, info in tensors.items():
        numbered = _NEXT_LAYER.search(name)
        if numbered and layers is not None and int(numbered[1]) >= layers:
            beyond.setdefault(int(numbered[1]), []).append(info)
    fused = [one for one in beyond.values() if any(f".{_NEXT_FUSION}" in i.name for i in one)]
    if not fused:
        return None
    return _split("deepseek-v3", [info for one in fused for info in one], len(fused))


def _split(layout: str, found: list[TensorInfo], depths: int) -> NativeMtp:
    def is_copy(info: TensorInfo) -> bool:
        return any(f".{copy}" in info.name for copy in _COPIES)

    return NativeMtp(
        layout,
        tuple(info for info in found if not is_copy(info)),
        tuple(info for info in found if is_copy(info)),
        depths,
    )
