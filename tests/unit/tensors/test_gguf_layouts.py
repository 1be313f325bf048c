"""Architectures in GGUF: a tiny Gemma 3 goes there and back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from vocabtrim.core.errors import CheckpointError
from vocabtrim.tensors.gguf_conversion import convert_gguf
from vocabtrim.tensors.gguf_file import GgufFile
from vocabtrim.tensors.gguf_layouts import LAYOUTS, layout_of

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

LAYERS, H, V = 7, 32, 40
NAMES = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "post_attention_layernorm": "post_attention_norm",
    "pre_feedforward_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "post_feedforward_layernorm": "post_ffw_norm",
}


@pytest.fixture
def gemma() -> Any:
    torch.manual_seed(0)
    config = transformers.Gemma3TextConfig(
        vocab_size=V,
        hidden_size=H,
        intermediate_size=48,
        num_hidden_layers=LAYERS,
        num_attention_heads=4,
        num_key_value_heads=1,
        head_dim=16,
        query_pre_attn_scalar=16,
        sliding_window=4,
        max_position_embeddings=64,
        rms_norm_eps=1e-6,
    )
    model = transformers.Gemma3ForCausalLM(config).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            # norms start at zero, which would hide what is added to them
            weight.normal_(0, 0.5 if "norm" in name else 0.3)
            weight.copy_(weight.to(torch.bfloat16))
    return model


def write(path: Path, model: Any, *, scaled: bool = False) -> Path:
    writer = gguf.GGUFWriter(path, "gemma3")
    writer.add_block_count(LAYERS)
    writer.add_context_length(64)
    writer.add_embedding_length(H)
    writer.add_feed_forward_length(48)
    writer.add_head_count(4)
    writer.add_head_count_kv(1)
    writer.add_key_length(16)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(1e6)
    writer.add_sliding_window(4)
    if scaled:
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(["<bos>", "<eos>", *(f"<{number}>" for number in range(V - 2))])
    writer.add_token_scores([0.0] * V)
    writer.add_token_types([3, 3] + [1] * (V - 2))
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    writer.add_add_bos_token(True)
    writer.add_add_space_prefix(False)
    for name, tensor in model.model.state_dict().items():
        # llama.cpp's norms multiply by the weight itself, Gemma's by 1 + weight
        values = tensor.numpy() + np.float32(name.endswith("norm.weight"))
        stored = {"embed_tokens.weight": "token_embd.weight", "norm.weight": "output_norm.weight"}
        if name not in stored:
            _, layer, rest = name.split(".", 2)
            stored[name] = f"blk.{layer}.{NAMES[rest.removesuffix('.weight')]}.weight"
        writer.add_tensor(stored[name], values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_gemma_is_the_model_that_went_in(tmp_path: Path, gemma: Any) -> None:
    convert_gguf(write(tmp_path / "m.gguf", gemma), tmp_path)
    found, report = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path, dtype=torch.float32, output_loading_info=True
    )
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    assert isinstance(found, transformers.Gemma3ForCausalLM)
    for key in ("layer_types", "rope_parameters", "sliding_window", "query_pre_attn_scalar"):
        assert getattr(found.config, key) == getattr(gemma.config, key)
    assert found.config.layer_types.count("full_attention") == 1
    # beyond the window and beyond the first layer that looks everywhere
    ids = torch.arange(2, 22)[None]
    with torch.no_grad():
        expected, logits = gemma(ids).logits, found.eval()(ids).logits
    # adding 1 and taking it away again rounds a norm in its last bits
    assert torch.allclose(logits, expected, rtol=0.03, atol=0.05)
    assert expected.std() > 0.5


def test_another_rotary_scaling_is_refused(tmp_path: Path, gemma: Any) -> None:
    with pytest.raises(CheckpointError, match="its rotary scaling is not converted"):
        convert_gguf(write(tmp_path / "m.gguf", gemma, scaled=True), tmp_path)


def test_a_tensor_without_a_place_is_named(tmp_path: Path, gemma: Any) -> None:
    file = GgufFile.open(write(tmp_path / "m.gguf", gemma))
    with pytest.raises(CheckpointError, match=r"blk\.0\.ffn_bias\.weight, which a plain Gemma3"):
        layout_of(file).name(file, "blk.0.ffn_bias.weight")


def test_only_norms_of_gemma_hold_more_than_was_published() -> None:
    assert LAYOUTS["gemma3"].added("blk.0.attn_q_norm.weight") == 1
    assert LAYOUTS["gemma3"].added("output_norm.weight") == 1
    assert LAYOUTS["gemma3"].added("blk.0.attn_q.weight") == 0
    assert LAYOUTS["llama"].added("output_norm.weight") == 0
