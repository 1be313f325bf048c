"""Our decoder against `generate` and assisted generation of `transformers`, in one run.

    python -m benchmarks.decoding [--prompts 6] [--max-new-tokens 48] [--repeats 5]

The demo pair decodes held-out prompts of the package, greedily and one at a time:
`generate`, twice (the A/A arm); assisted generation with the whole independent
drafter, at 1 to 5 `num_assistant_tokens` (constant, confidence 0) and at its own
defaults; the same with our head over K rows; our decoder without a drafter, with
that drafter whole and trimmed, and with the trimmed EAGLE-3 drafter, at the same
draft lengths and at 5 where a draft may end early, as it may in those defaults.
Everything is tried in float32 and, where our decoder packs weights of bfloat16
(`decode/packed.py`), in bfloat16: a contender is as fast as in the better one.

These settings are searched first, on other prompts; those within 10 % of the best
go on, for every contender alike, and `generate` in each dtype, whose texts the others
are compared with. Then each repeat decodes every prompt with every arm, the order
turning, and a ratio is the median of the repeats' own. A text is timed from its
prompt to its end. On a shared machine `--clock cpu` counts the process's own time. The
last line is JSON; exit code 1 where a ratio is below what is promised where bfloat16
is packed. Forty minutes on a core.
"""

from __future__ import annotations

import argparse
import gzip
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from importlib.resources import files
from pathlib import Path
from statistics import median
from typing import Any

from vocabtrim.core.counts_file import read_counts
from vocabtrim.core.errors import VocabtrimError
from vocabtrim.core.vocab import DraftVocab
from vocabtrim.core.vocab_file import read_vocab
from vocabtrim.pipeline.select import KeepIds
from vocabtrim.rules.base import Evidence
from vocabtrim.rules.top_k import TopK
from vocabtrim.tensors.locate import locate
from vocabtrim.tokens.prompts import PromptEncoder, read_prompts

GAMMAS = (1, 2, 3, 4, 5)
CONFIDENCES = (0.2, 0.4)
"""Least probability of a draft where its length is not fixed; 0.4 is `transformers`' default."""

NEAR = 1.1
"""Settings that take at most so many times the best are measured."""

PROMISED = {"trimmed_over_assisted": 1.3, "autoregressive_over_generate": 0.95}
DTYPES = ("float32", "bfloat16")
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
GENERATE, AGAIN, ALONE = "generate", "generate, again", "ours, no drafter"
ASSISTED, REDUCED = "assisted", "assisted, our head"
FULL, TRIMMED, EAGLE3 = "ours, LM drafter", "ours, LM trimmed", "ours, EAGLE-3 trimmed"

Decode = Callable[[Sequence[int]], list[int]]


