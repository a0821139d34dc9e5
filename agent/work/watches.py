"""The local objects that works contain, as last seen: fed by one informer a resource and namespace.

A change reaches the executor at once, whatever the scrape type asks for; past `max_watches` informers, and for kinds
that can't be watched, objects are polled as OCM polls them. Only objects that a work follows are kept in memory.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from agent.work.manifests import ObjectKey
from agent.work.status import Seen
from hub.api.errors import NotFoundError, QuarterdeckError
from hub.api.resource import Resource
from hub.client.backoff import Backoff
from hub.client.informer import Informer
from hub.client.interface import KubeApi

Json = dict[str, Any]
_log = logging.getLogger("agent.work.watches")

MAX_WATCHES = 50
POLL_SECONDS = 10.0
# An object that was told to go and whose end no watch reported is looked up after this long.
VERIFY_SECONDS = 2.0


@dataclass(slots=True)
class _Followed:
    resource: Resource
    seen: Seen
    works: set[str] = field(default_factory=set)


class _Kept(NamedTuple):
    namespace: str
    name: str
    uid: str


class LocalObjects:
    """`on_change(work, key, deleted)` is called in the loop after `seen(key)` has the new state."""

    def __init__(
        self,
        api: KubeApi,
        on_change: Callable[[str, ObjectKey, bool], None],
        *,
        max_watches: int = MAX_WATCHES,
        poll_seconds: float = POLL_SECONDS,
    ) -> None:
        self._api = api
        self._on_change = on_change
        self._max_watches = max_watches
        self._poll_seconds = poll_seconds
        self._followed: dict[ObjectKey, _Followed] = {}
        self._of_work: dict[str, set[ObjectKey]] = {}
        self._watches: dict[tuple[str, str, str], asyncio.Task[None]] = {}

    def __len__(self) -> int:
        return len(self._followed)

    def seen(self, key: ObjectKey) -> Seen | None:
        followed = self._followed.get(key)
        return followed.seen if followed else None

    def follow(self, work: str, resource: Resource, namespace: str, name: str, obj: Mapping[str, Any] | None) -> None:
        """From now on `work` hears of this object. `obj`: its state as just read or written, None when not there."""
        key = (resource.group, resource.plural, namespace, name)
        followed = self._followed.get(key)
        if followed is None:
            followed = self._followed[key] = _Followed(resource, Seen("unknown", why="not read yet"))
        followed.works.add(work)
        self._of_work.setdefault(work, set()).add(key)
        if obj is None:
            followed.seen = Seen("absent", followed.seen.last)
        elif not _trails(obj, followed.seen):
            followed.seen = Seen("present", dict(obj))
        self._ensure_watch(resource, namespace)

    def unfollow(self, work: str, key: ObjectKey | None = None) -> None:
        """One object of the work, or all of them."""
        keys = {key} if key is not None else set(self._of_work.get(work, ()))
        for gone in keys:
            self._of_work.get(work, set()).discard(gone)
            followed = self._followed.get(gone)
            if followed is None:
                continue
            followed.works.discard(work)
            if not followed.works:
                del self._followed[gone]
        if not self._of_work.get(work):
            self._of_work.pop(work, None)

    def watched(self, key: ObjectKey) -> bool:
        return key[:3] in self._watches

    async def refresh(self, key: ObjectKey) -> Seen:
        """Reads the object now. Never raises for what the API answers: that is what `Seen` is for."""
        followed = self._followed[key]
        namespace, name = key[2], key[3]
        try:
            obj = await self._api.get(followed.resource, name, namespace or None)
        except NotFoundError:
            self._update(key, None)
        except QuarterdeckError as error:
            followed.seen = Seen("unknown", followed.seen.last, str(error))
        else:
            self._update(key, obj)
        return followed.seen

    async def run(self) -> None:
        """Polls what is not watched, until cancelled; then ends the watches."""
        try:
            while True:
                await asyncio.sleep(self._poll_seconds * random.uniform(1.0, 1.9))
                for key, followed in list(self._followed.items()):
                    if (not self.watched(key) or followed.seen.state == "unknown") and key in self._followed:
                        await self.refresh(key)
        finally:
            for task in self._watches.values():
                task.cancel()
            await asyncio.gather(*self._watches.values(), return_exceptions=True)
            self._watches.clear()

    def _ensure_watch(self, resource: Resource, namespace: str) -> None:
        scope = (resource.group, resource.plural, namespace)
        if scope not in self._watches and len(self._watches) < self._max_watches:
            self._watches[scope] = asyncio.create_task(
                self._watch(resource, namespace), name=f"watch {resource.plural} {namespace}"
            )

    async def _watch(self, resource: Resource, namespace: str) -> None:
        backoff = Backoff(0.5, 60.0)
        while True:
            informer: Informer[_Kept] = Informer(
                self._api,
                resource,
                namespace or None,
                transform=lambda obj: self._take_in(resource, obj),
                on_event=lambda kind, _key, old, _new: self._on_deleted(resource, old) if kind == "DELETED" else None,
            )
            try:
                await informer.run()
            except QuarterdeckError as error:
                _log.warning(
                    "cannot watch",
                    extra={"fields": {"resource": resource.plural, "namespace": namespace, "why": error}},
                )
            await asyncio.sleep(backoff.next())

    def _take_in(self, resource: Resource, obj: Json) -> _Kept:
        """What the informer keeps is only who it was: a followed object is kept here, and any other by nobody."""
        metadata = obj["metadata"]
        kept = _Kept(metadata.get("namespace", ""), metadata["name"], metadata.get("uid", ""))
        key = (resource.group, resource.plural, kept.namespace, kept.name)
        if key in self._followed:
            slim = {name: value for name, value in metadata.items() if name != "managedFields"}
            self._update(key, {**obj, "metadata": slim})
        return kept

    def _on_deleted(self, resource: Resource, kept: _Kept | None) -> None:
        if kept is None:
            return
        key = (resource.group, resource.plural, kept.namespace, kept.name)
        followed = self._followed.get(key)
        if followed is None or followed.seen.state == "absent":
            return
        last = followed.seen.last
        if last is None or last["metadata"].get("uid") == kept.uid:
            self._set(key, followed, Seen("absent", last))

    def _update(self, key: ObjectKey, obj: Json | None) -> None:
        followed = self._followed.get(key)
        if followed is None:
            return
        if obj is None:
            if followed.seen.state != "absent":
                self._set(key, followed, Seen("absent", followed.seen.last))
            return
        if _trails(obj, followed.seen):
            return
        unchanged = (
            followed.seen.state == "present"
            and followed.seen.last is not None
            and followed.seen.last["metadata"].get("resourceVersion") == obj["metadata"].get("resourceVersion")
        )
        if not unchanged:
            self._set(key, followed, Seen("present", obj))

    def _set(self, key: ObjectKey, followed: _Followed, seen: Seen) -> None:
        followed.seen = seen
        for work in list(followed.works):
            with contextlib.suppress(KeyError):
                self._on_change(work, key, seen.state == "absent")


def _trails(obj: Mapping[str, Any], seen: Seen) -> bool:
    """Whether `obj` is older than what was seen: an informer may be behind our own reads and writes."""
    if seen.last is None or seen.last["metadata"].get("uid") != obj["metadata"].get("uid"):
        return False
    try:
        newer = int(obj["metadata"]["resourceVersion"]) < int(seen.last["metadata"]["resourceVersion"])
    except (KeyError, ValueError):
        return False
    return newer or (
        seen.state == "absent" and obj["metadata"]["resourceVersion"] == seen.last["metadata"]["resourceVersion"]
    )
