"""Plain rows against numpy's own indexing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tiny import H, V, edit, tiny_lm
from vocabtrim.core.errors import CheckpointError
from vocabtrim.tensors.checkpoint import Checkpoint
from vocabtrim.tensors.head import HeadTensor
from vocabtrim.tensors.packing import plain

EMBEDDING = HeadTensor("model.embed_tokens.weight")


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    bias = np.arange(V, dtype=np.float32)
    directory = tiny_lm(tmp_path_factory.mktemp("plain") / "lm", tied=False)
    return Checkpoint.open(edit(directory, add={"lm_head.bias": bias}))


@settings(deadline=None, max_examples=60)
@given(rows=st.lists(st.integers(0, V - 1), max_size=V), rows_a_chunk=st.integers(1, 7))
def test_any_rows_in_any_chunks(opened: Checkpoint, rows: list[int], rows_a_chunk: int) -> None:
    wanted = np.array(rows, dtype=np.int64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plain, "CHUNK_BYTES", rows_a_chunk * H * 4)
        chunks = list(plain.PLUGIN.select(opened, EMBEDDING, wanted))
    assert b"".join(chunks) == opened.rows(EMBEDDING.name)[wanted].tobytes()
    assert all(chunk.nbytes <= rows_a_chunk * H * 4 for chunk in chunks)


@pytest.mark.parametrize("rows", [[3, 3, 5], [3, 5, 5], [5, 4, 3], [3, 4, 5], [7]])
def test_only_rows_that_follow_one_another_are_a_run(opened: Checkpoint, rows: list[int]) -> None:
    chunks = plain.PLUGIN.select(opened, EMBEDDING, np.array(rows))
    assert b"".join(chunks) == opened.rows(EMBEDDING.name)[rows].tobytes()


def test_neighbouring_rows_are_not_copied(opened: Checkpoint) -> None:
    (chunk,) = plain.PLUGIN.select(opened, EMBEDDING, np.arange(10, 20))
    assert isinstance(np.asarray(chunk).base.obj.base, np.memmap)
    (gathered,) = plain.PLUGIN.select(opened, EMBEDDING, np.array([10, 12]))
    assert gathered.nbytes == 2 * H * 4


def test_the_entries_of_a_bias_are_its_rows(opened: Checkpoint) -> None:
    rows = np.array([7, 90])
    chunks = plain.PLUGIN.select(opened, HeadTensor("lm_head.bias", role="bias"), rows)
    assert np.frombuffer(b"".join(chunks), np.float32).tolist() == [7.0, 90.0]


def test_a_vocabulary_along_another_axis_is_refused(opened: Checkpoint) -> None:
    head = HeadTensor(EMBEDDING.name, row_axis=1)
    with pytest.raises(CheckpointError, match="lie along axis 0, not 1"):
        list(plain.PLUGIN.select(opened, head, np.array([0])))
