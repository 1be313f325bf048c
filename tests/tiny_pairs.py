"""Drafters for `tiny_models`, one that is always right, and one that is watched.

Random drafters agree with a random target about once in V drafts, so they prove
what happens after rejections. `markov_pair` is built so that target and EAGLE-3
drafter agree always: the target's next id depends on the last id alone, and the
drafter's one layer works out the very same hidden state. `Watched` stands
between the loop and a drafter and checks the cache before each draft.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch.nn.functional import silu, softmax
from torch.utils._python_dispatch import TorchDispatchMode

from tests.tiny_models import H, V, tiny_model
from vocabtrim.core.vocab import DraftVocab
from vocabtrim.decode.drafters.base import ReducedHead
from vocabtrim.decode.drafters.eagle3 import Eagle3Drafter
from vocabtrim.decode.drafters.independent import IndependentDrafter

EAGLE_CONFIG: dict[str, Any] = {
    "model_type": "llama",
    "vocab_size": V,
    "hidden_size": H,
    "intermediate_size": 2 * H,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 256,
    "rms_norm_eps": 1e-6,
    "hidden_act": "silu",
    "rope_theta": 10000.0,
}
LAYERS = (0, 1, 2)
"""Hidden states of a two-layer target, all there are."""


def vocabulary(size: int) -> DraftVocab:
    """Return `size` ids spread over V, neither the first nor contiguous unless all."""
    return DraftVocab(np.unique(np.linspace(1 if size < V else 0, V - 1, size).astype(int)), V)


def reduced(model: Any, vocab: DraftVocab) -> ReducedHead:
    """Return the rows of `vocab` of a model's head."""
    weight = model.get_output_embeddings().weight.detach()
    return ReducedHead(weight[torch.from_numpy(vocab.ids.copy())], vocab)


def lm_drafter(model: Any, vocab: DraftVocab) -> IndependentDrafter:
    """Return an independent drafter that is `model` over a draft vocabulary."""
    return IndependentDrafter(model.model, reduced(model, vocab))


def eagle_tensors(seed: int, *, states: int = 3, prefix: str = "midlayer.") -> dict[str, Any]:
    """Return random weights of a drafter in the flat layout."""
    shapes = {
        "fc.weight": (H, states * H),
        f"{prefix}self_attn.q_proj.weight": (32, 2 * H),
        f"{prefix}self_attn.k_proj.weight": (16, 2 * H),
        f"{prefix}self_attn.v_proj.weight": (16, 2 * H),
        f"{prefix}self_attn.o_proj.weight": (H, 32),
        f"{prefix}mlp.gate_proj.weight": (2 * H, H),
        f"{prefix}mlp.up_proj.weight": (2 * H, H),
        f"{prefix}mlp.down_proj.weight": (H, 2 * H),
        f"{prefix}input_layernorm.weight": (H,),
        f"{prefix}hidden_norm.weight": (H,),
        f"{prefix}post_attention_layernorm.weight": (H,),
        "norm.weight": (H,),
    }
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(shape, generator=generator) * (0.3 if len(shape) > 1 else 0.1)
        + (1.0 if len(shape) == 1 else 0.0)
        for name, shape in shapes.items()
    }


def eagle_drafter(model: Any, vocab: DraftVocab, *, seed: int = 0) -> Eagle3Drafter:
    """Return a random EAGLE-3 drafter on a two-layer target, in its precision."""
    embeddings = model.get_input_embeddings().weight.detach()
    tensors = {name: tensor.to(embeddings.dtype) for name, tensor in eagle_tensors(seed).items()}
    return Eagle3Drafter(EAGLE_CONFIG, tensors, embeddings, reduced(model, vocab), LAYERS)


