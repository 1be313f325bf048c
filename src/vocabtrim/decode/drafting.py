"""Text that a drafter writes: calibration data of the drafter's own.

VocabTrim (arXiv 2506.22694) compares it with the target's text: a little worse
as calibration, and a by-product of training the drafter. An independent drafter
is a language model and answers like one. A drafter on the target's features
(EAGLE-3) cannot begin by itself: the target reads the prompt and gives the first
token, as in decoding, and from there the drafter goes on alone, each token
chosen from its own head and read with its own state in place of the target's
feature. It is never corrected, so its text drifts as no accepted draft would;
what is drawn on is its head, over the draft vocabulary that it has.

Every draw depends on seed, key and position, as in `decode/sampling.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from types import SimpleNamespace
from typing import Any

import torch

from vocabtrim.core.errors import DecodeError
from vocabtrim.decode.batch import Completion, Request, generate_batched
from vocabtrim.decode.chain import new_token_room
from vocabtrim.decode.drafters.base import Drafter
from vocabtrim.decode.drafters.eagle3 import Eagle3Drafter
from vocabtrim.decode.drafters.independent import IndependentDrafter
from vocabtrim.decode.sampling import Sampling, choose, draw
from vocabtrim.decode.target import Target


def generate_drafted(
    model: Any,
    drafter: Drafter,
    requests: Sequence[Request],
    *,
    sampling: Sampling,
    batch_size: int,
) -> Iterator[Completion]:
    """Let a drafter continue prompts, yielding each text as soon as it ends.

    Args:
        model: The target, as `load_model` opens it: its EOS ids end a text.
        drafter: Independent, or EAGLE-3.
        requests: In any order; keys are unique.
        sampling: Greedy, or how to draw.
        batch_size: Rows of a pass, where the drafter is independent.

    Raises:
        DecodeError: A prompt cannot be read, or such a drafter does not write
            on its own.
    """
    if isinstance(drafter, IndependentDrafter):
        own: Any = _AsModel(drafter, model)
        return generate_batched(own, requests, sampling=sampling, batch_size=batch_size)
    if isinstance(drafter, Eagle3Drafter):
        target = Target(model, drafter.feature_layers)
        rooms = [_room(target, request) for request in requests]
        return (
            _unrolled(target, drafter, request, room, sampling)
            for request, room in zip(requests, rooms, strict=True)
        )
    raise DecodeError(
        f"a {type(drafter).__name__} does not write text on its own; "
        "independent and EAGLE-3 drafters do"
    )


def _unrolled(
    target: Target, drafter: Eagle3Drafter, request: Request, room: int, sampling: Sampling
) -> Completion:
    """Continue one prompt: one token by the target, the rest by the drafter."""
    tokens: list[int] = []

    def chosen(logits: torch.Tensor) -> int:
        draws = () if sampling.greedy else (draw(sampling.seed, request.key, len(tokens)),)
        return choose(logits[None], sampling, draws)[0]

    target.begin(len(request.prompt_ids))
    reading = target.read(request.prompt_ids, last_only=True)
    tokens.append(chosen(reading.logits[0]))
    drafter.begin(len(request.prompt_ids) + room)
    drafter.commit([*request.prompt_ids, *tokens], reading.features)
    with closing(drafter.unroll(chosen)) as following:
        while len(tokens) < room and tokens[-1] not in target.eos_ids:
            tokens.append(next(following))
    reason = "stop" if tokens[-1] in target.eos_ids else "length"
    return Completion(request.key, tuple(tokens), reason)


def _room(target: Target, request: Request) -> int:
    try:
        return new_token_room(target, len(request.prompt_ids), request.max_new_tokens)
    except DecodeError as fault:
        raise DecodeError(f"prompt {request.key}: {fault}") from fault


class _AsModel:
    """An independent drafter in the shape of the models that are decoded in batches.

    Ids outside the draft vocabulary have a logit of minus infinity.
    """

    def __init__(self, drafter: IndependentDrafter, target: Any) -> None:
        self.trunk, self.head = drafter.trunk, drafter.head
        self.config, self.device = self.trunk.config, self.trunk.device
        # the drafter's own may name fewer ends than the target stops at
        self.generation_config = target.generation_config
        self._ids = torch.from_numpy(self.head.vocab.ids.copy()).to(self.device)

    def get_input_embeddings(self) -> Any:
        return self.trunk.get_input_embeddings()

    def __call__(self, ids: torch.Tensor, *, logits_to_keep: int, **options: Any) -> Any:
        """Return an object with logits [B, `logits_to_keep`, V]."""
        states = self.trunk(input_ids=ids, **options).last_hidden_state[:, -logits_to_keep:]
        kept = self.head.logits(states)
        if self.head.vocab.is_full:
            return SimpleNamespace(logits=kept)
        wide = kept.new_full((*kept.shape[:-1], self.head.vocab.vocab_size), float("-inf"))
        wide[..., self._ids] = kept
        return SimpleNamespace(logits=wide)
