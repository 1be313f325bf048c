"""A program that behaves as llama-server does, or fails as it is told to.

Run as a process of its own, by a wrapper that `installed` writes. What it is to do
stands in the variable `FAKE_ENGINE`, as JSON; without it, it serves well. Its
answers follow from the prompt and its times from the drafter's file name, so what
a measurement makes of them is known exactly. Standard library only.

Keys: `fail` ("refuse", "crash", "hang", "port", "memory", "gpu", "killed"), `fail_with`
(only a server whose drafter has this name fails), `room` (servers that may be up at
once; one more fails as "gpu", and `log` is needed to know), `dies_after` (answers),
`hangs_after` (answers), `stubborn` (ignores SIGTERM), `children` (also starts a
process that ignores SIGTERM, and one in a group of its own), `ms` (drafter's name,
"" for none, to milliseconds a token), `accepts` (the same to drafts accepted in
every cycle), `changes` (the same to words of prompts whose text comes out
otherwise), `metrics` ("none", "late", "rounded", "busy"), `answer_s` (real time of
an answer), `old` (knows no way to draft), `usage` (false leaves it out), `log` (a
file that gets the process ids).
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

HELP = """usage: llama-server
--model FNAME  --port N  --cache-ram N  --metrics
--spec-type none,{methods}
"""
METHODS = "draft-simple,draft-eagle3,draft-mtp,draft-dflash"
NAMES = {
    "tokens": "tokens_predicted_total",
    "drafts": "spec_decode_num_drafts_total",
    "drafted": "spec_decode_num_draft_tokens_total",
    "accepted": "spec_decode_num_accepted_tokens_total",
}
SLEEPER = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"


def installed(directory: Path) -> Path:
    """Write a program that runs this file; return it."""
    program = directory / "llama-server"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{__file__}" "$@"\n')
    program.chmod(0o755)
    return program


def tokens_of(text: str, limit: int) -> int:
    """How many tokens the answer to a prompt has."""
    return min(limit, 5 + zlib.crc32(text.encode()) % 20)


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


class State:
    """What one process is and has done."""

    def __init__(self, arguments: list[str], told: dict[str, Any]) -> None:
        self.told = told
        self.options = dict(pairwise(arguments))
        self.drafter = Path(self.options.get("-md", "")).name
        self.gamma = int(self.options.get("--spec-draft-n-max", 0))
        self.lock = threading.Lock()
        self.counts = dict.fromkeys(NAMES, 0)
        self.positions = [0] * self.gamma
        self.answers = 0
        self.readings = 0

    def of_drafter(self, key: str, default: Any) -> Any:
        return self.told.get(key, {}).get(self.drafter, default)

    def answer(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Return the answer to a request, counted."""
        text = json.dumps(asked.get("messages", asked.get("prompt")))
        tokens = tokens_of(text, asked["max_tokens"])
        accepted_each = min(self.of_drafter("accepts", 0), self.gamma)
        drafts = -(-(tokens - 1) // (1 + accepted_each)) if self.gamma else 0
        accepted = tokens - 1 - drafts if self.gamma else 0
        with self.lock:
            self.answers += 1
            self.counts["tokens"] += tokens
            self.counts["drafts"] += drafts
            self.counts["drafted"] += drafts * self.gamma
            self.counts["accepted"] += accepted
            left = accepted
            for position in range(accepted_each):
                taken = min(drafts, left)
                self.positions[position] += taken
                left -= taken
        changed = any(word in text for word in self.of_drafter("changes", []))
        random = Random(f"{text} {changed}")
        ids = [random.randrange(1000) for _ in range(tokens)]
        time.sleep(self.told.get("answer_s", 0.0))
        found = {
            "choices": [
                {
                    "index": 0,
                    "finish_reason": "stop",
                    "message": {"role": "assistant", "content": " ".join(map(str, ids))},
                }
            ],
            "usage": {"completion_tokens": tokens},
            "__verbose": {"tokens": ids},
            "timings": {"predicted_ms": (tokens - 1) * self.of_drafter("ms", 10.0)},
        }
        if self.told.get("usage") is False:
            del found["usage"], found["__verbose"]
        return found

    def metrics(self) -> str:
        """Return the counters as text."""
        kind = self.told.get("metrics")
        self.readings += 1
        counts = dict(self.counts)
        if kind == "late" and self.readings % 3 == 2:
            counts["tokens"] -= 1
        if kind == "rounded":
            counts = {key: value + 2_000_000 for key, value in counts.items()}
        if kind == "busy":
            counts["tokens"] += 7 * self.readings
        lines = ["# HELP llamacpp:x y"]
        lines += [f"llamacpp:{NAMES[key]} {value}" for key, value in counts.items()]
        lines += [
            f'llamacpp:spec_decode_num_accepted_tokens_per_pos_total{{position="{at}"}} {value}'
            for at, value in enumerate(self.positions)
        ]
        return "\n".join(lines) + "\n"


def handler_of(state: State) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/health":
                self.reply(200, {"status": "ok"})
            elif self.path == "/v1/models":
                model = {"id": state.options["--alias"], "owned_by": "llamacpp"}
                self.reply(200, {"data": [model]})
            elif self.path == "/metrics" and state.told.get("metrics") != "none":
                self.send(200, state.metrics().encode(), "text/plain")
            else:
                self.reply(404, {"error": {"message": "no such route"}})

        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if state.answers >= state.told.get("dies_after", 10**9):
                say("0.1 E srv: cannot go on")
                os._exit(3)
            if state.answers >= state.told.get("hangs_after", 10**9):
                time.sleep(600)
            if "REFUSED" in json.dumps(asked):
                self.reply(400, {"error": {"message": "the prompt is too long"}})
                return
            self.reply(200, state.answer(asked))

        def reply(self, status: int, document: dict[str, Any]) -> None:
            self.send(status, json.dumps(document).encode(), "application/json")

        def send(self, status: int, body: bytes, kind: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Say nothing of requests."""

    return Handler


def running(log: Path) -> int:
    """Return how many of the processes in a log there are still."""
    found = 0
    for line in log.read_text().split() if log.exists() else []:
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(line), 0)
            found += 1
    return found


def fail(how: str) -> None:
    """End, or not, as a server does that cannot serve."""
    said = {
        "refuse": "0.1 I srv: loading\n0.2 E llama_model_load: wrong shape of output.weight",
        "crash": "terminate called after throwing an instance",
        "port": "0.1 E srv start: couldn't bind HTTP server socket, hostname: 127.0.0.1",
        "memory": "0.1 E ggml_aligned_malloc: insufficient memory (attempted to allocate 9 MB)",
        "gpu": "0.1 E core: ValueError: Free memory on device cuda:0 (9.1/139.8 GiB) on startup is "
        "less than desired GPU memory utilization (0.92, 128.62 GiB).",
        "killed": "0.1 I srv: loading",
        "hang": "0.1 I srv: loading, and loading",
    }
    say(said[how])
    if how == "hang":
        time.sleep(600)
    if how == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "crash":
        os.abort()
    sys.exit(1)


def main(arguments: list[str]) -> None:
    """Be llama-server."""
    told = json.loads(os.environ.get("FAKE_ENGINE", "{}"))
    if arguments == ["--version"]:
        say("version: 4711 (a fake)")
        return
    if arguments == ["--help"]:
        say(HELP.format(methods="" if told.get("old") else METHODS))
        return
    pids = [os.getpid()]
    if told.get("stubborn"):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    else:
        signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    if told.get("children"):
        sleeper = [sys.executable, "-c", SLEEPER]
        pids += [subprocess.Popen(sleeper).pid, subprocess.Popen(sleeper, process_group=0).pid]
    crowded = "room" in told and running(Path(told["log"])) >= told["room"]
    if "log" in told:
        with Path(told["log"]).open("a") as stream:
            stream.write("".join(f"{pid}\n" for pid in pids))
        # what a server that is killed leaves behind
        Path(os.environ["TMPDIR"], f"left-{os.getpid()}").write_text("x")
    state = State(arguments, told)
    if "fail" in told and told.get("fail_with", state.drafter) == state.drafter:
        fail(told["fail"])
    if crowded:
        fail("gpu")
    say("0.1 I srv: up")
    address = state.options["--host"], int(state.options["--port"])
    ThreadingHTTPServer(address, handler_of(state)).serve_forever()


if __name__ == "__main__":
    main(sys.argv[1:])
