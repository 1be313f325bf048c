"""The options that both recipes share, and a run built from them.

Besides the training itself a run leaves `run.json` in its work directory: what
was asked for, which files were read, by hash, and how much of each there was.
The model card is filled from it.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, fields
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch

from recipes.training.corpus import (
    Batch,
    Document,
    Visits,
    collate,
    fingerprint,
    limited,
    read_documents,
    split,
)
from recipes.training.head_loss import Proposal
from recipes.training.loop import train
from recipes.training.state import WEIGHTS_FILE, Settings, State
from recipes.training.task import Task
from recipes.training.teacher import Teacher
from vocabtrim.core.errors import CalibrationError
from vocabtrim.core.manifest import atomic_file, file_hash
from vocabtrim.decode.model import DTYPES
from vocabtrim.tensors.cache import cache_directory
from vocabtrim.tensors.locate import locate

RUN_FILE = "run.json"

MakeTask = Callable[[argparse.Namespace, Path, torch.device, Batch], Task]
"""Makes the task from the options, the target's directory, the device, and a first batch."""


def parser(description: str, name: str) -> argparse.ArgumentParser:
    """Return a parser with the options that both recipes share.

    Args:
        description: What `--help` says first.
        name: Of the default work directory.
    """
    options = argparse.ArgumentParser(
        description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    _data_options(options.add_argument_group("data"))
    _run_options(options.add_argument_group("run"), name)
    return options


def _data_options(data: Any) -> None:
    data.add_argument("--target", default="demo", help="directory, GGUF file or name")
    data.add_argument(
        "--generated",
        type=Path,
        nargs="+",
        default=[],
        metavar="JSONL",
        help="what `vocabtrim generate` wrote; completions are learnt",
    )
    data.add_argument(
        "--text",
        type=Path,
        nargs="+",
        default=[],
        metavar="JSONL",
        help="other text (`text` or `messages`); all of it is learnt",
    )
    data.add_argument(
        "--generated-share",
        type=float,
        default=0.8,
        help="share of visited tokens that comes from --generated",
    )
    data.add_argument(
        "--curve-from",
        type=Path,
        nargs="+",
        metavar="JSONL",
        help="generated files whose held-out prompts make the curve; default: all of them",
    )
    data.add_argument("--limit-tokens", type=int, help="learnt tokens of each kind to use, at most")
    data.add_argument("--heldout-share", type=float, default=0.02, help="share of prompts held out")
    data.add_argument("--heldout-tokens", type=int, default=6000, help="tokens of the curve's text")
    data.add_argument("--rows", type=int, default=8, help="rows of a batch")
    data.add_argument("--row-tokens", type=int, default=512, help="tokens of a row")
    data.add_argument("--new-data", action="store_true", help="continue though the data changed")


def _run_options(run: Any, name: str) -> None:
    run.add_argument(
        "--work",
        type=Path,
        default=cache_directory() / "training" / name,
        help="where the run lives: state, curve, drafter",
    )
    run.add_argument("--init", help="drafter to start from (a directory or name)")
    run.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    run.add_argument(
        "--target-dtype",
        default="float32",
        help="of the target's pass; bfloat16 is slower on CPUs without instructions for it",
    )
    run.add_argument(
        "--sampled",
        type=int,
        default=3072,
        help="ids drawn for a batch's softmax, besides each label's own",
    )
    for field in fields(Settings):
        option = f"--{field.name.replace('_', '-')}"
        kind = {"int": int, "str": str}.get(str(field.type).split(" ")[0], float)
        run.add_argument(
            option,
            type=kind,
            choices=list(DTYPES) if field.name == "dtype" else None,
            default=field.default,
            help=_help(field.name),
        )


def run(arguments: argparse.Namespace, make_task: MakeTask) -> State:
    """Train as asked; see `loop.train`.

    Raises:
        VocabtrimError: The data, the target or the work directory cannot be used.
    """
    target, device = locate(arguments.target), torch.device(arguments.device)
    kinds = {
        "generated": (arguments.generated_share, arguments.generated),
        "text": (1.0 - arguments.generated_share, arguments.text),
    }
    read = cache(partial(read_documents, target=target, row_tokens=arguments.row_tokens))
    parted = partial(split, heldout_share=arguments.heldout_share)
    sources: list[tuple[float, list[Document]]] = []
    for share, files in kinds.values():
        kept, _ = parted([one for file in files for one in read(file)])
        sources.append((share, limited(kept, arguments.limit_tokens)))
    watched = arguments.curve_from or arguments.generated or arguments.text
    _, heldout = parted([one for file in watched for one in read(file)])
    visits = Visits(
        sources, seed=arguments.seed, rows=arguments.rows, row_tokens=arguments.row_tokens
    )
    batches = heldout_batches(
        heldout, arguments.heldout_tokens, arguments.rows, arguments.row_tokens
    )
    task = make_task(arguments, target, device, next(visits.batches()))
    settings = Settings(**{one.name: getattr(arguments, one.name) for one in fields(Settings)})
    arguments.work.mkdir(parents=True, exist_ok=True)
    with atomic_file(arguments.work / RUN_FILE, force=True) as temporary:
        document = _document(arguments, task.teacher, settings, kinds, sources)
        document["curve_from"] = [file.name for file in watched]
        temporary.write_text(json.dumps(document, indent=1) + "\n")
    return train(
        task,
        settings,
        arguments.work,
        visits=visits,
        proposal=Proposal(_counts(sources, len(task.teacher.head)), arguments.sampled),
        heldout=batches,
        data=fingerprint(sources),
        new_data=arguments.new_data,
        say=lambda line: print(line, flush=True),
    )


def heldout_batches(
    documents: Sequence[Document], tokens: int, rows: int, row_tokens: int
) -> list[Batch]:
    """Return about so many tokens of held-out documents, always the same ones.

    Raises:
        CalibrationError: There are none.
    """
    taken: list[Document] = []
    for one in sorted(documents, key=lambda one: (one.group, one.tokens.tobytes())):
        if sum(len(document.tokens) for document in taken) >= tokens:
            break
        taken.append(one)
    if not taken:
        raise CalibrationError("no prompt is held out: give more data, or a larger --heldout-share")
    packed: list[list[Document]] = []
    for one in sorted(taken, key=lambda one: -len(one.tokens)):
        place = next(
            (
                row
                for row in packed
                if sum(len(document.tokens) for document in row) + len(one.tokens) <= row_tokens
            ),
            None,
        )
        if place is None:
            packed.append([one])
        else:
            place.append(one)
    return [
        collate(packed[begin : begin + rows], row_tokens) for begin in range(0, len(packed), rows)
    ]


def teacher(
    arguments: argparse.Namespace, target: Path, device: torch.device, layers: Sequence[int]
) -> Teacher:
    """Open the target as the options say."""
    return Teacher(target, layers=layers, dtype=arguments.target_dtype, device=device)


def _counts(sources: Sequence[tuple[float, Sequence[Document]]], V: int) -> torch.Tensor:
    counts = torch.zeros(V, dtype=torch.int64)
    for _, documents in sources:
        for one in documents:
            learnt = torch.from_numpy(one.tokens[one.learnt].astype("int64"))
            counts += torch.bincount(learnt, minlength=V)
    return counts


def _document(
    arguments: argparse.Namespace,
    teacher: Teacher,
    settings: Settings,
    kinds: dict[str, tuple[float, list[Path]]],
    sources: Sequence[tuple[float, Sequence[Document]]],
) -> dict[str, Any]:
    data = {}
    for (kind, (share, files)), (_, documents) in zip(kinds.items(), sources, strict=True):
        domains: Counter[str] = Counter()
        for one in documents:
            domains[one.domain or "none"] += one.n_learnt
        data[kind] = {
            "share": share,
            "files": {file.name: file_hash(file) for file in files},
            "documents": len(documents),
            "tokens": sum(len(one.tokens) for one in documents),
            "learnt_tokens": sum(one.n_learnt for one in documents),
            "learnt_tokens_by_domain": dict(sorted(domains.items())),
        }
    return {
        "target": arguments.target,
        "init": arguments.init,
        "init_hash": arguments.init and file_hash(locate(arguments.init) / WEIGHTS_FILE),
        "feature_layers": list(teacher.layers),
        "target_dtype": arguments.target_dtype,
        "device": arguments.device,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "batch_tokens": arguments.rows * arguments.row_tokens * settings.accumulate,
        "sampled": arguments.sampled,
        "settings": asdict(settings),
        "data": data,
    }


def _help(name: str) -> str:
    """Return the field's line in the docstring of Settings."""
    lines = (Settings.__doc__ or "").splitlines()
    return next(
        line.split(":", 1)[1].strip() for line in lines if line.strip().startswith(f"{name}:")
    )
