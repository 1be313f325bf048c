"""Counting tokens: the whole command beside the ways it is usually done.

    python benchmarks/debian_corpus.py DIR
    python benchmarks/counting.py --corpus DIR/corpus.jsonl --tokenizer T [--tokenizer demo]

(a) one `encode` per document with `Counter.update`, as FR-Spec counts, and (b)
`encode_batch_fast` with `Counter.update` are timed on the first 50 MB, without
loading the tokenizer. (c) is our reader feeding gigatoken and nothing else, a
process of its own from start to end: the limit. The command is `vocabtrim count`,
from start to end as well. (c) and the command take turns on all of the corpus,
and the fastest of each counts. Memory is the largest sum over the command's
processes, pages that they share counted once.

The command's counts of the first 50 MB are compared with those of (b), id by id;
`--verify` does only that. Exit code 1 if they differ. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from vocabtrim.core.counts_file import read_counts
from vocabtrim.core.errors import TokenizerError, VocabtrimError
from vocabtrim.sources.base import Document, Reading, source_of
from vocabtrim.sources.files import DataFile
from vocabtrim.tensors.locate import locate_tokenizer

MEGABYTE = 1_000_000
BATCH = 100
WAYS = ("batch", "single")
"""How gigatoken can be fed: batches on all cores, or text by text on one."""


@dataclass(frozen=True)
class Corpus:
    """Documents as JSONL.

    Args:
        path: The file.
        megabytes: Its size, in millions of bytes.
    """

    path: Path
    megabytes: float

    @classmethod
    def of(cls, path: Path) -> Corpus:
        """Return a file as it is."""
        return cls(path, path.stat().st_size / MEGABYTE)

    def beginning(self, megabytes: float, directory: Path) -> Corpus:
        """Return the first documents of this size, or all if there are no more."""
        if self.megabytes <= megabytes:
            return self
        path = directory / f"first-{megabytes:g}.jsonl"
        with self.path.open("rb") as stream, path.open("wb") as written:
            while written.tell() < megabytes * MEGABYTE:
                written.write(stream.readline())
        return Corpus.of(path)

    def texts(self) -> Iterator[str]:
        """Yield the text of each document."""
        with self.path.open("rb") as stream:
            for line in stream:
                yield json.loads(line)["text"]


def file_of(tokenizer: Path) -> Path:
    return tokenizer / "tokenizer.json" if tokenizer.is_dir() else tokenizer


def one_by_one(tokenizer: Tokenizer, corpus: Corpus) -> Counter[int]:
    counts = Counter[int]()
    for text in corpus.texts():
        counts.update(tokenizer.encode(text, add_special_tokens=False).ids)
    return counts


def in_batches(tokenizer: Tokenizer, corpus: Corpus) -> Counter[int]:
    counts = Counter[int]()
    texts = corpus.texts()
    while batch := list(islice(texts, BATCH)):
        for encoding in tokenizer.encode_batch_fast(batch, add_special_tokens=False):
            counts.update(encoding.ids)
    return counts


def timed(
    count: Callable[[Tokenizer, Corpus], Counter[int]], tokenizer: Tokenizer, corpus: Corpus
) -> tuple[float, Counter[int]]:
    """Return MB/s and the counts."""
    began = time.perf_counter()
    counts = count(tokenizer, corpus)
    return corpus.megabytes / (time.perf_counter() - began), counts


def feed_gigatoken(path: Path, tokenizer: Path, way: str) -> None:
    """Read and encode, and do nothing with the ids: what (c) runs in a process of its own."""
    from gigatoken import Tokenizer as Gigatoken

    encoder = Gigatoken.from_json(file_of(tokenizer).read_bytes())
    file, reading = DataFile.find(path), Reading("", 0)
    source = source_of(file)
    for block in source.blocks(file):
        texts = [
            str(found.content)
            for found in source.read(block, reading)
            if isinstance(found, Document)
        ]
        if way == "batch":
            encoder.encode_batch(texts)
        else:
            for text in texts:
                encoder.encode(text)


def run_limit(corpus: Corpus, tokenizer: Path, way: str) -> float | None:
    """Return MB/s of (c), None where gigatoken does not take the tokenizer."""
    command = [sys.executable, __file__, "--feed", way, "--corpus", corpus.path]
    began = time.perf_counter()
    done = subprocess.run(
        [*command, "--tokenizer", tokenizer], capture_output=True, text=True, check=False
    )
    return None if done.returncode else corpus.megabytes / (time.perf_counter() - began)


@dataclass(frozen=True)
class Command:
    """One run of `vocabtrim count`.

    Args:
        speed: MB/s.
        peak_mb: Most memory of all its processes, in millions of bytes.
        counts: [V] int64.
        facts: What the manifest says.
    """

    speed: float
    peak_mb: float
    counts: np.ndarray[Any, np.dtype[np.int64]]
    facts: dict[str, Any]


def run_command(corpus: Corpus, tokenizer: Path, directory: Path, backend: str) -> Command:
    """Count the corpus with the command.

    Raises:
        subprocess.CalledProcessError: It failed.
    """
    output = directory / "counts.safetensors"
    count = ["count", corpus.path, "--tokenizer", tokenizer, "-o", output, "--backend", backend]
    began = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, "-m", "vocabtrim", *count, "--quiet", "--force", "--restart"],
        stdout=subprocess.DEVNULL,
    ) as process:
        peak = [0.0]
        ended = threading.Event()
        watcher = threading.Thread(target=watch_memory, args=(process.pid, peak, ended))
        watcher.start()
        code = process.wait()
        seconds = time.perf_counter() - began
        ended.set()
        watcher.join()
    if code:
        raise subprocess.CalledProcessError(code, "vocabtrim count")
    counts, manifest = read_counts(output)
    return Command(corpus.megabytes / seconds, peak[0], counts.counts, dict(manifest.facts))


def watch_memory(process: int, peak: list[float], ended: threading.Event) -> None:
    """Keep the largest sum of a process's memory and that of all below it, where /proc tells."""
    while not ended.wait(0.25):
        total, waiting = 0.0, [process]
        while waiting:
            one = Path(f"/proc/{waiting.pop()}")
            try:
                rollup = (one / "smaps_rollup").read_text()
                children = (one / "task" / one.name / "children").read_text()
            except OSError:
                continue
            total += int(rollup.partition("\nPss:")[2].split()[0]) * 1024 / MEGABYTE
            waiting += map(int, children.split())
        peak[0] = max(peak[0], total)


