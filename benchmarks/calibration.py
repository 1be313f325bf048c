"""What kind of calibration text, and how much: held-out coverage and ceilings.

    python benchmarks/calibration.py --data DIR --tokenizer T

DIR holds `chat_llama31_8b.jsonl` (answers of the target), `chat_llama32_3b.jsonl`
(another model's answers to the same prompts), `raw_math.jsonl` and
`raw_code.jsonl`; T is the tokenizer of the target. The last third of the target's
answers is held out, and so are the other model's answers to their prompts.

The first table selects K ids from each kind of text and judges them on the held-out
answers: coverage with its bootstrap interval, and the block efficiency of a perfect
drafter. The second takes 50 to 400 of the answers, estimates from their counts how
many tokens of new answers have unseen ids, and looks at all the other answers. The
last line is JSON. About a minute on one core.
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
from vocabtrim.core.errors import VocabtrimError
from vocabtrim.core.held_out import covered_tokens, held_out_coverage
from vocabtrim.core.new_text import new_text_coverage, repeated_only
from vocabtrim.core.sufficiency import unseen
from vocabtrim.pipeline.select import KeepIds
from vocabtrim.rules.base import Evidence
from vocabtrim.rules.first import First
from vocabtrim.rules.top_k import TopK
from vocabtrim.sources.base import Reading, source_of
from vocabtrim.tensors.locate import locate
from vocabtrim.tokens.chat import ChatEncoder
from vocabtrim.tokens.counting import BatchCounter
from vocabtrim.tokens.messages import Conversation
from vocabtrim.tokens.tokenizer import Tokenizer

TARGET, OTHER, RAW = "chat_llama31_8b", "chat_llama32_3b", ("raw_math", "raw_code")
ROWS = (4096, 8192, 16384, 32768, 65536)
SIZES = (50, 100, 200, 400)
GAMMA = 4
CAP = 20

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
    contents = [document.content for document in source_of(path).read(path, reading)]
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


def foresee(counter: BatchCounter, answers: Documents, size: int) -> dict[str, Any]:
    """Estimate from the first `size` answers what the others show."""
    seen, new = (counter.count(part).counts for part in (answers[:size], answers[size:]))
    found = unseen(seen)
    row = {
        "tokens": seen.n_tokens,
        "estimate": found.share,
        "error": found.error,
        "truth": _share(new, seen),
        "doubled_estimate": found.doubled,
        "doubled_truth": None,
    }
    if 3 * size <= len(answers):
        twice, rest = (
            counter.count(part).counts for part in (answers[: 2 * size], answers[2 * size :])
        )
        row["doubled_truth"] = _share(rest, twice)
    return row


def _share(new: TokenCounts, seen: TokenCounts) -> float:
    return float(new.counts[seen.counts == 0].sum() / new.n_tokens)


def sizes_table(
    tokenizer: Tokenizer, answers: Documents, splits: int, seed: int
) -> list[dict[str, Any]]:
    """Compare estimate and truth by calibration size: once in file order, then at random."""
    generator = np.random.default_rng(seed)
    orders = [
        np.arange(len(answers)),
        *(generator.permutation(len(answers)) for _ in range(splits)),
    ]
    counters = {
        "": BatchCounter(tokenizer),
        "capped_": BatchCounter(tokenizer, cap_per_document=CAP),
    }
    table = []
    for size in SIZES:
        row: dict[str, Any] = {"answers": size, "splits": splits}
        for prefix, counter in counters.items():
            found = [
                foresee(counter, [answers[place] for place in order], size) for order in orders
            ]
            row |= {f"{prefix}{key}": value for key, value in found[0].items()}
            row |= {f"{prefix}{key}": value for key, value in _over_splits(found[1:]).items()}
        table.append(row)
    return table


def _over_splits(found: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    if not found:
        return {}
    gaps = np.array([one["estimate"] - one["truth"] for one in found])
    result: dict[str, float | None] = {
        "mean_estimate": float(np.mean([one["estimate"] for one in found])),
        "mean_truth": float(np.mean([one["truth"] for one in found])),
        "rms_difference": float(np.sqrt((gaps**2).mean())),
        "worst_difference": float(np.abs(gaps).max()),
    }
    if found[0]["doubled_truth"] is not None:
        result["mean_doubled_estimate"] = float(np.mean([one["doubled_estimate"] for one in found]))
        result["mean_doubled_truth"] = float(np.mean([one["doubled_truth"] for one in found]))
    return result


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

        keys = ("estimate", "truth", "mean_estimate", "mean_truth", "rms_difference")
        more = ("worst_difference", "mean_doubled_estimate", "mean_doubled_truth")
        cells = "".join(cell(key) for key in (*keys, *more))
        return f"{row['answers']:>8}{row[f'{prefix}tokens']:>9,}{cells}"

    splits = table[0]["splits"]
    for prefix, title in (
        ("", "Tokens of new answers whose id is unseen, against calibration size"),
        ("capped_", f"The same where an id counts at most {CAP} times in an answer (loops cut)"),
    ):
        print(f"\n{title}")
        spans = (("in file order", 18), (f"{splits} random splits", 36), ("twice the data", 18))
        print(" " * 17 + "".join(f"{name:^{width}}" for name, width in spans))
        heads = ("estimate", "truth", "estimate", "truth", "rms", "worst", "foreseen", "truth")
        print(f"{'answers':>8}{'tokens':>9}" + "".join(f"{head:>9}" for head in heads))
        for row in table:
            print(line(row, prefix))


def run(data: Path, tokenizer_path: Path, splits: int, seed: int) -> dict[str, Any]:
    """Make both tables and print them."""
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
    sizes = sizes_table(tokenizer, answers, splits, seed)
    print_sizes(sizes)
    return {"calibration": {"gamma": GAMMA, "kinds": table, "sizes": sizes}}


def main() -> int:
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    parser.add_argument("--data", type=Path, default=os.environ.get("VOCABTRIM_DATA"))
    parser.add_argument("--tokenizer", required=True, help="as for `vocabtrim count`")
    parser.add_argument("--splits", type=int, default=20, help="random splits of the second table")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if options.data is None:
        parser.error("give --data DIR or set VOCABTRIM_DATA")
    try:
        found = run(options.data, locate(options.tokenizer), options.splits, options.seed)
    except (VocabtrimError, OSError) as fault:
        print(f"error: {fault}", file=sys.stderr)
        return 2
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
