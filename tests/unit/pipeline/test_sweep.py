from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.tiny import tiny_eagle3, tiny_lm
from tests.tiny_models import V, write_target
from vocabtrim.core.counts import TokenCounts
from vocabtrim.core.counts_file import write_counts
from vocabtrim.core.errors import OutputExists, VocabError
from vocabtrim.core.pair_cost import PairCost
from vocabtrim.core.trace import TraceError
from vocabtrim.core.trace_file import read_trace
from vocabtrim.pipeline.replay import replay_trace
from vocabtrim.pipeline.sweep import SweepResult, sweep
from vocabtrim.tokens.tokenizer import fingerprint_of

SIZES = (V, V // 2)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("sweep")
    write_target(directory / "t", num_hidden_layers=4)
    tiny_eagle3(directory / "eagle")
    tiny_lm(directory / "lm")
    tokenizer = str(fingerprint_of(directory / "t"))
    for seed, name in ((1, "target"), (2, "raw")):
        numbers = np.random.default_rng(seed).permutation(V)
        part = TokenCounts(numbers // 2, np.sign(numbers // 2), V, tokenizer)
        counted = TokenCounts(numbers, np.sign(numbers), V, tokenizer, domains={"code": part})
        write_counts(directory / name, counted, inputs={}, options={}, facts={})
    lines = [{"prompt": "red green " * n, "domain": "ab"[n % 2]} for n in range(1, 7)]
    (directory / "p").write_text("\n".join(map(json.dumps, lines)))
    return directory


def run(place: Path, output: Path, **more: object) -> SweepResult:
    given = {
        "counts": {"target": place / "target", "raw": place / "raw"},
        "usage": {"ours": place / "target"},
        "target_name": "T",
        "gamma": 2,
        "max_new_tokens": 10,
        "sizes": SIZES,
    }
    drafters = {"E": place / "eagle", "L": place / "lm"}
    return sweep([place / "p"], place / "t", drafters, output, **(given | more))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def output(place: Path) -> Path:
    run(place, place / "out")
    return place / "out"


def test_every_point_is_replayed(place: Path, output: Path) -> None:
    document = json.loads((output / "sweep.json").read_text())["sweep"]
    sizes = [V, 64] if V > 64 else [V]
    assert [(one["drafter"], one["calibration"], one["K"]) for one in document["points"]] == [
        (name, kind, K) for name in "EL" for kind in ("first", "target", "raw") for K in sizes
    ]
    for one in document["points"]:
        file = output / "traces" / f"{one['drafter']}.safetensors"
        _, manifest = read_trace(file)
        cost = PairCost.from_json(manifest.facts["cost"])
        tau = one["block_efficiency"]
        assert one["mbsu"] == pytest.approx(tau / (2 * cost.c(one["K"]) + 1))
        assert one["mbsu_read"] == pytest.approx(tau / (2 * cost.c_read(one["K"], 2) + 1))
        assert set(one["domains"]) == {"a", "b"}
        if one["calibration"] == "first":
            continue
        (again,) = replay_trace(
            file, gammas=[2], counts=place / one["calibration"], sizes=[one["K"]], exact=True
        ).runs
        assert again.block_efficiency == tau
        assert one["open"] == 0
        assert again.domains["a"] == one["domains"]["a"]["block_efficiency"]
    assert (document["target"], document["prompts"], document["gamma"]) == ("T", 6, 2)


def test_ids_never_used(place: Path, output: Path) -> None:
    (usage,) = json.loads((output / "sweep.json").read_text())["sweep"]["usage"]
    numbers = np.random.default_rng(1).permutation(V)
    assert usage["V"] == V
    assert usage["never"][""] == pytest.approx((numbers == 0).mean())
    assert usage["never"]["code"] == pytest.approx((numbers < 2).mean())
    assert usage["tokens"][""] == numbers.sum()


def test_traces_are_taken_again(place: Path, output: Path) -> None:
    before = (output / "sweep.md").read_bytes()
    with pytest.raises(OutputExists):
        run(place, output)
    # the models are not opened, for they are not where they are said to be
    again = sweep(
        [place / "p"],
        place / "t",
        {"E": place / "absent", "L": place / "absent"},
        output,
        counts={"target": place / "target", "raw": place / "raw"},
        usage={"ours": place / "target"},
        target_name="T",
        gamma=2,
        max_new_tokens=10,
        sizes=SIZES,
        force=True,
    )
    assert (output / "sweep.md").read_bytes() == before
    assert again.lines()[0].startswith("# The source's tables on T")
    with pytest.raises(TraceError, match="drafts of 2; delete it"):
        run(place, output, gamma=3, force=True)
    with pytest.raises(TraceError, match="with other prompts than are asked for now; delete it"):
        run(place, output, limit=2, force=True)
    with pytest.raises(TraceError, match="with other target and max_new_tokens than"):
        run(place, output, max_new_tokens=9, target_name="another", force=True)
    assert (output / "sweep.md").read_bytes() == before


def test_what_is_missing_is_said(place: Path, tmp_path: Path) -> None:
    with pytest.raises(TraceError, match="a drafter and a count file"):
        run(place, tmp_path, counts={})


def test_a_size_has_room_for_what_must_be_kept(place: Path, tmp_path: Path) -> None:
    from vocabtrim.core.counts import SpecialIds

    tokenizer = str(fingerprint_of(place / "t"))
    numbers = np.ones(V, dtype=np.int64)
    kept = SpecialIds(eos=tuple(range(V - 1)))
    counted = TokenCounts(numbers, numbers, V, tokenizer, kept)
    write_counts(tmp_path / "c", counted, inputs={}, options={}, facts={})
    with pytest.raises(VocabError, match=f"the {V - 1} ids that must be kept"):
        run(place, tmp_path / "o", counts={"target": tmp_path / "c"}, sizes=(1,))
