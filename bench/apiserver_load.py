"""The load for bench/apiserver.py, in a process of its own: closed loops over raw connections, and watchers that count.

    python -m bench.apiserver_load URL TOKEN_FILE < plan.json        # answers with one JSON object

A plan is a list of phases: {"name", "requests": [[method, path, body, content type], …], "connections"}. Requests of a
phase are shared out over its connections; each waits for its answer before it sends the next.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httptools


class Client(asyncio.Protocol):
    """Sends what `requests` yields, one at a time; `done` when there is no more."""

    def __init__(self, requests: Iterator[bytes], done: asyncio.Future[None]) -> None:
        self._requests = requests
        self._done = done
        self._parser: Any = httptools.HttpResponseParser(self)
        self._transport: Any = None
        self._sent = 0.0
        self.latencies: list[float] = []
        self.errors: dict[int, int] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._next()

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        self.latencies.append(time.perf_counter() - self._sent)
        status = self._parser.get_status_code()
        if status >= 300:
            self.errors[status] = self.errors.get(status, 0) + 1
        self._next()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._done.done():
            self._done.set_exception(exc or ConnectionError("the server hung up"))

    def _next(self) -> None:
        request = next(self._requests, None)
        if request is None:
            if not self._done.done():
                self._done.set_result(None)
            self._transport.close()
            return
        self._sent = time.perf_counter()
        self._transport.write(request)


class Watch(asyncio.Protocol):
    """Counts the lines of one watch."""

    def __init__(self, request: bytes) -> None:
        self._request = request
        self.lines = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.write(self._request)  # type: ignore[attr-defined]  # a stream's transport

    def data_received(self, data: bytes) -> None:
        self.lines += data.count(b"}\n\r\n") + data.count(b'}\n{"type"')


def head(method: str, path: str, token: str, body: bytes, content_type: str) -> bytes:
    lines = f"{method} {path} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {token}\r\nAccept: application/json\r\n"
    if body:
        lines += f"Content-Type: {content_type}\r\nContent-Length: {len(body)}\r\n"
    return lines.encode() + b"\r\n" + body


async def run(url: str, token: str, plan: list[dict[str, Any]]) -> dict[str, Any]:
    parts = urlsplit(url)
    host, port = str(parts.hostname), int(parts.port or 80)
    loop = asyncio.get_running_loop()
    results: dict[str, Any] = {}
    watches: list[Watch] = []
    for phase in plan:
        for path in phase.get("watches", ()):
            watch = Watch(head("GET", path, token, b"", ""))
            await loop.create_connection(lambda watch=watch: watch, host, port)  # type: ignore[misc]  # bound now
            watches.append(watch)
        requests = iter(
            [head(method, path, token, body.encode(), kind) for method, path, body, kind in phase["requests"]]
        )
        count = len(phase["requests"])
        clients = []
        started, cpu = time.perf_counter(), time.process_time()
        for _ in range(min(phase.get("connections", 32), count)):
            done: asyncio.Future[None] = loop.create_future()
            client = Client(requests, done)
            await loop.create_connection(lambda client=client: client, host, port)  # type: ignore[misc]  # bound now
            clients.append((client, done))
        await asyncio.gather(*(done for _, done in clients))
        seconds = time.perf_counter() - started
        latencies = sorted(value for client, _ in clients for value in client.latencies)
        errors: dict[int, int] = {}
        for client, _ in clients:
            for status, number in client.errors.items():
                errors[status] = errors.get(status, 0) + number
        results[phase["name"]] = {
            "count": count,
            "seconds": seconds,
            "client_cpu": time.process_time() - cpu,
            "p50": latencies[len(latencies) // 2],
            "p99": latencies[int(len(latencies) * 0.99)],
            "errors": errors,
        }
    await asyncio.sleep(0.2)
    results["watched"] = [watch.lines for watch in watches]
    return results


def main() -> None:
    url, token = sys.argv[1], Path(sys.argv[2]).read_text().strip()
    plan = json.load(sys.stdin)
    with contextlib.suppress(ImportError):
        import uvloop

        print(json.dumps(uvloop.run(run(url, token, plan))))
        return
    print(json.dumps(asyncio.run(run(url, token, plan))))


if __name__ == "__main__":
    main()
