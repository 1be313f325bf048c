r"""Fill the model card of a drafter from what its run and its evaluation left.

    python -m recipes.card WORK --evaluation result.json -o CARD.md \
        --ablation "a quarter of the data=WORK2"

Nothing in a card is typed by hand but its name: data, time and curve come from
the work directory, block efficiency from `recipes.evaluate`, the ablation from
other work directories, compared at the largest number of visits that all have.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

import numpy as np

from recipes.curve import agreement_at, phase_of, read_curve
from recipes.training.command import RUN_FILE
from recipes.training.state import DRAFTER, WEIGHTS_FILE
from vocabtrim.core.errors import ArtifactError, VocabtrimError
from vocabtrim.core.manifest import atomic_file, file_hash

CURVE_ROWS = 12

Document = dict[str, Any]


class Run:
    """What lies in a work directory.

    Args:
        work: The directory.

    Attributes:
        document: `run.json`.
        curve: Points of the decayed phase where there is one, else the constant's.

    Raises:
        ArtifactError: It is no work directory with a curve.
    """

    def __init__(self, work: Path) -> None:
        self.weights = work / phase_of(work) / DRAFTER / WEIGHTS_FILE
        try:
            self.document: Document = json.loads((work / RUN_FILE).read_text())
        except OSError as fault:
            raise ArtifactError(f"{work} has no finished run in it ({fault})") from fault
        self.curve = read_curve(work)

    @property
    def learnt_tokens(self) -> int:
        """Distinct tokens that were learnt."""
        return sum(kind["learnt_tokens"] for kind in self.document["data"].values())


def card(
    run: Run,
    evaluations: Sequence[Document],
    ablations: Mapping[str, Run],
    *,
    name: str,
    note: str,
) -> str:
    """Return the card as Markdown.

    Args:
        run: Of the drafter.
        evaluations: Result documents of `recipes.evaluate`; what the drafter says
            outside of the frequent ids is told of the first.
        ablations: Other runs by what is different about them.
        name: Of the drafter.
        note: What a reader should know besides.
    """
    settings, last = run.document["settings"], run.curve[-1]
    first = evaluations[0]
    fields = {
        "name": name,
        "note": note,
        "target": run.document["target"],
        "weights_hash": file_hash(run.weights),
        "megabytes": f"{run.weights.stat().st_size / 1e6:.1f}",
        "init": _start(run.document),
        "features": ", ".join(map(str, run.document["feature_layers"])) or "none",
        "batch": run.document["batch_tokens"],
        "rate": settings["rate"],
        "sampled": run.document["sampled"],
        "steps": last["step"],
        "visits": _millions(last["visits"]),
        "hours": f"{last['minutes'] / 60:.1f}",
        "device": f"{run.document['device']}, {run.document['threads']} threads",
        "data": _data(run.document["data"]),
        "curve": _curve(run.curve),
        "outlook": _outlook(run.curve, settings["rate"]),
        "full": _full(settings),
        "gamma": first["gamma"],
        "efficiencies": "\n\n".join(_efficiency(one) for one in evaluations),
        "frequent": f"{first['frequent_ids']:,}",
        "of_texts": f", those that are {_texts(first)}" if len(evaluations) > 1 else "",
        "depths": _depths(first["depths"]),
        "ablation": _ablation(run, ablations),
    }
    template = files("recipes").joinpath("card_template.md").read_text(encoding="utf-8")
    return Template(template).substitute(fields)


def _start(document: Document) -> str:
    if document["init"] is None:
        return "untrained weights"
    return f"{document['init']}, `{document.get('init_hash', 'hash not recorded')}`"


def _data(data: Document) -> str:
    rows = []
    for kind, one in data.items():
        if one["documents"]:
            domains = ", ".join(
                f"{name} {_millions(tokens)}"
                for name, tokens in one["learnt_tokens_by_domain"].items()
            )
            counted = [one["documents"], _millions(one["learnt_tokens"]), f"{one['share']:.0%}"]
            rows.append([kind, *counted, domains])
    return _table(["kind", "texts", "tokens learnt", "share of visits", "by domain"], rows)


def _curve(curve: Sequence[Document]) -> str:
    last = len(curve) - 1
    wanted = sorted({round(last * (one / CURVE_ROWS) ** 2) for one in range(CURVE_ROWS + 1)})
    rows = [
        [
            f"{point['minutes']:.0f}",
            _millions(point["visits"]),
            f"{point['loss']:.3f}",
            _shares(point["agreement"]),
        ]
        for point in (curve[one] for one in wanted)
    ]
    return _table(["minutes", "tokens visited", "loss", "agreement by step"], rows)


def _outlook(curve: Sequence[Document], rate: float) -> str:
    """Say what a doubling of the visits added lately, and ten times as many would.

    From the last fourfold of the constant phase; the decay is another thing.
    """
    constant = [one for one in curve if one["visits"] and one["rate"] == rate]
    recent = [one for one in constant if 4 * one["visits"] >= constant[-1]["visits"]]
    if len(recent) < 3:
        return "The curve is too short to be continued."
    doublings = np.log2([one["visits"] for one in recent])
    slope, _ = np.polyfit(doublings, [one["agreement"][0] for one in recent], 1)
    ten = curve[-1]["agreement"][0] + slope * math.log2(10)
    return (
        f"Over the last fourfold of tokens at the constant rate each doubling added "
        f"{100 * slope:.1f} points at step 1. Ten times the tokens would be {min(ten, 1):.0%} "
        f"on a straight line, and less on a curve that bends, as all do."
    )


def _full(settings: Document) -> str:
    share = settings["full_share"]
    return f" The last {share:.0%} of the steps saw the full softmax." if share else ""


def _texts(evaluation: Document) -> str:
    """Say how the texts of an evaluation were made, and what of them counts."""
    temperature, length = evaluation["temperature"], evaluation["without_repeats"]
    made = f"sampled at temperature {temperature}" if temperature else "greedy"
    left_out = f", without tokens in runs of {length} that the text had before" if length else ""
    return made + left_out


def _efficiency(evaluation: Document) -> str:
    low, high = evaluation["interval"]
    said = f"**{evaluation['block_efficiency']:.2f} ({low:.2f} to {high:.2f})**"
    texts = _texts(evaluation).capitalize()
    return (
        f"{texts}, {evaluation['how']}; all prompts pooled, {said} tokens per target pass:\n\n"
        + _domains(evaluation["domains"])
    )


def _domains(domains: Document) -> str:
    rows = []
    for name, one in domains.items():
        low, high = one["interval"] or (math.nan, math.nan)
        efficiency = f"{one['block_efficiency']:.2f}" if one["cycles"] else "–"
        rows.append([name, one["prompts"], one["tokens"], efficiency, f"{low:.2f} to {high:.2f}"])
    return _table(["domain", "prompts", "tokens", "block efficiency", "95 %"], rows)


def _depths(depths: Sequence[Document]) -> str:
    rows = [
        [depth + 1]
        + [
            "–" if one[share] is None else f"{one[share]:.1%}"
            for share in ("agreement", "outside", "outside_precision", "frequent_precision")
        ]
        for depth, one in enumerate(depths)
    ]
    head = ["depth", "agreement", "said outside", "right where outside", "right where frequent"]
    return _table(head, rows)


def _ablation(run: Run, others: Mapping[str, Run]) -> str:
    if not others:
        return "None was made."
    runs = {"this run": run, **others}
    visits = min(one.curve[-1]["visits"] for one in runs.values())
    rows = [
        [
            label,
            _millions(one.learnt_tokens),
            _millions(visits),
            _shares(agreement_at(one.curve, visits)),
        ]
        for label, one in runs.items()
    ]
    table = _table(["run", "tokens of data", "tokens visited", "agreement by step"], rows)
    return f"{table}\n\n{_prediction(runs, visits)}".strip()


def _prediction(runs: Mapping[str, Run], visits: int) -> str:
    """Say what ten times the data would give if its effect stays what it was."""
    sizes = sorted(
        {one.learnt_tokens: agreement_at(one.curve, visits)[0] for one in runs.values()}.items()
    )
    if len(sizes) < 2:
        return ""
    (small, before), (large, after) = sizes[-2:]
    doubling = (after - before) / math.log2(large / small)
    return (
        f"Each doubling of the data added {100 * doubling:.1f} points at step 1 at equal visits; "
        f"ten times the data predicts {after + doubling * math.log2(10):.0%} there, if that holds."
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def _shares(shares: Sequence[float]) -> str:
    return " / ".join(f"{one:.1%}" for one in shares)


def _millions(tokens: int) -> str:
    return f"{tokens / 1e6:.2f}M" if tokens >= 1e5 else f"{tokens / 1e3:.1f}K"


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, write the card, and return the exit status."""
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("work", type=Path, help="work directory of the run")
    options.add_argument(
        "--evaluation",
        type=Path,
        nargs="+",
        required=True,
        help="of recipes.evaluate; frequent ids are told of the first",
    )
    options.add_argument("--ablation", action="append", default=[], metavar="LABEL=WORK")
    options.add_argument("--name", default="Demo drafter")
    options.add_argument("--note", default="", help="a paragraph of your own")
    options.add_argument("-o", "--output", type=Path, required=True)
    arguments = options.parse_args(argv)
    try:
        ablations = {
            label: Run(Path(work))
            for label, _, work in (one.rpartition("=") for one in arguments.ablation)
        }
        text = card(
            Run(arguments.work),
            [json.loads(one.read_text()) for one in arguments.evaluation],
            ablations,
            name=arguments.name,
            note=arguments.note,
        )
        with atomic_file(arguments.output, force=True) as temporary:
            temporary.write_text(text, encoding="utf-8")
    except VocabtrimError as fault:
        print(f"card: {fault}", file=sys.stderr)
        return fault.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
