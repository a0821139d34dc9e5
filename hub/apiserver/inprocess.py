"""The API for code in the server's own process: no socket, no HTTP, the same rules.

Implements `hub.client.interface.KubeApi`. Objects that go in are copied, objects that come out are the caller's to
change. A call returns when what it wrote is durable.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Final

from hub.api.errors import StorageError
from hub.api.resource import Resource
from hub.api.wire import Listing, Object, Page, PatchType, WatchEvent
from hub.apiserver import update
from hub.apiserver.create import create
from hub.apiserver.kinds import ServedKind
from hub.apiserver.logical import LogicalCluster
from hub.apiserver.patching import Patch
from hub.apiserver.plane import ControlPlane
from hub.apiserver.record import Record
from hub.apiserver.remove import delete, delete_options
from hub.apiserver.selection import Selection
from hub.apiserver.status import bad_request, compacted, no_such_path, storage_refused
from hub.apiserver.watching import BOOKMARK_SECONDS, translate
from hub.apiserver.written import Options, Written, owned_copy

_PULL: Final = 200
_PAGE: Final = 50


class InProcessApi:
    """One logical cluster of `plane`, as an administrator. Errors: the `ApiError` tree.

    `field_manager` names the writer where a call does not.
    """

    def __init__(self, plane: ControlPlane, cluster: str = "", *, field_manager: str = "quarterdeck") -> None:
        self._plane = plane
        self._name = cluster
        self._manager = field_manager

    async def get(self, resource: Resource, name: str, namespace: str | None = None) -> Object:
        cluster, kind = await self._kind(resource)
        return _load(kind, cluster.get(kind, (_space(kind, namespace), name)))

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
        pages = self.pages(resource, namespace, label_selector=label_selector, field_selector=field_selector)
        async for page in pages:
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
        cluster, kind = await self._kind(resource)
        selection = Selection(kind, namespace if kind.namespaced else None, label_selector, field_selector)
        records, version = selection.of(cluster.collection(kind)), str(cluster.store.version)
        for start in range(0, len(records) or 1, _PAGE):
            items = [_load(kind, record) for record in records[start : start + _PAGE]]
            yield Page(items, version, fresh=start == 0)
            items.clear()

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
        cluster, kind = await self._kind(resource)
        store, collection = cluster.store, cluster.collection(kind)
        selection = Selection(kind, namespace if kind.namespaced else None, label_selector, field_selector)
        if resource_version and not resource_version.isdigit():
            raise bad_request(f"resourceVersion: found {resource_version!r}; expected a number")
        version = int(resource_version or "0")
        watches = self._plane.watches(collection)
        clock = asyncio.get_running_loop().time
        deadline = clock() + timeout_seconds
        woken = asyncio.Event()
        watches.wakers.add(woken.set)
        try:
            if version == 0:
                version, records = store.version, selection.of(collection)
                for record in records:
                    yield WatchEvent("ADDED", _load(kind, record))
            elif store.gap(version):
                raise compacted(version, collection.history.compacted)
            while not watches.ended:
                woken.clear()
                events = collection.history.after(version, _PULL)
                if events is None:
                    raise compacted(version, collection.history.compacted)
                for event in events:
                    version = event.version
                    if selection.namespace is not None and event.record.namespace != selection.namespace:
                        continue
                    seen = translate(event, selection)
                    if seen is not None:
                        yield WatchEvent(seen[0], _load(kind, seen[1]))
                if events:
                    continue
                left = deadline - clock()
                if left <= 0:
                    return
                try:
                    async with asyncio.timeout(min(left, BOOKMARK_SECONDS)):
                        await woken.wait()
                except TimeoutError:
                    version = max(version, store.version)
                    metadata = {"resourceVersion": str(version)}
                    yield WatchEvent(
                        "BOOKMARK", {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata}
                    )
        finally:
            watches.wakers.discard(woken.set)

    async def create(
        self, resource: Resource, obj: Object, namespace: str | None = None, *, dry_run: bool = False
    ) -> Object:
        cluster, kind = await self._kind(resource)
        body = owned_copy(obj)
        space = (namespace or (obj.get("metadata") or {}).get("namespace")) if kind.namespaced else None
        return await self._write(kind, lambda: create(cluster, kind, body, space, self._options(dry_run=dry_run)))

    async def replace(self, resource: Resource, obj: Object, *, subresource: str | None = None) -> Object:
        cluster, kind = await self._kind(resource)
        _check_subresource(kind, subresource)
        body = owned_copy(obj)
        key = (_space(kind, body["metadata"].get("namespace")), body["metadata"]["name"])
        options = self._options()
        return await self._write(
            kind, lambda: update.replace(cluster, kind, body, key, options, subresource=subresource or "")
        )

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
        cluster, kind = await self._kind(resource)
        _check_subresource(kind, subresource)
        if type == "apply" and not field_manager:
            raise bad_request("fieldManager is required for apply patch")
        change = Patch(type, owned_copy(patch))
        key = (_space(kind, namespace), name)
        options = self._options(manager=field_manager, force=force)
        part = subresource or ""
        return await self._write(kind, lambda: update.patch(cluster, kind, change, key, options, subresource=part))

    async def delete(
        self,
        resource: Resource,
        name: str,
        namespace: str | None = None,
        *,
        uid: str | None = None,
        propagation_policy: str | None = None,
    ) -> None:
        cluster, kind = await self._kind(resource)
        options = {"propagationPolicy": propagation_policy, "preconditions": {"uid": uid} if uid else None}
        how = delete_options(options, {})
        await self._write(kind, lambda: delete(cluster, kind, (_space(kind, namespace), name), how))

    async def _kind(self, resource: Resource) -> tuple[LogicalCluster, ServedKind]:
        cluster = self._plane.clusters.get(self._name)
        if cluster is None:
            cluster = self._plane.open_cluster(self._name)
            await self._plane.store.committed()
        kind = cluster.registry.of(resource)
        if kind is None or kind.virtual:
            raise no_such_path()
        return cluster, kind

    async def _write(self, kind: ServedKind, write: Callable[[], Written]) -> Object:
        try:
            written = write()
            await self._plane.store.committed()
        except StorageError as error:
            raise storage_refused(error) from error
        return _load(kind, written.record)

    def _options(self, *, manager: str = "", force: bool = False, dry_run: bool = False) -> Options:
        return Options(dry_run=dry_run, field_validation="Ignore", manager=manager or self._manager, force=force)


def _space(kind: ServedKind, namespace: str | None) -> str:
    return (namespace or "") if kind.namespaced else ""


def _load(kind: ServedKind, record: Record) -> Object:
    obj = record.load()
    return obj if record.api_version == kind.api_version else kind.from_storage(obj)


def _check_subresource(kind: ServedKind, subresource: str | None) -> None:
    if subresource and not (subresource == "status" and kind.has_status):
        raise no_such_path()
