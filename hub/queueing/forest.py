"""Quota trees of all queues, grown from cohorts and queues; what has no root is said to have none. Pure.

A tree is made anew only where one of its parts is another object than before.
"""

from __future__ import annotations

from collections.abc import Mapping

from hub.queueing.objects import ClusterQueue, Cohort
from hub.queueing.tree import QuotaTree, build_tree

Built = Mapping[str, tuple[tuple[object, ...], QuotaTree]]
"""By root, what a tree was made of, and the tree."""


def grow(
    queues: Mapping[str, ClusterQueue],
    cohorts: Mapping[str, Cohort],
    broken: Mapping[str, str],
    built: Built,
) -> tuple[dict[str, QuotaTree], dict[str, tuple[tuple[object, ...], QuotaTree]], dict[str, str]]:
    """The tree of every queue, the trees by root, and why some queues are in none."""
    known = dict(cohorts)
    for named in [q.cohort for q in queues.values()] + [c.parent for c in cohorts.values()]:
        if named and named not in known:
            known[named] = Cohort(named)
    roots: dict[str, str] = {}
    lost_cohorts: dict[str, str] = {}
    for name in sorted(known):
        _find_root(name, known, broken, roots, lost_cohorts)
    members: dict[str, list[Cohort | ClusterQueue]] = {}
    whole: dict[str, list[object]] = {}
    for name in sorted(known):
        cohort = known[name]
        if name in roots:
            if cohort.parent:
                members.setdefault(cohort.parent, []).append(cohort)
            # An implicit cohort is made anew each time; its name stands for it.
            whole.setdefault(roots[name], []).append(cohorts.get(name, name))
    lost: dict[str, str] = {}
    alone: list[ClusterQueue] = []
    for name in sorted(queues):
        queue = queues[name]
        if not queue.cohort:
            alone.append(queue)
        elif queue.cohort in lost_cohorts:
            lost[name] = lost_cohorts[queue.cohort]
        else:
            members.setdefault(queue.cohort, []).append(queue)
            whole.setdefault(roots[queue.cohort], []).append(queue)
    grown: dict[str, tuple[tuple[object, ...], QuotaTree]] = {}
    for root, parts in whole.items():
        grown[f"Cohort/{root}"] = _reuse(built.get(f"Cohort/{root}"), tuple(parts)) or (
            tuple(parts),
            build_tree(known[root], members),
        )
    for queue in alone:
        key = f"ClusterQueue/{queue.name}"
        grown[key] = _reuse(built.get(key), (queue,)) or ((queue,), build_tree(queue, {}))
    trees = {name: tree for _, tree in grown.values() for name in tree.position}
    return trees, grown, lost


def _reuse(
    known: tuple[tuple[object, ...], QuotaTree] | None, parts: tuple[object, ...]
) -> tuple[tuple[object, ...], QuotaTree] | None:
    if known is None or len(known[0]) != len(parts):
        return None
    same = all(a is b or (isinstance(a, str) and a == b) for a, b in zip(known[0], parts, strict=True))
    return known if same else None


def _find_root(
    name: str,
    known: Mapping[str, Cohort],
    broken: Mapping[str, str],
    roots: dict[str, str],
    lost: dict[str, str],
) -> None:
    """Fills in the root of `name` and of all above it, or why they have none."""
    path: list[str] = []
    at = name
    while True:
        if at in roots or at in lost:
            break
        if at in path:
            circle = " → ".join([*path[path.index(at) :], at])
            lost[at] = f"its cohorts go round in a circle: {circle}"
            break
        path.append(at)
        if at in broken:
            lost[at] = f"Cohort {at} is broken: {broken[at]}"
            break
        parent = known[at].parent
        if not parent:
            roots[at] = at
            break
        at = parent
    for member in path:
        if at in lost:
            lost.setdefault(member, lost[at])
        else:
            roots[member] = roots[at]
