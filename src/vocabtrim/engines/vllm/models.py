"""vLLM's own drafters with a reduced head, made when vLLM asks for one by name.

Each is a class of vLLM with `ReducedHead` put before it, so trunk, attention and
weights are vLLM's. vLLM names a class as a module and an attribute of it; the
attributes of this module are the names in `architectures.py`.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from vocabtrim.engines.vllm.architectures import ARCHITECTURES, Kind
from vocabtrim.engines.vllm.plugin import refuse_untested


@cache
def model_class(name: str) -> Any:
    """Return the class of a trimmed drafter.

    Args:
        name: Of `ARCHITECTURES`.

    Raises:
        ValueError: vLLM is of a version that was not tested.
    """
    from vllm import ModelRegistry, __version__

    refuse_untested(__version__)
    from vocabtrim.engines.vllm.head import ReducedHead, ReducedPrediction

    architecture = ARCHITECTURES[name]
    stock = ModelRegistry.models[architecture.stock].load_model_cls()
    before = ReducedPrediction if architecture.kind is Kind.PREDICTION else ReducedHead
    body = {"__doc__": f"{architecture.stock} over K ids.", "__module__": __name__}
    return type(name, (before, stock), body)


def __getattr__(name: str) -> Any:
    if name not in ARCHITECTURES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return model_class(name)
