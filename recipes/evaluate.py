"""Block efficiency of a drafter by domain, with intervals over prompts.

    python -m recipes.evaluate DRAFTER --prompts heldout.jsonl --json result.json
    python -m recipes.evaluate DRAFTER --generated self.jsonl --counts counts.safetensors

Greedy, chain drafts, float32, the drafter's whole vocabulary. With `--prompts`
the package's own decoder decodes them; without any file, those of
`evaluation_prompts.jsonl`: ten of each of the thirteen kinds that Spec-Bench has,
written for this. With `--generated` nothing is decoded: the target's own greedy
text is walked through (`training/acceptance.py`), which is fast, and only its
held-out prompts are used. With `--counts`, of other text of the target, either way
also tells by depth how much the drafter says outside of the most frequent ids, and
how well.

A base model repeats itself when it is greedy. `--temperature` decodes sampled text
instead; `--without-repeats 8` leaves out tokens in runs of eight that the text had.

Intervals are percentiles of a bootstrap over prompts, 95 %.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from functools import reduce
from importlib.resources import as_file, files
from operator import add
from pathlib import Path
from typing import Any

import numpy as np
import torch

from recipes.training.acceptance import Heard, depths, listen, repeated, walk
from recipes.training.corpus import Document, read_documents, split
from recipes.training.eagle3 import FEATURES, Eagle3, Eagle3Task
from recipes.training.lm import LmTask, ShortModel
from recipes.training.state import WEIGHTS_FILE
from recipes.training.task import Task
from recipes.training.teacher import Teacher
from vocabtrim.core.counts_file import read_counts
from vocabtrim.core.errors import CalibrationError, VocabtrimError
from vocabtrim.core.manifest import atomic_file
from vocabtrim.core.metrics import AcceptCounts, block_efficiency_interval
from vocabtrim.decode.chain import speculate
from vocabtrim.decode.model import eos_ids
from vocabtrim.decode.sampling import Sampling
from vocabtrim.decode.target import Target
from vocabtrim.families.base import family_of
from vocabtrim.tensors.causal import EMBEDDING_NAMES
from vocabtrim.tensors.checkpoint import Checkpoint
from vocabtrim.tensors.locate import locate
from vocabtrim.tensors.writer import CheckpointWriter
from vocabtrim.tokens.prompts import PromptEncoder, read_prompts

FREQUENT = 4096
"""Ids that are called frequent."""


def open_task(drafter: Path, target: Path, steps: int) -> Task:
    """Open a drafter of either recipe, to draft `steps` tokens."""
    checkpoint, device = Checkpoint.open(drafter), torch.device("cpu")
    if FEATURES in checkpoint.config:
        teacher = Teacher(
            target, layers=checkpoint.config[FEATURES], dtype="float32", device=device
        )
        return Eagle3Task(Eagle3.open(drafter), teacher, steps)
    teacher = Teacher(target, dtype="float32", device=device)
    module = ShortModel(teacher, range(checkpoint.config["num_hidden_layers"]))
    module.load(drafter)
    return LmTask(module, teacher)


def decoded(
    drafter: Path, target: Path, task: Task, prompts: Sequence[Path], arguments: argparse.Namespace
) -> tuple[list[Document], list[AcceptCounts]]:
    """Decode prompts with the package's decoder.

    Returns:
        The texts, and the cycles of each.
    """
    encoder = PromptEncoder(target)
    chosen = read_prompts(prompts)[: arguments.limit]
    with tempfile.TemporaryDirectory() as place:
        opened = Checkpoint.open(completed(drafter, target, Path(place)))
        family = family_of(opened)
        proposer = family.load_drafter(opened, Checkpoint.open(target), task.teacher.model, None)
        verifier = Target(task.teacher.model, proposer.feature_layers)
        texts, counts = [], []
        for number, prompt in enumerate(chosen, 1):
            asked = encoder.encode(prompt)
            generation = speculate(
                verifier,
                proposer,
                asked.tolist(),
                gamma=arguments.gamma,
                max_new_tokens=arguments.max_new_tokens,
                sampling=Sampling(temperature=arguments.temperature, seed=arguments.seed),
                key=prompt.id,
            )
            tokens = np.concatenate([asked, generation.token_ids]).astype(np.int32)
            learnt = np.arange(len(tokens)) >= len(asked)
            texts.append(Document(tokens, learnt, prompt.id, prompt.domain))
            counts.append(generation.counts)
            _say(f"{number}/{len(chosen)} {prompt.id}: {generation.counts.block_efficiency}")
    return texts, counts


def _walked(
    task: Task, texts: Sequence[Document], heard: Sequence[Heard], arguments: argparse.Namespace
) -> list[AcceptCounts]:
    """Return the cycles of greedy texts, without what they repeat where that is asked for."""
    length, ends = arguments.without_repeats, eos_ids(task.teacher.model)
    return [
        walk(
            text,
            one,
            gamma=arguments.gamma,
            eos_ids=ends,
            left_out=repeated(text.tokens, length) if length else None,
        )
        for text, one in zip(texts, heard, strict=True)
    ]


def held_out(file: Path, target: Path, arguments: argparse.Namespace) -> list[Document]:
    """Return the texts of a generated file whose prompts no training run has seen."""
    documents = read_documents(file, target, row_tokens=arguments.row_tokens)
    _, held = split(documents, heldout_share=arguments.heldout_share)
    if not held:
        raise CalibrationError("no prompt of it is held out", path=file)
    return held[: arguments.limit]


def summary(
    texts: Sequence[Document], counts: Sequence[AcceptCounts], generator: np.random.Generator
) -> dict[str, Any]:
    """Pool the cycles of all texts and of each domain."""
    whole = _pooled(counts, generator)
    names = sorted({one.domain for one in texts if one.domain is not None})
    domains = {
        name: _pooled(
            [one for one, text in zip(counts, texts, strict=True) if text.domain == name], generator
        )
        for name in names
    }
    efficiencies = [one["block_efficiency"] for one in domains.values()]
    known = [one for one in efficiencies if one is not None]
    return whole | {"macro": float(np.mean(known)) if known else None, "domains": domains}


def _pooled(counts: Sequence[AcceptCounts], generator: np.random.Generator) -> dict[str, Any]:
    total = reduce(add, counts)
    used = any(one.cycles for one in counts)
    return {
        "prompts": len(counts),
        "tokens": total.tokens,
        "cycles": total.cycles,
        "block_efficiency": total.block_efficiency,
        "interval": list(block_efficiency_interval(counts, generator)) if used else None,
        "acceptance_by_position": total.acceptance_by_position,
    }


def completed(drafter: Path, target: Path, place: Path) -> Path:
    """Return a drafter that has its embedding: a short model is stored without."""
    checkpoint = Checkpoint.open(drafter)
    if FEATURES in checkpoint.config or EMBEDDING_NAMES[0] in checkpoint.tensors:
        return drafter
    writer = CheckpointWriter()
    for name in checkpoint.tensors:
        writer.copy(checkpoint, name)
    writer.copy(Checkpoint.open(target), EMBEDDING_NAMES[0])
    writer.write(place / WEIGHTS_FILE)
    (place / "config.json").write_text(json.dumps(dict(checkpoint.config)))
    return place


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def evaluate(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the result document of a drafter.

    Raises:
        VocabtrimError: The drafter, the target or a file cannot be used.
    """
    if arguments.temperature and (arguments.generated is not None or arguments.without_repeats):
        raise CalibrationError(
            "with --temperature prompts are decoded, and all of their tokens count: leave "
            "--generated and --without-repeats out"
        )
    drafter, target = locate(arguments.drafter), locate(arguments.target)
    task = open_task(drafter, target, arguments.gamma)
    if arguments.generated is not None:
        texts = held_out(arguments.generated, target, arguments)
        counts = None
    else:
        with as_file(files("recipes").joinpath("evaluation_prompts.jsonl")) as own:
            texts, counts = decoded(drafter, target, task, arguments.prompts or [own], arguments)
    heard = listen(task, texts)
    walked = None if arguments.temperature else _walked(task, texts, heard, arguments)
    if walked is not None and (counts is None or arguments.without_repeats):
        counts, how = walked, "walked"
    else:
        how = "decoded"
    assert counts is not None  # without prompts there is no temperature
    generator = np.random.default_rng(arguments.seed)
    frequent = None
    if arguments.counts is not None:
        frequent = read_counts(arguments.counts)[0].order()[:FREQUENT]
    return {
        "drafter": arguments.drafter,
        "target": arguments.target,
        "gamma": arguments.gamma,
        "temperature": arguments.temperature,
        "without_repeats": arguments.without_repeats,
        "how": how,
        **summary(texts, counts, generator),
        "walked_block_efficiency": walked and reduce(add, walked).block_efficiency,
        "frequent_ids": FREQUENT,
        "depths": [asdict(one) for one in depths(heard, frequent)],
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, evaluate, print, and return the exit status."""
    options = argparse.ArgumentParser(
        description=(__doc__ or "").splitlines()[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    options.add_argument("drafter", help="directory or name")
    options.add_argument("--target", default="demo")
    options.add_argument("--prompts", type=Path, nargs="+", help="PROMPTS files to decode")
    options.add_argument("--generated", type=Path, help="greedy text of the target to walk through")
    options.add_argument("--counts", type=Path, help="of other text: which ids are frequent")
    options.add_argument("--gamma", type=int, default=4)
    options.add_argument("--max-new-tokens", type=int, default=128)
    options.add_argument("--row-tokens", type=int, default=512, help="longest text of --generated")
    options.add_argument("--temperature", type=float, default=0.0, help="0 is greedy")
    options.add_argument(
        "--without-repeats",
        type=int,
        metavar="N",
        help="leave out tokens in runs of N that the text had before",
    )
    options.add_argument("--limit", type=int, help="prompts, at most")
    options.add_argument("--heldout-share", type=float, default=0.02, help="as in training")
    options.add_argument("--seed", type=int, default=0, help="of the bootstrap and of draws")
    options.add_argument("--json", type=Path)
    arguments = options.parse_args(argv)
    try:
        result = evaluate(arguments)
    except VocabtrimError as fault:
        _say(f"evaluate: {fault}")
        return fault.exit_code
    if arguments.json is not None:
        with atomic_file(arguments.json, force=True) as temporary:
            temporary.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
