"""Answers on the health port: is the supervisor alive, is it ready, and its metrics.

The supervisor's own event loop serves the port, so an answer proves that the loop turns. Clients
may send anything: a request that is long or slow is dropped. If many are open, the oldest is
dropped for the newest, so that nobody can keep a probe out.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import NamedTuple

PATIENCE_SECONDS = 5.0
"""Maximum time for a request and its answer."""

LONGEST_REQUEST = 8192
"""Maximum number of bytes of a request; probes send a few hundred."""

OPEN_AT_ONCE = 32
"""Maximum number of open connections."""

PLAIN = "text/plain; charset=utf-8"

NO_METRICS = "Metrics need prometheus_client: pip install 'partisan-async[metrics]'."


class Answer(NamedTuple):
    """The answer to a request."""

    status: HTTPStatus
    text: bytes
    content_type: str = PLAIN


class Health:
    """Serves ``/live``, ``/ready`` and ``/metrics`` on a listening socket.

    :param ailment: returns why the supervisor should be ended; empty: there is no reason.
    :param hindrance: returns why it starts no tasks; empty: it does, or could.
    :param show: returns the metrics, see ``Metrics.show``; ``None``: there are none.
    """

    def __init__(
        self,
        listening: socket.socket,
        *,
        ailment: Callable[[], str],
        hindrance: Callable[[], str],
        show: Callable[[str], Awaitable[tuple[str, bytes]]] | None,
    ) -> None:
        self._listening = listening
        self._ailment = ailment
        self._hindrance = hindrance
        self._show = show
        self._server: asyncio.Server | None = None
        # Oldest first.
        self._open: dict[asyncio.StreamWriter, None] = {}

    async def open(self) -> None:
        """Start to serve."""
        self._server = await asyncio.start_server(
            self._attend, sock=self._listening, limit=LONGEST_REQUEST
        )

    def close(self) -> None:
        """Stop serving, and drop open connections."""
        if self._server is not None:
            self._server.close()
        self._listening.close()
        for writer in self._open:
            writer.transport.abort()

    async def _attend(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._open) >= OPEN_AT_ONCE:
            oldest = next(iter(self._open))
            del self._open[oldest]
            oldest.transport.abort()
        self._open[writer] = None
        transport = writer.transport
        transport.set_write_buffer_limits(0)  # drain() then waits until all is sent
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                writer.write(await self._exchange(reader))
                await writer.drain()
        except (TimeoutError, EOFError, OSError):
            transport.abort()
        finally:
            self._open.pop(writer, None)
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader) -> bytes:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.LimitOverrunError:
            status = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
            return _encode(Answer(status, b"The request is too long.\n"))
        line, *headers = head.decode("latin-1").split("\r\n")
        method, target, version = (*line.split(" "), "", "")[:3]
        if line.count(" ") != 2 or not version.startswith("HTTP/1."):
            return _encode(Answer(HTTPStatus.BAD_REQUEST, b"That is no request of HTTP/1.1.\n"))
        if method not in ("GET", "HEAD"):
            answer = Answer(HTTPStatus.METHOD_NOT_ALLOWED, b"Only GET and HEAD are answered.\n")
        else:
            answer = await self._answer(target.partition("?")[0], headers)
        return _encode(answer, body=method != "HEAD")

    async def _answer(self, path: str, headers: list[str]) -> Answer:
        match path:
            case "/live":
                return _judgement(self._ailment())
            case "/ready":
                return _judgement(self._hindrance())
            case "/metrics":
                if self._show is None:
                    return Answer(HTTPStatus.NOT_IMPLEMENTED, f"{NO_METRICS}\n".encode())
                content_type, text = await self._show(_value(headers, "accept"))
                return Answer(HTTPStatus.OK, text, content_type)
        return Answer(HTTPStatus.NOT_FOUND, b"There are /live, /ready and /metrics.\n")


def _judgement(trouble: str) -> Answer:
    if trouble:
        return Answer(HTTPStatus.SERVICE_UNAVAILABLE, f"{trouble}\n".encode())
    return Answer(HTTPStatus.OK, b"ok\n")


def _value(headers: list[str], name: str) -> str:
    for header in headers:
        key, _, value = header.partition(":")
        if key.lower() == name:
            return value.strip()
    return ""


def _encode(answer: Answer, *, body: bool = True) -> bytes:
    status = answer.status
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\n"
        f"Content-Type: {answer.content_type}\r\n"
        f"Content-Length: {len(answer.text)}\r\n"
        + ("Allow: GET, HEAD\r\n" if status == HTTPStatus.METHOD_NOT_ALLOWED else "")
        + "Cache-Control: no-store\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + (answer.text if body else b"")
