"""PyTorch's own container, `pytorch_model.bin`, described without being loaded.

Since torch 1.6 it is a zip archive: one small pickle says which tensors there
are, and each storage is an uncompressed record. The pickle is looked through
first and may name nothing but tensors and their storages; then torch reads it
(`weights_only=True`) onto the device "meta", where a tensor has a type, a shape
and the place of its bytes, and no bytes. So a file opens without its weights
being read, and rows come through the same memory map as those of safetensors.

Not read: the format before torch 1.6, sparse or quantized tensors, and views that
do not lie in one piece. Source: PyTorch's notes on serialization, "Serialized
file format for torch.save".
"""

from __future__ import annotations

import io
import math
import pickletools
import re
import struct
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

from vocabtrim.core.errors import ArtifactError, CheckpointError
from vocabtrim.tensors.tensor_info import TensorInfo
from vocabtrim.tensors.torch_file import MOST_OPCODES, MOST_PICKLE_BYTES, MetaTensor, meta_tensors

_TENSORS_ONLY = re.compile(
    r"collections OrderedDict"
    r"|torch \w+Storage"
    r"|torch\.storage (Untyped|Typed)Storage"
    r"|torch\._utils _rebuild_(tensor_v2|tensor_v3|parameter)"
    r"|torch (b?float|uint|int|bool)\w*"
)
_BYTES_OF = {
    "BOOL": 1,
    "U8": 1,
    "I8": 1,
    "U16": 2,
    "I16": 2,
    "F16": 2,
    "BF16": 2,
    "U32": 4,
    "I32": 4,
    "F32": 4,
    "U64": 8,
    "I64": 8,
    "F64": 8,
    "F8_E4M3": 1,
    "F8_E5M2": 1,
}
_LOCAL_HEADER = struct.Struct("<4s22xHH")


def is_bin(file: Path) -> bool:
    """Return whether a file is an archive of torch, by its first bytes."""
    try:
        with file.open("rb") as stream:
            return stream.read(4) == b"PK\x03\x04"
    except OSError:
        return False


def bin_tensors(file: Path) -> Iterator[TensorInfo]:
    """Yield every tensor of a `.bin` file, its bytes unread.

    Raises:
        CheckpointError: It is damaged, is no mapping of names to tensors, or
            would run code; nothing was run.
        MissingExtra: torch is not installed.
    """
    records = _records(file)
    try:
        found = meta_tensors(file)
    except ArtifactError as fault:
        raise CheckpointError(
            f"it is no mapping of names to tensors as torch saves it ({fault})", path=file
        ) from fault
    for name, tensor in found.items():
        yield _info(file, name, tensor, records)


def _info(file: Path, name: str, tensor: MetaTensor, records: Mapping[int, int]) -> TensorInfo:
    """Return where a tensor lies, once that is known to be inside its record."""
    if tensor.dtype not in _BYTES_OF or not tensor.contiguous:
        what = tensor.dtype if tensor.dtype not in _BYTES_OF else "a view in pieces"
        raise CheckpointError(
            f"{name} is stored as {what}, which is not read; save the model as safetensors",
            path=file,
        )
    itemsize = _BYTES_OF[tensor.dtype]
    begin, nbytes = tensor.first * itemsize, math.prod(tensor.shape) * itemsize
    if begin + nbytes > records.get(tensor.record, -1):
        raise CheckpointError(
            f"{name} ({tensor.dtype}, shape {list(tensor.shape)}) does not fit into its record: "
            "the file is damaged",
            path=file,
        )
    return TensorInfo(name, tensor.dtype, tensor.shape, file, tensor.record + begin, nbytes)


def _records(file: Path) -> dict[int, int]:
    """Return offset → length of every record, after looking at the archive.

    Raises:
        CheckpointError: It is no archive of torch, records are compressed or lie
            outside the file, or its pickle names more than tensors.
    """
    try:
        with zipfile.ZipFile(file) as archive, file.open("rb") as stream:
            members = archive.infolist()
            size = file.stat().st_size
            records = {}
            for member in members:
                begin = _data_offset(stream, member)
                if member.compress_type or member.flag_bits & 1 or begin + member.file_size > size:
                    raise CheckpointError(
                        f"its record {member.filename} is compressed or not whole", path=file
                    )
                records[begin] = member.file_size
            _check_pickle(file, archive, members)
    except (zipfile.BadZipFile, struct.error, OSError, ValueError, NotImplementedError) as fault:
        raise CheckpointError(
            f"it is no whole archive of torch 1.6 or later ({fault}); fetch it anew, or save it "
            "again with torch.save",
            path=file,
        ) from fault
    return records


def _data_offset(stream: io.BufferedReader, member: zipfile.ZipInfo) -> int:
    """Return where a record's bytes begin; its local header has its own lengths."""
    stream.seek(member.header_offset)
    signature, name, extra = _LOCAL_HEADER.unpack(stream.read(_LOCAL_HEADER.size))
    if signature != b"PK\x03\x04":
        raise zipfile.BadZipFile(f"the record {member.filename} is not where it should be")
    return int(member.header_offset) + _LOCAL_HEADER.size + int(name) + int(extra)


def _check_pickle(file: Path, archive: zipfile.ZipFile, members: list[zipfile.ZipInfo]) -> None:
    """Refuse an archive whose pickle names anything but tensors, or whose bytes are swapped."""
    by_name = {PurePosixPath(member.filename).name: member for member in members}
    storages = [member for member in members if "/data/" in member.filename]
    numbers = [int(PurePosixPath(member.filename).name) for member in storages]
    # torch works out where a storage lies from those before it, and does not look
    if ".format_version" in by_name and numbers != list(range(len(numbers))):
        raise CheckpointError(
            "its records are not in the order in which torch writes them", path=file
        )
    pickled = by_name.get("data.pkl")
    if pickled is None or pickled.file_size > MOST_PICKLE_BYTES:
        raise CheckpointError(
            "it is an archive, but no weights as torch saves them (its data.pkl is missing "
            "or too large)",
            path=file,
        )
    if "byteorder" in by_name and archive.read(by_name["byteorder"]) != b"little":
        raise CheckpointError("its numbers are big-endian, which is not read", path=file)
    for count, named in enumerate(_names(archive.read(pickled))):
        if named is not None and not _TENSORS_ONLY.fullmatch(named):
            raise CheckpointError(
                f"its pickle names {named.replace(' ', '.')!r}, which is no tensor: loading it "
                "could run code, and nothing was loaded; take a safetensors version",
                path=file,
            )
        if count > MOST_OPCODES:
            raise CheckpointError("its pickle has more steps than any model needs", path=file)


def _names(pickle: bytes) -> Iterator[str | None]:
    """Yield, for each step of a pickle, what it would import, or None."""
    for opcode, argument, _ in pickletools.genops(pickle):
        if opcode.name in ("GLOBAL", "INST"):
            yield str(argument)
        elif opcode.name in ("STACK_GLOBAL", "EXT1", "EXT2", "EXT4"):
            yield opcode.name
        else:
            yield None
