"""Classes with a reduced head, made by name."""

from __future__ import annotations

import pytest

from tests.fake_vllm import Ranks, Stock, install

pytest.importorskip("torch")


def test_a_class_is_vllms_own_with_a_head_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, Ranks())
    from vocabtrim.engines.vllm import models
    from vocabtrim.engines.vllm.head import ReducedHead, ReducedPrediction

    lm, mtp = models.TrimmedLlamaForCausalLM, models.TrimmedQwen3_5MTP
    assert lm.__mro__[1] is ReducedHead
    assert issubclass(lm, Stock)
    assert not issubclass(lm, ReducedPrediction)
    assert issubclass(mtp, ReducedPrediction)
    assert mtp.__name__ == "TrimmedQwen3_5MTP"
    assert models.TrimmedQwen3_5MTP is mtp
    assert lm.has_own_lm_head


def test_a_version_that_was_not_tested_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, Ranks(), version="0.33.0")
    from vocabtrim.engines.vllm import models

    with pytest.raises(ValueError, match=r"found 0\.33\.0: serve the untrimmed drafter"):
        _ = models.TrimmedLlamaForCausalLM


def test_other_names_are_none_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, Ranks())
    from vocabtrim.engines.vllm import models

    with pytest.raises(AttributeError, match="has no attribute 'LlamaForCausalLM'"):
        _ = models.LlamaForCausalLM
