"""Kueue's scheduling, cycle by cycle: one head of every queue, each decided about once. Deterministic, no I/O.

Who waits and who holds is kept from cycle to cycle, so a cycle costs its heads, not the fleet. Victims give their quota
back after the cycle and are in their queue again, in their old place.
"""

from __future__ import annotations

from hub.api.reasons import Reason
from hub.placement.selectors import matches
from hub.queueing.kueue.assigner import Assigner, Pinned
from hub.queueing.kueue.assignment import Assignment, Considered, Cursor, Mode, pending_flavors
from hub.queueing.kueue.classical import classical_victims
from hub.queueing.kueue.fair import FairSearch
from hub.queueing.kueue.order import Entry, classical_order, fair_order
from hub.queueing.kueue.partial import reduced, reducible
from hub.queueing.kueue.preemption import Search, Victim, put_back, queue_at, take_out
from hub.queueing.kueue.roster import Amounts, Roster, Tree
from hub.queueing.kueue.standing import Standing
from hub.queueing.kueue.verdict import Admitted, Outcome, Preempted, Verdict
from hub.queueing.kueue.workload import Held, Part, Workload
from hub.queueing.objects import namespace_labels
from hub.queueing.usage import fits


class Scheduler:
    """Decides about what is on the roster, and keeps it."""

    def __init__(self, roster: Roster) -> None:
        self.roster = roster
        settings, flavors = roster.settings, roster.quotas.flavors
        self._search: Search = FairSearch(settings.strategies) if settings.fair else classical_victims
        self._assigner = Assigner(flavors, self._search, fair=settings.fair)
        self._cycle = 0

    def cycle(self, now: float) -> Outcome:
        """Decides about one head of every queue that is active."""
        self._cycle += 1
        moved = self.roster.advance(now)
        entries: list[Entry] = []
        for name, line in self.roster.lines.items():
            if name in self.roster.inactive or not len(line):
                continue
            workload = line.pop(self.roster.heaviness(name))
            if workload is not None:
                entry = self._nominate(name, workload)
                if entry is not None:
                    entries.append(entry)
                elif self.roster.lines[name].parked(workload.key):
                    moved = True
        admitted: list[Admitted] = []
        preempted: list[Preempted] = []
        blocked = False
        for entry in fair_order(entries) if self.roster.settings.fair else classical_order(entries):
            if blocked:
                moved = self._refuse(entry, self._not_ready(entry.queue), at_once=True) or moved
                continue
            blocked, refused = self._decide(entry, admitted, preempted)
            moved = moved or refused
        self._close(admitted, preempted)
        return Outcome(tuple(admitted), tuple(preempted), moved or bool(admitted or preempted))

    def considered(self, name: str, workload: Workload) -> tuple[Assignment, list[Victim], list[Considered]]:
        """What the workload would take were it the head of ClusterQueue `name` now, and every flavor that was looked
        at for the whole of it. Nothing is decided."""
        tree, position = self.roster.places[name]
        notes: list[Considered] = []
        self._assigner.notes = notes
        before = self._before(name, workload)
        grows = before.held.parts if before is not None else ()
        self._assigner.assign(tree.standing, position, workload, grows=grows)
        self._assigner.notes = None
        return *self._assign(tree.standing, position, workload, grows=grows), notes

    # Heads.

    def _nominate(self, name: str, workload: Workload) -> Entry | None:
        """What the head would take, or None when it is not to be decided about now."""
        line, queue = self.roster.lines[name], self.roster.quotas.queues[name]
        if workload.failed_checks:
            detail = "an admission check said Retry or Rejected"
            self.roster.verdicts[workload.key] = Verdict(name, Reason.PENDING_EVALUATION, (("detail", detail),))
            line.requeue(workload, at_once=False)
            return None
        labels = self.roster.quotas.namespaces.get(workload.namespace) or namespace_labels(workload.namespace)
        if queue.namespaces is None or not matches(queue.namespaces, labels):
            detail = f"ClusterQueue {name} does not accept jobs of namespace {workload.namespace}"
            self.roster.verdicts[workload.key] = Verdict(name, Reason.MISCONFIGURED, (("detail", detail),))
            line.requeue(workload, at_once=False, mismatch=True)
            self.roster.mismatched.add(workload.key)
            return None
        if workload.problem:
            self.roster.verdicts[workload.key] = Verdict(name, Reason.MISCONFIGURED, (("detail", workload.problem),))
            line.requeue(workload, at_once=False)
            return None
        tree, position = self.roster.places[name]
        cursor = line.cursor(workload.key, tree.standing.generation, self._cycle)
        before = self._before(name, workload)
        grows = before.held.parts if before is not None else ()
        assignment, victims = self._assign(tree.standing, position, workload, cursor=cursor, grows=grows)
        line.remember(workload.key, assignment.cursor, tree.standing.generation, self._cycle)
        replaced = before if assignment.mode is Mode.FIT or victims else None
        return Entry(workload, name, tree.standing, position, assignment, victims, replaced)

    def _before(self, name: str, workload: Workload) -> Victim | None:
        """The slice of the same queue that the workload takes the place of."""
        held = self.roster.holder(workload.replaces) if workload.replaces else None
        if held is None or held.cluster_queue != name:
            return None
        tree, position = self.roster.places[name]
        taken = held.key in tree.gone or held.key in tree.replaced
        return None if taken else Victim(held, position, "InClusterQueue")

    def _assign(
        self,
        standing: Standing,
        position: int,
        workload: Workload,
        *,
        cursor: Cursor | None = None,
        pinned: Pinned | None = None,
        grows: tuple[Part, ...] = (),
    ) -> tuple[Assignment, list[Victim]]:
        """The whole, at once or by preempting; else as many pods as can be had; else the whole that cannot be had."""

        def attempt(counts: list[int] | None) -> tuple[Assignment, list[Victim], bool]:
            made = self._assigner.assign(standing, position, workload, counts, cursor, pinned, grows)
            if not made.mode.preempts:
                return made, [], made.mode is Mode.FIT
            victims = self._search(standing, position, workload, made.needed, made.request)
            return made, victims, bool(victims)

        whole, victims, good = attempt(None)
        if good or not reducible(workload.pod_sets):
            return whole, victims
        found = reduced(workload.pod_sets, lambda counts: f if (f := attempt(counts))[2] else None)
        return (found[0], found[1]) if found is not None else (whole, [])

    # Entries.

    def _decide(self, entry: Entry, admitted: list[Admitted], preempted: list[Preempted]) -> tuple[bool, bool]:
        """Whether nobody else may be admitted in this cycle, and whether the entry left the line."""
        tree, _ = self.roster.places[entry.queue]
        view = tree.after or tree.standing
        deferred = False
        if any(victim.held.key in tree.gone or victim.held.key in tree.replaced for victim in entry.leave):
            # Somebody before it takes the same victims: what else could it have, in the same flavors?
            before = self._before(entry.queue, entry.workload)
            grows = before.held.parts if before is not None else ()
            entry.assignment, entry.victims = self._assign(
                view, entry.position, entry.workload, pinned=entry.assignment.pinned(), grows=grows
            )
            entry.replaced = before if entry.assignment.mode is Mode.FIT or entry.victims else None
            self.roster.lines[entry.queue].remember(entry.workload.key, entry.assignment.cursor, 0, self._cycle)
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
        if mode is Mode.FIT and not deferred and self.roster.settings.block and self.roster.unready:
            return True, self._refuse(entry, self._not_ready(entry.queue), at_once=True)
        self._take(tree, entry.position, entry.usage)
        if entry.replaced is not None:
            # For the rest of the cycle it counts as gone, be it that only the preemptions for its successor begin.
            tree.replaced[entry.replaced.held.key] = entry.replaced
            self._leaves(tree, entry.replaced)
        if mode.preempts or deferred:
            self._preempt(tree, entry, preempted)
            return False, False
        self._admit(entry, admitted)
        return False, False

    def _still_fits(self, view: Standing, entry: Entry) -> bool:
        for victim in entry.leave:
            take_out(view, victim)
        enough = fits(view.usage, entry.position, entry.usage.items())
        for victim in entry.leave:
            put_back(view, victim)
        return enough

    def _preempt(self, tree: Tree, entry: Entry, preempted: list[Preempted]) -> None:
        """Marks the victims; without any of its own, it waits for those of others."""
        key, line = entry.workload.key, self.roster.lines[entry.queue]
        victims = sorted(entry.victims, key=lambda victim: victim.held.key)
        for victim in victims:
            tree.gone[victim.held.key] = victim
            self._leaves(tree, victim)
            preempted.append(Preempted(victim.held, victim.why, key))
        names = ", ".join(v.held.key for v in victims) or "the victims of others"
        self.roster.verdicts[key] = Verdict(entry.queue, Reason.WAITING_FOR_PREEMPTED, (("victims", names),))
        line.remember(key, None, 0, 0)
        line.stick(entry.workload, bool(victims))
        line.requeue(entry.workload, at_once=True)

    def _leaves(self, tree: Tree, victim: Victim) -> None:
        if tree.after is None:
            tree.after = tree.standing.apart()
        tree.after.absent.add(victim.held.key)
        take_out(tree.after, victim)

    def _admit(self, entry: Entry, admitted: list[Admitted]) -> None:
        key, line = entry.workload.key, self.roster.lines[entry.queue]
        queue = self.roster.quotas.queues[entry.queue]
        used = {flavor for flavor, _ in entry.assignment.usage}
        checks = tuple(rule.name for rule in queue.check_rules if not rule.flavors or used & set(rule.flavors))
        whole = entry.assignment.usage if entry.replaced is None else entry.assignment.total
        amounts = tuple(sorted(whole.items()))
        replaces = entry.replaced.held.key if entry.replaced is not None else ""
        pod_sets = tuple(entry.assignment.pod_sets)
        admitted.append(Admitted(entry.workload, entry.queue, pod_sets, amounts, checks, replaces))
        self.roster.verdicts.pop(key, None)
        line.forget(key)
        line.stick(entry.workload, False)
        if self.roster.settings.block:
            self.roster.unready.add(key)
        if self.roster.history is not None and queue.by_usage:
            local = (entry.workload.namespace, entry.workload.queue)
            self.roster.history.admitted(local, ((resource, value) for (_, resource), value in amounts))

    def _refuse(self, entry: Entry, verdict: Verdict, *, at_once: bool = False, alike: bool = False) -> bool:
        """Whether the line looks different now. `alike`: what holds for it holds for all that are like it."""
        line, workload = self.roster.lines[entry.queue], entry.workload
        self.roster.verdicts[workload.key] = verdict
        line.stick(workload, False)
        stays = line.requeue(workload, at_once=at_once)
        if not stays and alike:
            for other in line.park_alike(workload):
                self.roster.verdicts[other.key] = verdict
        return not stays or pending_flavors(line.cursor_of(workload.key))

    def _to_reserve(self, entry: Entry) -> Amounts:
        """What nobody later in the cycle may take from a head that cannot get it back by force.

        Negative where the queue already uses more than its quota and its limit allow: Kueue takes that off its usage.
        """
        node = entry.standing.tree.nodes[entry.position]
        used = entry.standing.usage.used[entry.position]
        reserved: Amounts = {}
        for key, value in entry.usage.items():
            left = node.nominal.get(key, 0) - used.get(key, 0)
            if entry.assignment.reach:
                limit = node.limits.get(key)
                reserved[key] = value if limit is None else min(value, left + limit)
            else:
                reserved[key] = max(0, min(value, left))
        return reserved

    def _take(self, tree: Tree, position: int, amounts: Amounts) -> None:
        tree.standing.usage.add(position, amounts.items())
        tree.taken.append((position, amounts))
        if tree.after is None:
            return
        if all(value >= 0 for value in amounts.values()):
            tree.after.usage.add(position, amounts.items())
            return
        # What is below zero does not add up the same in any order: victims always go last.
        tree.after.usage.resume(tree.standing.usage)
        for victim in (*tree.gone.values(), *tree.replaced.values()):
            take_out(tree.after, victim)

    def _taken(self, entry: Entry) -> Verdict:
        detail = f"its quota in ClusterQueue {entry.queue} went to another in the same cycle"
        return Verdict(entry.queue, Reason.PENDING_EVALUATION, (("detail", detail),))

    def _not_ready(self, queue: str) -> Verdict:
        return Verdict(queue, Reason.WAITING_FOR_PODS_READY, (("detail", ", ".join(sorted(self.roster.unready)[:3])),))

    # Between cycles.

    def _close(self, admitted: list[Admitted], preempted: list[Preempted]) -> None:
        for tree in self.roster.trees.values():
            for position, amounts in tree.taken:
                tree.standing.usage.remove(position, amounts.items())
            tree.taken, tree.after = [], None
        for one in admitted:
            ready = one.workload.key not in self.roster.unready
            self.roster.hold(Held(one.workload, one.queue, one.amounts, self.roster.now, ready=ready, parts=one.parts))
        for tree in self.roster.trees.values():
            tree.replaced = {}
        self.roster.finish(one.replaces for one in admitted if one.replaces)
        woken = {id(tree) for tree in self.roster.trees.values() if tree.gone}
        for tree in self.roster.trees.values():
            self.roster.release(tree)
        self.roster.wake(woken)
