"""Inputs: tasks that hold every document once, wherever cutting begins."""

from __future__ import annotations

import gzip
import pickle
from pathlib import Path
from typing import Any

import pytest

from tests.calibration import put, put_records
from vocabtrim.core.errors import CalibrationError
from vocabtrim.pipeline.counting import inputs as module
from vocabtrim.pipeline.counting.inputs import Inputs, Place, Rest, Task
from vocabtrim.sources.base import SOURCES, Document, Reading, Skipped
from vocabtrim.sources.cutting import Sizes
from vocabtrim.sources.jsonl import Jsonl

READING = Reading("sha256:none", 1000)
FEW = frozenset[str]()


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small blocks and small tasks."""
    monkeypatch.setattr("vocabtrim.sources.jsonl.PLUGIN", Jsonl(sizes=Sizes(block=3_000)))
    monkeypatch.setattr(module, "TASK_BYTES", 5_000)


def read(tasks: list[Task]) -> list[tuple[str, int, Any]]:
    """Return file, line and text or reason of everything in tasks."""
    found = []
    for task in tasks:
        for piece in task.pieces:
            for one in SOURCES.load(piece.block.source).read(piece.block, READING):
                what = one.reason if isinstance(one, Skipped) else one.content
                found.append((one.file, one.line, what))
    return found


@pytest.fixture
def inputs(place: Path) -> Inputs:
    """Two files of records, one of them compressed, some text, and one that breaks off."""
    put_records("data/many.jsonl", 30_000)
    packed = gzip.compress(put_records("plain", 10_000, seed=2).read_bytes())
    put("data/packed.jsonl.gz", packed)
    put("data/torn.jsonl.gz", packed[: len(packed) // 2])
    return Inputs.find(["data"], {"m": "*many*", "own": ""})


def test_tasks_hold_everything_once_and_in_order(inputs: Inputs) -> None:
    tasks = list(inputs.tasks())
    found = read(tasks)
    lines = Path("data/many.jsonl").read_text().count("\n")
    lines += gzip.decompress(Path("data/packed.jsonl.gz").read_bytes()).count(b"\n")
    of_whole_files = [one for one in found if "torn" not in one[0]]
    assert len(of_whole_files) == lines + 1 + 2 + 3
    places = [(file, line) for file, line, _ in of_whole_files]
    assert places == sorted(set(places))
    assert "breaks off" in found[-1][2]
    assert len(tasks) > 5
    assert tasks[-1].stop == Place(len(inputs.files), 0, 1)


def test_cutting_goes_on_from_the_end_of_any_task(inputs: Inputs) -> None:
    tasks = list(inputs.tasks())
    for number, task in enumerate(tasks, 1):
        assert read(list(inputs.tasks(task.stop))) == read(tasks[number:])


def test_small_files_share_a_task(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(20):
        put(f"data/s{number:02}.txt", "the ants")
    inputs = Inputs.find(["data/s*.txt"], {})
    (task,) = inputs.tasks()
    assert len(task.pieces) == 20
    assert task.size == 20 * len("the ants")
    monkeypatch.setattr(module, "TASK_BLOCKS", 8)
    assert [len(task.pieces) for task in inputs.tasks()] == [8, 8, 4]


def test_no_task_ends_at_a_fault(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torn = gzip.compress(put_records("plain", 20_000).read_bytes())[:-300]
    put("torn.jsonl.gz", torn)
    monkeypatch.setattr(module, "TASK_BLOCKS", 1)
    tasks = list(Inputs.find(["torn.jsonl.gz"], {}).tasks())
    assert [task.pieces[-1].block.fault is None for task in tasks] == [True] * (len(tasks) - 1) + [
        False
    ]
    assert tasks[-1].stop == Place(1, 0, 1)


def test_units_are_the_same_data_without_it(inputs: Inputs) -> None:
    whole = read(list(inputs.tasks()))
    for start in (Place.BEGINNING, *(task.stop for task in inputs.tasks())):
        tasks: list[Task] = []
        for unit in inputs.units(start):
            assert len(pickle.dumps(unit)) < 3_000
            arrived: Task | Rest = pickle.loads(pickle.dumps(unit))
            tasks += arrived.tasks() if isinstance(arrived, Rest) else [arrived]
        left = read(list(inputs.tasks(start)))
        assert read(tasks) == left == whole[len(whole) - len(left) :]
        stops = [task.stop for task in tasks]
        order = [(stop.file, stop.start) for stop in stops]
        assert order == sorted(order)


def test_domains_of_files(inputs: Inputs) -> None:
    by_name = dict(zip((file.name for file in inputs.files), inputs.groups, strict=True))
    assert by_name["data/many.jsonl"] == {"m"}
    assert by_name["data/a.txt"] == FEW
    groups = {
        piece.block.file.name: piece.group for task in inputs.tasks() for piece in task.pieces
    }
    assert groups == {name: by_name[name] for name in groups}
    with pytest.raises(CalibrationError, match=r"domain x: none of the files matches '\*\.py'"):
        Inputs.find(["data"], {"x": "*.py"})


def test_how_much_lies_before_a_place(inputs: Inputs) -> None:
    sizes = [file.size or 0 for file in inputs.files]
    assert inputs.size == sum(sizes)
    many = [file.name for file in inputs.files].index("data/many.jsonl")
    assert inputs.done(Place.BEGINNING) == 0
    assert inputs.done(Place(many, 100, 2)) == sum(sizes[:many]) + 100
    # how far a compressed file is cannot be told from what it holds
    assert inputs.done(Place(many + 1, 100, 2)) == sum(sizes[: many + 1])
    assert inputs.done(Place(len(sizes), 0, 1)) == sum(sizes)


def test_a_place_is_described_for_a_reader(inputs: Inputs) -> None:
    assert inputs.described(Place(0, 1_234, 20)) == "data/a.txt, byte 1,234 (line 20)"
    assert inputs.described(Place(0, 1_234, 1_235)) == "data/a.txt, row 1,235"
    assert inputs.described(Place(1, 0, 1)) == "data/chat.jsonl, byte 0 (line 1)"
    assert inputs.described(Place(len(inputs.files), 0, 1)) == "the end of the data"


def test_what_is_left_out_is_not_read(place: Path) -> None:
    files = Inputs.find(["data"], {}, leave_out=[place / "data" / "a.txt"]).files
    assert [file.name for file in files] == ["data/chat.jsonl", "data/code.jsonl"]
    (place / "data" / "out" / "deeper").mkdir(parents=True)
    put("data/out/deeper/fit.json", "{}")
    put("data/out.txt", "the ants")
    files = Inputs.find(["data"], {}, leave_out=[Path("data/out"), Path("data/a.txt")]).files
    assert [file.name for file in files] == ["data/chat.jsonl", "data/code.jsonl", "data/out.txt"]


def test_files_do_not_keep_their_heads(inputs: Inputs) -> None:
    list(inputs.tasks())
    assert not any("head" in vars(file) for file in inputs.files)


def test_a_file_that_goes_away_is_named(inputs: Inputs) -> None:
    Path("data/code.jsonl").unlink()
    with pytest.raises(CalibrationError, match=r"data/code\.jsonl: it cannot be .* \(No such"):
        list(inputs.tasks())


def test_documents_are_what_blocks_hold(inputs: Inputs) -> None:
    """What tests here compare is text: it is there, and not empty."""
    texts = [what for _, _, what in read(list(inputs.tasks())) if isinstance(what, str)]
    assert sum(map(len, texts)) > 30_000
    assert isinstance(Document("f", 1, "text").content, str)
