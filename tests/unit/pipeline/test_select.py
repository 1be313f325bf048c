"""select: from count files to a vocabulary file that says where it came from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.tiny_tokenizer import tokenizer
from tests.traces import TOKENIZER, World
from tests.traces import V as IDS
from tests.unit.core.documents import counts_of
from vocabtrim.core.counts import SpecialIds, TokenCounts
from vocabtrim.core.counts_file import write_counts
from vocabtrim.core.errors import (
    CalibrationError,
    OutputExists,
    PluginError,
    TokenizerMismatch,
    VocabError,
)
from vocabtrim.core.manifest import Manifest
from vocabtrim.core.trace_file import write_trace
from vocabtrim.core.vocab_file import read_vocab
from vocabtrim.pipeline.enough import NOT_CHOSEN
from vocabtrim.pipeline.select import KeepIds, role_of, select
from vocabtrim.rules.acceptance import Acceptance
from vocabtrim.rules.base import Evidence
from vocabtrim.rules.first import First
from vocabtrim.rules.top_k import TopK
from vocabtrim.tokens.tokenizer import Tokenizer

V = 100


def counts_file(
    path: Path, seen: dict[int, int], *, tokenizer: str = "sha256:t", domain: str | None = None
) -> Path:
    vector = np.zeros(V, np.int64)
    for token_id, count in seen.items():
        vector[token_id] = count
    special = SpecialIds(eos=(2,), template=(3,), added=(0, 1, 2, 3, 90))
    part = TokenCounts(vector, (vector > 0).astype(np.int64), 1, tokenizer, special)
    domains = {} if domain is None else {domain: part}
    write_counts(
        path,
        TokenCounts(vector, part.documents, 1, tokenizer, special, domains),
        inputs={},
        options={},
        facts={},
    )
    return path


def test_kept_seen_and_filled_ids_are_told_apart(tmp_path: Path) -> None:
    counts = counts_file(tmp_path / "c", {50: 5, 60: 4, 70: 1, 90: 1})
    base = counts_file(tmp_path / "b", {80: 9})
    result = select([counts], TopK(8, exact=True), tmp_path / "v", base=base)
    vocab, manifest = read_vocab(tmp_path / "v")
    # EOS 2, template 3, added and seen 90; seen 50 60 70; base 80; then 4, the first ordinary id
    np.testing.assert_array_equal(vocab.ids, [2, 3, 4, 50, 60, 70, 80, 90])
    assert vocab.tokenizer == "sha256:t"
    counted = result.counted
    assert counted is not None
    assert (result.K, result.V, counted.kept, counted.seen) == (8, V, 3, 4)
    assert (counted.filled_from_base, counted.filled_ascending) == (1, 1)
    assert result.to_json()["select"]["filled_share"] == 0.25
    assert (counted.dropped_seen, counted.coverage) == (0, 1.0)
    assert manifest.facts["filled_share"] == 0.25
    assert manifest.facts["enough"] == counted.enough.verdict
    assert set(manifest.inputs) == {str(counts), str(base)}


def test_several_count_files_are_added(tmp_path: Path) -> None:
    one = counts_file(tmp_path / "1", {50: 3, 60: 2})
    two = counts_file(tmp_path / "2", {60: 2}, domain="code")
    result = select([one, two], TopK(1, exact=True), tmp_path / "v", keep=KeepIds.parse("none"))
    assert read_vocab(tmp_path / "v")[0].ids.tolist() == [60]
    assert result.counted is not None
    assert result.counted.coverage == pytest.approx(4 / 7)
    assert result.counted.coverage_by_domain == {"code": 1.0}
    assert result.counted.dropped_seen == 1


def test_weights_reach_the_rule(tmp_path: Path) -> None:
    one = counts_file(tmp_path / "1", {50: 3})
    two = counts_file(tmp_path / "2", {60: 2}, domain="code")
    rule, keep = TopK(1, exact=True), KeepIds.parse("none")
    select([one, two], rule, tmp_path / "v", weights={"code": 2.0}, keep=keep)
    assert read_vocab(tmp_path / "v")[0].ids.tolist() == [60]
    with pytest.raises(PluginError, match="no domain 'math'"):
        select([one], rule, tmp_path / "w", weights={"math": 2.0})


def test_counts_of_two_tokenizers_are_refused(tmp_path: Path) -> None:
    one = counts_file(tmp_path / "1", {50: 3})
    two = counts_file(tmp_path / "2", {50: 3}, tokenizer="sha256:u")
    with pytest.raises(TokenizerMismatch):
        select([one, two], TopK(8), tmp_path / "v")
    assert not (tmp_path / "v").exists()


def test_an_existing_output_is_refused_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "v").write_text("mine")
    with pytest.raises(OutputExists):
        select([tmp_path / "missing"], TopK(8), tmp_path / "v")


def test_selection_is_reproducible_to_the_byte(tmp_path: Path) -> None:
    counts = counts_file(tmp_path / "c", {50: 5, 60: 4})
    select([counts], TopK(8), tmp_path / "v")
    before = (tmp_path / "v").read_bytes()
    select([counts], TopK(8), tmp_path / "v", force=True)
    # the output's own name is not part of the document
    assert (tmp_path / "v").read_bytes() == before


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", KeepIds()),
        ("none", KeepIds(automatic=False)),
        ("5, 6", KeepIds(more=(5, 6))),
        ("none,5", KeepIds(automatic=False, more=(5,))),
    ],
)
def test_keep_reads_none_and_ids(text: str, expected: KeepIds) -> None:
    assert KeepIds.parse(text) == expected


def test_keep_refuses_what_is_neither(tmp_path: Path) -> None:
    with pytest.raises(VocabError, match="--keep takes `none` and ids, found 'all'"):
        KeepIds.parse("all")
    counts = counts_file(tmp_path / "c", {50: 5})
    with pytest.raises(VocabError, match="names id 100, but ids run from 0 to 99"):
        select([counts], TopK(8), tmp_path / "v", keep=KeepIds(more=(100,)))


def test_more_ids_are_kept_besides_the_automatic_ones(tmp_path: Path) -> None:
    counts = counts_file(tmp_path / "c", {50: 5})
    select([counts], TopK(3, exact=True), tmp_path / "v", keep=KeepIds.parse("77"))
    assert read_vocab(tmp_path / "v")[0].ids.tolist() == [2, 3, 77]


def test_the_rule_that_does_not_look_at_counts_is_not_judged_as_if_it_did(tmp_path: Path) -> None:
    counts = counts_file(tmp_path / "c", {50: 5, 60: 4})
    result = select([counts], First(64), tmp_path / "v")
    assert result.counted is not None
    assert result.counted.enough.verdict == NOT_CHOSEN
    chosen = select([counts], TopK(64), tmp_path / "w")
    assert chosen.counted is not None
    assert chosen.counted.enough.verdict != NOT_CHOSEN


def written(directory: Path, texts: list[str]) -> tuple[Path, Tokenizer]:
    """Counts of texts, one a document, with the tokenizer beside them."""
    opened = tokenizer(directory / "tokenizer")
    plain = counts_of([opened.encode(text) for text in texts], opened.vocab_size)
    special = SpecialIds(eos=opened.eos_ids)
    counts = TokenCounts(
        plain.counts, plain.documents, plain.n_documents, opened.fingerprint, special
    )
    write_counts(directory / "c", counts, inputs={}, options={"role": "assistant"}, facts={})
    return directory / "c", opened


def test_with_a_tokenizer_dropped_ids_have_text_and_held_out_text_is_judged(
    tmp_path: Path,
) -> None:
    counts, _ = written(tmp_path, ["then", "then an ant", "a ten"])
    held = tmp_path / "held.jsonl"
    held.write_text('{"text": "then"}\n{"text": "zzz"}\n')
    whose = tmp_path / "tokenizer"
    rule = TopK(3, exact=True)
    result = select([counts], rule, tmp_path / "v", tokenizer=whose, held_out=[held])
    assert result.counted is not None
    assert all(one.text is not None for one in result.counted.dropped)
    assert result.held_out is not None
    assert result.held_out.coverage.n_documents == 2
    assert 0 < result.held_out.coverage.share < 1
    assert result.to_json()["select"]["held_out"]["coverage"]["n_documents"] == 2
    # what speaks about a vocabulary does not change it
    before = (tmp_path / "v").read_bytes()
    select([counts], rule, tmp_path / "v", force=True)
    assert (tmp_path / "v").read_bytes() == before


def test_another_tokenizer_or_none_for_held_out_text(tmp_path: Path) -> None:
    counts, _ = written(tmp_path, ["then", "an ant"])
    tokenizer(tmp_path / "other", added=("<|im_end|>",))
    with pytest.raises(TokenizerMismatch, match="were not made with the tokenizer of"):
        select([counts], TopK(8), tmp_path / "v", tokenizer=tmp_path / "other")
    held = tmp_path / "held.jsonl"
    held.write_text('{"text": "then"}\n')
    with pytest.raises(CalibrationError, match="say with which tokenizer"):
        select([counts], TopK(8), tmp_path / "v", held_out=[held])
    assert not (tmp_path / "v").exists()


@pytest.mark.parametrize(
    ("roles", "expected"),
    [
        ([], "assistant"),
        (["user"], "user"),
        (["user", "user"], "user"),
        ([None, "all"], "all"),
        (["user", "all"], "assistant"),
        ([["all", "user"]], "assistant"),
    ],
)
def test_held_out_turns_are_those_that_were_counted(roles: list[object], expected: str) -> None:
    manifests = [Manifest("counts", V, "sha256:t", options={"role": role}) for role in roles]
    assert role_of(manifests) == expected


def test_a_rule_may_ask_for_a_trace(tmp_path: Path) -> None:
    world = World(5, texts=40)
    trace, counts = tmp_path / "trace", tmp_path / "counts"
    write_trace(trace, world.trace(), inputs={}, options={}, facts={})
    seen = np.arange(IDS) + 9  # nearly flat, so that it is the trace that tells ids apart
    counted = TokenCounts(seen, np.minimum(seen, 3), 3, TOKENIZER)
    write_counts(counts, counted, inputs={}, options={}, facts={})
    rule = Acceptance(5, exact=True, strength=0.5)
    select([counts], rule, tmp_path / "v", trace=trace)
    vocab, manifest = read_vocab(tmp_path / "v")
    expected = rule.select(Evidence(counted, trace=world.trace()), np.array([], dtype=np.int64))
    assert vocab == expected
    assert vocab != TopK(5, exact=True).select(Evidence(counted), np.array([], dtype=np.int64))
    assert str(trace) in manifest.inputs
    with pytest.raises(PluginError, match="needs a trace of the drafter"):
        select([counts], rule, tmp_path / "w")
    with pytest.raises(PluginError, match="for rules that ask for one"):
        select([counts], TopK(5), tmp_path / "w", trace=trace)
    other = counts_file(tmp_path / "other", {50: 5})
    with pytest.raises(TokenizerMismatch, match="trace and calibration counts"):
        select([other], rule, tmp_path / "w", trace=trace)
