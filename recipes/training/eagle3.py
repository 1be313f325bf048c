"""The EAGLE-3 drafter and its training-time test (Li et al., arXiv 2503.01840).

A pair at position p is (embedding of token p + 1, feature of position p) and
predicts token p + 2. While drafting, the first pair has the target's feature
and each later one what the drafter itself put out before. Training unrolls the
same: step k starts from every position p at once, reads token p + 1 + k and the
output of step k - 1, and attends to what that draft would find in its cache:
the pairs with true features up to p, and its own earlier steps. The former is
one causal attention; the latter is the diagonal, one key a step and position,
so k steps cost k more columns and no larger mask.

Parameters are named as in the flat layout (SafeAILab/EAGLE `cnets.py`), which
this module also writes. Only Llama's layer is built, whatever the target.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional

from recipes.training.head_loss import Draw, soft_cross_entropy
from recipes.training.state import WEIGHTS_FILE, write_drafter
from recipes.training.task import StepLoss
from recipes.training.teacher import Lesson, Teacher
from vocabtrim.core.errors import CheckpointError
from vocabtrim.tensors.checkpoint import Checkpoint

FEATURES = "eagle_aux_hidden_state_layer_ids"

LOGITS_SIZE = 2.0
"""Standard deviation of the logits that a new drafter begins with, about."""

STEP_WEIGHT = 0.8
"""Loss weight of step k is 0.8^k, as in the authors' code."""


_KeysValues = tuple[torch.Tensor, torch.Tensor]


class _Attention(nn.Module):
    """Projections; queries, keys and values read embedding and feature side by side."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        H, d = config.hidden_size, config.head_dim
        queries, keys = config.num_attention_heads * d, config.num_key_value_heads * d
        self.q_proj = nn.Linear(2 * H, queries, bias=False)
        self.k_proj = nn.Linear(2 * H, keys, bias=False)
        self.v_proj = nn.Linear(2 * H, keys, bias=False)
        self.o_proj = nn.Linear(queries, H, bias=False)


class _Layer(nn.Module):
    """The weights of the decoder layer."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        from transformers.models.llama.modeling_llama import LlamaMLP

        H, eps = config.hidden_size, config.rms_norm_eps
        self.self_attn = _Attention(config)
        self.mlp: nn.Module = LlamaMLP(config)
        self.input_layernorm = nn.RMSNorm(H, eps)
        self.hidden_norm = nn.RMSNorm(H, eps)
        self.post_attention_layernorm = nn.RMSNorm(H, eps)


