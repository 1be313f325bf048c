"""A Ray cluster counts to the bit what one process does, also when it loses a machine.

A local cluster takes half a minute to start, so what needs one is a proof.
"""

from __future__ import annotations

import gzip
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.calibration import put, put_records
from vocabtrim.core.errors import CalibrationError, MissingExtra, TokenizerError
from vocabtrim.core.manifest import read_manifest
from vocabtrim.pipeline.count import count
from vocabtrim.pipeline.counting import checkpoint as keeping
from vocabtrim.pipeline.counting import cluster as module
from vocabtrim.pipeline.counting import crew, inputs
from vocabtrim.pipeline.counting.run import Progress

WITHOUT_RAY = "Ray is not installed (pip install 'vocabtrim[ray]')"


def test_without_ray_the_extra_is_named(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.setattr(crew, "SMALL_TASKS", 0)
    with pytest.raises(MissingExtra, match=r"needs Ray: run `pip install vocabtrim\[ray\]`"):
        count(["data"], Path("t"), Path("out"), ray="local")


@pytest.fixture(scope="module")
def machines() -> Iterator[Any]:
    """A cluster of a head that counts nothing and two machines with a core each."""
    pytest.importorskip("ray", reason=WITHOUT_RAY)
    from ray.cluster_utils import Cluster as LocalCluster

    made = LocalCluster(initialize_head=True, head_node_args={"num_cpus": 0})
    made.workers = [made.add_node(num_cpus=1) for _ in range(2)]
    yield made
    made.shutdown()


def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make many small units of a little data."""
    monkeypatch.setattr(inputs, "TASK_BYTES", 20_000)
    monkeypatch.setattr(crew, "SMALL_TASKS", 0)
    monkeypatch.setattr(module, "UNITS_AT_ONCE", 1)
    monkeypatch.setattr(module, "UNITS_IN_A_WAVE", 25)


def many_files(number: int, size: int) -> None:
    Path("many").mkdir()
    for index in range(number):
        put_records(f"many/{index:03}.jsonl", size, seed=index)
    put("many/bad.jsonl", b'{"text": "a"}\n{"text": \n')
    packed = gzip.compress(put_records("plain", size).read_bytes(), mtime=0)
    put("many/packed.jsonl.gz", packed)


OPTIONS: dict[str, Any] = {
    "domains": {"third": "", "some": "*/01*"},
    "cap_per_document": 2,
    "force": True,
}


@pytest.mark.proof
def test_a_machine_is_lost_and_the_counts_are_the_same(
    place: Path, machines: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    many_files(40, 20_000)
    count(["many"], Path("t"), Path("out"), workers=1, **OPTIONS)
    whole = Path("out").read_bytes()
    small(monkeypatch)
    told: list[Progress] = []

    def lose_one(progress: Progress) -> None:
        told.append(progress)
        if len(told) == 5:
            machines.remove_node(machines.workers.pop(), allow_graceful=False)
            machines.add_node(num_cpus=1)

    count(["many"], Path("t"), Path("out"), ray=machines.address, progress=lose_one, **OPTIONS)
    assert len(told) > 20
    assert Path("out").read_bytes() == whole
    assert read_manifest(Path("out")).facts["left_out"]


@pytest.mark.proof
def test_what_a_cluster_began_any_crew_continues(
    place: Path, machines: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    many_files(20, 20_000)
    count(["many"], Path("t"), Path("out"), workers=1, **OPTIONS)
    whole = Path("out").read_bytes()
    small(monkeypatch)
    monkeypatch.setattr(keeping, "SECONDS_BETWEEN", 0)
    told: list[Progress] = []

    def stop(progress: Progress) -> None:
        told.append(progress)
        if len(told) == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        count(["many"], Path("t"), Path("out"), ray=machines.address, progress=stop, **OPTIONS)
    said: list[str] = []
    count(["many"], Path("t"), Path("out"), workers=1, notice=said.append, **OPTIONS)
    assert "continuing out.part" in said[0]
    assert Path("out").read_bytes() == whole


@pytest.mark.proof
def test_what_a_task_meets_is_raised_here(
    place: Path, machines: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    small(monkeypatch)
    with pytest.raises(TokenizerError, match="nowhere cannot be opened"):
        count(["data"], Path("nowhere"), Path("out"), ray=machines.address)
    put("text.txt", "text has no fields")
    with pytest.raises(CalibrationError, match=r"text\.txt: this is plain text"):
        count(["text.txt"], Path("t"), Path("out"), field="x", ray=machines.address)
