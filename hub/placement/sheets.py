"""PlacementDecisions as values: which of them holds which cluster, so that no decision is lost or doubled on the way.

Each is written on its own, so a cluster that moved from one to another would be in both or in none for a moment. So it
stays where it is: only one that changes its group, or that a smaller limit of size pushes out, ever moves. From scratch
the sheets are those of OCM, a hundred clusters each in the order of the group.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from hub.api import names
from hub.placement.groups import Before, Group, GroupKey

FULL: Final = 100
"""A PlacementDecision holds at most so many clusters."""


@dataclass(frozen=True, slots=True)
class Sheet:
    """One PlacementDecision: `entries` are (cluster, score); the score is None where none is to be written.

    `written`: the object says so, be it that it holds nothing; one that was just made does not.
    """

    name: str
    group: str
    index: int
    entries: tuple[tuple[str, int | None], ...]
    written: bool = True

    @property
    def key(self) -> GroupKey:
        return self.group, self.index

    @property
    def clusters(self) -> tuple[str, ...]:
        return tuple(cluster for cluster, _ in self.entries)


def lay_out(
    placement: str, groups: Sequence[Group], scores: Mapping[str, int] | None, before: Sequence[Sheet] = ()
) -> tuple[Sheet, ...]:
    """The sheets of `groups` in their order. With `scores` entries carry them, and are ordered by them."""
    if not before and len(groups) == 1 and len(groups[0].clusters) <= FULL and not scores:
        bare: list[tuple[str, int | None]] = [(cluster, None) for cluster in groups[0].clusters]
        entries = tuple(bare)
        return (Sheet(f"{placement}-decision-1", groups[0].name, 0, entries),)
    used = {sheet.name for sheet in before}
    numbers = (number for number in range(1, 1 << 31) if f"{placement}-decision-{number}" not in used)
    found: list[Sheet] = []
    for index, group in enumerate(groups):
        order = sorted(group.clusters, key=lambda name: (-scores[name], name)) if scores else list(group.clusters)
        old = [sheet for sheet in before if group.was is not None and sheet.key == group.was]
        for name, members in _filled(order, old):
            entries = tuple((cluster, scores[cluster] if scores else None) for cluster in members)
            found.append(Sheet(name or f"{placement}-decision-{next(numbers)}", group.name, index, entries))
    return tuple(found)


def _filled(order: Sequence[str], old: Sequence[Sheet]) -> list[tuple[str, list[str]]]:
    """(name of a sheet that goes on, or nothing; its clusters in order)"""
    wanted, placed = set(order), set[str]()
    sheets: list[tuple[str, set[str]]] = []
    for sheet in old:
        stay = [name for name in sheet.clusters if name in wanted and name not in placed][:FULL]
        placed.update(stay)
        sheets.append((sheet.name, set(stay)))
    waiting = [name for name in order if name not in placed]
    for _, members in sheets:
        room = FULL - len(members)
        members.update(waiting[:room])
        waiting = waiting[room:]
    sheets = [(name, members) for name, members in sheets if members]
    sheets += [("", set(waiting[start : start + FULL])) for start in range(0, len(waiting), FULL)]
    if not sheets:
        sheets = [(old[0].name if old else "", set())]
    return [(name, [cluster for cluster in order if cluster in members]) for name, members in sheets]


def groups_of(sheets: Iterable[Sheet]) -> dict[str, GroupKey]:
    """The group of each cluster."""
    return {cluster: sheet.key for sheet in sheets for cluster in sheet.clusters}


def standing(sheets: Sequence[Sheet]) -> Before:
    """The groups that the sheets make, for `hub.placement.groups.cut` to go on from."""
    return Before(groups_of(sheets), tuple(sorted({sheet.key for sheet in sheets})))


def read_sheet(decision: Mapping[str, Any]) -> Sheet:
    """A PlacementDecision as it is, whoever wrote it. Never raises: what is not readable is empty."""
    meta = decision["metadata"]
    labels = meta.get("labels") or {}
    index = str(labels.get(names.DECISION_GROUP_INDEX) or "")
    entries = []
    for entry in (decision.get("status") or {}).get("decisions") or ():
        if isinstance(entry, Mapping) and entry.get("clusterName"):
            score = entry.get("score")
            entries.append((str(entry["clusterName"]), score if isinstance(score, int) else None))
    return Sheet(
        str(meta["name"]),
        str(labels.get(names.DECISION_GROUP_NAME) or ""),
        int(index) if index.isdecimal() and len(index) < 10 else -1,
        tuple(entries),
        isinstance((decision.get("status") or {}).get("decisions"), list),
    )


def labels_of(placement: str, sheet: Sheet) -> dict[str, str]:
    return {
        names.PLACEMENT: placement,
        names.DECISION_GROUP_INDEX: str(sheet.index),
        names.DECISION_GROUP_NAME: sheet.group,
    }


def entries_of(sheet: Sheet) -> list[dict[str, Any]]:
    """`status.decisions` of the object."""
    return [
        {"clusterName": cluster, "reason": ""} | ({} if score is None else {"score": score})
        for cluster, score in sheet.entries
    ]


def status_groups(sheets: Sequence[Sheet]) -> list[dict[str, Any]]:
    """`status.decisionGroups` of the Placement."""
    found: dict[GroupKey, dict[str, Any]] = {}
    for sheet in sheets:
        group = found.setdefault(
            sheet.key,
            {
                "decisionGroupIndex": sheet.index,
                "decisionGroupName": sheet.group,
                "decisions": [],
                "clusterCount": 0,
            },
        )
        group["decisions"].append(sheet.name)
        group["clusterCount"] += len(sheet.entries)
    return list(found.values())


def growing_first(old: Mapping[str, Sheet], new: Sequence[Sheet]) -> list[Sheet]:
    """What is to be written before anything is taken away, where clusters move between sheets: the sheets they move to,
    with all that these hold now as well. Empty when nothing moves."""
    at = {cluster: sheet.name for sheet in old.values() for cluster in sheet.clusters}
    found = []
    for sheet in new:
        coming = {cluster for cluster in sheet.clusters if at.get(cluster, sheet.name) != sheet.name}
        if not coming:
            continue
        before = old.get(sheet.name)
        kept = before.entries if before is not None else ()
        known = {cluster for cluster, _ in kept}
        added = tuple(entry for entry in sheet.entries if entry[0] not in known)
        found.append(replace(sheet, entries=(*kept, *added)))
    return found
