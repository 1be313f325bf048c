"""What `generate` may be asked for where our decoder runs behind it, and what is refused.

Everything that reaches the decoder is looked at: each field of the generation
config, whatever a later version of `transformers` adds included, every other
argument, every logits processor and stopping criterion. A thing is respected, or is
what it would be by default, or one sentence says that it is not taken. Processors
and criteria are respected as objects: they are called as `generate` calls them.

`generate` hands some arguments to its own loops only (5.23,
`_extract_generation_mode_kwargs`), a streamer among them, so those are looked up
where they were given: in the frame of the call.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from vocabtrim.core.errors import DecodeError

LENGTHS = ("max_length", "max_new_tokens", "min_length", "min_new_tokens")
STOPS = ("max_time", "stop_strings")
CHOICE = ("do_sample", "temperature", "top_k", "top_p")
PROCESSED = (
    *("min_p", "top_h", "typical_p", "epsilon_cutoff", "eta_cutoff", "renormalize_logits"),
    *("repetition_penalty", "encoder_repetition_penalty", "no_repeat_ngram_size"),
    *("encoder_no_repeat_ngram_size", "bad_words_ids", "sequence_bias", "suppress_tokens"),
    *("begin_suppress_tokens", "forced_bos_token_id", "forced_eos_token_id"),
    *("remove_invalid_values", "exponential_decay_length_penalty"),
)
"""Become logits processors, which depend on the text so far alone."""
BEFOREHAND = ("bos_token_id", "pad_token_id", "eos_token_id", "token_healing")
SHAPE = ("num_return_sequences", "return_dict_in_generate")
HISTORY = ("transformers_version",)
RESPECTED = frozenset((*LENGTHS, *STOPS, *CHOICE, *PROCESSED, *BEFOREHAND, *SHAPE, *HISTORY))
"""Fields of a generation config that may have any value."""

INSTEAD = {
    "num_beams": "it decodes one continuation of each text",
    "num_assistant_tokens": "give gamma",
    "guidance_scale": "that processor remembers texts that drafts would spoil",
    "watermarking_config": "that processor remembers texts that drafts would spoil",
    "output_scores": "it returns tokens alone",
    "output_logits": "it returns tokens alone",
    "output_attentions": "it returns tokens alone",
    "output_hidden_states": "it returns tokens alone",
    "use_cache": "it keeps a cache of its own",
    "cache_implementation": "it keeps a cache of its own",
    "past_key_values": "it keeps a cache of its own",
    "position_ids": "it counts positions from the first token that is no padding",
    "assistant_model": "give drafter",
    "inputs_embeds": "give input_ids",
}

PREPARED = frozenset(
    {"attention_mask", "position_ids", "past_key_values", "use_cache", "logits_to_keep"}
)
"""Arguments of the model that `generate` prepares, and that are checked or replaced here."""

_HIDDEN = ("streamer", "assistant_model", "synced_gpus")

_ROW_BY_ROW = frozenset(
    {
        *("TemperatureLogitsWarper", "TopKLogitsWarper", "TopPLogitsWarper", "TopHLogitsWarper"),
        *("MinPLogitsWarper", "TypicalLogitsWarper", "EpsilonLogitsWarper", "EtaLogitsWarper"),
        *("MinLengthLogitsProcessor", "MinNewTokensLengthLogitsProcessor"),
        *("NoRepeatNGramLogitsProcessor", "NoBadWordsLogitsProcessor"),
        *("SequenceBiasLogitsProcessor", "SuppressTokensLogitsProcessor"),
        *("SuppressTokensAtBeginLogitsProcessor", "ForcedBOSTokenLogitsProcessor"),
        *("ForcedEOSTokenLogitsProcessor", "InfNanRemoveLogitsProcessor"),
        *("ExponentialDecayLengthPenalty", "LogitNormalization"),
        *("MaxLengthCriteria", "MaxTimeCriteria", "EosTokenCriteria", "StopStringCriteria"),
    }
)
"""Processors and criteria of `transformers` that say of a row what they say of it in a batch."""


@dataclass(frozen=True, eq=False)
class Hidden:
    """Arguments of `generate` that it does not hand on.

    Args:
        streamer: Is given every token as it is decided.
    """

    streamer: Any = None


def hidden_arguments() -> Hidden:
    """Return what the call of `generate` that this runs in was given besides.

    Raises:
        DecodeError: It was given an assistant or several processes, or this version of
            `transformers` hides its arguments elsewhere.
    """
    from transformers import GenerationMixin

    code = inspect.unwrap(GenerationMixin.generate).__code__
    frame = sys._getframe(1)
    while frame.f_code is not code:
        if frame.f_back is None:
            return Hidden()
        frame = frame.f_back
    given = {name: frame.f_locals[name] for name in _HIDDEN if name in frame.f_locals}
    if len(given) < len(_HIDDEN):
        raise DecodeError(
            "this version of transformers does not show whether a streamer was given to "
            "generate; use 5.16 to 5.23"
        )
    if given["assistant_model"] is not None:
        raise _refused("assistant_model", given["assistant_model"])
    if given["synced_gpus"]:
        raise DecodeError("synced_gpus: a text is decoded by one process here")
    return Hidden(given["streamer"])


def check_config(config: Any, own: Any) -> None:
    """Refuse a generation config that asks for what the decoder does not do.

    Args:
        config: As `generate` has prepared it.
        own: The model's, whose fields of no known meaning are passed over, as
            `generate` passes over them.

    Raises:
        DecodeError: A field has another value than the default, and is not respected.
    """
    from transformers import GenerationConfig

    plain = GenerationConfig()
    plain.update(**plain._get_default_generation_params(), defaults_only=True)
    defaults = vars(plain)
    for name, value in vars(config).items():
        if name.startswith("_") or name in RESPECTED:
            continue
        known = name in defaults
        expected = defaults[name] if known else vars(own).get(name)
        # None and False both mean that something is left out
        left_out = all(one is None or one is False for one in (value, expected))
        if value != expected and not left_out:
            raise _refused(name, value)


def check_arguments(arguments: Mapping[str, Any], input_ids: torch.Tensor) -> None:
    """Refuse arguments of the model that the decoder does not pass on.

    Args:
        arguments: As `generate` has prepared them.
        input_ids: [B, L].

    Raises:
        DecodeError: There is one.
    """
    for name, value in arguments.items():
        if name not in PREPARED and value is not None:
            raise _refused(name, value)
    if arguments.get("logits_to_keep", 1) != 1:
        raise _refused("logits_to_keep", arguments["logits_to_keep"])
    cache = arguments.get("past_key_values")
    if getattr(cache, "_is_user_defined", False):
        raise _refused("past_key_values", type(cache).__name__)
    alive = attended(arguments.get("attention_mask"), input_ids)
    positions = arguments.get("position_ids")
    if positions is not None:
        expected = (alive.long().cumsum(dim=1) - 1)[alive]
        if positions.shape != alive.shape or not torch.equal(positions[alive], expected):
            raise _refused("position_ids", positions.tolist())


def attended(mask: torch.Tensor | None, input_ids: torch.Tensor) -> torch.Tensor:
    """Return which ids of prompts are read: [B, L] bool, padding in front only.

    Raises:
        DecodeError: Something behind the first attended id is not.
    """
    if mask is None:
        return torch.ones_like(input_ids, dtype=torch.bool)
    alive = mask.bool()
    if alive.shape != input_ids.shape or bool((alive[:, 1:] < alive[:, :-1]).any()):
        raise DecodeError(
            "attention_mask leaves out ids behind the first that it lets in, but prompts are "
            "padded in front only: set padding_side='left'"
        )
    return alive


def check_rows(rows: int, called: Sequence[Any], streamer: Any) -> None:
    """Refuse, where several texts are decoded, what is made for whole batches.

    Texts grow at different speeds, so there is no batch that could be shown.

    Args:
        rows: Texts.
        called: Logits processors and stopping criteria.
        streamer: The streamer, where there is one.

    Raises:
        DecodeError: A processor or a criterion looks at more than a row, or may.
    """
    if rows == 1:
        return
    if streamer is not None:
        raise DecodeError(f"a streamer shows one text, and {rows} are decoded")
    for one in called:
        kind = type(one)
        own = kind.__module__.startswith("transformers.") and kind.__name__ in _ROW_BY_ROW
        if not own and not _ignores_rows(one):
            raise DecodeError(
                f"a {kind.__name__} is called with one text at a time, and {rows} are decoded "
                "side by side: give one prompt"
            )


def _ignores_rows(one: Any) -> bool:
    """Return whether a repetition penalty was made without the padding of a batch."""
    from transformers import RepetitionPenaltyLogitsProcessor

    return type(one) is RepetitionPenaltyLogitsProcessor and one.prompt_ignore_length is None


def _refused(name: str, value: Any) -> DecodeError:
    shown = repr(value)
    shown = shown if len(shown) <= 60 else f"a {type(value).__name__}"
    reason = INSTEAD.get(name, "leave it out, or generate without custom_generate")
    return DecodeError(f"{name}={shown} is not taken by speculative_generate: {reason}")
