"""`vocabtrim demo`: the whole method on a real pair, in a few minutes.

On prompts that ship with the package: the target answers some of them; their
tokens are added to counts of what it wrote before, which ship too; K and the
draft length are chosen by a trace of calibration prompts that were not counted
and by what this machine takes (`demo_choice.py`); both demo drafters are trimmed;
and held-out prompts show, for the files that were written, that the text stays
the same and what is gained. Everything that it makes is left in one directory,
which the next demo replaces.
"""

from __future__ import annotations

import gzip
import json
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from vocabtrim.core.counts import TokenCounts
from vocabtrim.core.counts_file import read_counts
from vocabtrim.core.errors import MissingExtra
from vocabtrim.core.manifest import DIRECTORY_MANIFEST, Manifest, refuse_existing
from vocabtrim.core.vocab_file import read_vocab
from vocabtrim.pipeline.count import count
from vocabtrim.pipeline.demo_choice import Choice, choose
from vocabtrim.pipeline.eval import Contender, EvalResult, evaluate
from vocabtrim.pipeline.generate import generate
from vocabtrim.pipeline.inspect import inspect
from vocabtrim.pipeline.merge import merge
from vocabtrim.pipeline.select import select
from vocabtrim.pipeline.trim import trim
from vocabtrim.rules.top_k import TopK
from vocabtrim.tensors.locate import locate
from vocabtrim.tokens.prompts import read_prompts

DRAFTERS = ("demo-eagle3", "demo-lm")
NEW_TOKENS = 48
SIZES = (1024, 2048, 4096, 8192, 16_384, 32_768)
COUNTED_PROMPTS, CHOOSING_PROMPTS, HELD_OUT_PROMPTS, TIMED_PROMPTS = 16, 16, 12, 3
REPEAT = 1
COUNTS = "counts.safetensors"
REPORT = "demo-report.json"

Say = Callable[[str], None]


@dataclass(frozen=True)
class DemoResult:
    """What the demo came to.

    Args:
        output: The directory written.
        counted_tokens: Tokens that the draft vocabularies were chosen from.
        choices: How K and γ were chosen.
        evaluation: What the held-out prompts showed.
        seconds: By phase.
    """

    output: str
    counted_tokens: int
    choices: Sequence[Choice]
    evaluation: EvalResult
    seconds: dict[str, float]

    def to_json(self) -> dict[str, Any]:
        """Return the report: the runs, and how they came about."""
        return {
            **self.evaluation.to_json(),
            "demo": {
                "counted_tokens": self.counted_tokens,
                "choices": [choice.to_json() for choice in self.choices],
                "seconds": self.seconds,
            },
        }


def demo(output: Path, *, say: Say = lambda _line: None) -> DemoResult:
    """Run the demo and leave its files and report in `output`.

    Args:
        output: A directory; one that an earlier demo wrote is replaced.
        say: Called with each line for the reader as it comes.

    Raises:
        MissingExtra: torch is not installed.
        OutputExists: `output` is there and no demo wrote it.
        EnvironmentFailure: A demo part cannot be fetched, or the disk is full.
    """
    if find_spec("torch") is None:
        raise MissingExtra("the demo decodes with torch and transformers", "demo")
    refuse_existing(output, force=True)
    clock = _Clock(say)
    with clock.phase("set-up", "the demo pair, fetched and converted once"):
        target = locate("demo")
        drafters = {name: locate(name) for name in DRAFTERS}
    if output.exists():
        shutil.rmtree(output)
    output.mkdir(parents=True)
    document = Manifest("demo", 0, None, options={"new_tokens": NEW_TOKENS})
    (output / DIRECTORY_MANIFEST).write_text(document.to_json() + "\n", encoding="utf-8")
    counted, choosing, held_out = _prompts(output)
    with clock.phase("generate", f"the target answers {COUNTED_PROMPTS} calibration prompts"):
        generate(
            [counted], target, output / "answers.jsonl", max_new_tokens=NEW_TOKENS, model="demo"
        )
    with clock.phase("count", "what it wrote, now and before"):
        counts = _counts(output, target)
    with clock.phase("trace and plan", f"K and γ on {CHOOSING_PROMPTS} other prompts"):
        choices = choose(
            output,
            target,
            drafters,
            output / COUNTS,
            read_prompts([choosing]),
            sizes=SIZES,
            new_tokens=NEW_TOKENS,
        )
    for choice in choices:
        _show_choice(choice, say)
    with clock.phase("select and trim", "byte for byte"):
        contenders = _trimmed(output, target, drafters, choices)
    for contender in contenders[1::2]:
        say("")
        for line in inspect(str(contender.path), target=str(target)).lines():
            say("  " + line)
    what = f"{HELD_OUT_PROMPTS} held-out prompts, full and trimmed, against transformers"
    with clock.phase("prove and measure", what):
        evaluation = evaluate(
            read_prompts([held_out]),
            target,
            contenders,
            gammas=sorted({choice.point.gamma for choice in choices}),
            max_new_tokens=NEW_TOKENS,
            target_name="demo",
            repeat=REPEAT,
            timed_prompts=TIMED_PROMPTS,
        )
    result = DemoResult(str(output), counts.n_tokens, choices, evaluation, clock.seconds)
    report = json.dumps(result.to_json(), ensure_ascii=False, indent=2)
    (output / REPORT).write_text(report + "\n", encoding="utf-8")
    return result


