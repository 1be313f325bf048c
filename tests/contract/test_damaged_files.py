"""`check` on files that are damaged or hostile: one sentence, nothing run, little memory."""

from __future__ import annotations

import functools
import json
import pickle
import struct
import subprocess
import sys
import textwrap
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gguf import GGUFValueType

from tests.clean_drafters import (
    gguf_drafter,
    gguf_target,
    sharded,
    specforge,
    speculators,
    target,
    token_map,
    with_layers,
)
from tests.tiny import WATCH_MEMORY, as_bin, edit
from tests.tiny_tokenizer import write_tokenizer
from vocabtrim.core.errors import CheckpointError
from vocabtrim.pipeline.check import check

MOST_KIB = 1 << 20
"""A gigabyte, of memory that no file backs."""


def one_sentence(path: Path) -> str:
    """Check a file that cannot be read; return what is said of it."""
    result = check(str(path))
    (found,) = result.findings
    assert (found.name, str(found.severity)) == ("unreadable", "fault")
    assert result.failed(strict=False)
    assert "\n" not in found.what
    assert "Traceback" not in found.what
    return found.what


class Leaves:
    """Unpickled, it writes a file: what loading must not do."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.place,))


def archive(path: Path, data: bytes, *, packed: bool = False) -> None:
    """Write an archive as torch would, around any pickle."""
    kind = zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED
    with zipfile.ZipFile(path, "w", kind) as file:
        file.writestr("archive/data.pkl", data)
        file.writestr("archive/version", "3\n")
        file.writestr("archive/byteorder", "little")


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("name", ["pytorch_model.bin", "list.pt", "old.pt"])
def test_a_pickle_with_code_is_not_run(tmp_path: Path, name: str, protocol: int) -> None:
    drafter = specforge(tmp_path / "drafter")
    code = pickle.dumps({"d2t": Leaves(tmp_path / "ran")}, protocol=protocol)
    if name == "pytorch_model.bin":
        (drafter / "model.safetensors").unlink()
        archive(drafter / name, code)
        said = one_sentence(drafter)
    else:
        if name == "list.pt":
            archive(tmp_path / name, code)
        else:
            (tmp_path / name).write_bytes(code)
        said = one_sentence(tmp_path / name)
    assert not (tmp_path / "ran").exists()
    assert "run" in said or "pickle" in said


@pytest.mark.parametrize(
    "leads", ["../outside.safetensors", "/etc/passwd", "a\\..\\b", "x/../../y"]
)
def test_an_index_may_not_lead_outside(tmp_path: Path, leads: str) -> None:
    drafter = sharded(tmp_path / "drafter")
    index = drafter / "model.safetensors.index.json"
    document = json.loads(index.read_text())
    document["weight_map"]["d2t"] = leads
    index.write_text(json.dumps(document))
    assert "outside the checkpoint's directory" in one_sentence(drafter)


def safetensors(length: int, header: bytes = b"{}") -> Callable[[Path], Path]:
    """Return a builder of weights that begin with a stated length of header."""

    def build(place: Path) -> Path:
        drafter = specforge(place)
        (drafter / "model.safetensors").write_bytes(struct.pack("<Q", length) + header)
        return drafter

    return build


def gguf(counts: tuple[int, int], rest: bytes = b"") -> Callable[[Path], Path]:
    """Return a builder of a GGUF file that promises so many tensors and entries."""

    def build(place: Path) -> Path:
        place.mkdir()
        (place / "x.gguf").write_bytes(b"GGUF" + struct.pack("<IQQ", 3, *counts) + rest)
        return place / "x.gguf"

    return build


def npy(place: Path) -> Path:
    """Write a header that promises a terabyte."""
    place.mkdir()
    header = b"{'descr': '<i8', 'fortran_order': False, 'shape': (1000000000000,), }"
    header += b" " * (-len(header) % 64 - 11) + b"\n"
    data = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header
    (place / "ids.npy").write_bytes(data)
    return place / "ids.npy"


def bomb(place: Path) -> Path:
    """Write an archive of a megabyte that unpacks to a gigabyte."""
    place.mkdir()
    archive(place / "ids.pt", bytes(1 << 30), packed=True)
    return place / "ids.pt"


def nested(place: Path) -> Path:
    """Write a config of a hundred thousand brackets."""
    drafter = specforge(place)
    (drafter / "config.json").write_text('{"a":' + "[" * 100_000 + "]" * 100_000 + "}")
    return drafter


def entry(key: bytes, kind: int, value: bytes) -> bytes:
    """Return one entry of a GGUF file's metadata."""
    return struct.pack("<Q", len(key)) + key + struct.pack("<I", kind) + value


