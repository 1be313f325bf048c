"""How the architectures that are converted from GGUF look in transformers.

A layout says what `config.json` holds, what each tensor is called, and how what
is stored becomes what is published: llama.cpp interleaves the two halves of
every head in a Llama's query and key projections (`LlamaModel.permute` in its
`conversion/llama.py`), and adds 1 to the weights of Gemma's norms
(`conversion/gemma.py`), which transformers adds when it runs. What a plain
model of an architecture does not have (scaled rotary frequencies, experts,
biases) is refused by name, not dropped.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from vocabtrim.core.errors import CheckpointError
from vocabtrim.tensors.gguf_file import GgufFile

_OUTSIDE_LAYERS = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
_IN_LAYER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_IN_GEMMA_LAYER = {
    **_IN_LAYER,
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
}
_GEMMA_PATTERN = 6
"""Every sixth layer of Gemma 3 attends to everything (Gemma 3 report, 2503.19786)."""


class Layout(Protocol):
    """What conversion must know of an architecture."""

    def config(self, file: GgufFile) -> dict[str, Any]:
        """Return the `config.json` of a file.

        Raises:
            CheckpointError: It holds something that is not converted.
        """
        ...

    def name(self, file: GgufFile, name: str) -> str:
        """Return what transformers calls a tensor.

        Raises:
            CheckpointError: A plain model has no such tensor.
        """
        ...

    def rows(self, name: str, rows: int, config: Mapping[str, Any]) -> NDArray[np.int64]:
        """Return which stored row comes first, second, … in the order of transformers."""
        ...

    def added(self, name: str) -> float:
        """Return what the stored weights hold more than the published ones."""
        ...


class Llama:
    """Architecture `llama`."""

    def config(self, file: GgufFile) -> dict[str, Any]:
        """Return the `config.json` of a file."""
        scaling = file.metadata.get("llama.rope.scaling.type", "none")
        if scaling != "none":
            raise CheckpointError(
                f"its rotary scaling {scaling!r} is not converted", path=file.path
            )
        heads = int(file.value("llama.attention.head_count"))
        hidden = int(file.value("llama.embedding_length"))
        theta = float(file.metadata.get("llama.rope.freq_base", 10000.0))
        return {
            **_common(file, "llama"),
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "head_dim": int(file.metadata.get("llama.rope.dimension_count", hidden // heads)),
            "hidden_act": "silu",
            "mlp_bias": False,
            # transformers 5 reads the nested form, everything older the flat one.
            "rope_parameters": {"rope_theta": theta, "rope_type": "default"},
            "rope_theta": theta,
        }

    def name(self, file: GgufFile, name: str) -> str:
        """Return what transformers calls a tensor."""
        return _name(file, name, {**_IN_LAYER, "ffn_norm": "post_attention_layernorm"})

    def rows(self, name: str, rows: int, config: Mapping[str, Any]) -> NDArray[np.int64]:
        """Return the order of rows: query and key heads have theirs interleaved."""
        order = np.arange(rows)
        heads = {
            "attn_q": config["num_attention_heads"],
            "attn_k": config["num_key_value_heads"],
        }.get(name.split(".")[-2])
        return order if heads is None else order.reshape(heads, -1, 2).swapaxes(1, 2).reshape(-1)

    def added(self, name: str) -> float:
        """Return 0: nothing was added."""
        return 0.0


class Gemma3:
    """Architecture `gemma3`, text only."""

    def config(self, file: GgufFile) -> dict[str, Any]:
        """Return the `config.json` of a file."""
        if "gemma3.rope.scaling.type" in file.metadata:
            raise CheckpointError("its rotary scaling is not converted", path=file.path)
        if "gemma3.final_logit_softcapping" in file.metadata:
            raise CheckpointError("its logit softcap is not converted", path=file.path)
        head_dim = int(file.value("gemma3.attention.key_length"))
        layers = int(file.value("gemma3.block_count"))
        everywhere = float(file.metadata.get("gemma3.rope.freq_base", 1e6))
        nearby = float(file.metadata.get("gemma3.rope.freq_base_swa", 1e4))
        kinds = ("full_attention", "sliding_attention")
        return {
            **_common(file, "gemma3"),
            "architectures": ["Gemma3ForCausalLM"],
            "model_type": "gemma3_text",
            "attn_logit_softcapping": None,
            "final_logit_softcapping": None,
            "head_dim": head_dim,
            "hidden_activation": "gelu_pytorch_tanh",
            "layer_types": [kinds[bool((layer + 1) % _GEMMA_PATTERN)] for layer in range(layers)],
            # llama.cpp scales by the head dimension too, in every size but 27B
            "query_pre_attn_scalar": head_dim,
            "rope_parameters": {
                "full_attention": {"rope_theta": everywhere, "rope_type": "default"},
                "sliding_attention": {"rope_theta": nearby, "rope_type": "default"},
            },
            "rope_theta": everywhere,
            "rope_local_base_freq": nearby,
            "sliding_window": int(file.value("gemma3.attention.sliding_window")),
        }

    def name(self, file: GgufFile, name: str) -> str:
        """Return what transformers calls a tensor."""
        return _name(file, name, _IN_GEMMA_LAYER)

    def rows(self, name: str, rows: int, config: Mapping[str, Any]) -> NDArray[np.int64]:
        """Return the stored order: nothing is interleaved."""
        return np.arange(rows)

    def added(self, name: str) -> float:
        """Return the 1 that llama.cpp adds to the weights of norms."""
        return 1.0 if name.endswith("norm.weight") else 0.0


LAYOUTS: Mapping[str, Layout] = {"llama": Llama(), "gemma3": Gemma3()}


def layout_of(file: GgufFile) -> Layout:
    """Return the layout of a file's architecture.

    Raises:
        CheckpointError: It is none that is converted.
    """
    architecture = file.value("general.architecture")
    if architecture not in LAYOUTS:
        raise CheckpointError(
            f"it holds a model of architecture {architecture}; only {' and '.join(LAYOUTS)} "
            "are converted",
            path=file.path,
        )
    return LAYOUTS[architecture]


def _common(file: GgufFile, architecture: str) -> dict[str, Any]:
    """Return what all architectures have."""
    prefix = f"{architecture}."
    heads = int(file.value(prefix + "attention.head_count"))
    eos = int(file.value("tokenizer.ggml.eos_token_id"))
    return {
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": int(file.metadata.get("tokenizer.ggml.bos_token_id", eos)),
        "dtype": "bfloat16",
        "eos_token_id": eos,
        "hidden_size": int(file.value(prefix + "embedding_length")),
        "initializer_range": 0.02,
        "intermediate_size": int(file.value(prefix + "feed_forward_length")),
        "max_position_embeddings": int(file.value(prefix + "context_length")),
        "num_attention_heads": heads,
        "num_hidden_layers": int(file.value(prefix + "block_count")),
        "num_key_value_heads": int(file.metadata.get(prefix + "attention.head_count_kv", heads)),
        "pad_token_id": int(file.metadata.get("tokenizer.ggml.padding_token_id", eos)),
        "rms_norm_eps": float(file.value(prefix + "attention.layer_norm_rms_epsilon")),
        "tie_word_embeddings": "output.weight" not in file.tensors,
        "use_cache": True,
        "vocab_size": _embedding_rows(file),
    }


def _embedding_rows(file: GgufFile) -> int:
    if "token_embd.weight" not in file.tensors:
        raise CheckpointError("it holds no token_embd.weight", path=file.path)
    return int(file.tensors["token_embd.weight"].shape[1])


def _name(file: GgufFile, name: str, in_layer: Mapping[str, str]) -> str:
    if name in _OUTSIDE_LAYERS:
        return _OUTSIDE_LAYERS[name]
    parts = name.split(".")
    if len(parts) == 4 and parts[0] == "blk" and parts[2] in in_layer and parts[3] == "weight":
        return f"model.layers.{parts[1]}.{in_layer[parts[2]]}.weight"
    architecture = str(file.value("general.architecture")).capitalize()
    raise CheckpointError(
        f"it holds {name}, which a plain {architecture} does not have", path=file.path
    )