def markov_pair(
    vocab: DraftVocab,
    *,
    seed: int = 0,
    change: Callable[[str, torch.Tensor], torch.Tensor] = lambda _, weight: weight,
) -> tuple[Any, Eagle3Drafter]:
    """Return a target and an EAGLE-3 drafter that is right wherever `vocab` allows.

    Embeddings are rows of +-1 and the target's layers add nothing, so its last
    hidden state is the embedding e of the last id. The drafter's attention looks
    at its own position only (a constant query and key, and rotation), its value
    is e(new) - e(old), and the old feature, e(old), is what the residual adds.
    `change` gives each of the drafter's weights, by name, its final value.
    """
    generator = torch.Generator().manual_seed(seed)
    model = tiny_model("llama", tie_word_embeddings=False, rms_norm_eps=1e-6, eos_token_id=None)
    model.generation_config.eos_token_id = None
    signs = torch.randint(0, 2, (V, H), generator=generator) * 2.0 - 1.0
    signs[:, 0] = 1.0
    with torch.no_grad():
        model.get_input_embeddings().weight.copy_(signs)
        # a walk through all ids: each one's own embedding makes the next id the likeliest
        walk = torch.randperm(V, generator=generator)
        model.get_output_embeddings().weight[walk.roll(-1)] = signs[walk]
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
    eye, zero = torch.eye(H), torch.zeros(H, H)
    constant = torch.zeros(H, 2 * H)
    constant[:, 0] = 20.0
    tensors = eagle_tensors(seed) | {
        "fc.weight": torch.cat([eye, zero, zero], dim=1),
        "midlayer.self_attn.q_proj.weight": constant,
        "midlayer.self_attn.k_proj.weight": constant.clone(),
        "midlayer.self_attn.v_proj.weight": torch.cat([eye, -eye], dim=1),
        "midlayer.self_attn.o_proj.weight": eye,
        "midlayer.mlp.down_proj.weight": torch.zeros(H, 2 * H),
        "midlayer.input_layernorm.weight": torch.ones(H),
        "midlayer.hidden_norm.weight": torch.ones(H),
        "norm.weight": torch.ones(H),
    }
    config = EAGLE_CONFIG | {"num_key_value_heads": 4}
    tensors = {name: change(name, weight) for name, weight in tensors.items()}
    embedded = signs.to(tensors["fc.weight"].dtype)
    return model, Eagle3Drafter(config, tensors, embedded, reduced(model, vocab), LAYERS)


