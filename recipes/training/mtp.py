"""A target with its own prediction layer, small enough to be trained in minutes.

Shaped as Qwen3.5 (text): `fc` reads the norms of the next token's embedding and of
the target's last hidden state, one decoder layer of full attention follows, and
the target's head makes logits of what comes out (vLLM `qwen3_5_mtp.py`). Target and
prediction layer are trained together, the target on text, the layer on what the
target itself says one token later.

All layers of the target are of full attention: vLLM's CPU build has no rollback
of linear attention's state without Triton, and runs that attention in bfloat16.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from vocabtrim.tensors.checkpoint import CONFIG_FILE, WEIGHTS_FILE

PREFIX = "mtp."


@dataclass(frozen=True)
class Shape:
    """Sizes of a target.

    Args:
        vocab_size: V.
        hidden_size: H.
        layers: Of the target; the prediction layer is one more.
        heads: Of queries; half as many of keys and values.
        head_dim: Of each; 32 is the least that vLLM's CPU attention takes.
        intermediate_size: Of the MLPs.
        positions: The longest text.
    """

    vocab_size: int = 4096
    hidden_size: int = 128
    layers: int = 2
    heads: int = 4
    head_dim: int = 32
    intermediate_size: int = 384
    positions: int = 1024

    def config(self) -> dict[str, Any]:
        """Return the config as the target's directory states it."""
        return {
            "architectures": ["Qwen3_5ForCausalLM"],
            "model_type": "qwen3_5_text",
            "attention_bias": False,
            "dtype": "float32",
            "eos_token_id": 0,
            "head_dim": self.head_dim,
            "hidden_act": "silu",
            "hidden_size": self.hidden_size,
            "initializer_range": 0.02,
            "intermediate_size": self.intermediate_size,
            "layer_types": ["full_attention"] * self.layers,
            "max_position_embeddings": self.positions,
            "mtp_num_hidden_layers": 1,
            "num_attention_heads": self.heads,
            "num_hidden_layers": self.layers,
            "num_key_value_heads": self.heads // 2,
            "partial_rotary_factor": 0.25,
            "rms_norm_eps": 1e-6,
            "rope_parameters": {
                "partial_rotary_factor": 0.25,
                "rope_theta": 10000.0,
                "rope_type": "default",
            },
            "tie_word_embeddings": False,
            "vocab_size": self.vocab_size,
        }


