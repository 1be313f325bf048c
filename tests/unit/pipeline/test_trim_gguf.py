"""Trimming in GGUF form: rows of blocks, absolute ids, and not a byte more."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
import time
from pathlib import Path

import gguf
import numpy as np
import pytest
from gguf.quants import dequantize, quantize
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tiny import WATCH_MEMORY, raw_tensors, tiny_target
from tests.tiny_gguf import ENCODABLE, H, Read, V, read_gguf, tiny_gguf, tiny_gguf_target
from vocabtrim.core.errors import (
    CheckpointError,
    OutputExists,
    TokenizerMismatch,
    VocabError,
    VocabtrimError,
)
from vocabtrim.core.manifest import Manifest
from vocabtrim.core.vocab import DraftVocab
from vocabtrim.pipeline.fingerprints import fingerprint_at
from vocabtrim.pipeline.trim import trim
from vocabtrim.pipeline.trim_gguf import trim_gguf
from vocabtrim.pipeline.trim_result import TrimResult
from vocabtrim.tensors.gguf_header import read_header

IDS = np.array([0, 1, 2, 17, 18, 40, 95])
PART = DraftVocab(IDS, V)
ROW = H // 32 * 34
"""Bytes of a row in Q8_0."""


def absolute_ids(read: Read) -> list[int]:
    return read.data["d2t"].reshape(-1).view("<i8").tolist()


def assert_only_the_head_changed(before: Read, after: Read, ids: np.ndarray = IDS) -> None:
    ours = {"vocabtrim"}
    assert {k: v for k, v in after.metadata.items() if k not in ours} == dict(before.metadata)
    assert list(after.metadata)[: len(before.metadata)] == list(before.metadata)
    untouched = before.data.keys() - {"output.weight", "d2t"}
    for name in untouched:
        assert after.types[name] == before.types[name]
        assert np.array_equal(after.data[name], before.data[name]), name
    assert after.data.keys() == untouched | {"output.weight", "d2t"}
    assert after.types["d2t"] == "I64"
    assert absolute_ids(after) == ids.tolist()


@pytest.mark.parametrize("kind", ENCODABLE)
def test_kept_rows_of_an_own_head_are_its_bytes(tmp_path: Path, kind: str) -> None:
    drafter = tiny_gguf(tmp_path / "d.gguf", head=kind)
    result = trim(drafter, PART, tmp_path / "out.gguf")
    before, after = read_gguf(drafter), read_gguf(tmp_path / "out.gguf")
    assert np.array_equal(after.data["output.weight"], before.data["output.weight"][IDS])
    assert after.types["output.weight"] == kind
    if kind in ("F32", "F16", "BF16"):
        assert_only_the_head_changed(before, after)
    number = gguf.GGMLQuantizationType[kind]
    whole = dequantize(before.data["output.weight"], number)
    assert np.array_equal(dequantize(after.data["output.weight"], number), whole[IDS])
    assert (result.K_before, result.K, result.dtype) == (V, IDS.size, kind)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("split", [0, 1])
def test_a_head_of_the_target_brings_its_rows(tmp_path: Path, tied: bool, split: int) -> None:
    drafter = tiny_gguf(tmp_path / "d.gguf", more=quantised)
    target = tiny_gguf_target(tmp_path / "t.gguf", tied=tied, split=split)
    result = trim(drafter, PART, tmp_path / "out.gguf", target=target)
    whole = read_gguf(tiny_gguf_target(tmp_path / "whole.gguf", tied=tied))
    after = read_gguf(tmp_path / "out.gguf")
    name = "token_embd.weight" if tied else "output.weight"
    assert np.array_equal(after.data["output.weight"], whole.data[name][IDS])
    assert after.types["output.weight"] == "Q8_0"
    assert_only_the_head_changed(read_gguf(drafter), after)
    assert result.head_source == f"the target's {'tied embedding' if tied else 'lm_head'}"


def quantised(writer: gguf.GGUFWriter) -> None:
    writer.add_quantization_version(2)


def test_a_file_of_floats_that_gets_quantised_rows_says_how(tmp_path: Path) -> None:
    drafter, target = tiny_gguf(tmp_path / "d.gguf"), tiny_gguf_target(tmp_path / "t.gguf")
    trim(drafter, PART, tmp_path / "out.gguf", target=target)
    assert read_gguf(tmp_path / "out.gguf").metadata["general.quantization_version"] == 2


def test_rows_of_a_directory_go_in_as_they_are(tmp_path: Path) -> None:
    drafter = tiny_gguf(tmp_path / "d.gguf")
    target = tiny_target(tmp_path / "t", hidden=H)
    trim(drafter, PART, tmp_path / "out.gguf", target=target)
    _, shape, data = raw_tensors(target)["model.embed_tokens.weight"]
    rows = np.frombuffer(data, np.uint8).reshape(shape[0], -1)
    after = read_gguf(tmp_path / "out.gguf")
    assert after.types["output.weight"] == "F32"
    assert np.array_equal(after.data["output.weight"], rows[IDS])


def test_parts_come_out_as_one_file(tmp_path: Path) -> None:
    parts = tiny_gguf(tmp_path / "d.gguf", head="F16", split=1)
    whole = tiny_gguf(tmp_path / "whole.gguf", head="F16")
    trim(parts, PART, tmp_path / "from_parts.gguf")
    trim(whole, PART, tmp_path / "from_whole.gguf")
    assert (tmp_path / "from_parts.gguf").read_bytes() == (
        tmp_path / "from_whole.gguf"
    ).read_bytes()


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_any_ids_of_any_order_and_any_of_those_again(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    place = tmp_path_factory.mktemp("any")
    held = data.draw(st.lists(st.integers(0, V - 1), unique=True, min_size=1))
    first = sorted(data.draw(st.sets(st.sampled_from(held), min_size=1)))
    second = sorted(data.draw(st.sets(st.sampled_from(first), min_size=1)))
    drafter = tiny_gguf(place / "d.gguf", head="Q4_0", ids=held)
    rows = read_gguf(drafter).data["output.weight"]
    trim(drafter, DraftVocab(np.array(first), V), place / "once.gguf")
    trim(place / "once.gguf", DraftVocab(np.array(second), V), place / "twice.gguf")
    trim(drafter, DraftVocab(np.array(second), V), place / "at_once.gguf")
    twice, at_once = read_gguf(place / "twice.gguf"), read_gguf(place / "at_once.gguf")
    assert absolute_ids(twice) == absolute_ids(at_once) == second
    expected = rows[[held.index(i) for i in second]]
    assert np.array_equal(twice.data["output.weight"], expected)
    assert np.array_equal(at_once.data["output.weight"], expected)
    assert list(twice.metadata).count("vocabtrim") == 1


def test_a_markov_head_loses_the_same_rows(tmp_path: Path) -> None:
    generator = np.random.default_rng(1)
    markov = {
        f"markov_w{i}.weight": generator.normal(size=(V, 16)).astype(np.float32) for i in (1, 2)
    }
    drafter = tiny_gguf(tmp_path / "d.gguf", architecture="dflash", head="Q8_0", add=markov)
    trim(drafter, PART, tmp_path / "out.gguf")
    before, after = read_gguf(drafter), read_gguf(tmp_path / "out.gguf")
    assert np.array_equal(after.data["markov_w1.weight"], before.data["markov_w1.weight"])
    assert np.array_equal(after.data["markov_w2.weight"], before.data["markov_w2.weight"][IDS])
    assert np.array_equal(after.data["output.weight"], before.data["output.weight"][IDS])


def test_a_multi_token_sidecar_gets_rows_of_its_embedding_and_a_warning(tmp_path: Path) -> None:
    embedding = {
        "token_embd.weight": np.random.default_rng(1).normal(size=(V, H)).astype(np.float32),
        "blk.4.nextn.eh_proj.weight": np.ones((H, 2 * H), np.float32),
    }
    drafter = tiny_gguf(tmp_path / "d.gguf", architecture="qwen35", add=embedding)
    result = trim(drafter, PART, tmp_path / "out.gguf")
    before, after = read_gguf(drafter), read_gguf(tmp_path / "out.gguf")
    assert_only_the_head_changed(before, after)
    assert np.array_equal(after.data["output.weight"], before.data["token_embd.weight"][IDS])
    assert result.family == "mtp"
    assert any("stock llama.cpp refuses the result" in warning for warning in result.warnings)


@pytest.mark.parametrize("wanted", ["f16", "Q8_0", "q4_0"])
def test_a_head_in_another_type_is_ggufs_quantiser_on_the_kept_rows(
    tmp_path: Path, wanted: str
) -> None:
    drafter = tiny_gguf(tmp_path / "d.gguf", head="BF16", more=quantised)
    result = trim(drafter, PART, tmp_path / "out.gguf", head_type=wanted)
    before, after = read_gguf(drafter), read_gguf(tmp_path / "out.gguf")
    values = dequantize(before.data["output.weight"][IDS], gguf.GGMLQuantizationType.BF16)
    number = gguf.GGMLQuantizationType[wanted.upper()]
    expected = np.ascontiguousarray(quantize(values, number)).view(np.uint8)
    assert np.array_equal(after.data["output.weight"], expected.reshape(IDS.size, -1))
    assert_only_the_head_changed(before, after)
    assert (result.dtype_before, result.dtype) == ("BF16", wanted.upper())
    assert result.head_bytes == after.data["output.weight"].nbytes
    assert result.step_bytes_before - result.step_bytes == (
        before.data["output.weight"].nbytes - result.head_bytes
    )


def test_the_result_states_what_was_gained(tmp_path: Path) -> None:
    drafter, target = tiny_gguf(tmp_path / "d.gguf"), tiny_gguf_target(tmp_path / "t.gguf")
    result = trim(drafter, PART, tmp_path / "out.gguf", target=target)
    assert result == TrimResult(
        output=str(tmp_path / "out.gguf"),
        family="eagle3",
        V=V,
        K_before=V,
        K=7,
        hidden=H,
        dtype_before="Q8_0",
        dtype="Q8_0",
        head_source="the target's tied embedding",
        head_bytes_before=V * ROW,
        head_bytes=7 * ROW,
        step_bytes_before=result.step_bytes + (V - 7) * ROW,
        step_bytes=result.step_bytes,
        memory_delta_bytes=7 * ROW,
        warnings=result.warnings,
    )
    own = trim(tiny_gguf(tmp_path / "o.gguf", head="Q8_0"), PART, tmp_path / "own.gguf")
    assert own.memory_delta_bytes == -(V - 7) * ROW


def test_equal_inputs_give_equal_files_and_the_file_says_which(tmp_path: Path) -> None:
    drafter, target = tiny_gguf(tmp_path / "d.gguf"), tiny_gguf_target(tmp_path / "t.gguf")
    made_by = Manifest("draft vocabulary", V, None, {"c": "sha256:0"}, {"rule": "x"}, {})
    for name in ("one", "two"):
        trim(drafter, PART, tmp_path / name, target=target, vocab_manifest=made_by)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    text = read_gguf(tmp_path / "one").metadata["vocabtrim"]
    manifest = Manifest.from_json(text, tmp_path / "one")
    assert manifest.kind == "trimmed drafter"
    assert set(manifest.inputs) == {"drafter", "target head", "vocab"}
    assert all(len(digest) == 71 and "0" * 64 not in digest for digest in manifest.inputs.values())
    assert manifest.facts["selection"]["options"] == {"rule": "x"}
    assert str(tmp_path) not in text
    # a row that is not kept is none of what was taken; a kept one is
    for row, changes in ((3, False), (17, True)):
        data = bytearray(target.read_bytes())
        rows = read_gguf(target).data["token_embd.weight"].tobytes()
        data[data.index(rows) + row * ROW + 5] ^= 1
        changed = tmp_path / f"t{row}.gguf"
        changed.write_bytes(data)
        trim(drafter, PART, tmp_path / f"out{row}", target=changed)
        other = json.loads(read_gguf(tmp_path / f"out{row}").metadata["vocabtrim"])["inputs"]
        assert (other["target head"] != manifest.inputs["target head"]) is changes
        assert other["drafter"] == manifest.inputs["drafter"]


def test_all_ids_of_a_reduced_head_leave_it_as_it_was(tmp_path: Path) -> None:
    drafter = tiny_gguf(tmp_path / "d.gguf", head="Q8_0", ids=IDS.tolist(), more=quantised)
    trim(drafter, PART, tmp_path / "out.gguf")
    before, after = read_gguf(drafter), read_gguf(tmp_path / "out.gguf")
    assert_only_the_head_changed(before, after)
    assert np.array_equal(after.data["output.weight"], before.data["output.weight"])


def test_all_ids_of_a_shared_head_leave_it_where_it_is(tmp_path: Path) -> None:
    drafter, target = tiny_gguf(tmp_path / "d.gguf"), tiny_gguf_target(tmp_path / "t.gguf")
    full = DraftVocab.full(V)
    result = trim(drafter, full, tmp_path / "out.gguf", target=target)
    assert read_gguf(tmp_path / "out.gguf").data.keys() == read_gguf(drafter).data.keys()
    assert result.memory_delta_bytes == 0
    assert "nothing was trimmed" in result.warnings[-1]
    with pytest.raises(CheckpointError, match="cannot become q8_0"):
        trim(drafter, full, tmp_path / "no.gguf", target=target, head_type="q8_0")


def test_tokenizers_must_be_one(tmp_path: Path) -> None:
    drafter, target = tiny_gguf(tmp_path / "d.gguf"), tiny_gguf_target(tmp_path / "t.gguf")
    own = fingerprint_at(drafter)
    matching = DraftVocab(IDS, V, own)
    assert trim(drafter, matching, tmp_path / "out.gguf", target=target).warnings == ()
    foreign = DraftVocab(IDS, V, "sha256:of another tokenizer")
    with pytest.raises(TokenizerMismatch, match="than the drafter's"):
        trim(drafter, foreign, tmp_path / "no.gguf", target=target)
    other = tiny_gguf_target(tmp_path / "other.gguf", vocab_size=V + 1)
    with pytest.raises(TokenizerMismatch, match="drafter and target have different"):
        trim(drafter, PART, tmp_path / "no.gguf", target=other)
    assert "no tokenizer shows" in trim(drafter, PART, tmp_path / "u", target=target).warnings[0]


def test_a_drafter_that_does_not_know_an_id_is_refused(tmp_path: Path) -> None:
    drafter = tiny_gguf(tmp_path / "d.gguf", head="Q8_0", ids=[1, 2, 3])
    with pytest.raises(VocabError, match="no row in the head"):
        trim(drafter, PART, tmp_path / "no.gguf")
    with pytest.raises(CheckpointError, match="it has 96 ids, but the draft vocabulary holds id"):
        trim(drafter, DraftVocab(np.array([1, 200]), 300), tmp_path / "no.gguf")


def test_a_model_that_llama_cpp_does_not_draft_with_is_refused(tmp_path: Path) -> None:
    target = tiny_gguf_target(tmp_path / "t.gguf")
    with pytest.raises(CheckpointError, match="holds a model of architecture llama"):
        trim(target, PART, tmp_path / "no.gguf")


def test_a_file_is_replaced_only_by_force_and_the_drafter_never(tmp_path: Path) -> None:
    drafter = tiny_gguf(tmp_path / "d.gguf", head="Q8_0")
    (tmp_path / "out.gguf").write_text("mine")
    with pytest.raises(OutputExists):
        trim(drafter, PART, tmp_path / "out.gguf")
    assert (tmp_path / "out.gguf").read_text() == "mine"
    trim(drafter, PART, tmp_path / "out.gguf", force=True)
    assert absolute_ids(read_gguf(tmp_path / "out.gguf")) == IDS.tolist()
    with pytest.raises(OutputExists, match="it is the drafter itself"):
        trim(drafter, PART, drafter, force=True)


@pytest.mark.parametrize("wrong", ["q4_k", "f16"])
def test_nothing_is_left_where_it_fails(tmp_path: Path, wrong: str) -> None:
    # beyond the range of float16, which is seen while the rows are being written
    rows = np.full((V, H), 1e30, dtype=np.float32)
    drafter = tiny_gguf(tmp_path / "d.gguf", add={"output.weight": rows})
    with pytest.raises(VocabtrimError):
        trim_gguf(drafter, PART, tmp_path / "out.gguf", head_type=wrong)
    assert [file.name for file in tmp_path.iterdir()] == ["d.gguf"]


IN_ANOTHER_PROCESS = (
    WATCH_MEMORY
    + """
