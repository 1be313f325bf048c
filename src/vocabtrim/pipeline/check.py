"""`vocabtrim check`: what is wrong with a drafter, and what each engine makes of it.

Engines disagree on nearly everything about a reduced head, and most of what can be
wrong with one is silent: the text stays right, because the target verifies it, and
only the acceptance rate falls. So a drafter is held against every way in which one
is known to be wrong (`checks/`, a few lines each), whoever made it. Nothing is
loaded but headers, maps and a few rows, and nothing is run; `--probe` alone decodes
(`probe.py`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vocabtrim.core.errors import ArtifactError, CheckpointError, VocabtrimError
from vocabtrim.core.vocab import DraftVocab
from vocabtrim.core.vocab_file import read_vocab
from vocabtrim.engines.base import Container, cell_of, engine_named
from vocabtrim.pipeline.checks.base import (
    ALL,
    Effect,
    Finding,
    Kind,
    Severity,
    checks,
    lacks,
    refuses,
    said,
)
from vocabtrim.pipeline.checks.listed import read_listed
from vocabtrim.pipeline.checks.subject import Form, Subject
from vocabtrim.pipeline.checks.verifier import Verifier
from vocabtrim.pipeline.export_engine import ID_LIST_FILE
from vocabtrim.tensors.checkpoint import CONFIG_FILE, Checkpoint
from vocabtrim.tensors.gguf_file import is_gguf
from vocabtrim.tensors.gguf_model import open_gguf
from vocabtrim.tensors.locate import locate
from vocabtrim.tensors.weight_files import BIN_FILE, BIN_INDEX_FILE, INDEX_FILE, WEIGHTS_FILE
from vocabtrim.tokens.prompts import Prompt

_SHARD = re.compile(r"(model|pytorch_model)-\d{5}-of-\d{5}\.(safetensors|bin)")

UNREADABLE, NO_READER, UNKNOWN = "unreadable", "no-reader", "unknown-family"


@dataclass(frozen=True)
class CheckResult:
    """What was found.

    Args:
        what: What was asked about.
        form: What it is.
        family: Of which family, where one knows it.
        looked: Names of the checks that looked.
        findings: The worst first.
        figures: What a probe measured, acceptance by what was changed.
    """

    what: str
    form: str
    family: str | None
    looked: tuple[str, ...]
    findings: tuple[Finding, ...]
    figures: tuple[tuple[str, float], ...] = ()

    def count(self, severity: Severity) -> int:
        """Return how many findings are of a severity."""
        return sum(one.severity is severity for one in self.findings)

    def failed(self, *, strict: bool) -> bool:
        """Return whether there is a fault, or with `strict` a loss."""
        least = Severity.LOSS if strict else Severity.FAULT
        return any(one.severity >= least for one in self.findings)

    def lines(self) -> list[str]:
        """Return a line for each finding, and one that counts them."""
        counted = ", ".join(
            f"{n} {name if n == 1 else plural}"
            for n, name, plural in (
                (self.count(Severity.FAULT), "fault", "faults"),
                (self.count(Severity.LOSS), "loss", "losses"),
                (self.count(Severity.NOTE), "note", "notes"),
            )
        )
        kind = f"{self.family}, {self.form}" if self.family else self.form
        probed = [f"probe  {name}: {value:.1%} accepted" for name, value in self.figures]
        checked = "1 check" if len(self.looked) == 1 else f"{len(self.looked)} checks"
        total = f"{self.what} ({kind}): {counted}; {checked} looked"
        return [*(one.line() for one in self.findings), *probed, total]

    def to_json(self) -> dict[str, Any]:
        """Return the document that `--json` writes."""
        return {
            "check": {
                "what": self.what,
                "form": self.form,
                "family": self.family,
                "faults": self.count(Severity.FAULT),
                "losses": self.count(Severity.LOSS),
                "notes": self.count(Severity.NOTE),
                "findings": [one.to_json() for one in self.findings],
                "probe": dict(self.figures),
                "checks": list(self.looked),
            }
        }


def check(
    what: str,
    *,
    target: str | None = None,
    vocab: Path | None = None,
    engines: Sequence[str] = (),
    probe: Sequence[Prompt] = (),
) -> CheckResult:
    """Look for everything that is known to go wrong with a drafter.

    Args:
        what: A directory, a GGUF file, a built-in or hub name, or a list of ids.
        target: The target, named in the same ways: rows are compared with its.
        vocab: A draft vocabulary that it is to hold.
        engines: Names of the engines that count; none means all.
        probe: Prompts to draft a little on, with the target.

    Raises:
        CheckpointError: There is nothing of that name, it is a file of a drafter that is a
            directory, or the target is damaged.
        ArtifactError: The draft vocabulary is damaged.
        DecodeError: A probe was asked for, and it cannot be decoded here.
        PluginError: No engine has such a name.
        MissingExtra: It takes torch to look at, and torch is not installed.
    """
    readers = tuple(engine_named(name).name for name in engines)
    verifier = None if target is None else Verifier.open(target)
    wanted = None if vocab is None else read_vocab(vocab)[0]
    path = Path(what).expanduser()
    _refuse_part(path)
    place = path if path.is_file() else locate(what)
    if not (place / CONFIG_FILE).is_file() and (place / ID_LIST_FILE).is_file():
        place = place / ID_LIST_FILE  # all that an engine is given for layers of its target
    try:
        subject = _opened(place, verifier, wanted)
        findings = _findings(subject, readers)
    except (CheckpointError, ArtifactError) as fault:
        return _unreadable(what, place, fault)
    figures: tuple[tuple[str, float], ...] = ()
    if probe:
        from vocabtrim.pipeline.probe import probe_drafter

        found, figures = probe_drafter(subject, probe)
        judged = (Finding.of(one.name, one.said, readers) for one in found)
        findings += [one for one in judged if one is not None]
    findings.sort(key=lambda one: -one.severity)
    family = " and ".join(subject.families) or None
    looked = tuple(one.name for one in checks(subject.form))
    return CheckResult(what, subject.form.value, family, looked, tuple(findings), figures)


def _opened(path: Path, target: Verifier | None, vocab: DraftVocab | None) -> Subject:
    if path.is_dir():
        drafter = Checkpoint.open(path)
        return Subject(path, Form.CHECKPOINT, drafter, target=target, vocab=vocab)
    if is_gguf(path):
        return Subject(path, Form.GGUF, gguf=open_gguf(path), target=target, vocab=vocab)
    return Subject(path, Form.LIST, listed=read_listed(path), target=target, vocab=vocab)


def _refuse_part(path: Path) -> None:
    """Refuse the weights of a drafter without the rest of it: another thing was meant."""
    named = path.name in (WEIGHTS_FILE, INDEX_FILE, BIN_FILE, BIN_INDEX_FILE, CONFIG_FILE)
    if not (named or _SHARD.fullmatch(path.name)):
        return
    if path.is_file() and (path.parent / CONFIG_FILE).is_file():
        raise CheckpointError("it is part of a drafter: give the directory", path=path)


def _findings(subject: Subject, readers: Sequence[str]) -> list[Finding]:
    found = []
    for one in checks(subject.form):
        for what in one.find(subject):
            found.append(Finding.of(one.name, what, readers))
    found.append(_family(subject))
    found += [_reader(subject, name) for name in readers]
    return [one for one in found if one is not None]


def _family(subject: Subject) -> Finding | None:
    """Say where nobody knows what it is, and only files and maps were looked at."""
    if subject.families or subject.form is Form.LIST:
        return None
    what = said(
        "no family knows it, so its head and config were hardly looked at",
        Effect(ALL, Kind.ODD, "may or may not read it"),
    )
    return Finding.of(UNKNOWN, what)


def _reader(subject: Subject, name: str) -> Finding | None:
    """Say where an engine that was named takes no such drafter at all."""
    containers = {
        # llama.cpp's converter reads directories
        Form.CHECKPOINT: [Container.FLAT, Container.ID_LIST, Container.GGUF],
        Form.GGUF: [Container.GGUF],
        Form.LIST: [Container.ID_LIST],
    }[subject.form]
    if subject.speculators:
        containers = [Container.SPECULATORS, Container.GGUF]
    engine = engine_named(name)
    if subject.form is Form.LIST:
        takes = any(cell.container in containers for cell in engine.cells)
    else:
        takes = any(cell_of(engine, family, containers) for family in subject.families)
    if takes or (not subject.families and subject.form is not Form.LIST):
        return None
    family = " or ".join(subject.families) or "any family"
    what = f"it is {subject.form.value} of {family}"
    if subject.speculators:
        what += " in the layout of speculators"
    effect = lacks(
        name, "takes none of these (`vocabtrim engines`); `export` may write what it takes"
    )
    return Finding.of(NO_READER, said(what, effect), (name,))


def _unreadable(what: str, path: Path, fault: VocabtrimError) -> CheckResult:
    """Return a result that says why it cannot be read: nothing of it was loaded."""
    form = Form.CHECKPOINT if path.is_dir() else Form.GGUF if is_gguf(path) else Form.LIST
    effect = refuses(ALL, "fails on it, or should")
    finding = Finding(UNREADABLE, Severity.FAULT, str(fault), (effect,))
    return CheckResult(what, form.value, None, (UNREADABLE,), (finding,))