def compared(counter: Counter[int], command: Command) -> int:
    """Return how many ids have other counts."""
    expected = np.zeros_like(command.counts)
    expected[list(counter)] = list(counter.values())
    return int(np.count_nonzero(expected != command.counts))


def measure(tokenizer: Path, corpus: Corpus, options: argparse.Namespace) -> dict[str, Any]:
    """Return everything that is found for one tokenizer, and print it."""
    library = Tokenizer.from_file(str(file_of(tokenizer)))
    with tempfile.TemporaryDirectory(dir=options.scratch) as temporary:
        directory = Path(temporary)
        part = corpus.beginning(options.part, directory)
        speed_b, counter = timed(in_batches, library, part)
        command = run_command(part, tokenizer, directory, options.backend)
        different = compared(counter, command)
        found: dict[str, Any] = {
            "tokenizer": str(tokenizer),
            "backend": command.facts.get("backend"),
            "part_megabytes": round(part.megabytes, 1),
            "tokens": counter.total(),
            "different_ids": different,
        }
        print(
            f"\n{tokenizer}\n  {counter.total():,} tokens in {part.megabytes:.0f} MB with "
            f"{found['backend']}: {f'{different} ids differ' if different else 'equal'}",
            flush=True,
        )
        if not options.verify:
            speed_a, _ = timed(one_by_one, library, part)
            whole = corpus.beginning(options.megabytes, directory)
            found |= {"a": speed_a, "b": speed_b}
            found |= raced(whole, tokenizer, directory, options)
            found |= ratios(found)
            show(found)
    return found


