"""`vocabtrim sweep`: the source's tables on a pair of yours, by one command.

Each drafter is traced once along the target's answers; everything else is
replayed: every K, every kind of calibration text (a count file each, and the
first K ids, which need none), every task. What it comes to is written as JSON and
as Markdown with the source's rows beside (`sweep_tables.py`). MBSU is the
source's, by parameters; nothing is timed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from vocabtrim.core.counts_file import read_counts
from vocabtrim.core.errors import VocabError
from vocabtrim.core.manifest import atomic_file, refuse_existing
from vocabtrim.core.metrics import mbsu
from vocabtrim.core.pair_cost import PairCost
from vocabtrim.core.trace import Trace, TraceError
from vocabtrim.core.trace_file import read_trace
from vocabtrim.core.vocab import rounded_rows
from vocabtrim.pipeline.select import KeepIds
from vocabtrim.pipeline.sweep_tables import markdown
from vocabtrim.pipeline.trace import trace
from vocabtrim.pipeline.traced_texts import Asking, digest_of
from vocabtrim.replay.replay import Nested, Replayed
from vocabtrim.rules.base import Evidence

Advance = Callable[[int, int], None]

SHARES = (1, 2, 4, 8, 16, 32)
"""K where none are named: all ids, half of them, a quarter and so on."""

FIRST = "first"
"""The kind of calibration that needs no text."""


@dataclass(frozen=True)
class SweptPoint:
    """One drafter, kind of calibration and K.

    Args:
        drafter: Name of the drafter.
        calibration: Name of the counts, or "first".
        K: Rows of the head.
        block_efficiency: Tokens a cycle, all prompts.
        mbsu: By parameters.
        mbsu_read: By bytes read.
        domains: Block efficiency and MBSU of each domain.
        open: Positions taken as refused because the trace leaves them open.
    """

    drafter: str
    calibration: str
    K: int
    block_efficiency: float
    mbsu: float
    mbsu_read: float
    domains: dict[str, dict[str, float]]
    open: int


@dataclass(frozen=True)
class Usage:
    """Ids that a tokenizer has and a task never uses.

    Args:
        name: Of the counts.
        V: Ids of the tokenizer.
        tokens: Tokens counted, by task; "" is all of them.
        never: Share of V never used, by task.
    """

    name: str
    V: int
    tokens: dict[str, int]
    never: dict[str, float]


@dataclass(frozen=True)
class SweepResult:
    """All tables.

    Args:
        output: The directory written.
        target: Name of the target.
        V: Ids of the target.
        gamma: Draft length.
        prompts: Prompts traced.
        tokens: New tokens in them.
        points: By drafter, kind and K.
        usage: Of each count file with tasks.
    """

    output: str
    target: str
    V: int
    gamma: int
    prompts: int
    tokens: int
    points: tuple[SweptPoint, ...]
    usage: tuple[Usage, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the document that `--json` writes."""
        return {"sweep": asdict(self)}

    def lines(self) -> list[str]:
        """Return the tables."""
        return markdown(self.to_json()["sweep"]).splitlines()


def sweep(
    prompts: Sequence[Path],
    target: Path,
    drafters: Mapping[str, Path],
    output: Path,
    *,
    counts: Mapping[str, Path],
    usage: Mapping[str, Path] | None = None,
    target_name: str | None = None,
    sizes: Sequence[int] = (),
    gamma: int = 4,
    max_new_tokens: int = 128,
    limit: int | None = None,
    raw: bool = False,
    force: bool = False,
    progress: Advance | None = None,
) -> SweepResult:
    """Trace the drafters and write the tables.

    Args:
        prompts: PROMPTS files, with domains.
        target: Directory of the target.
        drafters: Name to directory.
        output: Directory of `sweep.json`, `sweep.md` and, under `traces`, the
            traces: those of the same prompts that are there already are taken.
        counts: Kind of calibration to count file.
        usage: Name to count file with domains, of any tokenizer.
        target_name: As it is named in results.
        sizes: K; shares of V by default.
        gamma: Draft length.
        max_new_tokens: Per prompt.
        limit: Use only the first so many prompts.
        raw: Leave the chat template out.
        force: Replace the tables.
        progress: Called with (texts traced, texts in all) for each drafter.

    Raises:
        OutputExists: The tables are there and `force` is not given.
        ArtifactError: A file is not what it should be.
        TraceError: There is no drafter or no counts, or a trace that is there is of
            other prompts or models.
        TokenizerMismatch: Files or models belong to different tokenizers.
        VocabError: A K has no room for what must be kept.
    """
    tables = [output / "sweep.json", output / "sweep.md"]
    for table in tables:
        refuse_existing(table, force=force)
    if not drafters or not counts:
        raise TraceError("a sweep needs a drafter and a count file at least")
    swept: list[SweptPoint] = []
    asking = Asking(prompts, target, max_new_tokens, target_name, limit, raw=raw)
    asked = {
        "prompts": digest_of(asking.asked()),
        "target": asking.name,
        "max_new_tokens": max_new_tokens,
        "raw": raw,
    }
    for name, path in drafters.items():
        file = output / "traces" / f"{quote(name, safe='')}.safetensors"
        if file.exists():
            _refuse_other(file, asked | {"drafter": name})
        else:
            trace(
                asking,
                path,
                file,
                gamma=gamma,
                resolve=list(counts.values()),
                drafter_name=name,
                progress=progress,
            )
        swept += _points(file, name, counts, sizes, gamma)
    traced, manifest = read_trace(file)
    result = SweepResult(
        output=str(output),
        target=str(manifest.facts["target"]),
        V=traced.vocab_size,
        gamma=gamma,
        prompts=len(traced.texts),
        tokens=sum(int(text.tokens.size) for text in traced.texts),
        points=tuple(swept),
        usage=tuple(_usage(name, path) for name, path in (usage or {}).items()),
    )
    document = result.to_json()
    texts = (json.dumps(document, indent=2) + "\n", markdown(document["sweep"]))
    for table, text in zip(tables, texts, strict=True):
        with atomic_file(table, force=force) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return result


