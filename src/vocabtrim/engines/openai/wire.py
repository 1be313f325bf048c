"""What is sent to an OpenAI-compatible server, and what its answers mean.

The protocol has no token ids; servers add them in ways of their own, and each
says in its list of models (`owned_by`) what it is:

- vLLM and SGLang: `return_token_ids`. The ids of the completion come back with
  each choice, as `token_ids`; in SGLang's chat route since August 2026 as
  `response_token_ids` (sglang pull requests 30917 and 35225).
- llama-server: `return_tokens` fills the list `tokens` of its native answer,
  which `verbose` adds to the OpenAI one under `__verbose`.

In all three a final EOS is among the ids. A server that does not say what it is
gets all of these fields, and none where it refuses them (`asking.py`).

The same goes for sampling: a server fills what a request leaves out from the
model's own defaults (vLLM reads `generation_config.json`; llama-server cuts at
top-k 40 and min-p 0.05), so all that shapes the distribution is sent, off where
it was not asked for.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vocabtrim.core.errors import ServerError

_VLLM = {"return_token_ids": True, "min_p": 0.0, "repetition_penalty": 1.0}
_LLAMA = {"return_tokens": True, "verbose": True, "min_p": 0.0, "repeat_penalty": 1.0}

EXTENSIONS: Mapping[str | None, Mapping[str, Any]] = {
    "vllm": _VLLM | {"top_k": -1},
    "sglang": _VLLM | {"top_k": -1},
    "llamacpp": _LLAMA | {"top_k": 0},
    None: _VLLM | _LLAMA | {"top_k": -1},
}
"""Fields beyond the protocol, by what a server says it is; None where it does not."""

EXACT_NAMES = frozenset({"vllm"})
"""Servers that know models by the names that they list and by no others."""

UNFINISHED_REASONS = ("abort", "error")
"""Reasons to finish that are no ends of a text: the server gave up."""

SEED_BITS = 31
"""llama-server reads a seed into 32 bits, and takes -1 as a random one."""


class MalformedAnswer(Exception):
    """An answer is not what the protocol says; the text says in what."""


@dataclass(frozen=True)
class Asking:
    """How every prompt is asked.

    Args:
        model: As the server calls it.
        max_new_tokens: Per answer, at least 1.
        temperature: 0 is greedy.
        top_k: Ids kept before the nucleus; None keeps all.
        top_p: Mass of the nucleus, in (0, 1]; None keeps all.
        seed: Root of the seeds that are sent.
        raw: Send the text of a prompt as it is, without the chat template.

    Raises:
        ServerError: An option is out of range.
    """

    model: str
    max_new_tokens: int
    temperature: float = 0.0
    top_k: int | None = None
    top_p: float | None = None
    seed: int = 0
    raw: bool = False

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1:
            raise ServerError(f"max_new_tokens must be at least 1, found {self.max_new_tokens}")
        if not 0.0 <= self.temperature < float("inf"):
            raise ServerError(f"temperature must be 0 or more, found {self.temperature}")
        if self.top_k is not None and self.top_k < 1:
            raise ServerError(f"top_k must be at least 1, found {self.top_k}")
        if self.top_p is not None and not 0.0 < self.top_p <= 1.0:
            raise ServerError(f"top_p must lie in (0, 1], found {self.top_p}")

    @property
    def greedy(self) -> bool:
        """Whether the most likely id is always taken."""
        return self.temperature == 0.0

    @property
    def path(self) -> str:
        """Where prompts are sent, below the base URL."""
        return "/completions" if self.raw else "/chat/completions"

    def document(
        self, key: str, messages: Sequence[Mapping[str, Any]], extension: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Return the request for one prompt.

        Args:
            key: Its id: names its seed.
            messages: In the OpenAI form; where raw, one with the text.
            extension: Fields beyond the protocol, one of `EXTENSIONS` or none.
        """
        asked: dict[str, Any] = {
            "model": self.model,
            "max_tokens": self.max_new_tokens,
            "temperature": self.temperature,
            "stream": False,
            **extension,
        }
        if self.raw:
            asked["prompt"] = messages[0]["content"]
        else:
            asked["messages"] = list(messages)
        if not self.greedy:
            asked["top_p"] = 1.0 if self.top_p is None else self.top_p
            asked["seed"] = hashed(SEED_BITS, self.seed, key)
        if self.top_k is not None:
            asked["top_k"] = self.top_k
        return asked


