"""What is refused is refused by name; nothing that `generate` can be asked for is passed over."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import DynamicCache, GenerationConfig, LogitsProcessor, StoppingCriteria

from tests.tiny_models import random_ids, tiny_model
from tests.tiny_pairs import eagle_drafter, vocabulary
from vocabtrim.core.errors import DecodeError
from vocabtrim.engines.transformers import speculative_generate
from vocabtrim.engines.transformers.accepted import (
    PROCESSED,
    RESPECTED,
    attended,
    check_arguments,
    check_config,
    check_rows,
    hidden_arguments,
)

MODEL = tiny_model()
DRAFTER = eagle_drafter(MODEL, vocabulary(48))
PROMPT = torch.tensor([random_ids(9)])


def call(ids: torch.Tensor = PROMPT, **options: Any) -> Any:
    options = {"max_new_tokens": 4} | options
    return MODEL.generate(ids, custom_generate=speculative_generate, drafter=DRAFTER, **options)


def plain_config(**fields: Any) -> GenerationConfig:
    """Return a config as `generate` prepares it, some fields set whatever it thinks of them."""
    config = GenerationConfig()
    config.update(**config._get_default_generation_params(), defaults_only=True)
    for name, value in fields.items():
        setattr(config, name, value)
    return config


FIELDS = sorted(name for name in vars(GenerationConfig()) if not name.startswith("_"))


@pytest.mark.parametrize("name", FIELDS)
def test_every_field_is_respected_or_refused(name: str) -> None:
    config = plain_config(**{name: "something else"})
    if name in RESPECTED:
        check_config(config, GenerationConfig())
        return
    with pytest.raises(DecodeError, match=f"{name}='something else' is not taken"):
        check_config(config, GenerationConfig())


def test_every_respected_field_exists() -> None:
    assert set(RESPECTED) <= set(FIELDS)


def test_every_processed_field_makes_a_processor_of_generate() -> None:
    # a value for each; those that make none would be passed over in silence
    values: dict[str, Any] = {
        "top_h": 0.5,
        "no_repeat_ngram_size": 2,
        "encoder_no_repeat_ngram_size": 2,
        "bad_words_ids": [[5]],
        "sequence_bias": {(5,): 1.0},
        "suppress_tokens": [5],
        "begin_suppress_tokens": [5],
        "forced_bos_token_id": 5,
        "forced_eos_token_id": 2,
        "remove_invalid_values": True,
        "renormalize_logits": True,
        "exponential_decay_length_penalty": (1, 1.5),
        "repetition_penalty": 1.5,
        "encoder_repetition_penalty": 1.5,
    }
    for name in PROCESSED:
        config = plain_config(do_sample=True, top_k=0, **{name: values.get(name, 0.5)})
        config._eos_token_tensor = torch.tensor([2])
        made = MODEL._get_logits_processor(
            config, input_ids_seq_length=9, encoder_input_ids=PROMPT, device="cpu"
        )
        assert len(made) == 1, name


def test_a_field_of_a_later_version_is_refused() -> None:
    config = plain_config()
    config.new_in_6 = True
    with pytest.raises(DecodeError, match="new_in_6=True is not taken"):
        check_config(config, GenerationConfig())
    # what the model's own file says besides, plain `generate` passes over too
    own = GenerationConfig(new_in_6=True)
    check_config(config, own)
    config.new_in_6 = 3
    with pytest.raises(DecodeError, match="new_in_6=3"):
        check_config(config, own)


def test_leaving_out_has_two_words() -> None:
    check_config(plain_config(output_logits=False, output_scores=None), GenerationConfig())
    with pytest.raises(DecodeError, match="guidance_scale=0"):
        check_config(plain_config(guidance_scale=0), GenerationConfig())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_beams": 2}, "num_beams=2 .*one continuation"),
        ({"guidance_scale": 1.5}, "guidance_scale=1.5 .*drafts would spoil"),
        ({"num_assistant_tokens": 3}, "num_assistant_tokens=3 .*give gamma"),
        ({"output_scores": True}, "output_scores=True .*tokens alone"),
        ({"output_hidden_states": True}, "output_hidden_states"),
        ({"use_cache": False}, "use_cache=False .*cache of its own"),
        ({"cache_implementation": "static"}, "cache_implementation='static'"),
        ({"past_key_values": DynamicCache()}, "past_key_values='DynamicCache'"),
        ({"prompt_lookup_num_tokens": 3}, "prompt_lookup_num_tokens=3"),
        ({"position_ids": torch.arange(3, 12)[None]}, "position_ids=.*first token that is no pad"),
        ({"logits_to_keep": 3}, "logits_to_keep=3"),
        ({"inputs_embeds": torch.zeros(1, 9, 32)}, "inputs_embeds=a Tensor .*give input_ids"),
        ({"assistant_model": MODEL}, "assistant_model=a Llama.*give drafter"),
        ({"synced_gpus": True}, "one process"),
    ],
)
def test_what_a_call_may_not_ask_for(options: dict[str, Any], message: str) -> None:
    with pytest.raises(DecodeError, match=message):
        call(**options)


def test_what_is_refused_by_generate_itself() -> None:
    with pytest.raises(ValueError, match="not used by the model"):
        call(gama=3)
    with pytest.raises(ValueError, match="token healing"):
        call(token_healing=True)


def test_the_frame_of_another_version_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    import transformers

    def generate(_self: Any) -> Any:
        return hidden_arguments()

    monkeypatch.setattr(transformers.GenerationMixin, "generate", generate)
    with pytest.raises(DecodeError, match="does not show whether a streamer was given"):
        generate(None)


def test_outside_of_generate_nothing_is_hidden() -> None:
    assert hidden_arguments().streamer is None


def test_a_call_from_inside_a_function_of_the_caller_s() -> None:
    class Ended:
        ended = False

        def put(self, tokens: torch.Tensor) -> None: ...

        def end(self) -> None:
            self.ended = True

    def wrapped(model: Any, input_ids: torch.Tensor, **options: Any) -> Any:
        return speculative_generate(model, input_ids, drafter=DRAFTER, **options)

    streamer = Ended()
    MODEL.generate(PROMPT, custom_generate=wrapped, max_new_tokens=3, streamer=streamer)
    assert streamer.ended


class Processor(LogitsProcessor):
    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        return scores


class Criterion(StoppingCriteria):
    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        return torch.zeros(len(input_ids), dtype=torch.bool)


def test_what_looks_at_whole_batches_is_for_one_prompt() -> None:
    two = torch.tensor([[0, 0, 5, 7], [4, 5, 6, 7]])
    mask = (two != 0).long()
    for options, name in (
        ({"logits_processor": [Processor()]}, "Processor"),
        ({"stopping_criteria": [Criterion()]}, "Criterion"),
        ({"prefix_allowed_tokens_fn": lambda *_: [5]}, "PrefixConstrainedLogitsProcessor"),
        ({"repetition_penalty": 1.5}, "RepetitionPenaltyLogitsProcessor"),
        ({"encoder_repetition_penalty": 1.5}, "EncoderRepetitionPenaltyLogitsProcessor"),
    ):
        with pytest.raises(DecodeError, match=f"{name} is called with one text at a time, and 2"):
            call(two, attention_mask=mask, **options)
    with pytest.raises(DecodeError, match="a streamer shows one text, and 2"):
        call(two, attention_mask=mask, streamer=SimpleNamespace(put=lambda _: None))
    check_rows(1, [Processor(), Criterion()], object())
    # without padding it looks at the row alone
    even = torch.tensor([random_ids(4, seed=1), random_ids(4, seed=2)])
    options = {"repetition_penalty": 1.5, "max_new_tokens": 12}
    ours, theirs = call(even, **options), MODEL.generate(even, **options)
    assert torch.equal(ours, theirs)


def test_a_class_of_the_caller_s_with_a_known_name_is_not_taken_for_it() -> None:
    named = type("TopKLogitsWarper", (Processor,), {})()
    with pytest.raises(DecodeError, match="TopKLogitsWarper is called"):
        check_rows(2, [named], None)


def test_padding_stands_in_front() -> None:
    ids = torch.tensor([[5, 6, 7], [5, 6, 7]])
    assert attended(None, ids).all()
    mask = torch.tensor([[0, 1, 1], [1, 1, 1]])
    assert attended(mask, ids).tolist() == mask.bool().tolist()
    for wrong in ([[1, 1, 0], [1, 1, 1]], [[1, 0, 1], [1, 1, 1]]):
        with pytest.raises(DecodeError, match="padding_side='left'"):
            call(ids, attention_mask=torch.tensor(wrong))


def test_positions_are_those_that_generate_counts() -> None:
    ids = torch.tensor([[0, 6, 7], [5, 6, 7]])
    mask = torch.tensor([[0, 1, 1], [1, 1, 1]])
    counted = torch.tensor([[9, 0, 1], [0, 1, 2]])
    check_arguments({"attention_mask": mask, "position_ids": counted}, ids)
    with pytest.raises(DecodeError, match="position_ids"):
        check_arguments({"attention_mask": mask, "position_ids": counted + 1}, ids)
    with pytest.raises(DecodeError, match="position_ids"):
        check_arguments({"position_ids": counted[:, 1:]}, ids)
