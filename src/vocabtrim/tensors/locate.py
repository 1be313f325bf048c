"""From what a user typed to a directory with a checkpoint in it.

`T`, `M` and `D` on the command line are a directory, a GGUF file (converted once,
into the cache), a built-in name, or a name on the Hugging Face hub. A directory
of that name always comes first, so that nothing on disk is ever shadowed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from vocabtrim.core.errors import CheckpointError
from vocabtrim.core.manifest import file_hash
from vocabtrim.tensors.built_in import BUILT_IN
from vocabtrim.tensors.cache import built_once
from vocabtrim.tensors.gguf_conversion import CONVERSION, convert_gguf
from vocabtrim.tensors.gguf_file import is_gguf

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_HUB_TOKENIZER_FILES = ("*.json", "*.jinja", "*.txt", "*.model")
_HUB_FILES = (*_HUB_TOKENIZER_FILES, "*.safetensors")
_HUB_BIN_FILES = (*_HUB_TOKENIZER_FILES, "pytorch_model*.bin")


def locate_tokenizer(name: str) -> Path:
    """Return what a tokenizer is opened from; no weights are fetched for it.

    Args:
        name: As for `locate`, or a `tokenizer.json` by itself.

    Raises:
        CheckpointError: It is none of these, or the hub does not have it.
        EnvironmentFailure: As for `locate`.
    """
    path = Path(name).expanduser()
    if path.is_file() and path.suffix == ".json":
        return path
    if not path.exists() and name not in BUILT_IN and _HUB_NAME.fullmatch(name):
        return _from_hub(name, _HUB_TOKENIZER_FILES)
    return locate(name)


def locate(name: str) -> Path:
    """Return the directory of a checkpoint.

    Args:
        name: A directory, a GGUF file, a built-in name, or `org/name` on the hub.

    Raises:
        CheckpointError: It is none of these, or the hub does not have it.
        EnvironmentFailure: A built-in part could not be fetched, or the cache not
            be written.
    """
    path = Path(name).expanduser()
    if path.is_dir():
        return path
    if path.is_file():
        return _converted(path)
    if name in BUILT_IN:
        return BUILT_IN[name]()
    if _HUB_NAME.fullmatch(name):
        found = _from_hub(name, _HUB_FILES)
        # many repositories have both forms, and some older drafters the other one only
        return found if any(found.glob("*.safetensors")) else _from_hub(name, _HUB_BIN_FILES)
    raise CheckpointError(
        f"{name!r} is neither a directory, a GGUF file, a built-in name "
        f"({', '.join(BUILT_IN)}), nor a hub name (org/name)"
    )


def _converted(path: Path) -> Path:
    if not is_gguf(path):
        raise CheckpointError("it is a file but no GGUF file; give the directory", path=path)
    digest = file_hash(path).removeprefix("sha256:")[:12]
    return built_once(
        f"gguf-{path.stem}-{digest}-{CONVERSION}", lambda directory: convert_gguf(path, directory)
    )


def _from_hub(name: str, patterns: Sequence[str]) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        return Path(snapshot_download(name, allow_patterns=list(patterns)))
    except (HfHubHTTPError, HFValidationError, OSError) as fault:
        raise CheckpointError(
            f"{name} is neither a directory, a GGUF file, nor a built-in name, and the hub "
            f"could not give it ({str(fault).strip().splitlines()[0]})"
        ) from fault