@dataclass(eq=False)
class Arm:
    """One way of decoding.

    Args:
        group: What it is compared as.
        setting: Draft length, or how else it differs within its group.
        dtype: Of target and drafter.
        decode: From a prompt to the new tokens.
        seconds: [repeats][prompts], filled as it is measured.
    """

    group: str
    setting: str
    dtype: str
    decode: Decode
    seconds: list[list[float]] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Group, setting and dtype."""
        return " ".join(filter(None, (self.group, self.setting, self.dtype)))

    @property
    def totals(self) -> list[float]:
        """Seconds of each repeat."""
        return [sum(one) for one in self.seconds]

    @property
    def middle(self) -> float:
        """Seconds of a repeat."""
        return median(self.totals)


class Pair:
    """Everything that decodes in one dtype, opened once.

    Args:
        options: Of the command.
        vocab: Ids that trimmed drafters keep.
        dtype: "float32" or "bfloat16".
    """

    def __init__(self, options: argparse.Namespace, vocab: DraftVocab, dtype: str) -> None:
        from vocabtrim.decode.model import load_model
        from vocabtrim.decode.packed import pack_linears
        from vocabtrim.engines.transformers import reduced_assistant
        from vocabtrim.pipeline.open_drafter import open_drafter

        self.new_tokens: int = options.max_new_tokens
        self.dtype = dtype
        self.model = load_model(locate(options.target), dtype)
        self.packed = pack_linears(load_model(locate(options.target), dtype))
        self.assistant = load_model(locate(options.lm), dtype)
        self.reduced = reduced_assistant(self.assistant, vocab, target=self.model)

        def opened(name: str, kept: DraftVocab | None) -> Any:
            return open_drafter(name, self.packed, target=options.target, vocab=kept)

        self.full, self.trimmed = opened(options.lm, None), opened(options.lm, vocab)
        self.eagle3 = opened(options.eagle3, vocab)

    def arms(self) -> Iterator[Arm]:
        """Yield every arm that is searched."""
        from vocabtrim.decode.target import Target

        def arm(group: str, setting: str, decode: Decode) -> Arm:
            return Arm(group, setting, self.dtype, decode)

        yield arm(GENERATE, "", self.generate)
        yield arm(AGAIN, "", self.generate)
        yield arm(ALONE, "", self._ours(Target(self.packed), None, 0))
        for group, assistant in ((ASSISTED, self.assistant), (REDUCED, self.reduced)):
            yield arm(group, "defaults", self._assisted(assistant, None))
            for gamma in GAMMAS:
                yield arm(group, str(gamma), self._assisted(assistant, gamma))
        for group, drafter in ((FULL, self.full), (TRIMMED, self.trimmed), (EAGLE3, self.eagle3)):
            target = Target(self.packed, drafter.feature_layers)
            for gamma in GAMMAS:
                yield arm(group, str(gamma), self._ours(target, drafter, gamma))
            for least in CONFIDENCES:
                most = max(GAMMAS)
                name = f"{most}, sure by {least}"
                yield arm(group, name, self._ours(target, drafter, most, least))

    def generate(self, prompt_ids: Sequence[int], **options: Any) -> list[int]:
        """Decode with `generate`, greedily whatever the model's own settings are."""
        import torch

        ids = torch.tensor([prompt_ids])
        out = self.model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            temperature=None,
            top_k=None,
            top_p=None,
            max_new_tokens=self.new_tokens,
            **options,
        )
        return [int(one) for one in out[0, len(prompt_ids) :]]

    def _assisted(self, assistant: Any, gamma: int | None) -> Decode:
        from transformers import GenerationConfig

        own = assistant.generation_config.to_dict()

        def decode(prompt_ids: Sequence[int]) -> list[int]:
            # a config for each text: `generate` changes an assistant's as it goes
            config = assistant.generation_config = GenerationConfig.from_dict(own)
            if gamma is not None:
                config.num_assistant_tokens = gamma
                config.num_assistant_tokens_schedule = "constant"
                config.assistant_confidence_threshold = 0.0
            return self.generate(prompt_ids, assistant_model=assistant)

        return decode

    def _ours(self, target: Any, drafter: Any, gamma: int, confidence: float = 0.0) -> Decode:
        from vocabtrim.decode.chain import speculate

        def decode(prompt_ids: Sequence[int]) -> list[int]:
            text = speculate(
                target,
                drafter,
                prompt_ids,
                gamma=gamma,
                max_new_tokens=self.new_tokens,
                confidence=confidence,
            )
            return list(text.token_ids)

        return decode


def searched(arms: Sequence[Arm], prompts: Sequence[Sequence[int]], clock: str) -> list[Arm]:
    """Time every arm on some prompts and return those near the best of their group.

    `generate` stays in every dtype: it is what texts and noise are measured by.
    """
    measure(arms, prompts, 1, clock)
    kept = []
    for arm in arms:
        best = min(one.middle for one in arms if one.group == arm.group)
        if arm.group in (GENERATE, AGAIN) or arm.middle <= NEAR * best:
            kept.append(replace(arm, seconds=[]))
    return kept


def measure(
    arms: Sequence[Arm], prompts: Sequence[Sequence[int]], repeats: int, clock: str
) -> dict[str, int]:
    """Decode every prompt with every arm, in turns.

    Returns:
        By arm, how many of its texts, repeats aside, are not those of `generate` in
        its dtype, and those of `generate` not what it writes in float32. In bfloat16
        many logits are equal to within rounding, so there some are.
    """
    now, texts, different = CLOCKS[clock], {}, set()
    plain = {arm.dtype: arm for arm in arms if arm.group == GENERATE}
    exact = plain.get(DTYPES[0])
    against = {
        id(arm): exact if exact and arm.group == GENERATE else plain[arm.dtype] for arm in arms
    }
    for repeat in range(repeats):
        for arm in arms:
            arm.seconds.append([0.0] * len(prompts))
        for number, prompt in enumerate(prompts):
            first = (repeat + number) % len(arms)
            for arm in [*arms[first:], *arms[:first]]:
                began = now()
                text = arm.decode(prompt)
                arm.seconds[repeat][number] = now() - began
                texts[id(arm), number] = text
        different |= {
            (arm.name, number)
            for arm in arms
            for number in range(len(prompts))
            if texts[id(arm), number] != texts[id(against[id(arm)]), number]
        }
    return {arm.name: sum(name == arm.name for name, _ in different) for arm in arms}


def fastest(arms: Sequence[Arm], group: str) -> Arm:
    """Return the best arm of a group, over all repeats."""
    return min((arm for arm in arms if arm.group == group), key=lambda arm: arm.middle)


def ratio(faster: Arm, slower: Arm) -> float:
    """Return how many times as fast one arm is as another: the median of the repeats."""
    return median(theirs / ours for ours, theirs in zip(faster.totals, slower.totals, strict=True))


