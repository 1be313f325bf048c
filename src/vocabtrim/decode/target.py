"""The verifying model: passes over new tokens, with a cache that can be cropped.

`Target` reads tokens and returns logits, and, for EAGLE-3 drafters, the hidden
states that they are fed: `hidden_states[i]` of `transformers`, which is what
goes *into* layer i (the convention of SafeAILab/EAGLE and vLLM's top-level
`eagle_aux_hidden_state_layer_ids`). Rejected draft tokens are taken back by
`crop`, exactly, also in sliding-window layers: `decode/cache.py` says why.
Several texts may be read side by side, each from where it stands.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from vocabtrim.core.errors import DecodeError
from vocabtrim.decode.model import context_length, eos_ids
from vocabtrim.decode.reader import Reader, padded


@dataclass(frozen=True)
class Reading:
    """What the target says of the tokens that it read.

    Args:
        logits: [n, V], for all tokens read, or for the last one only.
        features: [T, F] the hidden states asked for, side by side, or None.
    """

    logits: torch.Tensor
    features: torch.Tensor | None


@dataclass(frozen=True)
class Readings:
    """What the target says of several texts, whose last tokens stand in the last column.

    Args:
        logits: [B, T, V], for all tokens read, or [B, 1, V] for the last ones only.
        features: [B, T, F], or None.
        counts: [B] tokens of each text; what stands before them is padding.
    """

    logits: torch.Tensor
    features: torch.Tensor | None
    counts: tuple[int, ...]

    def of(self, row: int) -> Reading:
        """Return what it says of one text."""
        alive = slice(-self.counts[row], None)
        features = None if self.features is None else self.features[row, alive]
        return Reading(self.logits[row, alive], features)


class Target:
    """A `transformers` causal LM that verifies drafts.

    Args:
        model: As `load_model` opens it.
        feature_layers: Which `hidden_states` to return with each pass.
        ends: Ids that end a generation; by default those that the model names.

    Raises:
        DecodeError: The model's cache cannot be cropped, or it has no such
            hidden state.
    """

    def __init__(
        self,
        model: Any,
        feature_layers: Sequence[int] = (),
        *,
        ends: Collection[int] | None = None,
    ) -> None:
        self._reader = Reader(model)
        layers = model.config.get_text_config(decoder=True).num_hidden_layers
        for index in feature_layers:
            if not 0 <= index <= layers:
                raise DecodeError(
                    f"the drafter needs hidden state {index}, but the target has 0 to {layers}; "
                    "it was trained for another target"
                )
        self.model = model
        self.feature_layers = tuple(feature_layers)
        self.eos_ids = frozenset(eos_ids(model) if ends is None else ends)
        self.context = context_length(model)

    @property
    def lengths(self) -> tuple[int, ...]:
        """Tokens of each text in the cache."""
        return self._reader.cache.lengths

    @property
    def embedding(self) -> torch.Tensor:
        """[V, H] the input embedding."""
        weight: torch.Tensor = self.model.get_input_embeddings().weight
        return weight

    def begin(self, columns: int, rows: int = 1) -> None:
        """Forget everything and begin `rows` empty texts, with room for `columns` tokens each."""
        self._reader.begin(columns, rows)

    def open(self, rows: int) -> None:
        """Begin empty texts behind the others."""
        self._reader.cache.open(rows)

    def keep(self, rows: Sequence[int]) -> None:
        """Let only these texts go on, in this order."""
        self._reader.cache.keep(rows)

    def crop(self, tokens: Sequence[int]) -> None:
        """Take back the last tokens of each text, [rows] so many."""
        self._reader.cache.crop(tokens)

    def read(self, token_ids: Sequence[int], *, last_only: bool = False) -> Reading:
        """Read tokens that follow the last text.

        Args:
            token_ids: [T] ids, at least one.
            last_only: Return the logits of the last token alone.

        Returns:
            Logits [T or 1, V] and features [T, F].
        """
        return self.read_rows([token_ids], last_only=last_only).of(0)

    @torch.inference_mode()
    def read_rows(self, token_ids: Sequence[Sequence[int]], *, last_only: bool = False) -> Readings:
        """Read tokens of several texts in one pass.

        Args:
            token_ids: [B] at least one id each, for the texts that were opened last.
            last_only: Return the logits of the last tokens alone.
        """
        counts = tuple(len(ids) for ids in token_ids)
        outcome = self._reader.read(
            padded(token_ids, self.model.device),
            counts,
            first=len(self.lengths) - len(counts),
            output_hidden_states=bool(self.feature_layers),
            logits_to_keep=1 if last_only else 0,
        )
        features = None
        if self.feature_layers:
            features = torch.cat([outcome.hidden_states[i] for i in self.feature_layers], dim=-1)
        return Readings(outcome.logits, features, counts)
