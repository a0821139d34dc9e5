"""Bringing one manifest into force on the local API, by its update strategy.

Update does not fight the server: a live object that contains the manifest is left alone; a local change is put back
with what the server filled in kept; an edit replaces the object as written, and where that touches an immutable field
the server filled in, is laid over the live object instead. Nothing is written when nothing would change.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agent.work.applied import owned_by, owner_reference
from agent.work.ignored import CONFIG_HASH, content_hash, without_ignored
from agent.work.manifests import Manifest
from agent.work.overlay import in_force, overlaid, replaced
from hub.api.errors import AlreadyExistsError, ConflictError, InvalidObjectError, NotFoundError, RefusedError
from hub.api.resource import NAMESPACES, Resource
from hub.client.interface import KubeApi

Json = dict[str, Any]
_CONFLICT_ROUNDS = 5
_FIELD_MANAGER = "work-agent"


class Applier:
    """Writes to the local API only. Raises the `ApiError` tree and `InvalidObjectError`."""

    def __init__(self, local: KubeApi) -> None:
        self._local = local
        self._namespaces: set[str] = set()

    async def apply(self, manifest: Manifest, record: Mapping[str, Any], *, edited: bool, known: bool) -> Json | None:
        """The live object afterwards; None for ReadOnly when there is none.

        `edited`: the manifest differs from what was last applied. `known`: applied before, so it is likely there.
        """
        for _ in range(_CONFLICT_ROUNDS):
            try:
                return await self._once(manifest, record, edited=edited, known=known)
            except (ConflictError, AlreadyExistsError) as error:
                # Someone wrote in between, or it is there although we thought it was not: look again.
                conflict, known = error, True
                if manifest.options.strategy == "ServerSideApply" and not isinstance(error, AlreadyExistsError):
                    raise
        raise conflict

    async def _once(self, manifest: Manifest, record: Mapping[str, Any], *, edited: bool, known: bool) -> Json | None:
        resource = manifest.resource
        assert resource is not None
        strategy = manifest.options.strategy
        if strategy == "ReadOnly":
            return await self._live(manifest, resource)
        if strategy not in ("Update", "CreateOnly", "ServerSideApply"):
            raise InvalidObjectError(
                f"{strategy!r} is not an update strategy: write Update, CreateOnly, ServerSideApply or ReadOnly"
            )
        live = await self._live(manifest, resource) if known else None
        if live is None:
            return await self._create(manifest, resource, record)
        if strategy == "CreateOnly":
            return await self._own(manifest, resource, live, record)
        if strategy == "ServerSideApply":
            return await self._server_side(manifest, resource, live, record, edited=edited)
        return await self._update(manifest, resource, live, record, edited=edited)

    async def _live(self, manifest: Manifest, resource: Resource) -> Json | None:
        try:
            return await self._local.get(resource, manifest.name, manifest.namespace or None)
        except NotFoundError:
            return None

    async def _create(self, manifest: Manifest, resource: Resource, record: Mapping[str, Any]) -> Json:
        body = _fresh(manifest.body)
        references = _references(body["metadata"], manifest, record)
        if references:
            body["metadata"]["ownerReferences"] = references
        namespace = manifest.namespace or None
        if namespace is not None:
            await self._ensure_namespace(namespace)
        try:
            return await self._put_new(manifest, resource, body)
        except NotFoundError:
            if namespace is None or namespace not in self._namespaces:
                raise
            self._namespaces.discard(namespace)
            await self._ensure_namespace(namespace)
            return await self._put_new(manifest, resource, body)

    async def _put_new(self, manifest: Manifest, resource: Resource, body: Json) -> Json:
        namespace = manifest.namespace or None
        if manifest.options.strategy != "ServerSideApply":
            return await self._local.create(resource, body, namespace)
        entries = manifest.options.apply.get("ignoreFields") or ()
        if entries:
            stripped = without_ignored(manifest.body, entries)
            annotations = dict(body["metadata"].get("annotations") or {})
            body["metadata"]["annotations"] = {**annotations, CONFIG_HASH: content_hash(stripped)}
        return await self._server_apply(manifest, resource, body)

    async def _server_apply(self, manifest: Manifest, resource: Resource, body: Json) -> Json:
        options = manifest.options.apply
        return await self._local.patch(
            resource,
            manifest.name,
            body,
            manifest.namespace or None,
            type="apply",
            field_manager=str(options.get("fieldManager") or _FIELD_MANAGER),
            force=bool(options.get("force")),
        )

    async def _server_side(
        self, manifest: Manifest, resource: Resource, live: Json, record: Mapping[str, Any], *, edited: bool
    ) -> Json:
        entries = manifest.options.apply.get("ignoreFields") or ()
        body = _fresh(manifest.body)
        if entries:
            body = _fresh(without_ignored(manifest.body, entries))
            digest = content_hash(without_ignored(manifest.body, entries))
            if (live["metadata"].get("annotations") or {}).get(CONFIG_HASH) == digest:
                return await self._own(manifest, resource, live, record)
            body["metadata"]["annotations"] = {**(body["metadata"].get("annotations") or {}), CONFIG_HASH: digest}
        elif not edited and in_force(manifest.body, live):
            return await self._own(manifest, resource, live, record)
        applied = await self._server_apply(manifest, resource, body)
        return await self._own(manifest, resource, applied, record)

    async def _update(
        self, manifest: Manifest, resource: Resource, live: Json, record: Mapping[str, Any], *, edited: bool
    ) -> Json:
        if not edited and in_force(manifest.body, live):
            return await self._own(manifest, resource, live, record)
        references = _references(live["metadata"], manifest, record)
        bodies = [replaced(manifest.body, live)] if edited else []
        bodies.append(overlaid(manifest.body, live))
        for body in bodies:
            body["metadata"]["ownerReferences"] = references
        if edited:
            try:
                return await self._local.replace(resource, bodies.pop(0))
            except RefusedError:
                if in_force(manifest.body, live):
                    # Only fields were taken out, and the server won't let them go: what is asked for is in force.
                    return await self._own(manifest, resource, live, record)
        return await self._local.replace(resource, bodies[0])

    async def _own(self, manifest: Manifest, resource: Resource, live: Json, record: Mapping[str, Any]) -> Json:
        metadata = live["metadata"]
        if owned_by(live, record["metadata"]["uid"]) != manifest.options.orphan:
            return live
        patch = {
            "metadata": {
                "uid": metadata["uid"],
                "resourceVersion": metadata["resourceVersion"],
                "ownerReferences": _references(metadata, manifest, record) or None,
            }
        }
        return await self._local.patch(resource, manifest.name, patch, manifest.namespace or None)

    async def _ensure_namespace(self, name: str) -> None:
        if name in self._namespaces:
            return
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
        try:
            await self._local.create(NAMESPACES, body)
        except AlreadyExistsError:
            pass
        except RefusedError:
            # Not ours to make: if it is there, what goes into it will be created; if not, that says what is wrong.
            return
        self._namespaces.add(name)


def _fresh(manifest: Mapping[str, Any]) -> Json:
    """A copy to create: without what only a live object has."""
    dropped = ("uid", "resourceVersion", "creationTimestamp", "generation", "managedFields", "deletionTimestamp")
    metadata = {key: value for key, value in manifest["metadata"].items() if key not in dropped}
    return {**{key: value for key, value in manifest.items() if key != "status"}, "metadata": metadata}


def _references(metadata: Mapping[str, Any], manifest: Manifest, record: Mapping[str, Any]) -> list[Json]:
    """The object's owners with our record among them, or without it when the object is to stay behind."""
    uid = record["metadata"]["uid"]
    others = [dict(ref) for ref in metadata.get("ownerReferences") or () if ref.get("uid") != uid]
    return others if manifest.options.orphan else [*others, owner_reference(record)]
