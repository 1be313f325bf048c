"""From what a user typed to a drafter and its target, in the drafter's container.

A GGUF file that llama.cpp drafts with is trimmed as the file it is, and then so
is a target that is a GGUF file taken as it is: its rows go over as they are
stored. Everything else is a checkpoint directory, found by `locate`, which
converts.
"""

from __future__ import annotations

from pathlib import Path

from vocabtrim.tensors.gguf_drafter import drafter_kind
from vocabtrim.tensors.gguf_file import is_gguf
from vocabtrim.tensors.gguf_model import open_gguf
from vocabtrim.tensors.locate import locate


def locate_pair(drafter: str, target: str | None) -> tuple[Path, Path | None]:
    """Return where a drafter and its target are.

    Args:
        drafter: A directory, a GGUF file, a built-in or hub name.
        target: The same of the target, where there is one.

    Returns:
        Two directories; or the GGUF file that the drafter is, and a GGUF file
        or a directory.

    Raises:
        CheckpointError: One is none of these, or a damaged file.
        EnvironmentFailure: A built-in part could not be fetched, or the cache not
            be written.
    """
    as_file = gguf_drafter(drafter)
    if as_file is None:
        return locate(drafter), None if target is None else locate(target)
    if target is None:
        return as_file, None
    named = Path(target).expanduser()
    return as_file, named if named.is_file() and is_gguf(named) else locate(target)


def gguf_drafter(name: str) -> Path | None:
    """Return the path of a GGUF file that llama.cpp drafts with; None for all else.

    Raises:
        CheckpointError: It is a damaged GGUF file.
    """
    path = Path(name).expanduser()
    if not path.is_file() or not is_gguf(path):
        return None
    return None if drafter_kind(open_gguf(path)) is None else path
