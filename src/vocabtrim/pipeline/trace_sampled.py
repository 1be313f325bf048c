"""`vocabtrim trace --temperature`: sampled texts to the chances of their tokens as drafts.

The target's answers are sampled first (`pipeline/traced_texts.py`), and then the
chances recorded along each (`replay/sampled_trace.py`), for the sizes that are asked
for: unlike a greedy text, a sampled one says nothing of other vocabularies.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vocabtrim.core.counts_file import read_counts
from vocabtrim.core.manifest import file_hash, refuse_existing
from vocabtrim.core.sampled_trace import SampledTrace, joined_sampled
from vocabtrim.core.sampled_trace_file import read_sampled_trace, write_sampled_trace
from vocabtrim.pipeline.pair import open_pair
from vocabtrim.pipeline.sizes import order_of_all, ranked, sizes_to_compare
from vocabtrim.pipeline.traced_texts import (
    Advance,
    Asking,
    Traced,
    UnfinishedTrace,
    digest_of_texts,
)
from vocabtrim.tokens.tokenizer import fingerprint_of


@dataclass(frozen=True)
class SampledTraceResult(Traced):
    """What tracing sampled texts came to.

    Args:
        sizes: K that can be replayed.
        sampling: How the texts were sampled.
        overlap: [sizes] mean Σ min(p, q) at the first draft: what share of first
            drafts is accepted; None where there is no position.
    """

    sizes: tuple[int, ...]
    sampling: dict[str, Any]
    overlap: tuple[float, ...] | None

    def to_json(self) -> dict[str, Any]:
        """Return the document that `--json` writes."""
        return {"sampled_trace": asdict(self)}

    def lines(self) -> list[str]:
        """Return the result as lines for a reader."""
        sizes = ", ".join(f"{size:,}" for size in self.sizes)
        lines = [
            *self.heading("sampled answers"),
            f"answers    K = {sizes}, draft lengths up to {self.max_gamma}",
        ]
        if self.overlap is not None:
            shares = ", ".join(f"{share:.1%}" for share in self.overlap)
            lines.append(f"accepted   {shares} of first drafts")
        return lines


def trace_sampled(
    asking: Asking,
    drafter: Path,
    output: Path,
    *,
    gamma: int,
    counts: Path,
    sizes: Sequence[int] = (),
    exact: bool = False,
    drafter_name: str | None = None,
    force: bool = False,
    progress: Advance | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> SampledTraceResult:
    """Trace sampled answers of the target and write the trace.

    Args:
        asking: What the target is asked, with its `sampling`.
        drafter: Directory of the drafter, over every id that it has rows for.
        output: The trace to make.
        gamma: Longest draft to be replayed, at least 1.
        counts: In which order vocabularies take ids.
        sizes: K, rounded up to a multiple of 64; powers of two by default. All rows
            are always among them.
        exact: Take `sizes` as they are.
        drafter_name: As it is named in the result; its directory's by default.
        force: Replace `output`.
        progress: Called with (texts traced, texts in all).
        clock: Seconds since whenever.

    Raises:
        ArtifactError: The counts are not what they should be.
        OutputExists: `output` is there, or another command began `OUT.part`.
        CalibrationError: A prompt cannot be used.
        DecodeError: A model cannot be used, or an option is out of range.
        TokenizerMismatch: Drafter, target and counts have different tokenizers.
        TraceError: The temperature is 0, or the draft length out of range.
        VocabError: A K is smaller than what must be kept.
    """
    from vocabtrim.decode.sampling import Sampling
    from vocabtrim.replay.sampled_trace import SampledTracer

    refuse_existing(output, force=force)
    sampling = Sampling(**(asking.sampling or {}))
    read, _ = read_counts(counts, tokenizer=fingerprint_of(asking.target))
    answers = asking.answers(output)
    pair = open_pair(asking.target, drafter, asking.dtype)
    texts = asking.texts(answers, pair.target)
    ranking, kept = ranked(read)
    vocab, name = pair.drafter.head.vocab, drafter_name or drafter.name
    tracer = SampledTracer(
        pair.target,
        pair.drafter,
        sampling=sampling,
        order=order_of_all(ranking, vocab.vocab_size),
        sizes=sizes_to_compare(sizes, kept, vocab.size, exact=exact),
        max_gamma=gamma,
        tokenizer=pair.tokenizer,
    )
    options: dict[str, Any] = {
        "gamma": gamma,
        "max_new_tokens": asking.max_new_tokens,
        "raw": asking.raw,
    }
    options["sampling"] = asdict(sampling)
    facts = {**asking.facts(name, pair.cost), "counts": counts.name}
    inputs = {str(counts): file_hash(counts)}
    request = {"texts": digest_of_texts(texts), "sizes": list(tracer.sizes), "inputs": inputs}
    part = UnfinishedTrace(
        output,
        {**request, **options, **facts},
        write=lambda path, one: write_sampled_trace(path, one, inputs={}, options={}, facts={}),
        read=lambda path: read_sampled_trace(path)[0],
    )
    told = part.go_on(texts, tracer.trace, progress, clock)
    whole = joined_sampled(list(part.pieces()))
    write_sampled_trace(output, whole, inputs=inputs, options=options, facts=facts, force=force)
    part.remove()
    answers.unlink()
    return SampledTraceResult(
        output=str(output),
        target=asking.name,
        drafter=name,
        max_gamma=gamma,
        sizes=whole.sizes,
        sampling=asdict(sampling),
        overlap=_first_drafts(whole),
        **told,
    )


def _first_drafts(trace: SampledTrace) -> tuple[float, ...] | None:
    if not len(trace.accepted):
        return None
    return tuple(trace.acceptance_by_depth()[0].tolist())
