"""Faults to be found: each a clean drafter with one thing wrong in it.

`PLANTED` is what every check is held against: the name and severity under which a
fault must be reported, who must be said to mind it, and how it is planted. Rows
that are compared with a target's are planted on a drafter that was sliced from it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tests import clean_drafters as clean
from tests.clean_drafters import IDS, LAYERS, K, V
from tests.tiny import as_bin, edit, numbers, raw_tensors, tiny_lm, tiny_target, write_raw
from tests.tiny_tokenizer import CHATML, write_tokenizer
from vocabtrim.core.vocab import DraftVocab
from vocabtrim.core.vocab_file import write_vocab
from vocabtrim.families import eagle
from vocabtrim.tensors.id_writer import write_ids

Plant = Callable[[Path], Path]

WIDE = 320
"""V of a target with padding: the tokenizer of the tests has some 270 ids."""


@dataclass(frozen=True)
class Planted:
    """One fault.

    Args:
        check: Under which it is to be found.
        severity: How bad it is, no engine named.
        minds: A reader that must be named.
        plant: Writes it into an empty directory; returns what to look at.
        target: Whether it shows beside a target only, or what builds another than
            that of the clean drafters.
        vocab: Whether it shows beside a draft vocabulary only.
        what: Which of several faults of one name.
    """

    check: str
    severity: str
    minds: str
    plant: Plant
    target: bool | Plant = False
    vocab: bool = False
    what: str = ""

    def __str__(self) -> str:
        return f"{self.check} {self.what}".strip().replace(" ", "-")


def changed(build: Plant = clean.specforge, **changes: Any) -> Plant:
    """Return a builder that edits what another built."""
    return lambda directory: edit(build(directory), **changes)


def ids_of(ids: np.ndarray) -> np.ndarray:
    """Return the offsets of ids: what a `d2t` holds."""
    return ids - np.arange(ids.size)


def without_mask(d2t: np.ndarray) -> Plant:
    """Return a builder of a drafter with this `d2t` and no `t2d`."""
    return changed(add={"d2t": d2t}, drop=["t2d"])


def config(build: Plant = clean.specforge, **keys: Any) -> Plant:
    """Return a builder that changes config keys."""
    return changed(build, config=keys)


def inner(layers: list[int], **more: Any) -> Plant:
    """Return a builder whose feature layers stand in `eagle_config`."""
    return config(eagle_config={"use_aux_hidden_state": True, LAYERS: layers}, **more)


def swapped(ids: np.ndarray) -> np.ndarray:
    """Return ids with the first and the last changed over."""
    other = ids.copy()
    other[[0, -1]] = ids[[-1, 0]]
    return other


def replaced(ids: np.ndarray, place: int, by: int) -> np.ndarray:
    """Return ids with one replaced."""
    other = ids.copy()
    other[place] = by
    return other


def renamed(old: str, new: str, build: Plant = clean.specforge) -> Plant:
    """Return a builder that renames a tensor."""

    def plant(directory: Path) -> Path:
        tensors = raw_tensors(build(directory))
        tensors[new] = tensors.pop(old)
        write_raw(directory, tensors)
        return directory

    return plant


def layer_config(directory: Path, **keys: Any) -> Path:
    """Write speculators' layout with keys of its inner config changed; None forgets one."""
    path = clean.speculators(directory) / "config.json"
    document = json.loads(path.read_text())
    document["transformer_layer_config"] |= keys
    path.write_text(json.dumps(document))
    return directory


def unnamed_target(directory: Path) -> Path:
    """Write speculators' layout without the target's name."""
    path = clean.speculators(directory) / "config.json"
    document = json.loads(path.read_text())
    document["speculators_config"]["verifier"]["name_or_path"] = None
    path.write_text(json.dumps(document))
    return directory


