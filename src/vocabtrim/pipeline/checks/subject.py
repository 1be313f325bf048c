"""What is looked at: a drafter or a list of ids as it is stored, opened once.

Everything here is what the file says, in its own words: nothing is repaired and
contradictions are kept, for they are what checks look for. What only a target or
a tokenizer can tell is None where there is none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vocabtrim.core.errors import CheckpointError, TokenizerError
from vocabtrim.core.vocab import DraftVocab
from vocabtrim.families.base import DrafterFamily, known_families
from vocabtrim.pipeline.checks.listed import Listed, whole_numbers
from vocabtrim.pipeline.checks.stored_map import StoredMap
from vocabtrim.tensors.causal import EMBEDDING_NAMES, HEAD_NAMES
from vocabtrim.tensors.checkpoint import Checkpoint
from vocabtrim.tensors.eagle3_layout import FUSION, Layout, is_eagle3, layout_of
from vocabtrim.tensors.gguf_drafter import EMBEDDING, OUTPUT, GgufKind, drafter_kind
from vocabtrim.tensors.gguf_model import GgufModel
from vocabtrim.tensors.head_source import D2T, T2D
from vocabtrim.tensors.tensor_info import TensorInfo
from vocabtrim.tensors.weight_files import read_json_object
from vocabtrim.tokens.must_keep import special_ids
from vocabtrim.tokens.tokenizer import Tokenizer, fingerprint_of

PACKED_ROWS = ("weight_packed", "weight_scale", "weight")
"""Parts of a head whose first axis runs over its rows, the surest first."""


class Form(Enum):
    """In what form something is looked at."""

    CHECKPOINT = "a directory of weights"
    GGUF = "a GGUF file"
    LIST = "a list of ids"


@dataclass(frozen=True, eq=False)
class Subject:
    """What is looked at.

    Args:
        path: Where it is.
        form: What it is.
        checkpoint: Its weights, where it has such.
        gguf: The same of a GGUF file.
        listed: What a list holds.
        target: The target, where it was given.
        vocab: The ids that it is to hold, where they were given.
    """

    path: Path
    form: Form
    checkpoint: Checkpoint | None = None
    gguf: GgufModel | None = None
    listed: Listed | None = None
    target: Checkpoint | None = None
    vocab: DraftVocab | None = None

    @cached_property
    def config(self) -> Mapping[str, Any]:
        """Its `config.json`; empty where it has none."""
        return {} if self.checkpoint is None else self.checkpoint.config

    @cached_property
    def tensors(self) -> Mapping[str, TensorInfo]:
        """Its tensors by name."""
        if self.gguf is not None:
            return self.gguf.tensors
        return {} if self.checkpoint is None else self.checkpoint.tensors

    @cached_property
    def weights(self) -> Checkpoint | None:
        """What reads its tensors."""
        return self.checkpoint if self.gguf is None else self.gguf.weights

    @cached_property
    def plugins(self) -> tuple[DrafterFamily, ...]:
        """The families that recognise a directory."""
        return () if self.checkpoint is None else tuple(known_families(self.checkpoint))

    @cached_property
    def families(self) -> tuple[str, ...]:
        """The names of the families that it is of."""
        if self.gguf is not None:
            return () if self.kind is None else (self.kind.family,)
        return tuple(family.name for family in self.plugins)

    @cached_property
    def sidecar(self) -> bool:
        """Whether it is, or brings, what lies beside a target."""
        return any(family.sidecar for family in self.plugins)

    @cached_property
    def eagle3(self) -> bool:
        """Whether it is an EAGLE-3 drafter in a directory, in either layout."""
        return self.checkpoint is not None and is_eagle3(self.checkpoint)

    @cached_property
    def kind(self) -> GgufKind | None:
        """How llama.cpp drafts with it."""
        return None if self.gguf is None else drafter_kind(self.gguf)

    @cached_property
    def fused(self) -> bool:
        """Whether it drafts on the target's features."""
        return self.checkpoint is not None and bool(self.plugins) and FUSION in self.tensors

    @cached_property
    def speculators(self) -> bool:
        """Whether it is in the layout of speculators."""
        return layout_of(self.config) is Layout.SPECULATORS

    @cached_property
    def stated_vocab_size(self) -> int | None:
        """V, as its config or its tokenizer says."""
        if self.gguf is not None:
            return self.gguf.header.count("tokenizer.ggml.tokens")
        if self.listed is not None:
            return self.listed.vocab_size
        if self.checkpoint is None:
            return None
        return _positive(self.checkpoint.text_config.get("vocab_size"))

    @cached_property
    def vocab_size(self) -> int | None:
        """V, from the surest source: the target, a mask, an embedding, what it says."""
        sources = [
            self.target_vocab_size,
            None if self.mask is None else self.mask.size,
            None if self.embedding is None else self.embedding.shape[0],
            self.stated_vocab_size,
        ]
        return next((one for one in sources if one is not None), None)

    @cached_property
    def target_vocab_size(self) -> int | None:
        """Rows of the target's embedding."""
        if self.target is None:
            return None
        return _positive(self.target.text_config.get("vocab_size"))

    @cached_property
    def stated_draft_size(self) -> int | None:
        """K, as its config says."""
        return _positive(self.config.get("draft_vocab_size"))

    @cached_property
    def embedding(self) -> TensorInfo | None:
        """Its own input embedding."""
        names = (*EMBEDDING_NAMES, "embed_tokens.weight", EMBEDDING)
        return next((self.tensors[one] for one in names if one in self.tensors), None)

    @cached_property
    def head(self) -> TensorInfo | None:
        """The matrix of its own head, where that is stored as one."""
        names = (OUTPUT,) if self.gguf is not None else HEAD_NAMES
        found = next((self.tensors[one] for one in names if one in self.tensors), None)
        return found if found is None or len(found.shape) == 2 else None

    @cached_property
    def head_parts(self) -> dict[str, TensorInfo]:
        """Everything stored under the head's name, by what follows it."""
        stem = "output." if self.gguf is not None else "lm_head."
        found = {
            name.removeprefix(stem): info
            for name, info in self.tensors.items()
            if name.startswith(stem)
        }
        if self.head is not None and "weight" not in found:
            found["weight"] = self.head
        return found

    @cached_property
    def rows(self) -> int | None:
        """Rows of its own head, packed or not; None where it has none."""
        for part in PACKED_ROWS:
            info = self.head_parts.get(part)
            if info is not None and len(info.shape) == 2:
                return info.shape[0]
        columns = self.head_parts.get("scales")
        return columns.shape[1] if columns is not None and len(columns.shape) == 2 else None

    @cached_property
    def draft_size(self) -> int | None:
        """K, from the surest source: the head, the map, what the config says."""
        size = None
        if self.map is not None and self.map.numbers is not None:
            size = int(self.map.numbers.size)
        return next(
            (one for one in (self.rows, size, self.stated_draft_size) if one is not None), None
        )

    @cached_property
    def reduced(self) -> bool:
        """Whether it drafts over fewer ids than there are."""
        if self.form is Form.LIST or self.draft_size is None or self.vocab_size is None:
            return self.map is not None
        return self.draft_size < self.vocab_size

    @cached_property
    def map(self) -> StoredMap | None:
        """Its map, under its right name."""
        if self.listed is not None:
            numbers = self.listed.numbers
            size = () if numbers is None else (numbers.size,)
            ids = D2T not in self.listed.maps and not self.listed.only_offsets
            return StoredMap(f"the {self.listed.kind}", "", size, numbers, ids)
        info = self.tensors.get(D2T)
        if info is None or self.weights is None:
            return None
        try:
            array = whole_numbers(self.weights.array(D2T))
        except CheckpointError:
            array = None
        if info.dtype == "BF16":
            array = None  # numpy shows its bits
        return StoredMap(D2T, info.dtype, info.shape, array, self.gguf is not None)

    @cached_property
    def ids(self) -> NDArray[np.int64] | None:
        """The ids of its rows, in their order, by the convention of its map."""
        return None if self.map is None else self.map.ids

    @cached_property
    def holds_ids(self) -> bool:
        """Whether a map that should hold offsets is proven to hold ids."""
        return self.map is not None and self.map.holds_ids(self.mask, self.vocab_size)

    @cached_property
    def mask(self) -> NDArray[np.bool_] | None:
        """Its `t2d`, where that is a vector of truth values."""
        array: NDArray[Any] | None = None
        if self.listed is not None:
            array = self.listed.maps.get(T2D)
        elif T2D in self.tensors and self.checkpoint is not None:
            info = self.tensors[T2D]
            array = self.checkpoint.array(T2D) if info.dtype in ("BOOL", "U8") else None
        if array is None or array.ndim != 1 or array.dtype.kind not in "bu" or (array > 1).any():
            return None
        return array.astype(np.bool_)

    @cached_property
    def tokenizer_place(self) -> Path | None:
        """Where a tokenizer is: the target's, else its own."""
        places = [] if self.target is None else [self.target.path]
        if self.form is Form.CHECKPOINT:
            places.append(self.path)
        return next((one for one in places if fingerprint_of(one) is not None), None)

    @cached_property
    def tokenizer(self) -> Tokenizer | None:
        """The tokenizer; None where there is none, or none that can be read."""
        if self.tokenizer_place is None:
            return None
        try:
            return Tokenizer.open(self.tokenizer_place)
        except TokenizerError:
            return None

    @cached_property
    def ends(self) -> frozenset[int]:
        """Ids that end a generation, from the tokenizer or else from configs."""
        if self.tokenizer is not None:
            return frozenset(special_ids(self.tokenizer).eos)
        found: set[int] = set()
        if self.gguf is not None:
            found |= {_of_gguf(self.gguf, "tokenizer.ggml.eos_token_id")}
        for checkpoint in (self.target, self.checkpoint):
            if checkpoint is not None:
                found |= _ends(checkpoint)
        return frozenset(found - {-1})


def _positive(value: Any) -> int | None:
    return value if type(value) is int and value > 0 else None


def _of_gguf(model: GgufModel, key: str) -> int:
    value = model.header.value(key)
    return value if type(value) is int else -1


def _ends(checkpoint: Checkpoint) -> set[int]:
    stated = [checkpoint.text_config.get("eos_token_id"), checkpoint.config.get("eos_token_id")]
    generation = checkpoint.path / "generation_config.json"
    if generation.is_file():
        stated.append(read_json_object(generation).get("eos_token_id"))
    found: set[int] = set()
    for one in stated:
        found |= {i for i in (one if isinstance(one, list) else [one]) if type(i) is int and i >= 0}
    return found
