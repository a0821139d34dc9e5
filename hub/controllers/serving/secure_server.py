"""HTTPS on an address of the hub's, with a context that somebody else fills and renews."""

from __future__ import annotations

import ssl
from collections.abc import Iterable
from types import TracebackType
from typing import Final, Self

from aiohttp import web

from hub.api.errors import UsageError

_LARGEST: Final = 8 << 20


def server_context() -> ssl.SSLContext:
    """Without a certificate yet: until it has one every handshake fails."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def host_and_port(address: str, option: str) -> tuple[str, int]:
    """Raises `UsageError`."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or not 0 <= int(port) < 65536:
        raise UsageError(f"{address!r} is not HOST:PORT", field=option)
    return host.strip("[]"), int(port)


class SecureServer:
    """`async with`. Raises `UsageError` when the address cannot be listened on."""

    def __init__(self, address: str, option: str, context: ssl.SSLContext, routes: Iterable[web.RouteDef]) -> None:
        self._host, self._port = host_and_port(address, option)
        self._option, self._context, self._routes = option, context, tuple(routes)
        self._runner: web.AppRunner | None = None

    @property
    def port(self) -> int:
        """The port really listened on (0 asks for any)."""
        assert self._runner is not None
        return int(self._runner.addresses[0][1])

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=_LARGEST)
        app.router.add_routes(self._routes)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, self._host, self._port, ssl_context=self._context).start()
        except OSError as error:
            await self._runner.cleanup()
            raise UsageError(
                f"cannot listen on {self._host}:{self._port}: {error.strerror}",
                field=self._option,
                hint="Another process has the port; choose another, or 0 for a free one.",
            ) from error
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
