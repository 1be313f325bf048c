"""What the tables derive from cycle times."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.random_models import SHAPES
from benchmarks.real_shapes_page import (
    SOURCE_TAU,
    Point,
    Table,
    ceiling,
    coverage_of,
    page,
)
from vocabtrim.core.counts import TokenCounts
from vocabtrim.core.counts_file import write_counts
from vocabtrim.core.errors import VocabtrimError

NOTHING: dict[str, Any] = {"inputs": {}, "options": {}, "facts": {}}


def point(rows: int, gamma: int, ms: float) -> Point:
    return Point("Llama-3.2-3B", "Q4_0", rows, gamma, ms, 0.01, 0.0, 1.0)


POINTS = [
    point(0, 0, 100.0),
    point(0, 0, 102.0),
    *(point(rows, 4, 200.0 + rows / 1000) for rows in (*SOURCE_TAU, 4096)),
]


def cells(lines: list[str], begins: str) -> list[list[str]]:
    rows = [line for line in lines if line.startswith(f"| {begins} |")]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


def test_a_speed_up_is_tau_over_t_with_the_sources_tau() -> None:
    table = Table("Llama-3.2-3B", "Q4_0", POINTS, {})
    lines = table.lines()
    assert table.noise == pytest.approx(0.02)
    (times, derived) = cells(lines, "32,768")
    full = 200 + 128.256
    assert times == ["32,768", "232.8", f"{full / 232.768:.2f}"]
    speedup, gain = 3.43 * 101 / 232.768, 3.43 / 3.63 * full / 232.768
    assert derived == ["32,768", "4", "3.43", f"{speedup:.2f}", f"{gain:.2f}"]
    # a K that the source has no figure for gets no speed-up
    assert len(cells(lines, "4,096")) == 1
    assert any("acceptance from the source" in line for line in lines)


def test_elsewhere_there_are_bounds_only() -> None:
    points = [Point("Other", "Q4_0", p.rows, p.gamma, p.cycle_ms, 0, 0, 1) for p in POINTS]
    bare = Table("Other", "Q4_0", points, {}).lines()
    assert not any("source" in line for line in bare)
    assert any("a bound" in line for line in bare)
    coverage = {rows: 0.9 if rows < 20_000 else 1.0 for rows in (*SOURCE_TAU, 4096)}
    counted = Table("Other", "Q4_0", points, coverage).lines()
    (_, derived) = cells(counted, "4,096")
    assert derived[2] == f"{1 + 0.9 + 0.81 + 0.729 + 0.6561:.2f}"
    (_, full) = cells(counted, "128,256")
    assert (full[2], full[4]) == ("5.00", "1.00")


def test_the_ceiling_is_a_geometric_sum() -> None:
    assert ceiling(1.0, 3) == 4.0
    assert ceiling(0.0, 3) == 1.0
    assert ceiling(0.5, 2) == 1.75


def test_coverage_is_of_the_most_frequent_ids(tmp_path: Path) -> None:
    counts = np.array([5, 0, 3, 2], dtype=np.int64)
    path = tmp_path / "c.safetensors"
    write_counts(path, TokenCounts(counts, np.minimum(counts, 1), 2, "t"), **NOTHING)
    shape = SHAPES["Qwen3-0.6B"]
    assert coverage_of(path, shape, [1, 2, 99]) == {1: 0.5, 2: 0.8, 99: 1.0}
    assert coverage_of(None, shape, [1]) == {}
    wide = np.ones(200_000, dtype=np.int64)
    write_counts(tmp_path / "w.safetensors", TokenCounts(wide, wide, 1, "t"), **NOTHING)
    with pytest.raises(VocabtrimError, match="not those of Qwen3"):
        coverage_of(tmp_path / "w.safetensors", shape, [1])


def test_the_page_says_what_it_is() -> None:
    text = page([Table("Llama-3.2-3B", "Q4_0", POINTS, {})], "1", 2, 31.4)
    assert text.startswith("# Cycle times at real shapes\n")
    assert "llama.cpp 1, 2 threads, batch 1, 31 minutes" in text
    assert text.endswith("|\n")
