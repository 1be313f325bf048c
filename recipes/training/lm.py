"""The independent drafter: a few of the target's own layers, distilled.

It reads tokens only. Embedding and head are the target's one tied matrix,
frozen and not stored; the layers start as copies of the target's first and
last ones (of 30, the layers 0, 1, 28 and 29), which beats random ones by far
more than any number of steps that fits in an afternoon.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn

from recipes.training.head_loss import Draw, soft_cross_entropy
from recipes.training.state import WEIGHTS_FILE, write_drafter
from recipes.training.task import StepLoss
from recipes.training.teacher import Lesson, Teacher
from vocabtrim.core.errors import DecodeError
from vocabtrim.tensors.checkpoint import Checkpoint

_EMBEDDING = "embed_tokens.weight"
_PREFIX = "model."


class ShortModel(nn.Module):
    """Some layers of a target and its last norm.

    Args:
        teacher: The target.
        layers: Which of its layers, ascending.

    Raises:
        DecodeError: A layer is not there, or head and embedding are not one.
    """

    def __init__(self, teacher: Teacher, layers: Sequence[int]) -> None:
        super().__init__()
        whole = teacher.model.base_model
        if not all(0 <= one < len(whole.layers) for one in layers):
            raise DecodeError(f"the target has {len(whole.layers)} layers, not {list(layers)}")
        if not teacher.config.tie_word_embeddings:
            raise DecodeError("the recipe needs a target whose head is its embedding")
        config = copy.deepcopy(teacher.config)
        changed: dict[str, Any] = {"num_hidden_layers": len(layers)}
        if getattr(config, "layer_types", None):
            changed["layer_types"] = [config.layer_types[one] for one in layers]
        for name, value in changed.items():
            setattr(config, name, value)
        stored = Checkpoint.open(teacher.directory).text_config
        self.document = {**stored, **changed, "dtype": "bfloat16", "tie_word_embeddings": True}
        body: Any = type(whole)(config)
        body.embed_tokens = nn.Identity()  # embeddings are given
        for place, layer in enumerate(layers):
            body.layers[place].load_state_dict(whole.layers[layer].state_dict())
        body.norm.load_state_dict(whole.norm.state_dict())
        self.body = body.float()

    def forward(self, embeddings: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """[B, T, H] embeddings of packed documents to [B, T, H] after the norm."""
        output = self.body(inputs_embeds=embeddings, position_ids=positions, use_cache=False)
        hidden: torch.Tensor = output.last_hidden_state
        return hidden

    def save(self, directory: Path) -> None:
        """Write `model.safetensors` in bfloat16, without the embedding, and `config.json`."""
        weights = {_PREFIX + name: one for name, one in self.body.state_dict().items()}
        write_drafter(directory, weights, self.document)

    def load(self, directory: Path) -> None:
        """Continue from a drafter that `save` wrote; a stored embedding is passed over."""
        weights = load_file(directory / WEIGHTS_FILE)
        weights.pop(_PREFIX + _EMBEDDING, None)
        self.body.load_state_dict(
            {name.removeprefix(_PREFIX): one.float() for name, one in weights.items()}
        )


@dataclass(eq=False)
class LmTask:
    """What the loop trains: one prediction a position.

    A draft's later steps read tokens that the target will have accepted, so for
    this kind of drafter they are this same prediction.

    Args:
        module: The drafter.
        teacher: The target, without feature layers.
    """

    module: ShortModel
    teacher: Teacher
    steps: int = 1

    def losses(self, lesson: Lesson, draw: Draw | None) -> Iterator[StepLoss]:
        """Yield the loss over the batch."""
        hidden = self.module(self.teacher.embed(lesson.batch.tokens), lesson.batch.positions)
        learnt = lesson.row_of >= 0
        loss, choices = soft_cross_entropy(hidden[learnt], self.teacher.head, lesson.labels, draw)
        places = learnt.flatten().nonzero()[:, 0] + 1
        yield StepLoss(loss.sum(), choices, lesson.greedy, places)

    def save(self, directory: Path) -> None:
        """Write the drafter as it is."""
        self.module.save(directory)


def cut_layers(n_layers: int, kept: int = 4) -> tuple[int, ...]:
    """Return the first and last layers of a target, `kept` in all."""
    first = (kept + 1) // 2
    return (*range(first), *range(n_layers - kept + first, n_layers))
