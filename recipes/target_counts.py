"""How the counts that ship with the package were made.

    python recipes/target_counts.py PROMPTS.jsonl… [--work DIR]

Lets the demo target answer prompts greedily (resumable: run it again after an
interruption), counts the ids it wrote, and packs the count file into
`src/vocabtrim/demo/counts.safetensors.gz`. The shipped file is of the prompts
that `recipes/prepare_prompts.py` takes from code, math and chat instructions;
none of the package's own prompts is among them, so the demo chooses K and
evaluates on prompts whose answers were never counted. It prints the figures that
the demo's documentation quotes; the last line is JSON.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import json
from importlib.resources import files
from pathlib import Path

from vocabtrim.core.counts_file import read_counts
from vocabtrim.pipeline.count import count
from vocabtrim.pipeline.generate import generate
from vocabtrim.tensors.cache import cache_directory
from vocabtrim.tensors.locate import locate

AT_LEAST = 200_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("prompts", nargs="+", type=Path)
    parser.add_argument("--work", type=Path, default=cache_directory() / "training")
    parser.add_argument("--max-new-tokens", type=int, default=160)
    parser.add_argument("--batch-size", type=int, default=64)
    options = parser.parse_args()
    options.work = options.work.resolve()
    options.work.mkdir(parents=True, exist_ok=True)
    target, answers = locate("demo"), options.work / "answers-greedy.jsonl"
    if not answers.exists():
        generate(
            options.prompts,
            target,
            answers,
            max_new_tokens=options.max_new_tokens,
            model="demo",
            batch_size=options.batch_size,
            progress=lambda done, total: print(f"{done} of {total} answers", flush=True),
        )
    place = options.work / "counts-greedy.safetensors"
    with contextlib.chdir(options.work):  # the manifest names its input without its directory
        count([answers.name], target, place, force=True)
    counts, _ = read_counts(place)
    if counts.n_tokens < AT_LEAST:
        raise SystemExit(f"only {counts.n_tokens:,} tokens were generated; give more prompts")
    packed = gzip.compress(place.read_bytes(), compresslevel=9, mtime=0)
    shipped = Path(str(files("vocabtrim.demo").joinpath("counts.safetensors.gz")))
    shipped.write_bytes(packed)
    print(
        json.dumps(
            {
                "answers": counts.n_documents,
                "tokens": counts.n_tokens,
                "distinct_ids": counts.n_distinct,
                "packed_bytes": len(packed),
            }
        )
    )


if __name__ == "__main__":
    main()
