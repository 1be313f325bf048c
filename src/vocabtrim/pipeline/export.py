"""`vocabtrim export`: what was made here in the form that somebody else reads.

What can be written is one mapping, `FORMS`: a name to what it is and to the
function that makes it from an artifact. Each function opens its own source, so
that a form of a whole checkpoint is an entry like one of a draft vocabulary, and
nothing here asks which it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

from vocabtrim.core.errors import PluginError
from vocabtrim.core.vocab_file import read_vocab
from vocabtrim.tensors.id_writer import Form as ListForm
from vocabtrim.tensors.id_writer import write_ids


@dataclass(frozen=True)
class ExportResult:
    """What an export came to.

    Args:
        form: Key of `FORMS`.
        outputs: The files written.
        K: Ids that can be drafted.
        V: Ids of the tokenizer.
        tokenizer: Its fingerprint, where known.
    """

    form: str
    outputs: tuple[str, ...]
    K: int
    V: int
    tokenizer: str | None

    def lines(self) -> list[str]:
        """Return the result as lines for a reader."""
        return [
            f"{self.form:<10}{self.K:,} of {self.V:,} ids  →  {output}" for output in self.outputs
        ]

    def to_json(self) -> dict[str, Any]:
        """Return the document that `--json` writes."""
        return {"export": asdict(self) | {"outputs": list(self.outputs)}}


@dataclass(frozen=True)
class Form:
    """Something that can be exported.

    Args:
        summary: What it is, and who reads it, in one line.
        write: Makes it: source, output, and whether to replace what exists.
    """

    summary: str
    write: Callable[[Path, Path, bool], ExportResult]


def export(source: Path, form: str, output: Path, *, force: bool = False) -> ExportResult:
    """Write an artifact in another form.

    Args:
        source: What the form is made from; a draft vocabulary for lists of ids.
        form: Key of `FORMS`.
        output: The file to make.
        force: Replace what exists.

    Raises:
        PluginError: There is no such form; names those there are.
        ArtifactError: `source` is not what the form is made from.
        VocabError: It is a draft vocabulary, and a wrong one.
        MissingExtra: The form needs a package that is not installed.
        OutputExists: A file is there and `force` is not given.
    """
    if form not in FORMS:
        raise PluginError(f"nothing is exported to {form!r}; there are {', '.join(FORMS)}")
    return FORMS[form].write(source, output, force)


def _list_of_ids(form: ListForm, source: Path, output: Path, force: bool) -> ExportResult:  # noqa: FBT001 (the position is that of `Form.write`)
    vocab, _ = read_vocab(source)
    made = write_ids(output, vocab, form, force=force)
    return ExportResult(form, tuple(map(str, made)), vocab.size, vocab.vocab_size, vocab.tokenizer)


_LISTS: Mapping[ListForm, str] = {
    "ids-json": "ids, V and the tokenizer's fingerprint, as JSON",
    "ids-txt": "one id a line",
    "ids-npy": "a vector of int32, as NumPy writes it",
    "ids-pt": "a list as torch writes it (SGLang, FR-Spec), and a JSON twin; needs torch",
}

FORMS: Mapping[str, Form] = MappingProxyType(
    {form: Form(summary, partial(_list_of_ids, form)) for form, summary in _LISTS.items()}
)
"""Name to what is exported under it."""
