"""A hub's way to its API through our hands: one request of its choice is held, as on a slow network, and let go later.

An HTTP proxy without TLS on its own side: the hub is told this address, and speaks to the API with the credential given
here. Whoever holds something sees what was answered to it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

import aiohttp
from aiohttp import web

from hub.client.session import Session

_HOP: Final = frozenset({"host", "connection", "transfer-encoding", "content-length", "keep-alive", "authorization"})


class Interception:
    """`url` while its `async with` lasts. `credential`: a session whose connection is used for the way on."""

    def __init__(self, credential: Session) -> None:
        self.url = ""
        self.held = asyncio.Event()
        """Set once the request that is waited for has come."""
        self.answers: list[tuple[int, str]] = []
        """Status and text of what was answered to held requests."""
        self._credential = credential
        self._wanted: Callable[[str, str], bool] | None = None
        self._go_on = asyncio.Event()
        self._runner: web.AppRunner | None = None
        self._client: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=64 << 20)
        app.router.add_route("*", "/{path:.*}", self._pass)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = site_url(self._runner)
        self._client = aiohttp.ClientSession(auto_decompress=False, timeout=aiohttp.ClientTimeout(total=None))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._go_on.set()
        if self._client is not None:
            await self._client.close()
        if self._runner is not None:
            await self._runner.cleanup()

    def hold(self, wanted: Callable[[str, str], bool]) -> None:
        """The next request for which `wanted(method, path)` is true waits until `release`."""
        self._wanted = wanted

    def release(self) -> None:
        self._go_on.set()

    async def _pass(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        mine = self._wanted is not None and self._wanted(request.method, request.path)
        if mine:
            self._wanted = None
            self.held.set()
            await self._go_on.wait()
        connection = await self._credential.connection()
        headers = {key: value for key, value in request.headers.items() if key.lower() not in _HOP}
        if connection.authorization:
            headers["Authorization"] = connection.authorization
        assert self._client is not None
        async with self._client.request(
            request.method, connection.server + request.raw_path, data=body, headers=headers, ssl=connection.ssl
        ) as answer:
            if mine:
                self.answers.append((answer.status, (await answer.read()).decode(errors="replace")))
            response = web.StreamResponse(status=answer.status)
            for key, value in answer.headers.items():
                if key.lower() not in _HOP:
                    response.headers[key] = value
            await response.prepare(request)
            if mine:
                await response.write(self.answers[-1][1].encode())
            else:
                async for chunk in answer.content.iter_any():
                    await response.write(chunk)
            await response.write_eof()
            return response


def site_url(runner: web.AppRunner) -> str:
    host, port = runner.addresses[0][:2]
    return f"http://{host}:{port}"
