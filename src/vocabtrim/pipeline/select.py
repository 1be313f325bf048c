"""`vocabtrim select`: counts and a rule to a draft vocabulary.

Loads and merges the counts, works out which ids must be kept, lets the rule
choose, and says of the result what a reader needs to trust it: how many ids
were seen at all, what the rest was filled from, and how much of the
calibration text the ids cover. That coverage is of the text that the ids were
chosen on; new text has more misses.
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
from vocabtrim.core.errors import VocabError
from vocabtrim.core.manifest import file_hash, refuse_existing
from vocabtrim.core.vocab import DraftVocab
from vocabtrim.core.vocab_file import write_vocab
from vocabtrim.rules.base import Evidence, SelectionRule


@dataclass(frozen=True)
class SelectResult:
    """What a selection came to.

    Args:
        output: The file written.
        rule: The rule with its options.
        K: Rows of the draft vocabulary.
        V: Ids of the tokenizer.
        kept: Ids that had to be kept.
        seen: Ids of the vocabulary that occur in the calibration data.
        filled_from_base: Ids taken from the base counts.
        filled_ascending: Ids taken in ascending order, having been seen nowhere.
        dropped_seen: Ids that occur in the data and are left out.
        coverage: Share of the calibration tokens covered.
        coverage_by_domain: The same for each domain.
    """

    output: str
    rule: str
    K: int
    V: int
    kept: int
    seen: int
    filled_from_base: int
    filled_ascending: int
    dropped_seen: int
    coverage: float
    coverage_by_domain: Mapping[str, float]

    @property
    def filled_share(self) -> float:
        """Share of the rows that no calibration token asked for."""
        return (self.filled_from_base + self.filled_ascending) / self.K

    def to_json(self) -> dict[str, Any]:
        """Return the document that `--json` writes."""
        return {"select": asdict(self) | {"filled_share": self.filled_share}}


def select(
    counts: Sequence[Path],
    rule: SelectionRule,
    output: Path,
    *,
    base: Path | None = None,
    weights: Mapping[str, float] | None = None,
    keep: KeepIds | None = None,
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
        force: Replace `output` if it exists.

    Raises:
        VocabError: The rule cannot be met, or a kept id does not exist.
        TokenizerMismatch: The counts come from different tokenizers.
        ArtifactError: A file is not what it should be.
        OutputExists: `output` is there and `force` is not given.
    """
    refuse_existing(output, force=force)
    merged = reduce(add, (read_counts(path)[0] for path in counts))
    broad = None if base is None else read_counts(base)[0]
    evidence = Evidence(merged, broad, weights or {})
    must_keep = (keep or KeepIds()).of(merged)
    vocab = rule.select(evidence, must_keep)
    result = _describe(vocab, evidence, must_keep, rule, output)
    inputs = {str(path): file_hash(path) for path in [*counts, *([base] if base else [])]}
    facts = {
        key: value
        for key, value in asdict(result).items()
        if key not in ("output", "rule", "K", "V")
    }
    write_vocab(
        output,
        vocab,
        inputs=inputs,
        options={"rule": repr(rule), "weights": dict(weights or {}), "keep": repr(keep)},
        facts=facts | {"filled_share": result.filled_share},
        force=force,
    )
    return result


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


def _describe(
    vocab: DraftVocab,
    evidence: Evidence,
    must_keep: NDArray[np.int64],
    rule: SelectionRule,
    output: Path,
) -> SelectResult:
    counts = evidence.counts
    unseen = np.setdiff1d(vocab.ids[counts.counts[vocab.ids] == 0], must_keep)
    from_base = 0
    if evidence.base is not None:
        from_base = int(np.count_nonzero(evidence.base.counts[unseen]))
    return SelectResult(
        output=str(output),
        rule=repr(rule),
        K=vocab.size,
        V=vocab.vocab_size,
        kept=int(must_keep.size),
        seen=int(np.count_nonzero(counts.counts[vocab.ids])),
        filled_from_base=from_base,
        filled_ascending=int(unseen.size) - from_base,
        dropped_seen=counts.n_distinct - int(np.count_nonzero(counts.counts[vocab.ids])),
        coverage=counts.coverage(vocab.ids),
        coverage_by_domain={
            name: part.coverage(vocab.ids) for name, part in counts.domains.items()
        },
    )