def _refuse_other(file: Path, asked: Mapping[str, Any]) -> None:
    """Refuse a trace that is there and is of something else."""
    _, manifest = read_trace(file)
    known = {**manifest.options, **manifest.facts}
    if other := [name for name, value in asked.items() if known.get(name) != value]:
        raise TraceError(
            f"{file} was traced with other {' and '.join(other)} than are asked for now; delete it"
        )


def _points(
    file: Path, name: str, counts: Mapping[str, Path], sizes: Sequence[int], gamma: int
) -> list[SweptPoint]:
    found, manifest = read_trace(file)
    if gamma > found.max_gamma:
        raise TraceError(f"{file} was traced for drafts of {found.max_gamma}; delete it")
    cost = PairCost.from_json(manifest.facts["cost"])
    rows = found.head_rows
    asked = sizes or [found.vocab_size // share for share in SHARES]
    chosen = sorted({min(rounded_rows(K, found.vocab_size), rows) for K in asked}, reverse=True)
    points = []
    for kind, (order, kept) in _orders(found, counts).items():
        nested = Nested(found, order)
        for K in chosen:
            if kept > K:
                raise VocabError(f"K = {K} has no room for the {kept} ids that must be kept")
            (one,) = nested.replay(K, [gamma], refuse_open=True)
            points.append(_point(found, cost, (name, kind, K), one, nested.open_at(K)))
    return points


def _orders(found: Trace, counts: Mapping[str, Path]) -> dict[str, tuple[NDArray[np.int64], int]]:
    """Return the order of each kind of calibration, and how many ids it must keep."""
    orders: dict[str, tuple[NDArray[np.int64], int]] = {}
    for kind, path in counts.items():
        read, _ = read_counts(path, tokenizer=found.tokenizer)
        kept = KeepIds().of(read)
        orders[kind] = (found.order(Evidence(read).ranking(kept)), kept.size)
        if FIRST not in orders:
            rest = np.setdiff1d(np.arange(read.vocab_size), kept)
            first = found.order(np.concatenate([kept, rest]))
            orders = {FIRST: (first, kept.size)} | orders
    return orders


def _point(
    found: Trace, cost: PairCost, key: tuple[str, str, int], one: Replayed, opened: int
) -> SweptPoint:
    name, kind, K = key
    c, c_read = cost.c(K), cost.c_read(K, one.gamma)
    domains = {}
    for domain in sorted({text.domain for text in found.texts if text.domain}):
        members = np.array([text.domain == domain for text in found.texts])
        tau = one.of(members).block_efficiency
        if tau is not None:
            domains[domain] = {"block_efficiency": tau, "mbsu": mbsu(tau, c, one.gamma)}
    tau = one.pooled.block_efficiency
    if tau is None:
        raise TraceError("the texts are too short for a single cycle")
    return SweptPoint(
        drafter=name,
        calibration=kind,
        K=K,
        block_efficiency=tau,
        mbsu=mbsu(tau, c, one.gamma),
        mbsu_read=mbsu(tau, c_read, one.gamma),
        domains=domains,
        open=opened,
    )


def _usage(name: str, path: Path) -> Usage:
    read, _ = read_counts(path)
    parts = {"": read, **read.domains}
    return Usage(
        name,
        read.vocab_size,
        {domain: part.n_tokens for domain, part in parts.items()},
        {domain: float((part.counts == 0).mean()) for domain, part in parts.items()},
    )
