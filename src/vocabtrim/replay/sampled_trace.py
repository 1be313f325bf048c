"""Recording chances of acceptance along texts that the target sampled.

The target reads each text for p, and for its features; the drafter is drafted
along (`decode/along.py`) for q over the first K ids of one order, for several K.
Both are what decoding draws from: the same temperature and filters
(`decode/sampling.py`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from vocabtrim.core.sampled_trace import SampledTrace
from vocabtrim.core.trace import TracedText, TraceError
from vocabtrim.decode.along import states_along
from vocabtrim.decode.drafters.base import Drafter
from vocabtrim.decode.drafters.independent import IndependentDrafter
from vocabtrim.decode.sampling import Sampling, distribution
from vocabtrim.decode.target import Target

ROWS = 64
"""Positions whose logits over all ids are held at once."""


class SampledTracer:
    """Records sampled texts of one target for one drafter.

    Args:
        target: With the drafter's `feature_layers`.
        drafter: Over every id that its head has a row for.
        sampling: How the texts were sampled; the temperature is above 0.
        order: [V] ids: vocabularies are the first K of them, of those with a row.
        sizes: K, at least 1; at most the head's rows are taken.
        max_gamma: Longest draft to be replayed, at least 1.
        tokenizer: Fingerprint of both.

    Raises:
        TraceError: A number is too small, or the order has ids that do not exist.
    """

    def __init__(
        self,
        target: Target,
        drafter: Drafter,
        *,
        sampling: Sampling,
        order: NDArray[np.int64],
        sizes: Sequence[int],
        max_gamma: int,
        tokenizer: str,
    ) -> None:
        vocab = drafter.head.vocab
        if sampling.greedy or max_gamma < 1 or not sizes or min(sizes) < 1:
            raise TraceError(
                "a sampled trace needs a temperature above 0, and a size and a draft length of 1 "
                "or more; greedy texts are traced without"
            )
        if not np.array_equal(np.sort(order), np.arange(vocab.vocab_size)):
            raise TraceError(f"an order must have each of the {vocab.vocab_size} ids once")
        self.target, self.drafter, self.sampling = target, drafter, sampling
        self.max_gamma, self.tokenizer = max_gamma, tokenizer
        self.sizes = tuple(sorted({min(size, vocab.size) for size in sizes}))
        self.own_depths = not isinstance(drafter, IndependentDrafter)
        row_of = np.full(vocab.vocab_size, -1, dtype=np.int64)
        row_of[vocab.ids] = np.arange(vocab.size)
        self.order = having = order[row_of[order] >= 0]
        place = np.full(vocab.vocab_size, vocab.vocab_size, dtype=np.int64)
        place[having] = np.arange(having.size)
        device = drafter.head.weight.device
        self._ids = torch.from_numpy(having.copy()).to(device)
        self._rows = torch.from_numpy(row_of[having]).to(device)
        self._place = torch.from_numpy(place).to(device)

    def trace(self, texts: Sequence[TracedText]) -> SampledTrace:
        """Record texts."""
        depths = self.max_gamma if self.own_depths else 1
        shape = (sum(text.starts for text in texts), depths, len(self.sizes))
        accepted, overlap = np.zeros(shape), np.zeros(shape)
        first = 0
        for text in texts:
            end = first + text.starts
            if text.starts:
                self._record(text, accepted[first:end], overlap[first:end])
            first = end
        return SampledTrace(
            tuple(texts),
            self.sizes,
            self.order,
            accepted,
            overlap,
            self.own_depths,
            self.max_gamma,
            self.drafter.head.vocab.vocab_size,
            self.tokenizer,
        )

    @torch.inference_mode()
    def _record(
        self, text: TracedText, accepted: NDArray[np.float64], overlap: NDArray[np.float64]
    ) -> None:
        """Fill the rows of a text."""
        prompt, new = text.prompt_ids.tolist(), text.tokens.tolist()
        self.target.begin(len(prompt) + len(new))
        before = self.target.read(prompt, last_only=True)
        after = self.target.read(new[:-1])
        features = None
        if before.features is not None and after.features is not None:
            features = torch.cat([before.features, after.features])[: len(prompt) + len(new) - 2]
        depths = accepted.shape[1]
        states = states_along(self.drafter, prompt, new, features, depths)
        inside = np.add.outer(np.arange(text.starts), np.arange(depths)) < text.starts
        places = np.argwhere(inside)
        for begin in range(0, len(places), ROWS):
            start, depth = places[begin : begin + ROWS].T
            # a token is chosen by the pass over the one before it
            p = distribution(after.logits[start + depth], self.sampling).double()
            wanted = torch.from_numpy(text.tokens[start + depth + 1]).to(p.device)
            logits = self.drafter.head.logits(states[start, depth])[:, self._rows]
            accepted[start, depth], overlap[start, depth] = self._chances(logits, p, wanted)

    def _chances(
        self, logits: torch.Tensor, p: torch.Tensor, wanted: torch.Tensor
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return r and Σ min(p, q) of positions, [n, S] each.

        Args:
            logits: [n, R] in the order of the vocabularies.
            p: [n, V].
            wanted: [n] the text's own tokens.
        """
        place = self._place[wanted][:, None]
        # a token at the edge of a filter can round out of it here; it was drawn all the same
        p_wanted = p.gather(1, wanted[:, None]).clamp(min=torch.finfo(p.dtype).tiny)
        p_in_order = p[:, self._ids]
        ratios, overlaps = [], []
        for size in self.sizes:
            q = distribution(logits[:, :size], self.sampling).double()
            known = place < q.shape[1]
            of_token = q.gather(1, place.clamp(max=q.shape[1] - 1)).masked_fill(~known, 0.0)
            ratios.append((of_token / p_wanted).clamp(max=1.0)[:, 0])
            overlaps.append(torch.minimum(p_in_order[:, :size], q).sum(dim=1).clamp(max=1.0))
        both = [torch.stack(one, dim=1).cpu().numpy() for one in (ratios, overlaps)]
        return both[0], both[1]
