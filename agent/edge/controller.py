"""Follows the Jobs (or Pods) of the site's own API: takes them in, holds them while they have processes, lets them go.

An object that is deleted while it has tasks stays, with a finalizer, until they have ended: who deleted it can read how
it ended. One without tasks goes at once, and one that vanished all the same takes its tasks with it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, Generic, Protocol, TypeVar

from agent.edge.host import Host
from agent.edge.logs import LogPlace
from agent.edge.records import RunId
from hub.api import names
from hub.api.reasons import Reason
from hub.api.resource import Resource
from hub.client.patcher import MergePatch, WriteKey

Json = dict[str, Any]
FINALIZER: Final = f"{names.GROUP}/running-tasks"
_CLEAN_SECONDS: Final = 0.5
_log = logging.getLogger("agent.edge.controller")


class Owner(Protocol):
    """A Job or Pod at work."""

    obj: Json
    uid: str
    namespace: str
    name: str
    deleting: bool
    gone: bool
    on_idle: Callable[[], None]

    @property
    def busy(self) -> bool: ...

    def take_in(self, left: Iterable[RunId]) -> None: ...

    def refuse(self, reason: Reason, message: str) -> None: ...

    def update(self, obj: Json) -> None: ...

    def begin_deletion(self) -> None: ...

    def go_on(self) -> None: ...

    def stop(self, reason: Reason) -> None: ...

    def close(self) -> None: ...

    def abandon(self) -> None: ...

    def log_of(self, index: int) -> LogPlace | None: ...


def key_of(obj: Json) -> str:
    return f"{obj['metadata'].get('namespace')}/{obj['metadata'].get('name')}"


T = TypeVar("T", bound=Owner)


class Controller(Generic[T]):
    def __init__(
        self, host: Host, resource: Resource, make: Callable[[Host, Json], T], accepts: Callable[[Json], bool]
    ) -> None:
        self._host = host
        self._resource = resource
        self._make = make
        self._accepts = accepts
        self._items: dict[str, T] = {}
        self._names: dict[tuple[str, str], T] = {}
        # Gone from the API with processes still to end.
        self._going: dict[str, T] = {}
        self._garbage: list[str] = []
        self._cleaner: asyncio.Task[None] | None = None

    def __iter__(self) -> Iterator[T]:
        return iter([*self._items.values(), *self._going.values()])

    def named(self, namespace: str, name: str) -> T | None:
        return self._names.get((namespace, name))

    def knows(self, uid: str) -> bool:
        return uid in self._items or uid in self._going

    def on_event(self, change: str, key: str, old: Json | None, new: Json | None) -> None:
        """From the informer."""
        if new is None:
            if old is not None:
                self._gone(str(old["metadata"]["uid"]))
            return
        metadata = new["metadata"]
        uid, where = str(metadata["uid"]), (str(metadata["namespace"]), str(metadata["name"]))
        item = self._items.get(uid)
        if item is not None:
            item.update(new)
        elif self._accepts(new):
            before = self._names.get(where)
            if before is not None:
                self._gone(before.uid)
            self._take_in(new, uid, where)
        if metadata.get("deletionTimestamp"):
            self._let_go_if_idle(uid)

    def _take_in(self, obj: Json, uid: str, where: tuple[str, str]) -> None:
        item = self._make(self._host, obj)
        item.on_idle = lambda: self._let_go_if_idle(uid)
        self._items[uid] = self._names[where] = item
        try:
            item.take_in(self._host.machinery.records.runs(uid))
        except Exception as error:
            # Whatever is in it, it stops nothing but itself.
            _log.exception("object cannot be taken in", extra={"fields": {"object": key_of(obj)}})
            item.refuse(Reason.INVALID_SPEC, Reason.INVALID_SPEC.message(detail=f"{type(error).__name__}: {error}"))
        if obj["metadata"].get("deletionTimestamp"):
            item.begin_deletion()

    def _gone(self, uid: str) -> None:
        item = self._items.pop(uid, None)
        if item is None:
            return
        if self._names.get((item.namespace, item.name)) is item:
            del self._names[item.namespace, item.name]
        item.gone = True
        if item.busy:
            self._going[uid] = item
            item.begin_deletion()
        else:
            self._forget(item)

    def _forget(self, item: T) -> None:
        item.close()
        self._going.pop(item.uid, None)
        self.discard(item.uid)

    def discard(self, uid: str) -> None:
        """Its records and logs are of no use to anyone."""
        self._garbage.append(uid)
        if self._cleaner is None:
            self._cleaner = asyncio.get_running_loop().create_task(self._clean())

    async def _clean(self) -> None:
        await asyncio.sleep(_CLEAN_SECONDS)
        while self._garbage:
            batch, self._garbage = self._garbage, []
            await asyncio.to_thread(self._remove, batch)
        self._cleaner = None

    def _remove(self, uids: list[str]) -> None:
        for uid in uids:
            self._host.machinery.records.remove(uid)

    def _let_go_if_idle(self, uid: str) -> None:
        item = self._going.get(uid)
        if item is not None:
            if not item.busy:
                self._forget(item)
            return
        item = self._items.get(uid)
        if item is None or item.busy or FINALIZER not in (item.obj["metadata"].get("finalizers") or ()):
            return
        key = WriteKey(self._resource, item.namespace, item.name)
        self._host.patcher.submit(key, lambda: self._without_finalizer(item))

    def _without_finalizer(self, item: T) -> MergePatch | None:
        metadata = item.obj["metadata"]
        finalizers = metadata.get("finalizers") or []
        if FINALIZER not in finalizers:
            return None
        rest = [name for name in finalizers if name != FINALIZER]
        patch = {"uid": item.uid, "resourceVersion": metadata["resourceVersion"], "finalizers": rest or None}
        return MergePatch({"metadata": patch})

    async def hold(self, namespace: str, name: str, uid: str | None) -> Callable[[], None] | None:
        """Before a deletion: keeps the object until its tasks have ended. What it returns undoes that."""
        item = self._names.get((namespace, name))
        if item is None or item.deleting or (uid is not None and uid != item.uid):
            return None
        item.deleting = True
        if item.busy and FINALIZER not in (item.obj["metadata"].get("finalizers") or ()):
            finalizers = [*(item.obj["metadata"].get("finalizers") or ()), FINALIZER]
            patch: Json = {"metadata": {"uid": item.uid, "finalizers": finalizers}}
            try:
                await self._host.api.patch(self._resource, name, patch, namespace)
            except BaseException:
                item.deleting = False
                raise

        def undo() -> None:
            item.deleting = False
            item.go_on()

        return undo

    def close(self) -> None:
        """The site goes; its tasks go on."""
        for item in self:
            item.abandon()
        if self._cleaner is not None:
            self._cleaner.cancel()
