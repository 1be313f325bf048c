"""Which files are weights, and that damaged ones are refused by name and cheaply."""

from __future__ import annotations

import json
import re
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tiny import WATCH_MEMORY, edit, raw_tensors, tiny_lm, tiny_target
from vocabtrim.core.errors import CheckpointError
from vocabtrim.tensors.checkpoint import Checkpoint
from vocabtrim.tensors.weight_files import (
    MOST_HEADER_BYTES,
    MOST_JSON_BYTES,
    read_json_object,
    stored_tensors,
    weight_files,
)

EMBEDDING = "model.embed_tokens.weight"


def test_a_single_file_wins_over_an_index_beside_it(tmp_path: Path) -> None:
    directory = tiny_lm(tmp_path / "lm")
    (directory / "model.safetensors.index.json").write_text("no JSON")
    assert EMBEDDING in Checkpoint.open(directory).tensors


def test_safetensors_win_over_bin_files_as_in_transformers(tmp_path: Path) -> None:
    directory = edit(tiny_lm(tmp_path / "lm"), shards=2)
    (directory / "pytorch_model.bin").write_bytes(b"not read")
    assert [file.suffix for file in weight_files(directory)] == [".safetensors"] * 2
    for file in directory.glob("model*"):
        file.unlink()
    assert [file.name for file in weight_files(directory)] == ["pytorch_model.bin"]


def test_contents_decide_and_not_names(tmp_path: Path) -> None:
    directory = tiny_lm(tmp_path / "lm")
    names = list(raw_tensors(directory))
    (directory / "model.safetensors").rename(directory / "pytorch_model.bin")
    assert list(stored_tensors(directory)) == sorted(names)


def _with_header(
    change: Callable[[dict[str, dict[str, list[int]]]], None],
) -> Callable[[Path], None]:
    def damage(directory: Path) -> None:
        file = directory / "model.safetensors"
        data = file.read_bytes()
        (length,) = struct.unpack("<Q", data[:8])
        header = json.loads(data[8 : 8 + length])
        change(header)
        text = json.dumps(header).encode()
        file.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length :])

    return damage


def _overlap(header: dict[str, dict[str, list[int]]]) -> None:
    names = [name for name in header if name != "__metadata__"]
    header[names[1]]["data_offsets"] = header[names[0]]["data_offsets"]


def _index(weight_map: object) -> Callable[[Path], None]:
    def damage(directory: Path) -> None:
        edit(directory, shards=2)
        path = directory / "model.safetensors.index.json"
        document = json.loads(path.read_text())
        if isinstance(weight_map, dict):
            document["weight_map"] |= weight_map
        else:
            document["weight_map"] = weight_map
        path.write_text(json.dumps(document))

    return damage


def _truncate(directory: Path) -> None:
    file = directory / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1])


def _twice(directory: Path) -> None:
    edit(directory, shards=2)
    first, second = sorted(directory.glob("*.safetensors"))
    second.write_bytes(first.read_bytes())


def _huge_header(directory: Path) -> None:
    length = MOST_HEADER_BYTES + 8
    with (directory / "model.safetensors").open("wb") as stream:
        stream.write(struct.pack("<Q", length) + b"{")
        stream.truncate(8 + length)


