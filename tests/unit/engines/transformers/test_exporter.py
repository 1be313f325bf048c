"""Reading back what is exported to transformers, and generating with it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.clean_drafters import IDS, LAYERS, K, V, specforge, target, trimmed_lm, whole
from tests.tiny import edit, tiny_lm
from vocabtrim.core.errors import CheckpointError
from vocabtrim.decode.model import load_model
from vocabtrim.engines import transformers as engine
from vocabtrim.engines.base import Container, Level
from vocabtrim.engines.transformers import PLUGIN, load_assistant, speculative_generate
from vocabtrim.pipeline.export import export
from vocabtrim.pipeline.open_drafter import open_drafter


def test_a_trimmed_drafter(tmp_path: Path) -> None:
    read = PLUGIN.read_back(trimmed_lm(tmp_path / "d"), Container.FLAT)
    assert read.ids is not None
    assert read.ids.tolist() == IDS.tolist()
    assert (read.rows, read.layers) == (K, None)


def test_an_eagle3_drafter(tmp_path: Path) -> None:
    path = edit(specforge(tmp_path / "d"), config={LAYERS: [2, 4, 5]})
    read = PLUGIN.read_back(path, Container.FLAT)
    assert read.ids is not None
    assert read.ids.tolist() == IDS.tolist()
    assert (read.rows, read.layers) == (K, (2, 4, 5))
    edit(path, drop=["lm_head.weight"])
    with pytest.raises(CheckpointError, match="64 ids for a head of no rows"):
        PLUGIN.read_back(path, Container.FLAT)


def test_a_whole_one_has_no_map(tmp_path: Path) -> None:
    assert PLUGIN.read_back(tiny_lm(tmp_path / "d"), Container.FLAT).ids is None
    assert PLUGIN.read_back(whole(tmp_path / "e"), Container.FLAT).ids is None


def test_a_map_of_another_length(tmp_path: Path) -> None:
    path = trimmed_lm(tmp_path / "d")
    edit(path, add={"d2t": IDS[:-1]})
    with pytest.raises(CheckpointError, match="63 ids for a head of 64 rows"):
        PLUGIN.read_back(path, Container.FLAT)


def test_generate_drafts_with_what_is_exported(tmp_path: Path) -> None:
    """What `served` stands for."""
    place = target(tmp_path / "t")
    model = load_model(place).double()
    ids = torch.tensor([[5, 9, 11, 40]])
    options = {"attention_mask": torch.ones_like(ids), "max_new_tokens": 16, "do_sample": False}
    expected = model.generate(ids, **options)
    export(trimmed_lm(tmp_path / "d"), "transformers", tmp_path / "an lm")
    assistant = load_assistant(tmp_path / "an lm").double()
    assert torch.equal(model.generate(ids, assistant_model=assistant, **options), expected)
    export(specforge(tmp_path / "s"), "transformers", tmp_path / "an eagle3")
    for name in ("an lm", "an eagle3"):
        drafter = open_drafter(tmp_path / name, model, target=str(place))
        assert drafter.head.vocab.size == K < V
        out = model.generate(
            ids,
            custom_generate=speculative_generate,
            drafter=drafter,
            gamma=3,
            return_dict_in_generate=True,
            **options,
        )
        assert torch.equal(out.sequences, expected)
        assert out.counts.n_drafted > 0


def test_both_families_are_served() -> None:
    assert {cell.family: cell.level for cell in PLUGIN.cells} == {
        "independent": Level.SERVED,
        "eagle3": Level.SERVED,
    }


def test_what_needs_torch_comes_when_it_is_asked_for() -> None:
    code = (
        "import sys; from vocabtrim.engines.transformers import PLUGIN\n"
        "assert 'torch' not in sys.modules and 'transformers' not in sys.modules\n"
        "from vocabtrim.engines.transformers import load_assistant\n"
        "assert 'torch' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(AttributeError, match="no attribute 'speculate'"):
        _ = engine.speculate
