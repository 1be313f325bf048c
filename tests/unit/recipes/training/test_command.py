import json

import pytest

from recipes import train_eagle3
from recipes.training.command import RUN_FILE
from tests.unit.recipes.world import world, write_generated
from vocabtrim.core.manifest import file_hash


@pytest.fixture
def train(tmp_path):
    target = world(tmp_path)

    def run(work, *more, generated):
        options = ["--target", str(target), "--work", str(tmp_path / work), "--row-tokens", "32"]
        options += ["--rows", "2", "--steps", "1", "--sampled", "32", "--heldout-share", "0.1"]
        options += ["--layers", "1", "2", "3", "--generated", *map(str, generated), *more]
        status = train_eagle3.main(options)
        folder = tmp_path / work
        lines = (folder / "constant" / "curve.jsonl").read_text().splitlines()
        return status, json.loads((folder / RUN_FILE).read_text()), [json.loads(x) for x in lines]

    return target, run


def test_the_curve_is_of_the_files_that_are_named(train, tmp_path):
    target, run = train
    old = write_generated(tmp_path / "old.jsonl", target, seed=1)
    new = write_generated(tmp_path / "new.jsonl", target, prompts=400, seed=2)
    _, document, alone = run("a", generated=[old])
    assert document["curve_from"] == ["old.jsonl"]
    _, document, both = run("b", generated=[old, new])
    assert document["curve_from"] == ["old.jsonl", "new.jsonl"]
    _, document, named = run("c", "--curve-from", str(old), generated=[new])
    assert document["curve_from"] == ["old.jsonl"]
    assert set(document["data"]["generated"]["files"]) == {"new.jsonl"}
    # the first point is of the same untrained weights
    assert named[0]["positions"] == alone[0]["positions"] < both[0]["positions"]


def test_a_run_says_which_weights_it_started_from(train, tmp_path):
    target, run = train
    text = write_generated(tmp_path / "text.jsonl", target)
    _, document, _ = run("first", generated=[text])
    assert (document["init"], document["init_hash"]) == (None, None)
    drafter = tmp_path / "first" / "constant" / "drafter"
    status, document, curve = run("second", "--init", str(drafter), generated=[text])
    assert status == 0
    assert document["init_hash"] == file_hash(drafter / "model.safetensors")
    assert curve[0]["step"] == 0
