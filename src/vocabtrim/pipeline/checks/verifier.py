"""The target that a drafter is held against, as it is stored.

A directory or a GGUF file, opened by its headers: how many ids and layers it has,
how wide it is, where its head is, which ids end an answer and which tokens it
has. A GGUF file is looked at as the file that it is; nothing is converted. What a
file does not say is None here, for nothing is to be concluded from it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from vocabtrim.core.errors import CheckpointError
from vocabtrim.tensors.causal import prediction_layers, stored_matrices
from vocabtrim.tensors.checkpoint import Checkpoint
from vocabtrim.tensors.gguf_drafter import EMBEDDING, OUTPUT
from vocabtrim.tensors.gguf_file import is_gguf
from vocabtrim.tensors.gguf_header import Value
from vocabtrim.tensors.gguf_model import GgufModel, open_gguf
from vocabtrim.tensors.locate import locate
from vocabtrim.tensors.native_mtp import NativeMtp
from vocabtrim.tensors.tensor_info import TensorInfo
from vocabtrim.tensors.weight_files import read_json_object

GENERATION_CONFIG = "generation_config.json"

_GGUF_ENDS = ("eos", "eot", "eom")


@dataclass(frozen=True, eq=False)
class Verifier:
    """An opened target.

    Args:
        model: A directory, or a GGUF file.
    """

    model: Checkpoint | GgufModel

    @classmethod
    def open(cls, name: str) -> Verifier:
        """Open a target by what a user typed.

        Raises:
            CheckpointError: There is none, or it is damaged.
        """
        path = Path(name).expanduser()
        if path.is_file() and is_gguf(path):
            return cls(open_gguf(path))
        return cls(Checkpoint.open(locate(name)))

    @property
    def path(self) -> Path:
        """Where it is."""
        return self.model.path

    @property
    def gguf(self) -> GgufModel | None:
        """It, where it is a GGUF file."""
        return self.model if isinstance(self.model, GgufModel) else None

    @property
    def config(self) -> Mapping[str, Any]:
        """Its whole config; empty where it is a GGUF file."""
        return self.model.config if isinstance(self.model, Checkpoint) else {}

    @property
    def weights(self) -> Checkpoint:
        """What reads its tensors."""
        return self.model if isinstance(self.model, Checkpoint) else self.model.weights

    @cached_property
    def vocab_size(self) -> int | None:
        """V: rows of its embedding as its config says, or the tokens of a GGUF file."""
        if isinstance(self.model, GgufModel):
            return self.model.header.count("tokenizer.ggml.tokens")
        return positive(self.model.text_config.get("vocab_size"))

    @property
    def hidden_size(self) -> int | None:
        """H, the width of its features."""
        return self._size("hidden_size", "embedding_length")

    @property
    def depth(self) -> int | None:
        """Its layers, without those that predict further tokens."""
        layers = self._size("num_hidden_layers", "block_count")
        if layers is None or self.gguf is None:
            return layers
        return layers - (positive(self._value("nextn_predict_layers")) or 0)

    @property
    def kind(self) -> str:
        """What its makers call the sort of model that it is."""
        if isinstance(self.model, GgufModel):
            return self.model.architecture
        return str(self.model.text_config.get("model_type", ""))

    @property
    def tied(self) -> bool:
        """Whether it says that its head is its embedding."""
        return self.config.get("tie_word_embeddings") is True

    @cached_property
    def head(self) -> TensorInfo | None:
        """The matrix of its head, or the embedding that serves as one; None where packed."""
        if isinstance(self.model, GgufModel):
            names = [name for name in (OUTPUT, EMBEDDING) if name in self.model.tensors]
            found = self.model.tensors[names[0]] if names else None
            return found if found is None or len(found.shape) == 2 else None
        try:
            return stored_matrices(self.model).head
        except CheckpointError:
            return None

    @cached_property
    def predicts(self) -> NativeMtp | None:
        """The layers that predict further tokens, where it brings such."""
        return prediction_layers(self.model) if isinstance(self.model, Checkpoint) else None

    @cached_property
    def ends(self) -> frozenset[int]:
        """Ids that end a generation, by its configs or its metadata."""
        if isinstance(self.model, Checkpoint):
            return ends_of(self.model)
        return gguf_ends(self.model)

    def _size(self, key: str, gguf_key: str) -> int | None:
        if isinstance(self.model, Checkpoint):
            return positive(self.model.text_config.get(key))
        return positive(self._value(gguf_key))

    def _value(self, key: str) -> Value | None:
        return None if self.gguf is None else architecture_value(self.gguf, key)


def positive(value: Any) -> int | None:
    """Return a positive whole number; None of anything else."""
    return value if type(value) is int and value > 0 else None


def architecture_value(model: GgufModel, key: str) -> Value | None:
    """Return a value of the architecture's own metadata; None where there is no single one."""
    try:
        return model.header.value(f"{model.architecture}.{key}")
    except CheckpointError:
        return None


def gguf_ends(model: GgufModel) -> frozenset[int]:
    """Return the ids that end a generation, as a GGUF file states them."""
    values = []
    for name in _GGUF_ENDS:
        try:
            values.append(model.header.value(f"tokenizer.ggml.{name}_token_id"))
        except CheckpointError:
            continue
    return frozenset(one for one in values if type(one) is int and one >= 0)


def ends_of(checkpoint: Checkpoint) -> frozenset[int]:
    """Return the ids that end a generation, as the configs of a directory state them."""
    stated = [checkpoint.text_config.get("eos_token_id"), checkpoint.config.get("eos_token_id")]
    generation = checkpoint.path / GENERATION_CONFIG
    if generation.is_file():
        # of one that is damaged, `files.py` tells
        with contextlib.suppress(CheckpointError):
            stated.append(read_json_object(generation).get("eos_token_id"))
    found: set[int] = set()
    for one in stated:
        found |= {i for i in (one if isinstance(one, list) else [one]) if type(i) is int and i >= 0}
    return frozenset(found)
