"""How many tasks fit in one part of a cluster whose nodes belong together: a rack, an NVLink domain, a zone.

A domain is all nodes of a cluster that have the same value of a node label. Nodes of a group are alike, so a domain is
whole groups; nodes without the label are in none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hub.fleet.nodes import Ask, Ints
from hub.fleet.site import NodeGroup


def slots_by_domain(
    groups: Sequence[NodeGroup], starts: Sequence[int], ask: Ask, slots: Ints, key: str
) -> Mapping[str, int]:
    """Tasks by value of the label `key`; `slots` are those of each node of `ask`, in its order."""
    found: dict[str, int] = {}
    for start, group in zip(starts, groups, strict=True):
        value = group.labels.get(key)
        if value is None:
            continue
        end = start + group.count
        if ask.nodes is not None:
            start, end = (int(at) for at in ask.nodes.searchsorted((start, end)))
        found[value] = found.get(value, 0) + int(slots[start:end].sum())
    return found
