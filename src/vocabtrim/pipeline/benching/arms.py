"""From names on the command line to the arms of a measurement.

An arm is what one server serves: the target alone, or with a drafter at one
draft length. The first drafter is the one that the others are compared with. The
target alone is there twice: how far its two arms lie apart is the noise.

What files are, and what their steps cost, is read from their headers; nothing is
converted here, for what is measured has to be what will be served. Drafters of one
comparison are of one family: across families, "full" and "trimmed" mean nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from vocabtrim.core.errors import CheckpointError
from vocabtrim.core.metrics import StepCost
from vocabtrim.core.results import ArmCost
from vocabtrim.engines.base import Container
from vocabtrim.engines.serving.base import EngineError, Serving
from vocabtrim.families.base import DrafterFamily, family_of, known_families
from vocabtrim.pipeline.benching.demo_files import DEMO_FILES
from vocabtrim.tensors.causal import target_cost
from vocabtrim.tensors.checkpoint import Checkpoint
from vocabtrim.tensors.gguf_drafter import drafter_kind, gguf_cost, gguf_head
from vocabtrim.tensors.gguf_file import is_gguf
from vocabtrim.tensors.gguf_model import GgufModel, open_gguf
from vocabtrim.tensors.gguf_target import gguf_causal_cost
from vocabtrim.tensors.locate import locate

INDEPENDENT = "independent"
UNKNOWN = StepCost(params=0, head_params=0, step_bytes=0, head_bytes=0)


@dataclass(frozen=True)
class Drafter:
    """A drafter as it is served.

    Args:
        path: File or directory.
        method: How the engine calls drafting with it.
        cost: What it is and what its steps cost.
    """

    path: Path
    method: str
    cost: ArmCost


@dataclass(frozen=True)
class Arm:
    """What one server serves.

    Args:
        cost: What it is and what its steps cost.
        drafter: None for the target alone.
        gamma: Draft length; 0 for the target alone.
        is_twin: Whether it repeats the first arm, to see how far they differ.
        is_ours: Whether we serve it; of a server that somebody else has started
            nothing is known but what it says, and its draft length is 0 here.
    """

    cost: ArmCost
    drafter: Drafter | None = None
    gamma: int = 0
    is_twin: bool = False
    is_ours: bool = True


@dataclass(frozen=True)
class Pair:
    """A target and its drafters.

    Args:
        target: File or directory.
        cost: What a step of it costs.
        drafters: The first is what the others are compared with.
    """

    target: Path
    cost: ArmCost
    drafters: tuple[Drafter, ...]

    def arms(self, gammas: Sequence[int]) -> tuple[Arm, ...]:
        """Return the arms: the target twice, then by draft length the drafters."""
        speculating = [
            Arm(drafter.cost, drafter, gamma)
            for gamma in sorted(set(gammas))
            for drafter in self.drafters
        ]
        return (Arm(self.cost), Arm(self.cost, is_twin=True), *speculating)


def foreign_arms(model: str) -> tuple[Arm, ...]:
    """Return the arms of a server that somebody else has started: itself, twice."""
    cost = ArmCost(model, UNKNOWN, 0)
    return Arm(cost, is_ours=False), Arm(cost, is_twin=True, is_ours=False)


@dataclass(frozen=True)
class _Read:
    """What the headers of a drafter say.

    Args:
        name: As on the command line.
        path: File or directory.
        family: Of drafters.
        K: Ids that it can draft.
        step: What a step holds and reads.
        nbytes: Weights that it adds to the target's.
    """

    name: str
    path: Path
    family: str
    K: int
    step: StepCost
    nbytes: int


def find_pair(
    engine: Serving, target: str, drafters: Sequence[str], family: str | None = None
) -> Pair:
    """Find what is to be served and read what it costs.

    Args:
        engine: Serves it.
        target: As on the command line.
        drafters: The same; the first is what the others are compared with.
        family: Which one is meant, where a drafter is of several. Without it that of
            all of them, and of a target that is its own drafter the prediction layers.

    Raises:
        CheckpointError: One is missing, damaged, does not fit the target, or is of
            another family than the first.
        EngineError: The engine does not take it in this form, or does not draft
            with such a drafter.
        EnvironmentFailure: A built-in part cannot be fetched.
        PluginError: There is no such family.
    """
    find = _files if engine.container is Container.GGUF else _directories
    path, cost, read = find(engine, target, drafters, family)
    if len({one.family for one in read}) > 1:
        said = ", ".join(f"{one.name} ({one.family})" for one in read)
        raise CheckpointError(
            f"drafters of different families cannot be compared, and these are {said}: measure "
            "them one by one, or say with --family which is meant"
        )
    found = [
        Drafter(
            one.path,
            _method(engine, one.family, one.path),
            replace(
                cost,
                drafter=one.name,
                family=one.family,
                K=one.K,
                drafter_cost=one.step,
                memory_delta_bytes=one.nbytes - read[0].nbytes,
            ),
        )
        for one in read
    ]
    return Pair(path, cost, tuple(found))


def _files(
    engine: Serving, target: str, names: Sequence[str], wanted: str | None
) -> tuple[Path, ArmCost, list[_Read]]:
    path = _file(engine, target)
    model = open_gguf(path)
    read = []
    for name in names:
        drafter_path = _file(engine, name)
        drafter = open_gguf(drafter_path)
        family, K, step = _of_file(drafter, model)
        if wanted not in (None, family):
            raise CheckpointError(f"it is no drafter of the family {wanted}", path=drafter_path)
        nbytes = sum(info.nbytes for info in drafter.tensors.values())
        read.append(_Read(name, drafter_path, family, K, step, nbytes))
    return path, ArmCost(target, gguf_causal_cost(model), model.vocab_size), read


def _of_file(drafter: GgufModel, target: GgufModel) -> tuple[str, int, StepCost]:
    kind = drafter_kind(drafter)
    if kind is None:
        return INDEPENDENT, drafter.vocab_size, gguf_causal_cost(drafter)
    head = gguf_head(drafter, kind, target)
    return kind.family, head.held.size, gguf_cost(drafter, kind, head)


def _directories(
    engine: Serving, target: str, names: Sequence[str], wanted: str | None
) -> tuple[Path, ArmCost, list[_Read]]:
    path = locate(target)
    verifier = Checkpoint.open(path)
    drafters = [Checkpoint.open(locate(name)) for name in names]
    families = _families(drafters, path, wanted)
    read = []
    for name, drafter, family in zip(names, drafters, families, strict=True):
        step = family.cost(drafter, verifier)
        K = family.head(drafter, verifier).held.size
        # prediction layers are there already
        is_part = family.sidecar and _is_same(drafter.path, path)
        nbytes = 0 if is_part else sum(info.nbytes for info in drafter.tensors.values())
        read.append(_Read(name, drafter.path, family.name, K, step, nbytes))
    return path, ArmCost(target, target_cost(verifier), verifier.integer("vocab_size")), read


def _families(
    drafters: Sequence[Checkpoint], target: Path, wanted: str | None
) -> list[DrafterFamily]:
    """Return the family of each drafter, of several the one that all of them are of."""
    if wanted is not None:
        return [family_of(drafter, wanted) for drafter in drafters]
    known = [_known(drafter, target) for drafter in drafters]
    chosen = []
    for drafter, found in zip(drafters, known, strict=True):
        shared = [one for one in found if all(one in others for others in known)] or found
        decoded = [one for one in shared if one.decoded] or shared
        chosen.append(decoded[0] if len(decoded) == 1 else family_of(drafter))
    return chosen


def _known(drafter: Checkpoint, target: Path) -> list[DrafterFamily]:
    found = known_families(drafter)
    if not _is_same(drafter.path, target):
        return found
    # a whole target drafts for itself as fast as it decodes
    return [one for one in found if one.sidecar] or found


def _is_same(one: Path, other: Path) -> bool:
    return one.resolve() == other.resolve()


def _method(engine: Serving, family: str, path: Path) -> str:
    if family not in engine.methods:
        raise EngineError(
            f"{path}: {engine.name} does not draft with a drafter of the family {family}; it "
            f"does with {', '.join(engine.methods)}"
        )
    return engine.methods[family]


def _file(engine: Serving, name: str) -> Path:
    """Return the GGUF file that a name stands for."""
    path = Path(name).expanduser()
    if path.is_file():
        if not is_gguf(path):
            raise CheckpointError("it is no GGUF file", path=path)
        return path
    if name in DEMO_FILES:
        return DEMO_FILES[name]()
    what = "a directory" if path.is_dir() else "not there"
    raise EngineError(
        f"{engine.name} serves GGUF files, and {name} is {what}; make one with `vocabtrim export "
        f"{name} --to {engine.name}`, or name one of {', '.join(DEMO_FILES)}"
    )
