"""`vocabtrim eval`: full and trimmed drafters side by side, proved and timed.

All arms run in one process on one copy of the target: autoregressive decoding,
the drafter as it is, and the drafter over each draft vocabulary, at each draft
length. They take turns prompt by prompt, in an order that rotates, so that a
machine that slows down slows all of them. Autoregressive decoding runs twice
(the A/A arm): how far its two measurements lie apart is the noise that any
difference has to beat. In float32 every arm's greedy text is compared with
`transformers`' own (`decode/lossless.py`). Sampled texts differ from arm to arm
by chance; that their distribution is the target's is what `make proofs` shows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import reduce
from operator import add
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from vocabtrim.core.errors import DecodeError, TokenizerMismatch
from vocabtrim.core.metrics import AcceptCounts
from vocabtrim.core.results import ArmCost, Decoded, RunResult, run_lines
from vocabtrim.core.vocab import DraftVocab
from vocabtrim.families.base import family_of
from vocabtrim.tensors.causal import target_cost
from vocabtrim.tensors.checkpoint import Checkpoint
from vocabtrim.tokens.prompts import Prompt, PromptEncoder
from vocabtrim.tokens.tokenizer import fingerprint_of

if TYPE_CHECKING:
    from vocabtrim.decode.chain import Generation
    from vocabtrim.decode.lossless import Reference, Tally
    from vocabtrim.decode.sampling import Sampling
    from vocabtrim.decode.target import Target

Advance = Callable[[int, int], None]

NOISE_PROMPTS = 4
"""Prompts on which the rounding of passes is measured."""

WARM_UP_TOKENS = 4


@dataclass(frozen=True)
class Contender:
    """A drafter to be compared.

    Args:
        name: As it is named in results.
        path: Its directory.
        vocab: The ids that it may draft; None for all that its head holds.
        memory_delta_bytes: What trimming gained or freed, where `path` is a
            drafter that was trimmed on disk.
        gammas: Draft lengths of its own; None for those of the comparison.
    """

    name: str
    path: Path
    vocab: DraftVocab | None = None
    memory_delta_bytes: int = 0
    gammas: tuple[int, ...] | None = None


@dataclass(frozen=True)
class EvalResult:
    """What a comparison came to.

    Args:
        runs: Autoregressive, then by draft length the contenders in their order.
        different: Ids of prompts whose text differs beyond rounding, by arm.
        is_lossless: Whether every arm is; None where it was not checked.
        warnings: What a reader should know.
    """

    runs: tuple[RunResult, ...]
    different: Mapping[str, Sequence[str]]
    is_lossless: bool | None
    warnings: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the document that `--json` writes."""
        return {"runs": [run.to_json() for run in self.runs]}

    def lines(self) -> list[str]:
        """Return the table of runs and what the noise was."""
        noise = self.runs[0].noise
        return [
            *run_lines(self.runs),
            "" if noise is None else f"noise of a measurement (A/A): {noise:.1%}",
        ]

    def difference(self) -> str:
        """Say which texts differ from the target's own."""
        found = [f"{arm}: {', '.join(ids[:5])}" for arm, ids in self.different.items()]
        return "texts differ from the target's own by more than rounding: " + (
            "; ".join(found) or "too many prompts differ by rounding"
        )


