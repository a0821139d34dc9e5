"""One HTTP request to one API server: credentials, timeouts, and what an answer means.

An answer that asks to come back later (429, or Retry-After) is obeyed within the timeout; credentials are read again
when they change or are refused. Nothing else is retried, and nothing here knows what an object is.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from asyncio import sslproto
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote, urlencode

import aiohttp
import orjson
from yarl import URL

from hub.api.errors import UnauthorizedError, UnreachableError, UsageError, api_error
from hub.client.credentials import Connection, CredentialSource

_log = logging.getLogger(__name__)
_CHECK_CREDENTIALS_EVERY: Final = 5.0
# asyncio keeps a buffer of 256 KiB with each TLS connection, written to at its making, so all of it is there. A hub has
# dozens of connections on which a few kilobytes come at once; what is larger is read in several steps.
sslproto.SSLProtocol.max_size = 32 << 10


class Transport:
    """Errors: the `ApiError` tree for answers, `UnreachableError` when there is none in `timeout` seconds."""

    def __init__(self, source: CredentialSource, timeout: float, user_agent: str) -> None:
        self.timeout = timeout
        self._source = source
        self._connection: Connection | None = None
        self._stamp: object = None
        self._next_check = 0.0
        self._loading = asyncio.Lock()
        self._headers: dict[str, str] = {}
        self._limits = aiohttp.ClientTimeout(total=timeout)
        self._user_agent = user_agent
        self._http: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        if self._http is not None:
            await self._http.close()
            self._http = None

    async def connection(self) -> Connection:
        return self._connection or await self._connect()

    async def send(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: bytes | None = None,
        content_type: str = "application/json",
    ) -> bytes:
        try:
            response = await self.open(method, path, query, body, content_type)
            return await response.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise self.unreachable(error) from error

    async def open(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: bytes | None = None,
        content_type: str = "application/json",
        *,
        timeout: aiohttp.ClientTimeout | None = None,
        encoding: str = "",
    ) -> aiohttp.ClientResponse:
        """A response with a good status. Raises `ApiError` or `UnreachableError`."""
        deadline = time.monotonic() + self.timeout
        refused = False
        while True:
            connection = self._connection
            if connection is None or time.monotonic() >= self._next_check:
                connection = await self._connect()
            url = connection.server + quote(path)
            if query:
                url = f"{url}?{urlencode(query, quote_via=quote)}"
            headers = self._headers
            if body is not None or encoding:
                headers = {**headers, "Content-Type": content_type}
                if encoding:
                    headers["Accept-Encoding"] = encoding
            try:
                response = await self._client().request(
                    method,
                    URL(url, encoded=True),
                    data=body,
                    headers=headers,
                    ssl=connection.ssl,
                    allow_redirects=False,
                    timeout=timeout or self._limits,
                    server_hostname=connection.server_hostname,
                    proxy=connection.proxy,
                )
                if response.status < 300:
                    return response
                failure = api_error(response.status, _status(response.status, await response.read()))
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                raise self.unreachable(error) from error
            if isinstance(failure, UnauthorizedError) and not refused:
                # Perhaps the token was rotated since we read it.
                refused = True
                await self._connect(force=True)
                continue
            wait = _retry_after(response)
            if wait is None or time.monotonic() + wait > deadline:
                raise failure
            await asyncio.sleep(wait)

    async def _connect(self, *, force: bool = False) -> Connection:
        async with self._loading:
            connection = self._connection
            if connection is None or force or self._stale(connection):
                try:
                    connection = await self._source.load()
                except UsageError as error:
                    # A file that is being rewritten is no reason to drop credentials that may still be good.
                    if connection is None:
                        raise
                    _log.warning("the credentials cannot be read again: %s", error)
                # Asked after loading: some sources learn only then which files matter.
                self._stamp = self._source.stamp()
                self._headers = {"Accept": "application/json", "User-Agent": self._user_agent}
                if connection.authorization:
                    self._headers["Authorization"] = connection.authorization
            self._connection = connection
            self._next_check = time.monotonic() + _CHECK_CREDENTIALS_EVERY
            return connection

    def _stale(self, connection: Connection) -> bool:
        # A wall clock, because a token's expiry is one.
        expired = connection.expires is not None and time.time() > connection.expires - 30
        return expired or self._source.stamp() != self._stamp

    def _client(self) -> aiohttp.ClientSession:
        if self._http is None:
            self._http = aiohttp.ClientSession(
                # Watches hold a connection each; who writes bounds their own concurrency.
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=50),
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
                skip_auto_headers=("Content-Type",),
                read_bufsize=2**18,
            )
        return self._http

    def where(self) -> str:
        return self._connection.server if self._connection else "the API server"

    def unreachable(self, error: BaseException) -> UnreachableError:
        return UnreachableError(
            f"{self.where()} did not answer: {_in_words(error)}",
            hint="Check that it runs and that this machine reaches it.",
        )


def _in_words(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return str(error.certificate_error)
    if isinstance(error, aiohttp.ClientConnectorError) and not isinstance(error, aiohttp.ClientSSLError):
        # Its own text is a line of addresses and SSL contexts.
        cause = error.os_error
        return os.strerror(cause.errno).lower() if cause.errno and cause.errno > 0 else str(cause.strerror or cause)
    return str(error) or type(error).__name__


def _status(code: int, answer: bytes) -> dict[str, Any]:
    try:
        status = orjson.loads(answer)
        if isinstance(status, dict):
            return status
    except orjson.JSONDecodeError:
        pass
    text = answer[:300].decode(errors="replace").strip()
    return {"code": code, "message": f"the server answered {code}: {text}" if text else f"the server answered {code}"}


def _retry_after(response: aiohttp.ClientResponse) -> float | None:
    """Seconds to wait before the same request may be sent again; None when it may not."""
    if response.status != 429 and not (response.status >= 500 and "Retry-After" in response.headers):
        return None
    try:
        return min(max(float(response.headers.get("Retry-After", "1")), 0.05), 30.0)
    except ValueError:
        return 1.0
