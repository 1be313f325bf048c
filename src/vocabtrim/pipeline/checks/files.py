"""Which of the weight files in a directory are loaded, and by whom.

transformers takes `model.safetensors` before an index; vLLM and SGLang take every
`*.safetensors` that the index names, or all of them where there is none
(`default_loader.py`, `weight_utils.py`); EAGLE's own code takes a `.bin` first
(`eagle/model/ea_model.py`). What is left over from before a trim is therefore
loaded by some, and not by others.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from vocabtrim.core.errors import CheckpointError
from vocabtrim.pipeline.checks.base import (
    ALL,
    EAGLE,
    SGLANG,
    VLLM,
    Check,
    Said,
    Severity,
    odd,
    refuses,
    said,
    slower,
    wrong,
)
from vocabtrim.pipeline.checks.subject import Form, Subject
from vocabtrim.pipeline.checks.verifier import GENERATION_CONFIG
from vocabtrim.tensors.weight_files import (
    BIN_FILE,
    BIN_INDEX_FILE,
    INDEX_FILE,
    WEIGHTS_FILE,
    read_json_object,
    weight_files,
)


def stale_index(subject: Subject) -> Iterator[Said]:
    """An index beside a single file that it does not name."""
    index, single = subject.path / INDEX_FILE, subject.path / WEIGHTS_FILE
    if not (index.is_file() and single.is_file()):
        return
    named = _named(index)
    missing = sorted(name for name in named if not (subject.path / name).is_file())
    if missing:
        effect = f"misses {missing[0]}, which the index names"
        yield said(
            f"{INDEX_FILE} names other files", refuses(VLLM, effect), refuses(SGLANG, effect)
        )
    elif WEIGHTS_FILE not in named:
        effect = f"loads the files of the index in place of {WEIGHTS_FILE}"
        yield said(f"{INDEX_FILE} names other files", wrong(VLLM, effect), wrong(SGLANG, effect))


def stray(subject: Subject) -> Iterator[Said]:
    """Further safetensors files, which no index keeps out."""
    if (subject.path / INDEX_FILE).is_file():
        return
    used = set(weight_files(subject.path))
    others = sorted(file.name for file in subject.path.glob("*.safetensors") if file not in used)
    if others:
        effect = "loads them too, and what was loaded last stays"
        yield said(
            f"beside its weights lie {', '.join(others[:3])}",
            wrong(VLLM, effect),
            wrong(SGLANG, effect),
        )


def two_formats(subject: Subject) -> Iterator[Said]:
    """A `.bin` beside safetensors."""
    used = {file.suffix for file in weight_files(subject.path)}
    beside = [name for name in (BIN_FILE, BIN_INDEX_FILE) if (subject.path / name).is_file()]
    if ".safetensors" in used and beside:
        yield said(
            f"{beside[0]} lies beside its safetensors",
            wrong(EAGLE, "reads the .bin first: wrong if it is from before a trim"),
            odd(VLLM, "reads the safetensors"),
            odd(SGLANG, "reads the safetensors"),
        )


def damaged(subject: Subject) -> Iterator[Said]:
    """A generation config that is there and is none."""
    place = subject.path / GENERATION_CONFIG
    if not place.is_file():
        return
    try:
        read_json_object(place)
    except CheckpointError as fault:
        yield said(
            f"{GENERATION_CONFIG} cannot be read ({fault})",
            slower(ALL, "may refuse it, or not know where an answer ends"),
        )


def _named(index: Path) -> set[str]:
    try:
        weight_map = read_json_object(index).get("weight_map")
    except CheckpointError:
        return set()
    return {str(file) for file in weight_map.values()} if isinstance(weight_map, dict) else set()


_WEIGHTS = frozenset({Form.CHECKPOINT})
_FAULT = Severity.FAULT

PLUGIN = (
    Check("files-stale-index", _FAULT, "an index beside one file", _WEIGHTS, stale_index),
    Check("files-stray", _FAULT, "further safetensors files", _WEIGHTS, stray),
    Check("files-damaged", Severity.LOSS, GENERATION_CONFIG, _WEIGHTS, damaged),
    Check("files-two-formats", _FAULT, "a .bin beside safetensors", _WEIGHTS, two_formats),
)