def evaluate(
    prompts: Sequence[Prompt],
    target: Path,
    contenders: Sequence[Contender],
    *,
    gammas: Sequence[int],
    max_new_tokens: int,
    target_name: str | None = None,
    repeat: int = 1,
    timed_prompts: int | None = None,
    temperature: float = 0.0,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int = 0,
    batch: int = 1,
    dtype: str = "float32",
    raw: bool = False,
    progress: Advance | None = None,
) -> EvalResult:
    """Decode prompts with every arm and compare.

    Args:
        prompts: At least one.
        target: Directory of the target.
        contenders: Drafters, in the order of the results.
        gammas: Draft lengths, each at least 0; a contender may name some of them.
        max_new_tokens: Per prompt, at least 1.
        target_name: As it is named in results; the directory's name by default.
        repeat: Times that each timed prompt is decoded by each arm.
        timed_prompts: Time only the first so many prompts; the others are decoded
            once by each drafter, for text and acceptance. None times all.
        temperature: 0 is greedy; above it, drafts are drawn too.
        top_k: Ids kept before the nucleus, of target and drafter alike.
        top_p: Mass of the nucleus, of target and drafter alike.
        seed: Root of all draws; each depends on it, the prompt's id and the position.
        batch: Prompts decoded side by side.
        dtype: "float32" (in which alone losslessness is judged), "bfloat16" or
            "float16".
        raw: Leave the chat template out.
        progress: Called with (texts decoded, texts in all).

    Raises:
        DecodeError: A prompt or a model cannot be decoded, or an option is out
            of range.
        CheckpointError: A drafter is damaged or does not fit the target.
        VocabError: A drafter's head has no row for an id of its vocabulary.
        TokenizerMismatch: A drafter or a vocabulary belongs to another tokenizer.
    """
    from vocabtrim.decode.model import load_model
    from vocabtrim.decode.packed import pack_linears
    from vocabtrim.decode.sampling import Sampling

    if not prompts or min(repeat, batch) < 1 or not gammas or min(gammas) < 0:
        raise DecodeError(
            "eval needs a prompt, a repeat and a batch of 1 or more and a gamma of 0 or more"
        )
    sampling = Sampling(temperature, top_k, top_p, seed)
    if timed_prompts is not None and timed_prompts < 0:
        raise DecodeError(f"timed_prompts must be 0 or more, found {timed_prompts}")
    encoder = PromptEncoder(target, raw=raw)
    texts = [encoder.encode(prompt).tolist() for prompt in prompts]
    for contender in contenders:
        _check_tokenizer(contender, encoder.tokenizer.fingerprint)
    model = pack_linears(load_model(target, dtype))
    arms = _arms(model, target, target_name or target.name, contenders, sorted(set(gammas)))
    for arm in arms:
        arm.cost = replace(arm.cost, batch=batch, sampling=_settings(sampling))
    bench = _Bench(
        prompts,
        texts,
        arms,
        max_new_tokens,
        sampling,
        batch,
        progress or (lambda _done, _all: None),
    )
    warnings: tuple[str, ...] = ()
    if not sampling.greedy:
        warnings = ("sampled texts are not compared: they differ from arm to arm by chance",)
    elif dtype != "float32":
        warnings = (f"losslessness is judged in float32 only, so not in {dtype}",)
    else:
        bench.read_references(max(gammas))
    bench.decode(repeat, len(prompts) if timed_prompts is None else timed_prompts)
    return bench.result(warnings)


@dataclass(eq=False)
class _Arm:
    """One way of decoding, and what was decoded with it."""

    cost: ArmCost
    target: Target
    drafter: Any
    gamma: int
    texts: dict[int, list[Generation]] = field(default_factory=dict)

    @property
    def label(self) -> str:
        if self.drafter is None:
            return "autoregressive"
        return f"{self.cost.drafter} K={self.cost.K} gamma={self.gamma}"


