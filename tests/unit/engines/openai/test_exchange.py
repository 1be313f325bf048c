"""One exchange with a server that does everything wrong that a server can do."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.misbehaving_server import always, serving
from vocabtrim.core.errors import ServerError
from vocabtrim.engines.openai import exchange
from vocabtrim.engines.openai.exchange import Endpoint, ExchangeError

QUESTION = {"model": "tiny", "messages": [{"role": "user", "content": "red"}]}


@contextmanager
def saying(raw: bytes) -> Iterator[Endpoint]:
    """A socket that answers any request with these bytes and leaves."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(1 << 16)
                connection.sendall(raw)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield Endpoint.parse(f"http://127.0.0.1:{listening.getsockname()[1]}")
        thread.join(5)


def test_a_whole_answer_comes_back() -> None:
    with serving() as server:
        reply = Endpoint.parse(server.url).send("/chat/completions", QUESTION, timeout_s=5)
        assert reply.status == 200
        assert reply.headers["content-length"] == str(len(reply.body))
        assert server.requests == [QUESTION]
        assert Endpoint.parse(server.url).send("/models", timeout_s=5).body.startswith(b'{"object"')


def test_the_key_is_sent_and_not_shown() -> None:
    with serving() as server:
        endpoint = Endpoint.parse(server.url + "/", "sk-secret")
        endpoint.send("/chat/completions", QUESTION, timeout_s=5)
        assert server.headers_seen[0]["Authorization"] == "Bearer sk-secret"
        assert "secret" not in repr(endpoint) + endpoint.url
        Endpoint.parse(server.url).send("/chat/completions", QUESTION, timeout_s=5)
        assert "Authorization" not in server.headers_seen[1]


@pytest.mark.parametrize(
    ("action", "reason"),
    [
        ("hang", r"no whole answer within 0\.4 s"),
        ("drip", r"no whole answer within 0\.4 s"),
        ("drop", "connection was dropped"),
        ("reset", "connection was dropped"),
        ("cut", r"broke off after \d+ of \d+ bytes"),
        ("cut chunk", "broke off"),
    ],
)
def test_no_whole_answer_is_an_error_in_time(action: str, reason: str) -> None:
    with serving(always(action)) as server:
        began = time.monotonic()
        with pytest.raises(ExchangeError, match=reason) as caught:
            Endpoint.parse(server.url).send("/chat/completions", QUESTION, timeout_s=0.4)
        assert caught.value.connected
        # a byte every 0.05 s would take 8 s
        assert time.monotonic() - began < 3


def test_headers_that_drip_meet_the_same_deadline() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        done = threading.Event()

        def serve() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(1 << 16)
                connection.sendall(b"HTTP/1.1 200 OK\r\nX: ")
                while not done.wait(0.05):
                    connection.sendall(b"x")

        threading.Thread(target=serve, daemon=True).start()
        endpoint = Endpoint.parse(f"http://127.0.0.1:{listening.getsockname()[1]}")
        began = time.monotonic()
        with pytest.raises(ExchangeError, match=r"no whole answer within 0\.4 s"):
            endpoint.send("/models", timeout_s=0.4)
        assert time.monotonic() - began < 3
        done.set()


def test_a_huge_answer_is_not_read_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "MAX_BYTES", 1 << 19)
    with (
        serving(always("huge")) as server,
        pytest.raises(ExchangeError, match="longer than 0 MiB"),
    ):
        Endpoint.parse(server.url).send("/chat/completions", QUESTION, timeout_s=5)


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"SSH-2.0-OpenSSH_9.6\r\n", "no HTTP"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000 + b"\r\n\r\n", "no HTTP"),
        (b"HTTP/1.1 200 OK\r\n" + b"".join(b"X%d: y\r\n" % n for n in range(200)), "no HTTP"),
        (b"", "dropped before an answer"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "broke off|no HTTP"),
    ],
)
def test_what_is_no_http_is_an_error(raw: bytes, reason: str) -> None:
    with saying(raw) as endpoint, pytest.raises(ExchangeError, match=reason):
        endpoint.send("/models", timeout_s=5)


def test_an_answer_without_a_length_ends_with_the_connection() -> None:
    with saying(b"HTTP/1.1 200 OK\r\n\r\nall of it") as endpoint:
        assert endpoint.send("/models", timeout_s=5).body == b"all of it"


def test_no_server_is_told_from_a_bad_one() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    for url in (f"http://127.0.0.1:{port}/v1", "http://nowhere.invalid/v1"):
        with pytest.raises(ExchangeError) as caught:
            Endpoint.parse(url).send("/models", timeout_s=5)
        assert not caught.value.connected
    with saying(b"plain text\n") as endpoint:
        secure = Endpoint(endpoint.host, endpoint.port, "", secure=True)
        with pytest.raises(ExchangeError, match="TLS failed") as caught:
            secure.send("/models", timeout_s=5)
        assert not caught.value.connected


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://host:8000/v1", "http://host:8000/v1"),
        ("https://api.example.com/v1/", "https://api.example.com:443/v1"),
        ("http://[::1]:8080", "http://[::1]:8080"),
    ],
)
def test_urls_are_read(url: str, shown: str) -> None:
    assert Endpoint.parse(url).url == shown


@pytest.mark.parametrize(
    "url",
    [
        "host:8000/v1",
        "ftp://host/v1",
        "http:///v1",
        "http://host:port/v1",
        "http://host:99999/v1",
        "http://[::1/v1",
        "http://user:key@host/v1",
        "http://host/v1?key=x",
        "http://host/v 1",
        "http://höst/v1",
        "http://host/v1\r\nX: y",
        "",
    ],
)
def test_what_is_no_base_url_is_refused(url: str) -> None:
    with pytest.raises(ServerError, match="--base-url"):
        Endpoint.parse(url)


@pytest.mark.parametrize("key", ["", "line\nbreak", "schlüssel"])
def test_a_key_that_no_header_carries_is_refused(key: str) -> None:
    with pytest.raises(ServerError, match="API key") as caught:
        Endpoint.parse("http://host/v1", key)
    assert key == "" or key not in str(caught.value)
