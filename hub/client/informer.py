"""A local copy of one collection, kept by list and watch.

Why our own: 30-50 µs an event where frameworks need ten times that, and after a gap (410, a restarted server) objects
that vanished meanwhile are reported as DELETED instead of staying for ever. It keeps what `transform` makes of an
object, not the object, so that a hub with 10,000 jobs holds what it needs. It never writes, and never resyncs for the
sake of it: what is equal is not reported twice.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any, Generic, Literal, TypeVar

from hub.api.errors import GoneError, OverloadedError, QuarterdeckError, UnreachableError
from hub.api.resource import Resource
from hub.client.backoff import Backoff
from hub.client.interface import KubeApi, Object
from hub.client.paging import pages_of

T = TypeVar("T")
Change = Literal["ADDED", "MODIFIED", "DELETED"]
OnEvent = Callable[[Change, str, T | None, T | None], None]

_log = logging.getLogger(__name__)
_WATCH_SECONDS = 300


def object_key(obj: Object) -> str:
    """``namespace/name``, or ``name`` for what has no namespace."""
    metadata = obj["metadata"]
    namespace = metadata.get("namespace")
    return f"{namespace}/{metadata['name']}" if namespace else str(metadata["name"])


class Informer(Generic[T]):
    """`run()` it in a task; `synced` is set once `store` holds everything that was there.

    `transform(obj)` makes what is stored; None leaves the object out (and reports DELETED if it was in).
    `on_event(type, key, old, new)` is called in order, in the loop's thread, and must be quick. If either raises, that
    object keeps its last value, the error is logged and counted, and the others go on.
    """

    def __init__(
        self,
        api: KubeApi,
        resource: Resource,
        namespace: str | None = None,
        *,
        label_selector: str = "",
        field_selector: str = "",
        transform: Callable[[Object], T | None] | None = None,
        on_event: OnEvent[T] | None = None,
        backoff: Backoff | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.resource = resource
        self.store: dict[str, T] = {}
        self.synced = asyncio.Event()
        self.events = 0
        self.relists = 0
        self.errors = 0
        self.last_error: QuarterdeckError | None = None
        self._api = api
        self._namespace = namespace
        self._label_selector = label_selector
        self._field_selector = field_selector
        self._transform: Callable[[Object], Any] = transform or (lambda obj: obj)
        self._on_event = on_event
        self._backoff = backoff or Backoff()
        self._clock = clock
        self._last_contact = clock()
        # By key, the resourceVersion last seen; also of objects that `transform` leaves out.
        self._versions: dict[str, str] = {}

    def silence(self) -> float:
        """Seconds since the server last said anything; a healthy watch stays below two minutes."""
        return self._clock() - self._last_contact

    async def run(self) -> None:
        """Until cancelled."""
        version = ""
        while True:
            try:
                if not version:
                    version = await self._list()
                version = await self._watch(version)
            except GoneError:
                _log.info("%s: the watch is too old; listing again", self.resource.plural)
                version = ""
                await asyncio.sleep(self._backoff.next())
            except QuarterdeckError as error:
                self._note(error)
                await asyncio.sleep(self._backoff.next())

    async def _list(self) -> str:
        # What is gone is known when the last page is there: an object that was made anew is then reported as changed.
        present: set[str] = set()
        version = ""
        async for page in pages_of(
            self._api,
            self.resource,
            self._namespace,
            label_selector=self._label_selector,
            field_selector=self._field_selector,
        ):
            self._heard()
            version = page.resource_version
            if page.fresh:
                present.clear()
            for obj in page.items:
                key = object_key(obj)
                present.add(key)
                self._put(key, obj)
        self.relists += 1
        for key in [key for key in self._versions if key not in present]:
            self._remove(key)
        self.synced.set()
        return version

    async def _watch(self, version: str) -> str:
        """The version to go on from when the server ends the stream."""
        # Not the same for everyone, lest all watches of a fleet be reopened in one moment.
        seconds = int(_WATCH_SECONDS * (0.8 + self._backoff.random.random() * 0.4))
        opened, heard = self._clock(), self.events
        try:
            async for event in self._api.watch(
                self.resource,
                self._namespace,
                resource_version=version,
                label_selector=self._label_selector,
                field_selector=self._field_selector,
                timeout_seconds=seconds,
            ):
                self._heard()
                self._backoff.reset()
                obj = event.object
                version = obj["metadata"]["resourceVersion"]
                if event.type == "BOOKMARK":
                    continue
                self.events += 1
                if event.type == "DELETED":
                    self._remove(object_key(obj))
                else:
                    self._put(object_key(obj), obj)
        except UnreachableError as error:
            # What arrived before the line broke counts; only the stream is lost.
            self._note(error)
            await asyncio.sleep(self._backoff.next())
            return version
        if self._clock() - opened < 1 and heard == self.events:
            # A server that ends every watch at once must not be asked in a tight loop.
            await asyncio.sleep(self._backoff.next())
        return version

    def _put(self, key: str, obj: Object) -> None:
        version = obj["metadata"].get("resourceVersion", "")
        if version and self._versions.get(key) == version:
            return
        self._versions[key] = version
        try:
            new = self._transform(obj)
        except Exception:
            self._failed(key)
            return
        old = self.store.get(key)
        if new is None:
            if self.store.pop(key, None) is not None:
                self._emit("DELETED", key, old, None)
            return
        self.store[key] = new
        self._emit("ADDED" if old is None else "MODIFIED", key, old, new)

    def _remove(self, key: str) -> None:
        self._versions.pop(key, None)
        old = self.store.pop(key, None)
        if old is not None:
            self._emit("DELETED", key, old, None)

    def _emit(self, change: Change, key: str, old: T | None, new: T | None) -> None:
        if self._on_event is None:
            return
        try:
            self._on_event(change, key, old, new)
        except Exception:
            self._failed(key)

    def _heard(self) -> None:
        self._last_contact = self._clock()
        self.last_error = None

    def _failed(self, key: str) -> None:
        self.errors += 1
        _log.exception("%s %s cannot be taken in; its last value stays", self.resource.kind, key)

    def _note(self, error: QuarterdeckError) -> None:
        # Outages last for many tries; one line says it, the rest is for debugging.
        quiet = isinstance(error, UnreachableError | OverloadedError) and type(self.last_error) is type(error)
        _log.log(logging.DEBUG if quiet else logging.WARNING, "%s: %s", self.resource.plural, error)
        self.last_error = error