class Eagle3(nn.Module):
    """One decoder layer on fused features; head and embedding are the target's.

    Args:
        config: Of the drafter, as in its `config.json`.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        from transformers import LlamaConfig
        from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

        self.config = LlamaConfig(**config)
        self.document = dict(config)
        H, eps = self.config.hidden_size, self.config.rms_norm_eps
        n_features = len(config[FEATURES])
        self.fc = nn.Linear(n_features * H, H, bias=False)
        # what the features are divided by while training; `save` folds it into fc
        self.feature_size = nn.Parameter(torch.ones(n_features * H), requires_grad=False)
        self.midlayer = _Layer(self.config)
        self.norm = nn.RMSNorm(H, eps)
        # not registered: its buffer is no weight of the checkpoint
        self._rotary = [LlamaRotaryEmbedding(self.config)]

    def unroll(
        self, lesson: Lesson, teacher: Teacher, starts: torch.Tensor, steps: int
    ) -> Iterator[torch.Tensor]:
        """Yield the outputs of each step, drafting from every start at once.

        Args:
            lesson: The batch and its features.
            teacher: For embeddings.
            starts: [B, L] int64 positions p from which a draft begins.
            steps: How many tokens are drafted.

        Yields:
            [B, L, H], the feature of the next step; `norm` of it meets the head.
        """
        batch = lesson.batch
        fused = self.fuse(lesson.features)
        embedded = functional.embedding(batch.tokens.roll(-1, 1), teacher.embeddings)
        pairs = self._pair(embedded, fused)
        prefix = self._keys_values(pairs, batch.positions)
        index = torch.arange(batch.tokens.shape[1], device=starts.device)
        blocked = (index > starts[..., None]) | (
            batch.documents[:, None, :] != batch.documents.gather(1, starts)[..., None]
        )
        own: list[_KeysValues] = []
        feature = _rows(fused, starts)
        begins = batch.positions.gather(1, starts)
        for step in range(steps):
            if step == 0:
                pair = _rows(pairs, starts)
            else:
                # behind the last token of a row nothing is learnt; any token will do
                following = (starts + 1 + step).clamp(max=batch.tokens.shape[1] - 1)
                embedded = functional.embedding(
                    batch.tokens.gather(1, following), teacher.embeddings
                )
                pair = self._pair(embedded, feature)
                own.append(self._keys_values(pair, begins + step))
            query = self._rotate(self.midlayer.self_attn.q_proj(pair), begins + step)
            mixed = _attend(query, prefix, blocked, own)
            feature = feature + self.midlayer.self_attn.o_proj(mixed)
            normed = self.midlayer.post_attention_layernorm(feature)
            feature = feature + self.midlayer.mlp(normed)
            yield feature

    def fuse(self, features: torch.Tensor) -> torch.Tensor:
        """Return [..., H] float32 for features [..., F·H] of the target."""
        # float32, for what later steps add to it
        fused: torch.Tensor = self.fc(features / self.feature_size).float()
        return fused

    def _pair(self, embedding: torch.Tensor, feature: torch.Tensor) -> torch.Tensor:
        return torch.cat(
            [self.midlayer.input_layernorm(embedding), self.midlayer.hidden_norm(feature)], -1
        )

    def _keys_values(self, pairs: torch.Tensor, positions: torch.Tensor) -> _KeysValues:
        keys = self._rotate(self.midlayer.self_attn.k_proj(pairs), positions)
        return keys, self._heads(self.midlayer.self_attn.v_proj(pairs))

    def _heads(self, projected: torch.Tensor) -> torch.Tensor:
        """[B, T, heads · d] to [B, heads, T, d]."""
        shape = (*projected.shape[:-1], -1, self.config.head_dim)
        return projected.view(shape).transpose(1, 2)

    def _rotate(self, projected: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        cos, sin = self._rotary[0](projected, positions)
        heads = self._heads(projected)
        first, second = heads.chunk(2, -1)
        turned = torch.cat([-second, first], -1)
        rotated: torch.Tensor = heads * cos[:, None] + turned * sin[:, None]
        return rotated

    def save(self, directory: Path) -> None:
        """Write `model.safetensors` in bfloat16 and `config.json`."""
        weights = self.state_dict()
        weights["fc.weight"] = weights["fc.weight"] / weights.pop("feature_size")
        write_drafter(directory, weights, self.document)

    @classmethod
    def open(cls, directory: Path) -> Eagle3:
        """Read a drafter that `save` wrote.

        Raises:
            CheckpointError: It is another kind of drafter, or holds a head of its own.
        """
        checkpoint = Checkpoint.open(directory)
        if FEATURES not in checkpoint.config:
            raise CheckpointError("it is no EAGLE-3 drafter of ours", path=directory)
        model = cls(checkpoint.config)
        expected = {name: tuple(one.shape) for name, one in model.state_dict().items()}
        del expected["feature_size"]
        found = {name: info.shape for name, info in checkpoint.tensors.items()}
        if found != expected:
            differing = sorted(set(found.items()) ^ set(expected.items()))[0][0]
            raise CheckpointError(
                f"it is no EAGLE-3 drafter without head and embedding, see {differing}",
                path=directory,
            )
        model.load_state_dict(load_file(directory / WEIGHTS_FILE), strict=False)
        return model.float()

    @classmethod
    def begin(
        cls, teacher: Teacher, lesson: Lesson, seed: int, intermediate_size: int | None = None
    ) -> Eagle3:
        """Make an untrained drafter for a target, its MLP as wide as the target's or as asked.

        The late feature passes through `fc` to what stands for the target's last
        norm, so that training starts from a guess at the token that is there
        already, and not from noise. Features are divided by their median size,
        for in a residual stream a few channels may be a hundred times as large as
        the others; and every channel of the output moves the logits alike, for a
        head's columns and a norm's gains may differ as much.
        """
        torch.manual_seed(seed)
        model = cls(drafter_config(teacher, intermediate_size))
        H = model.config.hidden_size
        for name, weight in model.named_parameters():
            if weight.ndim == 2:
                residual = "o_proj" in name or "down_proj" in name or name.startswith("fc")
                nn.init.normal_(weight, std=0.002 if residual else 0.02)
        seen = lesson.features[(lesson.batch.documents >= 0) & (lesson.batch.positions > 0)].cpu()
        with torch.no_grad():
            model.feature_size.copy_(seen.abs().median(0).values.clamp(min=1e-6))
            model.norm.weight.copy_(LOGITS_SIZE / math.sqrt(H) / teacher.head.std(0).cpu())
            through = _norm_gain(teacher.model.base_model.norm) / model.norm.weight
            size = (seen[:, -H:] * through).pow(2).mean(1).median().sqrt()
            model.fc.weight[:, -H:] += torch.diag(model.feature_size[-H:] * through / size)
        return model


@dataclass(eq=False)
class Eagle3Task:
    """What the loop trains: drafts of `steps` tokens from all positions.

    Args:
        module: The drafter.
        teacher: The target, with the drafter's feature layers.
        steps: Unrolled steps.
    """

    module: Eagle3
    teacher: Teacher
    steps: int = 3

    def losses(self, lesson: Lesson, draw: Draw | None) -> Iterator[StepLoss]:
        """Yield the loss of each step over the batch."""
        starts, rows = _starts(lesson, self.steps)
        outputs = self.module.unroll(lesson, self.teacher, starts, self.steps)
        B, T = lesson.row_of.shape
        begins = starts + T * torch.arange(B, device=starts.device)[:, None]
        for step, output in enumerate(outputs):
            learnt = rows[step] >= 0
            row = rows[step][learnt]
            loss, choices = soft_cross_entropy(
                self.module.norm(output[learnt]),
                self.teacher.head,
                lesson.labels[row],
                draw,
            )
            places = begins[learnt] + 2 + step
            weight = STEP_WEIGHT**step
            yield StepLoss(loss.sum(), choices, lesson.greedy[row], places, weight)

    def save(self, directory: Path) -> None:
        """Write the drafter as it is."""
        self.module.save(directory)


def drafter_config(teacher: Teacher, intermediate_size: int | None = None) -> dict[str, Any]:
    """Return the configuration of a drafter that fits a target; its MLP as wide, unless given."""
    target = teacher.config
    rope = target.rope_parameters
    # Gemma-3 has one entry a layer type; the drafter's only layer sees everything
    rope = rope.get("full_attention", rope)
    return {
        "architectures": ["LlamaForCausalLMEagle3"],
        "attention_bias": False,
        "bos_token_id": target.bos_token_id,
        "draft_vocab_size": target.vocab_size,
        "dtype": "bfloat16",
        FEATURES: list(teacher.layers),
        "eos_token_id": target.eos_token_id,
        "head_dim": target.head_dim,
        "hidden_act": "silu",
        "hidden_size": target.hidden_size,
        "intermediate_size": intermediate_size or target.intermediate_size,
        "max_position_embeddings": target.max_position_embeddings,
        "mlp_bias": False,
        "model_type": "llama",
        "num_attention_heads": target.num_attention_heads,
        "num_hidden_layers": 1,
        "num_key_value_heads": target.num_key_value_heads,
        "rms_norm_eps": target.rms_norm_eps,
        "rope_parameters": dict(rope),
        "target_hidden_size": target.hidden_size,
        "tie_word_embeddings": False,
        "vocab_size": target.vocab_size,
    }


def _starts(lesson: Lesson, steps: int) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Return where drafts begin, and which label each of their steps has.

    A draft begins at p where token p + 1 is one that the model wrote, as in
    decoding, whose first draft follows the first generated token. Step k
    predicts token p + 2 + k, and so has the label of position p + 1 + k; it
    has none behind a token that has none.

    Returns:
        starts [B, L], filled up with 0, and per step [B, L] int64 rows of
        labels, -1 for none.
    """
    row_of = lesson.row_of
    T = row_of.shape[1]
    first = functional.pad(row_of[:, 1:], (0, 1), value=-1)
    begins = (row_of >= 0) & (first >= 0)
    L = int(begins.sum(1).max())
    starts = begins.int().argsort(stable=True, dim=1, descending=True)[:, :L]
    alive = begins.gather(1, starts)
    starts = torch.where(alive, starts, 0)
    rows = []
    for step in range(steps):
        place = starts + 1 + step
        row = torch.where(place < T, row_of.gather(1, place.clamp(max=T - 1)), -1)
        alive = alive & (row >= 0)
        rows.append(torch.where(alive, row, -1))
    return starts, rows


