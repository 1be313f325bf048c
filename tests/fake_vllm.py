"""The few things of vLLM that our plug-in builds upon, for tests without vLLM.

`install` puts modules of these names in place. Heads are sharded by vLLM's own
rule: padded to a multiple, as many rows to each rank. Several ranks are run one
after the other: `Ranks.gather` collects what each gives in a first round and
returns all of it in a second.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

H = 8


@dataclass
class Ranks:
    """A group of tensor-parallel ranks, of which one runs at a time."""

    size: int = 1
    rank: int = 0
    given: dict[int, torch.Tensor] = field(default_factory=dict)

    def gather(self, tensor: torch.Tensor, dim: int = -1) -> torch.Tensor:
        if len(self.given) < self.size:
            self.given[self.rank] = tensor
            return tensor.repeat_interleave(self.size, dim=dim)
        return torch.cat([self.given[rank] for rank in range(self.size)], dim=dim)


class LogitsProcessor:
    def __init__(self, vocab_size: int, scale: float = 1.0, soft_cap: float | None = None) -> None:
        self.vocab_size, self.scale, self.soft_cap = vocab_size, scale, soft_cap

    def __call__(
        self, head: Any, hidden: torch.Tensor, skip_gather: bool = False
    ) -> torch.Tensor | None:
        logits = hidden @ head.weight.T
        if self.soft_cap is not None:
            logits = torch.tanh(logits / self.soft_cap) * self.soft_cap
        logits = logits * self.scale
        if skip_gather:
            return logits
        return head.ranks.gather(logits)[:, : self.vocab_size]


class Stock(torch.nn.Module):
    """A drafter of vLLM's: an embedding, and a head of V rows."""

    def __init__(self, *, vllm_config: Any, prefix: str = "") -> None:
        super().__init__()
        self.lm_head = torch.nn.Linear(H, vllm_config.vocab_size, bias=False)
        self.embedding = torch.nn.Parameter(torch.zeros(vllm_config.vocab_size, H))
        self.logits_processor = LogitsProcessor(vllm_config.vocab_size, 0.5, 30.0)

    def is_unused_checkpoint_weight(self, name: str) -> bool:
        return not name.startswith("mtp.") and "lm_head" not in name

    def load_weights(self, weights: Any) -> set[str]:
        self.seen = [name for name, _ in weights]
        return set(self.seen)


def config(V: int, K: Any, *, alone: bool = False) -> Any:
    """What vLLM gives to a drafter's class."""
    target = SimpleNamespace(
        get_vocab_size=lambda: V, model="org/target", model_weights="", revision="abc"
    )
    draft = SimpleNamespace(hf_config=SimpleNamespace(draft_vocab_size=K, hidden_size=H))
    both = SimpleNamespace(target_model_config=target, draft_model_config=draft)
    return SimpleNamespace(vocab_size=V, speculative_config=None if alone else both)


def install(patch: pytest.MonkeyPatch, ranks: Ranks, *, version: str = "0.32.0") -> Any:
    """Put the modules in place; return the registry, a dict of what is registered."""

    class ParallelLMHead(torch.nn.Module):
        def __init__(self, rows: int, hidden: int, *, padding_size: int, prefix: str) -> None:
            super().__init__()
            padded = -(-rows // padding_size) * padding_size
            assert padded % ranks.size == 0
            self.tp_size, self.tp_rank, self.ranks = ranks.size, ranks.rank, ranks
            self.weight = torch.nn.Parameter(torch.full((padded // ranks.size, hidden), 9.0))

    @dataclass
    class Source:
        model_or_path: str
        revision: str | None
        prefix: str = ""
        is_unused_weight: Any = None

    class Registry:
        def __init__(self) -> None:
            self.models: dict[str, Any] = {}
            self.registered: dict[str, str] = {}

        def register_model(self, name: str, where: str) -> None:
            self.registered[name] = where

    registry = Registry()
    for name in ("Qwen3_5MTP", "LlamaForCausalLM"):
        registry.models[name] = SimpleNamespace(load_model_cls=lambda: Stock)
    places = "model_executor.layers.logits_processor model_executor.layers.vocab_parallel_embedding"
    places += " model_executor.model_loader.default_loader model_executor.models.utils distributed"
    contents: dict[str, dict[str, Any]] = {
        "logits_processor": {"LogitsProcessor": LogitsProcessor},
        "vocab_parallel_embedding": {"ParallelLMHead": ParallelLMHead},
        "default_loader": {"DefaultModelLoader": SimpleNamespace(Source=Source)},
        "utils": {"maybe_prefix": lambda prefix, name: f"{prefix}.{name}" if prefix else name},
        "distributed": {
            "tensor_model_parallel_all_gather": ranks.gather,
            "get_tensor_model_parallel_world_size": lambda: ranks.size,
        },
    }
    for place in ("", *places.split()):
        parts = ["vllm", *place.split(".")] if place else ["vllm"]
        for length in range(1, len(parts) + 1):
            name = ".".join(parts[:length])
            module = ModuleType(name)
            for key, value in contents.get(parts[length - 1], {}).items():
                setattr(module, key, value)
            patch.setitem(__import__("sys").modules, name, module)
    root = __import__("sys").modules["vllm"]
    root.ModelRegistry = registry  # type: ignore[attr-defined]
    root.__version__ = version  # type: ignore[attr-defined]
    forget(patch)
    return registry


def forget(patch: pytest.MonkeyPatch) -> None:
    """Have our modules imported anew, upon the vLLM that is in place now."""
    import importlib
    import sys

    for name in ("head", "models", "mtp_config"):
        patch.delitem(sys.modules, f"vocabtrim.engines.vllm.{name}", raising=False)
        package = importlib.import_module("vocabtrim.engines.vllm")
        if hasattr(package, name):
            patch.delattr(package, name)
    from transformers import CONFIG_MAPPING

    patch.setattr(CONFIG_MAPPING, "_extra_content", dict(CONFIG_MAPPING._extra_content))