def summary(arms: Sequence[Arm]) -> dict[str, float]:
    """Return the figures of a run."""
    best = {arm.group: fastest(arms, arm.group) for arm in arms}
    again = next(a for a in arms if a.group == AGAIN and a.dtype == best[GENERATE].dtype)
    pairs = zip(again.totals, best[GENERATE].totals, strict=True)
    return {
        "trimmed_over_assisted": ratio(best[TRIMMED], best[ASSISTED]),
        "autoregressive_over_generate": ratio(best[ALONE], best[GENERATE]),
        "eagle3_over_autoregressive": ratio(best[EAGLE3], best[ALONE]),
        "trimmed_over_full": ratio(best[TRIMMED], best[FULL]),
        "our_head_over_assisted": ratio(best[REDUCED], best[ASSISTED]),
        "noise": max(abs(second / first - 1) for second, first in pairs),
    }


def show(title: str, arms: Sequence[Arm], reference: Arm) -> None:
    print(f"{title:<48}seconds  times `generate`", flush=True)
    for arm in arms:
        times = reference.middle / arm.middle
        print(f"  {arm.name:<44}{arm.middle:>9.2f}{times:>9.3f}", flush=True)


def fast_dtypes() -> tuple[str, ...]:
    """Return float32, and bfloat16 where there are packed weights of it."""
    import torch

    from vocabtrim.decode.packed import packs

    return DTYPES if packs(torch.empty(1, 1, dtype=torch.bfloat16)) else DTYPES[:1]


def draft_vocabulary(options: argparse.Namespace, target: Path) -> DraftVocab:
    """Return the ids kept: a file's, or the most frequent of the counts in the package."""
    if options.vocab is not None:
        return read_vocab(options.vocab)[0]
    packed = files("vocabtrim.demo").joinpath("counts.safetensors.gz").read_bytes()
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "counts.safetensors"
        path.write_bytes(gzip.decompress(packed))
        counts = read_counts(path)[0]
    return TopK(options.top_k).select(Evidence(counts), KeepIds().of(counts))


def encoded(options: argparse.Namespace, target: Path) -> tuple[list[Any], list[Any]]:
    """Return prompts to search with and prompts to measure, as ids, of many domains."""
    own = Path(str(files("vocabtrim.demo") / "prompts.jsonl"))
    path, encoder = options.prompt_file or own, PromptEncoder(target)
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    held_out = {one["id"] for one in lines if one.get("split") != "calibration"}
    prompts = read_prompts([path])
    parts = []
    for kept, count in ((False, options.search_prompts), (True, options.prompts)):
        part = [one for one in prompts if (one.id in held_out) is kept] or prompts
        chosen = part[:: max(1, len(part) // count)][:count]
        parts.append([encoder.encode(prompt).tolist() for prompt in chosen])
    return parts[0], parts[1]


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    parser.add_argument("--target", default="demo")
    parser.add_argument("--lm", default="demo-lm", help="the independent drafter")
    parser.add_argument("--eagle3", default="demo-eagle3")
    parser.add_argument("--vocab", type=Path, help="a draft vocabulary, in place of --top-k")
    parser.add_argument("--top-k", type=int, default=4096, help="of the package's counts")
    parser.add_argument("--prompt-file", type=Path, help="JSONL, in place of the package's")
    parser.add_argument("--prompts", type=int, default=6)
    parser.add_argument("--search-prompts", type=int, default=2)
    parser.add_argument("--max-new-tokens", type=int, default=48)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES, help="default: the fast ones")
    parser.add_argument("--clock", choices=list(CLOCKS), default="wall")
    return parser.parse_args(arguments)


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Search, measure, print the tables; return the last line."""
    target = locate(options.target)
    vocab = draft_vocabulary(options, target)
    search, prompts = encoded(options, target)
    dtypes = options.dtypes or fast_dtypes()
    arms = [arm for dtype in dtypes for arm in Pair(options, vocab, dtype).arms()]
    # a pass of each before anything is timed: buffers, and code that is loaded when needed
    for arm in arms:
        arm.decode(search[0][:8])
    kept = searched(arms, search, options.clock)
    show(f"search, {len(search)} prompts", arms, fastest(arms, GENERATE))
    different = measure(kept, prompts, options.repeats, options.clock)
    show(f"{options.repeats} repeats of {len(prompts)} prompts", kept, fastest(kept, GENERATE))
    figures = summary(kept)
    for name, value in figures.items():
        print(f"  {name:<44}{value:>9.3f}")
    best = [fastest(kept, group) for group in {arm.group for arm in kept}]
    settings = {arm.group: f"{arm.setting} {arm.dtype}".strip() for arm in best}
    return figures | {
        "K": vocab.size,
        "best": dict(sorted(settings.items())),
        "seconds": {arm.name: arm.totals for arm in kept},
        "texts_different": different,
        "clock": options.clock,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    options = parsed(arguments)
    try:
        found = run(options)
    except VocabtrimError as fault:
        print(f"error: {fault}", file=sys.stderr)
        return fault.exit_code
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    print(json.dumps(found))
    return int(any(found[name] < least for name, least in PROMISED.items()))


if __name__ == "__main__":
    raise SystemExit(main())
