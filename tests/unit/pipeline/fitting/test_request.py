"""What a fit is asked for, as a document."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path

from vocabtrim.pipeline.fitting.request import Fit

ASKED = Fit("d", "t", ["a", "b"], "vllm", Path("out"))
NO_MATTER = {"output", "unproven", "converter"}
"""Where it is written, and what has to be there to write it."""


def test_options_are_all_that_decides_the_result() -> None:
    assert set(ASKED.options()) == {field.name for field in fields(Fit)} - NO_MATTER
    given = replace(ASKED, traces=[Path("x")], latency=Path("y"), family="mtp", tokenizer="z")
    assert json.loads(json.dumps(given.options())) == given.options()
    assert given.options()["traces"] == ["x"]


def test_documents_are_held_out_where_nothing_else_chooses() -> None:
    assert ASKED.holds_out
    assert replace(ASKED, latency=Path("l")).holds_out
    assert not replace(ASKED, top_k=64).holds_out
    assert not replace(ASKED, traces=[Path("t")]).holds_out


def test_traces_choose_the_draft_length_too() -> None:
    assert replace(ASKED, gamma=5).gammas == (5,)
    assert replace(ASKED, traces=[Path("t")]).gammas == ()
