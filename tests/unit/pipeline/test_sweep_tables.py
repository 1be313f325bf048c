"""The tables of a sweep from numbers that are known."""

from __future__ import annotations

from typing import Any

from vocabtrim.pipeline.sweep_tables import markdown


def point(drafter: str, kind: str, K: int, tau: float, share: float = 1.0) -> dict[str, Any]:
    domains = {
        name: {"block_efficiency": tau * factor, "mbsu": tau * factor / (1 + K / 1000)}
        for name, factor in (("math", 1.2), ("odd", share))
    }
    return {
        "drafter": drafter,
        "calibration": kind,
        "K": K,
        "block_efficiency": tau,
        "mbsu": tau / (1 + K / 1000),
        "mbsu_read": tau / (1 + K / 2000),
        "domains": domains,
        "open": 3 if K == 250 else 0,
    }


SWEEP: dict[str, Any] = {
    "target": "T",
    "V": 1000,
    "gamma": 4,
    "prompts": 12,
    "tokens": 3456,
    "points": [
        point("E", kind, K, tau, share)
        for kind, loss in (("first", 0.3), ("target", 0.1), ("raw", 0.2))
        for K, tau, share in ((1000, 2.0, 1.0), (250, 2.0 - loss, 0.8))
    ],
    "usage": [
        {"name": "ours", "V": 1000, "tokens": {"": 50, "math": 9}, "never": {"": 0.5, "math": 0.9}}
    ],
}


def rows(text: str, heading: str) -> list[list[str]]:
    part = text.partition(heading)[2].partition("\n#")[0]
    return [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in part.splitlines()
        if line.startswith("|") and not line.startswith("|---")
    ]


def test_sizes_have_the_sources_beside_them() -> None:
    found = rows(markdown(SWEEP), "## K (calibration: target)")
    assert found[1] == ["1,000", "1/1", "2.000", "1.000", "1.333", "(3.63)", "(1.70)"]
    assert found[2] == ["250", "1/4", "1.900", "1.520", "1.689", "(3.43)", "(1.95)"]
    assert len(found[0]) == len(found[1])


def test_kinds_of_calibration() -> None:
    found = rows(markdown(SWEEP), "## Calibration text, at K = 250")
    assert [row[0] for row in found[1:]] == ["first", "target", "raw"]
    assert found[2] == ["target", "1.900", "1.520", "(1.745)"]
    assert found[1][-1] == ""


def test_tasks_worst_first() -> None:
    found = rows(markdown(SWEEP), "### E")
    assert [row[0] for row in found[1:]] == ["odd", "math"]
    assert found[1][:4] == ["odd", "2.000", "1.520", "-24.0%"]
    assert found[2][-1] == "(1.640 → 1.950, +18.9%)"


def test_usage_and_what_was_left_open() -> None:
    text = markdown(SWEEP)
    assert rows(text, "## Ids never used")[1] == ["ours", "1,000", "50.0% of 50", "90.0% of 9"]
    assert "Up to 3 open positions count as refused." in text
    assert "## Ids never used" not in markdown(SWEEP | {"usage": []})


def test_every_table_has_as_many_cells_in_each_row() -> None:
    for part in markdown(SWEEP).split("\n\n"):
        if part.startswith("|"):
            assert len({line.count("|") for line in part.splitlines()}) == 1, part
