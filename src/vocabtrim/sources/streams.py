"""Streams of stored bytes: compressed ones unpacked, standard input read once.

gzip and Zstandard are told by the bytes that they begin with. Unpacking never
holds more than a small multiple of what is asked for, several members one after
the other are one stream, and a stream that breaks off or is damaged gives all
that came before the fault; only then does reading raise `Damaged`, and it does
so again each time.

Standard input keeps its first mebibyte until reading has gone beyond it, so
that what is in it can be found out before it is read. It cannot be read twice.
"""

from __future__ import annotations

import functools
import io
import sys
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Protocol

from vocabtrim.core.errors import CalibrationError, MissingExtra

KEPT_BYTES = 1 << 20
"""What standard input keeps of its beginning."""


class Damaged(CalibrationError):
    """A compressed stream breaks off, or is not what it should be."""


class Decoder(Protocol):
    """What `zlib`, `zstandard` and `compression.zstd` have in common."""

    @property
    def eof(self) -> bool:
        """Whether a member has ended."""
        ...

    @property
    def unused_data(self) -> bytes:
        """What was given beyond its end."""
        ...

    def decompress(self, data: bytes, /) -> bytes:
        """Return what `data` unpacks to."""
        ...


@dataclass(frozen=True)
class Codec:
    """How one form of compression is unpacked.

    Args:
        name: As messages call it.
        decoder: Makes what unpacks one member.
        faults: What it raises on damaged data.
        slice_bytes: Stored bytes unpacked at a time. Decoders have no common way
            to bound what comes out, so what goes in is bounded: some 16 MiB come
            of a slice at worst.
    """

    name: str
    decoder: Callable[[], Decoder]
    faults: tuple[type[Exception], ...]
    slice_bytes: int


def compression_of(head: bytes) -> str | None:
    """Return "gzip", "zstd" or None, by the first four bytes of a file."""
    if head.startswith(b"\x1f\x8b"):
        return "gzip"
    # a skippable frame may come first: pzstd and seekable files have one
    skippable = head[1:4] == b"\x2a\x4d\x18" and 0x50 <= head[0] <= 0x5F
    return "zstd" if head.startswith(b"\x28\xb5\x2f\xfd") or skippable else None


def codec_of(compression: str) -> Codec:
    """Return how to unpack `compression`.

    Raises:
        MissingExtra: The package for it is not installed.
    """
    if compression == "gzip":
        return Codec("gzip", lambda: zlib.decompressobj(31), (zlib.error,), 16 << 10)
    if sys.version_info >= (3, 14):
        zstd = import_module("compression.zstd")
        return Codec("Zstandard", zstd.ZstdDecompressor, (zstd.ZstdError,), 512)
    zstd = needed("zstandard", "data compressed with Zstandard can be read with zstandard only")
    decompressor = zstd.ZstdDecompressor()
    return Codec("Zstandard", decompressor.decompressobj, (zstd.ZstdError,), 512)


def needed(package: str, why: str) -> Any:
    """Import a package of the extra `[data]`.

    Raises:
        MissingExtra: It is not installed.
    """
    try:
        return import_module(package)
    except ModuleNotFoundError as fault:
        if fault.name != package.partition(".")[0]:
            raise
        raise MissingExtra(why, "data") from fault


