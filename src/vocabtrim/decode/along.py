"""What a drafter's head reads along a text, for every start and depth at once.

Decoding drafts from one position at a time. A text that is already there can be
drafted along from all of its positions in a few passes, because a draft that
would be accepted is the text's own next token. An independent drafter reads the
text once: its state depends on tokens alone. EAGLE-3 goes on from its own
features, so each depth is a pass: the pair of every draft at that depth attends
to the committed pairs before its draft began, made from the target's features,
and to its own draft's pairs of smaller depth; that is what its cache holds in
decoding (`drafters/cached.py`; the unrolling is that of EAGLE-3's training,
2503.01840, section 3.2).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from vocabtrim.core.errors import DecodeError
from vocabtrim.decode.drafters.base import Drafter
from vocabtrim.decode.drafters.eagle3 import Eagle3Drafter
from vocabtrim.decode.drafters.eagle3_layer import Eagle3Layer
from vocabtrim.decode.drafters.independent import IndependentDrafter


@torch.inference_mode()
def states_along(
    drafter: Drafter,
    prompt_ids: Sequence[int],
    new_ids: Sequence[int],
    features: torch.Tensor | None,
    depths: int,
) -> torch.Tensor:
    """Return what the head reads for every draft along a text.

    Args:
        drafter: What it knew is forgotten.
        prompt_ids: [P] ids, at least one.
        new_ids: [T] ids that the target wrote, at least two.
        features: [P + T - 2, F] the target's features of all tokens but the last
            two; None for a drafter that reads tokens.
        depths: D, at least 1.

    Returns:
        [T - 1, D, H]; entry (t, d) proposes new token t + 1 + d. D is 1 for an
        independent drafter, whatever was asked: what it proposes at depth d is
        what it proposes first at start t + d. Entries behind the end of the
        text mean nothing.

    Raises:
        DecodeError: Features are missing, or the drafter is of another kind.
    """
    if isinstance(drafter, IndependentDrafter):
        text = [*prompt_ids, *new_ids[:-1]]
        drafter.begin(len(text))
        drafter.commit(text[:1], None)
        return drafter.follow(text[1:])[len(prompt_ids) :, None]
    if not isinstance(drafter, Eagle3Drafter):
        raise DecodeError(f"a text cannot be drafted along with a {type(drafter).__name__}")
    pairs = len(prompt_ids) + len(new_ids) - 2
    if features is None or features.shape[0] != pairs:
        raise DecodeError(f"{pairs} tokens need as many features to be drafted along")
    text = [*prompt_ids, *new_ids]
    return _Unrolling(drafter.layer, text, len(new_ids) - 1, features).states(depths)


class _Unrolling:
    """EAGLE-3 from all starts of a text; S starts, M committed pairs.

    Args:
        layer: The drafter's.
        text: [M + 2] ids.
        starts: S; start s has read the first M - S + 1 + s pairs.
        features: [M, F].
    """

    def __init__(
        self, layer: Eagle3Layer, text: Sequence[int], starts: int, features: torch.Tensor
    ) -> None:
        self.layer, self.starts, self.pairs = layer, starts, features.shape[0]
        self.text = torch.tensor(text, device=layer.embeddings.device)
        self.fused = layer.fuse(features.to(layer.embeddings.dtype))
        self.own: list[tuple[torch.Tensor, torch.Tensor]] = []

    def states(self, depths: int) -> torch.Tensor:
        """Return what the head reads, [S, D, H]."""
        tokens = self.text[1:-1]
        last = torch.arange(self.pairs - self.starts, self.pairs, device=tokens.device)
        queries, self.keys, self.values = self._projected(
            tokens, self.fused, torch.arange(self.pairs, device=tokens.device)
        )
        state = self._finish(self.fused[last], queries[:, last], last)
        states = [state]
        for depth in range(1, depths):
            # behind the end of the text there is nothing to follow; any token will do
            ahead = torch.clamp(last + 1 + depth, max=self.text.numel() - 1)
            queries, keys, values = self._projected(self.text[ahead], state, last + depth)
            self.own.append((keys, values))
            state = self._finish(state, queries, last)
            states.append(state)
        return self.layer.head_input(torch.stack(states, dim=1))

    def _projected(
        self, tokens: torch.Tensor, features: torch.Tensor, positions: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return queries, keys and values [heads, T, d] of pairs at their positions."""
        parts = self.layer.projected(tokens[None], features[None], positions[None])
        queries, keys, values = (part[0] for part in parts)
        return queries, keys, values

    def _finish(
        self, features: torch.Tensor, queries: torch.Tensor, last: torch.Tensor
    ) -> torch.Tensor:
        """Attend from [heads, S, d] to committed and own pairs; return new states [S, H]."""
        groups = queries.shape[0] // self.keys.shape[0]
        queries = queries.reshape(-1, groups, *queries.shape[1:]) * queries.shape[-1] ** -0.5
        committed = torch.einsum("kgsd,kmd->kgsm", queries, self.keys)
        hidden = torch.arange(self.pairs, device=last.device) > last[:, None]
        scores = [committed.masked_fill(hidden, float("-inf"))]
        scores += [torch.einsum("kgsd,ksd->kgs", queries, keys)[..., None] for keys, _ in self.own]
        weights = torch.cat(scores, dim=-1).softmax(dim=-1)
        mixed = torch.einsum("kgsm,kmd->kgsd", weights[..., : self.pairs], self.values)
        for depth, (_, values) in enumerate(self.own):
            mixed = mixed + weights[..., self.pairs + depth, None] * values[:, None]
        return self.layer.behind_attention(features, mixed.flatten(0, 1).transpose(0, 1).flatten(1))
