"""GGUF drafters trimmed as files: llama.cpp writes them, reads them, drafts with them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import gguf
import numpy as np
import pytest

from tests.engines.llama_cpp import Answer, convert, quantise, refuses, require, served
from tests.tiny_gguf import read_gguf
from vocabtrim.core.vocab import DraftVocab
from vocabtrim.families.tiny import write_tiny
from vocabtrim.pipeline.trim import trim
from vocabtrim.tensors.built_in import demo_drafter, demo_gguf, demo_target
from vocabtrim.tensors.checkpoint import Checkpoint
from vocabtrim.tensors.gguf_model import open_gguf
from vocabtrim.tensors.writer import CheckpointWriter
from vocabtrim.tokens.tokenizer import fingerprint_of

pytestmark = pytest.mark.engine

K = 2048
PROMPTS = (
    "<|im_start|>user\nWrite a short story about a lighthouse.<|im_end|>\n<|im_start|>assistant\n",
    "<|im_start|>user\nHow do I reverse a list in Python?<|im_end|>\n<|im_start|>assistant\n",
)
TOKENS = 32
TYPES = ("F16", "Q8_0", "Q5_0", "Q4_0")
K_AND_I = (
    *("Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "IQ4_XS", "IQ3_S", "IQ3_XXS"),
    *("IQ2_S", "IQ2_XS", "IQ2_XXS", "IQ1_S", "IQ1_M"),
)
"""Every type of the two kinds of quantisation that only llama-quantize writes."""
NAMED = {"IQ2_S": "IQ2_M"}
"""What llama-quantize calls a type, where it has no name for it alone."""


@pytest.fixture(scope="module")
def vocab(demo_cache: Path) -> DraftVocab:
    """Spread ids, the first 2,000 among them: in merge order the frequent ones come first."""
    ids = np.unique(np.concatenate([np.arange(2000), np.arange(2000, 49_152, 997)]))
    return DraftVocab(ids[:K], 49_152, fingerprint_of(demo_target()))


@pytest.fixture(scope="module")
def made(
    tmp_path_factory: pytest.TempPathFactory, vocab: DraftVocab
) -> Mapping[str, tuple[Path, Path]]:
    """By type: the drafter trimmed as a GGUF file, and the one trimmed before conversion."""
    require("llama.cpp", "vllm")
    place = tmp_path_factory.mktemp("gguf")
    full = with_own_head(place / "full")
    trim(full, vocab, place / "trimmed")
    after = convert(full, place / "full.gguf", outtype="f16", target=demo_target())
    before = convert(
        place / "trimmed", place / "F16-before.gguf", outtype="f16", target=demo_target()
    )
    found = {}
    for kind in TYPES:
        whole, cut = place / f"{kind}-full.gguf", place / f"{kind}-before.gguf"
        if kind == "F16":
            whole = after
        else:
            quantise(after, whole, kind)
            quantise(before, cut, kind)
        trim(whole, vocab, place / f"{kind}-after.gguf")
        found[kind] = (place / f"{kind}-after.gguf", cut)
    return found


def random_dflash(directory: Path) -> Path:
    """Write a DFlash drafter of one random layer for the demo target."""
    target = Checkpoint.open(demo_target())
    hidden, inner = target.integer("hidden_size"), 128
    config = {
        "architectures": ["DFlashDraftModel"],
        "model_type": "qwen3",
        "block_size": 8,
        "dflash_config": {"mask_token_id": 1, "target_layer_ids": [1, 14, 26]},
        "head_dim": 64,
        "hidden_act": "silu",
        "hidden_size": hidden,
        "intermediate_size": inner,
        "max_position_embeddings": 2048,
        "num_attention_heads": 2,
        "num_hidden_layers": 1,
        "num_key_value_heads": 1,
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
        "tie_word_embeddings": False,
        "vocab_size": target.integer("vocab_size"),
    }
    shapes: dict[str, tuple[int, ...]] = {
        "fc.weight": (hidden, 3 * hidden),
        "hidden_norm.weight": (hidden,),
        "norm.weight": (hidden,),
        "layers.0.input_layernorm.weight": (hidden,),
        "layers.0.post_attention_layernorm.weight": (hidden,),
        "layers.0.self_attn.q_norm.weight": (64,),
        "layers.0.self_attn.k_norm.weight": (64,),
        "layers.0.self_attn.q_proj.weight": (128, hidden),
        "layers.0.self_attn.k_proj.weight": (64, hidden),
        "layers.0.self_attn.v_proj.weight": (64, hidden),
        "layers.0.self_attn.o_proj.weight": (hidden, 128),
        "layers.0.mlp.gate_proj.weight": (inner, hidden),
        "layers.0.mlp.up_proj.weight": (inner, hidden),
        "layers.0.mlp.down_proj.weight": (hidden, inner),
    }
    write_tiny(directory, config, shapes, seed=0)
    return directory


def with_own_head(directory: Path) -> Path:
    """Give the demo drafter the target's rows as a head of its own."""
    drafter, target = Checkpoint.open(demo_drafter("eagle3")), Checkpoint.open(demo_target())
    shutil.copytree(drafter.path, directory)
    writer = CheckpointWriter()
    for name in drafter.tensors:
        writer.copy(drafter, name)
    rows = target.tensor("model.embed_tokens.weight")
    chunks = partial(target.chunks, rows.name)
    writer.add("lm_head.weight", rows.dtype, rows.shape, rows.nbytes, chunks)
    writer.write(directory / "model.safetensors")
    config = json.loads((directory / "config.json").read_text())
    config["draft_vocab_size"] = rows.shape[0]
    (directory / "config.json").write_text(json.dumps(config))
    return directory


