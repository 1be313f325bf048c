"""What is held out, and what is left, is exactly what counting each alone gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.calibration import put
from tests.fitting import write_traffic
from tests.tiny_tokenizer import write_tokenizer
from vocabtrim.core.counts import TokenCounts
from vocabtrim.core.counts_file import read_counts
from vocabtrim.core.errors import CalibrationError
from vocabtrim.pipeline.count import count
from vocabtrim.pipeline.counting.inputs import Inputs
from vocabtrim.pipeline.fitting import sample
from vocabtrim.pipeline.fitting.sample import hold_out
from vocabtrim.tokens.tokenizer import Tokenizer


@pytest.fixture
def tokenizer(tmp_path: Path) -> Tokenizer:
    return Tokenizer.open(write_tokenizer(tmp_path / "t"))


def counted(data: Path, directory: Path, cap: int | None = None) -> TokenCounts:
    output = directory / f"{data.name}.{cap}.safetensors"
    count([data], directory / "t", output, cap_per_document=cap, force=True)
    return read_counts(output)[0]


@pytest.mark.parametrize("cap", [None, 2])
def test_the_others_are_the_others(tmp_path: Path, tokenizer: Tokenizer, cap: int | None) -> None:
    path = write_traffic(tmp_path / "all.jsonl", documents=63)
    lines = path.read_text().splitlines(keepends=True)
    held = put(tmp_path / "held.jsonl", "".join(lines[:: sample.ONE_IN]))
    others = put(
        tmp_path / "others.jsonl",
        "".join(line for i, line in enumerate(lines) if i % sample.ONE_IN),
    )
    traffic = hold_out([path], counted(path, tmp_path, cap), tokenizer, cap_per_document=cap)
    assert traffic.others == counted(others, tmp_path, cap)
    assert traffic.n_documents == 13
    tokens = counted(held, tmp_path)
    # the first token of each is the prefill's
    assert traffic.generations.ids.size == tokens.n_tokens - 13


def test_blocks_are_taken_evenly_over_all_files(
    tmp_path: Path, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vocabtrim.sources import cutting, jsonl

    monkeypatch.setattr(jsonl, "PLUGIN", jsonl.Jsonl(sizes=cutting.Sizes(block=1000)))
    monkeypatch.setattr(sample, "MOST_BLOCKS", 4)
    first = write_traffic(tmp_path / "a.jsonl", documents=150)
    second = write_traffic(tmp_path / "b.jsonl", documents=150, seed=1)
    inputs = Inputs.find([str(first), str(second)], {})
    found = sample._blocks(inputs)
    every = list(sample._every_block(inputs))
    assert len(every) > 16
    assert 4 <= len(found) <= 8
    starts = [(block.file.name, block.start) for _, block in found]
    all_starts = [(block.file.name, block.start) for _, block in every]
    places = [all_starts.index(one) for one in starts]
    assert len(set(np.diff(places).tolist())) == 1
    assert {name for name, _ in starts} == {str(first), str(second)}


def test_few_documents_are_not_enough(tmp_path: Path, tokenizer: Tokenizer) -> None:
    path = write_traffic(tmp_path / "few.jsonl", documents=sample.FEWEST_DOCUMENTS - 1)
    with pytest.raises(CalibrationError, match=r"19 documents .* it takes 20 .*--top-k"):
        hold_out([path], counted(path, tmp_path), tokenizer)


def test_traffic_that_changed_is_noticed(tmp_path: Path, tokenizer: Tokenizer) -> None:
    path = write_traffic(tmp_path / "log.jsonl", documents=40)
    counts = counted(path, tmp_path)
    put(path, [{"text": "zzzz qqqq zzzz"} for _ in range(40)])
    with pytest.raises(CalibrationError, match="has changed since it was counted"):
        hold_out([path], counts, tokenizer)


def test_what_was_not_counted_is_not_held_out(tmp_path: Path, tokenizer: Tokenizer) -> None:
    path = write_traffic(tmp_path / "all.jsonl", documents=63)
    counts = counted(path, tmp_path)
    plain = hold_out([path], counts, tokenizer)
    (tmp_path / "out").mkdir()
    other = write_traffic(tmp_path / "out" / "other.jsonl", documents=63, seed=1)
    found = hold_out([path, other], counts, tokenizer, leave_out=(tmp_path / "out",))
    assert found.others == plain.others
    with pytest.raises(CalibrationError, match="has changed since it was counted"):
        hold_out([path, other], counts, tokenizer)
