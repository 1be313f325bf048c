"""Planning on traces of drawn logits, whose every cycle can be decoded by hand."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.plans import COST, FACTS, latencies, latency, sampled, written_counts
from tests.traces import TOKENIZER, V, World
from vocabtrim.core.counts import SpecialIds, TokenCounts
from vocabtrim.core.counts_file import write_counts
from vocabtrim.core.errors import TokenizerMismatch, VocabError
from vocabtrim.core.latency import Latency
from vocabtrim.core.metrics import mbsu
from vocabtrim.core.trace import TraceError
from vocabtrim.core.trace_file import write_trace
from vocabtrim.pipeline.plan import plan_pair
from vocabtrim.replay.sampled import expected

WORLD = World(2, texts=40)


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    path = tmp_path / "trace.safetensors"
    write_trace(path, WORLD.trace(), inputs={}, options={}, facts=FACTS)
    return path


@pytest.fixture
def counts(tmp_path: Path) -> Path:
    return written_counts(tmp_path / "counts")


def test_every_point_is_decoding_over_time(trace: Path, counts: Path) -> None:
    found = plan_pair([trace], counts, latency=latencies(), sizes=[4, 9], gammas=[1, 3], exact=True)
    assert found.warnings == ()
    assert (found.target, found.drafter, found.acceptance, found.time) == (
        "big",
        "small",
        "trace",
        "latency",
    )
    points = found.choice.points
    # all rows are always there to compare with
    assert [(one.K, one.gamma) for one in points] == [
        (K, gamma) for K in (4, 9, V) for gamma in (1, 3)
    ]
    measured = latency()
    for one in points:
        decoded = WORLD.decode(np.arange(one.K), one.gamma)
        pooled = sum(decoded[1:], decoded[0])
        seconds = sum(
            int(cycles) * measured.cycle(one.K, drafts)
            for drafts, cycles in enumerate(WORLD.made(np.arange(one.K), one.gamma).sum(axis=0))
        )
        assert one.block_efficiency == pooled.block_efficiency
        assert one.tokens_per_second == pytest.approx(pooled.tokens / seconds)
        assert one.speedup == pytest.approx(pooled.tokens * measured.token() / seconds)
        tau = one.block_efficiency
        assert one.mbsu == pytest.approx(mbsu(tau, COST.c(one.K), one.gamma))
        assert one.mbsu_read == pytest.approx(mbsu(tau, COST.c_read(one.K, one.gamma), one.gamma))
        assert one.head_reads_per_cycle == one.gamma
    assert found.choice.best == max(points, key=lambda one: one.speedup)
    assert found.memory_delta_bytes == COST.memory_delta(found.choice.chosen.K)
    assert found.by_mbsu == max(points, key=lambda one: one.mbsu or 0)


def test_the_default_grid_is_all_of_the_trace(trace: Path, counts: Path) -> None:
    points = plan_pair([trace], counts, latency=latencies()).choice.points
    assert {one.gamma for one in points} == {1, 2, 3, 4}
    assert {one.K for one in points} == {V}  # 13 ids are fewer than the smallest size


@pytest.mark.parametrize(
    ("measured", "advice", "said"),
    [
        (latency(row=1e-3), "trim", "times as fast as all 13 rows at γ ="),
        (latency(row=1e-9, noise=0.3), "do not trim", "the best smaller vocabulary no more than"),
        (latency(row=1e-2, verify=0.001), "do not speculate", "the best point, K = "),
    ],
)
def test_advice_follows_the_machine(
    trace: Path, counts: Path, measured: Latency, advice: str, said: str
) -> None:
    found = plan_pair([trace], counts, latency=latencies(measured), sizes=[2, 4], exact=True)
    assert found.choice.advice == advice
    (verdict,) = [line for line in found.lines() if line.startswith(f"{advice}:")]
    assert said in verdict


def test_a_larger_batch_can_end_it(trace: Path, counts: Path) -> None:
    several = latencies(
        latency(row=1e-3),
        latency(row=1e-9, batch=4, noise=0.3),
        latency(row=1e-2, verify=0.001, batch=16),
    )
    found = plan_pair([trace], counts, latency=several, sizes=[2, 4], exact=True)
    assert [one.advice for one in found.batches] == ["trim", "do not trim", "do not speculate"]
    assert (found.trimming_stops_at, found.speculation_stops_at) == (4, 16)
    assert "trimming stops paying at batch 4 (of 1, 4, 16 measured)" in found.lines()
    document = json.loads(json.dumps(found.to_json()))["plan"]
    assert (document["trimming_stops_at"], document["speculation_stops_at"]) == (4, 16)
    always = plan_pair(
        [trace],
        counts,
        latency=latencies(latency(row=1e-3), latency(row=1e-3, batch=4)),
        sizes=[4, 8],
        exact=True,
    )
    assert always.trimming_stops_at is None
    assert "trimming pays at every batch measured (1, 4)" in always.lines()


def test_drift_to_each_domain_is_told_worst_first(trace: Path, counts: Path) -> None:
    found = plan_pair([trace], counts, latency=latencies(), sizes=[4, 8], exact=True)
    best, full, measured = found.choice.chosen, found.choice.full, latency()
    assert {one.domain for one in found.drift} == {"even", "odd"}
    assert found.drift[0].over_full <= found.drift[1].over_full
    for one in found.drift:

        def rate(K: int, gamma: int, domain: str = one.domain) -> tuple[float, float]:
            decoded = WORLD.decode(np.arange(K), gamma)
            inside = [
                count
                for text, count in zip(WORLD.texts, decoded, strict=True)
                if text.domain == domain
            ]
            pooled = sum(inside[1:], inside[0])
            members = np.array([text.domain == domain for text in WORLD.texts])
            seconds = sum(
                int(cycles) * measured.cycle(K, drafts)
                for drafts, cycles in enumerate(
                    WORLD.made(np.arange(K), gamma)[members].sum(axis=0)
                )
            )
            return pooled.tokens / seconds, pooled.tokens / pooled.cycles

        here, tau = rate(best.K, best.gamma)
        assert one.block_efficiency == pytest.approx(tau)
        assert one.full_block_efficiency == pytest.approx(rate(V, best.gamma)[1])
        assert one.over_full == pytest.approx(here / rate(full.K, full.gamma)[0])
        assert one.speedup == pytest.approx(here * measured.token())
        own = max(rate(K, gamma)[0] for K in (4, 8, V) for gamma in (1, 2, 3, 4))
        assert one.under_best == pytest.approx(here / own)
        assert one.prompts == 20
    assert found.lines()[-2].startswith(found.drift[0].domain)


@pytest.mark.parametrize("times", [0, 3])
def test_a_weight_is_so_many_texts(trace: Path, counts: Path, times: int) -> None:
    weighted = plan_pair(
        [trace], counts, latency=latencies(), sizes=[4, 8], exact=True, weights={"odd": times}
    )
    assert weighted.weights == {"odd": times}
    assert f"odd × {times}" in weighted.lines()[0]
    # the counts of these tests name no domain, so the ids are those of before
    assert any("which ids are kept does not follow" in one for one in weighted.warnings)
    measured = latency()
    for one in weighted.choice.points:
        tokens = cycles = seconds = 0.0
        decoded = WORLD.decode(np.arange(one.K), one.gamma)
        made = WORLD.made(np.arange(one.K), one.gamma)
        for text, count, drafted in zip(WORLD.texts, decoded, made, strict=True):
            for _ in range(times if text.domain == "odd" else 1):
                tokens, cycles = tokens + count.tokens, cycles + count.cycles
                seconds += sum(
                    int(n) * measured.cycle(one.K, drafts) for drafts, n in enumerate(drafted)
                )
        assert one.block_efficiency == pytest.approx(tokens / cycles)
        assert one.tokens_per_second == pytest.approx(tokens / seconds)


def test_ids_follow_the_weights_too(trace: Path, tmp_path: Path) -> None:
    falling, rising = np.arange(V)[::-1] ** 2, np.arange(V) ** 2
    parts = {
        name: TokenCounts(numbers, np.minimum(numbers, 3), 3, TOKENIZER, SpecialIds())
        for name, numbers in (("even", falling), ("odd", rising))
    }
    whole = replace(parts["even"] + parts["odd"], domains=parts)
    write_counts(tmp_path / "both", whole, inputs={}, options={}, facts={})
    found = plan_pair(
        [trace], tmp_path / "both", latency=latencies(), sizes=[4], exact=True,
        weights={"even": 0, "odd": 2},
    )  # fmt: skip
    assert found.warnings == ()
    odd = np.array([text.domain == "odd" for text in WORLD.texts])
    for one in found.choice.points:
        ids = np.arange(V)[V - one.K :]
        decoded = [
            count for count, mine in zip(WORLD.decode(ids, one.gamma), odd, strict=True) if mine
        ]
        assert one.block_efficiency == sum(decoded[1:], decoded[0]).block_efficiency


def test_weights_are_checked(trace: Path, counts: Path) -> None:
    with pytest.raises(TraceError, match="no domain 'code' to weight; the trace has: even, odd"):
        plan_pair([trace], counts, latency=latencies(), weights={"code": 2})
    with pytest.raises(TraceError, match="weight of domain odd must be 0 or more, found -1"):
        plan_pair([trace], counts, latency=latencies(), weights={"odd": -1})
    with pytest.raises(TraceError, match="weights are for the texts of a trace"):
        plan_pair([], counts, latency=latencies(), weights={"odd": 2})
    with pytest.raises(TraceError, match="all texts of the trace have weight 0"):
        plan_pair([trace], counts, latency=latencies(), weights={"odd": 0, "even": 0})


def test_parameters_instead_of_time_are_mbsu(trace: Path, counts: Path) -> None:
    found = plan_pair([trace], counts, sizes=[4, 9], gammas=[2], exact=True)
    assert found.time == "parameters"
    for one in found.choice.points:
        assert one.tokens_per_second is None
        # cycles near the end of a budget draft less, which MBSU does not know
        assert one.mbsu is not None
        assert one.mbsu <= one.speedup < one.mbsu * 1.1
    assert "parameters alone" in found.lines()[0]
    without = {"target": "big", "drafter": "small"}
    write_trace(trace, WORLD.trace(), inputs={}, options={}, facts=without, force=True)
    with pytest.raises(TraceError, match="nothing to take time from"):
        plan_pair([trace], counts)


def test_traces_are_read_together(trace: Path, counts: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    write_trace(other, World(9, texts=6).trace(), inputs={}, options={}, facts=FACTS)
    both = plan_pair([trace, other], counts, latency=latencies(), sizes=[8], exact=True)
    assert both.prompts == 46
    write_trace(other, World(9).trace(3), inputs={}, options={}, facts=FACTS, force=True)
    with pytest.raises(TraceError, match="cannot be read as one"):
        plan_pair([trace, other], counts, latency=latencies())


def test_without_a_trace_it_is_a_bound(trace: Path, counts: Path) -> None:
    found = plan_pair([], counts, latency=latencies(), sizes=[4, 8], gammas=[1, 4], exact=True)
    assert found.acceptance == "bound"
    assert any("this is a bound" in one for one in found.warnings)
    assert "at most" in found.lines()[0]
    numbers = np.arange(V)[::-1] ** 2
    # three documents, whose first tokens are no cycle's and may be outside
    for one in found.choice.points:
        outside = max(numbers[one.K :].sum() - 3, 0) / (numbers.sum() - 3)
        ceiling = one.gamma + 1 if outside == 0 else min(one.gamma + 1, 1 / outside)
        assert one.block_efficiency == pytest.approx(ceiling, rel=0.02)
    assert found.drift == ()
    assert found.memory_delta_bytes is None
    assert found.choice.advice == "undecided"
    assert found.choice.interval is None


def test_a_bound_knows_padded_and_reduced_heads(counts: Path) -> None:
    padded = latencies(V=V, cost=COST)
    assert {one.K for one in plan_pair([], counts, latency=padded, sizes=[4]).choice.points} == {V}
    reduced = latencies(V=V, cost=replace(COST, head_rows=7))
    found = plan_pair([], counts, latency=reduced, sizes=[4], exact=True)
    assert (found.head_rows, found.choice.full.K) == (7, 7)
    assert max(one.K for one in found.choice.points) == 7


def test_open_positions_are_refused_and_said(trace: Path, counts: Path) -> None:
    given = {"latency": latencies(), "sizes": [1, 2, 5], "exact": True}
    whole = plan_pair([trace], counts, **given)  # type: ignore[arg-type]
    write_trace(trace, WORLD.trace(1), inputs={}, options={}, facts=FACTS, force=True)
    found = plan_pair([trace], counts, **given)  # type: ignore[arg-type]
    (said,) = [one for one in found.warnings if "taken as refused" in one]
    assert "K = 1, 2, 5 and" in said
    pairs = list(zip(found.choice.points, whole.choice.points, strict=True))
    assert all(one.block_efficiency <= other.block_efficiency for one, other in pairs)
    assert any(one.block_efficiency < other.block_efficiency for one, other in pairs)
    # of all ids nothing is open
    assert found.choice.full == whole.choice.full


def test_what_was_not_timed_is_said(trace: Path, counts: Path) -> None:
    short = Latency(1, {8: 0.01, 9: 0.011}, {1: 0.02, 2: 0.021, 3: 0.022}, 0.0)
    found = plan_pair([trace], counts, latency=latencies(short), sizes=[4], exact=True)
    assert any("timed for K = 8 to 9" in one for one in found.warnings)
    assert any("lengths were timed for 1, 2;" in one for one in found.warnings)
    long = Latency(1, {8: 0.01, 9: 0.011}, {1: 0.02, 4: 0.022, 5: 0.023}, 0.0)
    found = plan_pair([trace], counts, latency=latencies(long), sizes=[8], gammas=[1, 4])
    assert any("lengths were timed for 3, 4;" in one for one in found.warnings)
    other = latencies(target="another")
    named = plan_pair([trace], counts, latency=other, sizes=[4], exact=True).warnings
    assert any("taken for the same pair" in one for one in named)


def test_what_cannot_be_planned_is_refused(trace: Path, counts: Path, tmp_path: Path) -> None:
    with pytest.raises(TraceError, match="14 ids"):
        plan_pair([trace], counts, latency=latencies(V=14))
    flat = latencies(Latency(1, {4: 0.01}, {1: 0.02, 2: 0.021}, 0.0))
    with pytest.raises(TraceError, match="timed for K = 4 only"):
        plan_pair([trace], counts, latency=flat)
    another = tmp_path / "another"
    write_trace(another, WORLD.trace(), inputs={}, options={}, facts=FACTS | {"drafter": "other"})
    with pytest.raises(TraceError, match=r"has drafter 'other', .* has 'small'"):
        plan_pair([trace, another], counts, latency=latencies())
    with pytest.raises(TraceError, match="1 or more, found 0"):
        plan_pair([trace], counts, latency=latencies(), gammas=[0, 1])
    with pytest.raises(TraceError, match="draft lengths 0 to 4, asked for 9"):
        plan_pair([trace], counts, latency=latencies(), gammas=[9])
    two = written_counts(tmp_path / "two", eos=(1, 2))
    with pytest.raises(VocabError, match="no room for the 2 ids"):
        plan_pair([trace], two, latency=latencies(), sizes=[1], exact=True)
    other = written_counts(tmp_path / "o", tokenizer="sha256:" + "1" * 64)
    with pytest.raises(TokenizerMismatch):
        plan_pair([trace], other, latency=latencies())


def test_sampled_texts_are_planned_in_expectation(counts: Path, tmp_path: Path) -> None:
    paths = [tmp_path / "one", tmp_path / "other"]
    traces = [sampled(path, seed) for seed, path in enumerate(paths)]
    found = plan_pair(paths, counts, latency=latencies(), gammas=[1, 3])
    assert (found.acceptance, found.prompts, found.warnings) == ("sampled trace", 12, ())
    points = {(one.K, one.gamma): one for one in found.choice.points}
    assert set(points) == {(K, gamma) for K in (9, V) for gamma in (1, 3)}
    measured = latency()
    for (K, gamma), one in points.items():
        parts = [expected(trace, [gamma])[K][0] for trace in traces]
        tokens = sum(int(part.tokens.sum()) for part in parts)
        seconds = sum(
            cycles * measured.cycle(K, drafts)
            for part in parts
            for drafts, cycles in enumerate(part.made.sum(axis=0))
        )
        assert one.tokens_per_second == pytest.approx(tokens / seconds)
        assert one.block_efficiency == pytest.approx(
            tokens / sum(part.pooled.cycles for part in parts)
        )
    weighted = plan_pair(paths, counts, latency=latencies(), gammas=[1, 3], weights={"a": 0.0})
    assert any("does not follow the weights" in said for said in weighted.warnings)
    alone = {one.domain: one for one in found.drift}["b"]
    choice = found.choice.chosen
    at = {(one.K, one.gamma): one for one in weighted.choice.points}[choice.K, choice.gamma]
    assert at.speedup == pytest.approx(alone.speedup)
