"""A model in one GGUF file, or in the parts into which llama.cpp splits one.

Its tensors are those of all parts; what it says of itself stands in the first.
Opened, it is a `Checkpoint` whose dtypes are ggml's, so rows, chunks and
packings work on it as on any other. A part that is missing, or that belongs to
another file, is named: llama.cpp's names and counters (`split.no`,
`split.count`, `split.tensors.count`) are all compared.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from vocabtrim.core.errors import CheckpointError
from vocabtrim.tensors.checkpoint import Checkpoint
from vocabtrim.tensors.gguf_header import GgufHeader, read_header
from vocabtrim.tensors.tensor_info import TensorInfo

SPLIT_NUMBER, SPLIT_COUNT, SPLIT_TENSORS = "split.no", "split.count", "split.tensors.count"
SPLIT_KEYS = frozenset({SPLIT_NUMBER, SPLIT_COUNT, SPLIT_TENSORS})

_UNUSED = 5
"""llama.cpp's type of a token that stands for nothing."""

_PART = re.compile(r"(?P<stem>.*)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf")


@dataclass(frozen=True, eq=False)
class GgufModel:
    """An opened model.

    Args:
        header: Metadata of the first file.
        weights: The tensors of all files, in their order; `config` is empty.
        files: The files, in order.
    """

    header: GgufHeader
    weights: Checkpoint
    files: tuple[Path, ...]

    @property
    def path(self) -> Path:
        """The file that was named."""
        return self.header.path

    @property
    def tensors(self) -> Mapping[str, TensorInfo]:
        """Every tensor by name, in the order of the files."""
        return self.weights.tensors

    @property
    def architecture(self) -> str:
        """What llama.cpp calls the kind of model, as in "eagle3".

        Raises:
            CheckpointError: The file does not say.
        """
        return self.header.text("general.architecture")

    def integer(self, key: str) -> int:
        """Return a positive integer of the architecture's own metadata.

        Args:
            key: Without the architecture in front: "embedding_length".

        Raises:
            CheckpointError: It is missing, or no positive integer.
        """
        value = self.header.value(f"{self.architecture}.{key}")
        if type(value) is not int or value <= 0:
            raise CheckpointError(
                f"{self.architecture}.{key} must be a positive integer, found {value!r}",
                path=self.path,
            )
        return value

    @property
    def vocab_size(self) -> int:
        """V: tokens in its tokenizer, by which llama.cpp sizes logits.

        Raises:
            CheckpointError: It has no tokenizer.
        """
        tokens = self.header.count("tokenizer.ggml.tokens")
        if not tokens:
            raise CheckpointError("it has no tokenizer.ggml.tokens", path=self.path)
        return tokens

    def tokens(self) -> list[str | None]:
        """Return the id-to-token list, [V]; None for ids that stand for nothing.

        Raises:
            CheckpointError: The tokenizer's arrays do not fit together.
        """
        texts = self.header.texts("tokenizer.ggml.tokens")
        kinds = self.header.numbers("tokenizer.ggml.token_type") or [0] * len(texts)
        if len(kinds) != len(texts):
            raise CheckpointError(
                f"it has {len(texts)} tokens, but {len(kinds)} types of tokens", path=self.path
            )
        return [
            # llama.cpp's converter fills holes so, and pads V to the model's.
            None if kind == _UNUSED and text == f"[PAD{position}]" else text
            for position, (text, kind) in enumerate(zip(texts, kinds, strict=True))
        ]


def open_gguf(path: Path) -> GgufModel:
    """Open a model by its only file, or by the first of its parts.

    Raises:
        CheckpointError: The file is damaged, or a part is missing, damaged, or
            of another model.
    """
    first = read_header(path)
    headers = [first, *(read_header(part) for part in _further_parts(first))]
    tensors: dict[str, TensorInfo] = {}
    for number, header in enumerate(headers):
        if len(headers) > 1 and header.value(SPLIT_NUMBER) != number:
            raise CheckpointError(
                f"it says that it is part {header.value(SPLIT_NUMBER)} counted from 0, "
                f"but its name says {number}",
                path=header.path,
            )
        for name, info in header.tensors.items():
            if name in tensors:
                raise CheckpointError(
                    f"{name} is also in {tensors[name].file.name}", path=info.file
                )
            tensors[name] = info
    stated = first.value(SPLIT_TENSORS)
    if len(headers) > 1 and stated != len(tensors):
        raise CheckpointError(
            f"its {len(headers)} parts hold {len(tensors)} tensors, but it promises {stated}",
            path=path,
        )
    weights = Checkpoint(path, MappingProxyType({}), MappingProxyType(tensors))
    return GgufModel(first, weights, tuple(header.path for header in headers))


def _further_parts(first: GgufHeader) -> list[Path]:
    count = first.value(SPLIT_COUNT)
    if not isinstance(count, int) or count < 2:
        return []
    named = _PART.fullmatch(first.path.name)
    if named is None or int(named["count"]) != count:
        raise CheckpointError(
            f"it is one of {count} parts, so its name must end in -00001-of-{count:05}.gguf",
            path=first.path,
        )
    if int(named["number"]) != 1:
        start = f"{named['stem']}-00001-of-{count:05}.gguf"
        raise CheckpointError(f"it is a later part; give the first, {start}", path=first.path)
    parts = [
        first.path.with_name(f"{named['stem']}-{number:05}-of-{count:05}.gguf")
        for number in range(2, count + 1)
    ]
    for part in parts:
        if not part.is_file():
            raise CheckpointError(f"the part {part.name} is not beside it", path=first.path)
    return parts
