"""One HTTP request and its answer, under one deadline and one limit of size.

Servers under load hang, send a byte a second, drop the connection halfway or
answer with far more than was asked. The socket's own timeout starts anew with
every byte, so here each read gets what is left of one deadline for the whole
exchange, and no more than `MAX_BYTES` are held. Each exchange has a connection
of its own: beside the seconds that a generation takes its cost is nothing, and
a connection that went stale cannot fail the next request.

Standard library only. Redirects are not followed and the proxies of the
environment are not used. What statuses mean is `asking.py`.
"""

from __future__ import annotations

import http.client
import io
import json
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import IO, Any
from urllib.parse import urlsplit

from vocabtrim.core.errors import ServerError

MAX_BYTES = 64 << 20
"""Longest body that is read; an answer of 100,000 tokens takes about one megabyte."""

_CHUNK = 1 << 16


class ExchangeError(Exception):
    """No whole answer came.

    Args:
        reason: What happened instead.
        connected: Whether there was a server at all.
    """

    def __init__(self, reason: str, *, connected: bool = True) -> None:
        self.reason, self.connected = reason, connected
        super().__init__(reason)


@dataclass(frozen=True)
class Reply:
    """What came back.

    Args:
        status: The HTTP status.
        headers: By lower-case name.
        body: All of it.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class Endpoint:
    """Where a server listens.

    Args:
        host: Name or address.
        port: As given, or the scheme's.
        prefix: Path in front of every request, without a slash at its end.
        secure: Whether to speak TLS.
        api_key: Sent as a bearer token; shown nowhere.
    """

    host: str
    port: int
    prefix: str
    secure: bool
    api_key: str | None = field(default=None, repr=False)

    @classmethod
    def parse(cls, url: str, api_key: str | None = None) -> Endpoint:
        """Read a base URL such as `http://localhost:8000/v1`.

        Raises:
            ServerError: It is no such URL, or the key cannot be sent.
        """
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as fault:
            raise ServerError(f"--base-url {url!r} is no URL ({fault})") from fault
        plain = url.isascii() and url.isprintable() and " " not in url
        if parts.scheme not in ("http", "https") or not parts.hostname or not plain:
            raise ServerError(f"--base-url needs the form http://host:port/v1, found {url!r}")
        if parts.query or parts.fragment or parts.username or parts.password:
            raise ServerError(
                "--base-url takes neither user, query nor fragment; a key goes into --api-key-env"
            )
        if api_key is not None and not (api_key.isascii() and api_key.isprintable() and api_key):
            raise ServerError("the API key is empty or has characters that no header can carry")
        secure = parts.scheme == "https"
        default = 443 if secure else 80
        return cls(parts.hostname, port or default, parts.path.rstrip("/"), secure, api_key)

    @property
    def url(self) -> str:
        """The base URL, without a key."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http{'s' if self.secure else ''}://{host}:{self.port}{self.prefix}"

    def send(
        self,
        path: str,
        document: Any = None,
        *,
        timeout_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> Reply:
        """Ask for `path` and read the whole answer.

        Args:
            path: Below the base URL, with a slash in front.
            document: JSON to post; None asks with GET.
            timeout_s: From now to the last byte.
            clock: Seconds since whenever.

        Raises:
            ExchangeError: No server, no answer in time, or only a part of one.
        """
        deadline = clock() + timeout_s
        connection = self._connection(timeout_s)
        try:
            self._connect(connection)
            timed: Any = partial(_timed_response, deadline=deadline, clock=clock)
            connection.response_class = timed
            headers = {"Accept": "application/json", "Connection": "close"}
            if self.api_key is not None:
                headers["Authorization"] = f"Bearer {self.api_key}"
            if document is None:
                connection.request("GET", self.prefix + path, headers=headers)
            else:
                headers["Content-Type"] = "application/json"
                body = json.dumps(document).encode()
                connection.request("POST", self.prefix + path, body=body, headers=headers)
            return _read(connection.getresponse())
        except TimeoutError as fault:
            raise ExchangeError(f"no whole answer within {timeout_s:g} s") from fault
        except http.client.IncompleteRead as fault:
            raise ExchangeError("the answer broke off") from fault
        except http.client.RemoteDisconnected as fault:
            raise ExchangeError("the connection was dropped before an answer") from fault
        except http.client.HTTPException as fault:
            raise ExchangeError(f"the answer is no HTTP ({type(fault).__name__})") from fault
        except OSError as fault:
            raise ExchangeError(f"the connection was dropped ({_spoken(fault)})") from fault
        finally:
            connection.close()

    def _connection(self, timeout_s: float) -> http.client.HTTPConnection:
        if self.secure:
            return http.client.HTTPSConnection(self.host, self.port, timeout=timeout_s)
        return http.client.HTTPConnection(self.host, self.port, timeout=timeout_s)

    @staticmethod
    def _connect(connection: http.client.HTTPConnection) -> None:
        try:
            connection.connect()
        except ssl.SSLError as fault:
            raise ExchangeError(f"TLS failed ({_spoken(fault)})", connected=False) from fault
        except TimeoutError as fault:
            raise ExchangeError("nobody answers at that address", connected=False) from fault
        except UnicodeError as fault:
            raise ExchangeError("the host name is none", connected=False) from fault
        except OSError as fault:
            raise ExchangeError(_spoken(fault), connected=False) from fault


class _TimedReader(io.RawIOBase):
    """A socket's bytes, each read given what is left until the deadline."""

    def __init__(self, sock: socket.socket, deadline: float, clock: Callable[[], float]) -> None:
        self._sock, self._deadline, self._clock = sock, deadline, clock
        # holds the socket open after http.client has closed its own handle
        self._raw: Any = sock.makefile("rb", buffering=0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = self._deadline - self._clock()
        if left <= 0:
            raise TimeoutError("the deadline has passed")
        self._sock.settimeout(left)
        read: int | None = self._raw.readinto(buffer)
        return read

    def close(self) -> None:
        self._raw.close()
        super().close()


@dataclass(frozen=True)
class _TimedSocket:
    """What `HTTPResponse` asks of a socket: a file to read from."""

    sock: socket.socket
    deadline: float
    clock: Callable[[], float]

    def makefile(self, _mode: str) -> IO[bytes]:
        return io.BufferedReader(_TimedReader(self.sock, self.deadline, self.clock))


def _timed_response(
    sock: socket.socket,
    *args: Any,
    deadline: float,
    clock: Callable[[], float],
    **options: Any,
) -> http.client.HTTPResponse:
    timed: Any = _TimedSocket(sock, deadline, clock)
    return http.client.HTTPResponse(timed, *args, **options)


def _read(response: http.client.HTTPResponse) -> Reply:
    with response:
        expected = response.length
        body = bytearray()
        while chunk := response.read(_CHUNK):
            body += chunk
            if len(body) > MAX_BYTES:
                raise ExchangeError(f"the answer is longer than {MAX_BYTES >> 20} MiB")
        # http.client says so only where all is read at once
        if expected is not None and len(body) < expected:
            raise ExchangeError(f"the answer broke off after {len(body)} of {expected} bytes")
    headers = {name.lower(): value for name, value in response.getheaders()}
    return Reply(response.status, headers, bytes(body))


def _spoken(fault: OSError) -> str:
    """Return what the system says of a fault, as one phrase."""
    return (fault.strerror or str(fault) or type(fault).__name__).strip()
