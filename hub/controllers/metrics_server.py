"""Serves /metrics, whether the hub is alive and ready, and pages that it is given; nothing can be changed there.

/livez answers as long as the loop does: whoever waits for its API is not helped by a restart. /readyz (and /healthz, as
before) says what is wrong.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Self

from aiohttp import web
from prometheus_client import CollectorRegistry, disable_created_metrics
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from hub.api.errors import UsageError


class MetricsServer:
    """`async with`. `refresh()` is called before each answer; `healthy()` gives "" or what is wrong. `pages`: more to
    serve.

    Raises `UsageError` when the address cannot be listened on.
    """

    def __init__(
        self,
        address: str,
        registry: CollectorRegistry,
        refresh: Callable[[], None],
        healthy: Callable[[], str],
        pages: Iterable[web.RouteDef] = (),
    ) -> None:
        host, _, port = address.rpartition(":")
        if not port.isdigit() or not host:
            raise UsageError(f"{address!r} is not HOST:PORT", field="--metrics-listen")
        self._host, self._port = host.strip("[]"), int(port)
        self._registry, self._refresh, self._healthy = registry, refresh, healthy
        self._pages = tuple(pages)
        # When each counter began to exist would double the page, and nobody asks.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        """Where this machine's processes reach it; of an address that is none (0.0.0.0) the machine's name is said."""
        host = self._host
        if host in ("0.0.0.0", "::", ""):
            host = socket.gethostname()
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}"

    @property
    def port(self) -> int:
        """The port really listened on (0 asks for any)."""
        assert self._runner is not None
        return int(self._runner.addresses[0][1])

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/healthz", self._health)
        app.router.add_get("/readyz", self._health)
        app.router.add_get("/livez", self._alive)
        app.router.add_routes(self._pages)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, self._host, self._port).start()
        except OSError as error:
            await self._runner.cleanup()
            raise UsageError(
                f"cannot listen on {self._host}:{self._port}: {error.strerror}",
                field="--metrics-listen",
                hint="Another process has the port; choose another, or 0 for a free one.",
            ) from error
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _metrics(self, request: web.Request) -> web.Response:
        self._refresh()
        return web.Response(body=generate_latest(self._registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def _health(self, request: web.Request) -> web.Response:
        problem = self._healthy()
        return web.Response(text=problem or "ok", status=503 if problem else 200)

    async def _alive(self, request: web.Request) -> web.Response:
        return web.Response(text="ok")
