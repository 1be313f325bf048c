"""`vocabtrim export`: what was made here in the form that somebody else reads.

What can be written is one mapping, `forms()`: a name to what it is and to the
function that makes it. Lists of ids are made from a draft vocabulary, what
engines serve from a drafter (`export_engine.py`). Each function opens its own
source, so nothing here asks which it is; engines come from their registry.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from vocabtrim.core.errors import PluginError
from vocabtrim.core.vocab_file import read_vocab
from vocabtrim.engines.base import ENGINES, GAMMA, Engine
from vocabtrim.pipeline.export_engine import export_to_engine
from vocabtrim.pipeline.export_request import ExportResult, Request
from vocabtrim.tensors.id_writer import Form as ListForm
from vocabtrim.tensors.id_writer import write_ids


@dataclass(frozen=True)
class Form:
    """Something that can be exported.

    Args:
        summary: What it is, and who reads it, in one line.
        write: Makes it.
    """

    summary: str
    write: Callable[[Request], ExportResult]


def export(
    source: str | Path,
    form: str,
    output: Path,
    *,
    target: str | None = None,
    unproven: bool = False,
    converter: str | None = None,
    gamma: int = GAMMA,
    family: str | None = None,
    force: bool = False,
) -> ExportResult:
    """Write something of ours in another form.

    Args:
        source: What the form is made from: a draft vocabulary's file for lists
            of ids, a drafter for engines.
        form: Key of `forms()`.
        output: The file or directory to make.
        target: The target, where the drafter cannot be converted without it.
        unproven: Write also what no test has loaded into the engine.
        converter: For llama.cpp, the command that runs its converter.
        gamma: Draft length of the command that serves it.
        family: Which family is meant, where the drafter is of several.
        force: Replace what exists.

    Raises:
        PluginError: There is no such form, or it is unproven; names what there is.
        ArtifactError: `source` is not what a list is made from.
        CheckpointError: `source` is no drafter that the engine takes.
        VocabError: It is a draft vocabulary, and a wrong one.
        MissingExtra: The form needs a package that is not installed.
        OutputExists: A file is there and `force` is not given.
        EnvironmentFailure: The disk is full, or a converter cannot be run.
    """
    known, form = forms(), form.casefold()
    if form not in known:
        raise PluginError(f"nothing is exported to {form!r}; there are {', '.join(known)}")
    return known[form].write(
        Request(str(source), output, target, unproven, converter, force, gamma, family)
    )


def forms() -> Mapping[str, Form]:
    """Return name to what is exported under it: engines, then lists of ids."""
    engines: Mapping[str, Engine] = ENGINES.load_all()
    served = {
        engine.name: Form(engine.summary, partial(export_to_engine, engine))
        for engine in engines.values()
    }
    lists: dict[str, Form] = {
        form: Form(what, partial(_list_of_ids, form)) for form, what in _LISTS.items()
    }
    return {**served, **lists}


def _list_of_ids(form: ListForm, request: Request) -> ExportResult:
    vocab, _ = read_vocab(Path(request.source).expanduser())
    made = write_ids(request.output, vocab, form, force=request.force)
    return ExportResult(form, tuple(map(str, made)), vocab.size, vocab.vocab_size, vocab.tokenizer)


_LISTS: Mapping[ListForm, str] = {
    "ids-json": "ids, V and the tokenizer's fingerprint, as JSON",
    "ids-txt": "one id a line",
    "ids-npy": "a vector of int32, as NumPy writes it",
    "ids-pt": "a list as torch writes it (SGLang, FR-Spec), and a JSON twin; needs torch",
}
