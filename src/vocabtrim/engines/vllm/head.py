"""A head of K rows on a drafter of vLLM's, whichever that is.

Put before the drafter's class, it lets that build itself, replaces its head by one
of K rows and loads rows and ids from the export. Rows are shared out over ranks by
position (`shards.py`). A draft token is the best of K logits, mapped to its target
id; where whole rows of logits are asked for, an id that was not kept has minus
infinity, so that it is never drafted and has probability 0 at any temperature.

`has_own_lm_head` is how vLLM is told not to put the target's head in its place.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import torch
from vllm.distributed import (
    get_tensor_model_parallel_world_size,
    tensor_model_parallel_all_gather,
)
from vllm.model_executor.layers.logits_processor import LogitsProcessor
from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead
from vllm.model_executor.model_loader.default_loader import DefaultModelLoader
from vllm.model_executor.models.utils import maybe_prefix

from vocabtrim.engines.vllm.shards import best_position, local_best, padding_of, share_of

if TYPE_CHECKING:

    class _Drafter(torch.nn.Module):
        """What the classes of vLLM have in common here."""

        lm_head: Any
        logits_processor: Any

        def __init__(self, *, vllm_config: Any, prefix: str) -> None: ...

        def load_weights(self, weights: Iterable[tuple[str, torch.Tensor]]) -> set[str] | None: ...

        def is_unused_checkpoint_weight(self, name: str) -> bool: ...

else:
    _Drafter = object

Weights = Iterable[tuple[str, torch.Tensor]]

HEAD, D2T, T2D = "lm_head.weight", "d2t", "t2d"
OURS = (HEAD, D2T, T2D)
TARGET = "target."
"""Before the names of weights that come from the target's directory."""


