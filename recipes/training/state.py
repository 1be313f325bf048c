"""Where a run stands, and the files that say so.

A work directory has one folder for the constant phase and one for a decay,
each with the state (weights, moments and counters; no random state, for there
is none), the learning curve, and the drafter as a checkpoint. Every file is
replaced as a whole, so a process may be killed at any moment.
"""

from __future__ import annotations

import fcntl
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from vocabtrim.core.errors import ArtifactError, EnvironmentFailure, OutputExists
from vocabtrim.core.manifest import atomic_file

CONSTANT, DECAYED = "constant", "decayed"
STATE, CURVE, DRAFTER = "state.safetensors", "curve.jsonl", "drafter"
WEIGHTS_FILE, CONFIG_FILE = "model.safetensors", "config.json"


@dataclass(frozen=True)
class Settings:
    """How to train.

    Args:
        seed: Root of every choice.
        accumulate: Batches of an optimiser step.
        block: Optimiser steps whose batches are held together.
        echo: Visits of a block.
        rate: Learning rate of the constant phase.
        warmup: Steps until it is reached.
        weight_decay: Of matrices.
        clip: Norm to which gradients are clipped.
        evaluate: Steps between two points of the curve; powers of two as well.
        checkpoint_minutes: Between two checkpoints.
        minutes: Training time of this session; None for no end.
        steps: Number of the last step; None for no end.
        decay_minutes: Length of a decay; None for the constant phase.
        full_share: Share of all steps, the last ones of a decay, that see the full softmax.
        dtype: In which the drafter's matrices are multiplied; weights, moments, loss
            and the learning curve are float32.
    """

    seed: int = 0
    accumulate: int = 1
    block: int = 16
    echo: int = 3
    rate: float = 4e-4
    warmup: int = 50
    weight_decay: float = 0.01
    clip: float = 1.0
    evaluate: int = 32
    checkpoint_minutes: float = 5.0
    minutes: float | None = None
    steps: int | None = None
    decay_minutes: float | None = None
    full_share: float = 0.05
    dtype: str = "float32"


@dataclass(frozen=True)
class State:
    """Where a run stands.

    Args:
        step: Optimiser steps made.
        visits: Tokens visited, echoes included.
        seconds: Training time, without evaluation, pauses and loading; on a CPU the
            time of its cores by threads, so that other work beside it does not count.
        data: Fingerprint of the data.
        decay: First step of the decay; -1 for none.
        length: Steps of the decay.
    """

    step: int = 0
    visits: int = 0
    seconds: float = 0.0
    data: str = ""
    decay: int = -1
    length: int = 0

    @property
    def end(self) -> int | None:
        """The step after the last, where a decay has been planned."""
        return self.decay + self.length if self.decay >= 0 else None

    def full(self, settings: Settings, step: int) -> bool:
        """Whether a step sees the full softmax."""
        end, share = self.end, settings.full_share
        return end is not None and step >= end - math.ceil(share * end)

    def rate(self, settings: Settings, step: int) -> float:
        """Return the learning rate of a step: a ramp, a constant, then 1 - sqrt."""
        warm = min(1.0, (step + 1) / max(1, settings.warmup))
        done = (step - self.decay) / self.length if 0 <= self.decay <= step else 0.0
        return settings.rate * warm * (1.0 - math.sqrt(done))

    def decay_length(self, minutes: float, full_share: float) -> int:
        """Return the steps of a decay of about so many minutes, from here.

        A step with the full softmax is taken to last twice as long as others.
        """
        each = self.seconds / self.step if self.step else 1.0
        length = round(60 * minutes / each)
        full = math.ceil(full_share * (self.step + length))
        return max(1, full, length - full)


class Store:
    """The files of one phase of a run.

    Args:
        work: The work directory.
        phase: CONSTANT or DECAYED.
    """

    def __init__(self, work: Path, phase: str) -> None:
        self._folder = work / phase
        self._folder.mkdir(parents=True, exist_ok=True)
        self.drafter = self._folder / DRAFTER

    def read_state(self) -> State | None:
        """Return where the phase stands, or None where it has not begun.

        Raises:
            ArtifactError: The file is none of ours.
        """
        file = self._folder / STATE
        if not file.is_file():
            return None
        with safe_open(file, framework="pt") as opened:
            metadata = opened.metadata() or {}
        if "state" not in metadata:
            raise ArtifactError(f"{file} is no training state")
        return State(**json.loads(metadata["state"]))

    def save(
        self,
        state: State,
        parameters: Mapping[str, torch.nn.Parameter],
        optimizer: torch.optim.Optimizer,
    ) -> None:
        """Write the state, weights and moments."""
        tensors = {f"weight.{name}": p.detach() for name, p in parameters.items()}
        for name, parameter in parameters.items():
            for key, moment in optimizer.state[parameter].items():
                tensors[f"{key}.{name}"] = moment
        held = {name: one.cpu().contiguous() for name, one in tensors.items()}
        with atomic_file(self._folder / STATE, force=True) as temporary:
            save_file(held, temporary, metadata={"state": json.dumps(asdict(state))})

    def load(
        self, parameters: Mapping[str, torch.nn.Parameter], optimizer: torch.optim.Optimizer
    ) -> None:
        """Put the weights and moments of the state in place.

        Raises:
            ArtifactError: They are another drafter's.
        """
        file = self._folder / STATE
        tensors = load_file(file)
        shapes = {
            name.removeprefix("weight."): one.shape
            for name, one in tensors.items()
            if name.startswith("weight.")
        }
        if shapes != {name: one.shape for name, one in parameters.items()}:
            raise ArtifactError(f"{file} is the state of another drafter; give another --work")
        for name, parameter in parameters.items():
            with torch.no_grad():
                parameter.copy_(tensors[f"weight.{name}"])
            optimizer.state[parameter] = {
                # AdamW counts its steps on the CPU
                key: tensors[f"{key}.{name}"].to("cpu" if key == "step" else parameter.device)
                for key in ("step", "exp_avg", "exp_avg_sq")
                if f"{key}.{name}" in tensors
            }

    def curve(self) -> list[dict[str, Any]]:
        """Return the points of the learning curve."""
        file = self._folder / CURVE
        return [json.loads(line) for line in file.open()] if file.is_file() else []

    def write_curve(self, points: Sequence[Mapping[str, Any]]) -> None:
        """Replace the learning curve."""
        with atomic_file(self._folder / CURVE, force=True) as temporary:
            temporary.write_text("".join(json.dumps(point) + "\n" for point in points))


def write_drafter(
    directory: Path, weights: Mapping[str, torch.Tensor], config: Mapping[str, Any]
) -> None:
    """Write a drafter as a checkpoint: bfloat16 weights and `config.json`."""
    held = {
        name: one.detach().to("cpu", torch.bfloat16).contiguous() for name, one in weights.items()
    }
    with atomic_file(directory / WEIGHTS_FILE, force=True) as temporary:
        save_file(held, temporary, metadata={"format": "pt"})
    with atomic_file(directory / CONFIG_FILE, force=True) as temporary:
        temporary.write_text(json.dumps(dict(config), indent=1) + "\n")


@contextmanager
def locked(work: Path) -> Iterator[None]:
    """Hold a work directory.

    Raises:
        OutputExists: Another process holds it.
        EnvironmentFailure: It cannot be written.
    """
    try:
        work.mkdir(parents=True, exist_ok=True)
        lock = (work / ".lock").open("w")
    except OSError as fault:
        raise EnvironmentFailure(f"{work} cannot be written ({fault.strerror})") from fault
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as fault:
            raise OutputExists(work, "another process trains in it") from fault
        yield