@dataclass(eq=False)
class _Bench:
    """All arms over all prompts."""

    prompts: Sequence[Prompt]
    texts: Sequence[Sequence[int]]
    arms: Sequence[_Arm]
    max_new_tokens: int
    sampling: Sampling
    batch: int
    progress: Advance
    references: list[Reference] = field(default_factory=list)
    noise: float = 0.0
    twins: dict[int, list[Generation]] = field(default_factory=dict)
    done: int = 0

    def read_references(self, gamma: int) -> None:
        """Let `transformers` decode every prompt, and measure its rounding."""
        from vocabtrim.decode.chain import new_token_room
        from vocabtrim.decode.lossless import pass_noise, reference

        plain = self.arms[0].target
        for index, ids in enumerate(self.texts):
            room = new_token_room(plain, len(ids), self.max_new_tokens)
            expected = reference(plain, ids, room)
            if index < NOISE_PROMPTS:
                self.noise = max(self.noise, pass_noise(plain, ids, expected, gamma))
            self.references.append(expected)

    def decode(self, repeat: int, timed: int) -> None:
        """Decode every prompt with every arm, in turns."""
        speculating = self.arms[1:]
        all_timed = range(min(timed, len(self.prompts)))
        rest = range(len(all_timed), len(self.prompts))
        total = len(all_timed) * repeat * (len(self.arms) + 1) + len(rest) * len(speculating)
        for arm in self.arms:
            self._run(arm, [0], WARM_UP_TOKENS)
        for turn in range(repeat):
            for number, group in enumerate(_groups(all_timed, self.batch)):
                for arm in _rotated(self.arms, turn + number):
                    self._keep(arm.texts, group, self._run(arm, group), total)
                    if arm.drafter is None:
                        self._keep(self.twins, group, self._run(arm, group), total)
        for number, group in enumerate(_groups(rest, self.batch), len(all_timed)):
            for arm in _rotated(speculating, number):
                self._keep(arm.texts, group, self._run(arm, group), total)

    def result(self, warnings: tuple[str, ...]) -> EvalResult:
        """Return one run an arm, with domains, and what differed."""
        domains: dict[str, list[int]] = {}
        for index, prompt in enumerate(self.prompts):
            if prompt.domain is not None:
                domains.setdefault(prompt.domain, []).append(index)
        everything = range(len(self.prompts))
        runs = [
            arm.cost.run(
                self._decoded(arm, everything),
                {name: self._decoded(arm, members) for name, members in domains.items()},
            )
            for arm in self.arms
        ]
        different = {arm.label: self._different(arm) for arm in self.arms}
        tallies = [self._tally(arm, everything) for arm in self.arms]
        lossless = all(tally.is_lossless for tally in tallies) if self.references else None
        return EvalResult(
            tuple(runs), {k: v for k, v in different.items() if v}, lossless, warnings
        )

    def _run(self, arm: _Arm, group: Sequence[int], limit: int | None = None) -> list[Generation]:
        from vocabtrim.decode.chain import speculate_together
        from vocabtrim.decode.text import Request

        wanted = limit or self.max_new_tokens
        requests = [
            Request(self.prompts[index].id, tuple(self.texts[index]), wanted) for index in group
        ]
        return speculate_together(
            arm.target, arm.drafter, requests, gamma=arm.gamma, sampling=self.sampling
        )

    def _keep(
        self,
        texts: dict[int, list[Generation]],
        group: Sequence[int],
        generations: Sequence[Generation],
        total: int,
    ) -> None:
        for index, text in zip(group, generations, strict=True):
            texts.setdefault(index, []).append(text)
            self.done += 1
            self.progress(self.done, total)

    def _decoded(self, arm: _Arm, members: Sequence[int]) -> Decoded:
        held = [index for index in members if index in arm.texts]
        first = [arm.texts[index][0] for index in held]
        plain = self.arms[0]
        timed = [index for index in held if index in plain.texts]
        rate = _rate(arm.texts, timed)
        base = _rate(plain.texts, timed)
        tally = self._tally(arm, held)
        return Decoded(
            prompts=len(held),
            new_tokens=sum(len(text.token_ids) for text in first),
            counts=reduce(add, (text.counts for text in first), AcceptCounts.zero(arm.gamma)),
            tokens_per_second=rate,
            noise=self._spread(timed),
            speedup=rate / base if rate and base else None,
            lossless=None
            if not self.references
            else {"identical": tally.identical, "rounding": tally.rounding, "of": tally.of},
        )

    def _spread(self, members: Sequence[int]) -> float | None:
        """Return the largest difference of the two plain arms, over repeats."""
        pairs = zip(_rates(self.arms[0].texts, members), _rates(self.twins, members), strict=True)
        return max((abs(one / other - 1) for one, other in pairs), default=None)

    def _tally(self, arm: _Arm, members: Sequence[int]) -> Tally:
        from vocabtrim.decode.lossless import Tally

        held = [index for index in members if index in arm.texts]
        return reduce(add, (self._judged(arm, index) for index in held), Tally())

    def _different(self, arm: _Arm) -> list[str]:
        return [self.prompts[index].id for index in arm.texts if self._judged(arm, index).different]

    def _judged(self, arm: _Arm, index: int) -> Tally:
        from vocabtrim.decode.lossless import Tally, judge

        if not self.references:
            return Tally()
        return judge(arm.texts[index][0].token_ids, self.references[index], self.noise)


