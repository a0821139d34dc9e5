"""Decisions in groups: which chosen cluster belongs to which decision group of its Placement.

From scratch the groups are OCM's: by selector in the order written, clusters by name, cut into runs of equal size. A
cluster that is in a group already stays there while it may, because a group that changes is a rollout that starts over:
there are as many groups as OCM would make, but a cluster that comes or goes does not shift all others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from hub.fleet.fleet import Fleet
from hub.placement.request import GroupSelector, PlacementRequest
from hub.placement.selectors import matches

# Name and index of a group.
GroupKey = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Before:
    """The groups that there are: of each cluster, and all of them in their order, empty ones included."""

    members: Mapping[str, GroupKey] = field(default_factory=dict)
    keys: tuple[GroupKey, ...] = ()


_NOTHING = Before()


@dataclass(frozen=True, slots=True)
class Group:
    """`clusters` by name. `was`: which group of before it goes on from."""

    name: str
    clusters: tuple[str, ...]
    was: GroupKey | None = None


def cut(fleet: Fleet, request: PlacementRequest, chosen: Iterable[str], before: Before = _NOTHING) -> tuple[Group, ...]:
    """At least one group, empty when nothing is chosen."""
    left = sorted(chosen)
    size = request.group_size(len(left))
    if not before.keys and not request.groups and size == len(left):
        return (Group("", tuple(left)),)
    found: list[Group] = []
    for selector in (*request.groups, GroupSelector("")):
        members = [name for name in left if _belongs(fleet, name, selector)]
        if members:
            gone = set(members)
            left = [name for name in left if name not in gone]
            found += _runs(selector.name, members, size, before)
    return tuple(found) or (Group("", (), min((key for key in before.keys if not key[0]), default=None)),)


def _runs(name: str, members: Sequence[str], size: int, before: Before) -> list[Group]:
    """`members` in as few runs as there must be; each stays where it was if there is room."""
    wanted = -(-len(members) // size)
    runs: dict[GroupKey, list[str]] = {}
    for member in members:
        was = before.members.get(member)
        if was is not None and was[0] == name:
            runs.setdefault(was, []).append(member)
    # Of too many runs the emptiest give up.
    kept = sorted(sorted(runs, key=lambda key: (-len(runs[key]), key))[:wanted])
    placed = {key: runs[key][:size] for key in kept}
    settled = {member for run in placed.values() for member in run}
    waiting = [member for member in members if member not in settled]
    for run in placed.values():
        free = size - len(run)
        run += waiting[:free]
        waiting = waiting[free:]
    groups = [Group(name, tuple(sorted(run)), key) for key, run in placed.items()]
    # A group whose members have all gone goes on with new ones.
    free_keys = iter(sorted({key for key in before.keys if key[0] == name} - set(placed)))
    groups += [
        Group(name, tuple(waiting[start : start + size]), next(free_keys, None))
        for start in range(0, len(waiting), size)
    ]
    return sorted(groups, key=lambda group: (group.was is None, group.was or ("", 0)))


def _belongs(fleet: Fleet, name: str, selector: GroupSelector) -> bool:
    if not (selector.labels or selector.claims):
        return True
    # Of a cluster that is gone nobody knows the labels.
    if name not in fleet:
        return False
    facts = fleet.facts(name)
    return matches(selector.labels, facts.labels) and matches(selector.claims, facts.claims)
