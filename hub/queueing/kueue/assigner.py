"""Flavors for a workload, as a queue's owner lets them be chosen. Pure but for trying victims out on the Standing.

For every resource group the flavors are walked in their order; the first that is good enough ends the walk, otherwise
the best one seen is taken. What pod sets before took is counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from hub.api import names
from hub.api.reasons import Reason
from hub.queueing.kueue.assignment import (
    Assignment,
    Choice,
    Considered,
    Cursor,
    Mode,
    Obstacle,
    PodSetAssignment,
    gravest,
    lightest,
)
from hub.queueing.kueue.flavors import obstacle
from hub.queueing.kueue.preemption import Search, put_back, queue_at, take_out
from hub.queueing.kueue.standing import Standing
from hub.queueing.kueue.workload import Part, PodSet, Workload
from hub.queueing.objects import ClusterQueue, Flavor, FlavorResource, ResourceGroup
from hub.queueing.policies import Fungibility

Pinned = Mapping[str, Mapping[str, str]]
_Quality = tuple[Mode, int]
_PERFECT: Final[_Quality] = (Mode.FIT, 0)
_WORST: Final[_Quality] = (Mode.NO_FIT, 0)


class Assigner:
    """`search` finds out whether preempting could help; `fair`: whether fair sharing is on."""

    def __init__(self, flavors: Mapping[str, Flavor], search: Search, *, fair: bool) -> None:
        self._flavors, self._search, self._fair = flavors, search, fair
        self._obstacles: dict[tuple[str, object], str] = {}
        # Where somebody asks for it, every flavor that is looked at is noted here.
        self.notes: list[Considered] | None = None

    def assign(
        self,
        standing: Standing,
        position: int,
        workload: Workload,
        counts: Sequence[int] | None = None,
        cursor: Cursor | None = None,
        pinned: Pinned | None = None,
        grows: Sequence[Part] = (),
    ) -> Assignment:
        """`counts`: other numbers of pods. `cursor`: go on after these flavors. `pinned`: only these flavors. `grows`:
        what the slice holds that it takes the place of: only what is more is asked for, and of the same flavors."""
        walk = _Walk(self, standing, position, workload, cursor, pinned, grows)
        parts = [
            (number, pods, pods.count if counts is None else counts[number])
            for number, pods in enumerate(workload.pod_sets)
        ]
        result = Assignment()
        for members in _together(parts):
            if not walk.group(result, members):
                break
        result.mode = min((part.mode for part in result.pod_sets), default=Mode.NO_FIT)
        if result.mode is Mode.NO_FIT:
            result.no_fit = walk.reason
        elif grows:
            result.growth = _growth(result, grows)
        return result

    def obstacle(self, flavor: Flavor, pods: PodSet) -> str:
        key = (flavor.name, pods.constraints)
        known = self._obstacles.get(key)
        if known is None:
            known = self._obstacles[key] = obstacle(flavor, pods.constraints)
        return known


_Member = tuple[int, PodSet, int]


def _together(parts: Sequence[_Member]) -> Iterable[list[_Member]]:
    """Pod sets of one group, at the place of its first."""
    if len(parts) == 1:
        return (list(parts),)
    groups: dict[object, list[_Member]] = {}
    for part in parts:
        groups.setdefault(part[1].group or part[0], []).append(part)
    return groups.values()


class _Walk:
    """One assignment while it is made."""

    def __init__(
        self,
        assigner: Assigner,
        standing: Standing,
        position: int,
        workload: Workload,
        cursor: Cursor | None,
        pinned: Pinned | None,
        grows: Sequence[Part],
    ) -> None:
        self._grows = grows
        self._held = {part.name: part for part in grows}
        self._assigner, self._standing, self._position = assigner, standing, position
        self._workload, self._cursor, self._pinned = workload, cursor, pinned
        self._queue: ClusterQueue = queue_at(standing, position)
        self.reason: Reason | None = None

    def group(self, result: Assignment, members: list[_Member]) -> bool:
        """Adds the pod sets to the result; False when they cannot have flavors."""
        requests = [self._requests(pods, count) for _, pods, count in members]
        total: dict[str, int] = {}
        for one in requests:
            for resource, value in one.items():
                total[resource] = total.get(resource, 0) + value
        chosen: dict[str, Choice] = {}
        clean = True
        for resource in sorted(total):
            if resource in chosen:
                continue
            found, perfect = self._resource(result, members, total, resource)
            if not found:
                chosen, clean = {}, False
                break
            chosen.update(found)
            clean = clean and perfect
        for (_, pods, count), wanted in zip(members, requests, strict=True):
            flavors = {r: Choice(c.flavor, c.mode, c.reach, c.tried) for r, c in chosen.items() if r in wanted}
            worst = min((choice.mode for choice in flavors.values()), default=Mode.NO_FIT)
            result.pod_sets.append(PodSetAssignment(pods, count, wanted, flavors, Mode.FIT if clean else worst))
            for resource, choice in flavors.items():
                key = (choice.flavor, resource)
                old = self._held.get(pods.name)
                more = wanted[resource] - (old.of(resource)[1] if old is not None else 0)
                result.usage[key] = result.usage.get(key, 0) + more
                result.reach = max(result.reach, choice.reach)
        return not any(part.requests and not part.flavors for part in result.pod_sets[-len(members) :])

    def _requests(self, pods: PodSet, count: int) -> dict[str, int]:
        """What is counted; nothing asked of what the queue does not cover is no obstacle."""
        lax = self._queue.counts.declared_only
        wanted = {
            resource: each * count
            for resource, each in pods.requests
            if self._queue.group_of(resource) is not None or (each * count and resource != names.GPU_MILLI and not lax)
        }
        if self._queue.group_of("pods") is not None:
            wanted["pods"] = count
        return wanted

    def _resource(
        self, result: Assignment, members: list[_Member], total: Mapping[str, int], resource: str
    ) -> tuple[dict[str, Choice], bool]:
        """A flavor for the resource and all others of its group, and whether it is there for the taking."""
        group = self._queue.group_of(resource)
        if group is None:
            covered = ", ".join(r for some in self._queue.groups for r in some.resources) or "no resources"
            lacking = Obstacle(Reason.NO_MATCHING_FLAVOR, "", resource, detail=f"it covers {covered}")
            result.obstacles.append(lacking)
            self._count([lacking.reason])
            return {}, False
        wanted = {r: total[r] for r in sorted(total) if r in group.resources}
        best: dict[str, Choice] = {}
        quality = _WORST
        seen: list[Obstacle] = []
        hopeless: list[Reason] = []
        at = -1
        policy = self._queue.fungibility
        for at in range(self._start(members[0][0], resource), len(group.flavors)):
            name = group.flavors[at]
            if self._pinned is not None and not any(
                self._pinned.get(pods.name, {}).get(resource) == name for _, pods, _ in members
            ):
                continue
            refused = self._refused(name, members, resource)
            if refused is not None:
                seen.append(refused)
                hopeless.append(refused.reason)
                self._note(members, name, wanted, {}, (Mode.NO_FIT, 0), refused)
                continue
            here = len(seen)
            asked = self._beyond(name, wanted, members) if self._grows else wanted
            choices, found = self._flavor(name, asked, result.usage, seen, policy)
            self._note(members, name, wanted, result.usage, found)
            if found[0] is Mode.NO_FIT:
                hopeless.append(gravest([o.reason for o in seen[here:]]) or Reason.WAITING_FOR_QUOTA)
            if not _go_on(found, policy):
                best, quality = choices, found
                break
            if _better(found, quality, policy):
                best, quality = choices, found
        self._finish(best, at, group)
        if quality[0] is Mode.FIT:
            return best, True
        result.obstacles += seen
        if not best:
            self._count([lightest(hopeless) or Reason.NO_MATCHING_FLAVOR])
        return best, False

    def _beyond(self, name: str, wanted: dict[str, int], members: list[_Member]) -> dict[str, int | None]:
        """What is wanted beyond what the slice before has; None where that is of another flavor."""
        beyond: dict[str, int | None] = {}
        for resource, value in wanted.items():
            held = [self._grows[number].of(resource) for number, _, _ in members if number < len(self._grows)]
            same = len(held) == len(members) and all(flavor == name for flavor, _ in held)
            beyond[resource] = value - sum(amount for _, amount in held) if same else None
        return beyond

    def _note(
        self,
        members: list[_Member],
        name: str,
        wanted: Mapping[str, int],
        taken: Mapping[FlavorResource, int],
        found: _Quality,
        refused: Obstacle | None = None,
    ) -> None:
        if self._assigner.notes is not None:
            needs = tuple((resource, value + taken.get((name, resource), 0)) for resource, value in wanted.items())
            self._assigner.notes.append(
                Considered(tuple(pods.name for _, pods, _ in members), name, needs, *found, refused)
            )

    def _finish(self, best: Mapping[str, Choice], at: int, group: ResourceGroup) -> None:
        tried = -1 if at == len(group.flavors) - 1 else at
        for choice in best.values():
            choice.tried = tried

    def _count(self, reasons: list[Reason]) -> None:
        self.reason = gravest([*reasons, *([self.reason] if self.reason is not None else [])])

    def _start(self, number: int, resource: str) -> int:
        if self._cursor is None or number >= len(self._cursor):
            return 0
        tried = self._cursor[number].get(resource)
        return 0 if tried is None else tried + 1

    def _refused(self, name: str, members: list[_Member], resource: str) -> Obstacle | None:
        flavor = self._assigner._flavors.get(name)
        if flavor is None:
            return Obstacle(Reason.NO_MATCHING_FLAVOR, name, resource, detail=f"{name} does not exist")
        for _, pods, _ in members:
            why = self._assigner.obstacle(flavor, pods)
            if why:
                return Obstacle(Reason.NO_MATCHING_FLAVOR, name, resource, detail=why)
        return None

    def _flavor(
        self,
        name: str,
        wanted: Mapping[str, int | None],
        taken: Mapping[FlavorResource, int],
        seen: list[Obstacle],
        policy: Fungibility,
    ) -> tuple[dict[str, Choice], _Quality]:
        """How every resource would do in this flavor, and the worst of them."""
        choices: dict[str, Choice] = {}
        worst = _PERFECT
        for resource, value in wanted.items():
            key = (name, resource)
            if value is None:
                detail = f"the slice that it takes the place of has another flavor than {name}"
                seen.append(Obstacle(Reason.NO_MATCHING_FLAVOR, name, resource, detail=detail))
                return {}, _WORST
            mode, reach = self._quota(key, value + taken.get(key, 0), seen)
            if _better(worst, (mode, reach), policy):
                worst = (mode, reach)
            if worst[0] is not Mode.NO_FIT:
                choices[resource] = Choice(name, mode, reach)
        return choices, worst

    def _quota(self, key: FlavorResource, value: int, seen: list[Obstacle]) -> _Quality:
        usage, position, policy = self._standing.usage, self._position, self._queue.preemption
        most = usage.tree.potential(position, key)
        if value > most:
            seen.append(Obstacle(Reason.EXCEEDS_MAX_QUOTA, *key, needed=value, limit=most))
            return _WORST
        reach, reclaims = usage.reach(position, key, value)
        available = usage.available(position, key)
        if value <= available:
            return Mode.FIT, reach
        cohort = self._queue.cohort
        seen.append(Obstacle(Reason.WAITING_FOR_QUOTA, *key, needed=value, limit=available, cohort=cohort))
        while_borrowing = policy.borrow or (self._assigner._fair and policy.reclaim != "Never")
        nominal = usage.tree.nodes[position].subtree.get(key, 0)
        if value <= nominal or reclaims or while_borrowing:
            return self._by_preemption(key, value, reach)
        return Mode.NO_FIT, reach

    def _by_preemption(self, key: FlavorResource, value: int, reach: int) -> _Quality:
        standing, position = self._standing, self._position
        victims = self._assigner._search(standing, position, self._workload, frozenset((key,)), {key: value})
        if not victims:
            return Mode.NO_CANDIDATES, reach
        for victim in victims:
            take_out(standing, victim)
        reach, _ = standing.usage.reach(position, key, value)
        for victim in victims:
            put_back(standing, victim)
        return (Mode.PREEMPT if any(v.position == position for v in victims) else Mode.RECLAIM), reach


def _growth(result: Assignment, grows: Sequence[Part]) -> dict[FlavorResource, int]:
    """As Kueue reckons it for preemption: the pods that are more, times what one takes."""
    growth: dict[FlavorResource, int] = {}
    for part, old in zip(result.pod_sets, grows, strict=False):
        for resource, choice in part.flavors.items():
            key = (choice.flavor, resource)
            each = part.requests[resource] // part.count if part.count else 0
            growth[key] = growth.get(key, 0) + each * (part.pod_set.count - old.count)
    return growth


def _better(one: _Quality, other: _Quality, policy: Fungibility) -> bool:
    """Of two flavors without candidates, the one that borrows less: that is where capacity is kept for it."""
    for hopeless in (Mode.NO_FIT, Mode.NO_CANDIDATES):
        if (one[0] is hopeless) != (other[0] is hopeless):
            return other[0] is hopeless
    if policy.avoid_borrowing:
        return (-one[1], one[0]) > (-other[1], other[0])
    return (one[0], -one[1]) > (other[0], -other[1])


def _go_on(quality: _Quality, policy: Fungibility) -> bool:
    """Whether a better flavor is looked for."""
    mode, reach = quality
    if mode in (Mode.NO_FIT, Mode.NO_CANDIDATES):
        return True
    if mode is not Mode.FIT and not policy.preempting_stops:
        return True
    return reach > 0 and not policy.borrowing_stops
