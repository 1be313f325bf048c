"""The config by which vLLM finds a target's own prediction layers with a reduced head.

Given a target, vLLM makes the config of its prediction layers itself, and with it
the name of their class. An export states what that would come to: the target's
text config, the `model_type` that vLLM gives such a config, and the name of our
class. transformers does not know that `model_type`; it is made known to it here,
as a config of the target's kind. It keeps the name that it came with: of some
`model_type`s (`qwen3_next_mtp`) vLLM puts its own class there once more.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from types import MappingProxyType
from typing import Any

BASES: Mapping[str, str] = MappingProxyType(
    {"qwen3_5_mtp": "Qwen3_5TextConfig", "qwen3_next_mtp": "Qwen3NextConfig"}
)
"""`model_type` → transformers' config of the target's text model."""


def register_configs() -> None:
    """Make the `model_type`s of exported prediction layers known to transformers.

    One that it knows by itself stays as it is, and one whose target it does not
    know is left out: whoever has nothing of ours must not notice.
    """
    import transformers

    for model_type, base in BASES.items():
        if hasattr(transformers, base) and model_type not in transformers.CONFIG_MAPPING:
            transformers.AutoConfig.register(model_type, config_class(model_type))


@cache
def config_class(model_type: str) -> Any:
    """Return the class of a config; the same one each time, as pickling needs it."""
    import transformers

    from vocabtrim.engines.vllm.plugin import refuse_untested

    def initialise(self: Any, *positional: Any, **fields: Any) -> None:
        from vllm import __version__

        refuse_untested(__version__)
        base.__init__(self, *positional, **fields)

    def update(self: Any, config_dict: Mapping[str, Any]) -> None:
        named = getattr(self, "architectures", None)
        kept = {"architectures": named} if named else {}
        base.update(self, {**config_dict, **kept})

    base: Any = getattr(transformers, BASES[model_type])
    name = _name(model_type)
    body = {
        "__doc__": f"Prediction layers with a reduced head: {model_type}.",
        "__init__": initialise,
        "__module__": __name__,
        "__qualname__": name,
        "model_type": model_type,
        "update": update,
    }
    return type(name, (base,), body)


def _name(model_type: str) -> str:
    return "Trimmed" + "".join(part.capitalize() for part in model_type.split("_")) + "Config"


def __getattr__(name: str) -> Any:
    for model_type in BASES:
        if name == _name(model_type):
            return config_class(model_type)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
