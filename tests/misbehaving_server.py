"""A server that speaks the OpenAI protocol, and fails as it is told to.

What it does with a prompt is decided by a script from the prompt's text and how
often it was asked before, so a run can be repeated exactly. Its answers are
words of the tiny tokenizer, which follow from the prompt (and the seed, where
one is sent), with their ids in the form of the server that it says it is.
"""

from __future__ import annotations

import json
import socket
import threading
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from random import Random
from typing import Any

WORDS = ("red", "green", "blue", "one", "two", "three")
FIRST_WORD, EOS = 6, 2
"""Where these words and the EOS are in the tokenizer of `tests.tiny_models`."""

Script = Callable[[str, int], str]
"""From a prompt's text and the number of earlier requests for it to an action."""

PASSING = (
    "status 500",
    "status 503",
    "busy",
    "hang",
    "drip",
    "drop",
    "reset",
    "cut",
    "cut chunk",
    "half json",
    "no json",
    "schema",
    "error",
    "huge",
    "aborted",
)
"""Actions that another try may get over."""


def always(action: str) -> Script:
    return lambda _text, _asked: action


def seeded(seed: int, *, good: float) -> Script:
    """Answer well with probability `good`, else fail in a way drawn from all."""

    def script(text: str, asked: int) -> str:
        random = Random(f"{seed} {text} {asked}")
        return "answer" if random.random() < good else random.choice(PASSING)

    return script


def answer_ids(text: str, seed: int | None) -> list[int]:
    """What the model emits for a prompt: one to six words and an EOS."""
    random = Random(zlib.crc32(f"{text} {seed}".encode()))
    return [FIRST_WORD + random.randrange(6) for _ in range(random.randint(1, 6))] + [EOS]


class MisbehavingServer(ThreadingHTTPServer):
    """What runs behind the URL.

    Attributes:
        script: What it does with each request.
        kind: What it says it is: "vllm", "sglang", "llamacpp" or another name.
        model: Its model, the only one.
        delay_s: Before each answer.
        refuses: Fields with which it refuses a request.
        requests: The documents posted to it, in order.
        headers_seen: The headers of those.
        asked: Posts by text of the prompt.
        busiest: Most requests that it had at once.
    """

    daemon_threads = True
    # more than the default of 5, or a burst of connections waits for a second
    request_queue_size = 64

    def __init__(self, script: Script, kind: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.script, self.kind, self.model = script, kind, "tiny"
        self.delay_s = 0.0
        self.refuses: frozenset[str] = frozenset()
        self.requests: list[dict[str, Any]] = []
        self.headers_seen: list[dict[str, str]] = []
        self.asked: Counter[str] = Counter()
        self.busy = self.busiest = 0
        self.lock = threading.Lock()
        self.released = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that leave are expected here."""


def well(_text: str, _asked: int) -> str:
    return "answer"


@contextmanager
def serving(script: Script = well, kind: str = "vllm") -> Iterator[MisbehavingServer]:
    server = MisbehavingServer(script, kind)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.released.set()
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: MisbehavingServer

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        models = [{"id": self.server.model, "object": "model", "owned_by": self.server.kind}]
        action = self.server.script("models", 0) if self.path == "/v1/models" else "status 404"
        if action.startswith("status 40"):
            self._send(int(action.removeprefix("status ")), {"error": {"message": "no"}})
        else:
            self._send(200, {"object": "list", "data": models})

    def do_POST(self) -> None:
        document = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        chat = self.path == "/v1/chat/completions"
        text = document["messages"][-1]["content"] if chat else document["prompt"]
        server = self.server
        with server.lock:
            asked = server.asked[text]
            server.asked[text] += 1
            server.requests.append(document)
            server.headers_seen.append(dict(self.headers))
            server.busy += 1
            server.busiest = max(server.busiest, server.busy)
        time.sleep(server.delay_s)
        # before the answer goes out: behind it the next request may come at once
        with server.lock:
            server.busy -= 1
        refused = server.refuses & document.keys()
        if refused:
            self._send(400, {"error": {"message": f"unknown field {min(refused)}"}})
        else:
            self._act(server.script(text, asked), self._answer(document, text, chat=chat))

    def _answer(self, document: dict[str, Any], text: str, *, chat: bool) -> dict[str, Any]:
        ids = answer_ids(text, document.get("seed"))
        content = " ".join(WORDS[one - FIRST_WORD] for one in ids[:-1])
        choice: dict[str, Any] = {"index": 0, "finish_reason": "stop"}
        choice |= (
            {"message": {"role": "assistant", "content": content}} if chat else {"text": content}
        )
        answer: dict[str, Any] = {"object": "chat.completion", "choices": [choice]}
        if self.server.kind == "vllm" and document.get("return_token_ids"):
            choice["token_ids"] = ids
        if self.server.kind == "sglang" and document.get("return_token_ids"):
            choice["response_token_ids"] = ids
        if self.server.kind == "llamacpp" and document.get("verbose"):
            tokens = ids if document.get("return_tokens") else []
            answer["__verbose"] = {"content": content, "tokens": tokens}
        return answer

    def _act(self, action: str, answer: dict[str, Any]) -> None:
        good = json.dumps(answer).encode()
        if action == "answer":
            self._send(200, answer)
        elif action.startswith("status "):
            self._send(int(action.removeprefix("status ")), {"error": {"message": "out of order"}})
        elif action.startswith("busy"):
            wait = action.removeprefix("busy").strip() or "0"
            self._send(429, {"error": {"message": "too many"}}, {"Retry-After": wait})
        elif action == "hang":
            self.server.released.wait(60)
        elif action == "drip":
            self._drip(good)
        elif action == "drop":
            self.close_connection = True
        elif action == "reset":
            linger = (1).to_bytes(4, "little") + (0).to_bytes(4, "little")
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.close_connection = True
        elif action == "cut":
            self._raw(good[: len(good) // 2], length=len(good))
        elif action == "cut chunk":
            self._head({"Transfer-Encoding": "chunked"})
            self.wfile.write(f"{len(good):x}\r\n".encode() + good[: len(good) // 2])
        elif action == "huge":
            self._raw(good + b" " * (1 << 20), length=len(good) + (1 << 20))
        else:
            wrong = {
                "half json": good[: len(good) // 2],
                "no json": b"<html>Bad gateway</html>",
                "schema": b'{"choices": [{"message": {"role": "assistant"}}]}',
                "error": b'{"error": {"message": "the engine is dead"}}',
                "aborted": good.replace(b'"stop"', b'"abort"'),
                "deep": b"[" * 100_000,
            }[action]
            self._raw(wrong, length=len(wrong))

    def _drip(self, good: bytes) -> None:
        """Send a byte at a time, each well within a timeout of its own, and never all."""
        self._head({"Content-Length": str(len(good))})
        for one in good:
            if self.server.released.wait(0.05):
                return
            self.wfile.write(bytes([one]))

    def _send(
        self, status: int, document: dict[str, Any], headers: dict[str, str] | None = None
    ) -> None:
        body = json.dumps(document).encode()
        self._head({"Content-Length": str(len(body)), **(headers or {})}, status)
        self.wfile.write(body)

    def _raw(self, body: bytes, *, length: int) -> None:
        self._head({"Content-Length": str(length)})
        self.wfile.write(body)

    def _head(self, headers: dict[str, str], status: int = 200) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