class ReducedHead(_Drafter):
    """A drafter whose logits are over K of V ids.

    Args:
        vllm_config: As vLLM gives it; its speculative config names the export.
        prefix: Of its layers' names.

    Raises:
        ValueError: It is served without a target, or K and V make no sense.
    """

    has_own_lm_head = True
    target_ids: torch.Tensor
    """[K] int64, the target id of each position."""

    def __init__(self, *, vllm_config: Any, prefix: str = "") -> None:
        super().__init__(vllm_config=vllm_config, prefix=prefix)
        speculative = vllm_config.speculative_config
        if speculative is None:
            raise ValueError(
                "a trimmed drafter cannot be served alone: name it in --speculative-config"
            )
        config = speculative.draft_model_config.hf_config
        self.target_vocab_size: int = speculative.target_model_config.get_vocab_size()
        K = getattr(config, "draft_vocab_size", None)
        if type(K) is not int or not 0 < K <= self.target_vocab_size:
            raise ValueError(
                f"a trimmed drafter states draft_vocab_size, from 1 to the target's "
                f"{self.target_vocab_size}, found {K!r}"
            )
        self._reduce(K, config.hidden_size, prefix)

    def _reduce(self, K: int, hidden_size: int, prefix: str) -> None:
        """Put a head of K rows in the place of the one that was built."""
        stock = self.logits_processor
        if hasattr(self, "lm_head"):
            del self.lm_head
        self.lm_head = ParallelLMHead(
            K,
            hidden_size,
            padding_size=padding_of(get_tensor_model_parallel_world_size()),
            prefix=maybe_prefix(prefix, "lm_head"),
        )
        self.logits_processor = LogitsProcessor(K, scale=stock.scale, soft_cap=stock.soft_cap)
        self.share = share_of(K, self.lm_head.tp_size, self.lm_head.tp_rank)
        ids = torch.zeros(K, dtype=torch.int64)
        self.draft_id_to_target_id = torch.nn.Parameter(ids, requires_grad=False)
        self.register_buffer("target_ids", torch.arange(K), persistent=False)

    def load_weights(self, weights: Weights) -> set[str] | None:
        """Load the trunk as vLLM does, and rows and ids from the export.

        Raises:
            ValueError: The export has no rows or no ids, or they do not fit.
        """
        own: dict[str, torch.Tensor] = {}

        def others() -> Iterator[tuple[str, torch.Tensor]]:
            for name, tensor in weights:
                if name in OURS:
                    own[name] = tensor
                else:
                    yield name, tensor

        loaded = super().load_weights(others())
        missing = [name for name in (HEAD, D2T) if name not in own]
        if missing:
            raise ValueError(f"a trimmed drafter holds {HEAD} and {D2T}, but there is no {missing}")
        self._take(own[HEAD], own[D2T])
        return None if loaded is None else loaded | {HEAD, "draft_id_to_target_id"}

    def _take(self, rows: torch.Tensor, d2t: torch.Tensor) -> None:
        """Take this rank's rows, and all ids.

        Args:
            rows: [K, H].
            d2t: [K] target id less position.
        """
        K = self.draft_id_to_target_id.shape[0]
        weight = self.lm_head.weight.data
        if rows.shape != (K, weight.shape[1]) or d2t.shape != (K,):
            raise ValueError(
                f"a head of {K} rows of {weight.shape[1]} is expected, found {HEAD} "
                f"{list(rows.shape)} and {D2T} {list(d2t.shape)}"
            )
        ids = d2t.to(torch.int64) + torch.arange(K, device=d2t.device)
        ascending = ids.sort().values
        twice = bool((ascending.diff() == 0).any())
        if twice or ascending[0] < 0 or ascending[-1] >= self.target_vocab_size:
            raise ValueError(f"{D2T} must give {K} different ids below {self.target_vocab_size}")
        weight.zero_()
        held = slice(self.share.first, self.share.first + self.share.rows)
        weight[: self.share.rows].copy_(rows[held])
        self.draft_id_to_target_id.data.copy_(d2t)
        self.target_ids.copy_(ids)

    def compute_logits(
        self, hidden_states: torch.Tensor, *_: Any, **__: Any
    ) -> torch.Tensor | None:
        """Return logits over all ids: [B, V], minus infinity where an id was not kept."""
        reduced: torch.Tensor | None = self.logits_processor(self.lm_head, hidden_states)
        if reduced is None:  # another rank gathers them
            return None
        logits = reduced.new_full((reduced.shape[0], self.target_vocab_size), -math.inf)
        return logits.index_copy_(1, self.target_ids, reduced)

    def get_top_tokens(self, hidden_states: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
        """Return the target id of the best logit: [B] int64; no row of V is made."""
        logits = self.logits_processor(self.lm_head, hidden_states, skip_gather=True)
        pairs = local_best(logits, self.share)
        if self.lm_head.tp_size > 1:
            pairs = tensor_model_parallel_all_gather(pairs, dim=-1)
        return self.target_ids[best_position(pairs.view(logits.shape[0], -1, 2))]


class ReducedPrediction(ReducedHead):
    """A target's own prediction layers: rows and ids from the export, the rest from the target."""

    def __init__(self, *, vllm_config: Any, prefix: str = "") -> None:
        super().__init__(vllm_config=vllm_config, prefix=prefix)
        target = vllm_config.speculative_config.target_model_config
        source = DefaultModelLoader.Source(
            target.model_weights or target.model,
            target.revision,
            prefix=TARGET,
            is_unused_weight=self.is_unused_checkpoint_weight,
        )
        self.secondary_weights = (source,)

    def load_weights(self, weights: Weights) -> set[str] | None:
        """Load both; the target's head is left where it is.

        Raises:
            ValueError: As for `ReducedHead`, or nothing of the target came along: not
                all of vLLM's loaders read `secondary_weights`.
        """
        of_target = 0

        def both() -> Iterator[tuple[str, torch.Tensor]]:
            nonlocal of_target
            for name, tensor in weights:
                own = name.removeprefix(TARGET)
                of_target += own != name
                if own == name or "lm_head" not in name:
                    yield own, tensor

        loaded = super().load_weights(both())
        if not of_target:
            raise ValueError(
                "a trimmed drafter has its layers from the target, of which this loader of "
                "vLLM's read nothing: serve with --load-format auto"
            )
        return loaded