class Target(nn.Module):
    """A target and its prediction layer.

    Args:
        shape: Its sizes; weights are drawn from torch's global generator.
    """

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        from transformers import Qwen3_5ForCausalLM, Qwen3_5TextConfig
        from transformers.models.qwen3_5.modeling_qwen3_5 import (
            Qwen3_5DecoderLayer,
            Qwen3_5RMSNorm,
        )

        self.shape = shape
        self.model = Qwen3_5ForCausalLM(Qwen3_5TextConfig(**shape.config()))
        H = shape.hidden_size
        self.mtp = nn.Module()
        self.mtp.fc = nn.Linear(2 * H, H, bias=False)
        self.mtp.layers = nn.ModuleList([Qwen3_5DecoderLayer(self.model.config, 0)])
        for norm in ("norm", "pre_fc_norm_hidden", "pre_fc_norm_embedding"):
            setattr(self.mtp, norm, Qwen3_5RMSNorm(H, eps=self.model.config.rms_norm_eps))

    def features(self, ids: torch.Tensor) -> torch.Tensor:
        """Return the target's last hidden states, normed as its head reads them: [B, T, H]."""
        found: torch.Tensor = self.model.model(ids).last_hidden_state
        return found

    def head(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return logits of the target's head: [..., V]."""
        found: torch.Tensor = self.model.lm_head(hidden)
        return found

    def predict(self, hidden: torch.Tensor, following: torch.Tensor) -> torch.Tensor:
        """Return what the prediction layer makes of features and the tokens after them.

        Args:
            hidden: [B, T, H] features of T positions, the target's or its own.
            following: [B, T] the token that came after each.

        Returns:
            [B, T, H], from which the head tells the token after `following`.
        """
        embedding = self.model.model.embed_tokens(following)
        both = (self.mtp.pre_fc_norm_embedding(embedding), self.mtp.pre_fc_norm_hidden(hidden))
        states = self.mtp.fc(torch.cat(both, dim=-1))
        places = torch.arange(states.shape[1]).expand(3, states.shape[0], -1)
        rotary = self.model.model.rotary_emb(states, places)
        found: torch.Tensor = self.mtp.norm(self.mtp.layers[0](states, position_embeddings=rotary))
        return found

    def loss(self, ids: torch.Tensor) -> torch.Tensor:
        """Return the loss of target and prediction layer on text [B, T]."""
        hidden = self.features(ids)
        logits = self.head(hidden)
        own = functional.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
        predicted = self.head(self.predict(hidden[:, :-2], ids[:, 1:-1]))
        taught = logits[:, 1:-1].detach().softmax(-1)
        return own + functional.cross_entropy(predicted.flatten(0, 1), taught.flatten(0, 1))

    @torch.no_grad()
    def greedy(self, prompts: torch.Tensor, tokens: int) -> torch.Tensor:
        """Return prompts [B, T] and what the target says after them: [B, T + tokens]."""
        found: torch.Tensor = self.model.generate(
            prompts,
            attention_mask=torch.ones_like(prompts),
            max_new_tokens=tokens,
            do_sample=False,
            eos_token_id=None,
            pad_token_id=0,
        )
        return found

    @torch.no_grad()
    def accepted(
        self, text: torch.Tensor, start: int, tokens: int, gamma: int, kept: torch.Tensor | None
    ) -> list[int]:
        """Draft along the target's own greedy text, without caches, as a reference.

        Args:
            text: [T] a prompt and the target's greedy text after it, of at least
                `tokens` + γ tokens.
            start: Tokens of the prompt.
            tokens: How many to emit; the last cycle may go beyond.
            gamma: Draft tokens a cycle.
            kept: [K] ids that may be drafted; None for all.

        Returns:
            Draft tokens accepted, for each cycle.
        """
        hidden = self.features(text[None])
        counts: list[int] = []
        known = start + 1  # the prompt's pass gives the first token
        while known - start < tokens:
            states, following = hidden[:, : known - 1], text[None, 1:known]
            count = 0
            for _ in range(gamma):
                last = self.predict(states, following)[:, -1:]
                logits = self.head(last[0, 0])
                best = logits.argmax() if kept is None else kept[logits[kept].argmax()]
                if best != text[known + count]:
                    break
                count += 1
                states = torch.cat([states, last], dim=1)
                following = torch.cat([following, best[None, None]], dim=1)
            counts.append(count)
            known += count + 1
        return counts

    def save(self, directory: Path) -> None:
        """Write weights and config as Qwen3.5's checkpoints are written."""
        from safetensors.torch import save_file

        weights = {**self.model.state_dict()}
        weights |= {f"{PREFIX}{name}": value for name, value in self.mtp.state_dict().items()}
        plain = {name: value.contiguous() for name, value in weights.items()}
        save_file(plain, directory / WEIGHTS_FILE, metadata={"format": "pt"})
        text = json.dumps(self.shape.config(), indent=2) + "\n"
        (directory / CONFIG_FILE).write_text(text, encoding="utf-8")

    @classmethod
    def load(cls, directory: Path, shape: Shape | None = None) -> Target:
        """Read what `save` wrote; `shape` where it is not that of the recipe."""
        from safetensors.torch import load_file

        target = cls(shape or Shape())
        weights = load_file(directory / WEIGHTS_FILE)
        own = {n.removeprefix(PREFIX): v for n, v in weights.items() if n.startswith(PREFIX)}
        target.mtp.load_state_dict(own)
        rest = {name: value for name, value in weights.items() if not name.startswith(PREFIX)}
        target.model.load_state_dict(rest)
        return target.eval()


def by_position(counts: Sequence[int], gamma: int) -> list[int]:
    """Return how many cycles accepted a draft at each depth, from 1 to γ."""
    return [sum(count > depth for count in counts) for depth in range(gamma)]
