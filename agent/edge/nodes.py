"""The nodes of a site and what is taken of them: who gets which node and which of its GPUs.

Pure. The order is the hub's (hub/fleet/room.py), so that both mean the same node: where the task makes the fewest GPUs
useless (hub/api/waste.py), then the fewest free GPUs that still fit (in thousandths), then the least free CPU, then the
first by group and number; a share goes to the fullest GPU that has room. A whole GPU is one task's alone; shares of one
GPU never sum to more than it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from agent.edge.selection import NodeRule
from agent.edge.sitefile import Busy, NodeGroup
from hub.api import names
from hub.api.errors import InvalidObjectError
from hub.api.waste import node_waste

WHOLE = 1000
# A node that says nothing of it takes any number; of anything else that it does not name it has none.
PODS = "pods"


@dataclass(frozen=True, slots=True)
class Need:
    """What one task takes of one node: cpu in thousandths, memory in bytes, GPUs whole or a share in thousandths."""

    cpu: int = 0
    memory: int = 0
    gpus: int = 0
    gpu_share: int = 0
    other: tuple[tuple[str, int], ...] = ()
    rule: NodeRule = field(default_factory=NodeRule)

    @property
    def gpu_milli(self) -> int:
        return self.gpu_share or self.gpus * WHOLE

    def __str__(self) -> str:
        parts = [f"{self.cpu / 1000:g} CPU", f"{self.memory / 2**20:.4g}Mi memory"]
        parts += [f"{self.gpus} GPU"] if self.gpus else []
        parts += [f"{self.gpu_share / 1000:g} of a GPU"] if self.gpu_share else []
        parts += [f"{amount} {name}" for name, amount in self.other if name != PODS]
        return ", ".join(parts)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a task is: its node by name, and the numbers of its GPUs there."""

    node: str
    gpus: tuple[int, ...] = ()


@dataclass(slots=True, eq=False)
class Node:
    """One node: what it has and what is free now. `gpus[i]` is what is free of GPU i, in thousandths."""

    name: str
    group: NodeGroup
    order: tuple[str, int]
    labels: Mapping[str, str]
    cpu: int
    memory: int
    gpus: list[int]
    other: dict[str, int]
    # What is taken by what did not come from the hub.
    foreign_cpu: int = 0
    foreign_memory: int = 0
    foreign_gpu: int = 0
    foreign_other: dict[str, int] = field(default_factory=dict)

    @property
    def gpu_free(self) -> int:
        return sum(self.gpus)

    @property
    def whole_free(self) -> int:
        return sum(1 for free in self.gpus if free == WHOLE)

    def fits(self, need: Need) -> bool:
        if need.cpu > self.cpu or need.memory > self.memory:
            return False
        if need.gpu_share:
            if not any(free >= need.gpu_share for free in self.gpus):
                return False
        elif need.gpus and self.whole_free < need.gpus:
            return False
        return all(self.other[name] >= amount if name in self.other else name == PODS for name, amount in need.other)


