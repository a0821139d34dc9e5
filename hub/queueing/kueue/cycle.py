"""Kueue's scheduling, cycle by cycle: one head of every queue, each decided about once. Deterministic, no I/O.

Who waits and who holds is kept from cycle to cycle, so a cycle costs its heads, not the fleet. Victims give their quota
back after the cycle and are in their queue again, in their old place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from hub.api.reasons import Reason
from hub.placement.selectors import matches
from hub.queueing.kueue.assigner import Assigner, Pinned
from hub.queueing.kueue.assignment import Assignment, Cursor, Mode, pending_flavors
from hub.queueing.kueue.classical import classical_victims
from hub.queueing.kueue.fair import FairSearch
from hub.queueing.kueue.history import History, LocalKey, Past, units
from hub.queueing.kueue.line import Line
from hub.queueing.kueue.order import Entry, classical_order, fair_order
from hub.queueing.kueue.partial import reduced, reducible
from hub.queueing.kueue.preemption import Search, Victim, put_back, queue_at, take_out
from hub.queueing.kueue.settings import Settings
from hub.queueing.kueue.standing import Standing
from hub.queueing.kueue.verdict import Admitted, Outcome, Preempted, Verdict
from hub.queueing.kueue.workload import Held, Workload
from hub.queueing.ledger import Usage
from hub.queueing.objects import FlavorResource, namespace_labels
from hub.queueing.quotas import Quotas
from hub.queueing.usage import fits

Amounts = dict[FlavorResource, int]


@dataclass(slots=True)
class _Tree:
    """One quota tree in a cycle. `after`: as it will be when this cycle's victims are gone; `taken`: for this cycle."""

    standing: Standing
    taken: list[tuple[int, Amounts]]
    gone: dict[str, Victim]
    after: Standing | None = None


