"""Our decoder behind `generate` of `transformers`: EAGLE-3 and independent drafters.

    model.generate(**inputs, custom_generate=speculative_generate, drafter=drafter)

`generate` prepares prompts, lengths, logits processors and stopping criteria as
always and then calls this in place of its own loop. Greedy text is that of plain
`generate`; sampled text has its distribution: processors and filters make p of the
target's logits, draft by draft, while drafts come from the drafter's logits under
temperature, top-k and top-p, which decide how many stand and nothing else. Draws are
rooted in torch's generator, so `torch.manual_seed` repeats a text.

What is respected and what is refused is `accepted.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import EosTokenCriteria, MaxLengthCriteria
from transformers.generation.utils import GenerateDecoderOnlyOutput

from vocabtrim.core.errors import DecodeError
from vocabtrim.core.metrics import AcceptCounts
from vocabtrim.decode.chain import Chain, Reshape
from vocabtrim.decode.drafters.base import Drafter
from vocabtrim.decode.sampling import Sampling
from vocabtrim.decode.target import Target
from vocabtrim.decode.text import Request, Text
from vocabtrim.engines.transformers.accepted import (
    attended,
    check_arguments,
    check_config,
    check_rows,
    hidden_arguments,
)

LEAST_TOP_P = 1e-9
"""Stands for a top_p of 0, which keeps one id."""


@dataclass
class SpeculativeOutput(GenerateDecoderOnlyOutput):
    """What `generate` returns with `return_dict_in_generate`: sequences, and what was accepted.

    Args:
        counts: Cycles of all texts, as `vocabtrim eval` counts them.
    """

    counts: AcceptCounts | None = None


def speculative_generate(
    model: Any,
    input_ids: torch.Tensor,
    /,
    logits_processor: Any,
    stopping_criteria: Any,
    generation_config: Any,
    *,
    drafter: Drafter | None = None,
    gamma: int = 4,
    greedy_drafts: bool = False,
    confidence: float = 0.0,
    **model_kwargs: Any,
) -> Any:
    """Decode with a drafter; for `generate(custom_generate=…)`.

    Args:
        model: Verifies.
        input_ids: [B, L], padded in front.
        logits_processor: Make p of the target's logits.
        stopping_criteria: End a text.
        generation_config: Fields that are not respected have their defaults.
        drafter: Opened for this model, as `open_drafter` does it.
        gamma: Draft length.
        greedy_drafts: Draft the likeliest ids also where tokens are sampled.
        confidence: A draft ends where the drafter is less sure of its likeliest id.
        model_kwargs: What `generate` prepares for the model.

    Returns:
        [B, L + N] ids, or a `SpeculativeOutput` with `return_dict_in_generate`.

    Raises:
        DecodeError: Something is asked for that is not respected, or a prompt cannot
            be decoded.
    """
    if drafter is None:
        raise DecodeError(
            "give generate a drafter besides custom_generate: "
            "generate(custom_generate=speculative_generate, drafter=…)"
        )
    streamer = hidden_arguments().streamer
    check_config(generation_config, model.generation_config)
    check_arguments(model_kwargs, input_ids)
    check_rows(len(input_ids), [*logits_processor, *stopping_criteria], streamer)
    alive = attended(model_kwargs.get("attention_mask"), input_ids)
    ends = frozenset(
        int(token)
        for one in stopping_criteria
        if isinstance(one, EosTokenCriteria)
        for token in one.eos_token_id.flatten()
    )
    target = Target(model, drafter.feature_layers, ends=ends)
    room = _room(target, generation_config, stopping_criteria, input_ids.shape[1])
    texts = [
        Text(Request(str(row), tuple(ids[seen].tolist()), room), room)
        for row, (ids, seen) in enumerate(zip(input_ids, alive, strict=True))
    ]
    for text in texts:
        text.request.room(target)
    sampling = _sampling(generation_config)
    chain = Chain(
        target,
        drafter,
        gamma=gamma,
        rows=len(texts),
        columns=max(len(one.request.prompt_ids) for one in texts) + room,
        sampling=sampling,
        greedy_drafts=greedy_drafts,
        confidence=confidence,
        reshape=_reshape(logits_processor, input_ids, sampling) if logits_processor else None,
    )
    _run(chain, texts, _Stops(stopping_criteria, input_ids), streamer)
    sequences: Any = _sequences(input_ids, texts, generation_config)
    if not generation_config.return_dict_in_generate:
        return sequences
    cycles = [cycle for text in texts for cycle in text.cycles]
    return SpeculativeOutput(sequences=sequences, counts=AcceptCounts.of_cycles(gamma, cycles))


def _run(chain: Chain, texts: Sequence[Text], stops: _Stops, streamer: Any) -> None:
    """Decode all texts to their ends."""
    seen = dict.fromkeys((id(text) for text in texts), 0)
    chain.admit(texts)
    while True:
        for text in chain.texts:
            first = seen[id(text)]
            stops.apply(text, first)
            seen[id(text)] = len(text.token_ids)
            if streamer is not None:
                for token in text.token_ids[first:]:
                    streamer.put(torch.tensor([token]))
        chain.close()
        if not chain.texts:
            break
        chain.cycle()
    if streamer is not None:
        streamer.end()


class _Stops:
    """Stopping criteria, asked after every token as `generate` asks them.

    Args:
        criteria: All of them; an end of the text and its length are the decoder's.
        input_ids: [B, L] prompts, which criteria see with their padding.
    """

    def __init__(self, criteria: Any, input_ids: torch.Tensor) -> None:
        kinds = (EosTokenCriteria, MaxLengthCriteria)
        self.criteria = [one for one in criteria if type(one) not in kinds]
        self.input_ids = input_ids

    def apply(self, text: Text, first: int) -> None:
        """End a text behind the first of its new tokens that a criterion stops at."""
        if not self.criteria:
            return
        row = int(text.request.key)
        for count in range(first + 1, len(text.token_ids) + 1):
            ids = _with(self.input_ids[row], text.token_ids[:count])
            # all are asked, as in `generate`: one may count its calls
            answers = [one(ids, None) for one in self.criteria]
            if any(bool(torch.as_tensor(one).any()) for one in answers):
                del text.token_ids[count:]
                text.stopped = True
                return


def _reshape(processors: Any, input_ids: torch.Tensor, sampling: Sampling) -> Reshape:
    """Return what applies logits processors to the positions of a draft, prefix by prefix.

    They are shown no text that cannot come about: behind a draft that they forbid, or
    that greedy decoding does not take, logits stay as they were, for they decide nothing.
    """

    def shaped(text: Text, draft: Sequence[int], logits: torch.Tensor) -> torch.Tensor:
        row, changed = int(text.request.key), logits.clone()
        for ahead in range(len(draft) + 1):
            ids = _with(input_ids[row], [*text.token_ids, *draft[:ahead]])
            scores = processors(ids, logits[ahead : ahead + 1].clone())[0]
            changed[ahead] = scores
            if not sampling.greedy and not bool(scores.max() > float("-inf")):
                raise DecodeError("the logits processors leave no token that could be drawn")
            if ahead < len(draft):
                best = int(scores.argmax()) if sampling.greedy else draft[ahead]
                if best != draft[ahead] or float(scores[draft[ahead]]) == float("-inf"):
                    break
        return changed

    return shaped


def _with(prompt: torch.Tensor, token_ids: Sequence[int]) -> torch.Tensor:
    """Return a prompt and what follows it, [1, T]."""
    return torch.cat([prompt, prompt.new_tensor(token_ids)])[None]


def _room(target: Target, config: Any, criteria: Any, length: int) -> int:
    """Return how many tokens may follow prompts of a length, padding included.

    Raises:
        DecodeError: They lead beyond the model's context.
    """
    # a criterion of the caller's takes the place of the config's length
    limits = [one.max_length for one in criteria if isinstance(one, MaxLengthCriteria)]
    most = min(limits, default=config.max_length)
    if target.context is not None and most > target.context:
        raise DecodeError(
            f"{most} tokens with the prompt are asked for, but the model's context is "
            f"{target.context}: lower max_new_tokens"
        )
    return int(most) - length


def _sampling(config: Any) -> Sampling:
    """Return how drafts are drawn; whether tokens are, and the root of all draws."""
    if not config.do_sample:
        return Sampling()
    temperature = 1.0 if config.temperature is None else float(config.temperature)
    top_p = None if config.top_p is None else max(float(config.top_p), LEAST_TOP_P)
    seed = int(torch.randint(2**62, ()))
    return Sampling(temperature, config.top_k or None, top_p, seed)


def _sequences(input_ids: torch.Tensor, texts: Sequence[Text], config: Any) -> torch.Tensor:
    """Return prompts and new tokens, padded behind, [B, L + N]."""
    longest = max(len(text.token_ids) for text in texts)
    if any(len(text.token_ids) < longest for text in texts) and config._pad_token_tensor is None:
        raise DecodeError("texts end at different lengths: set pad_token_id")
    pad = 0 if config._pad_token_tensor is None else int(config._pad_token_tensor)
    new = [text.token_ids + [pad] * (longest - len(text.token_ids)) for text in texts]
    return torch.cat([input_ids, torch.tensor(new).to(input_ids)], dim=1)
