from __future__ import annotations

import pytest

from tests.benched import PROMPTS, REPEATS, TOKENS, block, everything, passing, summed
from vocabtrim.engines.serving.counters import Counted
from vocabtrim.pipeline.benching.arms import foreign_arms
from vocabtrim.pipeline.benching.rounds import Block


def test_rates_leave_prefill_out_and_ratios_are_theirs() -> None:
    runs = summed(everything()).runs
    rate = (TOKENS - 1) / 1.0
    assert [run.run.tokens_per_second for run in runs] == pytest.approx(
        [rate, rate / 1.02, rate / 2, rate / 1.6]
    )
    assert [run.run.speedup for run in runs] == pytest.approx([1, 1 / 1.02, 0.5, 1 / 1.6])
    assert runs[2].time_per_token_ms == pytest.approx(100.0)
    assert runs[2].wall_tokens_per_second == pytest.approx(TOKENS / 2.5)
    assert [run.over_base for run in runs[:3]] == [None] * 3
    assert runs[3].over_base is not None
    assert runs[3].over_base.value == pytest.approx(1.25)
    assert runs[3].run.noise == pytest.approx(0.02)


def test_acceptance_is_the_engines_of_one_repeat() -> None:
    plain, _, full, _ = summed(everything()).runs
    assert full.run.cycles == 10 * PROMPTS
    assert full.run.accepted_histogram == [12, 16, 12]
    assert full.run.block_efficiency == 2.0
    assert full.run.acceptance_rate == 0.5
    assert full.run.acceptance_by_position == [0.7, 0.3]
    assert full.run.new_tokens == TOKENS * PROMPTS
    assert full.run.mbsu == pytest.approx(2.0 / (0.2 * 2 + 1))
    assert (full.drafted, full.accepted) == (20 * PROMPTS * REPEATS, 10 * PROMPTS * REPEATS)
    assert plain.run.cycles == (TOKENS - 1) * PROMPTS
    assert plain.run.block_efficiency == 1.0
    assert plain.run.acceptance_rate is None
    assert (plain.run.V, full.run.K, full.run.memory_delta_bytes) == (96, 96, 7)
    assert plain.start_s == 2.0
    assert (plain.peak_memory_bytes, full.peak_memory_bytes) == (None, 5_000_000)


def test_domains_have_runs_of_their_own() -> None:
    run = summed(everything()).runs[2].run
    assert {name: part.prompts for name, part in run.domains.items()} == {"a": 2, "b": 1}
    assert run.domains["a"].tokens_per_second == pytest.approx(10.0)
    assert run.domains["b"].cycles == 10


def test_the_verdict_is_on_the_geometric_mean() -> None:
    (gain,) = summed(everything()).gains
    assert (gain.drafter, gain.base, gain.concurrency) == ("trimmed", "full", 1)
    assert gain.ratio.value == pytest.approx(1.25)
    assert gain.trim


def test_texts_are_compared_with_those_of_the_target_alone() -> None:
    changed = {(2, 0), (3, 0), (3, 1)}
    blocks = [
        block(one.arm, one.repeat, one.index, changed=(one.arm, one.index) in changed)
        for one in everything()
    ]
    result = summed(blocks)
    assert [run.same_text for run in result.runs] == [
        None,
        {"identical": 4, "of": 4},
        {"identical": 3, "of": 4},
        {"identical": 2, "of": 4},
    ]
    (text,) = result.texts
    assert text.different == {2: (2, 1)}
    assert not text.passed


def test_passes_are_timed_whole() -> None:
    blocks = everything() + [passing(arm, repeat) for arm in range(4) for repeat in range(REPEATS)]
    result = summed(blocks)
    assert [run.concurrency for run in result.runs] == [1] * 4 + [4] * 4
    full = result.runs[6]
    assert full.run.tokens_per_second == pytest.approx(PROMPTS * TOKENS / 2.0)
    assert full.run.batch == 4
    assert full.run.cycles == 40
    assert full.same_text is None
    assert not full.run.domains
    assert [gain.concurrency for gain in result.gains] == [1, 4]
    assert result.gains[1].ratio.value == pytest.approx(2.0 / 1.5)


def test_an_engine_without_a_clock_is_timed_from_outside() -> None:
    result = summed(everything(clock=False))
    assert result.runs[0].run.tokens_per_second == pytest.approx(TOKENS / 1.5)
    assert "by our clock, prefill included" in result.warnings[0]
    assert not summed(everything()).warnings


def test_a_server_of_others_is_measured_without_claims() -> None:
    blocks = [
        Block(arm, r, p, 1, block(2, r, p).answers, 2.5, Counted(TOKENS, 10, 20, 10, (7, 3)))
        for arm in (0, 1)
        for r in range(REPEATS)
        for p in range(PROMPTS)
    ]
    result = summed(blocks, foreign_arms("theirs"))
    run = result.runs[0].run
    assert (run.V, run.K, run.target_params, run.c, run.mbsu) == (None,) * 5
    assert (run.gamma, run.block_efficiency, run.accepted_histogram) == (2, 2.0, [12, 16, 12])
    assert result.runs[0].run.noise == 0.0
    assert not result.gains
    assert not result.texts


def test_unknown_counts_are_null_and_not_zero() -> None:
    blocks = [
        Block(one.arm, one.repeat, one.index, 1, one.answers, one.wall_s) for one in everything()
    ]
    run = summed(blocks).runs[2]
    assert (run.run.cycles, run.run.block_efficiency, run.run.acceptance_rate) == (None,) * 3
    assert (run.run.accepted_histogram, run.drafted) == (None, None)
    assert run.run.tokens_per_second is not None
