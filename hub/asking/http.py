"""How scorers and their sources are spoken to over HTTP, in the event loop. Every failure has its reason.

As with score sources only hosts that the configuration allows are asked, and a bounded answer is read in a bounded
time. A redirect is followed only within the same scheme, host and port; one that leads elsewhere is refused, because it
would carry data and a token to somebody whom nobody has named.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import ssl
import tempfile
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urljoin, urlsplit

import aiohttp
import orjson
from yarl import URL

from hub.api.reasons import Reason
from hub.asking.access import Access, SourceError
from hub.asking.trouble import ScorerTrouble

LARGEST_ANSWER: Final = 8 << 20
LARGEST_SERIES: Final = 32 << 20
CLUSTER_HEADER: Final = "X-Quarterdeck-Cluster"
_REDIRECTS: Final = 3
_CONTEXTS: Final = 64
_AGENT: Final = "quarterdeck"


@dataclass(frozen=True, slots=True)
class Certificates:
    """PEM texts; empty: the system's authorities, no certificate of the hub's own."""

    authorities: str = ""
    certificate: str = ""
    key: str = ""


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    body: bytes

    def json(self, who: str) -> Any:
        """Raises `ScorerTrouble`."""
        try:
            return orjson.loads(self.body)
        except orjson.JSONDecodeError as error:
            start = self.body[:60].decode("utf-8", "replace")
            raise ScorerTrouble(
                Reason.SCORER_ANSWER_NOT_JSON, f"{who} answers {' '.join(start.split())!r}, which is not JSON"
            ) from error


class ScorerHttp:
    """`close` when done. Made and used in one event loop."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._session: aiohttp.ClientSession | None = None
        self._contexts: OrderedDict[str, ssl.SSLContext] = OrderedDict()

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def get(
        self,
        url: str,
        timeout: float,
        *,
        token: str = "",
        tls: Certificates | None = None,
        most: int = LARGEST_ANSWER,
    ) -> Reply:
        """Whatever the status. Raises `ScorerTrouble`."""
        return await self._request("GET", url, timeout, None, self._headers(url, token), tls, most)

    async def post(
        self,
        url: str,
        body: bytes,
        timeout: float,
        *,
        token: str = "",
        tls: Certificates | None = None,
        cluster: str = "",
    ) -> Reply:
        """A JSON body. Whatever the status. Raises `ScorerTrouble`."""
        headers = self._headers(url, token)
        headers["Content-Type"] = "application/json"
        if cluster:
            headers[CLUSTER_HEADER] = cluster
        return await self._request("POST", url, timeout, body, headers, tls, LARGEST_ANSWER)

    def _headers(self, url: str, token: str) -> dict[str, str]:
        try:
            self._access.check(url)
        except SourceError as error:
            raise ScorerTrouble(Reason.SCORER_NOT_ALLOWED, str(error), endpoint=True) from error
        try:
            token = token or self._access.token(url)
        except SourceError as error:
            raise ScorerTrouble(Reason.SCORER_SECRET_MISSING, str(error), endpoint=True) from error
        headers = {"Accept": "application/json", "User-Agent": _AGENT}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        return headers

    async def _request(
        self,
        method: str,
        url: str,
        timeout: float,
        body: bytes | None,
        headers: dict[str, str],
        tls: Certificates | None,
        most: int,
    ) -> Reply:
        who = place(url)
        try:
            async with asyncio.timeout(timeout):
                for _ in range(_REDIRECTS + 1):
                    reply = await self._once(method, url, body, headers, tls, most)
                    if isinstance(reply, Reply):
                        return reply
                    url, method, body = self._follow(url, reply, method, body)
                raise ScorerTrouble(Reason.SCORER_REDIRECTED, f"{who} redirects without end", endpoint=True)
        except TimeoutError as error:
            raise ScorerTrouble(
                Reason.SCORER_TIMEOUT, f"{who} has not answered within {timeout:g} s", endpoint=True
            ) from error
        except aiohttp.ClientError as error:
            raise ScorerTrouble(
                Reason.SCORER_UNREACHABLE, f"{who} cannot be reached: {_cause(error)}", endpoint=True
            ) from error
        except (ValueError, OSError) as error:
            # A token or an address that no request can carry; a certificate that is none.
            raise ScorerTrouble(Reason.SCORER_UNREACHABLE, f"{who}: {_cause(error)}", endpoint=True) from error

    async def _once(
        self, method: str, url: str, body: bytes | None, headers: dict[str, str], tls: Certificates | None, most: int
    ) -> Reply | tuple[int, str]:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                cookie_jar=aiohttp.DummyCookieJar(),
                connector=aiohttp.TCPConnector(limit=0),
                timeout=aiohttp.ClientTimeout(),
                skip_auto_headers=("User-Agent",),
            )
        async with self._session.request(
            method,
            URL(url, encoded=True),
            data=body,
            headers=headers,
            allow_redirects=False,
            ssl=self._context(tls) if tls is not None and url.startswith("https://") else True,
        ) as response:
            target = response.headers.get("Location", "")
            if target and response.status in (301, 302, 303, 307, 308):
                return response.status, target
            if response.content_length is not None and response.content_length > most:
                raise _too_large(url, most)
            found = bytearray()
            async for part in response.content.iter_chunked(1 << 16):
                found += part
                if len(found) > most:
                    raise _too_large(url, most)
            return Reply(response.status, bytes(found))

    @staticmethod
    def _follow(url: str, redirect: tuple[int, str], method: str, body: bytes | None) -> tuple[str, str, bytes | None]:
        status, target = redirect
        new = urljoin(url, target)
        if _origin(new) != _origin(url):
            raise ScorerTrouble(
                Reason.SCORER_REDIRECTED,
                f"{place(url)} answers {status} and leads to {new[:100]}, which is not followed",
                endpoint=True,
            )
        if method == "POST" and status not in (307, 308):
            return new, "GET", None
        return new, method, body

    def _context(self, tls: Certificates) -> ssl.SSLContext:
        """Kept by content: reading certificates takes longer than a request."""
        digest = hashlib.sha256("\0".join((tls.authorities, tls.certificate, tls.key)).encode()).hexdigest()
        found = self._contexts.get(digest)
        if found is None:
            found = ssl.create_default_context(cadata=tls.authorities or None)
            if tls.certificate:
                _load_chain(found, tls.certificate + "\n" + tls.key)
            self._contexts[digest] = found
            if len(self._contexts) > _CONTEXTS:
                self._contexts.popitem(last=False)
        self._contexts.move_to_end(digest)
        return found


def place(url: str) -> str:
    """Host and port, for messages: paths and queries are long, and may hold what is not to be shown."""
    return urlsplit(url).netloc.rpartition("@")[2] or url[:60]


def _origin(url: str) -> tuple[str, str, int | None]:
    parts = urlsplit(url)
    try:
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    except ValueError:
        port = None
    return parts.scheme, (parts.hostname or "").lower(), port


def _load_chain(context: ssl.SSLContext, pem: str) -> None:
    """From a file that only this process can read, for as long as it takes: the library reads nothing else."""
    handle, path = tempfile.mkstemp()
    try:
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write(pem)
        context.load_cert_chain(path)
    finally:
        os.unlink(path)


def _too_large(url: str, most: int) -> ScorerTrouble:
    return ScorerTrouble(Reason.SCORER_ANSWER_UNUSABLE, f"{place(url)} answers more than {most >> 20} MiB")


def _cause(error: Exception) -> str:
    inner = getattr(error, "os_error", None)
    return " ".join(str(inner or error).split())[:200] or type(error).__name__
