"""What vLLM calls in each of its processes (entry point group `vllm.general_plugins`).

`register` adds names to vLLM's registries and changes none that are there, so a
model that was not trimmed by us meets nothing of ours. What it adds is made when a
config asks for it (`models.py`, `mtp_config.py`), and then refused in one sentence
where vLLM is of a version that our tests did not run: the classes that are built
upon change from one to the next.

Nothing of vLLM or torch is imported before vLLM calls.
"""

from __future__ import annotations

from vocabtrim.engines.vllm.architectures import ARCHITECTURES

TESTED = ("0.32.0",)
"""Versions of vLLM that the engine tests ran with."""

MODELS = "vocabtrim.engines.vllm.models"


def register() -> None:
    """Tell vLLM which classes trimmed drafters have; may be called more than once."""
    from vllm import ModelRegistry

    from vocabtrim.engines.vllm.mtp_config import register_configs

    for name in ARCHITECTURES:
        ModelRegistry.register_model(name, f"{MODELS}:{name}")
    register_configs()


def refuse_untested(version: str) -> None:
    """Refuse a vLLM that our tests did not run.

    Args:
        version: What `vllm.__version__` says.

    Raises:
        ValueError: It is none of `TESTED`. vLLM shows only errors of Python's own
            in one piece.
    """
    if version.partition("+")[0] not in TESTED:
        raise ValueError(
            f"vocabtrim's reduced heads were tested with vLLM {', '.join(TESTED)}, found "
            f"{version}: serve the untrimmed drafter, or install one of those"
        )