def raced(
    corpus: Corpus, tokenizer: Path, directory: Path, options: argparse.Namespace
) -> dict[str, Any]:
    """Return the best of (c) and of the command, which take turns."""
    ways = list(WAYS)
    limits = dict.fromkeys(ways, 0.0)
    commands: list[Command] = []
    for _ in range(options.repeat):
        for way in ways:
            limits[way] = max(limits[way], run_limit(corpus, tokenizer, way) or 0.0)
        commands.append(run_command(corpus, tokenizer, directory, options.backend))
        ways = [max(limits, key=limits.__getitem__)]
    return {
        "megabytes": round(corpus.megabytes, 1),
        "c": limits[ways[0]] or None,
        "c_way": ways[0],
        "command": max(one.speed for one in commands),
        "peak_mb": max(one.peak_mb for one in commands),
    }


def ratios(found: dict[str, Any]) -> dict[str, float]:
    """Return how many times as fast the command is as what it is compared with."""
    return {f"command_over_{key}": found["command"] / found[key] for key in "abc" if found[key]}


def show(found: dict[str, Any]) -> None:
    """Print speeds and ratios."""
    rows = {
        "(a) one encode per document, Counter": "a",
        "(b) encode_batch_fast, Counter": "b",
        f"(c) our reader and gigatoken alone ({found['c_way']})": "c",
    }
    print(f"  {'MB/s':>56}{'command ÷ it':>15}")
    for title, key in rows.items():
        speed, ratio = found[key] or float("nan"), found.get(f"command_over_{key}", float("nan"))
        print(f"  {title:<47}{speed:>9.2f}{ratio:>15.2f}")
    print(f"  {'vocabtrim count':<47}{found['command']:>9.2f}")
    print(f"  on {found['megabytes']:,} MB, at most {found['peak_mb']:.0f} MB of memory")


def parsed() -> argparse.Namespace:
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    parser.add_argument("--corpus", type=Path, help="JSONL with `text`; also DIR of --data")
    parser.add_argument(
        "--data",
        type=Path,
        default=os.environ.get("VOCABTRIM_DATA"),
        help="directory with a corpus.jsonl, where --corpus is not given",
    )
    parser.add_argument("--tokenizer", action="append", help="as for the command; repeatable")
    parser.add_argument("--megabytes", type=float, default=1000, help="corpus for (c), command")
    parser.add_argument("--part", type=float, default=50, help="megabytes for (a) and (b)")
    parser.add_argument("--repeat", type=int, default=3, help="turns of (c) and the command")
    parser.add_argument("--backend", default="auto", help="what the command encodes with")
    parser.add_argument("--scratch", type=Path, help="where to write; the temporary directory")
    parser.add_argument("--verify", action="store_true", help="only compare the counts")
    parser.add_argument("--feed", choices=WAYS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.corpus is None and options.data is not None:
        options.corpus = options.data / "corpus.jsonl"
    if options.corpus is None or not options.corpus.is_file():
        parser.error("give --corpus FILE; benchmarks/debian_corpus.py makes one")
    return options


def main() -> int:
    options = parsed()
    tokenizers = options.tokenizer or ["demo"]
    if options.feed:
        feed_gigatoken(options.corpus, Path(tokenizers[0]), options.feed)
        return 0
    corpus = Corpus.of(options.corpus)
    try:
        found = [measure(locate_tokenizer(name), corpus, options) for name in tokenizers]
    except (TokenizerError, VocabtrimError, OSError, subprocess.CalledProcessError) as fault:
        print(f"error: {fault}", file=sys.stderr)
        return 2
    print(json.dumps({"counting": found}))
    return 1 if any(one["different_ids"] for one in found) else 0


if __name__ == "__main__":
    raise SystemExit(main())
