"""How many drafts a target would accept on a text that it wrote, without decoding.

A draft depends on the committed text alone. So on text that the target wrote
greedily, a drafter that is asked at every position at once (the steps of
training do that) has already said whatever it would say while decoding: the
cycles follow by walking through the text. Block efficiency so found is that of
real decoding, but for logits that are equal up to rounding, and takes a
twentieth of the time.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from recipes.training.corpus import Document, collate
from recipes.training.task import Task
from vocabtrim.core.metrics import AcceptCounts


@dataclass(frozen=True, eq=False)
class Heard:
    """What a drafter says about one text.

    Args:
        said: [steps, T] int64, the id that step k says for a token; -1 for none.
        greedy: [T] int64, the id that the target says for it; -1 where unasked.
    """

    said: NDArray[np.int64]
    greedy: NDArray[np.int64]


@torch.no_grad()
def listen(task: Task, documents: Sequence[Document], *, rows: int = 8) -> list[Heard]:
    """Ask a drafter about every learnt token of every text, over the full vocabulary."""
    task.module.eval()
    heard: dict[int, Heard] = {}
    order = sorted(range(len(documents)), key=lambda one: len(documents[one].tokens))
    for begin in range(0, len(order), rows):
        some = order[begin : begin + rows]
        T = len(documents[some[-1]].tokens)
        batch = collate([[documents[one]] for one in some], T)
        said = torch.full((task.steps, len(some) * T), -1)
        greedy = torch.full((len(some) * T,), -1)
        for step, one in enumerate(task.losses(task.teacher.teach(batch), None)):
            said[step, one.places.cpu()] = one.choices.cpu()
            greedy[one.places.cpu()] = one.greedy.cpu()
        for row, index in enumerate(some):
            place = slice(row * T, row * T + len(documents[index].tokens))
            heard[index] = Heard(said[:, place].numpy(), greedy[place].numpy())
    return [heard[index] for index in range(len(documents))]


def walk(
    document: Document,
    heard: Heard,
    *,
    gamma: int,
    eos_ids: Collection[int],
    left_out: NDArray[np.bool_] | None = None,
) -> AcceptCounts:
    """Return the cycles of chain drafting on a text that the target wrote.

    Conventions are those of `core/metrics.py`. A text that does not end with an
    EOS is taken to have ended for want of room.

    Args:
        document: Prompt and completion.
        heard: What the drafter says of it; one step stands for all where it
            does not depend on the depth.
        gamma: Draft length, at most the steps heard, unless that is one.
        eos_ids: Ids that end a generation.
        left_out: [T] bool, tokens that do not count. A cycle that begins with one is
            none, and of the others only the tokens up to the next one.
    """
    tokens = document.tokens.astype(np.int64)
    stopped = int(tokens[-1]) in eos_ids
    # the first generated token comes from the prefill and begins no cycle
    place = int(document.learnt.argmax()) + 1
    cycles: list[tuple[int, int, int]] = []
    while place < len(tokens):
        room = len(tokens) - place
        # a text that stopped had room enough, and its last token may be drafted
        length = gamma if stopped else min(gamma, room - 1)
        accepted = 0
        while (
            accepted < min(length, room)
            and heard.said[accepted if len(heard.said) > 1 else 0, place + accepted]
            == tokens[place + accepted]
        ):
            accepted += 1
        ended = stopped and accepted == room
        emitted = accepted + (not ended)
        counted = emitted
        if left_out is not None:
            inside = left_out[place : place + emitted]
            counted = int(inside.argmax()) if inside.any() else emitted
        if counted:
            drafted = accepted if ended else length
            cycles.append((drafted, min(accepted, counted), counted))
        place += accepted + 1
    return AcceptCounts.of_cycles(gamma, cycles)


def repeated(tokens: NDArray[np.int32], length: int) -> NDArray[np.bool_]:
    """Return which tokens lie in a run of `length` that the text had before, [T] bool.

    A model that repeats itself is easily foretold, and says nothing of other text.
    """
    result = np.zeros(tokens.size, dtype=np.bool_)
    seen: set[bytes] = set()
    for begin in range(tokens.size - length + 1):
        run = tokens[begin : begin + length].tobytes()
        if run in seen:
            result[begin : begin + length] = True
        seen.add(run)
    return result


@dataclass(frozen=True)
class Depth:
    """What a drafter says at one depth, over all positions of all texts.

    Args:
        positions: Drafts asked for.
        agreement: Share of them that the target says too.
        outside: Share that is not among the frequent ids; None where those are not known.
        outside_precision: Share of those that the target says too; None for none.
        frequent_precision: The same of the others.
    """

    positions: int
    agreement: float
    outside: float | None
    outside_precision: float | None
    frequent_precision: float | None


def depths(heard: Sequence[Heard], frequent: NDArray[np.int64] | None) -> list[Depth]:
    """Compare what is said at each depth with the target, by whether it is frequent.

    Args:
        heard: Of each text.
        frequent: The frequent ids, of other text than this; None where nobody counted.
    """
    found = []
    for step in range(len(heard[0].said)):
        said = np.concatenate([one.said[step] for one in heard])
        greedy = np.concatenate([one.greedy for one in heard])[said >= 0]
        said = said[said >= 0]
        right = said == greedy
        parts: tuple[float | None, ...] = (None, None, None)
        if frequent is not None:
            outside = ~np.isin(said, frequent)
            parts = (float(outside.mean()), _share(right[outside]), _share(right[~outside]))
        found.append(Depth(said.size, float(right.mean()), *parts))
    return found


def _share(right: NDArray[np.bool_]) -> float | None:
    return float(right.mean()) if right.size else None
