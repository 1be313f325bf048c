"""Text that was held out: what a draft vocabulary covers of it, and its ceiling.

Held-out text is read by the same sources and encoded in the same way as what was
counted, and must not be among it: a file of which the counts' manifest holds the
hash is refused. Its domains are those that records name; where they name none,
each of several files is one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vocabtrim.core.ceiling import GAMMAS, Generations, ceiling
from vocabtrim.core.errors import CalibrationError
from vocabtrim.core.held_out import HeldOutCoverage, covered_tokens, held_out_coverage
from vocabtrim.core.manifest import Manifest, file_hash
from vocabtrim.core.vocab import DraftVocab
from vocabtrim.sources.base import Document, Reading, Skipped, source_of
from vocabtrim.sources.files import find_files
from vocabtrim.tokens.chat import ChatEncoder
from vocabtrim.tokens.messages import Conversation
from vocabtrim.tokens.tokenizer import Tokenizer

SEED = 0
SKIPPED_SHOWN = 3


@dataclass(frozen=True, eq=False)
class HeldOutText:
    """Held-out documents as ids.

    Args:
        documents: [T] int64 ids of each that has any.
        domains: The domain of each, None for none.
        warnings: What was left out or read in another way, one sentence each.
    """

    documents: tuple[NDArray[np.int64], ...]
    domains: tuple[str | None, ...]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class HeldOutResult:
    """What held-out text says of a draft vocabulary.

    Args:
        coverage: Share of its tokens, with intervals, worst domain first.
        ceiling: Draft length to the block efficiency of a drafter that is always
            right inside the vocabulary; None where there was no cycle.
        warnings: As of the text.
    """

    coverage: HeldOutCoverage
    ceiling: Mapping[int, float | None]
    warnings: tuple[str, ...] = ()

    def lines(self, width: int) -> list[str]:
        """Return what there is to say.

        Args:
            width: Columns of the labels.
        """
        lines = [f"{'held out':<{width}}{_covered(self.coverage)}"]
        lines += [
            f"  {name:<{width - 2}}{_covered(part)}" for name, part in self.coverage.domains.items()
        ]
        cells = "  ".join(
            f"γ {gamma}: {tau:.2f}" for gamma, tau in self.ceiling.items() if tau is not None
        )
        return [*lines, f"{'ceiling of τ':<{width}}{cells or 'no cycle to count'}"]


def read_held_out(
    data: Sequence[str | Path],
    tokenizer: Tokenizer,
    *,
    role: str = "assistant",
    counted: Sequence[Manifest] = (),
) -> HeldOutText:
    """Read held-out text as `count` reads what it counts.

    Args:
        data: Files, directories, patterns, URLs.
        tokenizer: That of the vocabulary.
        role: Whose turns of a conversation are looked at.
        counted: Manifests of the counts that the vocabulary was chosen from.

    Raises:
        CalibrationError: A file was counted, cannot be read, or there is no
            token in any.
    """
    files = find_files(data)
    hashes = {digest: name for manifest in counted for name, digest in _counted_files(manifest)}
    for file in files:
        path = Path(file.name)
        if hashes and path.is_file() and (name := hashes.get(file_hash(path))) is not None:
            raise CalibrationError(
                f"this was counted (as {name}), so it says nothing of new text; "
                "hold out what was not counted",
                path=path,
            )
    reading = Reading(tokenizer.fingerprint, tokenizer.vocab_size, role)
    found: list[Document] = []
    skipped: list[Skipped] = []
    for file in files:
        source = source_of(file)
        for block in source.blocks(file):
            for one in source.read(block, reading):
                if isinstance(one, Document):
                    found.append(one)
                else:
                    skipped.append(one)
    encoded, warnings = encoded_documents(found, tokenizer, role)
    if not any(ids.size for ids in encoded):
        names = ", ".join(file.name for file in files)
        raise CalibrationError(f"there is no held-out token in {names}{_because(skipped)}")
    named = any(document.domain is not None for document in found)
    by_file = not named and len(files) > 1
    domains = (Path(one.file).stem if by_file else one.domain for one in found)
    filled = [(ids, domain) for ids, domain in zip(encoded, domains, strict=True) if ids.size]
    if skipped:
        warnings = (*warnings, f"{len(skipped):,} held-out records left out{_because(skipped)}")
    return HeldOutText(
        tuple(ids for ids, _ in filled), tuple(domain for _, domain in filled), warnings
    )


def judge_held_out(text: HeldOutText, vocab: DraftVocab, ends: Sequence[int]) -> HeldOutResult:
    """Measure a draft vocabulary on held-out text.

    Args:
        text: What was held out.
        vocab: The draft vocabulary.
        ends: Ids that end a generation.
    """
    pairs = covered_tokens(text.documents, vocab)
    generator = np.random.default_rng(SEED)
    coverage = held_out_coverage(pairs, generator, domains=text.domains)
    cycles = ceiling(Generations.of(text.documents, ends), vocab)
    taus = {gamma: one.block_efficiency for gamma, one in zip(GAMMAS, cycles, strict=True)}
    return HeldOutResult(coverage, taus, text.warnings)


def _counted_files(manifest: Manifest) -> Iterator[tuple[str, str]]:
    """Yield name and hash of the files that were counted, also behind merged counts."""
    for name, digest in manifest.facts.get("data", manifest.inputs.items()):
        yield str(name), str(digest)


def encoded_documents(
    found: Sequence[Document], tokenizer: Tokenizer, role: str
) -> tuple[list[NDArray[np.int64]], tuple[str, ...]]:
    """Return the ids of each document that count, as `count` has them, and warnings.

    Args:
        found: Documents of a source.
        tokenizer: Encodes text and conversations; ids are taken as they are.
        role: Whose turns of a conversation count.
    """
    warnings = Counter(one.warning for one in found if one.warning)
    chats = [one.content for one in found if isinstance(one.content, Conversation)]
    of_chats = iter(ChatEncoder(tokenizer, role).encode_batch(chats) if chats else ())
    of_texts = iter(
        tokenizer.encode_batch([one.content for one in found if isinstance(one.content, str)])
    )
    encoded = []
    for one in found:
        if isinstance(one.content, str):
            encoded.append(next(of_texts))
        elif isinstance(one.content, Conversation):
            tokens = next(of_chats)
            warnings.update(set(tokens.warnings))
            encoded.append(tokens.counted_ids)
        else:
            encoded.append(one.content)
    return encoded, tuple(
        f"held out: {sentence} ({number:,} document{'s' * (number != 1)})"
        for sentence, number in sorted(warnings.items())
    )


def _because(skipped: Sequence[Skipped]) -> str:
    shown = [f"{one.file}, line {one.line}: {one.reason}" for one in skipped[:SKIPPED_SHOWN]]
    return "".join(f"; {one}" for one in shown) + ("; …" if len(skipped) > SKIPPED_SHOWN else "")


def _covered(found: HeldOutCoverage) -> str:
    interval = "" if found.low is None else f" ({100 * found.low:.1f} to {found.high:.1%})"
    return (
        f"{found.share:.1%}{interval} of {found.n_tokens:,} tokens in "
        f"{found.n_documents:,} document{'s' * (found.n_documents != 1)}"
    )
