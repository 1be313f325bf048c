"""`vocabtrim inspect`: what any drafter, target, or file of ours is.

Says in about a dozen lines what decides the cost of a drafter: rows and bytes of
its head, where the head comes from, and its share of what a draft step reads.
Only headers, configs and maps are read. What only the target could tell is marked
as assumed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from vocabtrim.core.counts_file import KIND as COUNTS_KIND
from vocabtrim.core.counts_file import read_counts
from vocabtrim.core.errors import ArtifactError
from vocabtrim.core.manifest import DIRECTORY_MANIFEST, Manifest, read_manifest
from vocabtrim.core.metrics import StepCost, relative_bytes, relative_cost
from vocabtrim.core.vocab_file import KIND as VOCAB_KIND
from vocabtrim.core.vocab_file import read_vocab
from vocabtrim.families.base import DrafterFamily, family_of, known_families
from vocabtrim.pipeline.enough import enough_for_any
from vocabtrim.tensors.causal import causal_layout, has_causal_layout, target_cost
from vocabtrim.tensors.checkpoint import CONFIG_FILE, Checkpoint
from vocabtrim.tensors.gguf_file import is_gguf
from vocabtrim.tensors.head_source import D2T, T2D, HeadSource
from vocabtrim.tensors.locate import locate
from vocabtrim.tensors.locate_pair import gguf_drafter
from vocabtrim.tokens.tokenizer import fingerprint_of

GAMMA = 4
"""Draft length at which bytes of a step are stated."""

TOP_IDS = 8
BORROWED = "the target (give --target to see its head)"
NO_MAPS = "none, every id can be drafted"


@dataclass(frozen=True)
class InspectResult:
    """What something is.

    Args:
        what: What was asked about.
        kind: "drafter", "causal LM", "target", or the kind of one of our files.
        facts: Name to value, for programs.
        text: Label to value, for readers.
    """

    what: str
    kind: str
    facts: Mapping[str, Any]
    text: Mapping[str, str]

    def lines(self) -> list[str]:
        """Return one `label: value` line for each thing to know."""
        text = {self.kind: self.what, **self.text}
        width = max(map(len, text)) + 1
        return [f"{label + ':':<{width}} {value}" for label, value in text.items()]

    def to_json(self) -> dict[str, Any]:
        """Return the document that `--json` writes."""
        return {"inspect": {"what": self.what, "kind": self.kind, **self.facts}}


def inspect(what: str, *, target: str | None = None, family: str | None = None) -> InspectResult:
    """Say what something is.

    Args:
        what: A directory, a GGUF file, a built-in or hub name, or a file of ours.
        target: The target of a drafter, named in the same ways.
        family: As what to look at it, where it is a drafter of several families.

    Raises:
        CheckpointError: It is a damaged checkpoint, or nothing we know.
        ArtifactError: It is a file, but neither GGUF nor one of ours.
        TokenizerError: The tokenizer that lies beside it is damaged.
    """
    path = Path(what).expanduser()
    if path.is_file() and not is_gguf(path):
        return _artifact(what, path)
    if gguf_drafter(what) is not None:
        from vocabtrim.pipeline.inspect_gguf import inspect_gguf

        return inspect_gguf(what, target)
    checkpoint = Checkpoint.open(locate(what))
    verifier = None if target is None else Checkpoint.open(locate(target))
    found = known_families(checkpoint)
    if not found and has_causal_layout(checkpoint):
        return _target(what, checkpoint)
    several = family is None and len(found) > 1
    looked_at = found[0] if several else family_of(checkpoint, family)
    result = _drafter(what, checkpoint, looked_at, verifier)
    if not several:
        return result
    also = ", ".join(f"{other.name} (--family {other.name})" for other in found[1:])
    return replace(result, text={**result.text, "also a drafter": also})


@dataclass(frozen=True)
class DrafterFacts:
    """What a program may want to know of a drafter; None is not known."""

    path: str
    family: str
    V: int
    K: int
    hidden: int
    dtype: str | None
    head_source: str
    tied: bool
    mapping: str
    head_bytes: int
    head_share: float
    head_params: int
    gamma: int
    step_bytes: float
    params: int
    c: float | None
    c_read: float | None
    tokenizer: str | None
    trimmed: Mapping[str, Any]


def _drafter(
    what: str, drafter: Checkpoint, family: DrafterFamily, target: Checkpoint | None
) -> InspectResult:
    borrowed = target is None and family.needs_target(drafter)
    head = None if borrowed else family.head(drafter, target)
    cost = family.cost(drafter, target)
    verifier = None if target is None else target_cost(target)
    V = family.vocab_size(drafter)
    facts = DrafterFacts(
        path=str(drafter.path),
        family=family.name,
        V=V,
        K=V if head is None else head.held.size,
        hidden=drafter.integer("hidden_size") if head is None else head.weight.shape[1],
        dtype=None if head is None else head.weight.dtype,
        head_source=BORROWED if head is None else head.origin.value,
        tied=head is not None and head.origin.tied,
        mapping=NO_MAPS if head is None else _mapping(drafter, head),
        head_bytes=cost.head_bytes,
        head_share=cost.head_share(GAMMA),
        head_params=cost.head_params,
        gamma=GAMMA,
        step_bytes=cost.bytes_per_draft(GAMMA),
        params=cost.params,
        c=None if verifier is None else relative_cost(cost, verifier),
        c_read=None if verifier is None else relative_bytes(cost, verifier, GAMMA),
        tokenizer=fingerprint_of(drafter.path),
        trimmed=_trimmed_by(drafter.path),
    )
    whole = head is not None and head.held.is_full and has_causal_layout(drafter)
    kind = "causal LM" if whole and not family.sidecar else "drafter"
    return InspectResult(what, kind, asdict(facts), drafter_text(facts, family.summary))


def drafter_text(facts: DrafterFacts, summary: str) -> dict[str, str]:
    """Return label to value of a drafter, for readers."""
    assumed = " (if the target's precision is the drafter's)" if facts.dtype is None else ""
    text = {
        "family": f"{facts.family} ({summary})",
        "V": f"{facts.V:,} ids",
        "K": f"{facts.K:,} ids ({facts.K / facts.V:.1%} of V)",
        "LM head": f"{facts.K:,} × {facts.hidden} {facts.dtype or ''}".rstrip()
        + f", {_mb(facts.head_bytes)}{assumed}",
        "head from": facts.head_source,
        "tied": "yes, head and input embedding are one" if facts.tied else "no",
        "mapping": facts.mapping,
        "draft step": f"{_mb(facts.step_bytes)} read at gamma {facts.gamma}, "
        f"head {facts.head_share:.0%}{assumed}",
        "parameters": f"{_millions(facts.params)}, head {_millions(facts.head_params)}",
        "tokenizer": facts.tokenizer or "none beside it",
        "trimmed by": _trimmed_text(facts.trimmed),
    }
    if facts.c is not None:
        text["against target"] = f"c {facts.c:.4f}, c_read {facts.c_read:.4f}"
    return text


def _target(what: str, target: Checkpoint) -> InspectResult:
    layout, cost = causal_layout(target), target_cost(target)
    facts = {
        "path": str(target.path),
        "V": layout.head.shape[0],
        "hidden": layout.head.shape[1],
        "dtype": layout.head.dtype,
        "tied": layout.tied,
        "tokenizer": fingerprint_of(target.path),
        **_cost_facts(cost),
    }
    text = {
        "V": f"{facts['V']:,} ids",
        "LM head": f"{facts['V']:,} × {facts['hidden']} {facts['dtype']}, {_mb(cost.head_bytes)}",
        "tied": "yes, head and input embedding are one" if layout.tied else "no",
        "decoding step": f"{_mb(cost.step_bytes)} read, head {cost.head_share(0):.0%}",
        "parameters": f"{_millions(cost.params)}, head {_millions(cost.head_params)}",
        "tokenizer": facts["tokenizer"] or "none beside it",
    }
    return InspectResult(what, "target", facts, text)


def _cost_facts(cost: StepCost) -> dict[str, Any]:
    return {
        "head_bytes": cost.head_bytes,
        "step_bytes": cost.step_bytes,
        "head_share": cost.head_share(0),
        "params": cost.params,
        "head_params": cost.head_params,
    }


def _mapping(drafter: Checkpoint, head: HeadSource) -> str:
    """Describe the maps; that they agree was checked when the head was found."""
    if head.held.is_full:
        return NO_MAPS
    maps = f"{D2T} and {T2D} agree" if T2D in drafter.tensors else f"{D2T} alone"
    return f"{maps}: ids {head.held.ids[0]:,} to {head.held.ids[-1]:,}"


def _trimmed_by(directory: Path) -> dict[str, Any]:
    path = directory / DIRECTORY_MANIFEST
    if not path.is_file():
        return {}
    manifest = Manifest.from_json(path.read_text(encoding="utf-8", errors="replace"), path)
    return {"tool": manifest.tool, "options": dict(manifest.options), "facts": dict(manifest.facts)}


def _trimmed_text(trimmed: Mapping[str, Any]) -> str:
    if not trimmed:
        return "nothing of ours"
    facts, said = trimmed["facts"], [str(trimmed["tool"])]
    if isinstance(before := facts.get("K_before"), int):
        said.append(f"from {before:,} rows")
    if isinstance(step := facts.get("step_bytes_before"), float | int):
        said.append(f"draft step {_mb(step)} → {_mb(facts['step_bytes'])}")
    if isinstance(grown := facts.get("memory_delta_bytes"), int):
        said.append(f"memory {_mb(abs(grown))} {'added' if grown > 0 else 'freed'}")
    return ", ".join(said)


def _artifact(what: str, path: Path) -> InspectResult:
    try:
        manifest = read_manifest(path)
    except ArtifactError as fault:
        if not (path.parent / CONFIG_FILE).is_file():
            raise
        raise ArtifactError(f"{fault}; of a drafter or a target, give the directory") from fault
    facts: dict[str, Any] = {
        "V": manifest.vocab_size,
        "tokenizer": manifest.tokenizer,
        "tool": manifest.tool,
        "inputs": dict(manifest.inputs),
        "options": dict(manifest.options),
        "facts": dict(manifest.facts),
    }
    text = {"V": f"{manifest.vocab_size:,} ids"}
    if manifest.kind == COUNTS_KIND:
        more, said = _counts(path)
    elif manifest.kind == VOCAB_KIND:
        more, said = _vocab(path, manifest)
    else:
        more, said = {}, _said({**manifest.options, **manifest.facts})
    text |= said
    text["tokenizer"] = manifest.tokenizer or "not known"
    text["inputs"] = ", ".join(manifest.inputs) or "none named"
    text["made by"] = manifest.tool
    return InspectResult(what, manifest.kind, facts | more, text)


def _counts(path: Path) -> tuple[dict[str, Any], dict[str, str]]:
    counts, _ = read_counts(path)
    enough = enough_for_any(counts)
    top = [(int(i), int(counts.counts[i])) for i in counts.order()[:TOP_IDS] if counts.counts[i]]
    facts: dict[str, Any] = {
        "documents": counts.n_documents,
        "tokens": counts.n_tokens,
        "distinct_ids": counts.n_distinct,
        "domains": {name: part.n_tokens for name, part in counts.domains.items()},
        "top_ids": [{"id": i, "count": n} for i, n in top],
        "enough": asdict(enough),
    }
    share = counts.n_distinct / counts.vocab_size
    text = {
        "documents": f"{counts.n_documents:,}",
        "tokens": f"{counts.n_tokens:,}",
        "distinct ids": f"{counts.n_distinct:,} ({share:.1%} of V)",
        "domains": ", ".join(f"{name} ({n:,} tokens)" for name, n in facts["domains"].items())
        or "none named",
        "top ids": ", ".join(f"{i} ({n:,})" for i, n in top) or "none",
    }
    return facts, text | dict(enough.said())


def _vocab(path: Path, manifest: Manifest) -> tuple[dict[str, Any], dict[str, str]]:
    vocab, _ = read_vocab(path)
    facts = {"K": vocab.size, "lowest_id": int(vocab.ids[0]), "highest_id": int(vocab.ids[-1])}
    text = {
        "K": f"{vocab.size:,} ids ({vocab.size / vocab.vocab_size:.1%} of V)",
        "ids": f"{vocab.ids[0]:,} to {vocab.ids[-1]:,}",
    }
    return facts, text | _said({**manifest.options, **manifest.facts})


def _said(document: Mapping[str, Any]) -> dict[str, str]:
    """Return the plain values of a manifest as text; nested and empty ones are left out."""
    return {
        key.replace("_", " "): f"{value:.4f}" if isinstance(value, float) else f"{value}"
        for key, value in document.items()
        if isinstance(value, str | int | float) and value != ""
    }


def _mb(nbytes: float) -> str:
    return f"{nbytes / 1e6:,.1f} MB"


def _millions(n: int) -> str:
    return f"{n / 1e6:,.1f}M"