def sparse_gguf(rest: bytes, *, entries: int = 1) -> Callable[[Path], Path]:
    """Return a builder of a GGUF file that ends in ten gigabytes of holes."""

    def build(place: Path) -> Path:
        path = gguf((0, entries), rest)(place)
        with path.open("r+b") as stream:
            stream.truncate(10 << 30)
        return path

    return build


def sparse_map(place: Path) -> Path:
    """Write a drafter whose map and mask have a thousand million entries, all of them holes."""
    drafter = specforge(place)
    many = 1 << 30
    header = json.dumps(
        {
            "d2t": {"dtype": "I64", "shape": [many], "data_offsets": [0, 8 * many]},
            "t2d": {"dtype": "BOOL", "shape": [many], "data_offsets": [8 * many, 9 * many]},
            "fc.weight": {
                "dtype": "F32",
                "shape": [1, many],
                "data_offsets": [9 * many, 13 * many],
            },
            "layers.0.hidden_norm.weight": {
                "dtype": "U8",
                "shape": [0],
                "data_offsets": [13 * many, 13 * many],
            },
            "lm_head.weight": {
                "dtype": "F32",
                "shape": [2, many],
                "data_offsets": [13 * many, 21 * many],
            },
        }
    ).encode()
    with (drafter / "model.safetensors").open("wb") as stream:
        stream.write(struct.pack("<Q", len(header)) + header)
        stream.truncate(8 + len(header) + 21 * many)
    return drafter


