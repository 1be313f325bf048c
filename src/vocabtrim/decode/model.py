"""Opening a `transformers` causal LM, and what must hold before we decode with it.

Only models whose every layer keeps keys and values by position can be decoded
speculatively: rejected drafts are removed from the cache by position. A layer
that folds the past into a state (linear attention, state spaces), or that
compresses or chunks it, is refused by the name of its type.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from vocabtrim.core.errors import DecodeError, MissingExtra

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

POSITIONAL_LAYERS = frozenset({"full_attention", "sliding_attention"})
"""Layer types of `transformers` whose cache holds one entry a position."""


def load_model(directory: Path, dtype: str = "float32") -> Any:
    """Read a causal LM from a Hugging Face directory, ready for inference.

    Args:
        directory: `config.json`, safetensors and, for its EOS ids,
            `generation_config.json`.
        dtype: "float32", "bfloat16" or "float16".

    Raises:
        MissingExtra: `transformers` is not installed.
        DecodeError: It cannot be read, lacks a weight (which `transformers`
            would fill with random numbers), or `check_positional` refuses it.
    """
    try:
        library: Any = importlib.import_module("transformers")
    except ImportError as fault:
        raise MissingExtra("decoding needs torch and transformers", "torch") from fault
    if dtype not in DTYPES:
        raise DecodeError(f"dtype must be one of {', '.join(DTYPES)}, found {dtype!r}")
    try:
        with quietly(library.utils.logging):
            model, report = library.AutoModelForCausalLM.from_pretrained(
                directory, dtype=DTYPES[dtype], output_loading_info=True
            )
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as fault:
        reason = str(fault).strip().splitlines()[0]
        raise DecodeError(
            f"{directory}: transformers cannot load it as a causal LM ({reason})"
        ) from fault
    if report["missing_keys"]:
        raise DecodeError(
            f"{directory} is no complete causal LM: it has no {min(report['missing_keys'])}"
        )
    check_positional(model.config)
    return model.eval()


def check_positional(config: Any) -> None:
    """Refuse a model whose cache cannot be cropped by position.

    Args:
        config: A `transformers` configuration.

    Raises:
        DecodeError: A layer keeps no entry a position; its type is named.
    """
    from transformers.cache_utils import DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

    text = config.get_text_config(decoder=True)
    # chunked layers are cached like sliding ones, so only their name tells them apart
    for index, kind in enumerate(getattr(text, "layer_types", None) or []):
        if kind not in POSITIONAL_LAYERS:
            raise DecodeError(_refusal(text, index, kind))
    if getattr(text, "attention_chunk_size", None) is not None:
        raise DecodeError(_refusal(text, 0, "chunked_attention"))
    # exact types: a hybrid layer is a DynamicLayer too, and has a state besides
    for index, layer in enumerate(DynamicCache(config=text).layers):
        if type(layer) not in (DynamicLayer, DynamicSlidingWindowLayer):
            raise DecodeError(_refusal(text, index, type(layer).__name__))


def eos_ids(model: Any) -> tuple[int, ...]:
    """Return the ids that end a generation, ascending, as `generate` reads them."""
    for source in (model.generation_config, model.config.get_text_config(decoder=True)):
        found = source.eos_token_id
        if found is not None:
            return tuple(sorted({int(i) for i in ([found] if isinstance(found, int) else found)}))
    return ()


def context_length(model: Any) -> int | None:
    """Return the positions that the model knows, or None where it names none."""
    found = getattr(model.config.get_text_config(decoder=True), "max_position_embeddings", None)
    return None if found is None else int(found)


def _refusal(config: Any, index: int, kind: str) -> str:
    return (
        f"{config.model_type}: layer {index} is of type {kind}, whose cache cannot be cropped "
        "by position, so rejected drafts could not be removed; use a model with full or "
        "sliding attention only"
    )


@contextlib.contextmanager
def quietly(logging: Any) -> Iterator[None]:
    """Load without the progress bar of `transformers`, which fills stderr."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