def left_over(*, index: bool, removed: bool = False) -> Plant:
    """Return a builder of one file beside the parts that it replaced."""

    def plant(directory: Path) -> Path:
        whole = raw_tensors(clean.sharded(directory))
        parts = {file.name: file.read_bytes() for file in directory.glob("model*")}
        write_raw(directory, whole)
        for name, data in parts.items():
            is_index = name.endswith(".json")
            if (index and is_index) or (not is_index and not removed):
                (directory / name).write_bytes(data)
        return directory

    return plant


def bin_beside(directory: Path) -> Path:
    """Write a `.bin` beside safetensors."""
    clean.specforge(directory)
    held = (directory / "model.safetensors").read_bytes()
    as_bin(directory)
    (directory / "model.safetensors").write_bytes(held)
    return directory


def foreign_rows(ids_of_rows: Callable[[np.ndarray], np.ndarray]) -> Plant:
    """Return a builder whose rows are the target's of other ids than its map says."""

    def plant(directory: Path) -> Path:
        drafter = clean.trimmed(directory)
        head = numbers(raw_tensors(directory.parent / "its target")["lm_head.weight"])
        rows = head[ids_of_rows(IDS)].copy()
        return edit(drafter, add={"lm_head.weight": rows})

    return plant


def shuffled(ids: np.ndarray) -> np.ndarray:
    """Return ids in an order that follows from nothing."""
    return np.random.default_rng(5).permutation(ids)


def absolute_map(directory: Path) -> Path:
    """Write ids where offsets belong, in range either way, with nothing that tells."""
    spread = np.arange(0, 2 * K, 2)
    return edit(
        foreign_rows(lambda _: spread)(directory),
        add={"d2t": spread, "t2d": np.isin(np.arange(V), spread + np.arange(K))},
    )


def gguf(**changes: Any) -> Plant:
    """Return a builder of a GGUF drafter."""
    return lambda directory: clean.gguf_drafter(directory, **changes)


def gguf_layers(layers: list[int]) -> Plant:
    """Return a builder of a GGUF drafter that is fed some layers."""
    return gguf(more=lambda writer: writer.add_array("eagle3.target_layers", layers))


def listed(value: Any) -> Plant:
    """Return a builder of a `.pt` file."""

    def plant(directory: Path) -> Path:
        import torch

        directory.mkdir(exist_ok=True)
        torch.save(value, directory / "ids.pt")
        return directory / "ids.pt"

    return plant


def written(text: str) -> Plant:
    """Return a builder of a text file."""

    def plant(directory: Path) -> Path:
        directory.mkdir(exist_ok=True)
        (directory / "ids").write_text(text)
        return directory / "ids"

    return plant


def block(kind: str = "DFlash", **changes: Any) -> Plant:
    """Return a builder of a block drafter with a reduced head."""

    def plant(directory: Path) -> Path:
        clean.specforge(directory)
        hidden = "midlayer.hidden_norm.weight"
        edit(directory, drop=[hidden], config={"architectures": [f"{kind}DraftModel"]})
        return edit(directory, **changes)

    return plant


def markov(rows: int) -> dict[str, np.ndarray]:
    """Return the table behind the head of DSpark."""
    return {"markov_head.markov_w2.weight": np.ones((rows, 8), np.float32)}


def medusa(ids: np.ndarray | None = IDS, *, original_lm_head: bool = True) -> Plant:
    """Return a builder of Medusa's heads over a reduced vocabulary."""

    def plant(directory: Path) -> Path:
        clean.specforge(directory)
        config = {
            "architectures": ["MedusaModel"],
            "model_type": "medusa",
            "original_lm_head": original_lm_head,
            "truncated_vocab_size": K,
            "vocab_size": V,
        }
        (directory / "config.json").write_text(json.dumps(config))
        added = {"blocks.0.layers.0.weight": np.ones((32, 32), np.float32)}
        if ids is not None:
            added["token_map"] = ids
        write_raw(directory, {})
        return edit(directory, add=added)

    return plant


def beside(directory: Path) -> Path:
    """Write a map beside a drafter's weights, as some training tools leave it."""
    drafter = changed(drop=["d2t", "t2d"])(directory)
    write_ids(drafter / "d2t.pt", clean.KEPT, "ids-pt")
    return drafter