def _attend(
    query: torch.Tensor,
    prefix: _KeysValues,
    blocked: torch.Tensor,
    own: Sequence[_KeysValues],
) -> torch.Tensor:
    """Attend to the true prefix, and at each start to its own earlier steps.

    Args:
        query: [B, heads, L, d].
        prefix: [B, kv heads, T, d] keys and values of pairs with true features.
        blocked: [B, L, T] bool, which of them a start does not see.
        own: [B, kv heads, L, d] keys and values of each step so far but the first.

    Returns:
        [B, L, heads · d].
    """
    keys, values = prefix
    B, heads, L, d = query.shape
    kv_heads, T = keys.shape[1], keys.shape[2]
    grouped = query.reshape(B, kv_heads, -1, d) * d**-0.5
    scores = (grouped @ keys.transpose(2, 3)).view(B, kv_heads, -1, L, T)
    scores = scores.masked_fill(blocked[:, None, None], float("-inf"))
    diagonal = [
        (grouped.view(B, kv_heads, -1, L, d) * key[:, :, None]).sum(-1, keepdim=True)
        for key, _ in own
    ]
    chances = torch.cat([scores, *diagonal], -1).softmax(-1)
    mixed = chances[..., :T].reshape(B, kv_heads, -1, T) @ values
    mixed = mixed.view(B, kv_heads, -1, L, d)
    for step, (_, value) in enumerate(own):
        mixed = mixed + chances[..., T + step, None] * value[:, :, None]
    return mixed.reshape(B, heads, L, d).transpose(1, 2).flatten(2)


def _rows(states: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """[B, T, D] and [B, L] to [B, L, D]."""
    return states.gather(1, index[..., None].expand(-1, -1, states.shape[2]))


def _norm_gain(norm: Any) -> torch.Tensor:
    """Return what a target's RMS norm multiplies by; Gemma's weight is the gain less 1."""
    weight: torch.Tensor = norm.weight.detach().float().cpu()
    return weight + 1 if "Gemma" in type(norm).__name__ else weight
