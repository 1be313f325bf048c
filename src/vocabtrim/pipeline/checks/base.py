"""What a check is, and what it says.

A check looks at one thing of a drafter and says what is wrong and what each
reader makes of it. How bad that is follows from what would happen: a reader that
refuses the file, or drafts with the wrong rows, makes it a *fault*; speed that is
lost, a *loss*; what is odd and harmless, a *note*. A form that a reader does not
take at all is a note, until somebody says that this is the reader.

A file of checks is a plug-in: its `PLUGIN` is a tuple of them, and there is no
other list. Checks report and never raise; they look at what is stored, not at
what our own reader would make of it, because our reader refuses most of this.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import TYPE_CHECKING, Any

from vocabtrim.core.registry import Registry

if TYPE_CHECKING:
    from vocabtrim.pipeline.checks.subject import Form, Subject

CHECKS = Registry(
    "vocabtrim.pipeline.checks",
    "group of checks",
    frozenset(
        {"base", "subject", "verifier", "spelling", "compared", "listed", "values", "stored_map"}
    ),
)

VLLM, SGLANG, LLAMA_CPP, TRANSFORMERS = "vllm", "sglang", "llama.cpp", "transformers"
SPECULATORS, SPECFORGE, EAGLE = "speculators", "SpecForge", "EAGLE"
ALL = "every engine"


class Severity(IntEnum):
    """How bad something is."""

    NOTE = 0
    LOSS = 1
    FAULT = 2

    def __str__(self) -> str:
        """As it is printed."""
        return self.name.lower()


class Kind(Enum):
    """What a reader does with what is wrong."""

    REFUSES = "does not load it"
    WRONG = "drafts with wrong rows, ids or features, and says nothing"
    SLOWER = "drafts rightly, with something lost"
    ODD = "does not mind"
    LACKS = "has no reader for this form"

    def severity(self, *, asked: bool) -> Severity:
        """Return how bad it is, where the reader was named or was not."""
        if self in (Kind.REFUSES, Kind.WRONG) or (self is Kind.LACKS and asked):
            return Severity.FAULT
        return Severity.LOSS if self is Kind.SLOWER else Severity.NOTE


@dataclass(frozen=True)
class Effect:
    """What one reader makes of something.

    Args:
        reader: An engine, or another program that reads drafters; `ALL`.
        kind: What it does.
        what: The same in words.
    """

    reader: str
    kind: Kind
    what: str


@dataclass(frozen=True)
class Said:
    """What a check found.

    Args:
        what: What is stored, with figures.
        effects: What readers make of it, at least one.
    """

    what: str
    effects: tuple[Effect, ...]


@dataclass(frozen=True)
class Check:
    """One thing that is looked at.

    Args:
        name: Under which it is reported.
        severity: The worst that it can report, no engine named.
        looks_at: What it looks at, for a list of all checks.
        forms: Where it applies.
        find: Looks.
    """

    name: str
    severity: Severity
    looks_at: str
    forms: frozenset[Form]
    find: Callable[[Subject], Iterator[Said]]


@dataclass(frozen=True)
class Finding:
    """What is wrong with a drafter.

    Args:
        name: Of the check.
        severity: How bad, for the readers that count.
        what: What is stored.
        effects: What those readers make of it.
    """

    name: str
    severity: Severity
    what: str
    effects: tuple[Effect, ...]

    @classmethod
    def of(cls, name: str, said: Said, readers: Collection[str] = ()) -> Finding | None:
        """Judge what a check said, for some readers or for all.

        Args:
            name: Of the check.
            said: What it said.
            readers: The engines that count; none means all.

        Returns:
            None where none of them minds.
        """
        effects = tuple(one for one in said.effects if not readers or one.reader in (*readers, ALL))
        if not effects:
            return None
        worst = max(one.kind.severity(asked=bool(readers)) for one in effects)
        if worst > Severity.NOTE and not readers:
            # those who do not mind are no news beside those who do
            effects = tuple(one for one in effects if one.kind is not Kind.ODD)
        return cls(name, worst, said.what, effects)

    def line(self) -> str:
        """Return it as one line: what is stored, then what each reader does."""
        readers = "; ".join(f"{one.reader} {one.what}" for one in self.effects)
        return f"{self.severity!s:<6} {self.name}: {self.what} → {readers}"

    def to_json(self) -> dict[str, Any]:
        """Return it as a document."""
        return {
            "name": self.name,
            "severity": str(self.severity),
            "what": self.what,
            "effects": [
                {"reader": one.reader, "kind": one.kind.name.lower(), "what": one.what}
                for one in self.effects
            ],
        }


def refuses(reader: str, what: str) -> Effect:
    """Return that `reader` does not load it: `what` completes "READER …"."""
    return Effect(reader, Kind.REFUSES, what)


def wrong(reader: str, what: str) -> Effect:
    """Return that `reader` loads it and drafts with the wrong rows, ids or features."""
    return Effect(reader, Kind.WRONG, what)


def slower(reader: str, what: str) -> Effect:
    """Return that `reader` drafts rightly, and something is lost."""
    return Effect(reader, Kind.SLOWER, what)


def odd(reader: str, what: str) -> Effect:
    """Return that nothing happens in `reader`, and a human may want to know."""
    return Effect(reader, Kind.ODD, what)


def lacks(reader: str, what: str) -> Effect:
    """Return that `reader` has no code for this form of a drafter."""
    return Effect(reader, Kind.LACKS, what)


def said(what: str, *effects: Effect) -> Said:
    """Return what a check found."""
    return Said(what, effects)


def checks(form: Form) -> Iterator[Check]:
    """Yield every check that applies to a form, in a fixed order."""
    for group in CHECKS.load_all().values():
        yield from (check for check in group if form in check.forms)
