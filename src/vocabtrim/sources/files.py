"""Which files a user means, and how the bytes of each are read.

A `DataFile` is a local file, a URL that fsspec opens, or standard input ("-").
It knows by content whether it is compressed, can be sent to another process,
and gives the bytes that it holds, never those that are stored. Positions count
the former.

`find_files` turns what was typed into a set of files. The set, not the way in
which it was typed, is what counts depend on. A directory that `datasets` wrote
stands for the Arrow files that it lists.
"""

from __future__ import annotations

import dataclasses
import glob
import io
import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from vocabtrim.core.errors import CalibrationError
from vocabtrim.sources.streams import (
    Damaged,
    compression_of,
    needed,
    read_up_to,
    standard_input,
    unpacked,
)

BOM = b"\xef\xbb\xbf"
HEAD_BYTES = 1 << 16
STDIN = "-"
ABOUT_THE_DATA = ("README", "LICENSE")
SAVED_DATASET = ("dataset_info.json", "state.json")
"""What `Dataset.save_to_disk` writes beside its Arrow files."""

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*(://|::)")


@dataclass(frozen=True)
class DataFile:
    """A file of calibration data.

    Args:
        name: Path as given, URL, or "-" for standard input; messages and
            manifests show it.
        compression: "gzip", "zstd" or None, by the first bytes.
        size: Stored bytes, None where that is unknown.
        seekable: Whether any range of the bytes that it holds can be read, again
            and in another process.
    """

    name: str
    compression: str | None = None
    size: int | None = None
    seekable: bool = True

    @classmethod
    def find(cls, name: str | Path) -> DataFile:
        """Look at a file: its size and compression.

        Raises:
            CalibrationError: It cannot be opened.
        """
        file = cls(str(name))
        with file.open_stored() as stored:
            compression = compression_of(read_up_to(stored, 4))
            size = None if file.name == STDIN or not stored.seekable() else stored.seek(0, 2)
        return cls(file.name, compression, size, size is not None and compression is None)

    @property
    def is_url(self) -> bool:
        """Whether fsspec opens it."""
        return _URL.match(self.name) is not None

    @cached_property
    def head(self) -> bytes:
        """The first 64 KiB that it holds, fewer where a fault comes before."""
        try:
            with self.open() as stream:
                return read_up_to(stream, HEAD_BYTES)
        except Damaged:
            return b""

    def open(self, start: int = 0) -> io.BufferedReader:
        """Open what it holds, unpacked, at a position.

        Raises:
            CalibrationError: It cannot be opened, or standard input has been
                read already.
            MissingExtra: A package is not installed.
        """
        stream = unpacked(self.open_stored(), self.compression)
        if start and self.seekable:
            stream.seek(start)
        else:
            while start and (skipped := len(read_up_to(stream, min(start, 1 << 20)))):
                start -= skipped
        return stream

    def open_stored(self) -> io.BufferedReader:
        """Open the bytes as they are stored.

        Raises:
            CalibrationError: It cannot be opened, or standard input has been
                read already.
        """
        if self.name == STDIN:
            return standard_input()
        if self.is_url:
            return _Remote(self.name)
        try:
            return Path(self.name).open("rb")
        except OSError as fault:
            raise CalibrationError(f"it cannot be opened ({fault.strerror})", path=self.name) from (
                fault
            )

    def read_range(self, start: int, stop: int) -> bytes:
        """Return the bytes [start, stop) that it holds."""
        with self.open(start) as stream:
            return read_up_to(stream, stop - start)

    def __getstate__(self) -> dict[str, Any]:
        """Leave the head behind: blocks are sent between processes with their file."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}


def find_files(data: Sequence[str | Path]) -> list[DataFile]:
    """Return the files that were asked for, each once, sorted by name.

    Args:
        data: Files; directories, searched to the bottom without hidden files and
            without what describes the data (`README*`, `LICENSE*`); directories
            that `datasets` saved; patterns with `*`, `?`, `[…]` and `**`; URLs
            of any of these that fsspec knows; "-" for standard input.

    Raises:
        CalibrationError: An argument leads to no file, or cannot be opened.
        MissingExtra: A package is not installed.
    """
    names: dict[str, list[str]] = {}
    for argument in data:
        for name in _names_of(str(argument)):
            local = name != STDIN and not _URL.match(name)
            names.setdefault(str(Path(name).resolve()) if local else name, []).append(name)
    # a file that was given under two names goes by the first of them in sorted order
    return [DataFile.find(name) for name in sorted(min(given) for given in names.values())]


def _names_of(argument: str) -> list[str]:
    if argument == STDIN:
        return [STDIN]
    if _URL.match(argument):
        return _names_of_url(argument)
    return [str(path) for path in _paths_of(Path(argument).expanduser())]


def _paths_of(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    if path.is_dir():
        within = {file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file()}
        chosen = _of_directory(within, lambda name: (path / name).read_bytes(), str(path))
        return [path / name for name in chosen]
    if path.exists():
        raise CalibrationError("this is neither a file nor a directory", path=path)
    pattern = str(path) if glob.has_magic(str(path)) else glob.escape(str(path))
    matching = glob.glob(pattern, recursive=True)  # noqa: PTH207 (Path.glob takes hidden files too)
    if not matching:
        raise CalibrationError("no such file or directory, and no file matches it", path=path)
    return [file for one in matching for file in _paths_of(Path(one))]


def _of_directory(within: Iterable[str], read: Callable[[str], bytes], directory: str) -> list[str]:
    """Return the files of a directory that are data, by their names in it.

    Raises:
        CalibrationError: There are none, or a saved dataset is not whole.
    """
    present = {name for name in within if not _is_beside_the_data(name)}
    found = set(present)
    for state in sorted(name for name in present if name.rpartition("/")[2] == SAVED_DATASET[1]):
        home = state.removesuffix(SAVED_DATASET[1])
        if home + SAVED_DATASET[0] not in present:
            continue
        listed = {home + name for name in _listed(read(state), f"{directory}/{state}")}
        missing = sorted(listed - present)
        if missing:
            raise CalibrationError(f"the dataset lacks its file {missing[0]}", path=directory)
        # others there are caches of `map` and `filter`, and descriptions
        found -= {name for name in present if name.rpartition("/")[0] == home.rstrip("/")} - listed
    found = {name for name in found if name.rpartition("/")[2] != "dataset_dict.json"}
    if not found:
        raise CalibrationError("there are no files in this directory", path=directory)
    return sorted(found)


def _listed(state: bytes, path: str) -> list[str]:
    try:
        return [str(one["filename"]) for one in json.loads(state)["_data_files"]]
    except (ValueError, KeyError, TypeError) as fault:
        raise CalibrationError("it does not list the files of a saved dataset", path=path) from (
            fault
        )


def _is_beside_the_data(within: str) -> bool:
    """Whether a file of a directory is hidden, or describes the data."""
    *_, name = parts = within.split("/")
    return any(part.startswith(".") for part in parts) or name.upper().startswith(ABOUT_THE_DATA)


def _names_of_url(url: str) -> list[str]:
    """Return the files behind a URL, as URLs."""
    filesystem, path = _filesystem(url)
    # of a chain like zip://*.txt::s3://bucket/a.zip the first link is what is searched
    others = url.split("::")[1:] if "://" in url.partition("::")[0] else []

    def named(one: str) -> str:
        return "::".join([str(filesystem.unstrip_protocol(one)), *others])

    try:
        if glob.has_magic(path):
            matching = [one for one in filesystem.glob(path) if filesystem.isfile(one)]
            if not matching:
                raise CalibrationError("no file matches it", path=url)
            return [named(one) for one in matching]
        if filesystem.isdir(path):
            root = path.rstrip("/") + "/"
            within = {one.removeprefix(root): one for one in filesystem.find(path)}
            chosen = _of_directory(within, lambda name: filesystem.cat_file(within[name]), url)
            return [named(within[name]) for name in chosen]
    except (OSError, ImportError) as fault:
        raise CalibrationError(f"it cannot be read ({fault})", path=url) from fault
    return [url]


def _filesystem(url: str) -> tuple[Any, str]:
    fsspec = needed("fsspec", f"{url} can be read with fsspec only")
    try:
        filesystem, path = fsspec.core.url_to_fs(url)
    except (ValueError, ImportError, OSError) as fault:
        raise CalibrationError(f"it cannot be opened ({fault})", path=url) from fault
    return filesystem, str(path)


class _Remote(io.BufferedReader):
    """A file behind a URL, with what has to live as long as it is read."""

    def __init__(self, url: str) -> None:
        filesystem, path = _filesystem(url)
        try:
            stream = filesystem.open(path, "rb")
        except (OSError, ValueError, ImportError) as fault:
            raise CalibrationError(f"it cannot be opened ({fault})", path=url) from fault
        super().__init__(stream)
        # the archive that a file lies in is closed when its filesystem goes
        self._filesystem = filesystem
