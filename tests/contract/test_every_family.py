"""What every drafter family must do, the built-in ones and those of third parties."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests import reference_forward
from tests.tiny import H, V, as_bin, edit, numbers, raw_tensors, tiny_target
from vocabtrim.core.errors import CheckpointError, DecodeError
from vocabtrim.core.vocab import DraftVocab
from vocabtrim.families.base import FAMILIES, DrafterFamily, family_of, known_families
from vocabtrim.pipeline.trim import ID_LIST_FILE, trim
from vocabtrim.pipeline.trim_result import TrimResult
from vocabtrim.tensors.checkpoint import Checkpoint

PART = DraftVocab(np.arange(1, V, 2), V)


@pytest.fixture(params=FAMILIES.names())
def family(request: pytest.FixtureRequest) -> DrafterFamily:
    found: DrafterFamily = FAMILIES.load(request.param)
    assert found.name == request.param
    return found


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tiny_target(tmp_path / "target")


@pytest.fixture
def drafter(tmp_path: Path, family: DrafterFamily) -> Path:
    family.tiny_checkpoint(tmp_path / "drafter", vocab_size=V, hidden=H, seed=7)
    return tmp_path / "drafter"


def test_its_summary_is_one_line(family: DrafterFamily) -> None:
    assert family.summary
    assert "\n" not in family.summary
    assert len(family.summary) < 100


def cut(
    family: DrafterFamily, drafter: Path, vocab: DraftVocab, output: Path, target: Path | None
) -> TrimResult:
    return trim(drafter, vocab, output, target=target, family=family.name)


def test_it_recognises_its_own_drafters(family: DrafterFamily, drafter: Path) -> None:
    opened = Checkpoint.open(drafter)
    others = {one.name for one in known_families(opened)} - {family.name}
    assert family_of(opened, family.name).name == family.name
    # a target with prediction layers is an ordinary LM too; nothing else is two things
    assert others == ({"independent"} if family.sidecar else set())
    if others:
        with pytest.raises(CheckpointError, match="say with --family which is meant"):
            family_of(opened)


def test_what_is_not_decoded_here_says_so(
    family: DrafterFamily, drafter: Path, target: Path
) -> None:
    pytest.importorskip("torch")
    if family.decoded:
        pytest.skip(f"{family.name} is decoded here")
    with pytest.raises(DecodeError, match="not decoded here"):
        family.load_drafter(Checkpoint.open(drafter), Checkpoint.open(target), None, None)


def test_a_tiny_drafter_follows_its_seed(
    family: DrafterFamily, drafter: Path, tmp_path: Path
) -> None:
    for name, seed in (("same", 7), ("other", 8)):
        family.tiny_checkpoint(tmp_path / name, vocab_size=V, hidden=H, seed=seed)
    assert raw_tensors(tmp_path / "same") == raw_tensors(drafter)
    assert raw_tensors(tmp_path / "other") != raw_tensors(drafter)


def test_an_untrimmed_drafter_drafts_over_every_id(
    family: DrafterFamily, drafter: Path, target: Path
) -> None:
    head = family.head(Checkpoint.open(drafter), Checkpoint.open(target))
    assert family.vocab_size(Checkpoint.open(drafter)) == V
    assert head.held.is_full
    assert head.weight.shape == (V, H)


def test_only_a_drafter_that_needs_the_target_asks_for_it(
    family: DrafterFamily, drafter: Path, target: Path
) -> None:
    opened = Checkpoint.open(drafter)
    head = family.head(opened, Checkpoint.open(target))
    assert family.needs_target(opened) == head.origin.of_target


CONTAINERS: dict[str, Callable[[Path], object]] = {
    "safetensors": lambda directory: directory,
    "safetensors in shards": lambda directory: edit(directory, shards=3),
    "bin": as_bin,
    "bin in shards": lambda directory: as_bin(directory, shards=3),
}


@pytest.mark.parametrize("container", CONTAINERS)
def test_kept_rows_are_byte_equal_from_every_container(
    family: DrafterFamily, drafter: Path, target: Path, tmp_path: Path, container: str
) -> None:
    pytest.importorskip("torch")
    head = family.head(Checkpoint.open(drafter), Checkpoint.open(target))
    holder = drafter if head.checkpoint.path == drafter else target
    matrix = numbers(raw_tensors(holder)[head.weight.name])
    for directory in (drafter, target):
        CONTAINERS[container](directory)
    result = cut(family, drafter, PART, tmp_path / "out", target)
    assert not list((tmp_path / "out").glob("*.bin*"))
    rows = numbers(raw_tensors(tmp_path / "out")["lm_head.weight"])
    assert rows.tobytes() == matrix[PART.ids].tobytes()
    assert PART.size == result.K


def test_a_whole_pass_gives_kept_ids_the_same_logits(
    family: DrafterFamily, drafter: Path, target: Path, tmp_path: Path
) -> None:
    if family.name not in reference_forward.STATES:
        pytest.skip(f"there is no reference pass of {family.name}")
    whole = drafter if family.sidecar else target
    cut(family, drafter, PART, tmp_path / "out", target)
    ids, full = reference_forward.logits(family.name, drafter, whole)
    assert np.array_equal(ids, np.arange(V))
    kept, trimmed = reference_forward.logits(family.name, tmp_path / "out", whole)
    assert np.array_equal(kept, PART.ids)
    assert np.array_equal(trimmed, full[:, PART.ids])
    single = [
        reference_forward.logits(family.name, place, whole, single=True)[1]
        for place in (drafter, tmp_path / "out")
    ]
    np.testing.assert_allclose(single[1], single[0][:, PART.ids], rtol=1e-5, atol=1e-6)
    assert len(np.unique(full)) == full.size


def test_trimming_reads_fewer_bytes_and_keeps_the_rest(
    family: DrafterFamily, drafter: Path, target: Path, tmp_path: Path
) -> None:
    source, verifier = Checkpoint.open(drafter), Checkpoint.open(target)
    before, head = family.cost(source, verifier), family.head(source, verifier)
    cut(family, drafter, PART, tmp_path / "out", target)
    out = Checkpoint.open(tmp_path / "out")
    after = family.cost(out, verifier)
    # what was trimmed is one thing only, also where the drafter was several
    assert family_of(out).name == family.name
    assert family.head(out, None).held == PART
    assert out.config["vocab_size"] == V
    row = head.weight.nbytes // V
    assert before.step_bytes - after.step_bytes == (V - PART.size) * row
    assert before.params - after.params == (V - PART.size) * H
    kept = head.checkpoint.rows(head.weight.name)[PART.ids]
    assert out.rows("lm_head.weight").tobytes() == kept.tobytes()
    written, original = raw_tensors(out.path), raw_tensors(drafter)
    if family.sidecar:
        assert written.keys() == {"lm_head.weight", "d2t", "t2d"}
        return
    rest = original.keys() - {"lm_head.weight"}
    assert {name: written[name] for name in rest} == {name: original[name] for name in rest}
    assert written.keys() - rest == {"lm_head.weight", "d2t", "t2d"}


def test_an_engine_that_takes_a_list_of_ids_finds_one(
    family: DrafterFamily, drafter: Path, target: Path, tmp_path: Path
) -> None:
    cut(family, drafter, PART, tmp_path / "out", target)
    listed = tmp_path / "out" / ID_LIST_FILE
    assert listed.is_file() is family.token_map
    if family.token_map:
        assert json.loads(listed.read_text())["ids"] == PART.ids.tolist()


def test_all_ids_are_either_kept_as_they_were_or_refused(
    family: DrafterFamily, drafter: Path, target: Path, tmp_path: Path
) -> None:
    everything = DraftVocab.full(V)
    if family.sidecar:
        with pytest.raises(CheckpointError, match="there is nothing to write beside it"):
            cut(family, drafter, everything, tmp_path / "out", target)
        return
    cut(family, drafter, everything, tmp_path / "out", target)
    assert raw_tensors(tmp_path / "out") == raw_tensors(drafter)


def test_a_trimmed_drafter_is_trimmed_again_and_grows_no_ids(
    family: DrafterFamily, drafter: Path, target: Path, tmp_path: Path
) -> None:
    cut(family, drafter, PART, tmp_path / "once", target)
    less = DraftVocab(PART.ids[::2], V)
    trim(tmp_path / "once", less, tmp_path / "twice")
    cut(family, drafter, less, tmp_path / "direct", target)
    assert raw_tensors(tmp_path / "twice") == raw_tensors(tmp_path / "direct")
    assert (tmp_path / "twice/config.json").read_text() == (
        tmp_path / "direct/config.json"
    ).read_text()
