"""The jobs that wait for one ClusterQueue: those whose turn may come, and those parked until something changes.

Deciding who is admitted is hub/queueing/kueue/cycle.py; here is only who is asked next.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator

from hub.queueing.kueue.assignment import Cursor, pending_flavors
from hub.queueing.kueue.history import LocalKey
from hub.queueing.kueue.workload import PodSet, Workload

_Order = tuple[int, float, str, str]
_Alike = tuple[int, tuple[PodSet, ...]]


class Line:
    """`strict`: a head that is refused is asked again before all others; else it makes room."""

    def __init__(self, *, strict: bool) -> None:
        self._strict = strict
        self._heaps: dict[LocalKey, list[tuple[_Order, int, Workload]]] = {}
        self._pushed = 0
        self._ready: dict[str, Workload] = {}
        self._parked: dict[str, Workload] = {}
        self._alike: dict[_Alike, dict[str, None]] = {}
        self._sticky = ""
        self._cursors: dict[str, tuple[Cursor, int, int]] = {}

    def __len__(self) -> int:
        return len(self._ready) + len(self._parked)

    def __iter__(self) -> Iterator[Workload]:
        yield from self._ready.values()
        yield from self._parked.values()

    def parked(self, key: str) -> bool:
        return key in self._parked

    def push(self, workload: Workload) -> None:
        self._parked.pop(workload.key, None)
        self._ready[workload.key] = workload
        local = (workload.namespace, workload.queue)
        self._pushed += 1
        heapq.heappush(self._heaps.setdefault(local, []), (workload.order, self._pushed, workload))
        self._alike.setdefault(workload.alike, {})[workload.key] = None

    def park(self, workload: Workload) -> None:
        self._take(workload)
        self._parked[workload.key] = workload

    @property
    def sticky(self) -> str:
        """Who stays at the head, by key; empty: nobody."""
        return self._sticky

    def pop(self, heaviness: Callable[[LocalKey], float] | None) -> Workload | None:
        """The next one, out of the line until it is requeued. `heaviness`: of LocalQueues, when that orders them."""
        first = self.head(heaviness)
        if first is not None:
            heap = self._heaps[first.namespace, first.queue]
            if heap and heap[0][2] is first:
                heapq.heappop(heap)
            self._take(first)
        return first

    def head(self, heaviness: Callable[[LocalKey], float] | None) -> Workload | None:
        """Who is asked next; still in the line."""
        best: tuple[float, int, _Order] | None = None
        first: Workload | None = None
        for local in list(self._heaps):
            top = self._top(local)
            if top is None:
                del self._heaps[local]
                continue
            rank = (heaviness(local) if heaviness else 0.0, int(top.key != self._sticky), top.order)
            if best is None or rank < best:
                best, first = rank, top
        return first

    def requeue(self, workload: Workload, *, at_once: bool, mismatch: bool = False) -> bool:
        """Whether it stays in the line; else it is parked."""
        stays = not mismatch and (self._strict or at_once or pending_flavors(self.cursor_of(workload.key)))
        if stays:
            self.push(workload)
        else:
            self._parked[workload.key] = workload
        return stays

    def park_alike(self, workload: Workload) -> list[Workload]:
        """All that would fare as the workload did, which has just been parked."""
        moved = [self._ready[key] for key in self._alike.get(workload.alike, ())]
        for other in moved:
            self.park(other)
        return moved

    def drop(self, key: str) -> None:
        """It waits here no more."""
        workload = self._ready.get(key) or self._parked.pop(key, None)
        if workload is not None:
            self._take(workload)
        self._cursors.pop(key, None)
        if self._sticky == key:
            self._sticky = ""

    def wake(self, may: Callable[[Workload], bool]) -> bool:
        """Whether anyone of those who may has come back."""
        woken = [workload for workload in self._parked.values() if may(workload)]
        for workload in woken:
            self.push(workload)
        return bool(woken)

    def stick(self, workload: Workload, stuck: bool) -> None:
        """Who has preempted stays at the head until it is admitted, or refused for another reason."""
        if stuck and not self._strict:
            self._sticky = workload.key
        elif self._sticky == workload.key:
            self._sticky = ""

    def remember(self, key: str, cursor: Cursor | None, generation: int, cycle: int) -> None:
        if cursor is None:
            self._cursors.pop(key, None)
        else:
            self._cursors[key] = (cursor, generation, cycle)

    def cursor(self, key: str, generation: int, cycle: int) -> Cursor | None:
        """Where the walk over the flavors goes on; anew when quota moved since, unless it was only just left."""
        known = self._cursors.get(key)
        if known is None or (known[1] != generation and cycle - known[2] > 1):
            return None
        return known[0]

    def cursor_of(self, key: str) -> Cursor | None:
        known = self._cursors.get(key)
        return known[0] if known is not None else None

    def forget(self, key: str) -> None:
        self._cursors.pop(key, None)

    def _top(self, local: LocalKey) -> Workload | None:
        sticky = self._ready.get(self._sticky)
        heap = self._heaps[local]
        if sticky is not None and (sticky.namespace, sticky.queue) == local:
            return sticky
        while heap and self._ready.get(heap[0][2].key) is not heap[0][2]:
            heapq.heappop(heap)
        return heap[0][2] if heap else None

    def _take(self, workload: Workload) -> None:
        self._ready.pop(workload.key, None)
        group = self._alike.get(workload.alike)
        if group is not None:
            group.pop(workload.key, None)
            if not group:
                del self._alike[workload.alike]
