"""Linear layers in the layout that a processor's bfloat16 kernels read.

A draft step or a verification multiplies a few rows by every weight once. On
processors `torch` gives such a product in bfloat16 to oneDNN, which rearranges
the weights, and does so again in every pass, because `torch.nn.Linear` keeps them
as they came. Rearranged once, they are only read (`docs/lab-log.md` says what it gains).
The operators are those that `torch.compile` freezes linear layers into
(`torch/_inductor/fx_passes/mkldnn_fusion.py`); where they are missing, or for
another device or dtype, everything stays as it is. In float32 the plain kernels
read weights as they are, and are the faster ones for up to three rows.
"""

from __future__ import annotations

import platform
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch.nn.functional import linear

from vocabtrim.core.errors import DecodeError

OPERATORS = ("_is_mkldnn_bf16_supported", "_linear_pointwise", "_reorder_linear_weight")

PLAIN_TENSORS = (torch.Tensor, torch.nn.Parameter)

Product = Callable[[torch.Tensor], torch.Tensor]


def packs(weight: torch.Tensor) -> bool:
    """Return whether a weight [n, k] is better kept rearranged.

    That holds of bfloat16 on x86 processors with AMX, which is where it was
    measured, and of nothing while `torch.backends.mkldnn` is switched off.
    """
    return (
        # a subclass holds its values in a way of its own
        type(weight) in PLAIN_TENSORS
        and weight.device.type == "cpu"
        and weight.dtype == torch.bfloat16
        and _has_operators()
    )


def _has_operators() -> bool:
    operators: Any = torch.ops.mkldnn
    library: Any = torch.backends.mkldnn
    return (
        platform.machine().lower() in ("x86_64", "amd64")
        and library.is_available()
        and library.enabled
        and torch.cpu._is_amx_tile_supported()
        and all(hasattr(operators, name) for name in OPERATORS)
        and bool(operators._is_mkldnn_bf16_supported())
    )


def product(weight: torch.Tensor, bias: torch.Tensor | None = None) -> Product:
    """Return what multiplies by a weight [n, k]: [..., k] to [..., n], of the weight's dtype.

    Where `packs` holds, a rearranged copy is made, and results may differ from
    `linear` in rounding. As with `linear`, those of a row may depend on how many
    rows there are: they do not for one to eight rows of the demo models' shapes,
    they do where k is no multiple of 32.
    """
    return (
        PackedLinear(weight, bias) if packs(weight) else partial(linear, weight=weight, bias=bias)
    )


class PackedLinear(torch.nn.Module):
    """A linear layer whose weight is rearranged; for inference, in bfloat16, where it stands.

    `weight` tells shape and dtype as `torch.nn.Linear` does, and holds no values.
    Copies of a model share it, for nothing changes it.

    Args:
        weight: [n, k] of which `packs` holds.
        bias: [n] bfloat16 or None.

    Raises:
        DecodeError: It is to be saved, or moved to another device or dtype.
    """

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None = None) -> None:
        super().__init__()
        operators: Any = torch.ops.mkldnn
        self.out_features, self.in_features = weight.shape
        self.weight = torch.empty_like(weight, device="meta")
        self.bias = None if bias is None else bias.detach()
        self._packed = operators._reorder_linear_weight(weight.detach(), None)
        self._multiply = operators._linear_pointwise

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Return [..., n] bfloat16 of [..., k] bfloat16."""
        rows = values.reshape(-1, values.shape[-1])
        found: torch.Tensor = self._multiply(rows, self._packed, self.bias, "none", [], "")
        return found.view(*values.shape[:-1], self.out_features)

    def __deepcopy__(self, memo: dict[int, Any]) -> PackedLinear:
        return self

    def _apply(self, fn: Callable[..., torch.Tensor], *_: Any, **__: Any) -> PackedLinear:
        there = fn(torch.empty(0, dtype=torch.bfloat16))
        if there.dtype != torch.bfloat16 or there.device.type != "cpu":
            raise DecodeError(
                f"weights packed for bfloat16 on this processor cannot be moved to "
                f"{str(there.dtype).removeprefix('torch.')} on {there.device}; load the model again"
            )
        return self

    def _save_to_state_dict(self, *_: Any) -> None:
        raise DecodeError("packed weights cannot be saved; save the model before they are packed")


def pack_linears(model: Any) -> Any:
    """Replace a model's linear layers, in place, where `packs` holds of their weights.

    A head that is tied to the embedding becomes a copy; other weights are freed.
    Layers that do more than multiply (subclasses, hooks, a forward of their own)
    stay as they are.

    Args:
        model: For inference only from now on, and on this device.

    Returns:
        The model.
    """
    made: dict[torch.nn.Module, PackedLinear] = {}
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if _only_multiplies(child) and packs(child.weight):
                if child not in made:
                    made[child] = PackedLinear(child.weight, child.bias)
                setattr(parent, name, made[child])
    return model


def is_packed(model: Any) -> bool:
    """Return whether any layer of a model was replaced."""
    return any(isinstance(one, PackedLinear) for one in model.modules())


def _only_multiplies(layer: torch.nn.Module) -> bool:
    """Return whether a layer is a linear one and nothing else."""
    return (
        type(layer) is torch.nn.Linear
        # compressed layers keep their weight under other names
        and isinstance(getattr(layer, "weight", None), torch.Tensor)
        and "forward" not in vars(layer)
        and not layer._forward_hooks
        and not layer._forward_pre_hooks
    )
