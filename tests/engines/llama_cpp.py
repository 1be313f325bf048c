"""llama.cpp's own programs, as tests use them: convert, quantise, serve.

They run from the cache that `make engines` fills; without it, a test is skipped
by name. Servers listen on this machine alone, on a port that was free.
"""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tools.engines import PARTS, llama_binary, llama_source, vllm_python

START_S = 120.0


def require(*parts: str) -> None:
    """Skip the test unless these parts of `make engines` are there."""
    for part in parts:
        if not PARTS[part].complete:
            pytest.skip(f"{part} is not there: run `make engines`")


def convert(directory: Path, path: Path, *, outtype: str, target: Path | None = None) -> Path:
    """Make a GGUF file with llama.cpp's converter.

    Args:
        directory: A checkpoint in the layout of transformers.
        path: The file to make.
        outtype: As the converter calls it: "f16", "q8_0".
        target: Directory of the target, for a drafter.
    """
    # The converter imports sentencepiece, which vLLM's environment has.
    command = [vllm_python(), llama_source() / "convert_hf_to_gguf.py", directory]
    command += ["--outtype", outtype, "--outfile", path]
    command += [] if target is None else ["--target-model-dir", target]
    _run(command)
    return path


def quantise(source: Path, path: Path, kind: str, *, importance: Path | None = None) -> Path:
    """Make a GGUF file whose matrices are all of one type, with llama-quantize."""
    matrix = [] if importance is None else ["--imatrix", importance]
    _run([llama_binary("llama-quantize"), *matrix, "--pure", source, path, kind, "2"])
    return path


@dataclass(frozen=True)
class Answer:
    """What a server said of a completion.

    Args:
        text: The completion.
        drafted: Draft tokens proposed.
        accepted: Draft tokens accepted.
    """

    text: str
    drafted: int
    accepted: int


@dataclass(frozen=True)
class Server:
    """A running llama-server."""

    url: str

    def complete(self, prompt: str, *, tokens: int) -> Answer:
        """Continue a prompt greedily."""
        question = {
            "prompt": prompt,
            "n_predict": tokens,
            "temperature": 0,
            "cache_prompt": False,
            "ignore_eos": True,
        }
        answer = _post(f"{self.url}/completion", question)
        timings = answer["timings"]
        drafted, accepted = timings.get("draft_n", 0), timings.get("draft_n_accepted", 0)
        return Answer(answer["content"], int(drafted), int(accepted))


@contextlib.contextmanager
def served(
    target: Path, drafter: Path | None, log: Path, *, kind: str = "eagle3", gamma: int = 3
) -> Iterator[Server]:
    """Run a server for a target, with a drafter or without."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command: list[Any] = [llama_binary("llama-server"), "-m", target, "--port", port]
    # One thread: those of ggml wait for one another busily, and crawl where others work.
    command += ["--host", "127.0.0.1", "-c", 512, "-np", 1, "-t", 1, "--no-webui"]
    if drafter is not None:
        command += ["-md", drafter, "--spec-type", f"draft-{kind}", "--spec-draft-n-max", gamma]
    with (
        log.open("wb") as stream,
        subprocess.Popen([str(part) for part in command], stdout=stream, stderr=stream) as process,
    ):
        try:
            _wait(process, f"http://127.0.0.1:{port}", log)
            yield Server(f"http://127.0.0.1:{port}")
        finally:
            process.kill()


def refuses(target: Path, drafter: Path, log: Path) -> str:
    """Start a server that is expected to stop by itself; return what it said."""
    with pytest.raises(AssertionError), served(target, drafter, log):
        pass
    return log.read_text(errors="replace")


def _wait(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    until = time.monotonic() + START_S
    while time.monotonic() < until:
        assert process.poll() is None, f"the server stopped: {log.read_text()[-2000:]}"
        with (
            contextlib.suppress(urllib.error.URLError, ConnectionError),
            urllib.request.urlopen(f"{url}/health", timeout=5) as answer,
        ):
            if answer.status == 200:
                return
        time.sleep(0.2)
    raise AssertionError(f"the server did not answer in {START_S} s: {log.read_text()[-2000:]}")


def _post(url: str, document: Mapping[str, Any]) -> dict[str, Any]:
    request = urllib.request.Request(
        url, json.dumps(document).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=600) as answer:
        found: dict[str, Any] = json.load(answer)
    return found


def _run(command: list[Any]) -> None:
    outcome = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, check=False
    )
    assert outcome.returncode == 0, outcome.stdout[-2000:] + outcome.stderr[-2000:]
