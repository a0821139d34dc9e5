"""Who asks an aggregated API: the API server passes requests on, and says in headers on whose behalf.

It proves itself by a client certificate of an authority that it publishes for all extension servers, in a ConfigMap.
Headers of anybody else count for nothing: who comes directly has to bring a bearer token.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from aiohttp import web

from hub.api.errors import NotFoundError, QuarterdeckError
from hub.api.resource import CONFIG_MAPS
from hub.client.interface import KubeApi
from hub.controllers.logs import logger
from hub.controllers.permission import Caller

_log = logger(__name__)
_NAMESPACE: Final = "kube-system"
_CONFIG_MAP: Final = "extension-apiserver-authentication"
_EVERY: Final = 60.0
_SOON: Final = 5.0


@dataclass(frozen=True, slots=True)
class ProxyTrust:
    """`authority` PEM; `names` the common names that are allowed, empty: any of that authority."""

    authority: str
    names: tuple[str, ...] = ()
    user: tuple[str, ...] = ("X-Remote-User",)
    uid: tuple[str, ...] = ("X-Remote-Uid",)
    group: tuple[str, ...] = ("X-Remote-Group",)
    extra: tuple[str, ...] = ("X-Remote-Extra-",)


def read_trust(config_map: Mapping[str, Any]) -> ProxyTrust | None:
    """None: this API server passes nothing on."""
    data = config_map.get("data") or {}
    authority = str(data.get("requestheader-client-ca-file") or "")
    if not authority.strip():
        return None
    listed = {
        part: _listed(data.get(f"requestheader-{key}"))
        for part, key in (
            ("names", "allowed-names"),
            ("user", "username-headers"),
            ("uid", "uid-headers"),
            ("group", "group-headers"),
            ("extra", "extra-headers-prefix"),
        )
    }
    return ProxyTrust(authority, **{part: values for part, values in listed.items() if values})


def caller_of(trust: ProxyTrust, common_name: str, headers: Mapping[str, Any]) -> Caller | None:
    """None: who holds that certificate may not speak for others, or speaks for nobody. `headers`: aiohttp's, by any
    spelling."""
    if trust.names and common_name not in trust.names:
        return None
    user = next((str(headers[name]) for name in trust.user if headers.get(name)), "")
    if not user:
        return None
    every: Callable[[str, list[str]], list[str]] = headers.getall  # type: ignore[attr-defined]
    groups = [value for name in trust.group for value in every(name, [])]
    extra: dict[str, list[str]] = {}
    for name in dict.fromkeys(str(key) for key in headers):
        for prefix in trust.extra:
            if name.lower().startswith(prefix.lower()) and len(name) > len(prefix):
                extra.setdefault(name[len(prefix) :].lower(), []).extend(every(name, []))
    uid = next((str(headers[name]) for name in trust.uid if headers.get(name)), "")
    return Caller(user, uid, tuple(groups), tuple((key, tuple(values)) for key, values in sorted(extra.items())))


class FrontProxy:
    """`run()` until cancelled: it keeps `context` knowing the API server's authority. `identify` is for pages."""

    def __init__(self, api: KubeApi, context: ssl.SSLContext, by_token: Callable[[str], Awaitable[Caller]]) -> None:
        self._api, self._context, self._by_token = api, context, by_token
        self._trust: ProxyTrust | None = None

    async def run(self) -> None:
        complained = ""
        while True:
            try:
                await self.step()
                complained = ""
            except QuarterdeckError as error:
                if str(error) != complained:
                    _log.warning("whom the API server speaks for is not known; again soon", why=str(error))
                complained = str(error)
            await asyncio.sleep(_SOON if complained or self._trust is None else _EVERY)

    async def step(self) -> None:
        try:
            found = read_trust(await self._api.get(CONFIG_MAPS, _CONFIG_MAP, _NAMESPACE))
        except NotFoundError:
            found = None
        if found is not None and (self._trust is None or found.authority != self._trust.authority):
            self._context.load_verify_locations(cadata=found.authority)
            # A proxy's, where it has one: people come with tokens.
            self._context.verify_mode = ssl.CERT_OPTIONAL
        self._trust = found

    async def identify(self, request: web.Request) -> Caller:
        """Raises `UnauthorizedError`, `UnreachableError`."""
        peer = request.transport.get_extra_info("peercert") if request.transport is not None else None
        if peer and self._trust is not None:
            caller = caller_of(self._trust, _common_name(peer), request.headers)
            if caller is not None:
                return caller
        return await self._by_token(request.headers.get("Authorization", ""))


def _common_name(certificate: Mapping[str, Any]) -> str:
    for part in certificate.get("subject") or ():
        for key, value in part:
            if key == "commonName":
                return str(value)
    return ""


def _listed(text: Any) -> tuple[str, ...]:
    try:
        found = json.loads(text) if text else []
    except ValueError:
        return ()
    return tuple(map(str, found)) if isinstance(found, list) else ()
