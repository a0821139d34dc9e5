"""HTTP/1.1, as far as clients of a Kubernetes API use it: keep-alive, pipelining, chunked streams, bounds on it all.

Requests of one connection are answered one at a time, in order; a client that does not read is not written to without
bound. What a request means, and who sent it, is hub/apiserver/front.py's business.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

import httptools

from hub.apiserver.status import bad_request, dump_status, internal_error, too_large

MAX_BODY: Final = 3 * 2**20
_MAX_HEADERS: Final = 64 * 1024
_MAX_URL: Final = 32 * 1024
_MAX_PIPELINED: Final = 64
# Seconds that a client may take to send one request, and to sit silently on an open connection.
_REQUEST_SECONDS: Final = 60.0
_IDLE_SECONDS: Final = 600.0
# What a stream may have waiting in its socket before it is no longer pushed to.
STREAM_BUFFER: Final = 2 * 2**20

JSON: Final = "application/json"
Headers = tuple[tuple[str, str], ...]

_log = logging.getLogger(__name__)
_KEPT: Final = frozenset(
    {b"authorization", b"accept", b"content-type", b"content-encoding", b"user-agent", b"audit-id"}
)
_IMPERSONATE: Final = b"impersonate-"


@dataclass(slots=True)
class Answer:
    status: int
    body: bytes
    content_type: str = JSON
    headers: Headers = ()


_heads: dict[tuple[int, str], bytes] = {}


def _head(status: int, content_type: str) -> bytes:
    head = _heads.get((status, content_type))
    if head is None:
        try:
            phrase = HTTPStatus(status).phrase
        except ValueError:
            phrase = "Unknown"
        text = f"HTTP/1.1 {status} {phrase}\r\nContent-Type: {content_type}\r\nCache-Control: no-cache, private\r\n"
        head = text.encode()
        if len(_heads) < 256:
            _heads[status, content_type] = head
    return head


class Stream:
    """A chunked response. Whoever writes asks `full` first, and is called back when it no longer is, and at the end."""

    __slots__ = ("_connection", "closed", "on_close", "on_drain")

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.closed = False
        self.on_drain: Callable[[], None] | None = None
        self.on_close: Callable[[], None] | None = None

    @property
    def full(self) -> bool:
        return self._connection.paused

    def write(self, framed: bytes) -> None:
        """`framed` is one or more chunks made by `chunk`."""
        if not self.closed:
            self._connection.write(framed)

    def end(self) -> None:
        """The last chunk; the connection is free for its next request."""
        if not self.closed:
            self.closed = True
            self._connection.write(b"0\r\n\r\n")
            self._connection.finish()

    def abort(self) -> None:
        if not self.closed:
            self.closed = True
            self._connection.abort()


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


class Exchange:
    """One request and the way to answer it: `answer` once, or `stream`."""

    __slots__ = (
        "_connection",
        "body",
        "headers",
        "http10",
        "impersonates",
        "keep_alive",
        "method",
        "observer",
        "path",
        "query",
    )

    def __init__(self, connection: Connection, method: str, url: bytes, headers: dict[bytes, str], body: bytes) -> None:
        self._connection = connection
        self.method = method
        path, _, query = url.partition(b"?")
        self.path = path.decode("latin-1")
        self.query = query.decode("latin-1")
        self.headers = headers
        self.body = body
        self.keep_alive = True
        self.http10 = False
        # Whether there are headers to act as somebody else.
        self.impersonates = False
        # Called with the answer, or with None when a stream begins.
        self.observer: Callable[[Answer | None], None] | None = None

    @property
    def connection(self) -> Connection:
        return self._connection

    def answer(self, answer: Answer) -> None:
        connection = self._connection
        if self.observer is not None:
            self.observer(answer)
        parts = [_head(answer.status, answer.content_type), b"Content-Length: %d\r\n" % len(answer.body)]
        if answer.headers:
            parts += [f"{name}: {value}\r\n".encode("utf-8", "replace") for name, value in answer.headers]
        if not self.keep_alive:
            parts.append(b"Connection: close\r\n")
        parts.append(b"\r\n")
        if self.method != "HEAD":
            parts.append(answer.body)
        connection.write(b"".join(parts))
        connection.finish(close=not self.keep_alive)

    def stream(self, content_type: str = JSON) -> Stream:
        stream = Stream(self._connection)
        if self.observer is not None:
            self.observer(None)
        self._connection.stream = stream
        self._connection.write(_head(200, content_type) + b"Transfer-Encoding: chunked\r\n\r\n")
        return stream


class Connection(asyncio.Protocol):
    """One client's connection. `user` is for whoever authenticates, so that it is done once a connection."""

    def __init__(self, handler: Callable[[Exchange], None], connections: set[Connection]) -> None:
        self._handler = handler
        self._connections = connections
        self._parser: Any = httptools.HttpRequestParser(self)
        self._loop = asyncio.get_running_loop()
        self._transport: Any = None
        self._waiting: deque[Exchange] = deque()
        self._busy = False
        self._closing = False
        self._closing_after_answers = False
        self._since = self._loop.time()
        self._in_request = False
        self._refused = False
        self.paused = False
        self.stream: Stream | None = None
        self.user: tuple[str, int, Any] | None = None
        self._url = b""
        self._headers: dict[bytes, str] = {}
        self._header_bytes = 0
        self._expects = self._impersonates = False
        self._body: list[bytes] = []
        self._size = 0

    # asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._transport.set_write_buffer_limits(high=STREAM_BUFFER)
        self._connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._closing = True
        self._connections.discard(self)
        self._waiting.clear()
        stream, self.stream = self.stream, None
        if stream is not None:
            stream.closed = True
            if stream.on_close is not None:
                stream.on_close()

    def data_received(self, data: bytes) -> None:
        if self._closing or self._refused:
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._refuse(400, bad_request("this server upgrades no connections").status)
        except httptools.HttpParserError as error:
            if not self._refused:
                self._refuse(400, bad_request(f"not HTTP: {error}").status)
        self._next()

    def eof_received(self) -> bool:
        # What was asked before is still answered; a stream's reader is gone, and TLS has no half-closed connections.
        idle = not (self._busy or self._waiting)
        if idle or self.stream is not None or self._transport.get_extra_info("sslcontext") is not None:
            return False
        self._closing_after_answers = True
        return True

    def pause_writing(self) -> None:
        self.paused = True

    def resume_writing(self) -> None:
        self.paused = False
        if self.stream is not None:
            if self.stream.on_drain is not None:
                self.stream.on_drain()
        else:
            self._next()

    # httptools

    def on_message_begin(self) -> None:
        self._in_request = True
        self._since = self._loop.time()
        self._url = b""
        self._headers = {}
        self._header_bytes = 0
        self._expects = self._impersonates = False
        self._body = []
        self._size = 0

    def on_url(self, url: bytes) -> None:
        self._url = self._url + url if self._url else url
        if len(self._url) > _MAX_URL:
            self._refuse(414, too_large("the URL", _MAX_URL, 414).status)
            raise ValueError("URL too long")

    def on_header(self, name: bytes, value: bytes) -> None:
        self._header_bytes += len(name) + len(value)
        if self._header_bytes > _MAX_HEADERS:
            self._refuse(431, too_large("the request's head", _MAX_HEADERS, 431).status)
            raise ValueError("headers too long")
        name = name.lower()
        if name in _KEPT:
            # Of two the first counts, as with Go's servers.
            self._headers.setdefault(name, value.decode("latin-1"))
        elif name.startswith(_IMPERSONATE):
            self._impersonates = True
            before = self._headers.get(name)
            text = value.decode("latin-1")
            self._headers[name] = text if before is None else f"{before}\n{text}"
        elif name == b"content-length":
            if value.isdigit() and int(value) > MAX_BODY:
                self._refuse(413, too_large("the request", MAX_BODY).status)
                raise ValueError("body too long")
        elif name == b"expect":
            self._expects = value.lower() == b"100-continue"

    def on_headers_complete(self) -> None:
        if self._expects and not self._busy and not self._waiting:
            self.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        self._size += len(body)
        if self._size > MAX_BODY:
            self._refuse(413, too_large("the request", MAX_BODY).status)
            raise ValueError("body too long")
        self._body.append(body)

    def on_message_complete(self) -> None:
        parser = self._parser
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        exchange = Exchange(self, parser.get_method().decode("latin-1"), self._url, self._headers, body)
        exchange.keep_alive = parser.should_keep_alive()
        exchange.impersonates = self._impersonates
        exchange.http10 = parser.get_http_version() == "1.0"
        self._in_request = False
        self._waiting.append(exchange)
        if len(self._waiting) > _MAX_PIPELINED:
            self._transport.pause_reading()

    # Answering

    def certificate(self) -> Mapping[str, Any] | None:
        """What the client has shown and the handshake has verified; None without one."""
        found: Mapping[str, Any] | None = self._transport.get_extra_info("peercert")
        return found

    @property
    def gone(self) -> bool:
        return self._closing

    @property
    def address(self) -> str:
        peer = self._transport.get_extra_info("peername")
        return str(peer[0]) if isinstance(peer, tuple) and peer else ""

    def write(self, data: bytes) -> None:
        if not self._closing:
            self._transport.write(data)

    def finish(self, *, close: bool = False) -> None:
        """The current answer is complete."""
        self._busy = False
        self.stream = None
        self._since = self._loop.time()
        if self._closing:
            return
        if close or (self._closing_after_answers and not self._waiting):
            self._close()
        elif self._waiting:
            # Not at once: a long pipeline must not become a deep stack.
            self._loop.call_soon(self._next)

    def abort(self) -> None:
        self._closing = True
        self._transport.abort()

    def shut_down(self) -> None:
        """No more requests; closed at once when nothing is being answered."""
        if self._busy:
            self._closing_after_answers = True
            self._waiting.clear()
        else:
            self._close()

    def expire(self, now: float) -> None:
        """Closes a connection that has been silent, or in the middle of one request, for too long."""
        limit = _REQUEST_SECONDS if self._in_request else _IDLE_SECONDS
        if not self._busy and not self._waiting and now - self._since > limit:
            self._close()

    def _next(self) -> None:
        if self._busy or self._closing or self.paused or not self._waiting:
            return
        exchange = self._waiting.popleft()
        if len(self._waiting) == _MAX_PIPELINED // 2:
            self._transport.resume_reading()
        self._busy = True
        try:
            self._handler(exchange)
        except Exception:
            self.failed(exchange)

    def failed(self, exchange: Exchange) -> None:
        """What answered `exchange` broke; called while its exception is handled."""
        _log.exception("%s %s", exchange.method, exchange.path)
        if self.stream is not None:
            self.abort()
        elif self._busy:
            exchange.answer(Answer(500, dump_status(internal_error().status)))

    def _refuse(self, code: int, status: Mapping[str, Any]) -> None:
        if self._refused:
            return
        self._refused = True
        exchange = Exchange(self, "GET", b"/", {}, b"")
        exchange.keep_alive = False
        # After what is being answered already, and instead of everything that follows.
        if self._busy or self._waiting:
            self._closing_after_answers = True
            return
        self._busy = True
        exchange.answer(Answer(code, dump_status(status)))

    def _close(self) -> None:
        if not self._closing:
            self._closing = True
            self._transport.close()
