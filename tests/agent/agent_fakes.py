"""An API server in a dictionary: what the agent's tests need of one, with counters, faults and a cut-off switch."""

from __future__ import annotations

import asyncio
import copy
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from hub.api.errors import AlreadyExistsError, ApiError, ConflictError, NotFoundError, RefusedError, UnreachableError
from hub.api.resource import Resource
from hub.client.interface import Listing, Object, PatchType, WatchEvent

_STATUS_KINDS = {"ManifestWork", "AppliedManifestWork", "ManagedCluster", "Job", "Pod", "TaskLogRequest", "Deployment"}


class FakeApi:
    def __init__(self) -> None:
        self.objects: dict[tuple[str, str, str, str], Object] = {}
        self.log: list[tuple[str, str, str, str]] = []
        self.down = False
        self.refuse: Callable[[str, str, Object], ApiError | None] = lambda verb, kind, obj: None
        # Kinds whose deletion waits for a finalizer (as a runtime that still stops processes would have it).
        self.holds: dict[str, str] = {}
        self._version = 0
        self._history: list[tuple[int, tuple[str, str], str, Object]] = []
        self._news = asyncio.Event()

    def writes(self, kind: str = "", subresource: str | None = None) -> list[tuple[str, str, str, str]]:
        return [
            entry
            for entry in self.log
            if (not kind or entry[1] == kind) and (subresource is None or entry[3] == subresource)
        ]

    def peek(self, resource: Resource, name: str, namespace: str = "") -> Object | None:
        return self.objects.get((resource.group, resource.plural, namespace, name))

    def cut(self) -> None:
        self.down = True
        self._announce()

    def heal(self) -> None:
        self.down = False

    async def get(self, resource: Resource, name: str, namespace: str | None = None) -> Object:
        await self._pass()
        return copy.deepcopy(self._find(resource, name, namespace))

    async def list(
        self, resource: Resource, namespace: str | None = None, *, label_selector: str = "", field_selector: str = ""
    ) -> Listing:
        await self._pass()
        items = [
            copy.deepcopy(obj)
            for (group, plural, ns, _), obj in sorted(self.objects.items())
            if (group, plural) == (resource.group, resource.plural)
            and (not namespace or ns == namespace)
            and _field(obj, field_selector)
        ]
        return Listing(items, str(self._version))

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
        await self._pass()
        position = next((i for i, entry in enumerate(self._history) if entry[0] > int(resource_version)), None)
        position = len(self._history) if position is None else position
        while True:
            while position < len(self._history):
                _, where, kind, obj = self._history[position]
                position += 1
                if where != (resource.group, resource.plural):
                    continue
                if namespace and obj["metadata"].get("namespace") != namespace:
                    continue
                if _field(obj, field_selector):
                    yield WatchEvent(kind, copy.deepcopy(obj))  # type: ignore[arg-type]  # a str of the right few
            if self.down:
                raise UnreachableError("the line is cut")
            await self._news.wait()

    async def create(
        self, resource: Resource, obj: Object, namespace: str | None = None, *, dry_run: bool = False
    ) -> Object:
        await self._pass("create", resource, obj)
        body = copy.deepcopy(obj)
        metadata = body["metadata"]
        if resource.namespaced:
            metadata["namespace"] = namespace or metadata.get("namespace")
            if resource.kind != "ManifestWork" and ("", "namespaces", "", metadata["namespace"]) not in self.objects:
                raise NotFoundError(404, {"message": f'namespaces "{metadata["namespace"]}" not found'})
        key = self._key(resource, metadata["name"], metadata.get("namespace"))
        if key in self.objects:
            raise AlreadyExistsError(409, {"reason": "AlreadyExists", "message": f"{key[3]} already exists"})
        self._version += 1
        metadata.update(
            uid=str(uuid.uuid4()),
            resourceVersion=str(self._version),
            generation=1,
            creationTimestamp="2026-01-01T00:00:00Z",
        )
        if resource.kind in _STATUS_KINDS:
            body.pop("status", None)
        self._store(key, "ADDED", body)
        self.log.append(("create", resource.kind, metadata["name"], ""))
        return copy.deepcopy(body)

    async def replace(self, resource: Resource, obj: Object, *, subresource: str | None = None) -> Object:
        await self._pass("replace", resource, obj)
        current = self._find(resource, obj["metadata"]["name"], obj["metadata"].get("namespace"))
        _preconditions(current, obj["metadata"])
        return self._change(resource, current, copy.deepcopy(obj), "replace", subresource)

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
        assert isinstance(patch, dict)
        await self._pass("apply" if type == "apply" else "patch", resource, patch)
        if type == "apply" and self._key(resource, name, namespace) not in self.objects:
            return await self.create(resource, patch, namespace)
        current = self._find(resource, name, namespace)
        _preconditions(current, patch.get("metadata") or {})
        merged = _merge(copy.deepcopy(current), patch)
        return self._change(resource, current, merged, "apply" if type == "apply" else "patch", subresource)

    async def delete(
        self,
        resource: Resource,
        name: str,
        namespace: str | None = None,
        *,
        uid: str | None = None,
        propagation_policy: str | None = None,
    ) -> None:
        await self._pass("delete", resource, {"metadata": {"name": name}})
        current = self._find(resource, name, namespace)
        if uid and current["metadata"]["uid"] != uid:
            raise ConflictError(409, {"message": "uid differs"})
        self.log.append(("delete", resource.kind, name, ""))
        changed = copy.deepcopy(current)
        if resource.kind in self.holds:
            changed["metadata"].setdefault("finalizers", []).append(self.holds[resource.kind])
        changed["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
        self._finish(self._key(resource, name, namespace), changed)

    def set_status(self, resource: Resource, name: str, namespace: str, status: Any) -> None:
        """As the cluster's own controllers would."""
        current = self._find(resource, name, namespace)
        self._finish(self._key(resource, name, namespace), {**copy.deepcopy(current), "status": status})

    def vanish(self, resource: Resource, name: str, namespace: str = "") -> None:
        """Gone without asking: a TTL, a person with force."""
        key = self._key(resource, name, namespace)
        changed = copy.deepcopy(self.objects[key])
        changed["metadata"].pop("finalizers", None)
        changed["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
        self._finish(key, changed)

    def release(self, resource: Resource, name: str, namespace: str = "", finalizer: str = "") -> None:
        key = self._key(resource, name, namespace)
        changed = copy.deepcopy(self.objects[key])
        changed["metadata"]["finalizers"] = [f for f in changed["metadata"].get("finalizers", []) if f != finalizer]
        self._finish(key, changed)

    def edit(self, resource: Resource, name: str, namespace: str, change: Callable[[Object], None]) -> None:
        current = self._find(resource, name, namespace)
        changed = copy.deepcopy(current)
        change(changed)
        if changed.get("spec") != current.get("spec"):
            changed["metadata"]["generation"] += 1
        self._finish(self._key(resource, name, namespace), changed)

    def _change(self, resource: Resource, current: Object, new: Object, verb: str, subresource: str | None) -> Object:
        if subresource == "status":
            new = {**copy.deepcopy(current), "status": new.get("status")}
        elif resource.kind in _STATUS_KINDS:
            new.pop("status", None)
            if "status" in current:
                new["status"] = copy.deepcopy(current["status"])
        for fixed in ("uid", "creationTimestamp", "deletionTimestamp"):
            if fixed in current["metadata"]:
                new["metadata"][fixed] = current["metadata"][fixed]
        if _content(new) != _content(current):
            new["metadata"]["generation"] = current["metadata"]["generation"] + 1
        self.log.append((verb, resource.kind, current["metadata"]["name"], subresource or ""))
        key = self._key(resource, current["metadata"]["name"], current["metadata"].get("namespace"))
        return self._finish(key, new)

    def _finish(self, key: tuple[str, str, str, str], changed: Object) -> Object:
        current = self.objects[key]
        if not changed["metadata"].get("finalizers"):
            changed["metadata"].pop("finalizers", None)
            if changed["metadata"].get("deletionTimestamp"):
                self._version += 1
                changed["metadata"]["resourceVersion"] = str(self._version)
                del self.objects[key]
                self._announce((key[0], key[1]), "DELETED", changed)
                return copy.deepcopy(changed)
        if changed == current:
            return copy.deepcopy(changed)
        self._version += 1
        changed["metadata"]["resourceVersion"] = str(self._version)
        self._store(key, "MODIFIED", changed)
        return copy.deepcopy(changed)

    def _store(self, key: tuple[str, str, str, str], kind: str, obj: Object) -> None:
        self.objects[key] = obj
        self._announce((key[0], key[1]), kind, obj)

    def _announce(self, where: tuple[str, str] | None = None, kind: str = "", obj: Object | None = None) -> None:
        if where is not None and obj is not None:
            self._history.append((self._version, where, kind, copy.deepcopy(obj)))
        self._news.set()
        self._news = asyncio.Event()

    async def _pass(self, verb: str = "", resource: Resource | None = None, obj: Object | None = None) -> None:
        await asyncio.sleep(0)
        if self.down:
            raise UnreachableError("the line is cut")
        if resource is not None and obj is not None:
            refused = self.refuse(verb, resource.kind, obj)
            if refused is not None:
                raise refused

    def _key(self, resource: Resource, name: str, namespace: str | None) -> tuple[str, str, str, str]:
        return resource.group, resource.plural, (namespace or "") if resource.namespaced else "", name

    def _find(self, resource: Resource, name: str, namespace: str | None) -> Object:
        found = self.objects.get(self._key(resource, name, namespace))
        if found is None:
            raise NotFoundError(404, {"reason": "NotFound", "message": f'{resource.plural} "{name}" not found'})
        return found


def _preconditions(current: Object, metadata: Object) -> None:
    for name in ("uid", "resourceVersion"):
        if metadata.get(name) and metadata[name] != current["metadata"][name]:
            raise ConflictError(409, {"reason": "Conflict", "message": f"{name} differs"})


def _merge(target: Any, patch: Any) -> Any:
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    target = target if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            target.pop(key, None)
        else:
            target[key] = _merge(target.get(key), value)
    return target


def _content(obj: Object) -> Object:
    return {key: value for key, value in obj.items() if key not in ("metadata", "status")}


def _field(obj: Object, selector: str) -> bool:
    return not selector or selector == f"metadata.name={obj['metadata']['name']}"


def invalid(message: str) -> RefusedError:
    return RefusedError(422, {"reason": "Invalid", "message": message})


async def until(condition: Callable[[], Any], seconds: float = 5.0, what: str = "") -> Any:
    """What `condition` gives once it is truthy; fails the test after `seconds`."""
    try:
        async with asyncio.timeout(seconds):
            while not (found := condition()):
                await asyncio.sleep(0.002)
            return found
    except TimeoutError:
        raise AssertionError(f"not within {seconds} s: {what or condition}") from None
