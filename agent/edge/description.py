"""What a site says of itself to the hub: capacity by node group, sums, labels, claims. Pure but for the machine's name.

`used` is only what did not come from the hub: what the file calls busy, and Jobs and Pods that somebody made here. What
the hub sent it charges itself.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Final

from agent.edge.images import Images
from agent.edge.nodes import Node, Nodes, node_labels
from agent.edge.sitefile import NodeGroup, Prices, SiteFile
from hub.api import names
from hub.api.nodeaffinity import nameable
from hub.api.quantity import Quantity

Json = dict[str, Any]
PRODUCT: Final = "quarterdeck-edge"
# Where a Kubernetes version is asked for: there is none, and this says so.
VERSION: Final = "v1.34.0-edge"


class Description:
    """Of one site while it runs; answers are made anew only when something changed."""

    def __init__(self, site: SiteFile, nodes: Nodes, images: Images) -> None:
        self._site = site
        self._nodes = nodes
        self._images = images
        self._made: tuple[int, Json] | None = None

    @staticmethod
    def labels_of(site: SiteFile) -> dict[str, str]:
        found = dict(site.labels)
        if site.declared:
            found[names.SIMULATED] = "true"
        return found

    def capacity(self) -> Json:
        """A ClusterCapacity's status without `observedTime`."""
        version = self._nodes.foreign_version
        if self._made is None or self._made[0] != version:
            self._made = (version, self._capacity())
        return dict(self._made[1])

    def _capacity(self) -> Json:
        by_group: dict[str, list[Node]] = {group.name: [] for group in self._nodes.groups}
        for node in self._nodes:
            by_group[node.group.name].append(node)
        named = nameable(node.name for node in self._nodes)
        status: Json = {
            "simulated": self._site.declared,
            "runtime": self._site.runtime,
            "images": self._images.offered(),
            "nodeGroups": [_group(group, by_group[group.name], named=named) for group in self._nodes.groups],
        }
        prices = self._prices()
        if prices:
            status["prices"] = prices
        return status

    def _prices(self) -> Json:
        prices = self._site.prices
        found = _rates(prices)
        if prices.spot is not None:
            found["spot"] = _rates(prices.spot)
        if prices.egress_gib is not None:
            found["egressGiB"] = prices.egress_gib
        if prices.times:
            found["times"] = [dict(entry) for entry in prices.times]
        return found

    def cluster_status(self) -> Json:
        size: dict[str, int] = {"cpu": 0, "memory": 0}
        taken: dict[str, int] = {"cpu": 0, "memory": 0}
        for group in self._nodes.groups:
            for name, amount in _amounts(group).items():
                size[name] = size.get(name, 0) + amount * group.count
        for node in self._nodes:
            taken["cpu"] += node.foreign_cpu
            taken["memory"] += node.foreign_memory
            taken[names.GPU] = taken.get(names.GPU, 0) + -(-node.foreign_gpu // 1000)
        free = {name: max(0, amount - taken.get(name, 0)) for name, amount in size.items()}
        claims = {
            "id.k8s.io": self._site.name,
            "platform.open-cluster-management.io": "Edge",
            "product.open-cluster-management.io": PRODUCT,
            "kubernetesversion.open-cluster-management.io": VERSION,
            f"{names.GROUP}/runtime": self._site.runtime,
            f"{names.GROUP}/machine": os.uname().nodename,
        }
        if self._site.declared:
            claims[names.SIMULATED] = "true"
        return {
            "version": {"kubernetes": VERSION},
            "capacity": _quantities(size),
            "allocatable": _quantities(free),
            "clusterClaims": [{"name": name, "value": value} for name, value in sorted(claims.items())],
        }


def _rates(prices: Prices) -> Json:
    found: Json = {"gpuHour": dict(prices.gpu_hour)} if prices.gpu_hour else {}
    if prices.cpu_hour is not None:
        found["cpuHour"] = prices.cpu_hour
    if prices.memory_gib_hour is not None:
        found["memoryGiBHour"] = prices.memory_gib_hour
    return found


def _group(group: NodeGroup, nodes: list[Node], *, named: bool) -> Json:
    amounts = _amounts(group)
    found: Json = {
        "name": group.name,
        "count": group.count,
        **({"nodes": [node.name for node in nodes]} if named else {}),
        "labels": node_labels(group),
        "allocatable": _quantities(amounts),
    }
    if group.taints:
        found["taints"] = [_taint(taint.key, taint.value, taint.effect) for taint in group.taints]
    if group.gpus is not None:
        found["gpu"] = {"model": group.gpus.model, "count": group.gpus.count}
        if group.gpus.memory:
            found["gpu"]["memory"] = str(Quantity(group.gpus.memory))
    used: list[tuple[int, Mapping[str, str]]] = []
    # Node by node in their order, runs of equal ones together: the hub gives the first entry to the first nodes.
    for node in nodes:
        taken = _used(node)
        if used and used[-1][1] == taken:
            used[-1] = (used[-1][0] + 1, taken)
        else:
            used.append((1, taken))
    while used and not used[-1][1]:
        used.pop()
    if used:
        found["used"] = [{"nodes": count, "resources": dict(resources)} for count, resources in used]
    return found


def _taint(key: str, value: str, effect: str) -> Json:
    return {"key": key, "effect": effect} | ({"value": value} if value else {})


def _used(node: Node) -> dict[str, str]:
    found = {"cpu": node.foreign_cpu, "memory": node.foreign_memory, **node.foreign_other}
    whole, share = divmod(node.foreign_gpu, 1000)
    found |= {names.GPU: whole, names.GPU_MILLI: share}
    return _quantities({name: amount for name, amount in found.items() if amount > 0})


def _amounts(group: NodeGroup) -> dict[str, int]:
    found = {"cpu": group.cpu, "memory": group.memory, **group.resources}
    if group.gpus is not None:
        found[names.GPU] = group.gpus.count
    return found


def _quantities(amounts: Mapping[str, int]) -> dict[str, str]:
    return {
        name: str(Quantity.from_nano(amount * 10**6) if name == "cpu" else Quantity(amount))
        for name, amount in amounts.items()
    }