class Scheduler:
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
        self._quotas, self._settings = quotas, settings
        self._inactive = {name: why.detail for name, why in quotas.inactive.items()} if inactive is None else inactive
        self._history = History(settings.history, past or {}, now) if settings.history is not None else None
        self._search: Search = FairSearch(settings.strategies) if settings.fair else classical_victims
        self._assigner = Assigner(quotas.flavors, self._search, fair=settings.fair)
        self._now, self._cycle = now, 0
        self._trees: dict[int, _Tree] = {}
        self._places: dict[str, tuple[_Tree, int]] = {}
        self._lines = {name: Line(strict=queue.strict) for name, queue in sorted(quotas.queues.items())}
        self._held: dict[str, Held] = {}
        self._unready: set[str] = set()
        self._mismatched: set[str] = set()
        self.verdicts: dict[str, Verdict] = {}
        self._outside: dict[str, Workload] = {}
        self._plant(usage or {})
        for one in sorted(held, key=lambda h: (h.key, h.workload.uid)):
            self._hold(one)
        for workload in sorted(waiting, key=lambda w: w.order):
            self._queue(workload)

    @property
    def waiting(self) -> list[tuple[Workload, bool]]:
        """All that wait by key, and whether something has to change before they are looked at again."""
        found = [(w, line.parked(w.key)) for line in self._lines.values() for w in line]
        found += [(workload, True) for workload in self._outside.values()]
        return sorted(found, key=lambda entry: entry[0].key)

    def usage(self) -> dict[str, dict[FlavorResource, int]]:
        """By ClusterQueue."""
        return {name: dict(tree.standing.usage.used[position]) for name, (tree, position) in self._places.items()}

    def cycle(self, now: float) -> Outcome:
        """Decides about one head of every queue that is active."""
        self._now, self._cycle = now, self._cycle + 1
        if self._history is not None:
            self._history.advance(now, self._used_by_local_queue())
        moved = self._wake_rested()
        entries: list[Entry] = []
        for name, line in self._lines.items():
            if name in self._inactive or not len(line):
                continue
            workload = line.pop(self._heaviness(name))
            if workload is not None:
                entry = self._nominate(name, workload)
                if entry is not None:
                    entries.append(entry)
                elif self._lines[name].parked(workload.key):
                    moved = True
        admitted: list[Admitted] = []
        preempted: list[Preempted] = []
        blocked = False
        for entry in fair_order(entries) if self._settings.fair else classical_order(entries):
            if blocked:
                moved = self._refuse(entry, self._not_ready(entry.queue), at_once=True) or moved
                continue
            blocked, refused = self._decide(entry, admitted, preempted)
            moved = moved or refused
        self._close(admitted, preempted)
        return Outcome(tuple(admitted), tuple(preempted), moved or bool(admitted or preempted))

    def finish(self, keys: Iterable[str]) -> None:
        """Holders that have ended give their quota back; whoever is parked in their trees is looked at again."""
        woken: set[int] = set()
        for key in keys:
            one = self._held.pop(key)
            self._unready.discard(key)
            place = self._places.get(one.cluster_queue)
            if place is not None:
                place[0].standing.release(place[1], one)
                woken.add(id(place[0]))
        self._wake(woken)

    # Heads.

    def _nominate(self, name: str, workload: Workload) -> Entry | None:
        """What the head would take, or None when it is not to be decided about now."""
        line, queue = self._lines[name], self._quotas.queues[name]
        if workload.failed_checks:
            detail = "an admission check said Retry or Rejected"
            self.verdicts[workload.key] = Verdict(name, Reason.PENDING_EVALUATION, (("detail", detail),))
            line.requeue(workload, at_once=False)
            return None
        labels = self._quotas.namespaces.get(workload.namespace) or namespace_labels(workload.namespace)
        if queue.namespaces is None or not matches(queue.namespaces, labels):
            detail = f"ClusterQueue {name} does not accept jobs of namespace {workload.namespace}"
            self.verdicts[workload.key] = Verdict(name, Reason.MISCONFIGURED, (("detail", detail),))
            line.requeue(workload, at_once=False, mismatch=True)
            self._mismatched.add(workload.key)
            return None
        tree, position = self._places[name]
        cursor = line.cursor(workload.key, tree.standing.generation, self._cycle)
        assignment, victims = self._assign(tree.standing, position, workload, cursor=cursor)
        line.remember(workload.key, assignment.cursor, tree.standing.generation, self._cycle)
        return Entry(workload, name, tree.standing, position, assignment, victims)

    def _assign(
        self,
        standing: Standing,
        position: int,
        workload: Workload,
        *,
        cursor: Cursor | None = None,
        pinned: Pinned | None = None,
    ) -> tuple[Assignment, list[Victim]]:
        """The whole, at once or by preempting; else as many pods as can be had; else the whole that cannot be had."""

        def attempt(counts: list[int] | None) -> tuple[Assignment, list[Victim], bool]:
            made = self._assigner.assign(standing, position, workload, counts, cursor, pinned)
            if not made.mode.preempts:
                return made, [], made.mode is Mode.FIT
            request = {key: value for key, value in made.usage.items() if value}
            victims = self._search(standing, position, workload, made.needed, request)
            return made, victims, bool(victims)

        whole, victims, good = attempt(None)
        if good or not reducible(workload.pod_sets):
            return whole, victims
        found = reduced(workload.pod_sets, lambda counts: f if (f := attempt(counts))[2] else None)
        return (found[0], found[1]) if found is not None else (whole, [])

    # Entries.

    def _decide(self, entry: Entry, admitted: list[Admitted], preempted: list[Preempted]) -> tuple[bool, bool]:
        """Whether nobody else may be admitted in this cycle, and whether the entry left the line."""
        tree, _ = self._places[entry.queue]
        view = tree.after or tree.standing
        deferred = False
        if any(victim.held.key in tree.gone for victim in entry.victims):
            # Somebody before it takes the same victims: what else could it have, in the same flavors?
            entry.assignment, entry.victims = self._assign(
                view, entry.position, entry.workload, pinned=entry.assignment.pinned()
            )
            self._lines[entry.queue].remember(entry.workload.key, entry.assignment.cursor, 0, self._cycle)
            deferred = entry.assignment.mode is Mode.FIT
        mode = entry.assignment.mode
        obstacles = tuple(entry.assignment.obstacles)
        if mode is Mode.NO_FIT:
            reason = entry.assignment.no_fit or Reason.WAITING_FOR_QUOTA
            return False, self._refuse(entry, Verdict(entry.queue, reason, obstacles=obstacles), alike=True)
        waits = Verdict(entry.queue, Reason.WAITING_FOR_QUOTA, obstacles=obstacles)
        if mode.preempts and not entry.victims:
            if queue_at(tree.standing, entry.position).preemption.reclaim != "Any":
                self._take(tree, entry.position, self._to_reserve(entry))
            return False, self._refuse(entry, waits, alike=True)
        if mode.preempts and entry.workload.gate:
            detail = "needs to preempt, which its preemption gate forbids for now"
            gated = Verdict(entry.queue, Reason.ADMISSION_GATED, (("detail", detail),))
            return False, self._refuse(entry, gated)
        if not self._still_fits(view, entry):
            return False, self._refuse(entry, waits if obstacles else self._taken(entry), at_once=True)
        if mode is Mode.FIT and not deferred and self._settings.block and self._unready:
            return True, self._refuse(entry, self._not_ready(entry.queue), at_once=True)
        self._take(tree, entry.position, entry.usage)
        if mode.preempts or deferred:
            self._preempt(tree, entry, preempted)
            return False, False
        self._admit(entry, admitted)
        return False, False

    def _still_fits(self, view: Standing, entry: Entry) -> bool:
        for victim in entry.victims:
            take_out(view, victim)
        enough = fits(view.usage, entry.position, entry.usage.items())
        for victim in entry.victims:
            put_back(view, victim)
        return enough

    def _preempt(self, tree: _Tree, entry: Entry, preempted: list[Preempted]) -> None:
        """Marks the victims; without any of its own, it waits for those of others."""
        key, line = entry.workload.key, self._lines[entry.queue]
        if entry.victims and tree.after is None:
            tree.after = tree.standing.apart()
        victims = sorted(entry.victims, key=lambda victim: victim.held.key)
        for victim in victims:
            assert tree.after is not None, "made above"
            tree.gone[victim.held.key] = victim
            tree.after.absent.add(victim.held.key)
            take_out(tree.after, victim)
            preempted.append(Preempted(victim.held, victim.why, key))
        names = ", ".join(v.held.key for v in victims) or "the victims of others"
        self.verdicts[key] = Verdict(entry.queue, Reason.WAITING_FOR_PREEMPTED, (("victims", names),))
        line.remember(key, None, 0, 0)
        line.stick(entry.workload, bool(victims))
        line.requeue(entry.workload, at_once=True)

    def _admit(self, entry: Entry, admitted: list[Admitted]) -> None:
        key, line = entry.workload.key, self._lines[entry.queue]
        queue = self._quotas.queues[entry.queue]
        used = {flavor for flavor, _ in entry.assignment.usage}
        checks = tuple(rule.name for rule in queue.check_rules if not rule.flavors or used & set(rule.flavors))
        amounts = tuple(sorted(entry.assignment.usage.items()))
        admitted.append(Admitted(entry.workload, entry.queue, tuple(entry.assignment.pod_sets), amounts, checks))
        self.verdicts.pop(key, None)
        line.forget(key)
        line.stick(entry.workload, False)
        if self._settings.block:
            self._unready.add(key)
        if self._history is not None and queue.by_usage:
            local = (entry.workload.namespace, entry.workload.queue)
            self._history.admitted(local, ((resource, value) for (_, resource), value in amounts))

    def _refuse(self, entry: Entry, verdict: Verdict, *, at_once: bool = False, alike: bool = False) -> bool:
        """Whether the line looks different now. `alike`: what holds for it holds for all that are like it."""
        line, workload = self._lines[entry.queue], entry.workload
        self.verdicts[workload.key] = verdict
        line.stick(workload, False)
        stays = line.requeue(workload, at_once=at_once)
        if not stays and alike:
            for other in line.park_alike(workload):
                self.verdicts[other.key] = verdict
        return not stays or pending_flavors(line.cursor_of(workload.key))

    def _to_reserve(self, entry: Entry) -> Amounts:
        """What nobody later in the cycle may take from a head that cannot get it back by force."""
        node = entry.standing.tree.nodes[entry.position]
        used = entry.standing.usage.used[entry.position]
        reserved: Amounts = {}
        for key, value in entry.usage.items():
            left = node.nominal.get(key, 0) - used.get(key, 0)
            if entry.assignment.reach:
                limit = node.limits.get(key)
                left = value if limit is None else left + limit
            reserved[key] = max(0, min(value, left))
        return reserved

    def _take(self, tree: _Tree, position: int, amounts: Amounts) -> None:
        tree.standing.usage.add(position, amounts.items())
        tree.taken.append((position, amounts))
        if tree.after is not None:
            tree.after.usage.add(position, amounts.items())

    def _taken(self, entry: Entry) -> Verdict:
        detail = f"its quota in ClusterQueue {entry.queue} went to another in the same cycle"
        return Verdict(entry.queue, Reason.PENDING_EVALUATION, (("detail", detail),))

    def _not_ready(self, queue: str) -> Verdict:
        return Verdict(queue, Reason.WAITING_FOR_PODS_READY, (("detail", ", ".join(sorted(self._unready)[:3])),))

    # Between cycles.

    def _close(self, admitted: list[Admitted], preempted: list[Preempted]) -> None:
        for tree in self._trees.values():
            for position, amounts in tree.taken:
                tree.standing.usage.remove(position, amounts.items())
            tree.taken, tree.after = [], None
        for one in admitted:
            ready = one.workload.key not in self._unready
            self._hold(Held(one.workload, one.queue, one.amounts, self._now, ready=ready))
        woken: set[int] = set()
        for tree in self._trees.values():
            for key, victim in sorted(tree.gone.items()):
                del self._held[key]
                self._unready.discard(key)
                tree.standing.release(victim.position, victim.held)
                self._queue(victim.held.workload)
            if tree.gone:
                woken.add(id(tree))
                tree.gone = {}
        self._wake(woken)

    def _wake(self, trees: set[int]) -> None:
        if trees:
            for name, (tree, _) in self._places.items():
                if id(tree) in trees:
                    self._lines[name].wake(self._may_return)

    def _wake_rested(self) -> bool:
        rested = [w for w in self._outside.values() if 0.0 < w.not_before <= self._now]
        for workload in sorted(rested, key=lambda w: w.order):
            del self._outside[workload.key]
            self._queue(workload)
        return bool(rested)

    def _may_return(self, workload: Workload) -> bool:
        return workload.key not in self._mismatched

    def _queue(self, workload: Workload) -> None:
        """Into the line of its queue, or out of all lines with a reason."""
        name, why = self._route(workload)
        if why is not None:
            self.verdicts[workload.key] = why
            self._outside[workload.key] = workload
            return
        detail = f"has not been looked at by ClusterQueue {name} yet"
        self.verdicts[workload.key] = Verdict(name, Reason.PENDING_EVALUATION, (("detail", detail),))
        if name in self._inactive:
            facts = (("queue", name), ("detail", self._inactive[name]))
            self.verdicts[workload.key] = Verdict(name, Reason.QUEUE_SUSPENDED, facts)
        self._lines[name].push(workload)

    def _route(self, workload: Workload) -> tuple[str, Verdict | None]:
        local = self._quotas.local_queues.get((workload.namespace, workload.queue))
        if local is None:
            detail = f"LocalQueue {workload.namespace}/{workload.queue} does not exist"
            return "", Verdict("", Reason.MISCONFIGURED, (("detail", detail),))
        name = local.cluster_queue
        if name not in self._lines:
            detail = self._inactive.get(name) or f"ClusterQueue {name} does not exist"
            return name, Verdict(name, Reason.MISCONFIGURED, (("detail", detail),))
        if local.stop != "None":
            detail = f"LocalQueue {workload.namespace}/{workload.queue} is stopped (stopPolicy {local.stop})"
            return name, Verdict(name, Reason.ON_HOLD, (("detail", detail),))
        if workload.gated_by:
            return name, Verdict(name, Reason.ADMISSION_GATED, (("detail", f"gated by {workload.gated_by}"),))
        if workload.not_before > self._now:
            detail = f"backs off for another {workload.not_before - self._now:.0f} s"
            return name, Verdict(name, Reason.PENDING_EVALUATION, (("detail", detail),))
        return name, None

    def _hold(self, one: Held) -> None:
        self._held[one.key] = one
        if self._settings.block and not one.ready:
            self._unready.add(one.key)
        place = self._places.get(one.cluster_queue)
        if place is not None:
            place[0].standing.admit(place[1], one)

    def _plant(self, usage: Usage) -> None:
        quotas = self._quotas
        for name in sorted(quotas.trees):
            tree = quotas.trees[name]
            known = self._trees.get(id(tree))
            if known is None:
                queues = [quotas.queues.get(node.name) if node.is_queue else None for node in tree.nodes]
                active = [place for queue, place in tree.position.items() if queue not in self._inactive]
                known = self._trees[id(tree)] = _Tree(Standing(tree, queues, active), [], {})
                if self._history is not None:
                    known.standing.weigh(self._weight_of)
            self._places[name] = (known, tree.position[name])
            if usage.get(name):
                known.standing.usage.add(tree.position[name], usage[name].items())

    def _weight_of(self, held: Held) -> float:
        assert self._history is not None, "asked only where there is a history"
        return self._history.heaviness((held.workload.namespace, held.workload.queue))

    def _heaviness(self, name: str) -> Callable[[LocalKey], float] | None:
        if self._history is None or not self._quotas.queues[name].by_usage:
            return None
        return self._history.heaviness

    def _used_by_local_queue(self) -> dict[LocalKey, dict[str, float]]:
        used: dict[LocalKey, dict[str, float]] = {}
        for one in self._held.values():
            queue = self._quotas.queues.get(one.cluster_queue)
            if queue is None or not queue.by_usage:
                continue
            into = used.setdefault((one.workload.namespace, one.workload.queue), {})
            for (_, resource), value in one.amounts:
                into[resource] = into.get(resource, 0.0) + units(resource, value)
        return used
