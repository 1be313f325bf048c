"""GGUF to the layout of transformers, against files made with llama.cpp's own gguf."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tests.tiny import H, V, numbers, raw_tensors, tiny_lm
from vocabtrim.core.errors import CheckpointError
from vocabtrim.tensors.checkpoint import Checkpoint
from vocabtrim.tensors.gguf_file import GgufFile, bfloat16_bits, convert_gguf, is_gguf
from vocabtrim.tokens.tokenizer import fingerprint_of

HEADS, KV_HEADS, LAYERS = 4, 2, 2
NAMES = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def _gguf_name(name: str) -> str:
    outside = {
        "model.embed_tokens.weight": "token_embd.weight",
        "model.norm.weight": "output_norm.weight",
        "lm_head.weight": "output.weight",
    }
    if name in outside:
        return outside[name]
    _, _, layer, rest = name.split(".", 3)
    return f"blk.{layer}.{NAMES[rest.removesuffix('.weight')]}.weight"


def _interleaved(name: str, weights: np.ndarray) -> np.ndarray:
    """Reorder rows as llama.cpp's converter does on the way to GGUF."""
    heads = {"attn_q": HEADS, "attn_k": KV_HEADS}.get(_gguf_name(name).split(".")[-2])
    if heads is None:
        return weights
    shape = (heads, 2, weights.shape[0] // heads // 2, *weights.shape[1:])
    return np.ascontiguousarray(weights.reshape(shape).swapaxes(1, 2).reshape(weights.shape))


def _write_gguf(
    path: Path,
    weights: Mapping[str, np.ndarray],
    *,
    kind: str = "F32",
    architecture: str = "llama",
    more: Callable[[gguf.GGUFWriter], object] = lambda _: None,
    pre: str = "smollm",
    with_theta: bool = True,
) -> Path:
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_block_count(LAYERS)
    writer.add_context_length(512)
    writer.add_embedding_length(H)
    writer.add_feed_forward_length(2 * H)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    if with_theta:
        writer.add_rope_freq_base(5000.0)
    letters = [chr(ord("a") + i) for i in range(26)]
    tokens = ["<end>", *letters, "ab", *[f"<{i}>" for i in range(V - 28)]]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_token_types([3] + [1] * (V - 1))
    writer.add_token_merges(["a b"])
    writer.add_eos_token_id(0)
    more(writer)
    for name, array in weights.items():
        stored = _interleaved(name, array)
        if array.ndim > 1:
            quantised = gguf.GGMLQuantizationType[kind]
            data = gguf.quants.quantize(stored, quantised)
            writer.add_tensor(_gguf_name(name), data, raw_dtype=quantised)
        else:
            writer.add_tensor(_gguf_name(name), stored)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture
def weights(tmp_path: Path) -> dict[str, np.ndarray]:
    directory = tiny_lm(tmp_path / "lm", tied=False)
    generator = np.random.default_rng(0)
    # The norms of tiny models are all ones, which no reordering would change.
    return {
        name: generator.normal(0, 1, raw[1]).astype(np.float32)
        for name, raw in raw_tensors(directory).items()
    }


def _bfloat16(values: np.ndarray) -> np.ndarray:
    """Round by arithmetic: the nearer neighbour, of two the one with an even last bit."""
    low = (values.view(np.uint32) >> 16).astype(np.uint32)
    as_float = [(bits << 16).astype(np.uint32).view(np.float32) for bits in (low, low + 1)]
    distances = [np.abs(values.astype(np.float64) - f.astype(np.float64)) for f in as_float]
    up = (distances[1] < distances[0]) | ((distances[1] == distances[0]) & (low % 2 == 1))
    return (low + up).astype(np.uint16)


@pytest.mark.parametrize("kind", ["F32", "F16", "BF16", "Q8_0", "Q4_1"])
def test_every_weight_comes_out_in_its_place(
    tmp_path: Path, weights: dict[str, np.ndarray], kind: str
) -> None:
    source, out = _write_gguf(tmp_path / "m.gguf", weights, kind=kind), tmp_path / "out"
    out.mkdir()
    convert_gguf(source, out)
    written = raw_tensors(out)
    assert written.keys() == weights.keys()
    for name, array in weights.items():
        stored = array
        if array.ndim > 1:
            quantised = gguf.GGMLQuantizationType[kind]
            # Quantising and permuting rows commute: blocks lie within a row.
            stored = gguf.quants.dequantize(gguf.quants.quantize(array, quantised), quantised)
        assert written[name][:2] == ("BF16", array.shape)
        assert np.array_equal(numbers(written[name]), _bfloat16(np.ascontiguousarray(stored)))


def test_the_config_is_that_of_the_file(tmp_path: Path, weights: dict[str, np.ndarray]) -> None:
    out = tmp_path / "out"
    out.mkdir()
    convert_gguf(_write_gguf(tmp_path / "m.gguf", weights), out)
    config = Checkpoint.open(out).config
    expected = {
        "architectures": ["LlamaForCausalLM"],
        "hidden_size": H,
        "intermediate_size": 2 * H,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "num_hidden_layers": LAYERS,
        "head_dim": H // HEADS,
        "max_position_embeddings": 512,
        "rope_theta": 5000.0,
        "rope_parameters": {"rope_theta": 5000.0, "rope_type": "default"},
        "tie_word_embeddings": False,
        "vocab_size": V,
        "eos_token_id": 0,
        "pad_token_id": 0,
    }
    assert {key: config[key] for key in expected} == expected
    assert config["rms_norm_eps"] == pytest.approx(1e-5)
    generation = json.loads((out / "generation_config.json").read_text())
    assert generation == {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
    assert fingerprint_of(out) == fingerprint_of(tmp_path / "m.gguf")


def test_a_file_without_an_output_matrix_is_tied(
    tmp_path: Path, weights: dict[str, np.ndarray]
) -> None:
    del weights["lm_head.weight"]
    out = tmp_path / "out"
    out.mkdir()
    convert_gguf(_write_gguf(tmp_path / "m.gguf", weights, with_theta=False), out)
    config = Checkpoint.open(out).config
    assert config["tie_word_embeddings"] is True
    assert config["rope_theta"] == 10000.0


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "another architecture": ({"architecture": "qwen2"}, "architecture qwen2; only llama"),
    "scaled rotary embedding": (
        {"more": lambda w: w.add_rope_scaling_type(gguf.RopeScalingType.YARN)},
        "its rotary scaling 'yarn' is not converted",
    ),
    "rotary factors": (
        {"more": lambda w: w.add_tensor("rope_freqs.weight", np.ones(4, np.float32))},
        r"it holds rope_freqs\.weight, which a plain Llama does not have",
    ),
    "a bias": (
        {"more": lambda w: w.add_tensor("blk.0.attn_q.bias", np.ones(H, np.float32))},
        r"it holds blk\.0\.attn_q\.bias",
    ),
    "another split": ({"pre": "llama-bpe"}, r"its tokenizer \(gpt2, split llama-bpe\)"),
    "a tokenizer that adds BOS": ({"more": lambda w: w.add_add_bos_token(True)}, "adds BOS or EOS"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_more_than_a_plain_llama_is_refused(
    tmp_path: Path, weights: dict[str, np.ndarray], case: str
) -> None:
    options, message = REFUSED[case]
    source = _write_gguf(tmp_path / "m.gguf", weights, **options)
    with pytest.raises(CheckpointError, match=message) as caught:
        convert_gguf(source, tmp_path)
    assert str(caught.value).startswith(f"{source}: ")


def test_a_file_without_an_embedding(tmp_path: Path, weights: dict[str, np.ndarray]) -> None:
    del weights["model.embed_tokens.weight"]
    with pytest.raises(CheckpointError, match=r"it holds no token_embd\.weight"):
        convert_gguf(_write_gguf(tmp_path / "m.gguf", weights), tmp_path)


def test_what_is_no_gguf_or_a_broken_one(tmp_path: Path, weights: dict[str, np.ndarray]) -> None:
    text = tmp_path / "text.gguf"
    text.write_text("hello")
    assert not is_gguf(text)
    with pytest.raises(CheckpointError, match="it is no GGUF file"):
        GgufFile.open(text)
    whole = _write_gguf(tmp_path / "m.gguf", weights).read_bytes()
    for length in (4, 20, 300, len(whole) // 2):
        cut = tmp_path / "cut.gguf"
        cut.write_bytes(whole[:length])
        assert is_gguf(cut)
        with pytest.raises(CheckpointError, match="it is a damaged GGUF file"):
            GgufFile.open(cut)


def test_a_key_that_is_not_there_is_named(tmp_path: Path, weights: dict[str, np.ndarray]) -> None:
    opened = GgufFile.open(_write_gguf(tmp_path / "m.gguf", weights))
    with pytest.raises(CheckpointError, match=r"its metadata lacks no\.such\.key"):
        opened.value("no.such.key")


@settings(deadline=None)
@given(hnp.arrays(np.float32, hnp.array_shapes(max_dims=2), elements=st.floats(width=32)))
def test_rounding_is_to_the_nearest_and_keeps_what_is_not_a_number(values: np.ndarray) -> None:
    rounded = bfloat16_bits(values)
    assert rounded.shape == values.shape
    back = (rounded.astype(np.uint32) << 16).view(np.float32)
    assert np.array_equal(np.isnan(back), np.isnan(values))
    finite = np.isfinite(values) & (np.abs(values) < 3.3e38)
    assert np.array_equal(rounded[finite], _bfloat16(values[finite]))
    assert np.array_equal(np.isinf(values) & (back == values), np.isinf(values))
