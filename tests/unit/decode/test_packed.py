"""Packed weights multiply as plain ones do, and models that have them decode the same texts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import linear

from tests.tiny import tiny_target
from vocabtrim.decode import packed
from vocabtrim.decode.chain import speculate
from vocabtrim.decode.model import load_model
from vocabtrim.decode.packed import PackedLinear, pack_linears, packs, product
from vocabtrim.decode.target import Target

BF16 = torch.bfloat16

needs_packing = pytest.mark.skipif(
    not packs(torch.empty(1, 1, dtype=BF16)), reason="torch packs no bfloat16 on this processor"
)


def weights(n: int, k: int, *, bias: bool) -> tuple[torch.Tensor, torch.Tensor | None]:
    made = torch.Generator().manual_seed(n * 1000 + k)
    weight = torch.randn(n, k, generator=made).to(BF16)
    return weight, torch.randn(n, generator=made).to(BF16) if bias else None


@needs_packing
@settings(deadline=None)
@given(
    n=st.integers(1, 70),
    k=st.integers(1, 70),
    shape=st.lists(st.integers(0, 5), max_size=3),
    bias=st.booleans(),
)
def test_the_product_is_that_of_the_plain_weight(
    n: int, k: int, shape: list[int], *, bias: bool
) -> None:
    weight, added = weights(n, k, bias=bias)
    values = torch.randn(*shape, k, generator=torch.Generator().manual_seed(7)).to(BF16)
    found = product(weight, added)(values)
    exact = linear(values.double(), weight.double(), None if added is None else added.double())
    assert found.shape == (*shape, n)
    assert found.dtype == BF16
    # one rounding of the result, and sums of float32 before it
    torch.testing.assert_close(found.double(), exact, rtol=2**-8, atol=1e-4)


@needs_packing
def test_a_row_that_is_no_neighbour_in_memory() -> None:
    weight, _ = weights(24, 16, bias=False)
    values = torch.randn(3, 5, 16).to(BF16)
    swapped = values.transpose(0, 1)
    torch.testing.assert_close(product(weight)(swapped), product(weight)(values).transpose(0, 1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_other_dtypes_are_left_to_the_plain_kernel(dtype: torch.dtype) -> None:
    weight, values = torch.randn(6, 4, dtype=dtype), torch.randn(3, 4, dtype=dtype)
    assert not packs(weight)
    assert torch.equal(product(weight)(values), linear(values, weight))
    layer = torch.nn.Sequential(torch.nn.Linear(4, 6, dtype=dtype))
    assert type(pack_linears(layer)[0]) is torch.nn.Linear


@pytest.mark.parametrize("lacking", ["operators", "processor"])
def test_where_they_are_not_to_be_had(lacking: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if lacking == "operators":
        monkeypatch.setattr(packed.torch.ops, "mkldnn", object())
    else:
        monkeypatch.setattr(packed.platform, "machine", lambda: "aarch64")
    weight, values = weights(6, 4, bias=False)[0], torch.randn(3, 4).to(BF16)
    assert not packs(weight)
    assert torch.equal(product(weight)(values), linear(values, weight))


@needs_packing
def test_all_plain_linear_layers_of_a_model_and_no_others(tmp_path: Path) -> None:
    class Special(torch.nn.Linear):
        pass

    model = load_model(tiny_target(tmp_path), "bfloat16")
    count = sum(type(one) is torch.nn.Linear for one in model.modules())
    embedding = model.get_input_embeddings().weight.clone()
    assert pack_linears(model) is model
    kinds = [type(one) for one in model.modules()]
    assert (kinds.count(PackedLinear), kinds.count(torch.nn.Linear)) == (count, 0)
    assert torch.equal(model.get_input_embeddings().weight, embedding)
    head = model.get_output_embeddings().weight
    assert (head.shape, head.dtype, head.device.type) == (embedding.shape, BF16, "meta")
    other = torch.nn.Sequential(Special(4, 4, dtype=BF16))
    assert type(pack_linears(other)[0]) is Special


@needs_packing
def test_a_packed_model_says_what_the_plain_one_says(tmp_path: Path) -> None:
    place = tiny_target(tmp_path)
    plain, fast = (Target(load_model(place, "bfloat16")) for _ in range(2))
    pack_linears(fast.model)
    ids = [3, 5, 7, 11, 13]
    outcome: list[Any] = []
    for target in (plain, fast):
        target.begin(16)
        outcome.append(target.read(ids).logits.float())
    torch.testing.assert_close(*outcome, rtol=0.05, atol=0.05)
    text = speculate(fast, None, ids, gamma=0, max_new_tokens=8)
    assert len(text.token_ids) <= 8
