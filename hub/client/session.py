"""The Kubernetes API over HTTP, as controllers and agents use it: objects in, objects out, JSON only.

aiohttp and orjson, because this is the hot path: about 200 µs a request. How a request travels is in
hub/client/transport.py; retrying and caching are their callers' business (`Informer`, `Patcher`).
"""

from __future__ import annotations

import ssl as ssl_module
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Self

import aiohttp
import orjson

from hub.api.errors import GoneError, UnreachableError, api_error
from hub.api.resource import Resource
from hub.client.credentials import Connection, CredentialSource, Fixed, InCluster, Kubeconfig, default_kubeconfig
from hub.client.interface import Listing, Object, Page, PatchType, WatchEvent
from hub.client.transport import Transport

# Who takes it page by page keeps little of each: decoded, a page takes ten times its bytes. Who wants all has all.
_PAGE: Final = 100
_LARGE_PAGE: Final = 1000
# Servers send a bookmark about once a minute; a stream silent for longer is taken for dead and opened anew.
_WATCH_SILENCE: Final = 90.0
_PATCH_TYPES: Final[dict[PatchType, str]] = {
    "merge": "application/merge-patch+json",
    "json": "application/json-patch+json",
    "strategic": "application/strategic-merge-patch+json",
    "apply": "application/apply-patch+yaml",
}


