"""`check` on files that are damaged or hostile: one sentence, nothing run, little memory."""

from __future__ import annotations

import json
import pickle
import struct
import subprocess
import sys
import textwrap
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.clean_drafters import gguf_drafter, sharded, specforge, token_map
from tests.tiny import WATCH_MEMORY, as_bin
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
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_promises_too_much_costs_one_sentence(tmp_path: Path, name: str) -> None:
    assert len(one_sentence(HOSTILE[name](tmp_path / "x"))) < 500


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


def test_hostile_files_take_no_memory(tmp_path: Path) -> None:
    places = [build(tmp_path / str(number)) for number, build in enumerate(HOSTILE.values())]
    script = WATCH_MEMORY + textwrap.dedent(
        """
        import sys
        from vocabtrim.pipeline.check import check
        try:
            for path in sys.argv[1:]:
                assert check(path).failed(strict=False)
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
