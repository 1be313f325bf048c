"""A head of K rows: what it loads, what it draws, over one rank and several."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")

from tests.fake_vllm import H, Ranks, Stock, config, install  # noqa: E402 - it needs torch

V, K = 512, 192
IDS = torch.arange(3, V, 2)[:K]
D2T = IDS - torch.arange(K)


def rows(seed: int = 0) -> Any:
    return torch.randn(K, H, generator=torch.Generator().manual_seed(seed))


def built(ranks: Ranks, weights: dict[str, Any] | None = None, *, prediction: bool = False) -> Any:
    from vocabtrim.engines.vllm import models

    made = models.TrimmedQwen3_5MTP if prediction else models.TrimmedLlamaForCausalLM
    drafter = made(vllm_config=config(V, K), prefix="draft")
    given = {"lm_head.weight": rows(), "d2t": D2T, "t2d": torch.ones(V, dtype=torch.bool)}
    drafter.loaded = drafter.load_weights((given if weights is None else weights).items())
    return drafter


def expected(hidden: Any) -> Any:
    """Logits over V as a decoder computes them: the stock cap and scale, then the map."""
    reduced = torch.tanh(hidden @ rows().T / 30.0) * 30.0 * 0.5
    full = torch.full((hidden.shape[0], V), -torch.inf)
    full[:, IDS] = reduced
    return full


@pytest.mark.parametrize("size", [1, 2, 4, 8])
def test_ranks_draft_what_one_would(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    ranks = Ranks(size)
    install(monkeypatch, ranks)
    hidden = torch.randn(5, H, generator=torch.Generator().manual_seed(1))
    drafters = []
    for ranks.rank in range(size):
        drafters.append(built(ranks))
    for call in ("get_top_tokens", "compute_logits"):
        ranks.given.clear()
        for ranks.rank, drafter in enumerate(drafters):  # the first round only collects
            getattr(drafter, call)(hidden)
        for drafter in drafters:
            found = getattr(drafter, call)(hidden)
            if call == "compute_logits":
                assert torch.allclose(found, expected(hidden))
                assert (found.softmax(-1)[:, 0] == 0).all()
            else:
                assert found.tolist() == expected(hidden).argmax(-1).tolist()


def test_rows_in_any_order_keep_their_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    ranks = Ranks()
    install(monkeypatch, ranks)
    order = torch.randperm(K, generator=torch.Generator().manual_seed(2))
    weights = {"lm_head.weight": rows()[order], "d2t": IDS[order] - torch.arange(K)}
    hidden = torch.randn(7, H, generator=torch.Generator().manual_seed(1))
    assert built(ranks, weights).get_top_tokens(hidden).tolist() == (
        expected(hidden).argmax(-1).tolist()
    )


def test_ours_is_kept_from_the_trunk(monkeypatch: pytest.MonkeyPatch) -> None:
    ranks = Ranks(2, 1)
    install(monkeypatch, ranks)
    weights = {"x": torch.ones(1), "lm_head.weight": rows(), "d2t": D2T, "y": torch.ones(1)}
    drafter = built(ranks, weights)
    assert drafter.seen == ["x", "y"]
    assert drafter.loaded == {"x", "y", "lm_head.weight", "draft_id_to_target_id"}
    assert torch.equal(drafter.lm_head.weight, rows()[K // 2 :])
    assert torch.equal(drafter.draft_id_to_target_id, D2T)


def test_padding_is_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, Ranks())
    from vocabtrim.engines.vllm import models

    drafter = models.TrimmedLlamaForCausalLM(vllm_config=config(V, 10))
    weights = {"lm_head.weight": rows()[:10], "d2t": D2T[:10]}
    drafter.load_weights(weights.items())
    assert drafter.lm_head.weight.shape == (64, H)
    assert (drafter.lm_head.weight[10:] == 0).all()


def test_prediction_layers_come_from_the_target(monkeypatch: pytest.MonkeyPatch) -> None:
    ranks = Ranks()
    install(monkeypatch, ranks)
    weights = {
        "lm_head.weight": rows(),
        "d2t": D2T,
        "target.mtp.fc.weight": torch.ones(1),
        "target.lm_head.weight": torch.ones(V, H),
        "target.model.embed_tokens.weight": torch.ones(1),
    }
    drafter = built(ranks, weights, prediction=True)
    assert drafter.seen == ["mtp.fc.weight", "model.embed_tokens.weight"]
    assert torch.equal(drafter.lm_head.weight, rows())
    (source,) = drafter.secondary_weights
    assert (source.model_or_path, source.revision, source.prefix) == (
        "org/target",
        "abc",
        "target.",
    )
    assert source.is_unused_weight("model.layers.0.weight")
    assert not source.is_unused_weight("mtp.fc.weight")


def test_layers_that_a_loader_did_not_read_are_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some of vLLM's loaders read the drafter's directory alone."""
    install(monkeypatch, Ranks())
    with pytest.raises(ValueError, match=r"read nothing: serve with --load-format auto"):
        built(Ranks(), {"lm_head.weight": rows(), "d2t": D2T}, prediction=True)


def test_vllm_is_told_not_to_put_the_targets_head_in_its_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    install(monkeypatch, Ranks())
    assert built(Ranks()).has_own_lm_head
    assert not hasattr(Stock, "has_own_lm_head")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"lm_head.weight": None}, r"there is no \['lm_head.weight'\]"),
        ({"d2t": None}, r"there is no \['d2t'\]"),
        ({"lm_head.weight": torch.ones(K + 1, H)}, "a head of 192 rows of 8 is expected"),
        ({"d2t": D2T[1:]}, r"d2t \[191\]"),
        ({"d2t": D2T + V}, "192 different ids below 512"),
        ({"d2t": D2T - V}, "192 different ids below 512"),
        ({"d2t": -torch.arange(K)}, "192 different ids below 512"),
    ],
)
def test_an_export_that_does_not_fit_is_refused(
    monkeypatch: pytest.MonkeyPatch, changed: dict[str, Any], message: str
) -> None:
    install(monkeypatch, Ranks())
    given = {"lm_head.weight": rows(), "d2t": D2T} | changed
    weights = {name: value for name, value in given.items() if value is not None}
    with pytest.raises(ValueError, match=message):
        built(Ranks(), weights)


@pytest.mark.parametrize("size", [None, 0, V + 1, "64"])
def test_a_config_without_a_size_is_refused(monkeypatch: pytest.MonkeyPatch, size: Any) -> None:
    install(monkeypatch, Ranks())
    from vocabtrim.engines.vllm import models

    with pytest.raises(ValueError, match="states draft_vocab_size, from 1 to the target's 512"):
        models.TrimmedLlamaForCausalLM(vllm_config=config(V, size))


def test_a_trimmed_drafter_is_not_served_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, Ranks())
    from vocabtrim.engines.vllm import models

    with pytest.raises(ValueError, match="name it in --speculative-config"):
        models.TrimmedLlamaForCausalLM(vllm_config=config(V, K, alone=True))
