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

from vocabtrim.core.errors import CheckpointError
from vocabtrim.core.manifest import DIRECTORY_MANIFEST, METADATA_KEY
from vocabtrim.core.vocab import MOST_IDS, DraftVocab
from vocabtrim.families.base import DrafterFamily, known_families
from vocabtrim.pipeline.checks.listed import Listed, whole_numbers
from vocabtrim.pipeline.checks.spelling import Spelling
from vocabtrim.pipeline.checks.stored_map import StoredMap
from vocabtrim.pipeline.checks.verifier import Verifier, ends_of, gguf_ends, positive
from vocabtrim.tensors.causal import EMBEDDING_NAMES, HEAD_NAMES
from vocabtrim.tensors.checkpoint import Checkpoint
from vocabtrim.tensors.eagle3_layout import FUSION, Layout, is_eagle3, layout_of
from vocabtrim.tensors.gguf_drafter import EMBEDDING, OUTPUT, GgufKind, drafter_kind
from vocabtrim.tensors.gguf_model import GgufModel
from vocabtrim.tensors.head_source import D2T, T2D
from vocabtrim.tensors.tensor_info import TensorInfo

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
    target: Verifier | None = None
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
    def ours(self) -> bool:
        """Whether vocabtrim wrote it, from a draft vocabulary that somebody chose."""
        if self.gguf is not None:
            return METADATA_KEY in self.gguf.header.entries
        return self.form is Form.CHECKPOINT and (self.path / DIRECTORY_MANIFEST).is_file()

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
        return positive(self.checkpoint.text_config.get("vocab_size"))

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
        """V of the target."""
        return None if self.target is None else self.target.vocab_size

    @cached_property
    def stated_draft_size(self) -> int | None:
        """K, as its config says."""
        return positive(self.config.get("draft_vocab_size"))

    @cached_property
    def embedding(self) -> TensorInfo | None:
        """Its own input embedding."""
        names = (*EMBEDDING_NAMES, "embed_tokens.weight", EMBEDDING)
        found = next((self.tensors[one] for one in names if one in self.tensors), None)
        return found if found is None or len(found.shape) == 2 else None

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
        return StoredMap(
            D2T, info.dtype, info.shape, self.numbers(info), absolute=self.gguf is not None
        )

    def numbers(self, info: TensorInfo) -> NDArray[np.int64] | None:
        """Return a vector of its whole numbers; None where a tensor is something else.

        What has more entries than any tokenizer has tokens is not loaded.
        """
        # numpy shows the bits of bfloat16 as whole numbers
        if self.weights is None or info.dtype == "BF16" or info.n_params > MOST_IDS:
            return None
        try:
            return whole_numbers(self.weights.array(info.name))
        except CheckpointError:
            return None

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
            of_truths = info.dtype in ("BOOL", "U8") and info.n_params <= MOST_IDS
            array = self.checkpoint.array(T2D) if of_truths else None
        if array is None or array.ndim != 1 or array.dtype.kind not in "bu" or (array > 1).any():
            return None
        return array.astype(np.bool_)

    @cached_property
    def spelling(self) -> Spelling:
        """Its tokenizer and the target's."""
        drafter = self.checkpoint if self.gguf is None else self.gguf
        return Spelling(drafter, None if self.target is None else self.target.model)

    @cached_property
    def ends(self) -> frozenset[int]:
        """Ids that end a generation: as a tokenizer's files say, else the target, else itself."""
        if self.spelling.written is not None:
            return self.spelling.written.ends
        if self.target is not None and self.target.ends:
            return self.target.ends
        if self.gguf is not None:
            return gguf_ends(self.gguf)
        return frozenset() if self.checkpoint is None else ends_of(self.checkpoint)
