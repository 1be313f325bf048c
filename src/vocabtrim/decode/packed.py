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

OPERATORS = ("_is_mkldnn_bf16_supported", "_linear_pointwise", "_reorder_linear_weight")

Product = Callable[[torch.Tensor], torch.Tensor]


def packs(weight: torch.Tensor) -> bool:
    """Return whether a weight [n, k] is better kept rearranged, which was measured on x86 only."""
    return weight.device.type == "cpu" and weight.dtype == torch.bfloat16 and _has_operators()


def _has_operators() -> bool:
    operators: Any = torch.ops.mkldnn
    library: Any = torch.backends.mkldnn
    return (
        platform.machine().lower() in ("x86_64", "amd64")
        and library.is_available()
        and all(hasattr(operators, name) for name in OPERATORS)
        and bool(operators._is_mkldnn_bf16_supported())
    )


def product(weight: torch.Tensor, bias: torch.Tensor | None = None) -> Product:
    """Return what multiplies by a weight [n, k]: [..., k] to [..., n].

    Where `packs` holds, a rearranged copy is made, and results may differ from
    `linear` in rounding; each row's own depend neither on the other rows nor on
    how many there are up to eight (they are equal bit by bit where it was measured).
    """
    return (
        PackedLinear(weight, bias) if packs(weight) else partial(linear, weight=weight, bias=bias)
    )


class PackedLinear(torch.nn.Module):
    """A linear layer whose weight is rearranged; for inference, where it stands.

    It is neither saved nor moved to another device. `weight` tells shape and
    dtype as `torch.nn.Linear` does, and holds no values.

    Args:
        weight: [n, k] of which `packs` holds.
        bias: [n] or None.
    """

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None = None) -> None:
        super().__init__()
        operators: Any = torch.ops.mkldnn
        self.weight = torch.empty_like(weight, device="meta")
        self._packed = operators._reorder_linear_weight(weight.detach(), None)
        self._bias = None if bias is None else bias.detach()
        self._multiply = operators._linear_pointwise

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Return [..., n] of [..., k]."""
        rows = values.reshape(-1, values.shape[-1])
        found: torch.Tensor = self._multiply(rows, self._packed, self._bias, "none", [], "")
        return found.view(*values.shape[:-1], self.weight.shape[0])


def pack_linears(model: Any) -> Any:
    """Replace a model's linear layers, in place, where `packs` holds of their weights.

    A head that is tied to the embedding becomes a copy; other weights are freed.

    Args:
        model: For inference only from now on, and on this device.

    Returns:
        The model.
    """
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            # subclasses may compute something else
            if type(child) is torch.nn.Linear and packs(child.weight):
                setattr(parent, name, PackedLinear(child.weight, child.bias))
    return model
