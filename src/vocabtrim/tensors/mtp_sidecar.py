"""What the config of a sidecar remembers of the target that it lies beside.

A sidecar holds the kept rows of a target's head, for the prediction layers that
the target brings along (`native_mtp.py`). An engine opens it on its own, before or
without the target, so the text config of the target goes along: engines shape the
prediction layers by it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vocabtrim.core.errors import CheckpointError
from vocabtrim.tensors.checkpoint import Checkpoint

REMEMBERED = "vocabtrim"
SIDECAR = "mtp_sidecar"
TARGET_CONFIG = "target_config"

_BESIDE_TEXT = ("quantization_config", "dtype", "torch_dtype")
"""Keys that a model which also sees states once, outside its text config."""


def is_sidecar(config: Mapping[str, Any]) -> bool:
    """Return whether a config is that of a sidecar."""
    ours = config.get(REMEMBERED)
    return isinstance(ours, dict) and SIDECAR in ours


def remember_target(target: Checkpoint) -> dict[str, Any]:
    """Return what a sidecar remembers of a target's config, under its key."""
    beside = {key: target.config[key] for key in _BESIDE_TEXT if key in target.config}
    return {TARGET_CONFIG: beside | dict(target.text_config)}


def target_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the text config of the target that a sidecar lies beside.

    Args:
        config: Of the sidecar.

    Raises:
        CheckpointError: It is none of a sidecar, or of one that remembers none.
    """
    found = config[REMEMBERED].get(TARGET_CONFIG) if is_sidecar(config) else None
    if not isinstance(found, dict):
        raise CheckpointError("a sidecar remembers its target's config; trim the target again")
    return found
