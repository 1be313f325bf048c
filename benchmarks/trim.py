"""Trimming a large head against copying the bytes that are kept.

    python benchmarks/trim.py [--rows 128256] [--width 4096] [--kept 32768]

A drafter with a head of 128,256 × 4,096 in bfloat16 (1.05 GB, Llama 3's) is trimmed
to 32,768 rows (268 MB), and beside it, in turn, as many bytes are copied from one
file to another; both read from a warm cache and both end with the bytes on the
disk. The rows kept are the lowest half of those asked for and a random choice of
the rest, as a frequent vocabulary is. The same is done in GGUF. A round is one of
each; the table has the medians and the last line is JSON. Two minutes, 4 GB of disk.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vocabtrim.core.vocab import DraftVocab
from vocabtrim.pipeline.trim import trim
from vocabtrim.tensors.checkpoint import CHUNK_BYTES, CONFIG_FILE, WEIGHTS_FILE
from vocabtrim.tensors.gguf_model import open_gguf
from vocabtrim.tensors.gguf_writer import GgufWriter
from vocabtrim.tensors.writer import CheckpointWriter

LIMIT = 2.0
"""Times the copy that a trim may take."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=128_256, help="V")
    parser.add_argument("--width", type=int, default=4096, help="H")
    parser.add_argument("--kept", type=int, default=32_768, help="K")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--place", type=Path, help="a directory to work in")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.place) as place:
        seconds = measured(Path(place), options.rows, options.width, options.kept, options.rounds)
    return report(seconds, 2 * options.kept * options.width)


def measured(place: Path, rows: int, width: int, kept: int, rounds: int) -> dict[str, list[float]]:
    """Return the seconds of each round, by what was done in it."""
    drafters = {
        "safetensors": safetensors_drafter(place / "drafter", rows, width),
        "GGUF": gguf_drafter(place / "drafter.gguf", rows, width),
    }
    vocab = DraftVocab(chosen(rows, kept), rows)
    source = place / "bytes"
    source.write_bytes(bytes(2 * kept * width))
    seconds: dict[str, list[float]] = {}

    def timed(name: str, output: Path, work: Callable[[], object]) -> None:
        began = time.perf_counter()
        work()
        seconds.setdefault(name, []).append(time.perf_counter() - began)
        shutil.rmtree(output) if output.is_dir() else output.unlink()

    # The first round warms the cache and is not counted.
    for _ in range(rounds + 1):
        timed("copy", place / "copy", lambda: copy(source, place / "copy"))
        for name, drafter in drafters.items():
            timed(name, place / "out", lambda one=drafter: trim(one, vocab, place / "out"))
    return {name: taken[1:] for name, taken in seconds.items()}


def chosen(rows: int, kept: int) -> NDArray[np.int64]:
    """Return ids as a frequent vocabulary has them: dense at first, sparse then."""
    rest = np.random.default_rng(0).choice(
        np.arange(kept // 2, rows), kept - kept // 2, replace=False
    )
    return np.sort(np.concatenate([np.arange(kept // 2), rest]))


def copy(source: Path, output: Path) -> None:
    """Copy a file in chunks, to the disk."""
    with source.open("rb") as read, output.open("wb") as write:
        while chunk := read.read(CHUNK_BYTES):
            write.write(chunk)
        write.flush()
        os.fsync(write.fileno())


def safetensors_drafter(directory: Path, rows: int, width: int) -> Path:
    """Write an EAGLE-3 drafter that is little more than its head."""
    directory.mkdir()
    writer = CheckpointWriter()
    writer.add_array("fc.weight", np.zeros((8, 8), dtype=np.float16))
    writer.add_array("midlayer.hidden_norm.weight", np.ones(width, dtype=np.float16))
    nbytes = 2 * rows * width
    writer.add("lm_head.weight", "BF16", (rows, width), nbytes, partial(noise, nbytes))
    writer.write(directory / WEIGHTS_FILE)
    config = {
        "architectures": ["LlamaForCausalLMEagle3"],
        "draft_vocab_size": rows,
        "hidden_size": width,
        "vocab_size": rows,
    }
    (directory / CONFIG_FILE).write_text(json.dumps(config))
    return directory


def gguf_drafter(path: Path, rows: int, width: int) -> Path:
    """Write a GGUF drafter that is little more than its head."""
    import gguf

    # gguf's writer makes the metadata; a head of a gigabyte is streamed behind it.
    tiny = path.with_name("tiny.gguf")
    made = gguf.GGUFWriter(tiny, "eagle3")
    made.add_embedding_length(width)
    made.add_token_list([f"token{i}" for i in range(rows)])
    made.add_tensor("fc.weight", np.zeros((8, 8), dtype=np.float16))
    made.write_header_to_file()
    made.write_kv_data_to_file()
    made.write_tensors_to_file()
    made.close()
    model = open_gguf(tiny)
    writer = GgufWriter(model.header.alignment)
    writer.copy_entries(model.header, without=frozenset())
    for name, info in model.tensors.items():
        chunks = partial(model.weights.chunks, name)
        writer.add(name, info.dtype, info.shape, info.nbytes, chunks)
    nbytes = 2 * rows * width
    writer.add("output.weight", "BF16", (rows, width), nbytes, partial(noise, nbytes))
    writer.write(path)
    return path


def noise(nbytes: int) -> Iterator[bytes]:
    """Yield bytes that no file system can shrink."""
    block = np.random.default_rng(0).bytes(min(nbytes, CHUNK_BYTES))
    for start in range(0, nbytes, len(block)):
        yield block[: nbytes - start]


def report(seconds: dict[str, list[float]], nbytes: int) -> int:
    """Print the table and the JSON line; return 1 where a trim takes too long."""
    base = seconds["copy"]
    rounds = {
        name: [one / copied for one, copied in zip(taken, base, strict=True)]
        for name, taken in seconds.items()
    }
    print(f"{nbytes / 1e6:,.0f} MB kept      median s   MB/s   times the copy (each round)")
    for name, taken in seconds.items():
        middle = statistics.median(taken)
        each = " ".join(f"{ratio:.2f}" for ratio in rounds[name])
        print(f"{name:<18} {middle:8.3f} {nbytes / middle / 1e6:7.0f}   {each}")
    ratios = {name: statistics.median(ratio) for name, ratio in rounds.items() if name != "copy"}
    print(json.dumps({"kept_bytes": nbytes, "seconds": seconds, "times_copy": ratios}))
    return int(max(ratios.values()) >= LIMIT)


if __name__ == "__main__":
    sys.exit(main())
