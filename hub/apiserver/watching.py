"""Watches over HTTP: who follows which collection, and what each is sent.

Watchers that ask for the same share one group: an event is judged and encoded once a group, and all get the same bytes,
one write a commit. A watcher whose socket is full is no longer pushed to; it reads on from the collection's history
when it can, and is told 410 when that no longer reaches back. So memory is bounded whoever reads slowly. Nothing here
knows how objects are rendered, nor what a request says.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

import orjson

from hub.apiserver.collection import Collection
from hub.apiserver.history import Change, Event
from hub.apiserver.http import Stream, chunk
from hub.apiserver.record import Record
from hub.apiserver.rendering import Rendering
from hub.apiserver.selection import Selection
from hub.apiserver.status import compacted, dump_status

_PULL: Final = 200
BOOKMARK_SECONDS: Final = 45.0


def frame(type: str, obj: bytes) -> bytes:
    """One line of a watch."""
    return b'{"type":"%b","object":%b}\n' % (type.encode(), obj)


def translate(event: Event, selection: Selection) -> tuple[Change, Record] | None:
    """What `event` is to one who sees only `selection`: an object that no longer matches is gone for them."""
    if selection.everything:
        return event.type, event.record
    before = event.previous is not None and selection.matches(event.previous)
    if event.type == "DELETED":
        return (event.type, event.record) if before else None
    after = selection.matches(event.record)
    if after:
        return ("MODIFIED" if before else "ADDED"), event.record
    if before and event.previous is not None:
        return "DELETED", _restated(event.previous, event.version)
    return None


def _restated(record: Record, version: int) -> Record:
    obj = record.load()
    obj["metadata"]["resourceVersion"] = str(version)
    return Record(record.id, obj, orjson.dumps(obj))


@dataclass(slots=True, eq=False)
class Group:
    """Watchers of one collection that see the same selection in the same rendering."""

    selection: Selection
    rendering: Rendering
    live: list[Watcher] = field(default_factory=list)

    def framed(self, events: Iterable[Event]) -> bytes:
        """One chunk of all that concerns the group; empty when nothing does."""
        lines = []
        for event in events:
            seen = translate(event, self.selection)
            if seen is not None:
                lines.append(frame(seen[0], self.rendering.one(seen[1])))
        return chunk(b"".join(lines)) if lines else b""

    def push(self, events: Sequence[Event]) -> None:
        framed = self.framed(events)
        if not framed:
            return
        for watcher in list(self.live):
            watcher.push(framed, events)


class Watches:
    """All watches of one collection: `publish` what was committed, and it reaches them."""

    def __init__(self, collection: Collection) -> None:
        self.collection = collection
        self.watchers: set[Watcher] = set()
        # For watches without a socket, which read the history themselves.
        self.wakers: set[Callable[[], None]] = set()
        self.ended = False
        self._groups: dict[tuple[object, ...], Group] = {}
        self._by_namespace: dict[str | None, list[Group]] = {}

    def publish(self, events: Sequence[Event]) -> None:
        if self._by_namespace:
            self._push(events)
        for waker in tuple(self.wakers):
            waker()

    def end_all(self) -> None:
        """The server stops, or the kind is no longer served."""
        for watcher in list(self.watchers):
            watcher.end()
        self.ended = True
        for waker in tuple(self.wakers):
            waker()

    def _push(self, events: Sequence[Event]) -> None:
        everywhere = self._by_namespace.get(None, ())
        for group in everywhere:
            group.push(events)
        if len(self._by_namespace) == (1 if everywhere else 0):
            return
        spaces: dict[str, list[Event]] = {}
        for event in events:
            if event.record.namespace in self._by_namespace:
                spaces.setdefault(event.record.namespace, []).append(event)
        for namespace, its in spaces.items():
            for group in self._by_namespace[namespace]:
                group.push(its)

    def group(self, selection: Selection, rendering: Rendering) -> Group:
        key = (selection.key, rendering.key)
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = Group(selection, rendering)
            self._by_namespace.setdefault(selection.namespace, []).append(group)
        return group

    def leave(self, watcher: Watcher) -> None:
        self.watchers.discard(watcher)
        group = watcher.group
        if watcher in group.live:
            group.live.remove(watcher)
        if not any(other.group is group for other in self.watchers):
            self._groups.pop((group.selection.key, group.rendering.key), None)
            groups = self._by_namespace.get(group.selection.namespace)
            if groups and group in groups:
                groups.remove(group)
                if not groups:
                    del self._by_namespace[group.selection.namespace]


class Watcher:
    """One watch: first what `initial` yields (as of `version`), then the history after it, then live.

    `end_of_initial` is sent in between where the client asked for it; `bookmarks` likewise.
    """

    def __init__(
        self,
        watches: Watches,
        group: Group,
        stream: Stream,
        *,
        version: int,
        current: Callable[[], int],
        initial: Iterator[Record] | None = None,
        end_of_initial: bool = False,
        bookmarks: bool = False,
        seconds: float,
    ) -> None:
        self.group = group
        self._watches = watches
        self._stream = stream
        self._version = version
        self._current = current
        self._initial = initial
        self._end_of_initial = end_of_initial
        self._bookmarks = bookmarks
        self._loop = asyncio.get_running_loop()
        self._spoke = self._loop.time()
        self._timer = self._loop.call_later(seconds, self.end)
        watches.watchers.add(self)
        stream.on_drain = self._pull
        stream.on_close = self._leave
        self._pull()

    def push(self, framed: bytes, events: Sequence[Event]) -> None:
        if self._stream.full:
            # From here on it reads from the history, at its own pace.
            self.group.live.remove(self)
            self._version = max(self._version, events[0].version - 1)
            return
        self._stream.write(framed)
        self._version = events[-1].version
        self._spoke = self._loop.time()

    def bookmark(self, now: float) -> None:
        """Says where the watch is, if it has not said anything for long and the client wants to know."""
        if self._bookmarks and now - self._spoke >= BOOKMARK_SECONDS and self in self.group.live:
            self._say_version()

    def end(self) -> None:
        """The time that was asked for is over, or the server stops."""
        if self._stream.closed:
            return
        if self._bookmarks and self in self.group.live and not self._stream.full:
            self._say_version()
        self._leave()
        self._stream.end()

    def _leave(self) -> None:
        self._timer.cancel()
        self._watches.leave(self)

    def _say_version(self) -> None:
        self._version = max(self._version, self._current())
        self._stream.write(chunk(frame("BOOKMARK", self.group.rendering.bookmark(self._version))))
        self._spoke = self._loop.time()

    def _pull(self) -> None:
        stream, group = self._stream, self.group
        while not stream.full and not stream.closed:
            if self._initial is not None:
                self._write_initial()
                continue
            if self in group.live:
                return
            events = self._watches.collection.history.after(self._version, _PULL)
            if events is None:
                self._fall_behind()
                return
            if not events:
                group.live.append(self)
                return
            self._version = events[-1].version
            namespace = group.selection.namespace
            if namespace is not None:
                events = [event for event in events if event.record.namespace == namespace]
            framed = group.framed(events)
            if framed:
                stream.write(framed)
                self._spoke = self._loop.time()

    def _write_initial(self) -> None:
        assert self._initial is not None
        lines = []
        for record in self._initial:
            lines.append(frame("ADDED", self.group.rendering.one(record)))
            if len(lines) == _PULL:
                break
        if lines:
            self._stream.write(chunk(b"".join(lines)))
        if len(lines) < _PULL:
            self._initial = None
            if self._end_of_initial:
                obj = self.group.rendering.bookmark(self._version, initial=True)
                self._stream.write(chunk(frame("BOOKMARK", obj)))

    def _fall_behind(self) -> None:
        status = compacted(self._version, self._watches.collection.history.compacted).status
        self._stream.write(chunk(frame("ERROR", dump_status(status))))
        self._leave()
        self._stream.end()
