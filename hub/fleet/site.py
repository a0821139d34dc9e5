"""What a cluster reported of itself (ClusterCapacity) as plain values: node groups, images, prices.

Read as a whole or refused as a whole: half a report would be a site that never existed. What fits on the nodes is
hub/fleet/nodes.py.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from hub.api import names
from hub.api.errors import InvalidObjectError
from hub.fleet.amounts import MAX_AMOUNT, amount, entries, mapping, price, shorten, texts, totals, whole

# Of one cluster, so that a report that is wrong by a few digits costs no memory. Kubernetes itself ends at 5,000 nodes.
MAX_NODES = 20_000
MAX_GPUS_PER_NODE = 256
MAX_RESOURCES = 64
_MAX_GPU_CELLS = 1 << 20


@dataclass(frozen=True, slots=True)
class NodeGpus:
    """`memory`: bytes of one GPU, 0 unknown; `model` empty: unknown."""

    model: str = ""
    memory: int = 0
    count: int = 0


@dataclass(frozen=True, slots=True)
class Used:
    """`nodes` nodes where this is used by others; `gpu` in thousandths of a GPU, all else in `amount_of` units."""

    nodes: int
    resources: Mapping[str, int]
    gpu: int


@dataclass(frozen=True, slots=True)
class NodeGroup:
    """Nodes that are alike. `allocatable` is of one node and without GPUs; `taints` are (key, value, effect)."""

    name: str
    count: int
    labels: Mapping[str, str]
    taints: tuple[tuple[str, str, str], ...]
    gpus: NodeGpus
    allocatable: Mapping[str, int]
    used: tuple[Used, ...]

    @property
    def models(self) -> tuple[str, ...]:
        """Every name its GPUs go by: declared, and as the driver labels the node."""
        label = self.labels.get(names.GPU_PRODUCT, "")
        return tuple(dict.fromkeys(model for model in (self.gpus.model, label) if model))


@dataclass(frozen=True, slots=True)
class Prices:
    """An hour of each, in the fleet's currency; None is not stated."""

    gpu_hour: Mapping[str, float]
    cpu_hour: float | None = None
    memory_gib_hour: float | None = None


@dataclass(frozen=True, slots=True)
class Site:
    """`images` empty: any image. `groups` in name order: the order of nodes wherever a node has a number."""

    simulated: bool
    runtime: str
    images: tuple[str, ...]
    prices: Prices
    groups: tuple[NodeGroup, ...]

    def missing_image(self, images: tuple[str, ...]) -> str:
        """The first of `images` that it cannot run, or the empty string."""
        if not self.images:
            return ""
        return next((image for image in images if not any(fnmatchcase(image, have) for have in self.images)), "")


def read_site(capacity: Mapping[str, Any]) -> Site:
    """Raises `InvalidObjectError` naming the field that cannot be read."""
    status = mapping(capacity.get("status"), "status")
    groups: dict[str, NodeGroup] = {}
    nodes = 0
    for position, entry in enumerate(entries(status.get("nodeGroups"), "status.nodeGroups")):
        field = f"status.nodeGroups[{position}]"
        group = _group(entry, field)
        if group.name in groups:
            raise InvalidObjectError(f"{group.name} is there twice", field=f"{field}.name")
        groups[group.name] = group
        nodes += group.count
        if nodes > MAX_NODES:
            raise InvalidObjectError(f"more than {MAX_NODES:,} nodes in one cluster", field=f"{field}.count")
    _check_size(groups.values())
    images = status.get("images")
    if images is not None and not isinstance(images, list | tuple):
        raise InvalidObjectError(f"{shorten(images)} is not a list", field="status.images")
    return Site(
        simulated=status.get("simulated") is True,
        runtime=str(status.get("runtime") or ""),
        images=tuple(sorted({_pattern(str(image)) for image in images or ()})),
        prices=_prices(mapping(status.get("prices"), "status.prices")),
        groups=tuple(groups[name] for name in sorted(groups)),
    )


