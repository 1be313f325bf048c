"""Drafters with nothing wrong in them, in every layout that somebody writes.

`CLEAN` maps a name to a builder that takes an empty directory and returns what is
to be looked at. All are over the target of `target`, of 256 ids; reduced ones hold
`IDS`: a run of neighbours, as every vocabulary by frequency has, and scattered ones.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from tests.tiny import (
    as_bin,
    edit,
    raw_tensors,
    tiny_eagle3,
    tiny_lm,
    tiny_speculators,
    tiny_target,
    write_raw,
)
from tests.tiny_gguf import tiny_gguf, tiny_gguf_target
from vocabtrim.core.vocab import DraftVocab
from vocabtrim.core.vocab_file import write_vocab
from vocabtrim.families import eagle, mtp
from vocabtrim.pipeline.convert import convert
from vocabtrim.pipeline.trim import trim
from vocabtrim.tensors.eagle3_layout import Layout
from vocabtrim.tensors.id_writer import write_ids

V, K, H = 256, 64, 32
IDS = np.concatenate([np.arange(2, 42), np.arange(60, 156, 4)])
KEPT = DraftVocab(IDS, V)

LAYERS = "eagle_aux_hidden_state_layer_ids"
GGUF_V = 256


def target(directory: Path) -> Path:
    """Write the target of all of them; it has a head of its own."""
    return tiny_target(directory, tied=False, vocab_size=V, hidden=H, layers=8)


def specforge(directory: Path) -> Path:
    """SpecForge: flat, `midlayer.`, both maps, ids ascending, layers left to readers."""
    tiny_eagle3(directory, ids=IDS, vocab_size=V, hidden=H)
    return edit(directory, forget=[LAYERS])


def safeailab(directory: Path) -> Path:
    """EAGLE's own code: the same under the class of the target, with an embedding."""
    tiny_eagle3(directory, ids=IDS, vocab_size=V, hidden=H, own_embedding=True)
    return edit(directory, config={"architectures": ["LlamaForCausalLM"]}, forget=[LAYERS])


def modelopt(directory: Path) -> Path:
    """ModelOpt: `layers.0.`, ids by frequency, no mask, layers counted by outputs."""
    specforge(directory)
    tensors = raw_tensors(directory)
    write_raw(directory, {k.replace("midlayer.", "layers.0."): raw for k, raw in tensors.items()})
    by_frequency = np.random.default_rng(0).permutation(IDS)
    # of 8 layers: the default of every reader
    nested = {"use_aux_hidden_state": True, LAYERS: [1, 3, 4]}
    return edit(
        directory,
        add={"d2t": by_frequency - np.arange(K)},
        drop=["t2d"],
        config={"eagle_config": nested},
    )


def speculators(directory: Path) -> Path:
    """Its layout, with layers of its own choice and the target named."""
    return tiny_speculators(directory, ids=IDS, vocab_size=V)


def sharded(directory: Path) -> Path:
    """Two files and an index."""
    return edit(specforge(directory), shards=2)


def in_bin(directory: Path) -> Path:
    """As PyTorch saves it."""
    return as_bin(specforge(directory))


def whole(directory: Path) -> Path:
    """All ids and a head of its own, without maps."""
    tiny_eagle3(directory, own_head=True, vocab_size=V, hidden=H)
    return edit(directory, forget=[LAYERS])


def trimmed(directory: Path) -> Path:
    """Trimmed here from a drafter that borrows its head: rows are the target's."""
    base = directory.parent
    tiny_eagle3(base / "full", vocab_size=V, hidden=H)
    edit(base / "full", forget=[LAYERS])
    trim(base / "full", KEPT, directory, target=target(base / "its target"))
    return directory


def trimmed_lm(directory: Path) -> Path:
    """An independent drafter, trimmed here."""
    trim(tiny_lm(directory.parent / "lm", vocab_size=V, hidden=H), KEPT, directory)
    return directory


def trimmed_eagle(directory: Path) -> Path:
    """An EAGLE-2 drafter, trimmed here: a class that stock loaders refuse."""
    base = directory.parent
    eagle.PLUGIN.tiny_checkpoint(base / "full", vocab_size=V, hidden=H)
    trim(base / "full", KEPT, directory, target=target(base / "its target"))
    return directory


def sidecar(directory: Path) -> Path:
    """Rows beside a target that brings its own prediction layers."""
    mtp.PLUGIN.tiny_checkpoint(directory.parent / "host", vocab_size=V, hidden=H)
    trim(directory.parent / "host", KEPT, directory, family="mtp")
    return directory


