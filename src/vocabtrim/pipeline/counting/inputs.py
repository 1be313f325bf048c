"""What is counted: the files, who reads each, and the tasks that they make.

A task is a run of blocks of about `TASK_BYTES`, so that a directory of many
small files makes as few as one large file does. A `Place` says up to where the
data has been cut; cutting can begin at any place that a task ended at, and
gives the same documents then. Whatever counts, on however many processors,
counts the same documents in the same files.

Which domains a file belongs to is decided here, by its name; those that a
record names itself are `tasks.py`'s matter.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import cached_property
from itertools import accumulate, takewhile
from pathlib import Path
from typing import ClassVar

from vocabtrim.core.errors import CalibrationError
from vocabtrim.sources.base import BLOCK_BYTES, Block, Source, source_of
from vocabtrim.sources.files import STDIN, DataFile, find_files
from vocabtrim.tokens.id_counts import Group

TASK_BYTES = BLOCK_BYTES // 2
"""What makes a task: a full block is one, which a worker is done with in a second even
where encoding is slow, and smaller blocks gather."""

TASK_BLOCKS = 256


@dataclass(frozen=True)
class Place:
    """A place in the data; all before it is counted.

    Args:
        file: Index of the file; the number of files where all is counted.
        start: Position in it, as of `Block`.
        line: 1-based line that begins there.
    """

    BEGINNING: ClassVar[Place]

    file: int
    start: int
    line: int


Place.BEGINNING = Place(0, 0, 1)


@dataclass(frozen=True)
class Piece:
    """A block and where it belongs.

    Args:
        block: As its source cut it.
        group: Domains of all its documents.
    """

    block: Block
    group: Group


@dataclass(frozen=True)
class Task:
    """Consecutive blocks that are counted at once.

    Args:
        pieces: One or more.
        stop: Where the next task begins.
        size: Bytes in it, unpacked, as far as that is known.
    """

    pieces: tuple[Piece, ...]
    stop: Place
    size: int = 0

    def without_data(self) -> Task:
        """Return the same task, for whoever can read the files."""
        pieces = (Piece(piece.block.without_data(), piece.group) for piece in self.pieces)
        return replace(self, pieces=tuple(pieces))


@dataclass(frozen=True)
class Rest:
    """A file from a place on that can be read from its beginning only.

    Args:
        file: The file.
        group: Domains of all its documents.
        place: Where to go on.
    """

    file: DataFile
    group: Group
    place: Place

    def tasks(self) -> Iterator[Task]:
        """Cut it; each task ends at a place among all files.

        Raises:
            CalibrationError: The file cannot be read.
        """
        alone = Inputs((self.file,), (_source(copy(self.file)),), (self.group,), {})
        for task in alone.tasks(replace(self.place, file=0)):
            stop = replace(task.stop, file=self.place.file + task.stop.file)
            yield replace(task, stop=stop)


@dataclass(frozen=True)
class Inputs:
    """The files of one count.

    Args:
        files: Sorted by name.
        sources: What cuts each.
        groups: Domains of all documents of each.
        patterns: Domain to its pattern; empty: records that name it.
    """

    files: tuple[DataFile, ...]
    sources: tuple[Source, ...]
    groups: tuple[Group, ...]
    patterns: Mapping[str, str]

    @classmethod
    def find(
        cls,
        data: Sequence[str | Path],
        patterns: Mapping[str, str],
        *,
        leave_out: Sequence[Path] = (),
    ) -> Inputs:
        """Find the files, and ask of each what it is.

        Args:
            data: Files, directories, patterns, URLs, "-".
            patterns: Domain to the pattern of its files; an empty pattern stands
                for the records that name the domain themselves.
            leave_out: Files, and directories with all in them, that are not read,
                whatever `data` says.

        Raises:
            CalibrationError: A file is not there, none can tell what is in it, or
                a pattern matches no file.
            MissingExtra: A file needs a package that is not installed.
        """
        ours = [path.resolve() for path in leave_out]
        files = tuple(file for file in find_files(data) if not _lies_in(file, ours))
        for name, pattern in patterns.items():
            if pattern and not any(_matches(file, pattern) for file in files):
                raise CalibrationError(f"domain {name}: none of the files matches {pattern!r}")
        groups = (
            frozenset(name for name, glob in patterns.items() if glob and _matches(file, glob))
            for file in files
        )
        # asked of copies, for a file keeps the head that it shows
        sources = tuple(_source(copy(file)) for file in files)
        return cls(files, sources, tuple(groups), dict(sorted(patterns.items())))

    @property
    def size(self) -> int | None:
        """Stored bytes of all files, None where that is unknown."""
        sizes = [file.size for file in self.files]
        return None if None in sizes else sum(size for size in sizes if size is not None)

    @property
    def read_once(self) -> bool:
        """Whether one of them cannot be read a second time."""
        return any(file.name == STDIN for file in self.files)

    def tasks(self, place: Place = Place.BEGINNING, end: int | None = None) -> Iterator[Task]:
        """Cut the data from a place on.

        Args:
            place: Where to begin.
            end: Index of the first file that is left alone; None: none is.

        Raises:
            CalibrationError: A file cannot be read.
        """
        end = len(self.files) if end is None else end
        pieces: list[Piece] = []
        held = size = 0
        for index in range(place.file, end):
            begin = place if index == place.file else Place(index, 0, 1)
            for block in self._blocks(index, begin):
                pieces.append(Piece(block, self.groups[index]))
                if block.fault is not None:
                    # what is damaged has no end to go on from, so no task ends here
                    continue
                # what a block without data holds is known to its source alone
                held += TASK_BYTES if block.data is None else len(block.data)
                size += 0 if block.data is None else len(block.data)
                if held >= TASK_BYTES or len(pieces) >= TASK_BLOCKS:
                    stop = Place(index, block.stop, block.line + block.lines)
                    yield Task(tuple(pieces), stop, size)
                    pieces, held, size = [], 0, 0
        if pieces:
            yield Task(tuple(pieces), Place(end, 0, 1), size)

    def units(self, place: Place = Place.BEGINNING) -> Iterator[Task | Rest]:
        """Cut the data from a place on into what another machine can read itself.

        Raises:
            CalibrationError: A file cannot be read, or not on another machine.
        """
        while place.file < len(self.files):
            index = place.file
            if self.files[index].seekable:
                alike = takewhile(
                    lambda one: self.files[one].seekable, range(index, len(self.files))
                )
                end = max(alike) + 1
                yield from (task.without_data() for task in self.tasks(place, end))
            else:
                if self.files[index].name == STDIN:
                    raise CalibrationError("a cluster cannot read standard input", path=STDIN)
                end = index + 1
                yield Rest(self.files[index], self.groups[index], place)
            place = Place(end, 0, 1)

    def done(self, place: Place) -> int:
        """Return the stored bytes before a place, as far as that is known."""
        before = self._sizes_before[place.file]
        if place.file == len(self.files) or not self.files[place.file].seekable:
            return before
        return before + place.start

    def described(self, place: Place) -> str:
        """Return where a place is, for a reader."""
        if place.file == len(self.files):
            return "the end of the data"
        # positions in a table are its rows
        row = place.start > 0 and place.start == place.line - 1
        at = f"row {place.line:,}" if row else f"byte {place.start:,} (line {place.line:,})"
        return f"{self.files[place.file].name}, {at}"

    @cached_property
    def _sizes_before(self) -> list[int]:
        return list(accumulate((file.size or 0 for file in self.files), initial=0))

    def _blocks(self, index: int, begin: Place) -> Iterator[Block]:
        # a copy leaves behind the head that a file keeps once it has been asked for
        file = copy(self.files[index])
        try:
            yield from self.sources[index].blocks(file, begin.start, begin.line)
        except OSError as fault:
            raise unreadable(file.name, fault) from fault


def unreadable(name: str, fault: OSError) -> CalibrationError:
    """Return the error for a file that the system does not let us read."""
    return CalibrationError(f"it cannot be read ({fault.strerror or fault})", path=name)


def _source(file: DataFile) -> Source:
    try:
        return source_of(file)
    except OSError as fault:
        raise unreadable(file.name, fault) from fault


def _lies_in(file: DataFile, places: Sequence[Path]) -> bool:
    """Whether a file is one of some places, or in one of them."""
    if _is_elsewhere(file):
        return False
    path = Path(file.name).resolve()
    return any(path.is_relative_to(place) for place in places)


def _is_elsewhere(file: DataFile) -> bool:
    return file.is_url or file.name == STDIN


def _matches(file: DataFile, pattern: str) -> bool:
    """Whether a pattern means a file: by its name as given, its end, or its full name."""
    if _is_elsewhere(file):
        return fnmatchcase(file.name, pattern)
    path = Path(file.name)
    spellings = (path.as_posix(), path.absolute().as_posix())
    return path.match(pattern) or any(fnmatchcase(one, pattern) for one in spellings)