def answers(drafter: Path | None, log: Path) -> list[Answer]:
    with served(demo_gguf(), drafter, log) as server:
        return [server.complete(prompt, tokens=TOKENS) for prompt in PROMPTS]


@pytest.mark.parametrize("kind", TYPES)
def test_trimmed_before_or_after_conversion_it_drafts_the_same_tokens(
    made: Mapping[str, tuple[Path, Path]], tmp_path: Path, kind: str
) -> None:
    after, before = made[kind]
    ours, theirs = read_gguf(after), read_gguf(before)
    assert ours.types["output.weight"] == kind
    assert ours.types == theirs.types
    for name, rows in theirs.data.items():
        assert np.array_equal(ours.data[name], rows), name
    drafted = answers(after, tmp_path / "after.log")
    assert drafted == answers(before, tmp_path / "before.log")
    assert all(answer.accepted > 0 for answer in drafted)
    assert all(answer.accepted < answer.drafted for answer in drafted)


def test_a_drafter_without_a_head_gets_rows_of_the_targets_file(
    made: Mapping[str, tuple[Path, Path]], vocab: DraftVocab, tmp_path: Path
) -> None:
    drafter = tmp_path / "d.gguf"
    convert(demo_drafter("eagle3"), drafter, outtype="f16", target=demo_target())
    result = trim(drafter, vocab, tmp_path / "out.gguf", target=demo_gguf())
    assert (result.dtype, result.K) == ("Q8_0", vocab.size)
    assert result.warnings == ()
    drafted = answers(tmp_path / "out.gguf", tmp_path / "log")
    alone = answers(None, tmp_path / "alone.log")
    assert [answer.text[:40] for answer in drafted] == [answer.text[:40] for answer in alone]
    assert sum(answer.accepted for answer in drafted) > 0.1 * sum(a.drafted for a in drafted)


def test_a_block_drafter_with_rows_of_the_target_is_loaded(
    demo_cache: Path, vocab: DraftVocab, tmp_path: Path
) -> None:
    require("llama.cpp", "vllm")
    drafter = convert(
        random_dflash(tmp_path / "d"), tmp_path / "d.gguf", outtype="f16", target=demo_target()
    )
    trim(drafter, vocab, tmp_path / "out.gguf", target=demo_gguf())
    with served(demo_gguf(), tmp_path / "out.gguf", tmp_path / "log", kind="dflash") as server:
        answer = server.complete(PROMPTS[0], tokens=8)
    # The loader refuses a head of other than V rows unless it finds a map beside it.
    assert answer.drafted > 0


@pytest.mark.parametrize("wanted", ["q4_0", "mxfp4"])
def test_a_head_in_another_type_is_served(
    made: Mapping[str, tuple[Path, Path]], vocab: DraftVocab, tmp_path: Path, wanted: str
) -> None:
    trim(made["F16"][0], vocab, tmp_path / "out.gguf", head_type=wanted)
    assert sum(answer.accepted for answer in answers(tmp_path / "out.gguf", tmp_path / "log")) > 0


