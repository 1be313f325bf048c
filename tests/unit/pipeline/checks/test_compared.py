"""Rows beside the target's, in any two containers and any type, in little memory."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from tests.clean_drafters import IDS, K, gguf_drafter, specforge, target, trimmed
from tests.tiny import WATCH_MEMORY, edit, tiny_target
from tests.tiny_gguf import tiny_gguf_target
from vocabtrim.pipeline.checks.compared import compare, rows_fit
from vocabtrim.pipeline.checks.subject import Form, Subject
from vocabtrim.pipeline.checks.verifier import Verifier
from vocabtrim.tensors.checkpoint import Checkpoint
from vocabtrim.tensors.gguf_model import open_gguf


def gguf_pair(tmp_path: Path, kind: str, ids: np.ndarray) -> Subject:
    """Return a GGUF drafter whose rows are the GGUF target's, in another type."""
    verifier = Verifier.open(str(tiny_gguf_target(tmp_path / "t.gguf", kind=kind, vocab_size=256)))
    generator = np.random.default_rng(6)
    rows = generator.normal(0, 0.2, (256, 256)).astype(np.float32)[ids]
    drafter = gguf_drafter(tmp_path, ids=None, head=None, add={"output.weight": rows, "d2t": IDS})
    return Subject(drafter, Form.GGUF, gguf=open_gguf(drafter), target=verifier)


@pytest.mark.parametrize("kind", ["F32", "Q8_0", "Q4_0"])
def test_rows_of_gguf_files_are_compared_as_they_are(tmp_path: Path, kind: str) -> None:
    assert rows_fit(gguf_pair(tmp_path, kind, IDS))
    shuffled = np.random.default_rng(1).permutation(IDS)
    assert not rows_fit(gguf_pair(tmp_path, kind, shuffled))


def test_a_directory_beside_a_gguf_target(tmp_path: Path) -> None:
    path = specforge(tmp_path / "d")
    generator = np.random.default_rng(3)
    whole = generator.normal(0, 0.2, (256, 256)).astype(np.float32)
    edit(path, add={"lm_head.weight": whole[IDS]}, config={"hidden_size": 256})
    verifier = tiny_gguf_target(tmp_path / "t.gguf", vocab_size=256, seed=3)
    subject = Subject(
        path, Form.CHECKPOINT, Checkpoint.open(path), target=Verifier.open(str(verifier))
    )
    assert rows_fit(subject)


def test_without_a_target_nothing_fits_and_nothing_is_read(tmp_path: Path) -> None:
    path = trimmed(tmp_path / "d")
    assert not rows_fit(Subject(path, Form.CHECKPOINT, Checkpoint.open(path)))
    verifier = Verifier.open(str(tmp_path / "its target"))
    assert rows_fit(Subject(path, Form.CHECKPOINT, Checkpoint.open(path), target=verifier))


def test_a_subject_is_compared_once(tmp_path: Path) -> None:
    path = specforge(tmp_path / "d")
    verifier = Verifier.open(str(target(tmp_path / "t")))
    subject = Subject(path, Form.CHECKPOINT, Checkpoint.open(path), target=verifier)
    assert compare(subject) is compare(subject)


def test_a_wide_target_is_read_in_pieces(tmp_path: Path) -> None:
    V, H = 40_000, 1024  # 160 MB
    verifier = tiny_target(tmp_path / "t", tied=False, vocab_size=64, hidden=H)
    head = np.lib.stride_tricks.as_strided(np.ones(H, np.float32), (V, H), (0, 4))
    edit(verifier, add={"lm_head.weight": head}, config={"vocab_size": V})
    path = edit(
        specforge(tmp_path / "d"), add={"lm_head.weight": np.ones((K, H), np.float32)}, drop=["t2d"]
    )
    script = WATCH_MEMORY + textwrap.dedent(
        """
        import sys
        from pathlib import Path
        from vocabtrim.pipeline.checks.compared import compare
        from vocabtrim.pipeline.checks.subject import Form, Subject
        from vocabtrim.pipeline.checks.verifier import Verifier
        from vocabtrim.tensors.checkpoint import Checkpoint
        before = _anonymous_kib()
        try:
            drafter = Path(sys.argv[1])
            target = Verifier.open(sys.argv[2])
            opened = Checkpoint.open(drafter)
            assert compare(Subject(drafter, Form.CHECKPOINT, opened, target=target)) is not None
        finally:
            print(peak_kib() - before)
        """
    )
    command = [sys.executable, "-c", script, str(path), str(verifier)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(done.stdout.split()[-1]) < 150_000
