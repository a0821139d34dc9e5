"""The quota tree of one root cohort: what every queue and cohort owns, lends and may borrow at most.

Static: what is used of it is hub/queueing/ledger.py. The formulas are Kueue's; a name is of a cohort or a queue, so
nodes are told apart by kind.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from hub.api.quantity import Quantity
from hub.queueing.amount import minus, plus
from hub.queueing.objects import ClusterQueue, Cohort, FlavorResource, Quota


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """`subtree`: what it and all below own or are lent; `local`: the part of that which is never lent out.

    `parent` is a position in `QuotaTree.nodes`, −1 for the root. `limits`: borrowing limits where there are any.
    """

    name: str
    is_queue: bool
    parent: int
    nominal: Mapping[FlavorResource, int]
    subtree: Mapping[FlavorResource, int]
    local: Mapping[FlavorResource, int]
    limits: Mapping[FlavorResource, int]
    weight: Quantity


@dataclass(frozen=True, slots=True, eq=False)
class QuotaTree:
    """`nodes`: parents before children. `paths[i]`: from node i up to the root, both included.

    `heights[i]`: how far it is down to the lowest cohort below node i, a cohort with only queues being 1 and a queue 0.
    `tables`: where hub/queueing/fleet/ahead.py keeps what it has made of the tree.
    """

    nodes: tuple[Node, ...]
    paths: tuple[tuple[int, ...], ...]
    position: Mapping[str, int]
    cohorts: Mapping[str, int]
    heights: tuple[int, ...] = ()
    children: tuple[tuple[int, ...], ...] = ()
    tables: dict[tuple[FlavorResource, ...], tuple[NDArray[Any], ...]] = field(default_factory=dict, repr=False)
    _potential: dict[tuple[int, FlavorResource], int] = field(default_factory=dict, repr=False)
    _lendable: dict[tuple[int, str], int] = field(default_factory=dict, repr=False)

    @property
    def root(self) -> Node:
        return self.nodes[0]

    def potential(self, node: int, resource: FlavorResource) -> int:
        """The most that the node could ever use, were everything else idle."""
        known = self._potential.get((node, resource))
        if known is None:
            known = self._nodes_potential(node, resource)
            self._potential[node, resource] = known
        return known

    def _nodes_potential(self, node: int, resource: FlavorResource) -> int:
        most = 0
        for number in reversed(self.paths[node]):
            here = self.nodes[number]
            owned = here.subtree.get(resource, 0)
            if here.parent < 0:
                most = owned
                continue
            most = plus(here.local.get(resource, 0), most)
            limit = here.limits.get(resource)
            if limit is not None:
                most = min(most, plus(owned, limit))
        return most

    def lendable(self, node: int, resource: str) -> int:
        """All that a child of the node could ever use of the resource, over all flavors."""
        known = self._lendable.get((node, resource))
        if known is None:
            known = 0
            for key in self.flavor_resources():
                if key[1] == resource:
                    known = plus(known, self.potential(node, key))
            self._lendable[node, resource] = known
        return known

    def flavor_resources(self) -> list[FlavorResource]:
        return sorted({resource for node in self.nodes for resource in node.subtree})


def build_tree(root: Cohort | ClusterQueue, members: Mapping[str, Sequence[Cohort | ClusterQueue]]) -> QuotaTree:
    """`members`: what hangs below each cohort, by its name; a queue without cohort is a tree of its own."""
    order: list[tuple[Cohort | ClusterQueue, int]] = []
    stack: list[tuple[Cohort | ClusterQueue, int]] = [(root, -1)]
    while stack:
        member, parent = stack.pop()
        order.append((member, parent))
        if isinstance(member, Cohort):
            position = len(order) - 1
            children = sorted(members.get(member.name, ()), key=lambda m: (isinstance(m, Cohort), m.name))
            stack += [(child, position) for child in reversed(children)]
    subtree: list[dict[FlavorResource, int]] = [{k: q.nominal for k, q in m.quotas.items()} for m, _ in order]
    local: list[dict[FlavorResource, int]] = [{} for _ in order]
    for number in range(len(order) - 1, -1, -1):
        member, parent = order[number]
        local[number] = _kept(member.quotas, subtree[number])
        if parent < 0:
            continue
        above = subtree[parent]
        for resource, owned in subtree[number].items():
            above[resource] = plus(above.get(resource, 0), max(0, minus(owned, local[number].get(resource, 0))))
    nodes = tuple(
        Node(
            name=member.name,
            is_queue=isinstance(member, ClusterQueue),
            parent=parent,
            nominal={k: q.nominal for k, q in member.quotas.items()},
            subtree=subtree[number],
            local=local[number],
            limits={k: q.borrowing_limit for k, q in member.quotas.items() if q.borrowing_limit is not None},
            weight=member.weight,
        )
        for number, (member, parent) in enumerate(order)
    )
    below: list[list[int]] = [[] for _ in nodes]
    heights = [0] * len(nodes)
    for number in range(len(nodes) - 1, -1, -1):
        if nodes[number].parent >= 0:
            higher = nodes[number].parent
            below[higher].append(number)
            heights[higher] = max(heights[higher], heights[number] + 1)
    return QuotaTree(
        nodes=nodes,
        heights=tuple(heights),
        children=tuple(tuple(reversed(lower)) for lower in below),
        paths=_paths(node.parent for node in nodes),
        position={node.name: number for number, node in enumerate(nodes) if node.is_queue},
        cohorts={node.name: number for number, node in enumerate(nodes) if not node.is_queue},
    )


def _kept(quotas: Mapping[FlavorResource, Quota], subtree: Mapping[FlavorResource, int]) -> dict[FlavorResource, int]:
    return {
        key: max(0, minus(subtree.get(key, 0), quota.lending_limit))
        for key, quota in quotas.items()
        if quota.lending_limit is not None
    }


def _paths(parents: Iterable[int]) -> tuple[tuple[int, ...], ...]:
    paths: list[tuple[int, ...]] = []
    for number, parent in enumerate(parents):
        paths.append((number, *(paths[parent] if parent >= 0 else ())))
    return tuple(paths)
