"""Lists as SGLang takes them, and targets whose head cannot be sliced by one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.clean_drafters import IDS, K, V, target, token_map
from tests.tiny import edit
from vocabtrim.families import mtp
from vocabtrim.pipeline.checks import lists
from vocabtrim.pipeline.checks.base import Finding, Severity
from vocabtrim.pipeline.checks.listed import read_listed
from vocabtrim.pipeline.checks.subject import Form, Subject
from vocabtrim.pipeline.checks.verifier import Verifier
from vocabtrim.tensors.checkpoint import Checkpoint


def looked(path: Path, verifier: Path | None = None) -> Subject:
    opened = None if verifier is None else Verifier(Checkpoint.open(verifier))
    return Subject(path, Form.LIST, listed=read_listed(path), target=opened)


def names(subject: Subject) -> list[str]:
    return [check.name for check in lists.PLUGIN if list(check.find(subject))]


def test_a_list_of_ids_is_right(tmp_path: Path) -> None:
    assert not names(looked(token_map(tmp_path / "m"), target(tmp_path / "t")))


def test_a_quantised_head_is_not_sliced(tmp_path: Path) -> None:
    verifier = target(tmp_path / "t")
    edit(verifier, add={"lm_head.weight_scale": np.ones((V, 1), np.float32)})
    assert names(looked(token_map(tmp_path / "m"), verifier)) == ["list-target-head"]


@pytest.mark.parametrize("tied", [True, False])
def test_a_tied_target_with_its_own_layers(tmp_path: Path, *, tied: bool) -> None:
    verifier = tmp_path / "t"
    mtp.PLUGIN.tiny_checkpoint(verifier, vocab_size=V, hidden=32)
    edit(verifier, config={"model_type": "qwen3_5_text", "tie_word_embeddings": tied})
    found = names(looked(token_map(tmp_path / "m"), verifier))
    assert found == (["list-target-head"] if tied else [])


def test_offsets_in_a_list_are_a_fault_and_in_a_tensor_a_form(tmp_path: Path) -> None:
    offsets = IDS - np.arange(K)
    for name, value in (("list", offsets.tolist()), ("tensor", torch.from_numpy(offsets))):
        torch.save(value, tmp_path / f"{name}.pt")
        (said,) = lists.offsets(looked(tmp_path / f"{name}.pt"))
        alone, asked = Finding.of("n", said), Finding.of("n", said, ["sglang"])
        assert alone is not None
        assert asked is not None
        assert alone.severity == (Severity.FAULT if name == "list" else Severity.NOTE)
        assert asked.severity is Severity.FAULT


def test_a_tensor_that_can_be_both_is_said_where_v_is_known(tmp_path: Path) -> None:
    torch.save(torch.arange(0, 128, 2), tmp_path / "v.pt")
    assert not list(lists.offsets(looked(tmp_path / "v.pt")))
    (said,) = lists.offsets(looked(tmp_path / "v.pt", target(tmp_path / "t")))
    assert "ids as well as offsets" in said.what


def test_eagles_cache_is_a_form_that_sglang_does_not_load(tmp_path: Path) -> None:
    mask = torch.from_numpy(np.isin(np.arange(V), IDS))
    torch.save({"d2t": torch.from_numpy(IDS - np.arange(K)), "t2d": mask}, tmp_path / "cache.pt")
    assert names(looked(tmp_path / "cache.pt")) == ["list-form"]
