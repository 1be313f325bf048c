"""The tokenizer: ids exactly as in its file, nothing added, one identity."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.metadata import version as library_version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as Backend

from tests.real_tokenizers import NAMES, VOCAB_SIZES, opened, real_directory
from tests.tiny_tokenizer import ADDED, MERGES, backend, tokenizer, write_tokenizer
from vocabtrim.core.errors import BackendMismatch, MissingExtra, TokenizerError
from vocabtrim.tokens import encoders
from vocabtrim.tokens.encoders import Flat, Reference
from vocabtrim.tokens.gigatoken_backend import GigatokenEncoder
from vocabtrim.tokens.tokenizer import Tokenizer, fingerprint_of, fingerprint_tokens

V = 256 + len(MERGES) + len(ADDED)
TEXTS = ("", " ", "the ants\n\n and the  🙂 e\u0301\r\n", "<|im_start|>user\n<think>the", "漢字\t")


def document_of(made: Backend, **changes: Any) -> str:
    return json.dumps({**json.loads(made.to_str()), **changes})


def opened_from(directory: Path, text: str) -> Tokenizer:
    path = directory / "tokenizer.json"
    path.write_text(text, encoding="utf-8")
    return Tokenizer.open(path)


@pytest.mark.parametrize("text", TEXTS)
def test_ids_are_those_of_the_file(tmp_path: Path, text: str) -> None:
    ids = tokenizer(tmp_path).encode(text)
    assert ids.dtype == np.int64
    assert ids.tolist() == backend().encode(text).ids


def test_padding_and_truncation_of_the_file_are_switched_off(tmp_path: Path) -> None:
    made = backend()
    made.enable_padding(length=32, pad_id=3)
    made.enable_truncation(4)
    tampered = opened_from(tmp_path, made.to_str())
    expected = backend().encode(TEXTS[2]).ids
    assert tampered.encode(TEXTS[2]).tolist() == expected
    assert [ids.tolist() for ids in tampered.encode_batch(["the", TEXTS[2]])][1] == expected
    assert len(tampered.encode_batch(["the", TEXTS[2]])[0]) == 1


def test_dropout_is_switched_off(tmp_path: Path) -> None:
    document = json.loads(backend().to_str())
    document["model"]["dropout"] = 0.9
    tampered = opened_from(tmp_path, json.dumps(document))
    text = "the ants the ants " * 20
    assert tampered.encode(text).tolist() == backend().encode(text).ids


def test_the_post_processor_neither_adds_tokens_nor_trims_offsets(tmp_path: Path) -> None:
    template = {
        "type": "Sequence",
        "processors": [
            {
                "type": "ByteLevel",
                "add_prefix_space": True,
                "trim_offsets": True,
                "use_regex": True,
            },
            {
                "type": "TemplateProcessing",
                "single": [
                    {"SpecialToken": {"id": "<|endoftext|>", "type_id": 0}},
                    {"Sequence": {"id": "A", "type_id": 0}},
                ],
                "pair": [{"Sequence": {"id": "A", "type_id": 0}}],
                "special_tokens": {
                    "<|endoftext|>": {
                        "id": "<|endoftext|>",
                        "ids": [V - 5],
                        "tokens": ["<|endoftext|>"],
                    }
                },
            },
        ],
    }
    tampered = opened_from(tmp_path, document_of(backend(), post_processor=template))
    ids, offsets = tampered.encode_with_offsets("the a\n\n")
    assert ids.tolist() == backend().encode("the a\n\n").ids
    assert offsets.tolist() == [[0, 3], [3, 5], [5, 7]]


@settings(deadline=None)
@given(st.text())
def test_offsets_cover_the_text_and_batches_equal_single_texts(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    made = tokenizer(tmp_path_factory.mktemp("t"))
    ids, offsets = made.encode_with_offsets(text)
    assert offsets.shape == (ids.size, 2)
    assert ids.tolist() == made.encode(text).tolist() == made.encode_batch([text])[0].tolist()
    covered = {place for first, last in offsets.tolist() for place in range(first, last)}
    assert covered == set(range(len(text)))


def test_slices_of_a_batch_do_not_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = tokenizer(tmp_path)
    expected = [made.encode(text).tolist() for text in TEXTS * 3]
    for characters in (1, 20, 10_000):
        monkeypatch.setattr(encoders, "SLICE_CHARACTERS", characters)
        assert [ids.tolist() for ids in made.encode_batch(TEXTS * 3)] == expected
        found = made.encode_batch_with_offsets(TEXTS * 3)
        assert [ids.tolist() for ids, _ in found] == expected


def test_offsets_count_characters_and_parts_of_one_have_all_of_it(tmp_path: Path) -> None:
    _, offsets = tokenizer(tmp_path).encode_with_offsets("é🙂x")
    assert offsets.tolist() == [[0, 1]] * 2 + [[1, 2]] * 4 + [[2, 3]]


def test_v_is_the_largest_id_and_one_added_tokens_and_holes_included(tmp_path: Path) -> None:
    made = tokenizer(tmp_path / "whole")
    assert (made.vocab_size, made.added_ids) == (V, tuple(range(V - 5, V)))
    document = json.loads(backend().to_str())
    removed = document["model"]["merges"].pop()
    hole = document["model"]["vocab"].pop("".join(removed))
    document["model"]["vocab"] |= {one["content"]: one["id"] for one in document["added_tokens"]}
    holed = opened_from(tmp_path, json.dumps(document))
    assert (holed.vocab_size, holed.warnings) == (V, ())
    assert holed.token(hole) is None
    assert holed.token_text(hole) == f"<no token {hole}>"
    assert holed.fingerprint != made.fingerprint


def test_added_tokens_that_the_library_renumbers_are_warned_of(tmp_path: Path) -> None:
    document = json.loads(backend().to_str())
    document["added_tokens"].pop(1)
    made = opened_from(tmp_path, json.dumps(document))
    assert made.vocab_size == V - 1
    assert len(made.warnings) == 1
    assert made.warnings[0].startswith("3 added tokens, '<|im_end|>' first, have other ids")


def test_token_text_is_readable_where_a_token_is_text(tmp_path: Path) -> None:
    made = tokenizer(tmp_path)
    assert made.token_text(made.encode(" a")[0]) == " a"
    assert made.token_text(made.encode("🙂")[0]) == "ð"
    assert made.token_text(V - 3) == "<|im_end|>"


def test_decoding_leaves_special_tokens_out(tmp_path: Path) -> None:
    made = tokenizer(tmp_path)
    assert made.decode(made.encode("the 🙂<|im_end|>\n")) == "the 🙂\n"


def test_the_fingerprint_is_of_the_list_alone(tmp_path: Path) -> None:
    plain = tokenizer(tmp_path / "plain").fingerprint
    document = json.loads(backend().to_str())
    document["model"]["merges"] = [" ".join(pair) for pair in MERGES[:-1]]
    document["model"]["vocab"] = dict(reversed(document["model"]["vocab"].items()))
    document["normalizer"] = {"type": "NFC"}
    document["padding"] = None
    other = opened_from(tmp_path, json.dumps(document, indent=3))
    assert other.encode("\n\n").tolist() != tokenizer(tmp_path / "again").encode("\n\n").tolist()
    assert other.fingerprint == plain
    assert plain.startswith("sha256:")
    assert len(plain) == len("sha256:") + 64


def test_any_other_token_or_place_is_another_tokenizer(tmp_path: Path) -> None:
    prints = {
        tokenizer(tmp_path / "a").fingerprint,
        tokenizer(tmp_path / "b", added=(*ADDED, "<more>")).fingerprint,
        tokenizer(tmp_path / "c", added=ADDED[::-1]).fingerprint,
        tokenizer(tmp_path / "d", added=(*ADDED[:-1], "</thinking>")).fingerprint,
    }
    assert len(prints) == 4


def test_fingerprints_of_lists() -> None:
    assert fingerprint_tokens(["a", None, "b"]) != fingerprint_tokens(["a", "b"])
    assert fingerprint_tokens(["a", "b", None, None]) == fingerprint_tokens(["a", "b"])
    assert fingerprint_tokens(["a", "null"]) != fingerprint_tokens(["a", None, "b"])
    # pinned: artifacts hold it, so it may never change
    assert fingerprint_tokens(["a", None, "é\n"]) == (
        "sha256:d308aaea85f63b6476f7251f9a60f73d6088b611c54a6f227eee201ddbf0cbd9"
    )


def test_fingerprint_of_what_is_a_tokenizer_and_none_of_what_is_not(tmp_path: Path) -> None:
    directory = write_tokenizer(tmp_path / "t")
    expected = Tokenizer.open(directory).fingerprint
    assert fingerprint_of(directory) == expected
    assert fingerprint_of(directory / "tokenizer.json") == expected
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(b'{\0\0\0\0\0\0\0{"__metadata__":{}}')
    assert [fingerprint_of(tmp_path), fingerprint_of(weights), fingerprint_of(tmp_path / "x")] == (
        [None] * 3
    )


def test_eos_ids_are_the_union_and_impossible_ones_are_warned_of(tmp_path: Path) -> None:
    directory = write_tokenizer(
        tmp_path, config={"eos_token": "<|im_end|>"}, generation_config={"eos_token_id": [V - 5, V]}
    )
    (directory / "config.json").write_text(json.dumps({"eos_token_id": -1}))
    made = Tokenizer.open(directory)
    assert made.eos_ids == (V - 5, V - 3)
    assert [
        f"names EOS id {one}," in text for one, text in zip((V, -1), made.warnings, strict=True)
    ]
    assert "generation_config.json" in made.warnings[0]
    write_tokenizer(tmp_path / "u", config={"eos_token": "<nowhere>"})
    unknown = Tokenizer.open(tmp_path / "u")
    assert unknown.eos_ids == ()
    assert unknown.warnings == ("the EOS token '<nowhere>' has no id; it is left out",)


def test_tokens_that_only_the_config_declares_are_added(tmp_path: Path) -> None:
    more = {str(V): {"content": "<|new|>", "special": True}, str(V + 2): {"content": "<|far|>"}}
    directory = write_tokenizer(tmp_path, config={"added_tokens_decoder": more})
    made = Tokenizer.open(directory)
    assert made.encode("the<|new|>the").tolist()[1] == V
    assert made.vocab_size == V + 1
    assert made.added_text(V) == "<|new|>"
    assert made.warnings == (
        f"tokenizer_config.json gives '<|far|>' the id {V + 2}, which tokenizer.json "
        "does not leave free; it is left out",
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "no such file"),
        ("{", "not a usable"),
        ("{}", "not a usable"),
        ('{"model": 1}', "not a usable"),
        ("\xff", "not a usable"),
    ],
)
def test_a_damaged_file_is_named_in_one_sentence(
    tmp_path: Path, text: str | None, message: str
) -> None:
    path = tmp_path / "tokenizer.json"
    if text is not None:
        path.write_bytes(text.encode("latin-1"))
    with pytest.raises(TokenizerError, match=f"tokenizer.json.*{message}") as caught:
        Tokenizer.open(path)
    assert "\n" not in str(caught.value)


def test_a_directory_without_one_is_named(tmp_path: Path) -> None:
    with pytest.raises(TokenizerError, match=r"there is no tokenizer\.json in it"):
        Tokenizer.open(tmp_path)


@pytest.mark.parametrize("name", NAMES)
def test_published_tokenizers_encode_as_their_library_does(name: str) -> None:
    made = opened(name)
    library = Backend.from_file(str(real_directory(name) / "tokenizer.json"))
    assert made.vocab_size == VOCAB_SIZES[name]
    assert made.warnings == ()
    for text in TEXTS:
        assert made.encode(text).tolist() == library.encode(text, add_special_tokens=False).ids


def test_the_reference_is_the_backend_unless_another_is_asked_for(tmp_path: Path) -> None:
    made = tokenizer(tmp_path)
    assert made.backend == f"tokenizers {library_version('tokenizers')}"
    assert made.backend_reason == ""
    ids, lengths = made.encode_flat(["the ants", "", "a"])
    assert ids.tolist() == [*made.encode("the ants"), *made.encode("a")]
    assert lengths.tolist() == [made.encode("the ants").size, 0, 1]


def test_gigatoken_is_used_where_it_takes_the_tokenizer(tmp_path: Path) -> None:
    pytest.importorskip("gigatoken", reason="gigatoken is not installed")
    directory = write_tokenizer(tmp_path, config={"eos_token": "<|im_end|>"})
    for name in ("auto", "gigatoken"):
        made = Tokenizer.open(directory, backend=name)
        assert made.backend == f"gigatoken {library_version('gigatoken')}"
        assert made.backend_reason == ""
        ids, lengths = made.encode_flat(TEXTS)
        assert ids.tolist() == [one for text in TEXTS for one in backend().encode(text).ids]
        assert lengths.tolist() == [len(backend().encode(text).ids) for text in TEXTS]
        for found, text in zip(made.encode_batch(TEXTS), TEXTS, strict=True):
            assert found.dtype == np.int64
            assert found.tolist() == backend().encode(text).ids


def test_tokens_that_only_the_config_declares_are_gigatokens_too(tmp_path: Path) -> None:
    pytest.importorskip("gigatoken", reason="gigatoken is not installed")
    more = {str(V): {"content": "<|new|>", "special": True}}
    directory = write_tokenizer(tmp_path, config={"added_tokens_decoder": more})
    made = Tokenizer.open(directory, backend="gigatoken")
    assert V in made.encode_flat(["the<|new|>the"])[0]


def test_auto_says_why_it_is_not_gigatoken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("gigatoken", reason="gigatoken is not installed")
    document = json.loads(backend().to_str())
    vocabulary = document["model"]["vocab"]
    vocabulary["not a byte"] = vocabulary.pop("Ń")  # byte 0xad
    refused = write_tokenizer(tmp_path / "refused")
    (refused / "tokenizer.json").write_text(json.dumps(document), encoding="utf-8")
    made = Tokenizer.open(refused, backend="auto")
    assert made.backend.startswith("tokenizers ")
    assert made.backend_reason.startswith("gigatoken does not take this tokenizer (")
    assert made.encode_batch(["the"])[0].tolist() == made.encode("the").tolist()
    with pytest.raises(TokenizerError, match="gigatoken does not take this tokenizer"):
        Tokenizer.open(refused, backend="gigatoken")
    monkeypatch.setitem(sys.modules, "gigatoken", None)
    good = write_tokenizer(tmp_path / "good")
    assert "pip install vocabtrim[fast]" in Tokenizer.open(good, backend="auto").backend_reason
    with pytest.raises(MissingExtra):
        Tokenizer.open(good, backend="gigatoken")


def test_an_unknown_backend_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TokenizerError, match="one of auto, gigatoken, tokenizers, found 'fast'"):
        Tokenizer.open(write_tokenizer(tmp_path), backend="fast")


def test_a_difference_stops_the_batch_and_not_the_reference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("gigatoken", reason="gigatoken is not installed")

    def without_the(self: GigatokenEncoder, texts: list[str]) -> Flat:
        return Reference(backend()).encode_flat([text.replace("the", "") for text in texts])

    monkeypatch.setattr(GigatokenEncoder, "encode_flat", without_the)
    made = Tokenizer.open(write_tokenizer(tmp_path), backend="auto")
    assert made.encode_flat(["ants"])[0].tolist() == made.encode("ants").tolist()
    for encode in (made.encode_flat, made.encode_batch):
        with pytest.raises(BackendMismatch, match=r"gigatoken .* encodes 'the' as"):
            encode(["the"])
    again = Tokenizer.open(tmp_path, backend="tokenizers")
    assert again.encode_flat(["the"])[0].tolist() == made.encode("the").tolist()


def test_a_process_may_open_a_tokenizer_and_fork(tmp_path: Path) -> None:
    directory = write_tokenizer(tmp_path)
    code = f"""
import os
from pathlib import Path
from vocabtrim.tokens.tokenizer import Tokenizer
for backend in ("auto", "tokenizers"):
    made = Tokenizer.open(Path({str(directory)!r}), backend=backend)
    child = os.fork()
    ids = made.encode_flat(["the ants"] * 3)[0].tolist()
    if not child:
        os._exit(0 if ids == [*made.encode("the ants")] * 3 else 1)
    assert os.waitpid(child, 0)[1] == 0
"""
    environment = os.environ | {"TOKENIZERS_PARALLELISM": "false"}
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120, env=environment)