def gguf_drafter(directory: Path, **changes: Any) -> Path:
    """EAGLE-3 as llama.cpp's converter writes it."""
    directory.mkdir(exist_ok=True)
    options = {"head": "Q8_0", "ids": IDS.tolist(), "vocab_size": GGUF_V} | changes
    more = options.pop("more", with_layers)
    return tiny_gguf(directory / "drafter.gguf", more=more, **options)


def with_layers(writer: Any) -> None:
    """Add the metadata that EAGLE-3 has."""
    writer.add_array("eagle3.target_layers", [2, 4, 5])


def trimmed_gguf(directory: Path) -> Path:
    """A GGUF drafter, trimmed here to rows of a GGUF target."""
    directory.mkdir(exist_ok=True)
    full = gguf_drafter(directory.parent / "full", head=None, ids=None)
    trim(full, KEPT, directory / "less.gguf", target=gguf_target(directory.parent))
    return directory / "less.gguf"


def trimmed_again(directory: Path) -> Path:
    """A published drafter with a reduced head, trimmed here to fewer ids, from two files."""
    trim(sharded(directory.parent / "published"), DraftVocab(IDS, V), directory)
    return directory


def trimmed_speculators(directory: Path) -> Path:
    """A drafter in the layout of speculators, trimmed here."""
    full = tiny_speculators(directory.parent / "full", vocab_size=V)
    trim(full, KEPT, directory, target=target(directory.parent / "its target"))
    return directory


def converted(directory: Path) -> Path:
    """The same in the flat layout, as every reader counts its layers."""
    convert(trimmed_speculators(directory.parent / "nested"), Layout.FLAT, directory)
    return directory


def gguf_target(directory: Path) -> Path:
    """A GGUF target of the same tokenizer, which the drafters above do not resemble."""
    return tiny_gguf_target(directory / "target.gguf", vocab_size=GGUF_V)


def fr_spec(directory: Path) -> Path:
    """FR-Spec's `freq_K.pt`: ids by frequency, the last of them there already."""
    import torch

    directory.mkdir(exist_ok=True)
    by_frequency = np.random.default_rng(0).permutation(IDS).tolist()
    torch.save([*by_frequency, by_frequency[3]], directory / "freq.pt")
    return directory / "freq.pt"


def token_map(directory: Path) -> Path:
    """SGLang's list, written here."""
    directory.mkdir(exist_ok=True)
    write_ids(directory / "ids.pt", KEPT, "ids-pt")
    return directory / "ids.pt"


def modelopt_map(directory: Path) -> Path:
    """ModelOpt's `d2t.pt`: a bare tensor of offsets, by frequency."""
    import torch

    directory.mkdir(exist_ok=True)
    ids = np.random.default_rng(0).permutation(IDS)
    torch.save(torch.from_numpy(ids - np.arange(K)), directory / "d2t.pt")
    return directory / "d2t.pt"


def json_list(directory: Path) -> Path:
    """A JSON list with V."""
    directory.mkdir(exist_ok=True)
    (directory / "ids.json").write_text(json.dumps({"ids": IDS.tolist(), "vocab_size": V}))
    return directory / "ids.json"


def vocabulary(directory: Path) -> Path:
    """A draft vocabulary of ours."""
    directory.mkdir(exist_ok=True)
    write_vocab(directory / "vocab.safetensors", KEPT, inputs={}, options={}, facts={})
    return directory / "vocab.safetensors"


CLEAN: Mapping[str, Callable[[Path], Path]] = MappingProxyType(
    {
        "SpecForge": specforge,
        "SafeAILab": safeailab,
        "ModelOpt": modelopt,
        "speculators": speculators,
        "sharded": sharded,
        ".bin": in_bin,
        "all ids": whole,
        "trimmed": trimmed,
        "trimmed LM": trimmed_lm,
        "trimmed EAGLE-2": trimmed_eagle,
        "MTP sidecar": sidecar,
        "trimmed GGUF": trimmed_gguf,
        "trimmed again": trimmed_again,
        "trimmed speculators": trimmed_speculators,
        "converted": converted,
        "target": target,
        "GGUF": gguf_drafter,
        "FR-Spec": fr_spec,
        "token map": token_map,
        "ModelOpt map": modelopt_map,
        "JSON list": json_list,
        "vocabulary": vocabulary,
    }
)