def _old_pickle(directory: Path) -> None:
    (directory / "model.safetensors").unlink()
    (directory / "pytorch_model.bin").write_bytes(b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.")


def _lost_shard(directory: Path) -> None:
    edit(directory, shards=2)
    min(directory.glob("*.safetensors")).unlink()


FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "no config": (lambda d: (d / "config.json").unlink(), "config.json: there is no such file"),
    "config is text": (
        lambda d: (d / "config.json").write_text("{"),
        "config.json: it is not JSON",
    ),
    "config is binary": (
        lambda d: (d / "config.json").write_bytes(b"\xff\xfe"),
        "config.json: it is not JSON",
    ),
    "config is a list": (
        lambda d: (d / "config.json").write_text("[]"),
        "must hold a JSON object, found list",
    ),
    "no weights": (
        lambda d: (d / "model.safetensors").unlink(),
        "neither model.safetensors nor pytorch_model.bin",
    ),
    "a header larger than any model's": (_huge_header, "begin with 16,777,224 bytes of header"),
    "weights of torch before 1.6": (
        _old_pickle,
        "pytorch_model.bin: it is neither an archive of torch 1.6 or later",
    ),
    "config nested without end": (
        lambda d: (d / "config.json").write_text("[" * 100_000),
        "config.json: it is not JSON",
    ),
    "truncated": (_truncate, "model.safetensors: it is not a whole safetensors file"),
    "empty file": (
        lambda d: (d / "model.safetensors").write_bytes(b""),
        "model.safetensors: it is not a whole safetensors file",
    ),
    "a web page": (
        lambda d: (d / "model.safetensors").write_text("<html>not found</html>"),
        "model.safetensors: it is not a whole safetensors file",
    ),
    "overlapping tensors": (_with_header(_overlap), "it is not a whole safetensors file"),
    "index leads upwards": (_index({EMBEDDING: "../x.safetensors"}), "lies outside"),
    "index leads to the root": (_index({EMBEDDING: "/etc/passwd"}), "lies outside"),
    "index leads through a backslash": (_index({EMBEDDING: "..\\x"}), "lies outside"),
    "index names a number": (_index({EMBEDDING: 3}), "must be a name, found 3"),
    "index without a map": (_index(None), "weight_map must map tensor names to files"),
    "index promises too much": (
        _index({"absent": "model-00001-of-00002.safetensors"}),
        "promises absent, which is not in it",
    ),
    "index names the wrong shard": (
        _index({"lm_head.weight": "model-00002-of-00002.safetensors"}),
        "model-00002-of-00002.safetensors: .* promises lm_head",
    ),
    "a shard is missing": (_lost_shard, "00001-of-00002.safetensors: it is not a whole"),
    "a tensor is in two shards": (_twice, "is also in model-00001-of-00002.safetensors"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_damage_is_refused_in_one_sentence_that_names_the_file(tmp_path: Path, fault: str) -> None:
    directory = tiny_target(tmp_path / "lm", tied=False)
    damage, message = FAULTS[fault]
    damage(directory)
    with pytest.raises(CheckpointError, match=message) as caught:
        Checkpoint.open(directory)
    text = str(caught.value)
    assert "\n" not in text
    assert re.match(re.escape(str(directory)), text)


def test_json_larger_than_any_models_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    with path.open("wb") as stream:
        stream.truncate(MOST_JSON_BYTES + 1)
    with pytest.raises(CheckpointError, match="larger than the JSON of any model"):
        read_json_object(path)


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_flipped_bits_are_refused_or_leave_every_tensor_inside_its_file(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    directory = tiny_lm(tmp_path_factory.mktemp("flip") / "lm")
    file = directory / "model.safetensors"
    content = bytearray(file.read_bytes())
    (length,) = struct.unpack("<Q", content[:8])
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, 7 + length))] ^= 1 << data.draw(st.integers(0, 7))
    file.write_bytes(content[: data.draw(st.sampled_from([len(content), length, 5]))])
    found, refused = {}, str(directory)
    try:
        found = stored_tensors(directory)
    except CheckpointError as fault:
        refused = str(fault)
    assert refused.startswith(str(directory))
    assert all(0 <= one.offset <= one.offset + one.nbytes <= len(content) for one in found.values())


IN_ANOTHER_PROCESS = (
    WATCH_MEMORY
    + """
import sys
from vocabtrim.core.errors import CheckpointError
from vocabtrim.tensors.weight_files import stored_tensors
try:
    stored_tensors(Path(sys.argv[1]))
except CheckpointError as fault:
    print(fault)
print(peak_kib())
"""
)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
def test_the_largest_header_that_is_read_needs_less_than_a_gigabyte(tmp_path: Path) -> None:
    entry = '"%d":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},'
    count = MOST_HEADER_BYTES // (len(entry) + 5)
    text = ("{" + "".join(entry % one for one in range(count)).rstrip(",") + "}").encode()
    assert len(text) < MOST_HEADER_BYTES
    (tmp_path / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text)
    command = [sys.executable, "-c", IN_ANOTHER_PROCESS, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert 0 < int(done.stdout.split()[-1]) < 1 << 20
