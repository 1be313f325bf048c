"""`vocabtrim select`: counts and a rule to a draft vocabulary.

Loads and merges the counts, works out which ids must be kept, lets the rule
choose, and says of the result what a reader needs to trust it: what the counts
tell (`appraisal.py`) and, where there is any, text that was held out
(`held_out.py`). The vocabulary depends on the counts, the rule and the kept ids
alone; the rest only speaks about it.

`select --ids` takes a list that somebody else chose: `adopt.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import reduce
from operator import add
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vocabtrim.core.counts import TokenCounts
from vocabtrim.core.counts_file import read_counts
from vocabtrim.core.errors import CalibrationError, PluginError, TokenizerMismatch, VocabError
from vocabtrim.core.manifest import Manifest, file_hash, refuse_existing
from vocabtrim.core.trace_file import read_trace
from vocabtrim.core.vocab_file import write_vocab
from vocabtrim.pipeline.appraisal import Appraisal, appraise
from vocabtrim.pipeline.held_out import HeldOutResult, judge_held_out, read_held_out
from vocabtrim.rules.base import Evidence, SelectionRule, by_counts, by_trace
from vocabtrim.tokens.tokenizer import Tokenizer

WIDTH = 18
"""Columns of the labels."""


@dataclass(frozen=True)
class SelectResult:
    """What a selection came to.

    Args:
        output: The file written.
        rule: The rule with its options, or the list that was read.
        K: Rows of the draft vocabulary.
        V: Ids of the tokenizer.
        counted: What the counts say of it; None where there are none.
        held_out: What held-out text says of it; None where there is none.
        warnings: Repairs and oddities, one sentence each.
    """

    output: str
    rule: str
    K: int
    V: int
    counted: Appraisal | None
    held_out: HeldOutResult | None
    warnings: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the document that `--json` writes."""
        document: dict[str, Any] = {
            "output": self.output,
            "rule": self.rule,
            "K": self.K,
            "V": self.V,
        }
        if self.counted is not None:
            document |= self.counted.to_json()
            document["filled_share"] = self.counted.filled / self.K
        document["held_out"] = None if self.held_out is None else asdict(self.held_out)
        return {"select": document | {"warnings": list(self.warnings)}}

    def lines(self) -> list[str]:
        """Return the result as lines for a reader."""
        return [
            f"{'draft vocabulary':<{WIDTH}}{self.K:,} of {self.V:,} ids  →  {self.output}",
            f"{'rule':<{WIDTH}}{self.rule}",
            *([] if self.counted is None else self.counted.lines(self.K, WIDTH)),
            *([] if self.held_out is None else self.held_out.lines(WIDTH)),
        ]


def select(
    counts: Sequence[Path],
    rule: SelectionRule,
    output: Path,
    *,
    base: Path | None = None,
    weights: Mapping[str, float] | None = None,
    keep: KeepIds | None = None,
    trace: Path | None = None,
    tokenizer: Path | None = None,
    held_out: Sequence[str | Path] = (),
    force: bool = False,
) -> SelectResult:
    """Choose a draft vocabulary and write it.

    Args:
        counts: Count files of one tokenizer; they are added.
        rule: How to choose.
        output: The file to make.
        base: Counts that order the fill beyond the ids seen.
        weights: Domain to factor.
        keep: Which ids must be kept; by default those of the tokenizer.
        trace: What the drafter ranks best, for rules that ask for it.
        tokenizer: The tokenizer of the counts, to show ids as text and to read
            held-out text.
        held_out: Text that was not counted, to measure coverage on.
        force: Replace `output` if it exists.

    Raises:
        VocabError: The rule cannot be met, or a kept id does not exist.
        TokenizerMismatch: Counts or tokenizer differ.
        CalibrationError: Held-out text cannot be used.
        ArtifactError: A file is not what it should be.
        OutputExists: `output` is there and `force` is not given.
    """
    refuse_existing(output, force=force)
    merged, manifests = read_merged(counts)
    broad = None if base is None else read_counts(base)[0]
    if by_trace(rule) != (trace is not None):
        raise PluginError(
            "this rule needs a trace of the drafter (--trace)"
            if trace is None
            else "a trace is for rules that ask for one, as --rule acceptance does"
        )
    traced = None if trace is None else read_trace(trace)[0]
    evidence = Evidence(merged, broad, weights or {}, traced)
    opened = None if tokenizer is None else tokenizer_of(tokenizer, merged)
    must_keep = (keep or KeepIds()).of(merged)
    vocab = rule.select(evidence, must_keep)
    counted = appraise(vocab, evidence, must_keep, chosen=by_counts(rule), tokenizer=opened)
    judged = None
    if held_out:
        text = read_held_out(
            held_out, reading_tokenizer(opened), role=role_of(manifests), counted=manifests
        )
        judged = judge_held_out(text, vocab, merged.special.eos)
    write_vocab(
        output,
        vocab,
        inputs={str(path): file_hash(path) for path in [*counts, base, trace] if path is not None},
        options={"rule": repr(rule), "weights": dict(weights or {}), "keep": repr(keep)},
        facts=counted.facts() | {"filled_share": counted.filled / vocab.size},
        force=force,
    )
    warnings = () if judged is None else judged.warnings
    return SelectResult(
        str(output), repr(rule), vocab.size, vocab.vocab_size, counted, judged, warnings
    )


