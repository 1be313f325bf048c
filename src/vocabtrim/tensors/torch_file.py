"""What a `.pt` file holds, read by torch where torch is installed.

Only data is loaded (`weights_only=True`): a file that would run code is refused.
torch is looked up by its name, at the moment that such a file is met, because
nothing else at this level of the package may lean on it.
"""

from __future__ import annotations

import importlib
import io
import pickle
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from vocabtrim.core.errors import ArtifactError, MissingExtra


def load_torch(path: Path) -> Any:
    """Return what a `.pt` file holds, tensors as arrays, in lists and mappings too.

    Raises:
        MissingExtra: torch is not installed.
        ArtifactError: torch cannot read it, or will not without running it.
    """
    torch = _torch(f"{path} can be read with torch only")
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as fault:
        raise ArtifactError(
            f"{path}: this pickle holds more than numbers, and loading it would run what it "
            "holds; save a list or a tensor with torch.save"
        ) from fault
    except (RuntimeError, EOFError, ValueError, KeyError) as fault:
        reason = str(fault).strip().splitlines()
        raise ArtifactError(
            f"{path} is not a whole .pt file ({reason[0] if reason else type(fault).__name__})"
        ) from fault
    return _without_tensors(loaded, torch)


def torch_bytes(value: Any) -> bytes:
    """Return `value` as torch saves it.

    Raises:
        MissingExtra: torch is not installed.
    """
    stream = io.BytesIO()
    _torch("a .pt file can be written with torch only").save(value, stream)
    return stream.getvalue()


def _torch(why: str) -> ModuleType:
    try:
        return importlib.import_module("torch")
    except ImportError as fault:
        raise MissingExtra(why, "torch") from fault


def _without_tensors(value: Any, torch: ModuleType) -> Any:
    if isinstance(value, torch.Tensor):
        whole = value.detach()
        # numpy has no bfloat16; no list of ids is one, and its kind is all that is asked
        return whole.float().numpy() if whole.is_floating_point() else np.asarray(whole.numpy())
    if isinstance(value, dict):
        return {key: _without_tensors(one, torch) for key, one in value.items()}
    if isinstance(value, list | tuple) and any(isinstance(one, torch.Tensor) for one in value):
        return [_without_tensors(one, torch) for one in value]
    return value
