"""What Prometheus reads of this site: the hardware's metrics from the local cluster, and the agent's own.

A few lines of HTTP of our own, because read-only pages are all there is: `/metrics`, `/livez`, `/readyz` (`/healthz`).
Whoever asks slowly, too much or nonsense is hung up on. It measures nothing itself: callers say what is so when asked.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from hub.api.errors import StorageError, UsageError

_log = logging.getLogger("agent.metrics")
_REQUEST_SECONDS: Final = 10.0
_REQUEST_BYTES: Final = 16 * 1024
_CONNECTIONS: Final = 32
_TEXT: Final = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric family; `values` by label pairs, `()` for none."""

    name: str
    kind: Literal["gauge", "counter"]
    help: str
    values: Mapping[tuple[tuple[str, str], ...], float] = field(default_factory=dict)

    @classmethod
    def of(cls, name: str, kind: Literal["gauge", "counter"], help: str, value: float) -> Metric:
        return cls(name, kind, help, {(): value})

    @classmethod
    def by(
        cls, name: str, kind: Literal["gauge", "counter"], help: str, label: str, values: Mapping[str, float]
    ) -> Metric:
        return cls(name, kind, help, {((label, key),): value for key, value in values.items()})


def render(metrics: Iterable[Metric]) -> str:
    """Prometheus text format."""
    lines: list[str] = []
    for metric in metrics:
        lines += (f"# HELP {metric.name} {metric.help}", f"# TYPE {metric.name} {metric.kind}")
        for labels, value in sorted(metric.values.items()):
            pairs = ",".join(f'{name}="{_escaped(text)}"' for name, text in labels)
            lines.append(f"{metric.name}{{{pairs}}} {_number(value)}" if pairs else f"{metric.name} {_number(value)}")
    return "\n".join(lines) + "\n"


def process_metrics() -> list[Metric]:
    """Of this process, under the names that every client library uses; empty where there is no /proc."""
    try:
        with open("/proc/self/stat") as file:
            stat = file.read().rpartition(")")[2].split()
        descriptors = len(os.listdir("/proc/self/fd"))
    except OSError:
        return []
    cpu = (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")
    resident = int(stat[21]) * os.sysconf("SC_PAGE_SIZE")
    return [
        Metric.of("process_cpu_seconds_total", "counter", "User and system CPU time spent in seconds.", cpu),
        Metric.of("process_resident_memory_bytes", "gauge", "Resident memory size in bytes.", resident),
        Metric.of("process_open_fds", "gauge", "Number of open file descriptors.", descriptors),
    ]


def parse_listen(text: str) -> tuple[str, int]:
    """``HOST:PORT``, ``:PORT`` or ``[::1]:PORT``. Raises `UsageError`."""
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdecimal() or not 0 <= int(port) < 65536:
        raise UsageError(f"{text!r} is not HOST:PORT, such as 127.0.0.1:9464", field="--metrics-listen")
    return host.strip("[]") or "127.0.0.1", int(port)


class MetricsServer:
    """`run()` until cancelled; raises `StorageError` when the address cannot be listened on.

    `metrics()` is the whole text of `/metrics`; `problems()` is what is wrong, one line each, empty for healthy.
    """

    def __init__(self, host: str, port: int, metrics: Callable[[], str], problems: Callable[[], list[str]]) -> None:
        self.port = port
        self._host = host
        self._metrics, self._problems = metrics, problems
        self._open: set[asyncio.StreamWriter] = set()

    async def run(self) -> None:
        try:
            server = await asyncio.start_server(self._serve, self._host, self.port, limit=_REQUEST_BYTES)
        except OSError as error:
            raise StorageError(
                f"cannot serve metrics on {self._host}:{self.port}: {error.strerror or error}",
                hint="Give a free address with --metrics-listen; everything else goes on.",
            ) from error
        self.port = int(server.sockets[0].getsockname()[1])
        try:
            await asyncio.Event().wait()
        finally:
            server.close()
            for writer in list(self._open):
                writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._open) >= _CONNECTIONS:
            writer.close()
            return
        self._open.add(writer)
        try:
            while await self._answer(reader, writer):
                pass
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError):
            # Not worth a line: whoever asked hung up, or never finished asking.
            pass
        finally:
            self._open.discard(writer)
            with contextlib.suppress(OSError):
                writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Whether the connection stays open."""
        async with asyncio.timeout(_REQUEST_SECONDS * 6):
            head = await reader.readuntil(b"\r\n\r\n")
        request, *headers = head.decode("latin-1").split("\r\n")
        method, target, version = request.split(" ")
        close = version != "HTTP/1.1" or any(h.lower().replace(" ", "") == "connection:close" for h in headers)
        status, kind, body = self._page(method, target.partition("?")[0])
        data = body.encode()
        answer = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(data)}\r\n"
        answer += "Connection: close\r\n\r\n" if close else "\r\n"
        writer.write(answer.encode() + (b"" if method == "HEAD" else data))
        async with asyncio.timeout(_REQUEST_SECONDS):
            await writer.drain()
        return not close

    def _page(self, method: str, path: str) -> tuple[str, str, str]:
        plain = "text/plain; charset=utf-8"
        if method not in ("GET", "HEAD"):
            return "405 Method Not Allowed", plain, "only GET\n"
        try:
            if path == "/metrics":
                return "200 OK", _TEXT, self._metrics()
            if path == "/livez":
                # The loop answers; what is wrong beyond that no restart mends.
                return "200 OK", plain, "ok\n"
            if path in ("/healthz", "/readyz"):
                problems = self._problems()
                return (
                    ("503 Service Unavailable", plain, "\n".join(problems) + "\n")
                    if problems
                    else ("200 OK", plain, "ok\n")
                )
        except Exception:
            _log.exception("a page could not be made", extra={"fields": {"path": path}})
            return "500 Internal Server Error", plain, "the agent's log says why\n"
        return "404 Not Found", plain, "there are /metrics, /livez and /readyz\n"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    return str(int(value)) if value == value and abs(value) < 2**53 and value == int(value) else repr(float(value))
