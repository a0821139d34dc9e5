"""AppliedManifestWork: the local record of what a work put on this cluster, and the owner of it.

It outlives the hub: with it a restarted agent, or one whose hub is gone, knows what is whose. Only records are kept
here; deleting what they name is `agent.work.removal`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import orjson

from agent.work.manifests import Manifest, ObjectKey
from hub.api import names
from hub.api.errors import AlreadyExistsError
from hub.api.packing import packed
from hub.api.resource import APPLIED_MANIFEST_WORKS
from hub.client.interface import KubeApi

Json = dict[str, Any]


def hub_hash(server: str) -> str:
    return hashlib.sha256(server.encode()).hexdigest()


class AppliedWorks:
    """Keeps the records in memory as they are on the local API, as bytes: there is one for every work that was ever
    applied and not yet taken away. `seen` feeds it from an informer."""

    def __init__(self, local: KubeApi, hub: str, agent_id: str) -> None:
        self._local = local
        self.hub = hub
        self.agent_id = agent_id
        self._records: dict[str, bytes] = {}

    def name_for(self, work: str) -> str:
        return f"{self.hub}-{work}"

    def record(self, work: str) -> Json | None:
        return self._named(self.name_for(work))

    def _named(self, name: str) -> Json | None:
        found = self._records.get(name)
        return None if found is None else orjson.loads(found)

    def strays(self, has_work: Callable[[str], bool]) -> Iterator[Json]:
        """The records of works that are not there, and those of other hubs and agents."""
        own = f"{self.hub}-"
        for name in list(self._records):
            if name.startswith(own) and has_work(name.removeprefix(own)):
                continue
            record = self._named(name)
            if record is not None:
                yield record

    def seen(self, obj: Mapping[str, Any], *, deleted: bool = False) -> None:
        name = obj["metadata"]["name"]
        current = self._named(name)
        if deleted:
            if current is not None and current["metadata"].get("uid") == obj["metadata"].get("uid"):
                del self._records[name]
        elif current is None or not _older(obj, current):
            metadata = {key: value for key, value in obj["metadata"].items() if key != "managedFields"}
            self._records[name] = packed({**obj, "metadata": metadata})

    async def ensure(self, work: Mapping[str, Any], digests: Mapping[ObjectKey, str]) -> Json:
        """The record of this work, made if missing. It exists before anything it owns does."""
        metadata = work["metadata"]
        name = self.name_for(metadata["name"])
        record = self._named(name)
        if record is None:
            body: Json = {
                "apiVersion": APPLIED_MANIFEST_WORKS.api_version,
                "kind": APPLIED_MANIFEST_WORKS.kind,
                "metadata": {
                    "name": name,
                    "labels": dict(metadata.get("labels") or {}),
                    "annotations": {names.MANIFEST_DIGESTS: _dump(digests)},
                    "finalizers": [names.APPLIED_WORK_FINALIZER],
                },
                "spec": {"hubHash": self.hub, "manifestWorkName": metadata["name"], "agentID": self.agent_id},
            }
            try:
                record = await self._local.create(APPLIED_MANIFEST_WORKS, body)
            except AlreadyExistsError:
                record = await self._local.get(APPLIED_MANIFEST_WORKS, name)
            self.seen(record)
        if record["spec"].get("agentID") != self.agent_id:
            record = await self._local.patch(APPLIED_MANIFEST_WORKS, name, {"spec": {"agentID": self.agent_id}})
            self.seen(record)
        if (record.get("status") or {}).get("evictionStartTime"):
            record = await self.patch_status(record, {"evictionStartTime": None})
        return record

    def digests(self, record: Mapping[str, Any]) -> dict[ObjectKey, str]:
        """Each manifest as last applied; empty for a record that another agent made."""
        text = (record["metadata"].get("annotations") or {}).get(names.MANIFEST_DIGESTS, "{}")
        try:
            found = orjson.loads(text)
        except orjson.JSONDecodeError:
            return {}
        result: dict[ObjectKey, str] = {}
        for path, digest in found.items():
            group, plural, namespace, name = [*path.split("/"), "", "", ""][:4]
            result[group, plural, namespace, name] = str(digest)
        return result

    async def set_digests(self, record: Mapping[str, Any], digests: Mapping[ObjectKey, str]) -> None:
        """After the manifests are in force, so that a crash in between applies them again."""
        if self.digests(record) == digests:
            return
        patch = {
            "metadata": {"uid": record["metadata"]["uid"], "annotations": {names.MANIFEST_DIGESTS: _dump(digests)}}
        }
        self.seen(await self._local.patch(APPLIED_MANIFEST_WORKS, record["metadata"]["name"], patch))

    async def delete(self, record: Mapping[str, Any]) -> None:
        """Tells it to go; its finalizer holds it until all it owns is gone."""
        metadata = record["metadata"]
        await self._local.delete(APPLIED_MANIFEST_WORKS, metadata["name"], uid=metadata["uid"])
        marked = {**metadata, "deletionTimestamp": metadata.get("deletionTimestamp") or "pending"}
        self._records[metadata["name"]] = packed({**record, "metadata": marked})

    async def patch_status(self, record: Mapping[str, Any], status: Json) -> Json:
        metadata = record["metadata"]
        patch = {"metadata": {"uid": metadata["uid"]}, "status": status}
        updated = await self._local.patch(APPLIED_MANIFEST_WORKS, metadata["name"], patch, subresource="status")
        self.seen(updated)
        return updated

    async def set_resources(self, record: Mapping[str, Any], resources: Iterable[Json]) -> Json:
        """Writes `status.appliedResources` unless it says so already."""
        wanted = sorted(resources, key=lambda r: (r["group"], r["version"], r["resource"], r["namespace"], r["name"]))
        if wanted == applied_resources(record):
            return dict(record)
        return await self.patch_status(record, {"appliedResources": wanted})


def _dump(digests: Mapping[ObjectKey, str]) -> str:
    return orjson.dumps(
        {"/".join(key): digest for key, digest in digests.items()}, option=orjson.OPT_SORT_KEYS
    ).decode()


def applied_resources(record: Mapping[str, Any]) -> list[Json]:
    return [
        {key: str(entry.get(key) or "") for key in ("group", "version", "resource", "namespace", "name", "uid")}
        for entry in (record.get("status") or {}).get("appliedResources") or ()
    ]


def resource_entry(manifest: Manifest, obj: Mapping[str, Any]) -> Json:
    resource = manifest.resource
    assert resource is not None
    return {
        "group": resource.group,
        "version": resource.version,
        "resource": resource.plural,
        "namespace": manifest.namespace,
        "name": manifest.name,
        "uid": str(obj["metadata"].get("uid", "")),
    }


def entry_key(entry: Mapping[str, Any]) -> ObjectKey:
    return entry["group"], entry["resource"], entry["namespace"], entry["name"]


def owner_reference(record: Mapping[str, Any]) -> Json:
    return {
        "apiVersion": APPLIED_MANIFEST_WORKS.api_version,
        "kind": APPLIED_MANIFEST_WORKS.kind,
        "name": record["metadata"]["name"],
        "uid": record["metadata"]["uid"],
    }


def owned_by(obj: Mapping[str, Any], uid: str) -> bool:
    return any(ref.get("uid") == uid for ref in obj["metadata"].get("ownerReferences") or ())


def other_work_owners(obj: Mapping[str, Any], uid: str) -> bool:
    return any(
        ref.get("kind") == APPLIED_MANIFEST_WORKS.kind and ref.get("uid") != uid
        for ref in obj["metadata"].get("ownerReferences") or ()
    )


def _older(obj: Mapping[str, Any], current: Mapping[str, Any]) -> bool:
    """Whether `obj` is an older state of the same object than `current`: an informer may trail our own writes."""
    if obj["metadata"].get("uid") != current["metadata"].get("uid"):
        return False
    try:
        return int(obj["metadata"]["resourceVersion"]) < int(current["metadata"]["resourceVersion"])
    except (KeyError, ValueError):
        return False
