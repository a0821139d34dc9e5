"""Follows the Jobs (or Pods) of the site's own API: takes them in, holds them while they have processes, lets them go.

An object that is deleted while it has tasks stays, with a finalizer, until they have ended: who deleted it can read how
it ended. One without tasks goes at once, and one that vanished all the same takes its tasks with it. Of one that is
over only its name is kept: a site has room for the thousands that nobody has taken away yet.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator
from sys import intern
from typing import Any, Final, Generic, NamedTuple, Protocol, TypeVar

from agent.edge.host import Host
from agent.edge.logs import LogPlace
from agent.edge.records import RunId
from hub.api import names
from hub.api.errors import NotFoundError
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

    @property
    def settled(self) -> bool:
        """Over, and written so: nothing more happens to it by itself."""
        ...

    def take_in(self, left: Iterable[RunId]) -> None: ...

    def refuse(self, reason: Reason, message: str) -> None: ...

    def update(self, obj: Json) -> None: ...

    def begin_deletion(self) -> None: ...

    def go_on(self) -> None: ...

    def stop(self, reason: Reason) -> None: ...

    def close(self) -> None: ...

    def abandon(self) -> None: ...

    def log_of(self, index: int) -> LogPlace | None: ...


class Identity(NamedTuple):
    """What is kept of an object that is over, and by the informer of every object."""

    uid: str
    namespace: str
    name: str


PastLog = Callable[[Host, Json, int], LogPlace | None]


def key_of(obj: Json) -> str:
    return f"{obj['metadata'].get('namespace')}/{obj['metadata'].get('name')}"


T = TypeVar("T", bound=Owner)


class Controller(Generic[T]):
    """`past_log(host, obj, index)` says where the log of a task is whose object is over."""

    def __init__(
        self,
        host: Host,
        resource: Resource,
        make: Callable[[Host, Json], T],
        accepts: Callable[[Json], bool],
        past_log: PastLog,
    ) -> None:
        self._host = host
        self._resource = resource
        self._make = make
        self._accepts = accepts
        self._past_log = past_log
        # By uid: what is at work, and what is over.
        self._items: dict[str, T] = {}
        self._past: dict[str, Identity] = {}
        self._names: dict[tuple[str, str], str] = {}
        # Gone from the API with processes still to end.
        self._going: dict[str, T] = {}
        self._garbage: list[str] = []
        self._cleaner: asyncio.Task[None] | None = None

    def __iter__(self) -> Iterator[T]:
        return iter([*self._items.values(), *self._going.values()])

    def _named(self, namespace: str, name: str) -> T | None:
        return self._items.get(self._names.get((namespace, name), ""))

    async def find_log(self, namespace: str, name: str, index: int) -> Callable[[], LogPlace | None] | None:
        """What says where the log of that task is, now and later; None when nothing of that name is here."""
        uid = self._names.get((namespace, name))
        if uid is None:
            return None
        if uid not in self._past:
            item = self._items[uid]
            return lambda: item.log_of(index) if self.knows(uid) else None
        try:
            obj = await self._host.api.get(self._resource, name, namespace)
        except NotFoundError:
            return None
        place = self._past_log(self._host, obj, index) if obj["metadata"]["uid"] == uid else None
        return lambda: place

    def knows(self, uid: str) -> bool:
        return uid in self._items or uid in self._past or uid in self._going

    def see(self, obj: Json) -> Identity:
        """From the informer, which keeps what it is given back: the object is kept here, while it is at work."""
        metadata = obj["metadata"]
        uid = str(metadata["uid"])
        identity = Identity(uid, intern(str(metadata["namespace"])), str(metadata["name"]))
        item = self._items.get(uid)
        if item is not None:
            item.update(obj)
        elif uid not in self._past and self._accepts(obj):
            before = self._names.get(identity[1:])
            if before is not None:
                self._gone(before)
            self._take_in(obj, identity)
        if metadata.get("deletionTimestamp"):
            self._let_go_if_idle(uid)
        return identity

    def on_event(self, change: str, key: str, old: Identity | None, new: Identity | None) -> None:
        """From the informer."""
        if new is None and old is not None:
            self._gone(old.uid)

    def settle(self) -> None:
        """Lets go of what is over. Now and then; it looks at everything that is at work."""
        for item in list(self._items.values()):
            self._settle(item)

    def _settle(self, item: T) -> None:
        if item.settled and FINALIZER not in (item.obj["metadata"].get("finalizers") or ()):
            item.close()
            del self._items[item.uid]
            self._past[item.uid] = Identity(item.uid, intern(item.namespace), item.name)

    def _take_in(self, obj: Json, identity: Identity) -> None:
        uid = identity.uid
        item = self._make(self._host, obj)
        item.on_idle = lambda: self._let_go_if_idle(uid)
        self._items[uid] = item
        self._names[identity[1:]] = uid
        try:
            item.take_in(self._host.machinery.records.runs(uid))
        except Exception as error:
            # Whatever is in it, it stops nothing but itself.
            _log.exception("object cannot be taken in", extra={"fields": {"object": key_of(obj)}})
            item.refuse(Reason.INVALID_SPEC, Reason.INVALID_SPEC.message(detail=f"{type(error).__name__}: {error}"))
        if obj["metadata"].get("deletionTimestamp"):
            item.begin_deletion()
        self._settle(item)

    def _gone(self, uid: str) -> None:
        item, past = self._items.pop(uid, None), self._past.pop(uid, None)
        known = item or past
        if known is not None and self._names.get((known.namespace, known.name)) == uid:
            del self._names[known.namespace, known.name]
        if past is not None:
            self.discard(uid)
        if item is None:
            return
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
        item = self._named(namespace, name)
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