def with_tokenizer(directory: Path, change: Callable[[Any], None] = lambda _: None) -> Path:
    """Write the target with a tokenizer, and change the document that it is."""
    write_tokenizer(clean.target(directory))
    path = directory / "tokenizer.json"
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))
    return directory


def wide_target(directory: Path) -> Path:
    """Write a target of more ids than its tokenizer has, which thinks before it answers."""
    thinking = CHATML.replace("'\n' + message", "'\n<think>' + message")
    return write_tokenizer(
        tiny_target(directory, tied=False, vocab_size=WIDE, layers=8), template=thinking
    )


def wide(ids: np.ndarray) -> Plant:
    """Return a builder of a drafter for that target."""
    maps = {"d2t": ids_of(ids), "t2d": np.isin(np.arange(WIDE), ids)}
    return changed(add=maps, config={"vocab_size": WIDE})


def tokenizer_of(change: Callable[[Any], None]) -> Plant:
    """Return a builder of a drafter with a tokenizer that was changed."""

    def plant(directory: Path) -> Path:
        clean.specforge(directory)
        with_tokenizer(directory.parent / "donor", change)
        for name in ("tokenizer.json", "tokenizer_config.json"):
            (directory / name).write_bytes((directory.parent / "donor" / name).read_bytes())
        return directory

    return plant


def swap_two(document: Any) -> None:
    """Give two tokens each other's ids."""
    vocabulary = document["model"]["vocab"]
    one, other = list(vocabulary)[:2]
    vocabulary[one], vocabulary[other] = vocabulary[other], vocabulary[one]


def emptied(name: str) -> Plant:
    """Return a builder of a drafter with a file that holds nothing."""

    def plant(directory: Path) -> Path:
        (clean.specforge(directory) / name).write_text("")
        return directory

    return plant


def of_class(name: str) -> Plant:
    """Return a builder of the target under another class."""
    return lambda directory: edit(clean.target(directory), config={"architectures": [name]})


def quantised_target(directory: Path) -> Path:
    """Write the target with a scale beside its head."""
    scale = {"lm_head.weight_scale": np.ones((V, 1), np.float32)}
    return edit(clean.target(directory), add=scale)


def larger(directory: Path) -> Path:
    """Write a target of more ids."""
    return tiny_target(directory, tied=False, vocab_size=V + 64, layers=8)


def whole_eagle(directory: Path) -> Path:
    """Write an EAGLE-2 drafter that stores a whole head."""
    eagle.PLUGIN.tiny_checkpoint(directory, vocab_size=V, hidden=32)
    return edit(directory, add={"lm_head.weight": np.ones((V, 32), np.float32)})


def bare_eagle(**keys: Any) -> Plant:
    """Return a builder of an EAGLE-2 drafter as it is published."""

    def plant(directory: Path) -> Path:
        eagle.PLUGIN.tiny_checkpoint(directory, vocab_size=V, hidden=32)
        return edit(directory, config=keys)

    return plant


def wanted(path: Path) -> Path:
    """Write the draft vocabulary that a drafter is held against."""
    other = DraftVocab(np.sort(replaced(IDS, 3, 250)), V)
    write_vocab(path, other, inputs={}, options={}, facts={})
    return path


MASK = np.isin(np.arange(V), IDS)
HEAD = np.ones((K, 32), dtype=np.float32)
QUANTISED = {
    "lm_head.weight_packed": np.ones((K, 4), dtype=np.int32),
    "lm_head.weight_scale": np.ones((K, 1), dtype=np.float32),
}

