"""GGUF to the layout of transformers, against files made with llama.cpp's own gguf."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tests.llama_gguf import HEADS, KV_HEADS, LAYERS, write_gguf
from tests.tiny import H, V, numbers, raw_tensors, tiny_lm
from vocabtrim.core.errors import CheckpointError
from vocabtrim.pipeline.fingerprints import fingerprint_at
from vocabtrim.tensors.checkpoint import Checkpoint
from vocabtrim.tensors.gguf_conversion import bfloat16_bits, convert_gguf
from vocabtrim.tokens.tokenizer import fingerprint_of


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
    source, out = write_gguf(tmp_path / "m.gguf", weights, kind=kind), tmp_path / "out"
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
    convert_gguf(write_gguf(tmp_path / "m.gguf", weights), out)
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
    assert fingerprint_of(out) == fingerprint_at(tmp_path / "m.gguf")


def test_a_file_without_an_output_matrix_is_tied(
    tmp_path: Path, weights: dict[str, np.ndarray]
) -> None:
    del weights["lm_head.weight"]
    out = tmp_path / "out"
    out.mkdir()
    convert_gguf(write_gguf(tmp_path / "m.gguf", weights, with_theta=False), out)
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
    "a tokenizer that adds BOS": (
        {"more": lambda w: w.add_add_bos_token(True)},
        "smollm, adds BOS",
    ),
    "a tokenizer that adds EOS": ({"more": lambda w: w.add_add_eos_token(True)}, "adds EOS"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_more_than_a_plain_llama_is_refused(
    tmp_path: Path, weights: dict[str, np.ndarray], case: str
) -> None:
    options, message = REFUSED[case]
    source = write_gguf(tmp_path / "m.gguf", weights, **options)
    with pytest.raises(CheckpointError, match=message) as caught:
        convert_gguf(source, tmp_path)
    assert str(caught.value).startswith(f"{source}: ")


def test_a_file_without_an_embedding(tmp_path: Path, weights: dict[str, np.ndarray]) -> None:
    del weights["model.embed_tokens.weight"]
    with pytest.raises(CheckpointError, match=r"it holds no token_embd\.weight"):
        convert_gguf(write_gguf(tmp_path / "m.gguf", weights), tmp_path)


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
