"""Packed weights multiply as plain ones do, and only layers that just multiply are packed."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import linear

from tests.tiny import tiny_eagle3, tiny_lm, tiny_target
from tests.tiny_models import write_tokenizer
from vocabtrim.core.errors import DecodeError
from vocabtrim.decode import packed
from vocabtrim.decode.chain import speculate
from vocabtrim.decode.model import load_model
from vocabtrim.decode.packed import PackedLinear, is_packed, pack_linears, packs, product
from vocabtrim.decode.target import Target
from vocabtrim.pipeline.pair import open_pair

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
@pytest.mark.filterwarnings("ignore:TF32")
def test_onednn_switched_off_by_the_user() -> None:
    with torch.backends.mkldnn.flags(enabled=False):
        assert not packs(torch.empty(1, 1, dtype=BF16))


@needs_packing
def test_layers_that_do_more_than_multiply_stay() -> None:
    class Special(torch.nn.Linear):
        pass

    def layer() -> torch.nn.Linear:
        return torch.nn.Linear(4, 4, dtype=BF16)

    hooked, before, own, compressed = (layer() for _ in range(4))
    hooked.register_forward_hook(lambda *_: torch.ones(4))
    before.register_forward_pre_hook(lambda *_: None)
    own.forward = lambda values: 2 * values  # type: ignore[method-assign, assignment]
    del compressed.weight
    kept = [hooked, before, own, compressed, Special(4, 4, dtype=BF16)]
    model = torch.nn.Sequential(*kept)
    assert list(pack_linears(model)) == kept
    assert not is_packed(model)

    class Wrapped(torch.Tensor):
        pass

    assert not packs(torch.ones(4, 4, dtype=BF16).as_subclass(Wrapped))


@needs_packing
def test_a_layer_of_two_parents_is_packed_once() -> None:
    shared = torch.nn.Linear(4, 4, dtype=BF16)
    model = torch.nn.ModuleList([torch.nn.Sequential(shared), torch.nn.Sequential(shared)])
    first, second = pack_linears(model)
    assert isinstance(first[0], PackedLinear)
    assert first[0] is second[0]


@needs_packing
def test_packed_layers_are_neither_saved_nor_moved() -> None:
    model = pack_linears(torch.nn.Sequential(torch.nn.Linear(4, 6, dtype=BF16)))
    values = torch.randn(2, 4).to(BF16)
    said = model(values)
    assert (model[0].in_features, model[0].out_features) == (4, 6)
    with pytest.raises(DecodeError, match="cannot be saved"):
        model.state_dict()
    with pytest.raises(DecodeError, match="to float32 on cpu; load the model again"):
        model.float()
    with pytest.raises(DecodeError, match="bfloat16 on meta"):
        model.to("meta")
    assert torch.equal(copy.deepcopy(model).to("cpu")(values), said)


@needs_packing
def test_all_plain_linear_layers_of_a_model_and_no_others(tmp_path: Path) -> None:
    model = load_model(tiny_target(tmp_path), "bfloat16")
    count = sum(type(one) is torch.nn.Linear for one in model.modules())
    embedding = model.get_input_embeddings().weight.clone()
    assert pack_linears(model) is model
    kinds = [type(one) for one in model.modules()]
    assert (kinds.count(PackedLinear), kinds.count(torch.nn.Linear)) == (count, 0)
    assert torch.equal(model.get_input_embeddings().weight, embedding)
    head = model.get_output_embeddings().weight
    assert (head.shape, head.dtype, head.device.type) == (embedding.shape, BF16, "meta")


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


@needs_packing
@pytest.mark.parametrize("kind", ["eagle3", "lm"])
def test_opened_in_bfloat16_both_of_a_pair_are_packed(kind: str, tmp_path: Path) -> None:
    place = write_tokenizer(tiny_target(tmp_path / "t"), chat=True)
    made = (tiny_eagle3 if kind == "eagle3" else tiny_lm)(tmp_path / "d")
    pair = open_pair(place, made, dtype="bfloat16")
    assert is_packed(pair.target.model)
    head = pair.drafter.head
    assert "_product" not in vars(head)
    head.logits(torch.zeros(1, head.weight.shape[1], dtype=BF16))
    assert isinstance(head._product, PackedLinear)
    exact = open_pair(place, made, dtype="float32")
    assert not is_packed(exact.target.model)
    ids = [3, 5, 7, 11, 13]
    plain = speculate(pair.target, None, ids, gamma=0, max_new_tokens=16)
    drafted = speculate(pair.target, pair.drafter, ids, gamma=3, max_new_tokens=16)
    # the tiny models' logits lie far enough apart
    assert drafted.token_ids == plain.token_ids
    assert len(plain.token_ids) == 16
