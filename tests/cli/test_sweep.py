"""`vocabtrim sweep` as a user meets it, on a tiny pair."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from tests.cli.conftest import Command
from tests.tiny import tiny_lm
from tests.tiny_models import V, write_target
from vocabtrim.core.counts import TokenCounts
from vocabtrim.core.counts_file import write_counts
from vocabtrim.tokens.tokenizer import fingerprint_of


def test_tables_are_written_and_printed(vocabtrim: Command, tmp_path: Path) -> None:
    write_target(tmp_path / "t", num_hidden_layers=4)
    tiny_lm(tmp_path / "d")
    numbers = np.arange(V) + 1
    counted = TokenCounts(numbers, numbers, V, str(fingerprint_of(tmp_path / "t")))
    write_counts(tmp_path / "c", counted, inputs={}, options={}, facts={})
    (tmp_path / "p").write_text(json.dumps({"prompt": "red green", "domain": "a"}) + "\n")
    given = (
        *("sweep", tmp_path / "p", "-t", tmp_path / "t", "-d", tmp_path / "d"),
        *("-o", tmp_path / "out", "--max-new-tokens", 8),
    )
    outcome = vocabtrim(*given, "--counts", f"raw={tmp_path / 'c'}", "--json", tmp_path / "j")
    assert outcome.code == 0, outcome.err
    assert outcome.out == (tmp_path / "out/sweep.md").read_text()
    written = json.loads((tmp_path / "out/sweep.json").read_text())
    assert json.loads((tmp_path / "j").read_text()) == written
    assert "## K (calibration: raw)" in outcome.out
    for more, said in (
        (("--counts", f"raw={tmp_path / 'c'}"), "exists"),
        (("--counts", "raw"), "--counts takes NAME=FILE"),
        (("--counts", "a=b", "--usage", "=x"), "--usage takes NAME=FILE"),
        (("--counts", "a=b", "--counts", "a=c"), "each name once"),
    ):
        refused = vocabtrim(*given, *more)
        assert (refused.code, refused.err.count("\n")) == (2, 1), refused.err
        assert said in refused.err
