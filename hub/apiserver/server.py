"""The control plane behind HTTP: for tests, for `quarterdeck up`, for an edge site that people look at with kubectl.

    async with serve(directory) as server:
        …                 # server.url, server.token, server.in_process()

`self_signed` serves HTTPS with a certificate of its own, which kubectl needs: it sends no token over plain HTTP.

Plain HTTP is for loopback. Anywhere else it is HTTPS with that certificate, unless another one is given or whoever
starts it says that the network is safe; `names` are more names and addresses that it is reached by.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import logging
import os
import secrets
import ssl
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, Self

from hub.api.errors import UsageError
from hub.apiserver.aggregation import Aggregation
from hub.apiserver.audit import AuditLog
from hub.apiserver.auth import AUTHENTICATED, MASTERS, Tokens, User
from hub.apiserver.authentication import Authenticator
from hub.apiserver.certificates import ask_for_certificates, authority, server_context
from hub.apiserver.front import Front
from hub.apiserver.http import Connection
from hub.apiserver.inprocess import InProcessApi
from hub.apiserver.plane import ControlPlane
from hub.apiserver.service_tokens import ServiceTokens

_log = logging.getLogger(__name__)
_SWEEP_SECONDS = 5.0
_TOKEN_SECONDS = 1.0
# How long requests that are being answered may take at the end.
_GRACE_SECONDS = 5.0


class ApiServer:
    """Made by `serve`. `token` is an administrator's, known to nobody else; empty when a token file was given."""

    def __init__(
        self,
        directory: Path,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        tokens: Path | None = None,
        tls: ssl.SSLContext | None = None,
        self_signed: bool = False,
        insecure: bool = False,
        power_safe: bool = False,
        crds: Iterable[dict[str, Any]] = (),
        aggregated: Mapping[str, str] | None = None,
        audit: AuditLog | None = None,
        authorization: Literal["RBAC", "AlwaysAllow"] = "RBAC",
        names: Iterable[str] = (),
    ) -> None:
        self.plane = ControlPlane(directory, power_safe=power_safe, authorizes=authorization)
        self.token = "" if tokens is not None else secrets.token_urlsafe(32)
        self.url = ""
        self.host, self.port = host, port
        self._own = {self.token: User("admin", (MASTERS, AUTHENTICATED))} if self.token else {}
        self._tokens_file = tokens
        self._directory = directory
        self._tls = tls
        # Plain HTTP would show tokens to the network.
        self._self_signed = self_signed or (tls is None and not insecure and not _is_loopback(host))
        self._names = tuple(names)
        # What clients must trust where the certificate is our own.
        self.authority = b""
        self._crds = crds
        self._audit = audit
        self._aggregation = Aggregation(aggregated or {})
        self._connections: set[Connection] = set()
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        """Raises the `StorageError` tree; `UsageError` when it cannot listen there."""
        await self.plane.__aenter__()
        try:
            if self._crds:
                await self.plane.install(self._crds)
            self._tokens = Tokens(self._tokens_file, self._own)
            service_tokens = ServiceTokens(self._directory)
            authenticator = Authenticator(self._tokens, service_tokens, self.plane.clusters.get)
            self._front = Front(self.plane, authenticator, self._aggregation, self._audit)
            if self._self_signed and self._tls is None:
                self.authority = authority(self._directory)
                self._tls = server_context(self._directory, self.host, self._names)
            if self._tls is not None:
                ask_for_certificates(self._tls, self._directory)
            await self._listen()
        except BaseException:
            await self.plane.__aexit__()
            raise
        self._tasks = [asyncio.create_task(self._sweep()), asyncio.create_task(self._watch_tokens())]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._front.stopping = True
        self._server.close()
        for task in self._tasks:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        await self._aggregation.close()
        self.plane.end_watches()
        for connection in list(self._connections):
            connection.shut_down()
        deadline = asyncio.get_running_loop().time() + _GRACE_SECONDS
        while self._connections and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(0.01)
        for connection in list(self._connections):
            connection.abort()
        await self.plane.__aexit__()
        if self._audit is not None:
            self._audit.close()

    def in_process(self, cluster: str = "") -> InProcessApi:
        """Access without a socket, as an administrator."""
        return InProcessApi(self.plane, cluster)

    async def _listen(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            self._server = await loop.create_server(
                lambda: Connection(self._front.handle, self._connections),
                self.host,
                self.port,
                ssl=self._tls,
                backlog=1024,
            )
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise UsageError(
                    f"port {self.port} on {self.host} is in use by another process",
                    hint="Choose another port, or stop what listens there.",
                ) from error
            raise UsageError(f"cannot listen on {self.host}:{self.port}: {os.strerror(error.errno or 0)}") from error
        self.port = int(self._server.sockets[0].getsockname()[1])
        host = f"[{self.host}]" if ":" in self.host else self.host
        self.url = f"{'https' if self._tls else 'http'}://{host}:{self.port}"

    async def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(_SWEEP_SECONDS)
            now = loop.time()
            if self._audit is not None:
                self._audit.flush()
            for connection in list(self._connections):
                connection.expire(now)

    async def _watch_tokens(self) -> None:
        while True:
            await asyncio.sleep(_TOKEN_SECONDS)
            self._tokens.refresh()


def serve(directory: str | Path, port: int = 0, **options: Any) -> ApiServer:
    """A server on loopback, as an async context manager. `options` are those of `ApiServer`."""
    return ApiServer(Path(directory), port=port, **options)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
