"""llama.cpp as a server: `llama-server`, GGUF files.

How it drafts is named on the command line (`--spec-type`), once for a server:
per-request lengths are switched off in its source. Answers state the time of
decoding (`timings`), `/metrics` the drafts; totals there are printed with six
digits. Prompts are not cached, so that every arm reads each prompt anew.

`top_k` of 1 is its cheapest greedy sampling: with the default chain it would sort
part of V for every token.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from vocabtrim.engines.base import Container
from vocabtrim.engines.serving.base import HOST, EngineError, Program, Serve, refuse_ours
from vocabtrim.engines.serving.counters import CounterNames

PROGRAM = "llama-server"
ASKED_S = 60.0

METHODS: Mapping[str, str] = MappingProxyType(
    {
        "eagle3": "draft-eagle3",
        "dflash": "draft-dflash",
        "mtp": "draft-mtp",
        "independent": "draft-simple",
    }
)
COUNTERS = CounterNames(
    tokens="llamacpp:tokens_predicted_total",
    drafts="llamacpp:spec_decode_num_drafts_total",
    drafted="llamacpp:spec_decode_num_draft_tokens_total",
    accepted="llamacpp:spec_decode_num_accepted_tokens_total",
    by_position="llamacpp:spec_decode_num_accepted_tokens_per_pos_total",
    exact_below=1e6,
)
FIELDS: Mapping[str, Any] = MappingProxyType(
    {"top_k": 1, "cache_prompt": False, "return_tokens": True, "verbose": True}
)

_OPTION = re.compile(r"(?<![\w-])(--?[a-z][\w-]*)")
_METHOD = re.compile(r"draft-[a-z0-9]+")
_VERSION = re.compile(r"version: (.+)")


@dataclass(frozen=True)
class LlamaServer:
    """llama-server."""

    name: str = "llama.cpp"
    kind: str = "llamacpp"
    container: Container = Container.GGUF
    methods: Mapping[str, str] = field(default_factory=lambda: METHODS)
    counters: CounterNames = COUNTERS
    fields: Mapping[str, Any] = field(default_factory=lambda: FIELDS)
    ours: frozenset[str] = frozenset(
        {
            *("-m", "--model", "-md", "--model-draft", "--spec-draft-model"),
            *("--spec-type", "--spec-draft-n-max", "--host", "--port", "-a", "--alias"),
            *("-np", "--parallel"),
        }
    )
    telling: re.Pattern[str] = re.compile(r"^\S+ E |^error|GGML_ASSERT|terminate called|what\(\)")

    def find(self, server_bin: Path | None, methods: Sequence[str]) -> Program:
        """Find `llama-server` and see that it can draft so.

        Raises:
            EngineError: There is none, it does not run, or it is too old.
        """
        path = str(server_bin) if server_bin is not None else shutil.which(PROGRAM)
        if path is None:
            raise EngineError(
                f"{PROGRAM} is not on the PATH: install llama.cpp, or name the program with "
                "--server-bin"
            )
        version = _said(path, "--version")
        found = _VERSION.search(version)
        known = _said(path, "--help")
        if found is None or "--model" not in known:
            raise EngineError(f"{path} is no {PROGRAM}: it answers neither --version nor --help")
        for method in methods:
            if method not in _METHOD.findall(known):
                raise EngineError(
                    f"{path} (version {found[1]}) is too old to draft by {method}; llama.cpp "
                    "11434 can"
                )
        return Program((path,), found[1].strip(), frozenset(_OPTION.findall(known)))

    def command(self, program: Program, serve: Serve, *, port: int, alias: str) -> list[str]:
        """Return the command line of a server.

        Raises:
            EngineError: An argument of the user is one of ours.
        """
        refuse_ours(self, serve.arguments)
        words = [*program.words, "-m", str(serve.target), "--host", HOST, "--port", str(port)]
        words += ["--alias", alias, "-np", str(serve.slots), "--metrics"]
        words += ["-c", str(serve.context * serve.slots)]
        if serve.drafter is not None:
            words += ["-md", str(serve.drafter), "--spec-type", serve.method]
            words += ["--spec-draft-n-max", str(serve.gamma)]
        if program.options is not None and "--cache-ram" in program.options:
            # states of earlier prompts are of no use here
            words += ["--cache-ram", "0"]
        return [*words, *serve.arguments]

    def decode_seconds(self, document: Mapping[str, Any]) -> float | None:
        """Return `predicted_ms`: from the first token, which prefill gives, to the last."""
        timings = document.get("timings")
        spent = timings.get("predicted_ms") if isinstance(timings, dict) else None
        return spent / 1000.0 if isinstance(spent, int | float) and spent > 0 else None


def _said(path: str, option: str) -> str:
    try:
        done = subprocess.run(
            [path, option], capture_output=True, text=True, check=False, timeout=ASKED_S
        )
    except OSError as fault:
        raise EngineError(f"{path} cannot be run ({fault.strerror})") from fault
    except subprocess.TimeoutExpired as fault:
        raise EngineError(f"{path} {option} did not end within {ASKED_S:g} s") from fault
    return done.stdout + done.stderr


PLUGIN = LlamaServer()
