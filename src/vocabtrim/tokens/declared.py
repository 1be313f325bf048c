"""What the files beside a tokenizer declare: special tokens, EOS ids, chat template.

`tokenizer.json` says how text becomes ids; which of them end a generation and
how a conversation is written is spread over up to six other files. This module
reads those that are there and leaves the rest empty: a bare `tokenizer.json` is
a tokenizer too. It does not load the tokenizer, so ids are taken on trust here
and checked in `tokenizer.py`. Where a template stands follows transformers
(`PreTrainedTokenizerBase.from_pretrained`, 5.x).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vocabtrim.core.errors import TokenizerError


@dataclass(frozen=True)
class Declared:
    """Facts from the files beside a `tokenizer.json`.

    Args:
        special_tokens: Name to text, as in `eos_token`: the template's variables.
        eos_ids: File name to the ids that it says end a generation.
        added_tokens: Id to the fields of an added token.
        chat_template: Jinja source, or None.
    """

    special_tokens: Mapping[str, str] = field(default_factory=dict)
    eos_ids: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    added_tokens: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)
    chat_template: str | None = None


def read_declared(directory: Path) -> Declared:
    """Read every file that is there.

    Raises:
        TokenizerError: One of them is not what its name says.
    """
    config = _json(directory / "tokenizer_config.json")
    special_tokens = {**_texts(_json(directory / "special_tokens_map.json")), **_texts(config)}
    eos_ids = {}
    for name in ("generation_config.json", "config.json"):
        document = _json(directory / name)
        eos_ids[name] = _ids(document) or _ids(document.get("text_config"))
    return Declared(
        special_tokens=special_tokens,
        eos_ids={name: ids for name, ids in eos_ids.items() if ids},
        added_tokens=_added_tokens(config, directory / "tokenizer_config.json"),
        chat_template=_chat_template(directory, config),
    )


def _json(path: Path) -> dict[str, Any]:
    """Return the object in `path`, or an empty one where there is no file."""
    if not path.is_file():
        return {}
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as fault:
        raise TokenizerError(f"{path} cannot be read as JSON ({fault})") from fault
    if not isinstance(document, dict):
        raise TokenizerError(f"{path} must hold a JSON object, found {type(document).__name__}")
    return document


def _texts(config: Mapping[str, Any]) -> dict[str, str]:
    """Return every `*_token`, given as text or as the fields of an added token."""
    found = {}
    for name, value in config.items():
        text = value.get("content") if isinstance(value, dict) else value
        if name.endswith("_token") and isinstance(text, str):
            found[name] = text
    return found


def _ids(document: Any) -> tuple[int, ...]:
    """Return `eos_token_id`, one id or a list, as a tuple."""
    value = document.get("eos_token_id") if isinstance(document, dict) else None
    listed = value if isinstance(value, list) else [value]
    return tuple(one for one in listed if isinstance(one, int) and not isinstance(one, bool))


def _added_tokens(config: Mapping[str, Any], path: Path) -> dict[int, Mapping[str, Any]]:
    decoder = config.get("added_tokens_decoder") or {}
    try:
        tokens: dict[int, Mapping[str, Any]] = {
            int(key): dict(value) for key, value in decoder.items()
        }
        if not all(isinstance(token["content"], str) for token in tokens.values()):
            raise TypeError("a content is no text")
    except (AttributeError, KeyError, TypeError, ValueError) as fault:
        raise TokenizerError(f"{path}: its added_tokens_decoder is damaged ({fault})") from fault
    return tokens


def _chat_template(directory: Path, config: Mapping[str, Any]) -> str | None:
    standalone = directory / "chat_template.jinja"
    if standalone.is_file():
        try:
            return standalone.read_text(encoding="utf-8")
        except (OSError, ValueError) as fault:
            raise TokenizerError(f"{standalone} cannot be read ({fault})") from fault
    for document in (config, _json(directory / "chat_template.json")):
        template = document.get("chat_template")
        if isinstance(template, list):
            # several named templates, of which `default` is the one for chats
            named = {
                one.get("name"): one.get("template") for one in template if isinstance(one, dict)
            }
            template = named.get("default", next(iter(named.values()), None))
        if isinstance(template, str):
            return template
    return None
