"""What llama.cpp alone asks for, and of which architectures."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.clean_drafters import gguf_drafter, gguf_target
from tests.tiny_gguf import tiny_gguf
from vocabtrim.pipeline.checks import gguf
from vocabtrim.pipeline.checks.subject import Form, Subject
from vocabtrim.tensors.gguf_model import open_gguf


def looked(path: Path) -> Subject:
    return Subject(path, Form.GGUF, gguf=open_gguf(path))


def names(subject: Subject) -> list[str]:
    return [check.name for check in gguf.PLUGIN if list(check.find(subject))]


def test_a_whole_drafter_and_a_target(tmp_path: Path) -> None:
    assert not names(looked(gguf_drafter(tmp_path / "d")))
    assert not names(looked(gguf_target(tmp_path)))


def test_other_architectures_are_fed_no_layers(tmp_path: Path) -> None:
    path = tiny_gguf(tmp_path / "x.gguf", head="Q8_0", ids=range(0, 96, 3), architecture="dflash")
    assert not names(looked(path))


def test_a_table_of_as_many_rows_is_right(tmp_path: Path) -> None:
    for rows, found in ((32, []), (96, ["gguf-followers"])):
        path = tiny_gguf(
            tmp_path / f"{rows}.gguf",
            head="Q8_0",
            ids=range(0, 96, 3),
            architecture="dflash",
            add={"markov_w2.weight": np.ones((rows, 32), np.float32)},
        )
        assert names(looked(path)) == found


def test_layers_of_a_wrong_type_are_missing(tmp_path: Path) -> None:
    path = gguf_drafter(
        tmp_path / "d", more=lambda w: w.add_array("eagle3.target_layers", ["2", "4", "5"])
    )
    assert names(looked(path)) == ["gguf-layers"]
