"""Every exception of the package, each with the exit code of the command line.

A message is one sentence for the person at the keyboard: what is wrong, where,
what was expected against what was found, and what to do. The fields carry the
same facts for a program. `cli/` has the only place that catches them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any


class VocabtrimError(Exception):
    """Base of all errors that a user can meet; `exit_code` is the process's."""

    exit_code = 2

    def __reduce__(self) -> tuple[Any, ...]:
        """Keep message and fields on the way from one process to another.

        An exception is rebuilt by calling its class with the message, which fits
        few of these.
        """
        return _rebuilt, (type(self), self.args, dict(vars(self)))


class CalibrationError(VocabtrimError):
    """Calibration data cannot be used as asked.

    Args:
        message: What is wrong and what to do.
        path: The file, named in front of the message.
        line: 1-based line in that file, where there is one.
    """

    def __init__(
        self, message: str, *, path: Path | str | None = None, line: int | None = None
    ) -> None:
        self.path, self.line = path, line
        where = "" if path is None else f"{path}: " if line is None else f"{path}, line {line}: "
        super().__init__(where + message)


class TokenizerError(VocabtrimError):
    """A tokenizer or its chat template cannot be read or used."""


class TokenizerMismatch(VocabtrimError):
    """Two things that must share a tokenizer do not.

    Args:
        message: Which two things.
        expected: Fingerprint of the one.
        found: Fingerprint of the other.
    """

    def __init__(self, message: str, *, expected: str, found: str) -> None:
        self.expected, self.found = expected, found
        super().__init__(f"{message} (tokenizer {expected[:19]}… against {found[:19]}…)")

    @classmethod
    def check(cls, message: str, *, expected: str | None, found: str | None) -> None:
        """Raise one if both fingerprints are known and they differ.

        Raises:
            TokenizerMismatch: They do.
        """
        if expected is not None and found is not None and expected != found:
            raise cls(message, expected=expected, found=found)


class BackendMismatch(VocabtrimError):
    """A fast tokenizer backend does not have the ids of the reference.

    Args:
        backend: The fast one and its version.
        text: What they differ on.
        found: The ids of the fast one.
        expected: Those of the `tokenizers` library.
    """

    def __init__(
        self, backend: str, text: str, *, found: Sequence[int], expected: Sequence[int]
    ) -> None:
        self.backend, self.text = backend, text
        self.found, self.expected = tuple(found), tuple(expected)
        super().__init__(
            f"{backend} encodes {_short(text)!r} as {_listed(found)} and the tokenizers library "
            f"as {_listed(expected)}, so {backend} is not used"
        )


class VocabError(VocabtrimError):
    """Ids that are no draft vocabulary, or a K that cannot be had."""


class CheckpointError(VocabtrimError):
    """A checkpoint is missing, damaged, or not what was asked for.

    Args:
        message: What is wrong and what to do.
        path: The file or directory, named in front of the message.
    """

    def __init__(self, message: str, *, path: Path | str | None = None) -> None:
        self.path = path
        super().__init__(message if path is None else f"{path}: {message}")


class ArtifactError(VocabtrimError):
    """A file of ours cannot be read as what it should be."""


class OutputExists(VocabtrimError):
    """The output is there already and may not be replaced."""

    def __init__(self, path: Path, hint: str = "give --force to replace it") -> None:
        self.path = path
        super().__init__(f"{path} exists; {hint}")


class PluginError(VocabtrimError):
    """A plug-in is unknown, asked for with wrong options, or named twice."""


class MissingExtra(VocabtrimError):
    """A part of the work needs packages that the base install does not bring."""

    def __init__(self, what: str, extra: str) -> None:
        self.extra = extra
        super().__init__(f"{what}: run `pip install vocabtrim[{extra}]`")


class DecodeError(VocabtrimError):
    """A target, drafter or prompt cannot be decoded as asked."""


class ServerError(VocabtrimError):
    """A server that is to generate cannot be asked as it was meant to be."""


class NotLossless(VocabtrimError):
    """Speculative output differs from the target's own beyond rounding."""

    exit_code = 3


class Unfinished(VocabtrimError):
    """Part of the work is done and kept; the same command does the rest."""

    exit_code = 4


class EnvironmentFailure(VocabtrimError):
    """The machine, not the input, is at fault: a full disk, a lost network."""

    exit_code = 1


def _rebuilt(
    kind: type[VocabtrimError], arguments: tuple[Any, ...], fields: dict[str, Any]
) -> VocabtrimError:
    fault = kind.__new__(kind, *arguments)
    fault.__dict__.update(fields)
    return fault


def _short(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:79]}…"


def _listed(ids: Sequence[int]) -> str:
    more = ", …" if len(ids) > 24 else ""
    return f"[{', '.join(map(str, ids[:24]))}{more}]"
