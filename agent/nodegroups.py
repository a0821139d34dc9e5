"""Nodes and pods of a real cluster as a ClusterCapacity describes them: groups of equal nodes and what is used on each.

Pure. Equal means: same GPUs, same resources (memory to within a few per cent, the smallest counts), same taints, same
labels but for those that name a node; the nodes' names are told beside. Nodes that take no pods now (not ready,
cordoned) are left out. Which pods are foreign is the caller's to say.

GPUs: a GPU that the device plugin shares by time (or by MPS) counts once, with its `replicas`; the slots stand in
`allocatable` under the name the plugin gives them. MIG instances are what the plugin makes of them: GPUs of a model of
their own (strategy single), or resources of their own (mixed).
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson

from hub.api import names
from hub.api.conditions import condition_is
from hub.api.errors import InvalidQuantityError
from hub.api.nodeaffinity import nameable
from hub.api.quantity import NANO, Quantity

Json = dict[str, Any]
# Resource name → thousand-millionths of its unit: sums must not drift.
Amounts = dict[str, int]

# Labels that placement is about, kept however many values they have in the cluster.
_ALWAYS: Final = frozenset(
    {
        "kubernetes.io/arch",
        "kubernetes.io/os",
        "node.kubernetes.io/instance-type",
        names.GPU_CLIQUE,
        names.GPU_PRODUCT,
        names.GPU_MEMORY,
    }
)
# … and what says which nodes are near each other, as all who label racks, blocks and zones call it.
_NEAR: Final = "topology"
# Labels that name one node or describe its software in more detail than anyone selects by.
_NEVER_PREFIXES: Final = (
    "kubernetes.io/hostname",
    "beta.kubernetes.io/",
    "failure-domain.beta.kubernetes.io/",
    "feature.node.kubernetes.io/",
    "csi.volume.kubernetes.io/",
    "nvidia.com/cuda.",
    "nvidia.com/gfd.",
    "nvidia.com/gpu.deploy.",
    "nvidia.com/gpu.machine",
    "volumes.kubernetes.io/",
)
_IDENTITY_VALUES: Final = 3
_SHARED: Final = ("time-slicing", "mps")
_COARSE: Final = frozenset({"memory", "ephemeral-storage"})


@dataclass(frozen=True, slots=True)
class NodeFacts:
    name: str
    schedulable: bool
    labels: Mapping[str, str]
    taints: tuple[tuple[str, str, str], ...]
    capacity: Mapping[str, int]
    allocatable: Mapping[str, int]


def amounts(quantities: Mapping[str, Any] | None) -> Amounts:
    """What cannot be read or is negative counts as nothing: one odd value must not hide a node, or all others."""
    found: Amounts = {}
    for name, value in (quantities or {}).items():
        try:
            found[str(name)] = max(0, Quantity(value).nano)
        except (InvalidQuantityError, TypeError):
            continue
    return found


def node_facts(node: Mapping[str, Any]) -> NodeFacts:
    metadata, spec, status = node["metadata"], node.get("spec") or {}, node.get("status") or {}
    ready = condition_is(status.get("conditions"), "Ready")
    return NodeFacts(
        name=metadata["name"],
        schedulable=ready and not spec.get("unschedulable") and not metadata.get("deletionTimestamp"),
        labels=dict(metadata.get("labels") or {}),
        taints=tuple(
            sorted(
                (str(t.get("key")), str(t.get("value") or ""), str(t.get("effect"))) for t in spec.get("taints") or ()
            )
        ),
        capacity=amounts(status.get("capacity")),
        allocatable=amounts(status.get("allocatable")),
    )


def pod_requests(spec: Mapping[str, Any]) -> Amounts:
    """What the scheduler counts for a pod: its containers and sidecars, or its largest init step; one of `pods`."""
    running: Amounts = {}
    for container in spec.get("containers") or ():
        _add(running, _requests(container))
    sidecars: Amounts = {}
    peak: Amounts = {}
    for container in spec.get("initContainers") or ():
        needs = _requests(container)
        if container.get("restartPolicy") == "Always":
            _add(sidecars, needs)
            needs = dict(sidecars)
        else:
            needs = {name: needs.get(name, 0) + sidecars.get(name, 0) for name in {*needs, *sidecars}}
        peak = {name: max(peak.get(name, 0), needs.get(name, 0)) for name in {*peak, *needs}}
    _add(running, sidecars)
    total = {name: max(running.get(name, 0), peak.get(name, 0)) for name in {*running, *peak}}
    _add(total, amounts(spec.get("overhead")))
    total["pods"] = NANO
    return total


def _requests(container: Mapping[str, Any]) -> Amounts:
    resources = container.get("resources") or {}
    return {**amounts(resources.get("limits")), **amounts(resources.get("requests"))}


def _add(total: Amounts, more: Mapping[str, int]) -> None:
    for name, amount in more.items():
        total[name] = total.get(name, 0) + amount


def sums(nodes: Iterable[NodeFacts]) -> tuple[dict[str, str], dict[str, str]]:
    """(capacity of all nodes, allocatable of those that take pods), as ManagedCluster status has them."""
    capacity: Amounts = {}
    allocatable: Amounts = {}
    for node in nodes:
        _add(capacity, node.capacity)
        if node.schedulable:
            _add(allocatable, node.allocatable)
    return _quantities(capacity), _quantities(allocatable)


def node_groups(nodes: Iterable[NodeFacts], used: Mapping[str, Mapping[str, int]]) -> list[Json]:
    """`nodeGroups` of a ClusterCapacity, by name. `used`: by node, what foreign pods on it request."""
    usable = sorted((node for node in nodes if node.schedulable), key=lambda node: node.name)
    dropped = _identities(usable)
    groups: dict[str, list[NodeFacts]] = {}
    for node in usable:
        groups.setdefault(_identity(node, dropped), []).append(node)
    named = nameable(node.name for node in usable)
    described = [_group(identity, members, dropped, used, named=named) for identity, members in groups.items()]
    return sorted(described, key=lambda group: str(group["name"]))


def _identities(nodes: list[NodeFacts]) -> frozenset[str]:
    """Labels that tell single nodes apart: nearly as many values as nodes that carry them."""
    values: dict[str, set[str]] = {}
    carriers: Counter[str] = Counter()
    for node in nodes:
        for key, value in node.labels.items():
            values.setdefault(key, set()).add(value)
            carriers[key] += 1
    return frozenset(
        key
        for key, found in values.items()
        if key.startswith(_NEVER_PREFIXES)
        or (key not in _ALWAYS and _NEAR not in key and len(found) >= max(_IDENTITY_VALUES, carriers[key] / 2))
    )


def _labels(node: NodeFacts, dropped: frozenset[str]) -> dict[str, str]:
    return {key: value for key, value in sorted(node.labels.items()) if key not in dropped}


def _identity(node: NodeFacts, dropped: frozenset[str]) -> str:
    resources = {
        name: _coarse(amount) if name in _COARSE else amount for name, amount in node.allocatable.items() if amount
    }
    key = (_labels(node, dropped), node.taints, sorted(resources.items()))
    return hashlib.sha256(orjson.dumps(key)).hexdigest()


def _coarse(nano: int) -> int:
    """Machines of one make differ by some megabytes: six leading bits are compared."""
    whole = nano // NANO
    return whole >> max(whole.bit_length() - 6, 0) << max(whole.bit_length() - 6, 0)


def _group(
    identity: str,
    members: list[NodeFacts],
    dropped: frozenset[str],
    used: Mapping[str, Mapping[str, int]],
    *,
    named: bool,
) -> Json:
    first = members[0]
    busy = {node.name: tuple(sorted(_quantities(used.get(node.name, {})).items())) for node in members}
    allocatable = {
        name: min(node.allocatable.get(name, 0) for node in members)
        for name, amount in first.allocatable.items()
        if amount
    }
    group: Json = {
        "name": f"{_stem(first)}-{identity[:8]}",
        "count": len(members),
        # `used` counts nodes from the first on: those that are used alike stand together, the idle ones last.
        **({"nodes": sorted(busy, key=lambda name: (not busy[name], busy[name], name))} if named else {}),
        "labels": _labels(first, dropped),
        "allocatable": _quantities(allocatable),
    }
    if first.taints:
        group["taints"] = [
            {"key": key, "effect": effect} | ({"value": value} if value else {}) for key, value, effect in first.taints
        ]
    gpus = _gpus(first.labels, allocatable)
    if gpus:
        group["gpu"] = gpus
    alike = Counter(busy.values())
    alike.pop((), None)
    if alike:
        group["used"] = [{"nodes": count, "resources": dict(resources)} for resources, count in sorted(alike.items())]
    return group


def _gpus(labels: Mapping[str, str], allocatable: Mapping[str, int]) -> Json:
    """Empty where there are none that go by ``nvidia.com/gpu`` or a shared one's name."""
    replicas, sharing = labels.get(names.GPU_REPLICAS, ""), labels.get(names.GPU_SHARING, "")
    each = int(replicas) if replicas.isdecimal() and len(replicas) < 6 else 1
    whole, renamed = (allocatable.get(name, 0) // NANO for name in (names.GPU, names.GPU_SHARED))
    shared = each > 1 and (sharing in _SHARED or bool(renamed))
    slots = whole or (renamed if shared else 0)
    if not slots:
        return {}
    found: Json = {
        "model": labels.get(names.GPU_PRODUCT, "").removesuffix("-SHARED") or "unknown",
        "count": -(-slots // each) if shared else slots,
    }
    if shared:
        found["replicas"] = each
    memory = labels.get(names.GPU_MEMORY, "")
    if memory.isdecimal():
        # Of MPS each has its part of the memory; tasks that share by time may each fill all of it.
        found["memory"] = f"{int(memory) // each if shared and sharing == 'mps' else int(memory)}Mi"
    return found


def _stem(node: NodeFacts) -> str:
    """Something a person recognises the group by."""
    name = node.labels.get(names.GPU_PRODUCT) or node.labels.get("node.kubernetes.io/instance-type") or "nodes"
    return "".join(c if c.isalnum() else "-" for c in name.lower()).strip("-")[:40] or "nodes"


def _quantities(found: Mapping[str, int]) -> dict[str, str]:
    return {name: str(Quantity.from_nano(amount)) for name, amount in sorted(found.items()) if amount}