class Nodes:
    """All nodes of a site. Raises `InvalidObjectError` when two would have one name.

    `version` moves whenever anything is taken or given back, `foreign_version` only with what is not the hub's.
    """

    def __init__(self, groups: Sequence[NodeGroup]) -> None:
        self.groups = tuple(sorted(groups, key=lambda group: group.name))
        self.version = 0
        self.foreign_version = 0
        self._nodes: dict[str, Node] = {}
        for group in self.groups:
            for number in range(group.count):
                node = _node(group, number)
                if node.name in self._nodes:
                    raise InvalidObjectError(f"two nodes would be called {node.name}", field=f"nodes {group.name}")
                self._nodes[node.name] = node
        # A rule's nodes, once for all its tasks.
        self._eligible: dict[NodeRule, list[Node]] = {}

    def __iter__(self) -> Iterator[Node]:
        return iter(self._nodes.values())

    def __len__(self) -> int:
        return len(self._nodes)

    def __getitem__(self, name: str) -> Node:
        return self._nodes[name]

    def __contains__(self, name: str) -> bool:
        return name in self._nodes

    def choose(self, need: Need) -> Place | None:
        """Where a task with this need would go now; None when it fits nowhere now."""
        best: Node | None = None
        best_key: tuple[int, int, int, tuple[str, int]] | None = None
        # Nodes that are alike are judged once: most of a large site is.
        more: dict[tuple[int, int, tuple[int, ...]], int] = {}
        for node in self._nodes_for(need):
            if not node.fits(need):
                continue
            state = (id(node.group), node.cpu, tuple(node.gpus))
            waste = more.get(state)
            if waste is None:
                waste = more[state] = _more_waste(node, need)
            key = (waste, node.gpu_free, node.cpu, node.order)
            if best_key is None or key < best_key:
                best, best_key = node, key
        return None if best is None else Place(best.name, _pick_gpus(best.gpus, need))

    def ever_fits(self, need: Need) -> str:
        """Empty when a node could run it if it were empty, else why none can, in words."""
        if not self._nodes:
            return "the site has no nodes"
        nodes = self._nodes_for(need)
        if not nodes:
            return "no node has the labels it asks for, or none whose taints it tolerates"
        if any(_node(node.group, node.order[1]).fits(need) for node in nodes):
            return ""
        largest = max(nodes, key=lambda node: (node.group.gpus.count if node.group.gpus else 0, node.group.cpu))
        group = largest.group
        gpus = f", {group.gpus.count} {group.gpus.model}" if group.gpus else ""
        gpus += "".join(f", {group.resources.get(name, 0)} {name}" for name, _ in need.other if name != PODS)
        return f"needs {need}; the largest node has {group.cpu / 1000:g} CPU, {group.memory / 2**20:.4g}Mi memory{gpus}"

    def take(self, need: Need, place: Place, *, foreign: bool = False) -> None:
        """Takes it, whether or not there is room: what runs, runs (a site that came back after its file was edited)."""
        self._change(need, place, -1, foreign)

    def give_back(self, need: Need, place: Place, *, foreign: bool = False) -> None:
        self._change(need, place, +1, foreign)

    def occupy(self, busy: Iterable[Busy]) -> None:
        """Places what is not ours, best fit. Raises `InvalidObjectError` for what has no room."""
        for position, entry in enumerate(busy):
            whole, share = divmod(entry.gpu_milli, WHOLE)
            rule = NodeRule(selector=((GROUP_LABEL, entry.group),)) if entry.group else ANYWHERE
            need = Need(entry.cpu, entry.memory, whole, share, rule=rule)
            place = self.choose(need)
            if place is None:
                raise InvalidObjectError(f"needs {need}: no node has so much left", field=f"busy[{position}]")
            self.take(need, place, foreign=True)

    def _nodes_for(self, need: Need) -> list[Node]:
        found = self._eligible.get(need.rule)
        if found is None:
            if len(self._eligible) > 1024:
                self._eligible.clear()
            found = [node for node in self._nodes.values() if need.rule.allows(node.labels, node.group.taints)]
            self._eligible[need.rule] = found
        return found

    def _change(self, need: Need, place: Place, sign: int, foreign: bool) -> None:
        node = self._nodes.get(place.node)
        if node is None:
            return
        node.cpu += sign * need.cpu
        node.memory += sign * need.memory
        for name, amount in need.other:
            if name in node.other:
                node.other[name] += sign * amount
        for gpu in place.gpus:
            if gpu < len(node.gpus):
                node.gpus[gpu] += sign * (need.gpu_share or WHOLE)
        self.version += 1
        if foreign:
            node.foreign_cpu -= sign * need.cpu
            node.foreign_memory -= sign * need.memory
            node.foreign_gpu -= sign * need.gpu_milli
            for name, amount in need.other:
                if name in node.other:
                    node.foreign_other[name] = node.foreign_other.get(name, 0) - sign * amount
            self.foreign_version += 1


GROUP_LABEL = f"{names.GROUP}/node-group"
# Tolerates every taint: what is there is there.
ANYWHERE = NodeRule(tolerations=(("", "Exists", "", ""),))


def node_labels(group: NodeGroup) -> dict[str, str]:
    """What every node of the group carries; what the file says goes before what follows from the hardware."""
    labels = {GROUP_LABEL: group.name, "kubernetes.io/os": "linux"}
    if group.gpus is not None:
        labels[names.GPU_PRODUCT] = group.gpus.model
        labels["nvidia.com/gpu.count"] = str(group.gpus.count)
        labels["nvidia.com/gpu.present"] = "true"
        if group.gpus.memory:
            labels[names.GPU_MEMORY] = str(group.gpus.memory >> 20)
    return {**labels, **group.labels}


def _node(group: NodeGroup, number: int) -> Node:
    name = group.name if group.count == 1 else f"{group.name}-{number}"
    return Node(
        name=name,
        group=group,
        order=(group.name, number),
        labels={"kubernetes.io/hostname": name, **node_labels(group)},
        cpu=group.cpu,
        memory=group.memory,
        gpus=[WHOLE] * (group.gpus.count if group.gpus else 0),
        other=dict(group.resources),
    )


def _more_waste(node: Node, need: Need) -> int:
    """How much more of the node's GPUs is of no use once it has this task."""
    offered = len(node.gpus) * WHOLE
    if not offered:
        return 0
    after = [*node.gpus]
    for gpu in _pick_gpus(after, need):
        after[gpu] -= need.gpu_share or WHOLE
    cpu = node.group.cpu
    return node_waste(after, offered, node.cpu - need.cpu, cpu) - node_waste(node.gpus, offered, node.cpu, cpu)


def _pick_gpus(free: Sequence[int], need: Need) -> tuple[int, ...]:
    if need.gpu_share:
        fitting = [gpu for gpu, milli in enumerate(free) if milli >= need.gpu_share]
        return (min(fitting, key=lambda gpu: (free[gpu], gpu)),)
    if not need.gpus:
        return ()
    return tuple([gpu for gpu, milli in enumerate(free) if milli == WHOLE][: need.gpus])
