"""What the target says about a batch: the features and the soft labels.

The target runs once on each packed batch and nothing of it outlives the block
of steps that uses it, so the data may be of any size. Soft labels are the
target's distribution over its 64 likeliest ids and the label, the token that
follows in the text (the 65th likeliest where the label is among the 64),
renormalised over these 65 ids. For the demo target the 64 hold 96 % of the mass.

A target whose logits are not plain `head @ hidden` is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from recipes.training.corpus import Batch
from recipes.training.head_loss import Labels, rows_dot
from vocabtrim.core.errors import DecodeError
from vocabtrim.decode.model import load_model

LIKELIEST = 64
CHUNK = 1 << 23
"""Logits held at once, but for a vocabulary that lets that be a few positions."""

CHUNK_ROWS = 128
"""Positions of a chunk at least: the whole head is read for each chunk."""

_LOGIT_KEYS = ("final_logit_softcapping", "logits_scaling", "logit_scale")


@dataclass(frozen=True, eq=False)
class Lesson:
    """A batch and what the target says about it.

    Args:
        batch: The rows.
        features: [B, T, F·H] float32 hidden states of F layers side by side.
        row_of: [B, T] int64, the label of the prediction made at a position
            (of the token after it); -1 where nothing is learnt there.
        labels: Of the M predictions that are learnt.
        greedy: [M] int64, the target's likeliest id.
    """

    batch: Batch
    features: torch.Tensor
    row_of: torch.Tensor
    labels: Labels
    greedy: torch.Tensor


class Teacher:
    """A frozen target.

    Args:
        directory: Of a Llama or Gemma-3 model.
        layers: Indices into `hidden_states`; empty for no features.
        dtype: Of the forward pass; labels and features are float32.
        device: Where it runs.

    Attributes:
        head: [V, H] float32, its LM head.
        embeddings: [V, H] float32, its input embedding as it is stored: what an
            EAGLE-3 drafter reads.

    Raises:
        DecodeError: Its logits are capped or scaled.
    """

    def __init__(
        self, directory: Path, *, layers: Sequence[int] = (), dtype: str, device: torch.device
    ) -> None:
        self.model: Any = (
            load_model(directory, dtype).to(device).requires_grad_(requires_grad=False)
        )
        self.config: Any = self.model.config.get_text_config(decoder=True)
        for key in _LOGIT_KEYS:
            if getattr(self.config, key, None) not in (None, 1, 1.0):
                raise DecodeError(f"{directory}: {key} changes the logits, which is not handled")
        self.directory, self.layers = directory, tuple(layers)
        self.device = device
        self.head = self.model.get_output_embeddings().weight.detach().float()
        self.embeddings = self.model.get_input_embeddings().weight.detach().float()

    def embed(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return what the target's first layer reads, [..., H] float32; Gemma scales it."""
        embedded: torch.Tensor = self.model.get_input_embeddings()(tokens)
        return embedded.detach().float()

    @torch.no_grad()
    def teach(self, batch: Batch) -> Lesson:
        """Run the target on a batch."""
        batch = Batch(*(one.to(self.device) for one in vars(batch).values()))
        # without a mask, transformers tells packed documents apart by their positions
        output = self.model.base_model(
            batch.tokens,
            position_ids=batch.positions,
            use_cache=False,
            output_hidden_states=bool(self.layers),
        )
        features = output.last_hidden_state.new_empty((*batch.tokens.shape, 0))
        if self.layers:
            features = torch.cat([output.hidden_states[one] for one in self.layers], -1)
        following = batch.tokens.roll(-1, 1)
        known = batch.learnt.roll(-1, 1) & (batch.documents.roll(-1, 1) == batch.documents)
        known &= batch.documents >= 0
        known[:, -1] = False
        row_of = torch.where(known, known.flatten().cumsum(0).view_as(known) - 1, -1)
        hidden = output.last_hidden_state[known]
        own = self.model.get_output_embeddings().weight
        labels, greedy = soft_labels(hidden, self.head, following[known], own=own)
        return Lesson(batch, features.float(), row_of, labels, greedy)


def soft_labels(
    hidden: torch.Tensor,
    head: torch.Tensor,
    label: torch.Tensor,
    *,
    own: torch.Tensor | None = None,
) -> tuple[Labels, torch.Tensor]:
    """Return the target's distribution over its likeliest ids and the label.

    Args:
        hidden: [M, H] final hidden states, after the target's norm.
        head: [V, H] float32.
        label: [M] int64, the token that follows in the text.
        own: [V, H] the head in the precision of `hidden`, where that is another:
            which ids are likeliest is read off it, how likely they are is not.

    Returns:
        The labels, and the likeliest id of each, [M] int64.
    """
    parts = []
    rows = max(CHUNK_ROWS, CHUNK // len(head))
    scan = head if own is None else own
    for begin in range(0, len(hidden), rows):
        states, labels = hidden[begin : begin + rows], label[begin : begin + rows]
        ids = (states @ scan.T).topk(min(LIKELIEST + 1, len(head))).indices
        missing = (ids != labels[:, None]).all(1)
        ids[missing, -1] = labels[missing]
        ids = ids.sort(1).values
        logits = rows_dot(states.float(), head, ids)
        greedy = ids.gather(1, logits.argmax(1, keepdim=True))[:, 0]
        parts.append((ids, logits.softmax(1), greedy))
    if not parts:
        raise DecodeError("there is no label in a batch")
    ids_of, chances_of, greedy_of = zip(*parts, strict=True)
    return Labels(torch.cat(ids_of), torch.cat(chances_of)), torch.cat(greedy_of)


def feature_layers(n_layers: int) -> tuple[int, int, int]:
    """Return EAGLE-3's three layers: early, middle, late, as `hidden_states` indices.

    Raises:
        DecodeError: The target is too shallow for the rule.
    """
    layers = (2, n_layers // 2, n_layers - 3)
    if not 0 < layers[0] < layers[1] < layers[2]:
        raise DecodeError(f"a target of {n_layers} layers has no early, middle and late one")
    return layers
