"""Tracing sampled answers through the pipeline; the verb is in tests/cli/test_trace_sampled.py."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.tiny import V, tiny_eagle3
from tests.tiny_models import write_target
from vocabtrim.core.counts import TokenCounts
from vocabtrim.core.counts_file import write_counts
from vocabtrim.core.errors import TokenizerMismatch
from vocabtrim.core.manifest import file_hash
from vocabtrim.core.sampled_trace_file import read_sampled_trace
from vocabtrim.core.trace import TraceError
from vocabtrim.decode.sampling import Sampling
from vocabtrim.pipeline.pair import open_pair
from vocabtrim.pipeline.trace_sampled import trace_sampled
from vocabtrim.pipeline.traced_texts import Asking
from vocabtrim.replay.sampled_trace import SampledTracer
from vocabtrim.tokens.tokenizer import Tokenizer

WARM = {"temperature": 0.8, "top_k": None, "top_p": 0.9, "seed": 3}
NUMBERS = np.arange(V)[::-1] + 1


@pytest.fixture
def place(tmp_path: Path) -> Path:
    target = write_target(tmp_path / "target", num_hidden_layers=4)
    tiny_eagle3(tmp_path / "drafter")
    lines = [{"prompt": f"red green {one}", "domain": one} for one in ("blue", "two", "three")]
    (tmp_path / "prompts").write_text("".join(json.dumps(one) + "\n" for one in lines))
    for name, tokenizer in (("counts", Tokenizer.open(target).fingerprint), ("strange", "u")):
        counted = TokenCounts(NUMBERS, NUMBERS, V, tokenizer)
        write_counts(tmp_path / name, counted, inputs={}, options={}, facts={})
    return tmp_path


def asking(place: Path, **more: object) -> Asking:
    return Asking([place / "prompts"], place / "target", 6, "big", **{"sampling": WARM, **more})  # type: ignore[arg-type]


def test_a_trace_is_what_the_tracer_records_and_names_what_made_it(place: Path) -> None:
    result = trace_sampled(
        asking(place),
        place / "drafter",
        place / "out",
        gamma=2,
        counts=place / "counts",
        sizes=[20],
        exact=True,
    )
    found, manifest = read_sampled_trace(place / "out")
    assert {key: manifest.facts[key] for key in ("target", "drafter", "counts")} == {
        "target": "big",
        "drafter": "drafter",
        "counts": "counts",
    }
    assert manifest.options == {"gamma": 2, "max_new_tokens": 6, "raw": False, "sampling": WARM}
    assert manifest.inputs == {str(place / "counts"): file_hash(place / "counts")}
    assert found.tokenizer == Tokenizer.open(place / "target").fingerprint
    assert sorted(text.domain for text in found.texts) == ["blue", "three", "two"]
    # the more frequent an id is, the lower: so the order is that of the ids
    assert np.array_equal(found.order, np.arange(V))
    pair = open_pair(place / "target", place / "drafter")
    tracer = SampledTracer(
        pair.target,
        pair.drafter,
        sampling=Sampling(0.8, None, 0.9),
        order=np.arange(V),
        sizes=[20, V],
        max_gamma=2,
        tokenizer=pair.tokenizer,
    )
    again = tracer.trace(found.texts)
    assert np.array_equal(again.accepted, found.accepted)
    assert np.array_equal(again.overlap, found.overlap)
    assert (result.texts, result.positions, result.sizes) == (3, len(found.accepted), (20, V))
    assert result.overlap == tuple(found.acceptance_by_depth()[0])
    assert result.lines()[-1].endswith("of first drafts")


def test_greedy_answers_and_strange_counts_are_refused(place: Path) -> None:
    where = (place / "drafter", place / "out")
    with pytest.raises(TraceError, match="needs a temperature above 0"):
        trace_sampled(asking(place, sampling=None), *where, gamma=2, counts=place / "counts")
    with pytest.raises(TokenizerMismatch):
        trace_sampled(asking(place), *where, gamma=2, counts=place / "strange")
    assert not (place / "out").exists()


def test_texts_without_a_cycle_say_nothing(place: Path) -> None:
    alone = Asking([place / "prompts"], place / "target", 1, sampling=WARM)
    result = trace_sampled(
        alone, place / "drafter", place / "out", gamma=2, counts=place / "counts"
    )
    assert (result.positions, result.overlap) == (0, None)
    assert not any("first drafts" in line for line in result.lines())
