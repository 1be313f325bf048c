"""Train an EAGLE-3 drafter for any Llama or Gemma-3 target, on a CPU or with CUDA.

    python -m recipes.train_eagle3 --generated self.jsonl --text text.jsonl --minutes 60

Run the same command again to go on; add `--decay-minutes 30` to finish. The
drafter as of the last checkpoint is in the work directory, in
`constant/drafter` or, after a decay, in `decayed/drafter`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from recipes.training import command
from recipes.training.corpus import Batch
from recipes.training.eagle3 import Eagle3, Eagle3Task
from recipes.training.teacher import feature_layers
from vocabtrim.core.errors import VocabtrimError
from vocabtrim.tensors.checkpoint import Checkpoint
from vocabtrim.tensors.locate import locate


def make_task(
    arguments: argparse.Namespace, target: Path, device: torch.device, first: Batch
) -> Eagle3Task:
    """Open the target and the drafter to start from, or make a new one."""
    drafter = None if arguments.init is None else Eagle3.open(locate(arguments.init))
    if drafter is not None:
        layers = drafter.document["eagle_aux_hidden_state_layer_ids"]
    elif arguments.layers:
        layers = arguments.layers
    else:
        layers = feature_layers(Checkpoint.open(target).text_config["num_hidden_layers"])
    teacher = command.teacher(arguments, target, device, layers)
    if drafter is None:
        drafter = Eagle3.begin(
            teacher, teacher.teach(first), arguments.seed, arguments.intermediate_size
        )
    return Eagle3Task(drafter.to(device), teacher, arguments.unrolled)


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, train, and return the exit status."""
    options = command.parser((__doc__ or "").splitlines()[0], "eagle3")
    options.add_argument("--unrolled", type=int, default=3, help="steps of the training-time test")
    options.add_argument(
        "--layers",
        type=int,
        nargs="+",
        help="hidden_states of a new drafter's features; default 2, n/2, n-3",
    )
    options.add_argument(
        "--intermediate-size", type=int, help="of a new drafter's MLP; default that of the target"
    )
    arguments = options.parse_args(argv)
    try:
        command.run(arguments, make_task)
    except VocabtrimError as fault:
        print(f"train_eagle3: {fault}", file=sys.stderr)
        return fault.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
