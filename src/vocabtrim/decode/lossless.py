"""What lossless means, and how a difference is judged.

The reference is `transformers`' own `generate(do_sample=False)` on the same
weights, one prompt at a time, never our loop: a fault in our cache would be in
both arms of a comparison with ourselves. Every new token must be the same.

Floating-point sums depend on how many tokens share a pass, so where the
reference's best two ids are all but tied, a pass over several tokens may prefer
the other one. A first difference is *rounding* only where our token is that
close to the reference's best: closer than 10 times the largest difference that
this very run measures between one-token passes and passes over gamma + 1 tokens
(and never more than 1e-3 of the logits' scale). Anything else is a fault, and so
is more than one such prompt in 50.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from vocabtrim.decode.target import Target

NOISE_FACTOR = 10.0
SCALE_LIMIT = 1e-3
ROUNDING_ONE_IN = 50


@dataclass(frozen=True)
class Reference:
    """What `transformers` generates, and how sure it is.

    Args:
        token_ids: New ids, a final EOS included.
        logits: [T, V] float32, of the pass that chose each of them.
    """

    token_ids: tuple[int, ...]
    logits: torch.Tensor


@dataclass(frozen=True)
class Tally:
    """Prompts of a run by how they compare.

    Args:
        identical: Every token is the reference's.
        rounding: The first difference is rounding.
        different: The first difference is not.
    """

    identical: int = 0
    rounding: int = 0
    different: int = 0

    @property
    def of(self) -> int:
        """Prompts compared."""
        return self.identical + self.rounding + self.different

    @property
    def is_lossless(self) -> bool:
        """Whether nothing differs but by rounding, and that in one prompt of 50.

        A set of fewer than 50 prompts may have one.
        """
        return not self.different and self.rounding <= max(1, self.of // ROUNDING_ONE_IN)

    def __add__(self, other: Tally) -> Tally:
        """Pool two runs."""
        return Tally(
            self.identical + other.identical,
            self.rounding + other.rounding,
            self.different + other.different,
        )


@torch.no_grad()
def reference(target: Target, prompt_ids: Sequence[int], max_new_tokens: int) -> Reference:
    """Generate greedily with `transformers` itself.

    Every setting that a model's generation config might carry is left out, so
    that nothing but the likeliest id decides.

    Args:
        target: Its model is used, none of its code.
        prompt_ids: [T] ids.
        max_new_tokens: At least 1; the caller keeps it within the context.
    """
    from transformers import GenerationConfig

    model, ends = target.model, sorted(target.eos_ids)
    plain = GenerationConfig(
        do_sample=False,
        max_new_tokens=max_new_tokens,
        eos_token_id=ends or None,
        pad_token_id=ends[0] if ends else 0,
        output_logits=True,
        return_dict_in_generate=True,
    )
    ids = torch.tensor([list(prompt_ids)], device=model.device)
    kept = model.generation_config
    # whatever a call leaves open is filled in from the model's own config
    model.generation_config = plain
    try:
        outcome = model.generate(ids, attention_mask=torch.ones_like(ids), generation_config=plain)
    finally:
        model.generation_config = kept
    logits = torch.cat(outcome.logits).float()
    return Reference(tuple(outcome.sequences[0, ids.shape[1] :].tolist()), logits)


@torch.no_grad()
def pass_noise(target: Target, prompt_ids: Sequence[int], expected: Reference, gamma: int) -> float:
    """Measure how far logits move when gamma + 1 tokens share a pass.

    The reference's tokens are read again in passes of gamma + 1, as verification
    does, and compared with the one-token passes that chose them. The cache is
    `transformers`' own: a fault in ours must not widen its own tolerance.

    Returns:
        The largest absolute difference of any logit; 0 where a text has one token.
    """
    from transformers import DynamicCache

    model, tokens = target.model, expected.token_ids
    cache = DynamicCache(config=model.config.get_text_config(decoder=True))

    def read(ids: Sequence[int]) -> torch.Tensor:
        batch = torch.tensor([list(ids)], device=model.device)
        outcome = model(batch, past_key_values=cache, use_cache=True)
        logits: torch.Tensor = outcome.logits[0]
        return logits.float()

    read(prompt_ids)
    largest = 0.0
    for start in range(0, len(tokens) - 1, gamma + 1):
        logits = read(tokens[start : min(start + gamma + 1, len(tokens) - 1)])
        chosen = expected.logits[start + 1 : start + 1 + logits.shape[0]]
        largest = max(largest, float((logits - chosen).abs().max()))
    return largest


def judge(tokens: Sequence[int], expected: Reference, noise: float) -> Tally:
    """Compare one prompt's tokens with the reference.

    Args:
        tokens: What speculative decoding gave.
        expected: What `transformers` gave.
        noise: The largest logit difference that `pass_noise` measured in this run.

    Returns:
        A tally of this one prompt.
    """
    length = min(len(tokens), len(expected.token_ids))
    differing = [i for i in range(length) if tokens[i] != expected.token_ids[i]]
    if not differing:
        same = len(tokens) == len(expected.token_ids)
        return Tally(identical=1) if same else Tally(different=1)
    logits = expected.logits[differing[0]]
    margin = float(logits.max() - logits[tokens[differing[0]]])
    limit = min(NOISE_FACTOR * noise, SCALE_LIMIT * float(logits.abs().max()))
    return Tally(rounding=1) if margin < limit else Tally(different=1)
