"""Which ids are kept, whatever holds them: the number, the order, the ends.

None of this makes a drafter wrong. A drafter that cannot propose the end of an
answer loses the last cycle of each; one whose rows do not fill blocks of 64 is
padded or runs slower kernels; rows of ids that no tokenizer writes are read for
nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from vocabtrim.core.vocab import ROW_MULTIPLE
from vocabtrim.pipeline.checks.base import (
    ALL,
    LLAMA_CPP,
    SGLANG,
    VLLM,
    Check,
    Said,
    Severity,
    odd,
    said,
    slower,
    wrong,
)
from vocabtrim.pipeline.checks.spelling import (
    DRAFTER,
    TARGET,
    Differing,
    Tokens,
    compare_tokens,
)
from vocabtrim.pipeline.checks.subject import Form, Subject

SHOWN = 8


def multiple(subject: Subject) -> Iterator[Said]:
    """K in blocks of 64."""
    K = subject.draft_size
    if K is None or not subject.reduced or not K % ROW_MULTIPLE:
        return
    readers = [slower(SGLANG, "pads the head to the next one, in memory and in time")]
    if subject.form is not Form.LIST:
        readers += [
            slower(VLLM, "pads the head to the next one, in memory and in time"),
            slower(LLAMA_CPP, "falls back to slower kernels where rows do not fill a tile"),
        ]
    yield said(f"K is {K:,}, no multiple of {ROW_MULTIPLE}", *readers)


def ends(subject: Subject) -> Iterator[Said]:
    """Ids that end a generation."""
    ids = subject.ids
    if ids is None or not subject.reduced or subject.holds_ids:
        return
    # a tokenizer may have ids that the head has no row for
    there_are = {one for one in subject.ends if one < (subject.vocab_size or one + 1)}
    lacking = sorted(there_are - set(ids.tolist()))
    if not lacking:
        return
    all_of_them = set(lacking) == there_are
    which = "no id that ends a generation" if all_of_them else "not every id that ends a generation"
    yield said(
        f"it has {which} (it lacks {_shown(lacking)})",
        slower(ALL, "cannot draft the end, and loses a cycle for each answer"),
    )


def template(subject: Subject) -> Iterator[Said]:
    """Added tokens that the chat template writes in an assistant's turn."""
    ids, written = subject.ids, subject.spelling.written
    if ids is None or written is None or not subject.reduced or subject.holds_ids:
        return
    lacking = sorted(written.template - subject.ends - set(ids.tolist()))
    if lacking:
        yield said(
            f"it lacks added tokens that the chat template writes ({_shown(lacking)})",
            odd(ALL, "cannot draft them"),
        )


def beyond_tokenizer(subject: Subject) -> Iterator[Said]:
    """Ids in the padding of V."""
    ids, size = subject.ids, subject.spelling.size
    if ids is None or size is None or subject.holds_ids:
        return
    beyond = ids[(ids >= size) & (ids < (subject.vocab_size or 0))]
    if beyond.size:
        yield said(
            f"{beyond.size:,} ids lie beyond the {size:,} of the tokenizer "
            f"({_shown(sorted(beyond.tolist()))})",
            slower(ALL, "reads rows that no text ever asks for"),
        )


def asked_for(subject: Subject) -> Iterator[Said]:
    """The ids of a draft vocabulary that was given."""
    ids, vocab = subject.ids, subject.vocab
    if vocab is None:
        return
    if ids is None:
        if not vocab.is_full:
            yield said(
                f"it drafts over all ids, and {vocab.size:,} were asked for",
                wrong(ALL, "drafts over others than were asked for"),
            )
        return
    found = np.unique(ids)
    if not np.array_equal(found, vocab.ids):
        more, fewer = np.setdiff1d(found, vocab.ids), np.setdiff1d(vocab.ids, found)
        yield said(
            f"it has {more.size:,} ids that were not asked for and lacks {fewer.size:,} that were",
            wrong(ALL, "drafts over others than were asked for"),
        )


def tokenizers(subject: Subject) -> Iterator[Said]:
    """The tokenizers of drafter, target, list and draft vocabulary."""
    known = dict(subject.spelling.fingerprints)
    if subject.listed is not None and subject.listed.tokenizer is not None:
        known["the list"] = subject.listed.tokenizer
    if subject.vocab is not None and subject.vocab.tokenizer is not None:
        known["the draft vocabulary"] = subject.vocab.tokenizer
    spelled = subject.spelling.tokens
    if len(spelled) == 2:
        yield from _respelled(compare_tokens(spelled[DRAFTER], spelled[TARGET]), spelled)
        # what is alike but for its length is not to be told apart by its fingerprint
        known.pop(DRAFTER)
    if len(set(known.values())) > 1:
        roles = ", ".join(f"{role} {one[:19]}…" for role, one in known.items())
        yield said(
            f"tokenizers differ: {roles}",
            wrong(ALL, "takes ids of the one for ids of the other"),
        )


def _respelled(found: Differing, spelled: Mapping[str, Tokens]) -> Iterator[Said]:
    """Say which ids are other tokens in the target than in the drafter."""
    if not found.ids:
        return
    first = found.ids[0]
    what = (
        f"{len(found.ids):,} of {found.compared:,} ids are other tokens in the target: "
        f"{first:,} is {spelled[DRAFTER][first]!r} to the drafter and "
        f"{spelled[TARGET][first]!r} to the target"
    )
    if found.renamed:
        yield said(what, slower(ALL, "drafts those ids for other tokens than it was trained on"))
    else:
        yield said(what, wrong(ALL, "takes ids of the one for ids of the other"))


def damaged_tokenizer(subject: Subject) -> Iterator[Said]:
    """A tokenizer that is there and cannot be read."""
    for role, why in subject.spelling.damaged.items():
        yield said(
            f"the tokenizer of {role.removeprefix('the ')} cannot be read ({why})",
            slower(ALL, "may refuse it, and nothing of it was compared here"),
        )


def _shown(ids: list[int]) -> str:
    return ", ".join(map(str, ids[:SHOWN])) + (", …" if len(ids) > SHOWN else "")


_ALL = frozenset(Form)
_LOSS, _FAULT = Severity.LOSS, Severity.FAULT

PLUGIN = (
    Check("ids-multiple", _LOSS, "K in blocks of 64", _ALL, multiple),
    Check("ids-ends", _LOSS, "ids that end a generation", _ALL, ends),
    Check("ids-template", Severity.NOTE, "ids that a chat template writes", _ALL, template),
    Check("ids-padding", _LOSS, "ids beyond the tokenizer", _ALL, beyond_tokenizer),
    Check("ids-asked-for", _FAULT, "the ids of --vocab", _ALL, asked_for),
    Check("tokenizers", _FAULT, "tokens of drafter and target, id by id", _ALL, tokenizers),
    Check("tokenizer-damaged", _LOSS, "whether tokenizers can be read", _ALL, damaged_tokenizer),
)
