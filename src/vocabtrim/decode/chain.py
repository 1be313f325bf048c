"""Speculative decoding with chain drafts, as one visible loop.

Draft up to gamma tokens, let the target read them in one pass, keep what the
rule of `decode/accept.py` accepts, take the rest back (Leviathan et al.,
2211.17192, algorithm 1). Without a drafter the same loop decodes one token a
pass. Greedy, the output is the target's own greedy text; sampled, it has the
target's own distribution. Texts are decoded side by side, and each keeps as many
drafts as it may. Conventions of counting are those of `core/metrics.py`: the
prefill is no cycle, a cycle with R tokens left drafts min(gamma, R - 1), fewer where
the drafter may end a draft, and an accepted EOS ends its cycle.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch.nn.utils.rnn import pad_sequence

from vocabtrim.core.errors import DecodeError
from vocabtrim.core.metrics import AcceptCounts
from vocabtrim.decode.accept import Proposal, Verdict, settle, verify_greedy, verify_sampled
from vocabtrim.decode.drafters.base import Drafter, propose
from vocabtrim.decode.sampling import Sampling, distribution, draws, pick
from vocabtrim.decode.target import Readings, Target
from vocabtrim.decode.text import Generation, Request, Text, new_token_room

__all__ = ["GREEDY", "Chain", "Generation", "new_token_room", "speculate", "speculate_together"]

GREEDY = Sampling()

Reshape = Callable[[Text, Sequence[int], torch.Tensor], torch.Tensor]
"""From a text, n drafts behind it and the target's logits [n + 1, V] after each prefix
of them, to logits of that shape from which tokens are chosen as they are."""


class Chain:
    """Texts that are decoded side by side, a cycle at a time.

    Args:
        target: Verifies; its `feature_layers` are the drafter's.
        drafter: Proposes; None decodes one token a pass.
        gamma: Draft length; 0 decodes one token a pass.
        rows: Texts at a time, at most.
        columns: Tokens of a text and its prompt, at most.
        sampling: How tokens are chosen.
        greedy_drafts: Draft the likeliest ids also where tokens are sampled.
        confidence: A draft ends where the drafter is less sure of its likeliest id.
        reshape: Changes the target's logits, which temperature and filters are
            then no longer applied to; a drafter's are as `sampling` says.

    Raises:
        DecodeError: An option is out of range, or the drafter has ids that the target has not.
    """

    def __init__(
        self,
        target: Target,
        drafter: Drafter | None,
        *,
        gamma: int,
        rows: int,
        columns: int,
        sampling: Sampling = GREEDY,
        greedy_drafts: bool = False,
        confidence: float = 0.0,
        reshape: Reshape | None = None,
    ) -> None:
        _check(target, drafter, gamma, confidence)
        self.target, self.drafter = target, drafter if gamma else None
        self.gamma, self.sampling, self.reshape = gamma, sampling, reshape
        self.confidence = confidence
        self.draft_sampling = None if greedy_drafts or sampling.greedy else sampling
        self.texts: list[Text] = []
        self._readers = [one for one in (self.target, self.drafter) if one is not None]
        for reader in self._readers:
            reader.begin(columns, rows)
            reader.keep(())

    @torch.inference_mode()
    def admit(self, texts: Sequence[Text]) -> None:
        """Read prompts and emit the first token of each; this is no cycle."""
        for reader in self._readers:
            reader.open(len(texts))
        readings = self.target.read_rows([one.request.prompt_ids for one in texts], last_only=True)
        readings = self._reshaped(texts, [()] * len(texts), readings)
        if self.sampling.greedy:
            tokens = readings.logits[:, -1].argmax(dim=-1)
        else:
            p = self._distribution(readings.logits[:, -1])
            tokens = pick(p, self._draws(texts, 1)[:, 0])
        self.texts.extend(texts)
        first = len(self.texts) - len(texts)
        for row, (text, token) in enumerate(zip(texts, tokens.tolist(), strict=True)):
            text.emit([token], self.target.eos_ids)
            if self.drafter is not None:
                known = [*text.request.prompt_ids, token]
                self.drafter.commit(known, readings.of(row).features, first + row)

    @torch.inference_mode()
    def cycle(self) -> None:
        """Draft, verify and emit, once for every text; all of them have room."""
        proposal, drafts = self._draft()
        readings = self.target.read_rows(
            [[text.token_ids[-1], *draft] for text, draft in zip(self.texts, drafts, strict=True)]
        )
        readings = self._reshaped(self.texts, drafts, readings)
        verdicts = self._verify(proposal, drafts, readings)
        self.target.crop(
            [len(draft) - one.accepted for draft, one in zip(drafts, verdicts, strict=True)]
        )
        for row, (text, verdict) in enumerate(zip(self.texts, verdicts, strict=True)):
            text.emit(verdict.tokens, self.target.eos_ids)
            text.count(verdict)
            if self.drafter is not None:
                features = readings.of(row).features
                known = None if features is None else features[: len(verdict.tokens)]
                self.drafter.commit(verdict.tokens, known, row)

    def close(self) -> list[Text]:
        """Take out the texts that have ended; the last rows fill the gaps."""
        ended = [text for text in self.texts if text.ended]
        going = len(self.texts) - len(ended)
        if ended:
            last = [row for row in range(going, len(self.texts)) if not self.texts[row].ended]
            rows = [last.pop() if self.texts[row].ended else row for row in range(going)]
            for reader in self._readers:
                reader.keep(rows)
            self.texts = [self.texts[row] for row in rows]
        return ended

    def _draft(self) -> tuple[Proposal, list[list[int]]]:
        """Return the drafts as they were proposed, and cut to what each text may still take."""
        lengths = [min(self.gamma, text.left - 1) for text in self.texts]
        if self.drafter is None or not any(lengths):
            nothing = torch.zeros((len(self.texts), 0), dtype=torch.int64)
            return Proposal(nothing.to(self.target.embedding.device)), [[] for _ in self.texts]
        drawn = None if self.draft_sampling is None else self._draws(self.texts, max(lengths), "q")
        proposal = propose(
            self.drafter, lengths, self.draft_sampling, drawn, confidence=self.confidence
        )
        return proposal, [
            draft[:count]
            for draft, count in zip(proposal.ids.tolist(), proposal.counts, strict=True)
        ]

    def _verify(
        self, proposal: Proposal, drafts: Sequence[Sequence[int]], readings: Readings
    ) -> list[Verdict]:
        """Apply the rule to each text."""
        eos_ids = self.target.eos_ids
        if self.sampling.greedy:
            predicted = readings.logits.argmax(dim=-1).tolist()
            return [
                verify_greedy(draft, said[-len(draft) - 1 :], eos_ids)
                for draft, said in zip(drafts, predicted, strict=True)
            ]
        logits, depths = readings.logits, proposal.ids.shape[1]
        if len(set(readings.counts)) > 1:
            # readings end together, drafts begin together
            said = [readings.of(row).logits for row in range(len(drafts))]
            logits = pad_sequence(said, batch_first=True)
        accepted, following = verify_sampled(
            proposal,
            self._distribution(logits),
            torch.tensor([len(draft) for draft in drafts], device=logits.device),
            self._draws(self.texts, depths, "accept"),
            self._draws(self.texts, depths + 1),
        )
        return [
            settle(draft, count, token, eos_ids)
            for draft, count, token in zip(
                drafts, accepted.tolist(), following.tolist(), strict=True
            )
        ]

    def _reshaped(
        self, texts: Sequence[Text], drafts: Sequence[Sequence[int]], readings: Readings
    ) -> Readings:
        """Return readings with the logits that the caller makes of them."""
        if self.reshape is None:
            return readings
        wide = torch.promote_types(readings.logits.dtype, torch.float32)
        logits = readings.logits.to(wide, copy=True)
        for row, (text, draft) in enumerate(zip(texts, drafts, strict=True)):
            alive = slice(-len(draft) - 1, None)
            logits[row, alive] = self.reshape(text, draft, logits[row, alive])
        return replace(readings, logits=logits)

    def _distribution(self, logits: torch.Tensor) -> torch.Tensor:
        """Return p for logits of the target, [..., V]."""
        if self.reshape is None:
            return distribution(logits, self.sampling)
        return torch.softmax(logits, dim=-1)

    def _draws(self, texts: Sequence[Text], count: int, purpose: str = "") -> torch.Tensor:
        """[B, count] numbers for the next positions of each text."""
        places = [(text.request.key, len(text.token_ids)) for text in texts]
        return draws(self.sampling.seed, places, count, purpose).to(self.target.embedding.device)


def speculate_together(
    target: Target,
    drafter: Drafter | None,
    requests: Sequence[Request],
    *,
    gamma: int,
    sampling: Sampling = GREEDY,
    greedy_drafts: bool = False,
    confidence: float = 0.0,
    clock: Callable[[], float] = time.perf_counter,
) -> list[Generation]:
    """Decode some prompts side by side, from the first token to the last text's end.

    Args:
        target: Verifies; its `feature_layers` are the drafter's.
        drafter: Proposes; None decodes one token a pass.
        requests: At least one; `decode/batch.py` takes any number.
        gamma: Draft length; 0 decodes one token a pass.
        sampling: Greedy, or how tokens are drawn.
        greedy_drafts: Draft the likeliest ids also where tokens are sampled.
        confidence: A draft ends where the drafter is less sure of its likeliest id.
        clock: Seconds since whenever.

    Returns:
        A generation for each request, in their order.

    Raises:
        DecodeError: A prompt cannot be decoded, or an option is out of range.
    """
    texts = [Text(one, one.room(target)) for one in requests]
    began = clock()
    chain = Chain(
        target,
        drafter,
        gamma=gamma,
        rows=len(texts),
        columns=max(len(text.request.prompt_ids) + text.room for text in texts),
        sampling=sampling,
        greedy_drafts=greedy_drafts,
        confidence=confidence,
    )
    chain.admit(texts)
    started = clock()
    chain.close()
    while chain.texts:
        chain.cycle()
        chain.close()
    decode_s = (clock() - started) / len(texts)
    return [
        Generation(
            tuple(text.token_ids),
            AcceptCounts.of_cycles(gamma, text.cycles),
            text.finish_reason,
            started - began,
            decode_s,
        )
        for text in texts
    ]


def speculate(
    target: Target,
    drafter: Drafter | None,
    prompt_ids: Sequence[int],
    *,
    gamma: int,
    max_new_tokens: int,
    sampling: Sampling = GREEDY,
    key: str = "",
    greedy_drafts: bool = False,
    confidence: float = 0.0,
    clock: Callable[[], float] = time.perf_counter,
) -> Generation:
    """Decode one prompt, with a drafter or without.

    Args:
        target: Verifies; its `feature_layers` are the drafter's.
        drafter: Proposes; None decodes one token a pass.
        prompt_ids: [T] ids, at least one (two for EAGLE-3 are met by the first
            new token).
        gamma: Draft length; 0 decodes one token a pass.
        max_new_tokens: Tokens to emit at most; less where the context ends.
        sampling: Greedy, or how tokens are drawn.
        key: The text's id, which its draws depend on.
        greedy_drafts: Draft the likeliest ids also where tokens are sampled.
        confidence: A draft ends where the drafter is less sure of its likeliest id.
        clock: Seconds since whenever.

    Raises:
        DecodeError: The prompt is empty or fills the context, or an option is
            out of range.
    """
    request = Request(key, tuple(prompt_ids), max_new_tokens)
    return speculate_together(
        target,
        drafter,
        [request],
        gamma=gamma,
        sampling=sampling,
        greedy_drafts=greedy_drafts,
        confidence=confidence,
        clock=clock,
    )[0]


def _check(target: Target, drafter: Drafter | None, gamma: int, confidence: float) -> None:
    if gamma < 0:
        raise DecodeError(f"gamma must be 0 or more, found {gamma}")
    if not 0.0 <= confidence <= 1.0:
        raise DecodeError(f"confidence must lie in [0, 1], found {confidence}")
    V = target.embedding.shape[0]
    if drafter is not None and gamma and int(drafter.head.vocab.ids[-1]) >= V:
        raise DecodeError(
            f"the drafter can propose id {drafter.head.vocab.ids[-1]}, but the target has {V} ids"
        )
