"""What a decoding step of a causal LM that is a GGUF file holds and reads.

The counterpart of `causal.target_cost` for files of llama.cpp: its head is
`output.weight`, or the input embedding where there is none, and of experts a
token reads as many as the file says that it uses. Sizes are those of the stored
types, which is what llama.cpp reads.
"""

from __future__ import annotations

from vocabtrim.core.errors import CheckpointError
from vocabtrim.core.metrics import StepCost
from vocabtrim.tensors.causal import row_bytes
from vocabtrim.tensors.gguf_drafter import EMBEDDING, OUTPUT
from vocabtrim.tensors.gguf_model import GgufModel
from vocabtrim.tensors.tensor_info import TensorInfo

_OUTPUT_BIAS = "output.bias"


def gguf_causal_cost(model: GgufModel) -> StepCost:
    """Return what one decoding step of a causal LM holds and reads.

    Raises:
        CheckpointError: It is none: it has no input embedding.
    """
    embedding = model.tensors.get(EMBEDDING)
    if embedding is None:
        raise CheckpointError(f"it is no causal LM: it has no {EMBEDDING}", path=model.path)
    tied = OUTPUT not in model.tensors
    weight = embedding if tied else model.tensors[OUTPUT]
    bias = model.tensors.get(_OUTPUT_BIAS)
    head = [weight, *([bias] if bias is not None else [])]
    beside = {EMBEDDING, OUTPUT, _OUTPUT_BIAS}
    trunk = [info for name, info in model.tensors.items() if name not in beside]
    head_bytes = sum(info.nbytes for info in head)
    share = _expert_share(model)
    trunk_bytes = sum(info.nbytes * (share if _is_expert(info) else 1.0) for info in trunk)
    return StepCost(
        params=sum(info.n_params for info in (*trunk, *head)) + (0 if tied else embedding.n_params),
        head_params=sum(info.n_params for info in head),
        step_bytes=round(trunk_bytes) + head_bytes + row_bytes(embedding, None),
        head_bytes=head_bytes,
    )


def _is_expert(info: TensorInfo) -> bool:
    return "_exps." in info.name


def _expert_share(model: GgufModel) -> float:
    """Return the share of the experts that a token is routed to."""
    keys = (f"{model.architecture}.expert_used_count", f"{model.architecture}.expert_count")
    used, held = (model.header.value(key) for key in keys)
    if isinstance(used, int) and isinstance(held, int) and 0 < used <= held:
        return used / held
    return 1.0