@dataclass(frozen=True)
class Text:
    """What a server wrote.

    Args:
        content: The text, special tokens left out.
        reasoning: What it took out of the text as reasoning, or None.
        token_ids: All ids emitted, a final EOS included; None where it does not
            give them.
        finish_reason: "stop", "length", or what else it says.
    """

    content: str
    reasoning: str | None
    token_ids: tuple[int, ...] | None
    finish_reason: str


def read_text(body: bytes) -> Text:
    """Read the answer to a request of `Asking.document`.

    Raises:
        MalformedAnswer: It is no JSON or has no text where it should be.
    """
    document = _json(body)
    choice = _member(_member(document, "choices", list), 0, dict, of="choices")
    finish = _member(choice, "finish_reason", str)
    if finish in UNFINISHED_REASONS:
        raise MalformedAnswer(f"the server ended the answer with {finish!r}")
    ids = _token_ids(choice, document)
    if "message" in choice:
        message = _member(choice, "message", dict)
        reasoning = message.get("reasoning_content") or message.get("reasoning")
        content = message.get("content")
    else:
        reasoning, content = None, choice.get("text")
    told = isinstance(reasoning, str)
    if content is None and (told or ids is not None):
        content = ""
    if not isinstance(content, str):
        raise MalformedAnswer("the answer has no text")
    return Text(_whole(content), _whole(reasoning) if told else None, ids, finish)


def read_models(body: bytes) -> dict[str, str | None]:
    """Return the models that a server lists, each with who it says owns it.

    Raises:
        MalformedAnswer: It is no such list.
    """
    listed = _member(_json(body), "data", list)
    return {
        _member(entry, "id", str): entry.get("owned_by")
        for entry in listed
        if isinstance(entry, dict)
    }


def read_complaint(body: bytes) -> str:
    """Return what a server says is wrong, as one short line; "" for nothing."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return ""
    while isinstance(document, dict):
        names = (name for name in ("error", "message", "detail") if document.get(name))
        document = document.get(next(names, ""))
    text = document if isinstance(document, str) else ""
    # whatever a server sends goes to a terminal
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= 200 else line[:199] + "…"


def hashed(bits: int, *parts: object) -> int:
    """Return a number of `bits` bits, at most 64, that belongs to `parts`."""
    text = "\0".join(str(part) for part in parts)
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> (64 - bits)


def _token_ids(choice: Mapping[str, Any], document: Mapping[str, Any]) -> tuple[int, ...] | None:
    verbose = document.get("__verbose")
    found = (
        choice.get("token_ids"),
        choice.get("response_token_ids"),
        verbose.get("tokens") if isinstance(verbose, dict) else None,
    )
    listed = next((one for one in found if one), None)
    if not isinstance(listed, list) or not all(type(one) is int and one >= 0 for one in listed):
        return None
    return tuple(listed)


def _json(body: bytes) -> dict[str, Any]:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as fault:
        raise MalformedAnswer("the answer is not JSON") from fault
    if not isinstance(document, dict):
        raise MalformedAnswer("the answer is no JSON object")
    if document.get("error"):
        raise MalformedAnswer(f"the answer is an error ({read_complaint(body)})")
    return document


def _member(container: Any, name: Any, kind: type, *, of: str = "answer") -> Any:
    """Return a member of an object or list, which has to be of a type."""
    try:
        found = container[name]
    except (KeyError, IndexError, TypeError):
        found = None
    if not isinstance(found, kind):
        raise MalformedAnswer(f"the {of} has no {name!r} as it should be")
    return found


def _whole(text: str) -> str:
    """Replace halves of characters, which JSON can spell and UTF-8 cannot."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
