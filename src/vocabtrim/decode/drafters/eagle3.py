"""The EAGLE-3 drafter: one decoder layer over the target's features.

At position p it reads the pair (embedding of token p + 1, feature of position
p) and predicts token p + 2 (EAGLE-3, 2503.01840; layout of SafeAILab/EAGLE
`eagle/model/cnets.py`). A feature is three hidden states of the target, fused
by `fc`. While drafting, where no target feature exists yet, the layer's own
output (before `norm`) stands in for it. Such entries leave the cache when the
draft ends and are made again from the target's features once verified
(`drafters/cached.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any

import torch
from torch.nn.functional import pad, scaled_dot_product_attention

from vocabtrim.core.errors import DecodeError
from vocabtrim.decode.cache import RaggedCache
from vocabtrim.decode.drafters.base import ReducedHead
from vocabtrim.decode.drafters.cached import CachedDrafter
from vocabtrim.decode.drafters.eagle3_layer import Eagle3Layer
from vocabtrim.decode.reader import padded


class Eagle3Drafter(CachedDrafter):
    """An EAGLE-3 drafter over a draft vocabulary.

    Args:
        config: The drafter's `config.json`.
        tensors: Its weights in the flat layout; head, embedding and maps among
            them are not looked at.
        embeddings: [V, H] the input embedding, its own or the target's.
        head: The kept rows.
        layers: Which hidden states of the target are fused.

    Raises:
        DecodeError: A weight is missing, one has no place in this layer, or the
            config asks for other arithmetic.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        tensors: Mapping[str, torch.Tensor],
        embeddings: torch.Tensor,
        head: ReducedHead,
        layers: Sequence[int],
    ) -> None:
        super().__init__(head)
        self.layer = Eagle3Layer(config, tensors, embeddings)
        self._feature_layers = tuple(layers)
        self._cache = RaggedCache(0, 0)
        self._features: list[list[torch.Tensor]] = []
        self._began: list[bool] = []

    @property
    def feature_layers(self) -> tuple[int, ...]:
        """Which hidden states of the target it is fed."""
        return self._feature_layers

    @property
    def cache(self) -> RaggedCache:
        """Keys and values of the committed pairs that were read."""
        return self._cache

    def begin(self, columns: int, rows: int = 1) -> None:
        """Forget everything and begin `rows` empty texts, with room for `columns` pairs each."""
        super().begin(columns, rows)
        if rows > self._cache.rows or columns > self._cache.columns:
            self._cache = RaggedCache(rows, columns, self.layer.embeddings.device)
        self._cache.keep(())
        self._cache.open(rows)
        self._features, self._began = [[] for _ in range(rows)], [False] * rows

    def open(self, rows: int) -> None:
        """Begin empty texts behind the others."""
        super().open(rows)
        self._features.extend([] for _ in range(rows))
        self._began.extend([False] * rows)

    def keep(self, rows: Sequence[int]) -> None:
        """Let only these texts go on, in this order."""
        super().keep(rows)
        self._features = [self._features[row] for row in rows]
        self._began = [self._began[row] for row in rows]

    def commit(self, token_ids: Sequence[int], features: torch.Tensor | None, row: int = 0) -> None:
        """Note the pairs that the committed tokens complete; the next draft reads them.

        Raises:
            DecodeError: Features are missing, too few or too many.
        """
        # The very first token completes no pair: nothing stands before it.
        tokens = list(token_ids) if self._began[row] else list(token_ids[1:])
        if features is None or features.shape[0] != len(tokens):
            found = "none" if features is None else f"{features.shape[0]}"
            raise DecodeError(f"{len(tokens)} tokens need as many features, found {found}")
        self._began[row] = True
        self._features[row].append(features.to(self.layer.embeddings.dtype))
        super().commit(tokens, None, row)

    @torch.inference_mode()
    def unroll(self, choose: Callable[[torch.Tensor], int]) -> Generator[int, None, None]:
        """Draft one text without end on the layer's own features; close it when done.

        Closing leaves the cache with the committed pairs only.

        Args:
            choose: From logits [K] to the row taken.

        Yields:
            Target ids.

        Raises:
            DecodeError: Nothing was committed, so there is no state to start from.
        """
        hidden = self.start()
        try:
            while True:
                row = choose(self.head.logits(hidden[0]))
                token = int(self.head.vocab.ids[row])
                yield token
                hidden = self.step(torch.tensor([token], device=hidden.device), [True])
        finally:
            self.rewind()

    def _read_rows(self, rows: range) -> torch.Tensor:
        waiting = self._unread[rows.start : rows.stop]
        features = [torch.cat(self._features[row]) for row in rows]
        for row in rows:
            self._features[row] = []
        width = max(map(len, waiting))
        fed = torch.stack([pad(one, (0, 0, width - one.shape[0], 0)) for one in features])
        ids, counts = padded(waiting, self.layer.embeddings.device), [len(one) for one in waiting]
        return self._pass(ids, self.layer.fuse(fed), counts, first=rows.start)

    def _read_draft(
        self, token_ids: torch.Tensor, state: torch.Tensor, counts: Sequence[int]
    ) -> torch.Tensor:
        return self._pass(token_ids[:, None], state[:, None], counts)

    def _head_input(self, state: torch.Tensor) -> torch.Tensor:
        return self.layer.head_input(state)

    def _pass(
        self,
        token_ids: torch.Tensor,
        features: torch.Tensor,
        counts: Sequence[int],
        *,
        first: int = 0,
    ) -> torch.Tensor:
        """Pass pairs of tokens [B, T] and features [B, T, H]; return the last states, [B, H]."""
        place = self._cache.place(counts, first=first)
        queries, keys, values = self.layer.projected(token_ids, features, place.positions)
        keys, values = self._cache.update(keys, values, 0)
        mask = None
        if not place.even:
            columns = torch.arange(place.end, device=features.device)
            mask = (columns <= place.positions[:, -1:])[:, None, None]
        # a draft goes on from the last pair of each row; the others are keys and values only
        mixed = scaled_dot_product_attention(
            queries[:, :, -1:], keys, values, attn_mask=mask, enable_gqa=True
        )
        self._cache.advance()
        return self.layer.behind_attention(features[:, -1], mixed.flatten(1))