@dataclass
class _Clock:
    """Seconds by phase, said as they pass."""

    say: Say
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def phase(self, name: str, what: str) -> Iterator[None]:
        self.say(f"{name}: {what}")
        began = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - began, 1)


def _prompts(output: Path) -> tuple[Path, Path, Path]:
    """Write which prompts are counted, which choose K and which are held out."""
    text = files("vocabtrim.demo").joinpath("prompts.jsonl").read_text(encoding="utf-8")
    by_split: dict[str, dict[str, list[str]]] = {}
    for line in text.splitlines():
        record = json.loads(line)
        of_split = by_split.setdefault(record["split"], {})
        of_split.setdefault(record["domain"], []).append(line)
    calibration = _in_turns(by_split["calibration"])
    parts = {
        "counted": calibration[:COUNTED_PROMPTS],
        "choosing": calibration[COUNTED_PROMPTS : COUNTED_PROMPTS + CHOOSING_PROMPTS],
        "held-out": _in_turns(by_split["heldout"])[:HELD_OUT_PROMPTS],
    }
    paths = []
    for name, lines in parts.items():
        paths.append(output / f"prompts-{name}.jsonl")
        paths[-1].write_text("\n".join(lines) + "\n", encoding="utf-8")
    counted, choosing, held_out = paths
    return counted, choosing, held_out


def _in_turns(by_domain: dict[str, list[str]]) -> list[str]:
    """Return the lines so that every domain has its turn."""
    return [line for turn in zip(*by_domain.values(), strict=True) for line in turn]


def _counts(output: Path, target: Path) -> TokenCounts:
    """Count the answers and add the counts that ship with the package."""
    answers, shipped = output / "counts-answers.safetensors", output / "counts-shipped.safetensors"
    count([output / "answers.jsonl"], target, answers)
    packed = files("vocabtrim.demo").joinpath("counts.safetensors.gz").read_bytes()
    shipped.write_bytes(gzip.decompress(packed))
    merge([answers, shipped], output / COUNTS)
    return read_counts(output / COUNTS)[0]


def _trimmed(
    output: Path, target: Path, drafters: dict[str, Path], choices: Sequence[Choice]
) -> list[Contender]:
    """Write the trimmed drafters; return each full one and its trimmed one."""
    contenders = []
    for choice in choices:
        vocab = output / f"{choice.drafter}-vocab.safetensors"
        select([output / COUNTS], TopK(choice.point.K), vocab)
        kept, manifest = read_vocab(vocab)
        path = drafters[choice.drafter]
        place = output / choice.drafter
        result = trim(path, kept, place, target=target, vocab_manifest=manifest)
        lengths, freed = (choice.point.gamma,), result.memory_delta_bytes
        contenders += [
            Contender(choice.drafter, path, gammas=lengths),
            Contender(choice.drafter, place, memory_delta_bytes=freed, gammas=lengths),
        ]
    return contenders


def _show_choice(choice: Choice, say: Say) -> None:
    point = choice.point
    say("")
    say(f"  {choice.drafter}: K = {point.K:,}, γ = {point.gamma}")
    for line in choice.lines():
        say("  " + line if line else "")
    for warning in choice.plan.warnings:
        say("  " + warning)
