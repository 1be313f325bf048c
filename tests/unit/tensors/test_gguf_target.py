from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import pytest

from tests.tiny_gguf import H, V, tiny_gguf, tiny_gguf_target
from vocabtrim.core.errors import CheckpointError
from vocabtrim.core.metrics import StepCost
from vocabtrim.tensors.gguf_model import open_gguf
from vocabtrim.tensors.gguf_target import gguf_causal_cost

Q8_ROW = H // 32 * 34
NORM = H * 4


@pytest.mark.parametrize("tied", [True, False])
def test_a_step_reads_the_head_and_one_row_of_the_embedding(tmp_path: Path, tied: bool) -> None:
    model = open_gguf(tiny_gguf_target(tmp_path / "t.gguf", tied=tied))
    assert gguf_causal_cost(model) == StepCost(
        params=H + V * H * (1 if tied else 2),
        head_params=V * H,
        step_bytes=NORM + V * Q8_ROW + Q8_ROW,
        head_bytes=V * Q8_ROW,
    )


def experts(path: Path, used: int | None) -> Path:
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_token_list(["a", "b"])
    if used is not None:
        writer.add_expert_count(8)
        writer.add_expert_used_count(used)
    writer.add_tensor("token_embd.weight", np.zeros((2, 4), dtype=np.float32))
    writer.add_tensor("output.bias", np.zeros(2, dtype=np.float32))
    writer.add_tensor("blk.0.ffn_up_exps.weight", np.zeros((8, 4, 4), dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file(progress=False)
    writer.close()
    return path


@pytest.mark.parametrize(("used", "share"), [(2, 0.25), (8, 1.0), (None, 1.0)])
def test_of_experts_a_token_reads_those_it_is_sent_to(
    tmp_path: Path, used: int | None, share: float
) -> None:
    cost = gguf_causal_cost(open_gguf(experts(tmp_path / "t.gguf", used)))
    assert cost.params == 8 + 2 + 128
    assert cost.head_params == 10
    assert cost.step_bytes == 4 * (share * 128 + 10 + 4)


def test_a_drafter_without_an_embedding_is_no_causal_lm(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no causal LM: it has no token_embd\.weight"):
        gguf_causal_cost(open_gguf(tiny_gguf(tmp_path / "d.gguf")))
