"""Traces made from logits that are drawn, and decoding of them one cycle at a time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vocabtrim.core.metrics import AcceptCounts
from vocabtrim.core.trace import Trace, TracedText

TOKENIZER = "sha256:" + "7" * 64
V = 13
# low ids are the frequent ones, as in a BPE vocabulary
FREQUENCY = 0.6 ** np.arange(V) / (0.6 ** np.arange(V)).sum()


class World:
    """A drafter whose logits are a table, over texts that it half agrees with.

    Args:
        seed: Of everything drawn.
        own_depths: Whether logits depend on the depth of a draft.
        max_gamma: Longest draft.
    """

    def __init__(
        self, seed: int, *, own_depths: bool = True, max_gamma: int = 4, texts: int = 5
    ) -> None:
        generator = np.random.default_rng(seed)
        self.own_depths, self.max_gamma = own_depths, max_gamma
        self.texts, self.logits = [], []
        for index in range(texts):
            size = int(generator.integers(1, 12))
            budget = size + int(generator.integers(0, 3))
            tokens = generator.choice(V, size=size, p=FREQUENCY)
            # logits over a few values, so that ties happen
            logits = generator.integers(0, 9, size=(size - 1, max_gamma, V)).astype(float)
            for row, depth in np.ndindex(size - 1, max_gamma):
                if row + depth + 1 < size and generator.random() < 0.7:
                    logits[row, depth, tokens[row + depth + 1]] += 6
            if not own_depths:
                later = np.minimum(
                    np.add.outer(np.arange(size - 1), np.arange(max_gamma)), size - 2
                )
                logits = logits[later, 0]
            self.texts.append(
                TracedText(
                    f"text {index}",
                    "even" if index % 2 == 0 else "odd",
                    np.arange(index + 1),
                    tokens,
                    budget,
                )
            )
            self.logits.append(logits)

    def trace(self, width: int = V, *, resolved: bool = False) -> Trace:
        """Return the trace with so many candidates, the rest resolved or left open."""
        depths = self.max_gamma if self.own_depths else 1
        candidates, scores, ranks, target, above = [], [], [], [], {}
        row = 0
        for text, logits in zip(self.texts, self.logits, strict=True):
            for start in range(text.starts):
                for depth in range(depths):
                    values = logits[start, depth]
                    order = np.lexsort((np.arange(V), -values))
                    candidates.append(order[:width])
                    scores.append(values[order[:width]])
                    if start + depth >= text.starts:
                        ranks.append(-1)
                        target.append(0.0)
                        continue
                    token = text.tokens[start + 1 + depth]
                    rank = int(np.flatnonzero(order == token)[0])
                    ranks.append(rank)
                    target.append(values[token])
                    if resolved and rank > width:
                        above[row, depth] = order[:rank].astype(np.int32)
                row += 1
        return Trace(
            texts=tuple(self.texts),
            candidates=np.array(candidates, dtype=np.int32).reshape(row, depths, width),
            scores=np.array(scores, dtype=np.float32).reshape(row, depths, width),
            target_rank=np.array(ranks, dtype=np.int32).reshape(row, depths),
            target_score=np.array(target, dtype=np.float32).reshape(row, depths),
            own_depths=self.own_depths,
            max_gamma=self.max_gamma,
            vocab_size=V,
            tokenizer=TOKENIZER,
            above=above,
        )

    def decode(self, ids: NDArray[np.int64], gamma: int) -> list[AcceptCounts]:
        """Decode each text as a decoder would, drafting the best id of `ids`."""
        return [AcceptCounts.of_cycles(gamma, one) for one, _ in self._decode(ids, gamma)]

    def made(self, ids: NDArray[np.int64], gamma: int) -> NDArray[np.int64]:
        """Return [texts, γ + 1] the cycles that drafted j tokens, whether they count or not."""
        made = [np.bincount(one, minlength=gamma + 1) for _, one in self._decode(ids, gamma)]
        return np.array(made)

    def _decode(
        self, ids: NDArray[np.int64], gamma: int
    ) -> list[tuple[list[tuple[int, int, int]], NDArray[np.int64]]]:
        results = []
        for text, logits in zip(self.texts, self.logits, strict=True):
            emitted, cycles, made = 1, [], []
            while emitted < text.tokens.size:
                room = min(gamma, text.budget - emitted - 1)
                accepted = 0
                while accepted < room and emitted + accepted < text.tokens.size:
                    values = logits[emitted - 1, accepted][ids]
                    if ids[int(np.argmax(values))] != text.tokens[emitted + accepted]:
                        break
                    accepted += 1
                ended = emitted + accepted == text.tokens.size
                new = accepted if ended else accepted + 1
                cycles.append((accepted if ended else room, accepted, new))
                made.append(room)
                emitted += new
            results.append((cycles, np.array(made, dtype=np.int64)))
        return results
