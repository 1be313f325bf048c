"""Train an independent drafter of a few layers cut from the target.

    python -m recipes.train_lm --generated self.jsonl --text text.jsonl --minutes 60

Options, resuming and outputs are those of `train_eagle3`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from recipes.training import command
from recipes.training.corpus import Batch
from recipes.training.lm import LmTask, ShortModel, cut_layers
from vocabtrim.core.errors import VocabtrimError
from vocabtrim.tensors.locate import locate


def make_task(
    arguments: argparse.Namespace, target: Path, device: torch.device, _: Batch
) -> LmTask:
    """Open the target and cut the drafter out of it."""
    teacher = command.teacher(arguments, target, device, ())
    layers = arguments.layers or cut_layers(teacher.config.num_hidden_layers)
    module = ShortModel(teacher, layers)
    if arguments.init is not None:
        module.load(locate(arguments.init))
    return LmTask(module.to(device), teacher)


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, train, and return the exit status."""
    options = command.parser((__doc__ or "").splitlines()[0], "lm")
    options.add_argument(
        "--layers",
        type=int,
        nargs="+",
        help="layers of the target to cut out; default the first two and last two",
    )
    arguments = options.parse_args(argv)
    try:
        command.run(arguments, make_task)
    except VocabtrimError as fault:
        print(f"train_lm: {fault}", file=sys.stderr)
        return fault.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
