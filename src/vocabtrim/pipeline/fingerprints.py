"""Which tokenizer a model has, wherever it keeps it.

A directory has a `tokenizer.json`, read in `tokens/`; a GGUF file has the list of
its tokens among its metadata, read in `tensors/`. Both give the same fingerprint
where id by id they spell the same tokens. The layers below know one of the two
each; here they meet.
"""

from __future__ import annotations

from pathlib import Path

from vocabtrim.tensors.checkpoint import Checkpoint
from vocabtrim.tensors.gguf_file import is_gguf
from vocabtrim.tensors.gguf_model import GgufModel, open_gguf
from vocabtrim.tokens.tokenizer import fingerprint_of, fingerprint_tokens


def fingerprint_at(path: Path) -> str | None:
    """Return the fingerprint of the tokenizer at `path`, None where there is none.

    Args:
        path: A directory, a `tokenizer.json`, or a GGUF file.

    Raises:
        TokenizerError: There is a `tokenizer.json`, but it is damaged.
        CheckpointError: It is a GGUF file, but a damaged one.
    """
    if path.is_file() and is_gguf(path):
        return fingerprint_in(open_gguf(path))
    return fingerprint_of(path)


def fingerprint_in(model: GgufModel | Checkpoint) -> str | None:
    """Return the fingerprint of the tokenizer of an opened model, as `fingerprint_at` does."""
    if isinstance(model, Checkpoint):
        return fingerprint_of(model.path)
    tokens = model.tokens()
    return fingerprint_tokens(tokens) if tokens else None
