"""A tokenizer has one fingerprint, in a directory and in a GGUF file, and none elsewhere."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.real_tokenizers import opened, real_gguf
from tests.tiny_tokenizer import write_tokenizer
from vocabtrim.core.errors import CheckpointError
from vocabtrim.pipeline.fingerprints import fingerprint_at, fingerprint_in
from vocabtrim.tensors.gguf_model import open_gguf
from vocabtrim.tokens.tokenizer import Tokenizer


def test_a_gguf_file_of_the_same_tokens_has_the_same_fingerprint(tmp_path: Path) -> None:
    from gguf import GGUFWriter, TokenType

    made = Tokenizer.open(write_tokenizer(tmp_path / "hf"))
    V = made.vocab_size
    tokens = [made.token(token_id) or "" for token_id in range(V)]
    path = tmp_path / "model.gguf"
    writer = GGUFWriter(path, "llama")
    writer.add_token_list([*tokens, f"[PAD{V}]", f"[PAD{V + 1}]"])
    writer.add_token_types([TokenType.NORMAL] * V + [TokenType.UNUSED] * 2)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    assert fingerprint_at(path) == made.fingerprint == fingerprint_at(tmp_path / "hf")
    assert fingerprint_in(open_gguf(path)) == made.fingerprint
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(CheckpointError, match=r"model\.gguf: it is a damaged GGUF file"):
        fingerprint_at(path)


def test_what_has_no_tokenizer_has_no_fingerprint(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b'{\0\0\0\0\0\0\0{"__metadata__":{}}')
    assert fingerprint_at(tmp_path) is None
    assert fingerprint_at(tmp_path / "model.safetensors") is None


def test_a_real_file_and_its_conversion_have_one_fingerprint_at_once() -> None:
    path = real_gguf()
    begun = time.process_time()
    found = fingerprint_at(path)
    # a reader that makes an array of each of 150,000 texts takes seconds
    assert time.process_time() - begun < 1.0
    assert found == opened("smollm2").fingerprint
