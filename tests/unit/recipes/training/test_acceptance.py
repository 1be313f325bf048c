import numpy as np
import pytest
import torch

from recipes.evaluate import completed
from recipes.training.acceptance import Heard, depths, listen, repeated, walk
from recipes.training.corpus import Document, collate
from recipes.training.eagle3 import Eagle3, Eagle3Task
from recipes.training.lm import LmTask, ShortModel
from recipes.training.teacher import Teacher
from tests.unit.recipes.world import world
from vocabtrim.core.metrics import AcceptCounts
from vocabtrim.decode.chain import speculate
from vocabtrim.decode.target import Target
from vocabtrim.families import eagle3
from vocabtrim.families.base import family_of
from vocabtrim.tensors.checkpoint import Checkpoint

EOS = 2


def text(completion: list[int], prompt: int = 2) -> Document:
    tokens = np.array([*range(50, 50 + prompt), *completion], dtype=np.int32)
    return Document(tokens, np.arange(len(tokens)) >= prompt, "00")


def heard(document: Document, right: str) -> Heard:
    """A drafter of one step that is right where the string has an x."""
    tokens = document.tokens.astype(np.int64)
    good = np.array([mark == "x" for mark in right])
    return Heard(np.where(good, tokens, -7)[None], tokens)


@pytest.mark.parametrize(
    ("completion", "right", "cycles"),
    [
        # prompt, first token, then: one of two accepted, none, room for no draft at the end
        ([9, 8, 7, 6, 5, 4], "...x..xx", [(2, 1, 2), (2, 0, 1), (1, 1, 2)]),
        ([9, 8], "...x", [(0, 0, 1)]),
        ([9], "...", []),
        # an accepted end: nothing behind it counts as drafted, and there is no bonus
        ([9, 8, EOS], "...xx", [(2, 2, 2)]),
        ([9, EOS], "...x", [(1, 1, 1)]),
        # an end that was not drafted: the draft had room for more
        ([9, 8, EOS], "...x.", [(2, 1, 2)]),
    ],
)
def test_cycles_follow_the_conventions(completion, right, cycles):
    document = text(completion)
    counts = walk(document, heard(document, right), gamma=2, eos_ids={EOS})
    assert counts == AcceptCounts.of_cycles(2, cycles)


@pytest.mark.parametrize(
    ("left_out", "cycles"),
    [
        # emitted in threes behind the first token: 8 7 6, 5 4 3, and 1 at the end
        ("", [(2, 2, 3), (2, 2, 3), (0, 0, 1)]),
        # a cycle that begins with it is none
        ("8", [(2, 2, 3), (0, 0, 1)]),
        ("876", [(2, 2, 3), (0, 0, 1)]),
        # one that comes to it ends there
        ("7", [(2, 1, 1), (2, 2, 3), (0, 0, 1)]),
        ("64", [(2, 2, 2), (2, 1, 1), (0, 0, 1)]),
        ("1", [(2, 2, 3), (2, 2, 3)]),
    ],
)
def test_what_is_left_out_counts_nowhere(left_out, cycles):
    document = text([9, 8, 7, 6, 5, 4, 3, 1])
    out = np.isin(document.tokens, [int(one) for one in left_out]) & document.learnt
    what = heard(document, "...xx.xx..")
    counts = walk(document, what, gamma=2, eos_ids={EOS}, left_out=out)
    assert counts == AcceptCounts.of_cycles(2, cycles)


def test_runs_that_came_before_are_repeated():
    marks = "".join("x" if one else "." for one in repeated(np.array([*b"abcabd--abcab"]), 3))
    assert marks == "........xxxxx"
    # a loop is repeated from its second round on
    assert repeated(np.array([1, 2] * 4), 2).tolist() == [False, False, *[True] * 6]
    assert not repeated(np.arange(5), 2).any()
    assert not repeated(np.array([1, 1]), 3).any()


def test_each_depth_has_its_own_word():
    document = text([9, 8, 7, 6, 5])
    said = np.full((2, 7), -1)
    said[0, 3], said[1, 4] = 8, 7  # right, and right behind it
    said[0, 4] = 1
    counts = walk(document, Heard(said, said[0]), gamma=2, eos_ids={EOS})
    assert counts.accepted.tolist() == [1, 0, 1]


def continued(target: Target, drafter, seed: int) -> tuple[Document, AcceptCounts]:
    prompt = np.random.default_rng(seed).integers(3, 96, 5).tolist()
    made = speculate(target, drafter, prompt, gamma=3, max_new_tokens=24)
    tokens = np.array([*prompt, *made.token_ids], dtype=np.int32)
    return Document(tokens, np.arange(len(tokens)) >= 5, "00"), made.counts


def fit(task: Eagle3Task, texts: list[Document]) -> None:
    """Train on texts until some drafts of them are right."""
    lesson = task.teacher.teach(collate([[one] for one in texts], 29))
    optimizer = torch.optim.Adam(task.module.parameters(), 1e-2)
    for _ in range(30):
        sum(one.total for one in task.losses(lesson, None)).backward()
        optimizer.step()
        optimizer.zero_grad()


@pytest.mark.parametrize("kind", ["eagle3", "lm"])
def test_walking_is_decoding(tmp_path, kind):
    torch.set_num_threads(1)
    target = world(tmp_path)
    layers = (1, 2, 3) if kind == "eagle3" else ()
    teacher = Teacher(target, layers=layers, dtype="float32", device=torch.device("cpu"))
    drafter = tmp_path / "drafter"
    if kind == "eagle3":
        eagle3.PLUGIN.tiny_checkpoint(drafter)
        task = Eagle3Task(Eagle3.open(drafter), teacher, steps=3)
        fit(task, [continued(Target(teacher.model), None, seed)[0] for seed in range(6)])
        task.save(drafter)
        task.module.load_state_dict(Eagle3.open(drafter).state_dict())
    else:
        module = ShortModel(teacher, (0, 3))
        module.save(drafter)
        module.load(drafter)
        task = LmTask(module, teacher)
        (tmp_path / "whole").mkdir()
        drafter = completed(drafter, target, tmp_path / "whole")
    opened = Checkpoint.open(drafter)
    proposer = family_of(opened).load_drafter(opened, Checkpoint.open(target), teacher.model, None)
    verifier = Target(teacher.model, proposer.feature_layers)
    texts, decoded = zip(*(continued(verifier, proposer, seed) for seed in range(6)), strict=True)
    walked = [
        walk(one, what, gamma=3, eos_ids=verifier.eos_ids)
        for one, what in zip(texts, listen(task, texts, rows=4), strict=True)
    ]
    assert walked == list(decoded)
    assert sum(one.n_accepted for one in decoded) > 0, "nothing was ever accepted"


def test_depths_tell_frequent_ids_from_others():
    one = Heard(np.array([[5, 6, 90, 91, -1]]), np.array([5, 7, 90, 92, 93]))
    two = Heard(np.array([[6, -1]]), np.array([6, -1]))
    (depth,) = depths([one, two], np.arange(10))
    assert depth.positions == 5
    assert depth.agreement == pytest.approx(3 / 5)
    assert depth.outside == pytest.approx(2 / 5)
    assert depth.outside_precision == pytest.approx(1 / 2)
    assert depth.frequent_precision == pytest.approx(2 / 3)


def test_nothing_is_said_of_frequent_ids_where_nobody_counted():
    heard = Heard(np.array([[5, 6, 90]]), np.array([5, 7, 90]))
    (depth,) = depths([heard], None)
    assert depth.agreement == pytest.approx(2 / 3)
    assert depth.outside is depth.outside_precision is depth.frequent_precision is None