def _check_tokenizer(contender: Contender, expected: str) -> None:
    """Refuse a drafter or a vocabulary of another tokenizer, where it shows one."""
    vocab = contender.vocab
    shown = {
        "drafter": fingerprint_of(contender.path),
        "draft vocabulary": None if vocab is None else vocab.tokenizer,
    }
    for what, found in shown.items():
        TokenizerMismatch.check(
            f"the {what} of {contender.name} was made with another tokenizer than the target's",
            expected=expected,
            found=found,
        )


def _arms(
    model: Any, target: Path, name: str, contenders: Sequence[Contender], gammas: Sequence[int]
) -> list[_Arm]:
    """Return the plain arm and, for each draft length, the contenders'."""
    from vocabtrim.decode.target import Target

    verifier = Checkpoint.open(target)
    itemsize = model.dtype.itemsize
    held_by_target = target_cost(verifier, itemsize=itemsize)
    V = int(model.get_output_embeddings().weight.shape[0])
    arms = [_Arm(ArmCost(name, held_by_target, V), Target(model), None, 0)]
    opened = []
    for contender in contenders:
        checkpoint = Checkpoint.open(contender.path)
        family = family_of(checkpoint, to_decode=True)
        head = family.head(checkpoint, verifier)
        drafter = family.load_drafter(checkpoint, verifier, model, contender.vocab)
        cost = family.cost(checkpoint, verifier, itemsize=itemsize)
        kept = cost.with_head_rows(drafter.head.vocab.size, head.held.size)
        copied = 0 if head.stays(drafter.head.vocab) else kept.head_bytes
        gained = copied if head.origin.shared else kept.head_bytes - cost.head_bytes
        arm_cost = ArmCost(
            target=name,
            target_cost=held_by_target,
            V=V,
            drafter=contender.name,
            family=family.name,
            K=drafter.head.vocab.size,
            drafter_cost=kept,
            memory_delta_bytes=contender.memory_delta_bytes if contender.vocab is None else gained,
        )
        opened.append((arm_cost, Target(model, drafter.feature_layers), drafter))
    return arms + [
        _Arm(cost, reader, drafter, gamma)
        for gamma in gammas
        if gamma
        for contender, (cost, reader, drafter) in zip(contenders, opened, strict=True)
        if contender.gammas is None or gamma in contender.gammas
    ]


def _settings(sampling: Sampling) -> dict[str, Any] | None:
    """Return what a result says of how tokens were chosen."""
    return None if sampling.greedy else asdict(sampling)


def _groups(members: Sequence[int], size: int) -> list[Sequence[int]]:
    return [members[start : start + size] for start in range(0, len(members), size)]


def _rotated(arms: Sequence[_Arm], by: int) -> list[_Arm]:
    shift = by % len(arms) if arms else 0
    return [*arms[shift:], *arms[:shift]]


def _rates(texts: Mapping[int, Sequence[Generation]], members: Sequence[int]) -> list[float]:
    """Return tokens a second of each repeat, over the prompts that were repeated."""
    held = [texts[index] for index in members if index in texts]
    turns = min((len(one) for one in held), default=0)
    rates = []
    for turn in range(turns):
        tokens = sum(one[turn].counts.tokens for one in held)
        seconds = sum(one[turn].decode_s for one in held)
        if tokens and seconds:
            rates.append(tokens / seconds)
    return rates


def _rate(texts: Mapping[int, Sequence[Generation]], members: Sequence[int]) -> float | None:
    return median(rates) if (rates := _rates(texts, members)) else None
