"""What a `.pt` or `.bin` file holds, read by torch where torch is installed.

Only data is loaded (`weights_only=True`): a file that would run code is refused.
Of weights only the description is loaded: type, shape, and where the bytes lie.
torch is looked up by its name, at the moment that such a file is met, because
nothing else at this level of the package may lean on it.
"""

from __future__ import annotations

import importlib
import io
import pickle
import pickletools
import struct
import warnings
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import IO, Any

import numpy as np

from vocabtrim.core.errors import ArtifactError, MissingExtra

_DTYPES = {
    "bool": "BOOL",
    "uint8": "U8",
    "int8": "I8",
    "uint16": "U16",
    "int16": "I16",
    "float16": "F16",
    "bfloat16": "BF16",
    "uint32": "U32",
    "int32": "I32",
    "float32": "F32",
    "uint64": "U64",
    "int64": "I64",
    "float64": "F64",
    "float8_e4m3fn": "F8_E4M3",
    "float8_e5m2": "F8_E5M2",
}

MOST_PICKLE_BYTES = 64 << 20
"""A tensor takes about 200 bytes of it; the largest models have some 100,000."""

MOST_OPCODES = 4_000_000
"""Steps of a pickle: a list of 300,000 ids has about as many."""

_LEGACY_PICKLES = 5
"""Before 1.6 torch wrote pickles one behind the other: three of its own, the object, the keys."""

# What torch's reader raises on a file that is not whole; it checks little itself.
_DAMAGE = (
    RuntimeError,
    EOFError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    AssertionError,
    OverflowError,
    struct.error,
)


@dataclass(frozen=True)
class MetaTensor:
    """What an archive of torch says of a tensor.

    Args:
        dtype: As safetensors writes it, or torch's own name where that has none.
        shape: Its dimensions.
        record: Offset in the file of the record that holds it.
        first: Elements of that record before its first one.
        contiguous: Whether its elements follow one another.
    """

    dtype: str
    shape: tuple[int, ...]
    record: int
    first: int
    contiguous: bool


def meta_tensors(path: Path) -> dict[str, MetaTensor]:
    """Describe the tensors of a `.bin` file without reading them.

    Raises:
        MissingExtra: torch is not installed, or too old to do this.
        ArtifactError: torch cannot read it, or it is no mapping of names to tensors.
    """
    why = f"{path} can be read with torch only"
    torch = _torch(why)
    loaded = _loaded(torch, path, "meta")
    if not isinstance(loaded, dict):
        raise ArtifactError(f"{path} holds a {type(loaded).__name__}")
    found = {}
    for name, tensor in loaded.items():
        if not isinstance(name, str) or not isinstance(tensor, torch.Tensor):
            raise ArtifactError(f"{path} holds a {type(tensor).__name__} under {name!r}")
        storage = tensor.untyped_storage()
        if not hasattr(storage, "_checkpoint_offset"):
            raise MissingExtra(f"{why}, and with a newer one than {torch.__version__}", "torch")
        kind = str(tensor.dtype).removeprefix("torch.")
        found[name] = MetaTensor(
            dtype=_DTYPES.get(kind, kind),
            shape=tuple(tensor.shape),
            record=int(storage._checkpoint_offset),
            first=int(tensor.storage_offset()),
            contiguous=bool(tensor.is_contiguous()),
        )
    return found


def load_torch(path: Path) -> Any:
    """Return what a `.pt` file holds, tensors as arrays, in lists and mappings too.

    Raises:
        MissingExtra: torch is not installed.
        ArtifactError: torch cannot read it, or will not without running it.
    """
    torch = _torch(f"{path} can be read with torch only")
    _refuse_long(path)
    loaded = _loaded(torch, path, "cpu")
    try:
        return _without_tensors(loaded, torch, path)
    except RecursionError as fault:
        raise ArtifactError(
            f"{path} holds mappings in mappings without end, which is no list"
        ) from fault


def _loaded(torch: ModuleType, path: Path, device: str) -> Any:
    try:
        with warnings.catch_warnings():
            # of protocols that it did not write itself; what it cannot read it refuses
            warnings.simplefilter("ignore")
            return torch.load(path, map_location=device, weights_only=True)
    except pickle.UnpicklingError as fault:
        raise ArtifactError(
            f"{path}: this pickle holds more than numbers, and loading it would run what it "
            "holds; save a list or a tensor with torch.save"
        ) from fault
    except (*_DAMAGE, MemoryError) as fault:
        reason = str(fault).strip().splitlines()
        raise ArtifactError(
            f"{path} is not a whole .pt file ({reason[0] if reason else type(fault).__name__})"
        ) from fault


def torch_bytes(value: Any) -> bytes:
    """Return `value` as torch saves it.

    Raises:
        MissingExtra: torch is not installed.
    """
    stream = io.BytesIO()
    _torch("a .pt file can be written with torch only").save(value, stream)
    return stream.getvalue()


def _torch(why: str) -> ModuleType:
    try:
        return importlib.import_module("torch")
    except ImportError as fault:
        raise MissingExtra(why, "torch") from fault


def _refuse_long(path: Path) -> None:
    """Refuse a file whose pickles have more steps than any list of ids.

    A step is a byte and may make an object of a hundred. What is damaged is left to
    torch to refuse.
    """
    with path.open("rb") as stream:
        archived = stream.read(4) == b"PK\x03\x04"
        stream.seek(0)
        pickles: list[IO[bytes]] = [stream] * _LEGACY_PICKLES
        try:
            if archived:
                with zipfile.ZipFile(stream) as archive:
                    members = [m for m in archive.infolist() if m.filename.endswith("data.pkl")]
                    if any(member.file_size > MOST_PICKLE_BYTES for member in members):
                        raise ArtifactError(f"{path} has a pickle larger than any list of ids")
                    pickles = [io.BytesIO(archive.read(member)) for member in members]
            steps = 0
            for one in pickles:
                for _ in pickletools.genops(one):
                    steps += 1
                    if steps > MOST_OPCODES:
                        raise ArtifactError(f"{path} has more steps than any list of ids needs")
        except (*_DAMAGE, zipfile.BadZipFile, zlib.error, OSError):
            return


def _without_tensors(value: Any, torch: ModuleType, path: Path) -> Any:
    if isinstance(value, torch.Tensor):
        whole = value.detach()
        if whole.layout != torch.strided or whole.is_quantized:
            raise ArtifactError(f"{path} holds a tensor that is no plain one")
        if whole.nbytes > whole.untyped_storage().nbytes():
            raise ArtifactError(f"{path} holds a tensor of more elements than it stores")
        # numpy has no bfloat16; no list of ids is one, and its kind is all that is asked
        return whole.float().numpy() if whole.is_floating_point() else np.asarray(whole.numpy())
    if isinstance(value, dict):
        return {key: _without_tensors(one, torch, path) for key, one in value.items()}
    if isinstance(value, list | tuple) and any(isinstance(one, torch.Tensor) for one in value):
        return [_without_tensors(one, torch, path) for one in value]
    return value