@dataclass(frozen=True)
class KeepIds:
    """Which ids a selection must keep.

    Args:
        automatic: EOS ids, what the chat template emits in an assistant turn,
            and added tokens seen in calibration.
        more: Further ids.
    """

    automatic: bool = True
    more: tuple[int, ...] = ()

    @classmethod
    def parse(cls, text: str) -> KeepIds:
        """Read `none`, `ID,ID,…` (besides the automatic ones) or `none,ID,…`.

        Raises:
            VocabError: A part is neither `none` nor an id.
        """
        parts = [part.strip() for part in text.split(",") if part.strip()]
        try:
            more = tuple(int(part) for part in parts if part != "none")
        except ValueError as fault:
            raise VocabError(f"--keep takes `none` and ids, found {text!r}") from fault
        return cls("none" not in parts, more)

    def of(self, counts: TokenCounts) -> NDArray[np.int64]:
        """Return the ids to keep, ascending int64.

        Raises:
            VocabError: A further id lies outside the vocabulary.
        """
        for token_id in self.more:
            if not 0 <= token_id < counts.vocab_size:
                raise VocabError(
                    f"--keep names id {token_id}, but ids run from 0 to {counts.vocab_size - 1}"
                )
        kept = set(self.more)
        if self.automatic:
            special = counts.special
            kept |= {*special.eos, *special.template}
            kept |= {token_id for token_id in special.added if counts.counts[token_id]}
        return np.array(sorted(kept), dtype=np.int64)


def read_merged(paths: Sequence[Path]) -> tuple[TokenCounts, list[Manifest]]:
    """Read count files and return their sum and their manifests.

    Raises:
        ArtifactError: A file is not what it should be.
        TokenizerMismatch: The counts come from different tokenizers.
    """
    read = [read_counts(path) for path in paths]
    return reduce(add, (counts for counts, _ in read)), [manifest for _, manifest in read]


def tokenizer_of(path: Path, counts: TokenCounts) -> Tokenizer:
    """Open the tokenizer that the counts were made with.

    Raises:
        TokenizerError: There is none at `path`, or it is damaged.
        TokenizerMismatch: It is another.
    """
    tokenizer = Tokenizer.open(path)
    TokenizerMismatch.check(
        f"the counts were not made with the tokenizer of {path}",
        expected=counts.tokenizer,
        found=tokenizer.fingerprint,
    )
    return tokenizer


def reading_tokenizer(tokenizer: Tokenizer | None) -> Tokenizer:
    """Return the tokenizer that held-out text is read with.

    Raises:
        CalibrationError: None was named.
    """
    if tokenizer is None:
        raise CalibrationError(
            "held-out text has to be encoded; say with which tokenizer (--tokenizer T)"
        )
    return tokenizer


def role_of(manifests: Sequence[Manifest]) -> str:
    """Return whose turns were counted; the assistant's where that is not one role."""
    found = [manifest.options.get("role") for manifest in manifests]
    roles = [role for role in found if role is not None]
    agreed = bool(roles) and all(role == roles[0] for role in roles)
    return roles[0] if agreed and isinstance(roles[0], str) else "assistant"
