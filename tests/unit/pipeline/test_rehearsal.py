"""A rehearsal refuses what the export would, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import pytest

from tests.clean_drafters import (
    H,
    V,
    in_bin,
    modelopt,
    safeailab,
    sharded,
    specforge,
    speculators,
    target,
    trimmed_eagle,
    trimmed_lm,
    whole,
)
from tests.tiny import edit, tiny_eagle3, tiny_lm
from vocabtrim.core.errors import CheckpointError
from vocabtrim.core.vocab import DraftVocab
from vocabtrim.engines.base import ENGINES, Cell, Container, Engine
from vocabtrim.families import eagle, mtp
from vocabtrim.pipeline.export import export
from vocabtrim.pipeline.export_engine import allowed_cell
from vocabtrim.pipeline.export_source import ExportSource, open_source
from vocabtrim.pipeline.rehearsal import rehearse
from vocabtrim.pipeline.trim import trim


def borrowing(directory: Path) -> Path:
    return tiny_eagle3(directory, vocab_size=V, hidden=H)


def whole_lm(directory: Path) -> Path:
    return tiny_lm(directory, vocab_size=V, hidden=H)


def whole_eagle(directory: Path) -> Path:
    eagle.PLUGIN.tiny_checkpoint(directory, vocab_size=V, hidden=H)
    return directory


def eagle_without_bias(directory: Path) -> Path:
    return edit(whole_eagle(directory), drop=["fc.bias"])


def with_prediction_layers(directory: Path) -> Path:
    mtp.PLUGIN.tiny_checkpoint(directory, vocab_size=V, hidden=H)
    return directory


def of_class(build: Callable[[Path], Path], name: str, kind: str) -> Callable[[Path], Path]:
    """Return a builder of the same under another class."""
    return lambda path: edit(build(path), config={"architectures": [name], "model_type": kind})


DRAFTERS = {
    "SpecForge": specforge,
    "SafeAILab": safeailab,
    "ModelOpt": modelopt,
    "speculators": speculators,
    "sharded": sharded,
    ".bin": in_bin,
    "all ids": whole,
    "borrowed": borrowing,
    "LM": whole_lm,
    "trimmed LM": trimmed_lm,
    "EAGLE": eagle_without_bias,
    "MTP": with_prediction_layers,
    "LM of no known class": of_class(whole_lm, "PhiForCausalLM", "phi"),
    "EAGLE with a bias": whole_eagle,
    "trimmed EAGLE with a bias": trimmed_eagle,
    "EAGLE of no known class": of_class(eagle_without_bias, "PhiForCausalLM", "phi"),
    "MTP of no known type": of_class(with_prediction_layers, "DeepseekV3Model", "deepseek_v3"),
}


def cells(source: ExportSource) -> list[tuple[Engine, Cell]]:
    """Return the engines that take such a drafter, with how."""
    found = []
    for engine in ENGINES.load_all().values():
        try:
            found.append((engine, allowed_cell(engine, source, unproven=True)))
        except CheckpointError:
            continue
    return [(engine, cell) for engine, cell in found if cell.container is not Container.GGUF]


def refusing(said: str, refused: bool) -> AbstractContextManager[object]:
    """Return a context in which a refusal is expected, or none is."""
    return pytest.raises(CheckpointError, match=said) if refused else nullcontext()


@pytest.mark.parametrize("name", DRAFTERS)
def test_it_refuses_what_the_export_would(tmp_path: Path, name: str) -> None:
    path, verifier = DRAFTERS[name](tmp_path / "d"), target(tmp_path / "verifier")
    family = "mtp" if name.startswith("MTP") else None
    source = open_source(path, family)
    some = DraftVocab(source.vocab.ids[:32], V)
    trim(path, some, tmp_path / "less", target=verifier, family=family)
    assert cells(source)
    for engine, cell in cells(source):
        refused = engine.name == "vllm" and ("no known" in name or "with a bias" in name)
        with refusing(f"{path}: vllm would not take it once trimmed: [^/]*$", refused):
            rehearse(engine, cell, source, verifier)
        with refusing(r"no reduced head|no place for", refused):
            export(tmp_path / "less", engine.name, tmp_path / engine.name)