PLANTED = (
    # the map
    Planted("map-missing", "fault", "vllm", changed(drop=["d2t", "t2d"])),
    Planted(
        "map-missing",
        "fault",
        "llama.cpp",
        gguf(ids=None, add={"output.weight": np.ones((K, 256), np.float32)}, head=None),
        what="gguf",
    ),
    Planted("map-missing", "fault", "vllm", beside, what="beside"),
    Planted(
        "map-misnamed",
        "fault",
        "llama.cpp",
        gguf(
            ids=None,
            head=None,
            add={"output.weight": np.ones((K, 256), np.float32), "d2t.weight": IDS},
        ),
        what="gguf",
    ),
    Planted("map-misnamed", "fault", "vllm", renamed("d2t", "model.d2t")),
    Planted("map-not-whole", "fault", "sglang", without_mask(ids_of(IDS).astype(np.float32))),
    Planted(
        "map-not-whole", "fault", "every engine", without_mask(ids_of(IDS)[None]), what="shape"
    ),
    Planted(
        "map-not-whole",
        "fault",
        "llama.cpp",
        without_mask(ids_of(IDS).astype(np.float16)),
        what="rounded",
    ),
    Planted("map-length", "fault", "vllm", without_mask(ids_of(IDS[:-1])), what="short"),
    Planted(
        "map-length", "fault", "sglang", without_mask(ids_of(np.append(IDS, 200))), what="long"
    ),
    Planted(
        "map-length",
        "fault",
        "llama.cpp",
        gguf(
            ids=IDS[:32].tolist(), head=None, add={"output.weight": np.ones((K, 256), np.float32)}
        ),
        what="gguf",
    ),
    Planted(
        "map-out-of-range", "fault", "sglang", changed(add={"d2t": replaced(ids_of(IDS), -1, V)})
    ),
    Planted(
        "map-out-of-range", "fault", "llama.cpp", gguf(ids=[*IDS[:-1].tolist(), V]), what="gguf"
    ),
    Planted(
        "map-out-of-range",
        "fault",
        "sglang",
        listed([*IDS[:-1].tolist(), V]),
        target=True,
        what="list",
    ),
    Planted("map-duplicates", "fault", "vllm", without_mask(ids_of(replaced(IDS, 5, int(IDS[4]))))),
    Planted(
        "map-duplicates",
        "fault",
        "llama.cpp",
        gguf(ids=replaced(IDS, 5, int(IDS[4])).tolist()),
        what="gguf",
    ),
    Planted("map-first-ids", "fault", "every engine", without_mask(np.zeros(K, np.int64))),
    Planted(
        "map-first-ids",
        "note",
        "every engine",
        changed(add={"d2t": np.zeros(K, np.int64), "t2d": np.arange(V) < K}),
        what="meant",
    ),
    Planted("map-first-ids", "fault", "llama.cpp", gguf(ids=range(K)), what="gguf"),
    Planted("map-duplicates", "fault", "llama.cpp", gguf(ids=[0] * K), what="zeros in gguf"),
    Planted("map-of-ids", "fault", "vllm", changed(add={"d2t": IDS})),
    Planted(
        "map-of-ids",
        "fault",
        "sglang",
        without_mask(np.sort(shuffled(np.arange(V))[:K])),
        what="no mask",
    ),
    Planted("map-of-offsets", "fault", "llama.cpp", gguf(ids=ids_of(IDS).tolist())),
    Planted("map-either", "loss", "every engine", without_mask(np.arange(1, 2 * K, 2))),
    Planted(
        "map-not-needed", "fault", "vllm", changed(clean.whole, add={"d2t": np.zeros(V, np.int64)})
    ),
    Planted("map-unsorted", "loss", "SpecForge", without_mask(ids_of(shuffled(IDS)))),
    Planted(
        "map-unsorted",
        "loss",
        "speculators",
        changed(add={"d2t": ids_of(swapped(IDS))}),
        what="mask",
    ),
    # the mask
    Planted("mask-differs", "fault", "speculators", changed(add={"t2d": np.roll(MASK, 1)})),
    Planted(
        "mask-differs", "fault", "SpecForge", changed(add={"t2d": np.zeros(V, bool)}), what="empty"
    ),
    Planted("mask-shape", "fault", "speculators", changed(add={"t2d": IDS.astype(np.int64)})),
    Planted(
        "mask-shape",
        "fault",
        "speculators",
        changed(add={"t2d": np.append(MASK, MASK)}),
        what="length",
    ),
    Planted("mask-missing", "fault", "speculators", changed(clean.speculators, drop=["t2d"])),
    # the head
    Planted("head-missing", "fault", "sglang", changed(drop=["lm_head.weight"])),
    Planted("head-missing", "fault", "llama.cpp", gguf(head=None), what="gguf"),
    Planted("head-shared", "note", "sglang", changed(clean.whole, drop=["lm_head.weight"])),
    Planted("head-rows", "fault", "vllm", config(draft_vocab_size=2 * K)),
    Planted(
        "head-width",
        "fault",
        "every engine",
        changed(add={"lm_head.weight": np.ones((K, 16), np.float32)}),
    ),
    Planted(
        "head-parts",
        "fault",
        "every engine",
        changed(
            drop=["lm_head.weight"],
            add=QUANTISED | {"lm_head.weight_scale": np.ones((V, 1), np.float32)},
        ),
    ),
    Planted(
        "head-parts",
        "fault",
        "vllm",
        changed(
            drop=["lm_head.weight"], add=QUANTISED | {"lm_head.weight_shape": np.array([V, 32])}
        ),
        what="shape",
    ),
    Planted(
        "head-packed",
        "fault",
        "vllm",
        changed(
            drop=["lm_head.weight"],
            add={
                "lm_head.qweight": np.ones((8, 72), np.int32),
                "lm_head.scales": np.ones((2, 72), np.float32),
            },
        ),
    ),
    Planted("head-tied", "fault", "sglang", config(tie_word_embeddings=True)),
    Planted(
        "head-tied",
        "fault",
        "transformers",
        config(clean.trimmed_lm, tie_word_embeddings=True),
        what="LM",
    ),
    Planted(
        "head-tied",
        "fault",
        "sglang",
        changed(clean.whole, drop=["lm_head.weight"], config={"tie_word_embeddings": True}),
        what="no head",
    ),
    Planted("head-tied", "fault", "sglang", bare_eagle(tie_word_embeddings=True), what="EAGLE"),
    Planted("head-not-read", "fault", "vllm", whole_eagle),
    Planted("head-bias", "fault", "vllm", changed(add={"lm_head.bias": np.zeros(K, np.float32)})),
    Planted(
        "head-bias",
        "fault",
        "every engine",
        changed(add={"lm_head.bias": np.zeros(V, np.float32)}),
        what="rows",
    ),
    Planted(
        "head-stock-class",
        "fault",
        "transformers",
        config(clean.trimmed_lm, architectures=["LlamaForCausalLM"]),
    ),
    Planted(
        "head-stock-class",
        "fault",
        "vllm",
        config(clean.trimmed_eagle, architectures=["LlamaForCausalLM"]),
        what="EAGLE",
    ),
    Planted(
        "head-dead-rows",
        "fault",
        "every engine",
        changed(add={"lm_head.weight": HEAD * (np.arange(K) % 7 > 0)[:, None].astype(np.float32)}),
    ),
    Planted(
        "head-dead-rows",
        "fault",
        "every engine",
        changed(add={"lm_head.weight": HEAD * np.float32("nan")}),
        what="nan",
    ),
    # the config
    Planted("config-draft-size", "fault", "sglang", changed(forget=["draft_vocab_size"])),
    Planted("config-draft-size", "fault", "vllm", config(draft_vocab_size=None), what="null"),
    Planted(
        "config-draft-size",
        "fault",
        "sglang",
        config(clean.whole, draft_vocab_size=None),
        what="null and whole",
    ),
    Planted("config-parallel", "note", "sglang", changed(add={"mask_hidden": HEAD[:1]})),
    Planted("config-vocab-size", "fault", "vllm", config(vocab_size=K)),
    Planted(
        "config-vocab-size", "fault", "vllm", lambda d: layer_config(d, vocab_size=K), what="nested"
    ),
    Planted("config-class", "fault", "vllm", config(architectures=[])),
    Planted("config-class", "note", "sglang", clean.safeailab, what="of the target"),
    Planted(
        "config-speculators",
        "fault",
        "vllm",
        changed(clean.speculators, forget=["norm_before_residual"]),
    ),
    Planted("config-speculators", "loss", "vllm", unnamed_target, what="no target"),
    Planted(
        "config-one-layer", "fault", "llama.cpp", config(clean.trimmed_lm, num_hidden_layers=1)
    ),
    Planted("layers-contradict", "fault", "sglang", inner([1, 3, 4], **{LAYERS: [1, 3, 4]})),
    Planted("layers-unread", "fault", "sglang", config(**{LAYERS: [1, 3, 7]})),
    Planted("layers-unread", "fault", "llama.cpp", inner([0, 3, 6]), what="inner"),
    Planted(
        "layers-impossible", "fault", "every engine", config(**{LAYERS: [2, 4, 11]}), target=True
    ),
    Planted("layers-impossible", "fault", "vllm", config(**{LAYERS: [5, 4, 2]}), what="order"),
    Planted(
        "layers-impossible", "fault", "every engine", config(**{LAYERS: [4, 5]}), what="number"
    ),
    Planted("layers-impossible", "fault", "every engine", config(**{LAYERS: "2,4,5"}), what="text"),
    Planted("layers-impossible", "fault", "sglang", inner([]), what="empty"),
    Planted(
        "target-width",
        "fault",
        "every engine",
        gguf(more=lambda w: (clean.with_layers(w), w.add_uint32("eagle3.target_hidden_size", 64))),
        target=True,
        what="gguf",
    ),
    Planted(
        "target-vocabulary",
        "fault",
        "sglang",
        lambda directory: tiny_lm(directory, vocab_size=V),
        target=larger,
        what="LM",
    ),
    Planted("target-width", "fault", "every engine", config(target_hidden_size=64), target=True),
    Planted(
        "target-vocabulary",
        "loss",
        "vllm",
        changed(
            clean.whole,
            drop=["lm_head.weight"],
            config={"vocab_size": V + 64, "draft_vocab_size": V + 64},
        ),
        target=True,
    ),
    # the files
    Planted("files-stale-index", "fault", "vllm", left_over(index=True)),
    Planted(
        "files-stale-index", "fault", "sglang", left_over(index=True, removed=True), what="removed"
    ),
    Planted("files-stray", "fault", "vllm", left_over(index=False)),
    Planted("files-damaged", "loss", "every engine", emptied("generation_config.json")),
    Planted("files-two-formats", "fault", "EAGLE", bin_beside),
    # the ids
    Planted(
        "ids-multiple",
        "loss",
        "llama.cpp",
        changed(
            add={
                "lm_head.weight": np.ones((K - 1, 32), np.float32),
                "d2t": ids_of(IDS[:-1]),
                "t2d": np.isin(np.arange(V), IDS[:-1]),
            },
            config={"draft_vocab_size": K - 1},
        ),
    ),
    Planted("ids-ends", "loss", "every engine", config(eos_token_id=[0, 2])),
    Planted("ids-ends", "loss", "every engine", wide(IDS), target=wide_target, what="files"),
    Planted("ids-template", "note", "every engine", wide(IDS), target=wide_target),
    Planted(
        "ids-padding",
        "loss",
        "every engine",
        wide(np.append(IDS[:-1], WIDE - 1)),
        target=wide_target,
    ),
    Planted("tokenizers", "fault", "every engine", tokenizer_of(swap_two), target=with_tokenizer),
    Planted(
        "tokenizers",
        "fault",
        "every engine",
        clean.gguf_drafter,
        target=with_tokenizer,
        what="gguf",
    ),
    Planted("tokenizer-damaged", "loss", "every engine", emptied("tokenizer.json")),
    Planted("ids-asked-for", "fault", "every engine", clean.specforge, vocab=True),
    Planted("ids-asked-for", "fault", "every engine", clean.whole, vocab=True, what="all"),
    # the rows
    Planted("rows", "fault", "every engine", foreign_rows(shuffled), target=True),
    Planted(
        "rows",
        "fault",
        "every engine",
        foreign_rows(lambda _: np.arange(K)),
        target=True,
        what="first",
    ),
    Planted("rows", "fault", "every engine", absolute_map, target=True, what="of ids"),
    Planted(
        "rows",
        "fault",
        "every engine",
        foreign_rows(lambda ids: np.roll(ids, 1)),
        target=True,
        what="shifted",
    ),
    # GGUF
    Planted(
        "gguf-map-type",
        "fault",
        "llama.cpp",
        gguf(
            ids=None,
            head=None,
            add={"output.weight": np.ones((K, 256), np.float32), "d2t": IDS.astype(np.int32)},
        ),
    ),
    Planted("gguf-no-reader", "fault", "llama.cpp", gguf(architecture="llama")),
    Planted("gguf-patch", "note", "llama.cpp", gguf(architecture="qwen35")),
    Planted("gguf-layers", "fault", "llama.cpp", gguf_layers([1, 2])),
    Planted(
        "gguf-layers", "fault", "llama.cpp", gguf_layers([2, 4, 11]), target=True, what="beyond"
    ),
    Planted("gguf-layers", "fault", "llama.cpp", gguf(more=lambda _: None), what="missing"),
    Planted(
        "gguf-followers",
        "fault",
        "llama.cpp",
        gguf(architecture="dflash", add={"markov_w2.weight": np.ones((V, 32), np.float32)}),
    ),
    Planted(
        "gguf-vocab-size",
        "loss",
        "llama.cpp",
        gguf(more=lambda w: (clean.with_layers(w), w.add_uint32("eagle3.vocab_size", 99))),
    ),
    # lists
    Planted("list-unusable", "fault", "sglang", listed([1, "two", 3])),
    Planted("list-unusable", "fault", "sglang", listed([]), what="empty"),
    Planted("list-form", "note", "sglang", clean.json_list),
    Planted("list-of-offsets", "fault", "sglang", listed(ids_of(IDS).tolist())),
    Planted("list-of-offsets", "note", "sglang", clean.modelopt_map, what="ModelOpt"),
    Planted("list-repeats", "loss", "sglang", listed([*IDS.tolist(), int(IDS[0])])),
    Planted("list-order", "note", "sglang", listed(shuffled(IDS).tolist())),
    Planted("list-target-head", "fault", "sglang", clean.token_map, target=quantised_target),
    Planted(
        "list-target-head",
        "loss",
        "sglang",
        clean.token_map,
        target=of_class("MiMoV2ForCausalLM"),
        what="several layers",
    ),
    # other drafters
    Planted("block-missing", "fault", "vllm", block(drop=["d2t", "t2d"])),
    Planted("block-missing", "fault", "vllm", block("DSpark", drop=["lm_head.weight"]), what="2"),
    Planted("block-ignored", "loss", "sglang", block()),
    Planted("block-ignored", "fault", "sglang", block("DSpark", add=markov(K)), what="markov"),
    Planted("block-markov", "fault", "vllm", block("DSpark", add=markov(V))),
    Planted("block-missing", "fault", "vllm", block(drop=["lm_head.weight"]), what="head"),
    Planted("block-whole", "fault", "vllm", block("DFlash2")),
    Planted("block-whole", "fault", "vllm", block("LiLiCorr"), what="refused"),
    Planted("medusa-heads", "fault", "vllm", medusa(original_lm_head=False)),
    Planted("medusa-map", "fault", "vllm", medusa(ids=None)),
    Planted("medusa-map", "fault", "vllm", medusa(ids=IDS[:-1]), what="short"),
    Planted("medusa-map", "fault", "vllm", medusa(ids=IDS + V), what="beyond"),
    Planted("medusa-vocab-size", "loss", "vllm", medusa(), target=larger),
)
