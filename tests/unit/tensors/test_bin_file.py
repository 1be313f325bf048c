"""`pytorch_model.bin` is described without being read, and never run."""

from __future__ import annotations

import json
import pickle
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tiny import WATCH_MEMORY, as_bin, numbers, raw_tensors, tiny_eagle3, tiny_lm
from vocabtrim.core.errors import CheckpointError, MissingExtra
from vocabtrim.tensors import bin_file
from vocabtrim.tensors.bin_file import bin_tensors, is_bin
from vocabtrim.tensors.checkpoint import Checkpoint
from vocabtrim.tensors.torch_file import torch_bytes

torch = pytest.importorskip("torch")


class Runs:
    """An object whose loading would run something."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("ran",)


def saved(directory: Path, value: Any) -> Path:
    directory.mkdir(exist_ok=True)
    (directory / "config.json").write_text("{}")
    torch.save(value, directory / "pytorch_model.bin")
    return directory


@pytest.mark.parametrize("shards", [1, 3])
def test_it_reads_as_the_same_weights_in_safetensors_do(tmp_path: Path, shards: int) -> None:
    directory = tiny_eagle3(tmp_path / "d", ids=range(0, 96, 3))
    expected = raw_tensors(directory)
    opened = Checkpoint.open(as_bin(directory, shards=shards))
    assert len({info.file for info in opened.tensors.values()}) == shards
    assert list(opened.tensors) == sorted(expected)
    for name, (dtype, shape, data) in expected.items():
        info = opened.tensors[name]
        assert (info.dtype, info.shape) == (dtype, shape)
        assert opened.rows(name).tobytes() == data
        assert np.array_equal(opened.array(name), numbers(expected[name]))


def test_every_type_and_where_it_lies(tmp_path: Path) -> None:
    base = torch.arange(40, dtype=torch.float32).reshape(10, 4)
    tensors = {
        "bf16": torch.ones(3, 4, dtype=torch.bfloat16),
        "f16": torch.ones(2, dtype=torch.float16),
        "f64": torch.ones(2, dtype=torch.float64),
        "f8": torch.ones(4).to(torch.float8_e4m3fn),
        "u16": torch.ones(4, dtype=torch.uint16),
        "i8": torch.ones(4, dtype=torch.int8),
        "bool": torch.tensor([True, False]),
        "empty": torch.zeros(0, 4),
        "scalar": torch.tensor(3.0),
        "base": base,
        "tied": base,
        "view": base[2:5],
        "parameter": torch.nn.Parameter(torch.ones(2, 2)),
    }
    opened = Checkpoint.open(saved(tmp_path / "d", tensors))
    assert {name: info.dtype for name, info in opened.tensors.items()} == {
        "bf16": "BF16",
        "f16": "F16",
        "f64": "F64",
        "f8": "F8_E4M3",
        "u16": "U16",
        "i8": "I8",
        "bool": "BOOL",
        **dict.fromkeys(["empty", "scalar", "base", "tied", "view", "parameter"], "F32"),
    }
    for name in ("bf16", "f8", "bool", "tied", "view", "parameter"):
        expected = tensors[name].detach().contiguous().view(torch.uint8).numpy().tobytes()
        assert opened.rows(name).tobytes() == expected
    assert opened.tensors["base"].offset == opened.tensors["tied"].offset
    assert opened.array("empty").shape == (0, 4)


def _views(directory: Path) -> None:
    saved(directory, {"w": torch.ones(3, 4).t()})


def _stretched(directory: Path) -> None:
    saved(directory, {"w": torch.zeros(1).expand(1 << 40)})


def _compressed(directory: Path) -> None:
    saved(directory, {"w": torch.zeros(1 << 20)})
    file = directory / "pytorch_model.bin"
    with zipfile.ZipFile(file) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)


def _repickled(change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    """Return what replaces the pickle in an archive of one matrix."""

    def damage(directory: Path) -> None:
        saved(directory, {"w": torch.zeros(3, 4)})
        file = directory / "pytorch_model.bin"
        with zipfile.ZipFile(file) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        with zipfile.ZipFile(file, "w") as archive:
            for name, data in members.items():
                archive.writestr(name, change(data) if name.endswith("data.pkl") else data)

    return damage


def _reordered(directory: Path) -> None:
    saved(directory, {"a": torch.zeros(4), "b": torch.ones(4)})
    file = directory / "pytorch_model.bin"
    content = file.read_bytes()
    # both names are as long as the other, so only the records change places
    swapped = content.replace(b"/data/0", b"/data/x").replace(b"/data/1", b"/data/0")
    file.write_bytes(swapped.replace(b"/data/x", b"/data/1"))


def _truncated(directory: Path) -> None:
    saved(directory, {"w": torch.zeros(100)})
    file = directory / "pytorch_model.bin"
    file.write_bytes(file.read_bytes()[:-30])


def _another_archive(directory: Path) -> None:
    saved(directory, {})
    with zipfile.ZipFile(directory / "pytorch_model.bin", "w") as archive:
        archive.writestr("readme.txt", "hello")


def _upwards(directory: Path) -> None:
    saved(directory, {"w": torch.zeros(3)})
    index = {"weight_map": {"w": "../pytorch_model.bin"}}
    (directory / "pytorch_model.bin").rename(directory.parent / "pytorch_model.bin")
    (directory / "pytorch_model.bin.index.json").write_text(json.dumps(index))


def _memory_bomb(_: bytes) -> bytes:
    # bytearray(10 ** 12), which torch's own reader lets through
    return b"\x80\x02cbuiltins\nbytearray\n\x8a\x06\x00\x10\xa5\xd4\xe8\x00\x85R."


FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "code in the pickle": (lambda d: saved(d, {"w": Runs()}), r"names '__builtin__.print'"),
    "code in a plain pickle": (
        lambda d: saved(d, {}).joinpath("pytorch_model.bin").write_bytes(pickle.dumps(Runs())),
        "neither an archive of torch 1.6 or later nor",
    ),
    "code by another opcode": (
        _repickled(lambda _: pickle.dumps({"w": Runs()}, protocol=4)),
        "names 'STACK_GLOBAL'",
    ),
    "memory for nothing": (_repickled(_memory_bomb), "names 'builtins.bytearray'"),
    "a pickle without an end": (_repickled(lambda data: data[:-1]), "no whole archive of torch"),
    "a pickle that is none": (_repickled(lambda data: b"\xff" + data), "no whole archive of torch"),
    "more elements than are stored": (
        _repickled(lambda data: data.replace(b"K\x03K\x04", b"K\x7fK\x04")),
        "it is no mapping|does not fit into its record",
    ),
    "a record that is not there": (
        _repickled(lambda data: data.replace(b"X\x01\x00\x00\x000", b"X\x01\x00\x00\x009")),
        "it is no mapping",
    ),
    "records out of order": (_reordered, "its records are not in the order in which torch"),
    "compressed records": (_compressed, r"its record .* is compressed or not whole"),
    "truncated": (_truncated, "no whole archive of torch 1.6 or later"),
    "another archive": (_another_archive, "no weights as torch saves them"),
    "a list": (lambda d: saved(d, [torch.zeros(3)]), "holds a list"),
    "more than tensors": (lambda d: saved(d, {"w": torch.zeros(3), "step": 7}), "holds a int"),
    "weights one level down": (
        lambda d: saved(d, {"state_dict": {"w": torch.zeros(3)}}),
        "holds a dict under 'state_dict'",
    ),
    "views in pieces": (_views, "w is stored as a view in pieces"),
    "a view larger than the world": (_stretched, "w is stored as a view in pieces"),
    "complex numbers": (
        lambda d: saved(d, {"w": torch.zeros(3, dtype=torch.complex64)}),
        "w is stored as complex64",
    ),
    "an index that leads upwards": (_upwards, "lies outside the checkpoint's directory"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_damage_is_refused_in_one_sentence_and_nothing_runs(
    tmp_path: Path, fault: str, capsys: pytest.CaptureFixture[str]
) -> None:
    damage, message = FAULTS[fault]
    damage(tmp_path / "d")
    with pytest.raises(CheckpointError, match=message) as caught:
        Checkpoint.open(tmp_path / "d")
    text = str(caught.value)
    assert "\n" not in text
    assert re.match(re.escape(str(tmp_path / "d")), text)
    assert capsys.readouterr().out == ""


def test_too_many_steps_are_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bin_file, "MOST_OPCODES", 5)
    with pytest.raises(CheckpointError, match="more steps than any model needs"):
        Checkpoint.open(saved(tmp_path / "d", {"w": torch.zeros(3)}))


def test_without_torch_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = as_bin(tiny_lm(tmp_path / "lm"))
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingExtra, match=r"pip install vocabtrim\[torch\]"):
        Checkpoint.open(directory)


SMALL = torch_bytes({"w": torch.zeros(3, 4), "d2t": torch.arange(5)})


@settings(deadline=None, max_examples=100)
@given(data=st.data())
def test_flipped_bits_are_refused_or_leave_every_tensor_inside_its_file(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    file = tmp_path_factory.mktemp("flip") / "pytorch_model.bin"
    content = bytearray(SMALL)
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(4, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    file.write_bytes(content)
    assert is_bin(file)
    found, refused = [], str(file)
    try:
        found = list(bin_tensors(file))
    except CheckpointError as fault:
        refused = str(fault)
    assert refused.startswith(str(file))
    assert all(0 <= one.offset <= one.offset + one.nbytes <= len(content) for one in found)


IN_ANOTHER_PROCESS = (
    WATCH_MEMORY
    + """
import sys
import torch
from vocabtrim.tensors.checkpoint import Checkpoint
before = _anonymous_kib()
opened = Checkpoint.open(Path(sys.argv[1]))
assert opened.rows("w")[5:7].tobytes() == bytes(2 * 1024)
print(peak_kib() - before, _anonymous_kib() - before)
"""
)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
def test_the_weights_are_not_read(tmp_path: Path) -> None:
    saved(tmp_path / "d", {"w": torch.zeros(1 << 18, 256)})
    command = [sys.executable, "-c", IN_ANOTHER_PROCESS, str(tmp_path / "d")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert all(int(found) < 64 << 10 for found in done.stdout.split())
