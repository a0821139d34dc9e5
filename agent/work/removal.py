"""Taking away what a work put on this cluster: by owner, in order, and only when it is really gone.

An object goes when our record owns it alone; co-owned ones lose our reference; what someone replaced or disowned is
forgotten. Workloads go before what they use, and a Job counts as gone when its processes are.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from agent.work.applied import AppliedWorks, applied_resources, entry_key, other_work_owners, owned_by
from agent.work.kinds import Kinds, rank
from agent.work.manifests import ObjectKey
from agent.work.watches import VERIFY_SECONDS, LocalObjects
from hub.api import names
from hub.api.errors import ConflictError, NotFoundError
from hub.api.resource import APPLIED_MANIFEST_WORKS, Resource
from hub.client.interface import KubeApi

Json = dict[str, Any]
_log = logging.getLogger("agent.work.removal")


class Remover:
    def __init__(self, local: KubeApi, applied: AppliedWorks, objects: LocalObjects, kinds: Kinds) -> None:
        self._local = local
        self._applied = applied
        self._objects = objects
        self._kinds = kinds
        self._told: dict[tuple[ObjectKey, str], float] = {}

    async def sweep(
        self,
        record: Mapping[str, Any],
        entries: Iterable[Mapping[str, Any]],
        stays: Callable[[Resource, str, str], bool] = lambda resource, namespace, name: False,
    ) -> list[Json]:
        """One pass: removes what it can, in order, and returns the entries still there. Call again until none is.

        `stays(resource, namespace, name)`: the object is to be left behind, without its owner.
        """
        ranked: dict[int, list[tuple[Json, Resource]]] = {}
        for entry in entries:
            resource = await self._kinds.resolve_plural(entry["group"], entry["version"], entry["resource"])
            if resource is not None:
                ranked.setdefault(rank(resource.kind), []).append((dict(entry), resource))
        for number in sorted(ranked, reverse=True):
            pending = [
                entry
                for entry, resource in ranked[number]
                if await self._remove(record, entry, resource, stays(resource, entry["namespace"], entry["name"]))
            ]
            if pending:
                rest = [entry for lower in sorted(ranked, reverse=True) if lower < number for entry, _ in ranked[lower]]
                return pending + rest
        return []

    async def release(self, record: Mapping[str, Any]) -> None:
        """Ends the record itself: nothing of it is left."""
        name = record["metadata"]["name"]
        try:
            if not record["metadata"].get("deletionTimestamp"):
                await self._local.delete(APPLIED_MANIFEST_WORKS, name, uid=record["metadata"]["uid"])
            others = [f for f in record["metadata"].get("finalizers") or () if f != names.APPLIED_WORK_FINALIZER]
            patch = {"metadata": {"uid": record["metadata"]["uid"], "finalizers": others or None}}
            await self._local.patch(APPLIED_MANIFEST_WORKS, name, patch)
        except (NotFoundError, ConflictError):
            pass
        self._applied.seen(record, deleted=True)

    async def end_record(self, record: Mapping[str, Any]) -> bool:
        """Sweeps and, when all is gone, releases a record whose work is no longer ours to ask. True when it is done."""
        left = await self.sweep(record, applied_resources(record))
        if left:
            return False
        await self.release(record)
        return True

    async def _remove(self, record: Mapping[str, Any], entry: Json, resource: Resource, stays: bool) -> bool:
        """True while the object is still there."""
        key, uid = entry_key(entry), str(record["metadata"]["uid"])
        told = self._told.get((key, uid))
        loop = asyncio.get_running_loop()
        if told is not None and self._still_there(key) and loop.time() - told < VERIFY_SECONDS:
            return True
        namespace, name = entry["namespace"] or None, entry["name"]
        try:
            obj = await self._local.get(resource, name, namespace)
        except NotFoundError:
            self._told.pop((key, uid), None)
            return False
        metadata = obj["metadata"]
        foreign = entry.get("uid") and metadata.get("uid") != entry["uid"]
        if foreign or not owned_by(obj, uid):
            self._told.pop((key, uid), None)
            return False
        if stays or other_work_owners(obj, uid):
            await self._disown(obj, resource, uid)
            return False
        if not metadata.get("deletionTimestamp"):
            # Foreground: a Job stays visible until its processes are gone, so its last counts can be reported.
            policy = "Foreground" if resource.group == "batch" else "Background"
            try:
                await self._local.delete(resource, name, namespace, uid=metadata["uid"], propagation_policy=policy)
            except NotFoundError:
                return False
            except ConflictError:
                return False
            _log.debug("deleted", extra={"fields": {"kind": resource.kind, "object": f"{entry['namespace']}/{name}"}})
        self._told[key, uid] = loop.time()
        return True

    def _still_there(self, key: ObjectKey) -> bool:
        """Only a watched object's end is waited for: of others nothing will be heard."""
        seen = self._objects.seen(key)
        return seen is not None and seen.state == "present" and self._objects.watched(key)

    async def _disown(self, obj: Json, resource: Resource, uid: str) -> None:
        metadata = obj["metadata"]
        others = [ref for ref in metadata.get("ownerReferences") or () if ref.get("uid") != uid]
        patch = {
            "metadata": {
                "uid": metadata["uid"],
                "resourceVersion": metadata["resourceVersion"],
                "ownerReferences": others or None,
            }
        }
        with contextlib.suppress(NotFoundError):
            await self._local.patch(resource, metadata["name"], patch, metadata.get("namespace"))