def many_tensors(place: Path) -> Path:
    """Write a header of as many tensors as one may have bytes for."""
    drafter = specforge(place)
    one = '"{:06x}":{{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}'
    header = ("{" + ",".join(one.format(number) for number in range(270_000)) + "}").encode()
    (drafter / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    return drafter


def expanded(place: Path) -> Path:
    """Write a tensor of a thousand million elements that stores one."""
    place.mkdir()
    torch.save(torch.zeros(1, dtype=torch.int64).expand(1 << 30), place / "ids.pt")
    return place / "ids.pt"


def endless(place: Path) -> Path:
    """Write a mapping that holds itself."""
    place.mkdir()
    archive(place / "ids.pt", b"\x80\x02}q\x00X\x03\x00\x00\x00d2th\x00s.")
    return place / "ids.pt"


def empty_lists(place: Path) -> Path:
    """Write a pickle each byte of which makes a list, as torch before 1.6 wrote them."""
    place.mkdir()
    (place / "ids.pt").write_bytes(b"\x80\x02" + b"]" * (15 << 20) + b".")
    return place / "ids.pt"


def words(place: Path) -> Path:
    """Write as many short numbers as a list may have bytes for."""
    place.mkdir()
    (place / "ids").write_bytes(b"55\n" * (5 << 20) + b"x")
    return place / "ids"


def huge_list(place: Path) -> Path:
    """Write a sparse file of ten gigabytes that begins as torch's do."""
    place.mkdir()
    with (place / "ids.pt").open("wb") as stream:
        stream.write(b"PK\x03\x04")
        stream.truncate(10 << 30)
    return place / "ids.pt"


HOSTILE: dict[str, Callable[[Path], Path]] = {
    "a header of 2^63 bytes": safetensors(1 << 63),
    "a header of 16 GB": safetensors(1 << 34),
    "a header that is no JSON": safetensors(8, b"{" * 8),
    "a tensor beyond the file": safetensors(
        80, b'{"d2t":{"dtype":"I64","shape":[99999999],"data_offsets":[0,799999992]}}'.ljust(80)
    ),
    "GGUF, 2^60 tensors": gguf((1 << 60, 0)),
    "GGUF, 2^60 entries": gguf((0, 1 << 60)),
    "GGUF, a text of 2^62 bytes": gguf((0, 1), struct.pack("<Q", 1 << 62)),
    "a vector of a terabyte": npy,
    "an archive that unpacks to a gigabyte": bomb,
    "a config of brackets": nested,
    "a list of ten gigabytes": huge_list,
    "GGUF, a key of ten gigabytes": sparse_gguf(struct.pack("<Q", 9 << 30)),
    "GGUF, a text of nine gigabytes": sparse_gguf(
        entry(b"general.architecture", 8, struct.pack("<Q", 9 << 30))
    ),
    "GGUF, a thousand million texts": sparse_gguf(
        entry(b"tokenizer.ggml.tokens", 9, struct.pack("<IQ", 8, 1 << 30))
    ),
    "GGUF, a thousand million numbers": sparse_gguf(
        entry(b"eagle3.target_layers", 9, struct.pack("<IQ", 4, 1 << 30))
    ),
    "GGUF, a million entries": sparse_gguf(
        b"".join(entry(b"%x" % number, 0, b"1") for number in range(100_000)), entries=1_000_000
    ),
    "a tensor of more elements than it stores": expanded,
    "a mapping that holds itself": endless,
    "a pickle of fifteen million lists": empty_lists,
    "five million words": words,
}


def looping(place: Path) -> Path:
    """Write a drafter with a chat template that renders for years."""
    loops = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
    return write_tokenizer(specforge(place), template=loops)


LARGE: dict[str, Callable[[Path], Path]] = {
    "a map of a thousand million holes": sparse_map,
    "a header of 270,000 tensors": many_tensors,
    "a chat template without end": looping,
}
"""What can be read, and must not be loaded or run for that."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return what builds a file by its name, once: some take seconds."""

    @functools.cache
    def built(name: str) -> Path:
        return (HOSTILE | LARGE)[name](tmp_path_factory.mktemp("built") / "x")

    return built


@pytest.mark.parametrize("name", LARGE)
def test_what_is_too_large_is_looked_at_without_being_loaded(
    place: Callable[[str], Path], name: str
) -> None:
    result = check(str(place(name)))
    assert "unreadable" not in {one.name for one in result.findings}
    assert all("\n" not in line for line in result.lines())


@pytest.mark.parametrize("name", HOSTILE)
def test_what_promises_too_much_costs_one_sentence(place: Callable[[str], Path], name: str) -> None:
    assert len(one_sentence(place(name))) < 500


FORMS: dict[str, Callable[[Path], Path]] = {
    "model.safetensors": lambda place: specforge(place) / "model.safetensors",
    "config.json": lambda place: specforge(place) / "config.json",
    "model.safetensors.index.json": lambda place: sharded(place) / "model.safetensors.index.json",
    "pytorch_model.bin": lambda place: as_bin(specforge(place)) / "pytorch_model.bin",
    "drafter.gguf": gguf_drafter,
    "ids.pt": token_map,
}


def damaged(data: bytes, seed: int) -> bytes:
    """Return a file cut short, or with some bits turned, most often in its first part."""
    generator = np.random.default_rng(seed)
    if seed % 3 == 0:
        return data[: int(generator.integers(len(data)))]
    turned = bytearray(data)
    reach = len(data) if seed % 3 == 1 else min(len(data), 2048)
    for place in generator.integers(reach, size=1 + seed % 4):
        turned[place] ^= 1 << int(generator.integers(8))
    return bytes(turned)


@pytest.mark.parametrize("name", FORMS)
def test_damage_is_found_or_harmless(tmp_path: Path, name: str) -> None:
    file = FORMS[name](tmp_path / "x")
    whole = file.read_bytes()
    inside = name not in ("drafter.gguf", "ids.pt")
    for seed in range(60):
        file.write_bytes(damaged(whole, seed))
        result = check(str(file.parent if inside else file))
        assert all("\n" not in line for line in result.lines()), seed


ODD_VALUES = (None, True, -1, 2**70, float("nan"), "x", [], [[1]], [2**70], {"a": 1})
ODD_TENSORS = (
    np.zeros(0, np.float32),
    np.zeros((0, 32), np.float32),
    np.ones((), np.float32),
    np.ones((2, 2, 2), np.float32),
    np.ones(64, np.bool_),
    np.full(64, 2**62),
    np.full(64, -(2**63)),
    np.full((64, 32), np.nan, np.float32),
    np.ones((1, 64), np.int64),
)
TENSORS = (
    "d2t",
    "t2d",
    "fc.weight",
    "embed_tokens.weight",
    "lm_head.weight",
    "lm_head.bias",
    "lm_head.weight_shape",
    "lm_head.scales",
    "markov_head.markov_w2.weight",
    "token_map",
)


def never_raises(path: Path, verifier: Path) -> None:
    """Look at a file alone, beside a target, and as one."""
    for one, other in ((path, None), (path, verifier), (verifier, path)):
        try:
            result = check(str(one), target=None if other is None else str(other))
        except CheckpointError:
            assert other is path  # what is to be a target may be refused
        else:
            assert all("\n" not in line for line in result.lines())


@pytest.mark.parametrize("build", [specforge, speculators])
def test_any_value_may_stand_in_a_config(tmp_path: Path, build: Callable[[Path], Path]) -> None:
    drafter, verifier = build(tmp_path / "d"), target(tmp_path / "t")
    config = json.loads((drafter / "config.json").read_text())
    keys = [*config, "eagle_config", "text_config", "truncated_vocab_size", "eos_token_id"]
    for number, key in enumerate(keys):
        # every value meets every kind of key; all pairs take minutes and find no more
        for odd in ODD_VALUES[number % 2 :: 2]:
            edit(drafter, config=config | {key: odd})
            never_raises(drafter, verifier)
            (drafter / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize("name", TENSORS)
def test_any_tensor_may_stand_under_a_name(tmp_path: Path, name: str) -> None:
    verifier = target(tmp_path / "t")
    for number, odd in enumerate(ODD_TENSORS):
        never_raises(edit(specforge(tmp_path / str(number)), add={name: odd}), verifier)


@pytest.mark.parametrize(
    "key",
    ["eagle3.target_layers", "eagle3.vocab_size", "tokenizer.ggml.tokens", "general.architecture"],
)
def test_any_value_may_stand_in_metadata(tmp_path: Path, key: str) -> None:
    verifier = gguf_target(tmp_path)
    values = (5, 2**63, 1.5, float("inf"), "x", [1, 2], ["a", "b"], [-1, 2, 3], [0.5, 1.5, 2.5])
    for number, odd in enumerate(values):

        def put(writer: Any, odd: object = odd) -> None:
            with_layers(writer)
            writer.kv_data[0].pop(key, None)
            if isinstance(odd, list):
                writer.add_array(key, odd)
            else:
                kind = {int: "UINT64", float: "FLOAT64", str: "STRING"}[type(odd)]
                writer.add_key_value(key, odd, GGUFValueType[kind])

        never_raises(gguf_drafter(tmp_path / str(number), more=put), verifier)


def test_hostile_files_take_no_memory(place: Callable[[str], Path]) -> None:
    places = [place(name) for name in (*HOSTILE, *LARGE)]
    script = WATCH_MEMORY + textwrap.dedent(
        """
        import sys
        from vocabtrim.pipeline.check import check
        try:
            for path in sys.argv[1:]:
                assert check(path).looked
        finally:
            print(peak_kib())
        """
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, places)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(done.stdout.split()[-1]) < MOST_KIB


def test_the_damage_is_real() -> None:
    data = bytes(range(256)) * 8
    assert all(damaged(data, seed) != data for seed in range(60))
