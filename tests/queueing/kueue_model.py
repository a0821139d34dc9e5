"""The searches and the tournament again, slow and as the rules say them: every share anew, every list sorted whole."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from hub.queueing.kueue.order import Entry
from hub.queueing.kueue.settings import FINAL
from hub.queueing.kueue.standing import Standing, rank
from hub.queueing.kueue.workload import Held, Workload
from hub.queueing.objects import FlavorResource
from hub.queueing.usage import NOTHING, TreeUsage

Request = dict[FlavorResource, int]
Found = tuple[int, Held]


def tournament(standing: Standing, entries: list[Entry]) -> Iterator[Entry]:
    tree, usage = standing.tree, standing.usage
    left = {entry.position: entry for entry in entries}

    def best(cohort: int) -> Entry | None:
        found = [
            (child, best(child) if not tree.nodes[child].is_queue else left.get(child))
            for child in tree.children[cohort]
        ]
        ranked = [(key(entry, child), entry) for child, entry in found if entry is not None]
        return min(ranked, key=lambda pair: pair[0])[1] if ranked else None

    def key(entry: Entry, child: int) -> tuple[object, ...]:
        usage.add(entry.position, entry.usage.items())
        borrows = any(usage.used[child].get(k, 0) > tree.nodes[child].subtree.get(k, 0) for k in entry.usage)
        share = fresh(usage).share(child)
        usage.remove(entry.position, entry.usage.items())
        return (borrows, share, -entry.workload.priority, entry.workload.queued, entry.workload.uid)

    while left:
        winner = best(0)
        assert winner is not None
        yield winner
        del left[winner.position]


def fresh(usage: TreeUsage) -> TreeUsage:
    """The same usage without anything remembered."""
    copy = TreeUsage(usage.tree)
    copy.used = [dict(used) for used in usage.used]
    return copy


def holders(standing: Standing) -> list[Found]:
    return [(p, held) for p in standing.tree.position.values() for _, held in standing.holders(p)]


def allowed(policy: str, workload: Workload, held: Held) -> bool:
    if policy in ("Never", "Any"):
        return policy == "Any"
    other = held.workload
    newer = (
        policy == "LowerOrNewerEqualPriority" and other.priority == workload.priority and other.queued > workload.queued
    )
    return other.priority < workload.priority or newer


def uses(held: Held, needed: frozenset[FlavorResource]) -> bool:
    return any(key in needed for key, _ in held.amounts)


def order(own: int, found: Found) -> tuple[object, ...]:
    live, *rest = rank(found[1])
    return (live, found[0] == own, *rest)


def fits(standing: Standing, position: int, request: Request, borrowing: bool = True) -> bool:
    usage = standing.usage
    return all(
        value <= usage.available(position, key) and (borrowing or not usage.borrows(position, key, value))
        for key, value in request.items()
    )


def spared(standing: Standing, position: int, request: Request, taken: list[Found], borrowing: bool) -> list[Found]:
    number = len(taken) - 2
    while number >= 0:
        standing.usage.add(taken[number][0], taken[number][1].amounts)
        if fits(standing, position, request, borrowing):
            taken[number] = taken[-1]
            taken.pop()
        else:
            standing.usage.remove(taken[number][0], taken[number][1].amounts)
        number -= 1
    back(standing, taken)
    return taken


def back(standing: Standing, taken: list[Found]) -> None:
    for position, held in taken:
        standing.usage.add(position, held.amounts)


def classical(
    standing: Standing, own: int, workload: Workload, needed: frozenset[FlavorResource], request: Request
) -> set[str]:
    tree, usage = standing.tree, standing.usage
    queue = standing.queues[own]
    assert queue is not None
    policy, path = queue.preemption, tree.paths[own]
    mine = [
        f for f in holders(standing) if f[0] == own and allowed(policy.within, workload, f[1]) and uses(f[1], needed)
    ]
    classes: list[list[tuple[Found, tuple[int, ...]]]] = [[], [], [(found, ()) for found in mine]]
    rest = dict(request)
    right = not any(usage.borrows(own, key, value) for key, value in rest.items())
    rest = {key: max(0, value - usage.unlent(own, key)) for key, value in rest.items()}
    for below, cohort in itertools.pairwise(path):
        if policy.reclaim == "Never":
            break
        for position, held in holders(standing):
            way = tree.paths[position]
            if (
                cohort not in way
                or below in way
                or not uses(held, needed)
                or not allowed(policy.reclaim, workload, held)
            ):
                continue
            under = way[: way.index(cohort)]
            if not any(usage.within(node, needed) for node in under):
                classes[0 if right else 1].append(((position, held), under))
        holds = not any(usage.borrows(cohort, key, value) for key, value in rest.items())
        rest = {key: max(0, value - usage.unlent(cohort, key)) for key, value in rest.items()}
        right = right or holds
    everyone = []
    for leaving in (True, False):
        for number, members in enumerate(classes):
            ordered = sorted(members, key=lambda pair: order(own, pair[0]))
            everyone += [(number, found, under) for found, under in ordered if found[1].evicted is leaving]
    under_nominal = all(usage.used[own].get(k, 0) < tree.nodes[own].subtree.get(k, 0) for k in needed)
    if (not classes[0] and not classes[1]) or (not policy.borrow and not under_nominal):
        attempts = [True]
    elif not policy.borrow and not classes[0]:
        attempts = [False, True]
    else:
        attempts = [True, False]
    for borrowing in attempts:
        taken: list[Found] = []
        for number, found, under in everyone:
            if number < 2 and any(usage.within(node, needed) for node in under):
                continue
            priority = found[1].workload.priority
            high = priority >= workload.priority or (policy.threshold is not None and priority > policy.threshold)
            if number == 1 and borrowing and (high or not policy.borrow):
                continue
            usage.remove(found[0], found[1].amounts)
            taken.append(found)
            if fits(standing, own, request, borrowing):
                return {held.key for _, held in spared(standing, own, request, taken, borrowing)}
        back(standing, taken)
    return set()


def fair(
    standing: Standing,
    own: int,
    workload: Workload,
    needed: frozenset[FlavorResource],
    request: Request,
    strategies: tuple[str, ...],
) -> set[str]:
    tree, usage = standing.tree, standing.usage
    queue = standing.queues[own]
    assert queue is not None
    by_queue: dict[int, list[Found]] = {}
    for found in sorted(holders(standing), key=lambda f: order(own, f)):
        position, held = found
        policy = queue.preemption.within if position == own else queue.preemption.reclaim
        borrows = position == own or any(usage.borrows(position, key) for key in needed)
        if borrows and uses(held, needed) and allowed(policy, workload, held):
            by_queue.setdefault(position, []).append(found)
    if not by_queue:
        return set()
    usage.add(own, request.items())
    entitled = usage.within(own, needed)
    taken: list[Found] = []
    refused: dict[int, list[Found]] = {}

    def take(found: Found) -> bool:
        usage.remove(found[0], found[1].amounts)
        taken.append(found)
        usage.remove(own, request.items())
        good = fits(standing, own, request)
        usage.add(own, request.items())
        return good

    def parting(position: int) -> tuple[int, int]:
        left, right = tree.paths[own][::-1], tree.paths[position][::-1]
        at = next(n for n in range(min(len(left), len(right))) if left[n] != right[n])
        return left[at], right[at]

    def largest(lists: dict[int, list[Found]]) -> int | None:
        if tree.nodes[0].is_queue:
            return 0 if lists.get(0) else None
        dead: set[int] = set()
        while True:
            at = 0
            while True:
                choices = []
                for child in tree.children[at]:
                    share = fresh(usage).share(child)
                    below = [p for p, some in lists.items() if some and child in tree.paths[p]]
                    mine = child in tree.paths[own]
                    if child in dead or not below or (share == NOTHING and not mine):
                        continue
                    is_queue = tree.nodes[child].is_queue
                    first = order(own, lists[child][0]) if is_queue else ()
                    choices.append(((tuple(-part for part in share), is_queue, first, child), child))
                if not choices:
                    if at == 0:
                        return None
                    dead.add(at)
                    break
                at = min(choices, key=lambda pair: pair[0])[1]
                if tree.nodes[at].is_queue:
                    return at

    def search() -> bool:
        while (target := largest(by_queue)) is not None:
            if target == own or entitled:
                if take(by_queue[target].pop(0)):
                    return True
                continue
            mine, theirs = parting(target)
            share, before = fresh(usage).share(mine), fresh(usage).share(theirs)
            while by_queue[target]:
                found = by_queue[target].pop(0)
                usage.remove(target, found[1].amounts)
                after = fresh(usage).share(theirs)
                usage.add(target, found[1].amounts)
                if share <= after if strategies[0] == FINAL else share < before:
                    if take(found):
                        return True
                    break
                refused.setdefault(target, []).append(found)
        if len(strategies) > 1:
            while (target := largest(refused)) is not None:
                mine, theirs = parting(target)
                if fresh(usage).share(mine) < fresh(usage).share(theirs) and take(refused[target].pop(0)):
                    return True
                refused[target] = []
        return False

    good = search()
    usage.remove(own, request.items())
    if not good:
        back(standing, taken)
        return set()
    return {held.key for _, held in spared(standing, own, request, taken, True)}
