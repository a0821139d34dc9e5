"""Kueue's scheduling beside a fleet that runs: what a cycle decides takes time to come true, and the world goes on.

Who is preempted holds its quota until it is gone, and is looked for first by whoever needs quota meanwhile, as in
Kueue. Who is admitted holds what the caller says that it got. Between cycles the roster is kept up to date: what waits,
what is held, who has left.
"""

from __future__ import annotations

from collections.abc import Iterable

from hub.queueing.kueue.cycle import Scheduler
from hub.queueing.kueue.history import History
from hub.queueing.kueue.order import Entry
from hub.queueing.kueue.roster import Roster, Tree
from hub.queueing.kueue.settings import Settings
from hub.queueing.kueue.verdict import Admitted, Preempted, Verdict
from hub.queueing.kueue.workload import Held, Workload
from hub.queueing.quotas import Quotas


class LiveRoster(Roster):
    """Of the hub's own jobs only; `waits` are looked for by key."""

    def __init__(self, quotas: Quotas, settings: Settings, *, history: History | None = None, now: float = 0.0) -> None:
        """`history`: shared with whoever else keeps it up to date, where past usage orders anything."""
        super().__init__(quotas, settings, now=now)
        if settings.history is not None and history is not None:
            self.history = history
        self._waits: dict[str, Workload] = {}

    def waits(self, key: str) -> Workload | None:
        return self._waits.get(key)

    def put(self, workload: Workload) -> None:
        """It waits, or waits for something else than before."""
        self.drop(workload.key)
        self._waits[workload.key] = workload
        self._queue(workload)

    def drop(self, key: str) -> None:
        """It waits no more."""
        before = self._waits.pop(key, None)
        if before is None:
            return
        self._outside.pop(key, None)
        self.verdicts.pop(key, None)
        self.mismatched.discard(key)
        local = self.quotas.local_queues.get((before.namespace, before.queue))
        line = self.lines.get(local.cluster_queue) if local is not None else None
        if line is not None:
            line.drop(key)

    def park(self, workload: Workload, why: Verdict) -> None:
        """It was admitted, and cannot have what it was given: it waits apart, so that it holds up nobody."""
        self._waits[workload.key] = workload
        self.verdicts[workload.key] = why
        self._outside[workload.key] = workload

    def unpark(self, keys: Iterable[str]) -> None:
        """They are in their queues again."""
        for key in keys:
            workload = self._outside.pop(key, None)
            if workload is not None:
                self._queue(workload)

    def taken(self, key: str) -> None:
        """It is admitted: what waits of it from now on is put anew."""
        self._waits.pop(key, None)

    def held(self, key: str) -> Held | None:
        return self._held.get(key)

    def set_held(self, key: str, now: Held | None) -> None:
        """What it holds now. Whoever is parked in its tree is looked at again when it holds less than before."""
        before = self._held.pop(key, None)
        place = self.places.get(before.cluster_queue) if before is not None else None
        if before is not None and place is not None:
            place[0].standing.release(place[1], before)
        if now is not None:
            self.hold(now)
        if before is not None and place is not None and _less(now, before):
            self.wake({id(place[0])})


class LiveScheduler(Scheduler):
    """`roster` as above. Victims are marked, not removed; what is admitted is not held before the caller says so."""

    def __init__(self, roster: LiveRoster) -> None:
        super().__init__(roster)
        self.live = roster

    def _preempt(self, tree: Tree, entry: Entry, preempted: list[Preempted]) -> None:
        found: list[Preempted] = []
        super()._preempt(tree, entry, found)
        # Who is on its way out was told before.
        preempted += [one for one in found if not one.held.evicted]

    def _close(self, admitted: list[Admitted], preempted: list[Preempted]) -> None:
        for tree in self.roster.trees.values():
            for position, amounts in tree.taken:
                tree.standing.usage.remove(position, amounts.items())
            tree.taken, tree.after, tree.gone = [], None, {}
        for one in admitted:
            self.live.taken(one.workload.key)


def _less(now: Held | None, before: Held) -> bool:
    if now is None or now.cluster_queue != before.cluster_queue:
        return True
    amounts = dict(now.amounts)
    return any(amounts.get(key, 0) < value for key, value in before.amounts)