import json, sys
import numpy as np
from vocabtrim.core.vocab import DraftVocab
from vocabtrim.pipeline.trim import trim

drafter, target, output, rows, V = *map(Path, sys.argv[1:4]), *map(int, sys.argv[4:])
ids = np.sort(np.random.default_rng(0).permutation(V)[:rows])
trim(drafter, DraftVocab(ids, V), output, target=target)
print(json.dumps({"peak_kib": peak_kib(), "torch": "torch" in sys.modules}))
"""
)


def test_next_to_a_huge_target_only_the_kept_rows_are_held(tmp_path: Path) -> None:
    rows, target = 20_000, tmp_path / "t.gguf"
    drafter = tiny_gguf(tmp_path / "d.gguf", vocab_size=rows)
    small = read_header(tiny_gguf_target(tmp_path / "small.gguf", vocab_size=rows))
    entries = [small.raw(key) for key in small.entries]
    # a head of 10 MB among 40 GB of holes: nothing on disk, and too much to read
    layers = [(f"blk.{i}.w", (1 << 20, 10_000)) for i in range(1)]
    write_sparse_gguf(target, entries, [*layers, ("output.weight", (rows, H))])
    command = [sys.executable, "-c", IN_ANOTHER_PROCESS, str(drafter), str(target)]
    command += [str(tmp_path / "out.gguf"), "2000", str(rows)]
    began = time.monotonic()
    outcome = subprocess.run(command, capture_output=True, text=True, check=True)
    found = json.loads(outcome.stdout)
    assert found["peak_kib"] < 150 * 1024
    assert not found["torch"]
    assert time.monotonic() - began < 30
    assert read_header(tmp_path / "out.gguf").tensors["output.weight"].shape == (2000, H)


def write_sparse_gguf(
    path: Path, entries: list[bytes], tensors: list[tuple[str, tuple[int, ...]]]
) -> None:
    """Write a GGUF file of float32 tensors that are holes."""
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(entries)) + b"".join(entries)
    offset = 0
    for name, shape in tensors:
        sizes = struct.pack(f"<I{len(shape)}Q", len(shape), *reversed(shape))
        head += struct.pack("<Q", len(name)) + name.encode() + sizes + struct.pack("<IQ", 0, offset)
        offset += 4 * int(np.prod(shape))
    with path.open("wb") as stream:
        stream.write(head + bytes(-len(head) % 32))
        stream.truncate(stream.tell() + offset)


def test_a_family_that_it_is_not_is_refused(tmp_path: Path) -> None:
    drafter = tiny_gguf(tmp_path / "d.gguf", head="Q8_0")
    trim(drafter, PART, tmp_path / "out.gguf", family="eagle3")
    with pytest.raises(CheckpointError, match="it is a drafter of eagle3, not of mtp"):
        trim(drafter, PART, tmp_path / "no.gguf", family="mtp")
