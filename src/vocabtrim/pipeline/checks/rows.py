"""Rows of the head against rows of the target's: is the map the right one?

What `compared.py` measured, said: where rows clearly belong to other ids than the
map names, and how that may have come about.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from vocabtrim.pipeline.checks.base import ALL, Check, Said, Severity, odd, said, slower, wrong
from vocabtrim.pipeline.checks.compared import RIGHT, WRONG, Compared, compare
from vocabtrim.pipeline.checks.subject import Form, Subject


def against_target(subject: Subject) -> Iterator[Said]:
    """The rows of a head against the target's."""
    compared = compare(subject)
    if compared is None or not compared.related:
        return
    share = float(compared.at_place.mean())
    if share >= RIGHT:
        yield said(
            f"of {compared.rows.size} rows looked at, {share:.0%} are nearest (cosine "
            f"{float(np.median(compared.cosine)):.3f}) to the target's rows of the ids that they "
            "stand for",
            odd(ALL, "can rely on the map"),
        )
        return
    off = int(np.argmin(compared.at_place))
    away = int((~compared.at_place).sum())
    what = (
        f"of {compared.rows.size} rows looked at, {away} are not nearest "
        f"to the target's row of the id that they stand for: row {compared.rows[off]:,} stands for "
        f"id {compared.stated[off]:,} and is nearest to that of {compared.nearest[off]:,}"
    )
    if share < WRONG:
        yield said(
            what + _explained(subject, compared), wrong(ALL, "drafts other ids than it means")
        )
    else:
        yield said(what, slower(ALL, "drafts those ids for others, if they were not trained so"))


def _explained(subject: Subject, compared: Compared) -> str:
    """Return how the map came to be wrong, where the rows tell."""
    stored, K = subject.map, subject.rows or 0
    guesses: dict[str, NDArray[np.int64]] = {
        "its rows are those of the first ids, so the head was cut and not selected": np.arange(K)
    }
    if stored is not None and stored.numbers is not None and subject.ids is not None:
        if not stored.absolute:
            guesses["its map holds ids in place of offsets"] = stored.numbers
        else:
            guesses["its map holds offsets in place of ids"] = stored.numbers + np.arange(
                stored.numbers.size
            )
        guesses["its rows are in ascending order of ids and its map is not"] = np.sort(subject.ids)
    for what, ids in guesses.items():
        if (
            ids.size > compared.rows.max()
            and (ids[compared.rows] == compared.nearest).mean() > WRONG
        ):
            return f"; {what}"
    if np.isin(compared.nearest, compared.stated).mean() > WRONG or _permuted(subject, compared):
        return "; its rows and its ids are in different orders"
    return ""


def _permuted(subject: Subject, compared: Compared) -> bool:
    return subject.ids is not None and bool(np.isin(compared.nearest, subject.ids).mean() > RIGHT)


_BOTH = frozenset({Form.CHECKPOINT, Form.GGUF})

PLUGIN = (Check("rows", Severity.FAULT, "rows against the target's", _BOTH, against_target),)