class Session:
    """Implements `hub.client.interface.KubeApi`. Use as an async context manager, or call `close`.

    Errors: the `ApiError` tree for answers, `UnreachableError` when there is none in `timeout` seconds.
    """

    def __init__(
        self,
        url: str = "",
        *,
        token: str = "",
        ssl: ssl_module.SSLContext | bool = True,
        source: CredentialSource | None = None,
        timeout: float = 30.0,
        user_agent: str = "quarterdeck",
    ) -> None:
        bearer = f"Bearer {token}" if token else ""
        plain = Fixed(Connection(server=url.rstrip("/"), authorization=bearer, ssl=ssl))
        self._transport = Transport(source or plain, timeout, user_agent)
        self._send = self._transport.send

    @classmethod
    def from_kubeconfig(
        cls, path: str | Path | None = None, context: str | None = None, *, timeout: float = 30.0
    ) -> Session:
        """Raises `UsageError` at once when the file cannot work; None means what kubectl would read."""
        source = Kubeconfig(Path(path) if path is not None else default_kubeconfig(), context)
        source.read()
        return cls(source=source, timeout=timeout)

    @classmethod
    def in_cluster(cls, *, timeout: float = 30.0) -> Session:
        return cls(source=InCluster(), timeout=timeout)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        await self._transport.close()

    async def connection(self) -> Connection:
        """The connection in use: server, default namespace. Reads the credentials if that has not happened yet."""
        return await self._transport.connection()

    # KubeApi

    async def get(self, resource: Resource, name: str, namespace: str | None = None) -> Object:
        return _object(await self._send("GET", resource.path(namespace, name)))

    async def list(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        label_selector: str = "",
        field_selector: str = "",
    ) -> Listing:
        items: list[Object] = []
        version = ""
        async for page in self._pages(resource, namespace, _LARGE_PAGE, label_selector, field_selector):
            if page.fresh:
                items = []
            items += page.items
            version = page.resource_version
        return Listing(items, version)

    async def pages(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        label_selector: str = "",
        field_selector: str = "",
    ) -> AsyncIterator[Page]:
        """What `list` gives, a page at a time, so that nobody has to hold it all."""
        async for page in self._pages(resource, namespace, _PAGE, label_selector, field_selector):
            yield page

    async def _pages(
        self, resource: Resource, namespace: str | None, limit: int, label_selector: str, field_selector: str
    ) -> AsyncIterator[Page]:
        query = _query(labelSelector=label_selector, fieldSelector=field_selector)
        token, fresh = "", True
        while True:
            page = {**query, **({"limit": str(limit)} if limit else {}), **({"continue": token} if token else {})}
            try:
                answer = _object(await self._send("GET", resource.path(namespace), page))
            except GoneError:
                if not token:
                    raise
                # The server dropped the snapshot the pages came from: take everything in one answer instead.
                token, limit, fresh = "", 0, True
                continue
            items = answer.get("items") or []
            metadata = answer.get("metadata") or {}
            if items and "kind" not in items[0]:
                for item in items:
                    item["apiVersion"], item["kind"] = resource.api_version, resource.kind
            yield Page(items, str(metadata.get("resourceVersion", "")), fresh)
            # Lest two pages are in memory while the next one is read.
            items.clear()
            token, fresh = metadata.get("continue") or "", False
            if not token:
                return

    async def watch(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        resource_version: str,
        label_selector: str = "",
        field_selector: str = "",
        timeout_seconds: int = 300,
    ) -> AsyncIterator[WatchEvent]:
        query = _query(
            watch="true",
            allowWatchBookmarks="true",
            resourceVersion=resource_version,
            timeoutSeconds=str(timeout_seconds),
            labelSelector=label_selector,
            fieldSelector=field_selector,
        )
        limits = aiohttp.ClientTimeout(total=None, sock_connect=self._transport.timeout, sock_read=_WATCH_SILENCE)
        response = await self._transport.open(
            "GET", resource.path(namespace), query, timeout=limits, encoding="identity"
        )
        try:
            async for line in _lines(response, self._transport.where()):
                try:
                    event = orjson.loads(line)
                except orjson.JSONDecodeError as error:
                    raise UnreachableError(f"{self._transport.where()} garbled a watch: {line[:80]!r}") from error
                if event["type"] == "ERROR":
                    status = event["object"]
                    raise api_error(int(status.get("code") or 500), status)
                yield WatchEvent(event["type"], event["object"])
        finally:
            # A stream that is not read to its end cannot be used again.
            response.close()

    async def create(
        self, resource: Resource, obj: Object, namespace: str | None = None, *, dry_run: bool = False
    ) -> Object:
        namespace = namespace or (obj.get("metadata") or {}).get("namespace")
        query = {"dryRun": "All"} if dry_run else None
        return _object(await self._send("POST", resource.path(namespace), query, orjson.dumps(obj)))

    async def replace(self, resource: Resource, obj: Object, *, subresource: str | None = None) -> Object:
        path = resource.path(obj["metadata"].get("namespace"), obj["metadata"]["name"], subresource)
        return _object(await self._send("PUT", path, None, orjson.dumps(obj)))

    async def patch(
        self,
        resource: Resource,
        name: str,
        patch: Object | Sequence[Object],
        namespace: str | None = None,
        *,
        subresource: str | None = None,
        type: PatchType = "merge",
        field_manager: str = "",
        force: bool = False,
    ) -> Object:
        query = _query(fieldManager=field_manager, force="true" if force else "")
        path = resource.path(namespace, name, subresource)
        return _object(await self._send("PATCH", path, query, orjson.dumps(patch), _PATCH_TYPES[type]))

    async def delete(
        self,
        resource: Resource,
        name: str,
        namespace: str | None = None,
        *,
        uid: str | None = None,
        propagation_policy: str | None = None,
    ) -> None:
        options: Object = {"apiVersion": "v1", "kind": "DeleteOptions"}
        if uid:
            options["preconditions"] = {"uid": uid}
        if propagation_policy:
            options["propagationPolicy"] = propagation_policy
        plain = len(options) == 2
        await self._send("DELETE", resource.path(namespace, name), None, None if plain else orjson.dumps(options))

    # Beyond KubeApi

    async def request(
        self, method: str, path: str, *, query: Mapping[str, str] | None = None, body: object = None
    ) -> Any:
        """Any other path, such as ``/version``: the decoded JSON answer, or its text where it is not JSON."""
        answer = await self._send(method, path, query, orjson.dumps(body) if body is not None else None)
        try:
            return orjson.loads(answer)
        except orjson.JSONDecodeError:
            return answer.decode(errors="replace")

    async def stream(
        self, path: str, *, query: Mapping[str, str] | None = None, silence: float = 900.0
    ) -> AsyncIterator[bytes]:
        """The bytes of any other path as they come, such as a pod's log; `silence` seconds without any end it.

        Raises `ApiError`, and `UnreachableError` when it breaks off.
        """
        limits = aiohttp.ClientTimeout(total=None, sock_connect=self._transport.timeout, sock_read=silence)
        response = await self._transport.open("GET", path, query, timeout=limits, encoding="identity")
        try:
            async for chunk in response.content.iter_any():
                yield chunk
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise self._transport.unreachable(error) from error
        finally:
            response.close()


async def _lines(response: aiohttp.ClientResponse, where: str) -> AsyncIterator[bytes]:
    """Lines of any length; aiohttp's own line reader gives up on long ones. Silence and hang-ups end the stream."""
    pending: list[bytes] = []
    try:
        async for chunk in response.content.iter_any():
            *lines, rest = chunk.split(b"\n")
            for line in lines:
                if pending:
                    pending.append(line)
                    line = b"".join(pending)
                    pending.clear()
                if line:
                    yield line
            if rest:
                pending.append(rest)
    except TimeoutError:
        return
    except (aiohttp.ClientError, OSError) as error:
        raise UnreachableError(f"{where} ended a watch: {error or type(error).__name__}") from error


def _query(**members: str) -> dict[str, str]:
    return {key: value for key, value in members.items() if value}


def _object(answer: bytes) -> Object:
    try:
        value = orjson.loads(answer)
    except orjson.JSONDecodeError:
        value = None
    if not isinstance(value, dict):
        # Something between us and the server answered instead of it; what it serves may be right again later.
        raise api_error(502, {"message": f"the answer is not an object of the Kubernetes API: {answer[:80]!r}"})
    return value