class Unpacked(io.RawIOBase):
    """What a compressed stream unpacks to.

    Args:
        stored: The compressed bytes; closed with this.
        codec: How they are unpacked.
    """

    def __init__(self, stored: io.BufferedIOBase, codec: Codec) -> None:
        self._stored, self._codec = stored, codec
        self._decoder = codec.decoder()
        self._packed = self._ready = memoryview(b"")
        self._members = 0
        self._inside = False
        self._fault: Damaged | None = None

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any, /) -> int:
        """Fill a buffer and return how far; 0 at the end.

        Raises:
            Damaged: The stream is, and all before the fault has been read.
        """
        target = memoryview(buffer).cast("B")
        filled = 0
        while filled < len(target) and (self._ready or self._unpack()):
            taken = min(len(target) - filled, len(self._ready))
            target[filled : filled + taken] = self._ready[:taken]
            self._ready = self._ready[taken:]
            filled += taken
        if not filled and self._fault is not None:
            raise self._fault
        return filled

    def close(self) -> None:
        """Close this and what it reads."""
        if not self.closed:
            self._stored.close()
        super().close()

    def _unpack(self) -> bool:
        """Unpack until there is something; False at the end or at a fault."""
        while not self._ready and self._fault is None:
            if not self._packed:
                self._packed = memoryview(self._stored.read(1 << 16))
            if not self._packed:
                if self._inside:
                    self._fault = Damaged(f"it breaks off in the middle of its {self._codec.name}")
                return False
            self._member()
        return bool(self._ready)

    def _member(self) -> None:
        """Unpack one slice of the member that is being read, or begin the next."""
        if not self._inside:
            # archives on tape, and so some tools, fill up with zeros
            rest = bytes(self._packed).lstrip(b"\0") if self._members else bytes(self._packed)
            self._packed = memoryview(rest)
            if not rest:
                return
            self._decoder, self._inside = self._codec.decoder(), True
        piece = bytes(self._packed[: self._codec.slice_bytes])
        self._packed = self._packed[len(piece) :]
        try:
            self._ready = memoryview(self._decoder.decompress(piece))
        except self._codec.faults as fault:
            self._fault = Damaged(f"its {self._codec.name} is damaged ({fault})")
            return
        if self._decoder.eof:
            self._members += 1
            self._inside = False
            unused = self._decoder.unused_data
            self._packed = memoryview(unused + bytes(self._packed)) if unused else self._packed


def unpacked(stored: io.BufferedIOBase, compression: str | None) -> io.BufferedReader:
    """Return a stream of what a file holds.

    Args:
        stored: The file as it is stored; closed with the result.
        compression: "gzip", "zstd" or None.

    Raises:
        MissingExtra: A package is not installed.
    """
    if compression is None:
        return stored if isinstance(stored, io.BufferedReader) else io.BufferedReader(stored)
    return io.BufferedReader(Unpacked(stored, codec_of(compression)))


def read_up_to(stream: io.BufferedReader, size: int) -> bytes:
    """Read `size` bytes, or fewer where the stream ends or is damaged.

    Raises:
        Damaged: The stream is, and there is nothing before the fault any more.
    """
    pieces: list[bytes] = []
    missing = size
    while missing:
        try:
            # read() would lose what it has when the stream raises in the middle
            piece = stream.read1(missing)
        except Damaged:
            if not pieces:
                raise
            break
        if not piece:
            break
        pieces.append(piece)
        missing -= len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


class _StandardInput:
    """Standard input, with what was read of it so far, as long as that is little."""

    def __init__(self, stream: io.BufferedReader) -> None:
        self.stream = stream
        self.kept = bytearray()
        self.gone = False


class _Replayed(io.RawIOBase):
    """Standard input from its beginning."""

    def __init__(self, shared: _StandardInput) -> None:
        if shared.gone:
            raise CalibrationError("it can be read only once; put the data into a file", path="-")
        self._shared, self._position = shared, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        shared, target = self._shared, memoryview(buffer).cast("B")
        kept = shared.kept[self._position : self._position + len(target)]
        if not kept:
            kept = bytearray(shared.stream.read1(len(target)))
            if not shared.gone:
                shared.kept += kept
            if len(shared.kept) > KEPT_BYTES:
                shared.gone, shared.kept = True, bytearray()
        target[: len(kept)] = kept
        self._position += len(kept)
        return len(kept)


@functools.cache
def _kept_input() -> _StandardInput:
    return _StandardInput(io.BufferedReader(io.FileIO(sys.stdin.fileno(), closefd=False)))


def standard_input() -> io.BufferedReader:
    """Return a stream of standard input from its beginning.

    Raises:
        CalibrationError: It has been read already.
    """
    return io.BufferedReader(_Replayed(_kept_input()))