def plain_eagle3(
    tensors: dict[str, Any],
    config: dict[str, Any],
    embedded: torch.Tensor,
    features: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Compute the layer position by position, from the description of the paper.

    Args:
        tensors: Its weights, as `eagle_tensors` names them.
        config: Its config.
        embedded: [T, H] embeddings of tokens 1 to T.
        features: [T, H] features of positions 0 to T - 1, fused already.

    Returns:
        Keys and values [KV heads, T, head dimension], and states [T, H] before
        the last norm.
    """
    w = {name.removeprefix("midlayer."): tensor for name, tensor in tensors.items()}
    heads, kv_heads, size = (
        config[name] for name in ("num_attention_heads", "num_key_value_heads", "head_dim")
    )

    def norm(name: str, x: torch.Tensor) -> torch.Tensor:
        scale = torch.sqrt((x * x).mean() + config["rms_norm_eps"])
        out: torch.Tensor = w[f"{name}.weight"] * x / scale
        return out

    def rotated(x: torch.Tensor, position: int) -> torch.Tensor:
        half = size // 2
        angles = position * config["rope_theta"] ** (-torch.arange(half) * 2.0 / size)
        low, high = x[:half], x[half:]
        return torch.cat(
            [
                low * angles.cos() - high * angles.sin(),
                high * angles.cos() + low * angles.sin(),
            ]
        )

    keys: list[list[torch.Tensor]] = [[] for _ in range(kv_heads)]
    values: list[list[torch.Tensor]] = [[] for _ in range(kv_heads)]
    states = []
    for position, (token, feature) in enumerate(zip(embedded, features, strict=True)):
        pair = torch.cat([norm("input_layernorm", token), norm("hidden_norm", feature)])
        query = w["self_attn.q_proj.weight"] @ pair
        key, value = w["self_attn.k_proj.weight"] @ pair, w["self_attn.v_proj.weight"] @ pair
        for head in range(kv_heads):
            part = slice(head * size, (head + 1) * size)
            keys[head].append(rotated(key[part], position))
            values[head].append(value[part])
        mixed = []
        for head in range(heads):
            shared = head * kv_heads // heads
            own = rotated(query[head * size : (head + 1) * size], position)
            scores = torch.stack([own @ one for one in keys[shared]]) / size**0.5
            mixed.append(softmax(scores, dim=0) @ torch.stack(values[shared]))
        state = feature + w["self_attn.o_proj.weight"] @ torch.cat(mixed)
        inner = norm("post_attention_layernorm", state)
        gate = silu(w["mlp.gate_proj.weight"] @ inner)
        state = state + w["mlp.down_proj.weight"] @ (gate * (w["mlp.up_proj.weight"] @ inner))
        states.append(state)
    stacked = [torch.stack([torch.stack(head) for head in both]) for both in (keys, values)]
    return stacked[0], stacked[1], torch.stack(states)


@torch.no_grad()
def fresh_features(model: Any, token_ids: Sequence[int], layers: Sequence[int]) -> torch.Tensor:
    """Return the hidden states of one pass without a cache, side by side: [T, F]."""
    states = model(
        torch.tensor([list(token_ids)]), use_cache=False, output_hidden_states=True
    ).hidden_states
    return torch.cat([states[index][0] for index in layers], dim=-1)


class Watched:
    """A drafter whose cache is compared with a fresh pass before each draft.

    Args:
        drafter: The one that works.
        twin: Another of the same weights, begun from scratch each time.
        model: The target.
        tolerance: Of keys and values, relative and absolute.
    """

    def __init__(self, drafter: Any, twin: Any, model: Any, *, tolerance: float = 1e-4) -> None:
        self.drafter, self.twin, self.model, self.tolerance = drafter, twin, model, tolerance
        self.head: ReducedHead = drafter.head
        self.committed: list[int] = []
        self.drafts: list[list[int]] = []

    @property
    def feature_layers(self) -> tuple[int, ...]:
        layers: tuple[int, ...] = self.drafter.feature_layers
        return layers

    def begin(self, columns: int, rows: int = 1) -> None:
        assert rows == 1
        self.committed = []
        self.columns = columns
        self.drafter.begin(columns)

    def open(self, rows: int) -> None:
        self.drafter.open(rows)

    def keep(self, rows: Sequence[int]) -> None:
        self.drafter.keep(rows)

    def commit(self, token_ids: Sequence[int], features: torch.Tensor | None, row: int = 0) -> None:
        self.committed.extend(token_ids)
        self.drafter.commit(token_ids, features, row)

    def follow(self, draft_ids: Sequence[int]) -> torch.Tensor:
        states: torch.Tensor = self.drafter.follow(draft_ids)
        return states

    def start(self) -> torch.Tensor:
        (unread,), (cached,) = self.drafter.unread, self.drafter.cache.lengths
        read = len(self.committed) - len(unread)
        assert tuple(self.committed[read:]) == unread
        # a pair of EAGLE-3 is a token and the feature before it
        assert cached == (read - 1 if self.feature_layers else read)
        self._compare_with_fresh(read)
        hidden: torch.Tensor = self.drafter.start()
        self.drafts.append([int(self.head.best(hidden)[0])])
        return hidden

    def step(self, token_ids: torch.Tensor, alive: Sequence[bool]) -> torch.Tensor:
        assert token_ids.tolist() == self.drafts[-1][-1:]
        hidden: torch.Tensor = self.drafter.step(token_ids, alive)
        self.drafts[-1].append(int(self.head.best(hidden)[0]))
        return hidden

    def rewind(self) -> None:
        self.drafter.rewind()
        # what was proposed is gone again, what was committed has been read
        assert self.drafter.unread == ((),)
        self._compare_with_fresh(len(self.committed))
        assert self.twin.propose(len(self.drafts[-1])) == self.drafts[-1]

    def _compare_with_fresh(self, tokens: int) -> None:
        """Let the twin read the first committed tokens in one pass, and compare the caches."""
        self.twin.begin(self.columns)
        cache, fresh = self.drafter.cache, self.twin.cache
        if tokens > bool(self.feature_layers):
            features = None
            if self.feature_layers:
                known = self.committed[: tokens - 1]
                features = fresh_features(self.model, known, self.feature_layers)
            self.twin.commit(self.committed[:tokens], features)
            self.twin.start()
            fresh = self.twin.cache
        assert cache.lengths == fresh.lengths
        layers = 1 if self.feature_layers else self.drafter.trunk.config.num_hidden_layers
        for layer in range(layers if cache.lengths[0] else 0):
            for ours, theirs in zip(cache.layer(layer), fresh.layer(layer), strict=True):
                torch.testing.assert_close(ours, theirs, rtol=self.tolerance, atol=self.tolerance)


class Dimensions(TorchDispatchMode):
    """Remembers every dimension of everything that torch computes."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for one in out if isinstance(out, tuple | list) else [out]:
            if isinstance(one, torch.Tensor):
                self.seen.update(one.shape)
        return out
