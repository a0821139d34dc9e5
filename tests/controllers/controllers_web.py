"""A web server in a thread that answers what a test says: what score sources and a Prometheus are asked by."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = tuple[int, dict[str, str], bytes]
JSON = {"Content-Type": "application/json"}


class Web(ThreadingHTTPServer):
    """`answers(path, body)` is (status, headers, body); `seen`: (path, headers) of every request, in order."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers: Callable[[str, bytes], Answer] = lambda path, body: (404, {}, b"")
        self.seen: list[tuple[str, dict[str, str]]] = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: Web

    def do_GET(self) -> None:
        self.server.seen.append((self.path, dict(self.headers)))
        asked = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        status, headers, body = self.server.answers(self.path, asked)
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET  # noqa: N815 - as the library calls it

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving() -> Iterator[Web]:
    server = Web()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


def vector(result: Any) -> Answer:
    """What a Prometheus answers to an instant query."""
    body = json.dumps({"status": "success", "data": {"resultType": "vector", "result": result}}).encode()
    return 200, JSON, body
