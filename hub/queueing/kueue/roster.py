"""Who waits in which line and who holds how much of which tree, from cycle to cycle. Mutable, decides nothing.

What a workload waits for while it is in no line at all is said here too; the rest is hub/queueing/kueue/cycle.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from math import isinf

from hub.api.reasons import Reason
from hub.queueing.kueue.history import History, LocalKey, Past, units
from hub.queueing.kueue.line import Line
from hub.queueing.kueue.preemption import Victim
from hub.queueing.kueue.settings import Settings
from hub.queueing.kueue.standing import Standing
from hub.queueing.kueue.verdict import Verdict
from hub.queueing.kueue.workload import Held, Workload, together
from hub.queueing.ledger import Usage
from hub.queueing.objects import FlavorResource
from hub.queueing.quotas import Quotas

Amounts = dict[FlavorResource, int]


@dataclass(slots=True)
class Tree:
    """One quota tree, and what a cycle does to it.

    `taken`: usage until the cycle ends. `gone`: its victims by key. `after`: how things stand once they are gone.
    `replaced`: slices of elastic jobs whose successors were decided about; out of the way like victims.
    """

    standing: Standing
    taken: list[tuple[int, Amounts]]
    gone: dict[str, Victim]
    after: Standing | None = None
    replaced: dict[str, Victim] = field(default_factory=dict)


class Roster:
    """`waiting` and `held` may come in any order. `inactive`: by ClusterQueue, why it decides nothing.

    `usage`: what others hold, who are never preempted. `past`: what LocalQueues used before. `verdicts`: by key, why
    each workload waits, as of the last time that it was looked at.
    """

    def __init__(
        self,
        quotas: Quotas,
        settings: Settings,
        *,
        waiting: Iterable[Workload] = (),
        held: Iterable[Held] = (),
        inactive: Mapping[str, str] | None = None,
        usage: Usage | None = None,
        past: Mapping[LocalKey, Past] | None = None,
        now: float = 0.0,
    ) -> None:
        self.quotas, self.settings = quotas, settings
        self.inactive = {name: why.detail for name, why in quotas.inactive.items()} if inactive is None else inactive
        self.history = History(settings.history, past or {}, now) if settings.history is not None else None
        self.now = now
        self.trees: dict[int, Tree] = {}
        self.places: dict[str, tuple[Tree, int]] = {}
        self.lines = {name: Line(strict=queue.strict) for name, queue in sorted(quotas.queues.items())}
        self._held: dict[str, Held] = {}
        self.unready: set[str] = set()
        self.mismatched: set[str] = set()
        self.verdicts: dict[str, Verdict] = {}
        self._outside: dict[str, Workload] = {}
        self._plant(usage or {})
        for one in sorted(held, key=lambda h: (h.key, h.workload.uid)):
            self.hold(one)
        for workload in sorted(waiting, key=lambda w: w.order):
            self._queue(workload)

    @property
    def waiting(self) -> list[tuple[Workload, bool]]:
        """All that wait by key, and whether something has to change before they are looked at again."""
        found = [(w, line.parked(w.key)) for line in self.lines.values() for w in line]
        found += [(workload, True) for workload in self._outside.values()]
        return sorted(found, key=lambda entry: entry[0].key)

    def usage(self) -> dict[str, dict[FlavorResource, int]]:
        """By ClusterQueue."""
        return {name: dict(tree.standing.usage.used[position]) for name, (tree, position) in self.places.items()}

    def advance(self, now: float) -> bool:
        """Lets time pass: past usage fades, and who backed off long enough is back. Whether anyone is."""
        self.now = now
        if self.history is not None:
            self.history.advance(now, self._used_by_local_queue())
        return self._wake_rested()

    def add(self, workload: Workload) -> None:
        """It waits from now on."""
        self._requeue(workload)

    def finish(self, keys: Iterable[str]) -> None:
        """Holders that have ended give their quota back; whoever is parked in their trees is looked at again."""
        woken: set[int] = set()
        for key in keys:
            one = self._held.pop(key)
            self.unready.discard(key)
            place = self.places.get(one.cluster_queue)
            if place is not None:
                place[0].standing.release(place[1], one)
                woken.add(id(place[0]))
        self.wake(woken)

    def leave(self, gone: Mapping[str, Workload | None]) -> None:
        """Holders, by key, that give their quota back for another reason than others; what each waits as from now on,
        if it does."""
        self.finish(gone)
        for _, workload in sorted(gone.items()):
            if workload is not None:
                self._requeue(workload)

    def release(self, tree: Tree) -> None:
        """Victims give their quota back, and are in their queue again, in their old place."""
        for key, victim in sorted(tree.gone.items()):
            del self._held[key]
            self.unready.discard(key)
            tree.standing.release(victim.position, victim.held)
            self._requeue(victim.held.workload)
        tree.gone = {}

    def wake(self, trees: set[int]) -> None:
        """Whoever is parked in these trees (by id) is looked at again."""
        if trees:
            for name, (tree, _) in self.places.items():
                if id(tree) in trees:
                    self.lines[name].wake(self._may_return)

    def _wake_rested(self) -> bool:
        rested = [w for w in self._outside.values() if 0.0 < w.not_before <= self.now]
        for workload in sorted(rested, key=lambda w: w.order):
            del self._outside[workload.key]
            self._queue(workload)
        return bool(rested)

    def _may_return(self, workload: Workload) -> bool:
        return workload.key not in self.mismatched

    def _requeue(self, workload: Workload) -> None:
        """In place of what of it waited already, where only a part of it had quota."""
        self._outside.pop(workload.key, None)
        local = self.quotas.local_queues.get((workload.namespace, workload.queue))
        line = self.lines.get(local.cluster_queue) if local is not None else None
        if line is not None:
            line.drop(workload.key)
        self._queue(workload)

    def _queue(self, workload: Workload) -> None:
        """Into the line of its queue, or out of all lines with a reason."""
        name, why = self._route(workload)
        if why is not None:
            self.verdicts[workload.key] = why
            self._outside[workload.key] = workload
            return
        detail = f"has not been looked at by ClusterQueue {name} yet"
        self.verdicts[workload.key] = Verdict(name, Reason.PENDING_EVALUATION, (("detail", detail),), unasked=True)
        if name in self.inactive:
            facts = (("queue", name), ("detail", self.inactive[name]))
            self.verdicts[workload.key] = Verdict(name, Reason.QUEUE_SUSPENDED, facts)
        self.lines[name].push(workload)

    def _route(self, workload: Workload) -> tuple[str, Verdict | None]:
        local = self.quotas.local_queues.get((workload.namespace, workload.queue))
        if local is None:
            detail = f"LocalQueue {workload.namespace}/{workload.queue} does not exist"
            return "", Verdict("", Reason.MISCONFIGURED, (("detail", detail),))
        name = local.cluster_queue
        if name not in self.lines:
            detail = self.inactive.get(name) or f"ClusterQueue {name} does not exist"
            return name, Verdict(name, Reason.MISCONFIGURED, (("detail", detail),))
        if local.stop != "None":
            detail = f"LocalQueue {workload.namespace}/{workload.queue} is stopped (stopPolicy {local.stop})"
            return name, Verdict(name, Reason.ON_HOLD, (("detail", detail),))
        if workload.gated_by:
            return name, Verdict(name, Reason.ADMISSION_GATED, (("detail", f"gated by {workload.gated_by}"),))
        if workload.not_before > self.now:
            rest = workload.not_before - self.now
            ever = "kept out of the queue by its condition Requeued"
            detail = ever if isinf(rest) else f"backs off for another {rest:.0f} s"
            return name, Verdict(name, Reason.PENDING_EVALUATION, (("detail", detail),))
        return name, None

    def holder(self, key: str) -> Held | None:
        return self._held.get(key)

    def hold(self, one: Held) -> None:
        before = self._held.get(one.key)
        if before is not None and before.cluster_queue == one.cluster_queue and one.cluster_queue in self.places:
            # A job that had a part of what it asks for: it is one holder.
            tree, position = self.places[one.cluster_queue]
            tree.standing.release(position, before)
            one = together(before, one)
        self._held[one.key] = one
        if self.settings.block and not one.ready:
            self.unready.add(one.key)
        place = self.places.get(one.cluster_queue)
        if place is not None:
            place[0].standing.admit(place[1], one)

    def _plant(self, usage: Usage) -> None:
        quotas = self.quotas
        for name in sorted(quotas.trees):
            tree = quotas.trees[name]
            known = self.trees.get(id(tree))
            if known is None:
                queues = [quotas.queues.get(node.name) if node.is_queue else None for node in tree.nodes]
                active = [place for queue, place in tree.position.items() if queue not in self.inactive]
                known = self.trees[id(tree)] = Tree(Standing(tree, queues, active), [], {})
                if self.history is not None:
                    known.standing.weigh(self._weight_of)
            self.places[name] = (known, tree.position[name])
            if usage.get(name):
                known.standing.usage.add(tree.position[name], usage[name].items())

    def _weight_of(self, held: Held) -> float:
        assert self.history is not None, "asked only where there is a history"
        return self.history.heaviness((held.workload.namespace, held.workload.queue))

    def heaviness(self, name: str) -> Callable[[LocalKey], float] | None:
        if self.history is None or not self.quotas.queues[name].by_usage:
            return None
        return self.history.heaviness

    def _used_by_local_queue(self) -> dict[LocalKey, dict[str, float]]:
        used: dict[LocalKey, dict[str, float]] = {}
        for one in self._held.values():
            queue = self.quotas.queues.get(one.cluster_queue)
            if queue is None or not queue.by_usage:
                continue
            into = used.setdefault((one.workload.namespace, one.workload.queue), {})
            for (_, resource), value in one.amounts:
                into[resource] = into.get(resource, 0.0) + units(resource, value)
        return used