def test_parts_that_llama_cpp_split_are_trimmed(
    made: Mapping[str, tuple[Path, Path]], vocab: DraftVocab, tmp_path: Path
) -> None:
    import subprocess

    from tools.engines import llama_binary

    whole = made["Q8_0"][0]
    command = [llama_binary("llama-gguf-split"), "--split-max-tensors", "5", whole, tmp_path / "p"]
    subprocess.run([str(part) for part in command], check=True, capture_output=True)
    first = sorted(tmp_path.glob("p-00001-of-*.gguf"))[0]
    half = DraftVocab(vocab.ids[::2], vocab.vocab_size, vocab.tokenizer)
    trim(first, half, tmp_path / "from_parts.gguf")
    trim(whole, half, tmp_path / "from_whole.gguf")
    ours, theirs = read_gguf(tmp_path / "from_parts.gguf"), read_gguf(tmp_path / "from_whole.gguf")
    assert ours.types == theirs.types
    for name, rows in theirs.data.items():
        assert np.array_equal(ours.data[name], rows)


def test_a_map_that_does_not_fit_is_refused_by_llama_cpp_too(
    made: Mapping[str, tuple[Path, Path]], tmp_path: Path
) -> None:
    data = made["F16"][0].read_bytes()
    # the name of the map, in the list of tensors, not the word in the manifest
    entry = (3).to_bytes(8, "little") + b"d2t"
    assert data.count(entry) == 1
    (tmp_path / "d.gguf").write_bytes(data.replace(entry, entry[:-1] + b"x"))
    said = refuses(demo_gguf(), tmp_path / "d.gguf", tmp_path / "log")
    assert "wrong shape" in said


@pytest.mark.parametrize("kind", K_AND_I)
def test_rows_that_llama_quantize_wrote_are_its_bytes(tmp_path: Path, kind: str) -> None:
    require("llama.cpp")
    rows, width = 4096, 1024
    drafter = tmp_path / "q.gguf"
    matrix = importance(tmp_path / "i.gguf", {"output.weight": width, "fc.weight": 768})
    source = big_head(tmp_path / "big.gguf", rows, width)
    quantise(source, drafter, NAMED.get(kind, kind), importance=matrix)
    ids = np.sort(np.random.default_rng(1).choice(rows, 1024, replace=False))
    trim(drafter, DraftVocab(ids, rows), tmp_path / "out.gguf")
    before, after = read_gguf(drafter), read_gguf(tmp_path / "out.gguf")
    assert before.types["output.weight"] == after.types["output.weight"] == kind
    assert np.array_equal(after.data["output.weight"], before.data["output.weight"][ids])
    assert open_gguf(tmp_path / "out.gguf").tensors["output.weight"].shape == (1024, width)


def big_head(path: Path, rows: int, width: int) -> Path:
    """Write a drafter of little more than a head of [rows, width] float32."""
    generator = np.random.default_rng(0)
    writer = gguf.GGUFWriter(path, "eagle3")
    writer.add_embedding_length(width)
    writer.add_block_count(1)
    writer.add_context_length(512)
    writer.add_feed_forward_length(2 * width)
    writer.add_head_count(8)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_array("eagle3.target_layers", [1, 2, 3])
    writer.add_uint32("eagle3.target_hidden_size", 256)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list([f"token{i}" for i in range(rows)])
    values = generator.normal(0, 0.05, (rows, width)).astype(np.float32)
    writer.add_tensor("output.weight", values)
    writer.add_tensor("fc.weight", generator.normal(size=(256, 768)).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def importance(path: Path, widths: Mapping[str, int]) -> Path:
    """Write an importance matrix of ones, without which the smallest types are not made."""
    writer = gguf.GGUFWriter(path, "")
    writer.kv_data[0].clear()
    writer.add_string("general.type", "imatrix")
    writer.add_array("imatrix.datasets", ["none"])
    writer.add_uint32("imatrix.chunk_count", 1)
    writer.add_uint32("imatrix.chunk_size", 512)
    for name, width in widths.items():
        writer.add_tensor(f"{name}.in_sum2", np.ones((1, width), dtype=np.float32))
        writer.add_tensor(f"{name}.counts", np.ones((1, 1), dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
