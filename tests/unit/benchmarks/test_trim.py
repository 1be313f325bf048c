"""The benchmark runs as a command, on heads of a few kilobytes."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.trim import chosen, gguf_drafter, main, report, safetensors_drafter
from tests.tiny_gguf import read_gguf
from vocabtrim.tensors.checkpoint import Checkpoint


def test_it_prints_a_table_and_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sizes = ["--rows", "256", "--width", "64", "--kept", "64", "--rounds", "2"]
    monkeypatch.setattr(sys, "argv", ["trim.py", *sizes, "--place", str(tmp_path)])
    main()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:4]] == ["copy", "safetensors", "GGUF"]
    document = json.loads(lines[-1])
    assert document["kept_bytes"] == 2 * 64 * 64
    assert {name: len(taken) for name, taken in document["seconds"].items()} == {
        "copy": 2,
        "safetensors": 2,
        "GGUF": 2,
    }
    assert list(tmp_path.iterdir()) == []


def test_a_trim_that_takes_twice_the_copy_fails(capsys: pytest.CaptureFixture[str]) -> None:
    assert report({"copy": [1.0, 1.0], "safetensors": [1.5, 1.9], "GGUF": [1.9, 1.2]}, 8) == 0
    assert report({"copy": [1.0, 1.0], "safetensors": [2.5, 1.9], "GGUF": [1.9, 1.2]}, 8) == 1
    assert '"times_copy": {"safetensors": 2.2' in capsys.readouterr().out


def test_both_drafters_hold_the_same_head(tmp_path: Path) -> None:
    directory = safetensors_drafter(tmp_path / "d", 100, 64)
    head = read_gguf(gguf_drafter(tmp_path / "d.gguf", 100, 64)).data["output.weight"]
    assert np.array_equal(Checkpoint.open(directory).rows("lm_head.weight"), head)


def test_ids_are_dense_at_first_and_sparse_then() -> None:
    ids = chosen(1000, 100)
    assert ids.size == np.unique(ids).size == 100
    assert ids[:50].tolist() == list(range(50))
    assert ids[-1] > 800