def _check_size(groups: Collection[NodeGroup]) -> None:
    resources = {name for group in groups for name in group.allocatable}
    if len(resources) > MAX_RESOURCES:
        raise InvalidObjectError(f"{len(resources)} resources, at most {MAX_RESOURCES}", field="status.nodeGroups")
    nodes = sum(group.count for group in groups)
    widest = max((group.gpus.count for group in groups), default=0)
    if nodes * widest > _MAX_GPU_CELLS:
        raise InvalidObjectError(f"{nodes:,} nodes with up to {widest} GPUs", field="status.nodeGroups")


def _pattern(image: str) -> str:
    # Only * is special to people who write image names; fnmatch would also read ? and [.
    return image.replace("[", "[[]").replace("?", "[?]")


def _prices(prices: Mapping[str, Any]) -> Prices:
    gpu = mapping(prices.get("gpuHour"), "status.prices.gpuHour")
    cpu, memory = prices.get("cpuHour"), prices.get("memoryGiBHour")
    return Prices(
        {str(model): price(value, f"status.prices.gpuHour.{model}") for model, value in sorted(gpu.items())},
        None if cpu is None else price(cpu, "status.prices.cpuHour"),
        None if memory is None else price(memory, "status.prices.memoryGiBHour"),
    )


def _group(entry: Mapping[str, Any], field: str) -> NodeGroup:
    name = entry.get("name")
    if not isinstance(name, str) or not name:
        raise InvalidObjectError("a node group needs a name", field=f"{field}.name")
    count = whole(entry.get("count"), f"{field}.count", MAX_NODES)
    labels = texts(entry.get("labels"), f"{field}.labels")
    allocatable = totals(entry.get("allocatable"), f"{field}.allocatable")
    offered = allocatable.pop(names.GPU, None)
    used = tuple(
        _used(part, f"{field}.used[{i}]") for i, part in enumerate(entries(entry.get("used"), f"{field}.used"))
    )
    if sum(part.nodes for part in used) > count:
        raise InvalidObjectError(f"more nodes are in use than the {count} there are", field=f"{field}.used")
    return NodeGroup(
        name=name,
        count=count,
        labels=labels,
        taints=tuple(
            (str(taint.get("key") or ""), str(taint.get("value") or ""), str(taint.get("effect") or ""))
            for taint in entries(entry.get("taints"), f"{field}.taints")
        ),
        gpus=_gpus(mapping(entry.get("gpu"), f"{field}.gpu"), labels, offered, field),
        allocatable=allocatable,
        used=used,
    )


def _gpus(gpu: Mapping[str, Any], labels: Mapping[str, str], offered: int | None, field: str) -> NodeGpus:
    """What the site declares; where it also says what is allocatable, a GPU that is out of order is not counted."""
    declared = gpu.get("count")
    count = offered or 0
    if declared is not None:
        count = whole(declared, f"{field}.gpu.count", MAX_GPUS_PER_NODE)
        if offered is not None:
            count = min(count, offered)
    if count > MAX_GPUS_PER_NODE:
        raise InvalidObjectError(f"{count} GPUs in one node", field=f"{field}.allocatable.{names.GPU}")
    memory = 0
    if gpu.get("memory") is not None:
        memory = amount("memory", gpu["memory"], f"{field}.gpu.memory")
    elif labels.get(names.GPU_MEMORY, "").isdecimal():
        memory = min(int(labels[names.GPU_MEMORY][:18]) << 20, MAX_AMOUNT)
    return NodeGpus(str(gpu.get("model") or labels.get(names.GPU_PRODUCT, "")) if count else "", memory, count)


def _used(part: Mapping[str, Any], field: str) -> Used:
    nodes = whole(part.get("nodes"), f"{field}.nodes", MAX_NODES)
    resources = dict(mapping(part.get("resources"), f"{field}.resources"))
    # Others may hold parts of GPUs, too: as a fraction of the resource, or in our thousandths.
    gpu = 0
    if names.GPU in resources:
        gpu = amount("cpu", resources.pop(names.GPU), f"{field}.resources.{names.GPU}")
    if names.GPU_MILLI in resources:
        gpu += amount(names.GPU_MILLI, resources.pop(names.GPU_MILLI), f"{field}.resources.{names.GPU_MILLI}")
    return Used(nodes, totals(resources, f"{field}.resources"), gpu)
