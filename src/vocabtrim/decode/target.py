"""The verifying model: passes over new tokens, with a cache that can be cropped.

`Target` reads tokens and returns logits, and, for EAGLE-3 drafters, the hidden
states that they are fed: `hidden_states[i]` of `transformers`, which is what
goes *into* layer i (the convention of SafeAILab/EAGLE and vLLM's top-level
`eagle_aux_hidden_state_layer_ids`). Rejected draft tokens are taken back by
`crop`, exactly, also in sliding-window layers: `decode/cache.py` says why.
One text at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from vocabtrim.core.errors import DecodeError
from vocabtrim.decode.cache import ColumnCache
from vocabtrim.decode.model import check_positional, context_length, eos_ids


@dataclass(frozen=True)
class Reading:
    """What the target says of the tokens that it read.

    Args:
        logits: [n, V], for all tokens read, or for the last one only.
        features: [T, F] the hidden states asked for, side by side, or None.
    """

    logits: torch.Tensor
    features: torch.Tensor | None


class Target:
    """A `transformers` causal LM that verifies drafts.

    Args:
        model: As `load_model` opens it.
        feature_layers: Which `hidden_states` to return with each pass.

    Raises:
        DecodeError: The model's cache cannot be cropped, or it has no such
            hidden state.
    """

    def __init__(self, model: Any, feature_layers: Sequence[int] = ()) -> None:
        check_positional(model.config)
        layers = model.config.get_text_config(decoder=True).num_hidden_layers
        for index in feature_layers:
            if not 0 <= index <= layers:
                raise DecodeError(
                    f"the drafter needs hidden state {index}, but the target has 0 to {layers}; "
                    "it was trained for another target"
                )
        self.model = model
        self.feature_layers = tuple(feature_layers)
        self.eos_ids = frozenset(eos_ids(model))
        self.context = context_length(model)
        self._cache = ColumnCache(1, 0)

    @property
    def length(self) -> int:
        """Tokens in the cache."""
        return len(self._cache)

    @property
    def embedding(self) -> torch.Tensor:
        """[V, H] the input embedding."""
        weight: torch.Tensor = self.model.get_input_embeddings().weight
        return weight

    def begin(self, columns: int) -> None:
        """Forget everything and make room for `columns` tokens."""
        self._cache = ColumnCache(1, columns)

    @torch.no_grad()
    def read(self, token_ids: Sequence[int], *, last_only: bool = False) -> Reading:
        """Read tokens that follow what is in the cache.

        Args:
            token_ids: [T] ids, at least one.
            last_only: Return the logits of the last token alone.

        Returns:
            Logits [T or 1, V] and features [T, F].
        """
        device = self.model.device
        begin = self.length
        outcome = self.model(
            input_ids=torch.tensor([list(token_ids)], device=device),
            position_ids=torch.arange(begin, begin + len(token_ids), device=device)[None],
            past_key_values=self._cache,
            use_cache=True,
            output_hidden_states=bool(self.feature_layers),
            logits_to_keep=1 if last_only else 0,
        )
        self._cache.advance(len(token_ids))
        features = None
        if self.feature_layers:
            states = [outcome.hidden_states[index][0] for index in self.feature_layers]
            features = torch.cat(states, dim=-1)
        return Reading(outcome.logits[0], features)

    def crop(self, tokens: int) -> None:
        """Take back the last `tokens` tokens."""
        self._cache.crop(tokens)
