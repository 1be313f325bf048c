"""What `count` and `count --merge` come to: for `--json`, and for a reader.

It says how much was counted, by domain too, what was left out and why, and
whether it is enough (`enough.py` judges that). The counts themselves are in the
file that was written.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vocabtrim.core.counts import TokenCounts
from vocabtrim.pipeline.enough import Enough, enough_for_any

WIDTH = 11
"""Columns of the labels."""


@dataclass(frozen=True)
class CountResult:
    """What counting came to.

    Args:
        output: The file written.
        tokenizer: Its fingerprint.
        V: Ids of the tokenizer.
        files: Files read.
        bytes: Their size, as stored.
        documents: Documents counted.
        empty: Documents without a token that counts; they are in no count.
        tokens: Tokens counted.
        distinct: Ids seen at least once.
        domains: Domain to its `documents`, `tokens` and `distinct`.
        left_out: Reason to the `records` left out for it and the first `places`.
        backend: What encoded.
        backend_reason: Why not a faster one; empty where there is none.
        enough: Whether it is enough.
        seconds: Time that it took.
        warnings: Substitutes and oddities, one sentence each.
    """

    output: str
    tokenizer: str
    V: int
    files: int
    bytes: int
    documents: int
    empty: int
    tokens: int
    distinct: int
    domains: Mapping[str, Mapping[str, int]]
    left_out: Mapping[str, Mapping[str, Any]]
    backend: str | None
    backend_reason: str
    enough: Enough
    seconds: float
    warnings: tuple[str, ...]

    @classmethod
    def of(
        cls,
        counts: TokenCounts,
        *,
        output: Path,
        seconds: float,
        warnings: Sequence[str],
        **rest: Any,
    ) -> CountResult:
        """Return the result for counts; `rest` is what they do not say."""
        return cls(
            output=str(output),
            tokenizer=counts.tokenizer,
            V=counts.vocab_size,
            documents=counts.n_documents,
            tokens=counts.n_tokens,
            distinct=counts.n_distinct,
            domains={
                name: {
                    "documents": part.n_documents,
                    "tokens": part.n_tokens,
                    "distinct": part.n_distinct,
                }
                for name, part in counts.domains.items()
            },
            enough=enough_for_any(counts),
            seconds=seconds,
            warnings=tuple(warnings),
            **rest,
        )

    def to_json(self) -> dict[str, Any]:
        """Return the document that `--json` writes."""
        return {"count": asdict(self)}

    def lines(self) -> list[str]:
        """Return the result as lines for a reader."""
        empty = f"; {self.empty:,} without a token to count" if self.empty else ""
        head = [
            f"counts     {self.tokens:,} tokens  →  {self.output}",
            f"documents  {self.documents:,} in {self.files:,} file{'s' * (self.files != 1)}{empty}",
            f"ids        {self.distinct:,} of {self.V:,} seen ({self.distinct / self.V:.1%})",
        ]
        parts = [
            f"  {name:<16}{part['tokens']:,} tokens, {part['distinct']:,} ids, "
            f"{part['documents']:,} documents"
            for name, part in self.domains.items()
        ]
        reason = f" ({self.backend_reason})" if self.backend_reason else ""
        by = f" with {self.backend}{reason}" if self.backend else ""
        read = f"read       {self.bytes / 1e6:.1f} MB in {self.seconds:.1f} s{by}"
        return [*head, *parts, *self.enough.lines(WIDTH), read]
