"""The demo pair: the target equals what transformers reads, the drafters are whole."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

from tests.tiny import numbers, raw_tensors
from vocabtrim.core.manifest import file_hash
from vocabtrim.pipeline.fingerprints import fingerprint_at
from vocabtrim.tensors import built_in
from vocabtrim.tensors.built_in import (
    BUILT_IN,
    GEMMA,
    SMOLLM2,
    demo_drafter,
    demo_gguf,
    demo_target,
)
from vocabtrim.tensors.checkpoint import Checkpoint
from vocabtrim.tokens.tokenizer import Tokenizer, fingerprint_of

EMBEDDING = "model.embed_tokens.weight"

SAMPLE = [
    "In 1984, 12345 + 678 = 13023; 3.14159 and 1e-9.",
    "def f(x):\n\treturn [x ** 2 for _ in range(10)]  # squares\n\n\n",
    "naïve café – “quotes” … 你好 мир שלום ½ x² Ⅷ",
    "👩‍👩‍👧 🎉🎉 \u00a0\u3000",
    "<|im_start|>user\nHi<|im_end|>\n<|endoftext|><repo_name>foo<gh_stars>7<empty_output>",
    "   leading, trailing   \r\n\t",
    "\x00\x01\x04\x7f\xad",
    "don't we'll I'M They've",
    "",
]


def _only_ascii_digits(text: str) -> bool:
    return all(not char.isnumeric() or char.isascii() for char in text)


def test_the_target_is_the_model_that_was_pinned(demo_cache: Path) -> None:
    assert file_hash(demo_gguf()) == SMOLLM2.file_hash
    target = Checkpoint.open(demo_target())
    assert target.integer("vocab_size") == 49152
    assert target.tensors[EMBEDDING].shape == (49152, 576)
    assert {info.dtype for info in target.tensors.values()} == {"BF16"}
    assert fingerprint_of(target.path) == fingerprint_at(demo_gguf())


def test_the_drafters_are_the_packaged_ones_with_what_they_share(demo_cache: Path) -> None:
    packaged = Path(str(files("vocabtrim.demo"))) / "drafters"
    embedding = raw_tensors(demo_target())[EMBEDDING]
    assert raw_tensors(demo_drafter("eagle3")) == raw_tensors(packaged / "eagle3")
    shared = raw_tensors(packaged / "lm") | {EMBEDDING: embedding}
    assert raw_tensors(demo_drafter("lm")) == shared
    for name in ("eagle3", "lm"):
        directory = demo_drafter(name)
        config = json.loads((directory / "config.json").read_text())
        assert config == json.loads((packaged / name / "config.json").read_text())
        assert fingerprint_of(directory) == fingerprint_of(demo_target())


def test_another_packaged_drafter_is_another_entry(
    demo_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "demo/drafters/eagle3"
    place.mkdir(parents=True)
    packaged = Path(str(files("vocabtrim.demo"))) / "drafters/eagle3"
    for file in ("config.json", "model.safetensors"):
        (place / file).write_bytes((packaged / file).read_bytes())
    names: list[str] = []

    def record(name: str, _: object) -> Path:
        names.append(name)
        return tmp_path

    monkeypatch.setattr(built_in, "built_once", record)
    demo_drafter("eagle3")
    monkeypatch.setattr(built_in, "files", lambda _: tmp_path / "demo")
    demo_drafter("eagle3")
    (place / "config.json").write_text("{}")
    demo_drafter("eagle3")
    assert names[0] == names[1] != names[2]


def test_a_target_has_its_notices_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real file is large; any file in its place shows what goes with it."""
    place = tmp_path / "gguf"
    place.mkdir()
    (place / GEMMA.file).write_bytes(demo_gguf().read_bytes())
    for name in ("NOTICE.md", "GEMMA_TERMS.html"):
        (place / name).write_text(f"{name} of the publisher")
    monkeypatch.setenv("VOCABTRIM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(type(GEMMA), "locate", lambda self: place / self.file)
    directory = BUILT_IN["demo-gemma"]()
    assert (directory / "NOTICE.md").read_text() == "NOTICE.md of the publisher"
    assert (directory / "GEMMA_TERMS.html").is_file()
    assert Checkpoint.open(directory).integer("vocab_size") == 49152


def test_transformers_reads_the_same_weights_from_the_gguf(demo_cache: Path) -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    gguf = demo_gguf()
    reference = transformers.AutoModelForCausalLM.from_pretrained(
        gguf.parent, gguf_file=gguf.name, dtype=torch.float32
    ).state_dict()
    ours = {name: numbers(raw) for name, raw in raw_tensors(demo_target()).items()}
    assert ours.keys() == reference.keys() - {"lm_head.weight"}
    for name, bits in ours.items():
        expected = reference[name].to(torch.bfloat16).view(torch.int16).numpy()
        assert np.array_equal(bits, expected.view(np.uint16)), name


def test_transformers_loads_it_and_it_speaks(demo_cache: Path) -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    directory = demo_target()
    model, report = transformers.AutoModelForCausalLM.from_pretrained(
        directory, dtype=torch.float32, output_loading_info=True
    )
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    assert model.config.tie_word_embeddings
    assert model.config.rope_parameters["rope_theta"] == 100000.0
    assert model.generation_config.eos_token_id == 2
    tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
    ids = tokenizer.apply_chat_template(
        [{"role": "user", "content": "What is the capital of France?"}],
        add_generation_prompt=True,
        return_tensors="pt",
        return_dict=True,
    )
    generated = model.generate(**ids, max_new_tokens=16, do_sample=False)[0]
    answer = tokenizer.decode(generated[ids["input_ids"].shape[1] :])
    assert answer == "The capital of France is Paris.<|im_end|>"


def test_the_tokenizer_is_that_of_the_gguf(demo_cache: Path) -> None:
    transformers = pytest.importorskip("transformers")
    gguf = demo_gguf()
    reference = transformers.AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    loaded = transformers.AutoTokenizer.from_pretrained(demo_target())
    ours = Tokenizer.open(demo_target())
    # Digits of other scripts stand alone in the published tokenizer and in llama.cpp;
    # transformers' reading of GGUF does not split them.
    sample = [text for text in SAMPLE if _only_ascii_digits(text)]
    assert len(sample) >= 8
    for text in sample:
        expected = reference(text)["input_ids"]
        assert ours.encode(text).tolist() == expected
        assert loaded(text)["input_ids"] == expected
    messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    assert loaded.apply_chat_template(messages) == reference.apply_chat_template(messages)
    assert loaded.all_special_ids == reference.all_special_ids
