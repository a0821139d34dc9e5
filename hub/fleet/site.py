"""What a cluster reported of itself (ClusterCapacity) as plain values: node groups, images, prices.

Read as a whole or refused as a whole: half a report would be a site that never existed. What fits on the nodes is
hub/fleet/nodes.py.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Final

from hub.api import names
from hub.api.errors import InvalidObjectError
from hub.fleet.amounts import (
    MAX_AMOUNT,
    MAX_ENTRIES,
    amount,
    entries,
    mapping,
    short,
    shorten,
    texts,
    totals,
    whole,
)
from hub.fleet.prices import Prices, read_prices

# Of one cluster, so that a report that is wrong by a few digits costs no memory. Kubernetes itself ends at 5,000 nodes.
MAX_NODES = 20_000
MAX_GROUPS = 5_000
MAX_GPUS_PER_NODE = 256
# Slots of GPUs that tasks share by time.
MAX_SLOTS_PER_NODE = 2048
MAX_RESOURCES = 64
MAX_NAME = 253
MAX_IMAGE = 1024
_MAX_GPU_CELLS = 1 << 20
# Node labels by which the usual provisioners say that a node is a spot node.
_SPOT = (
    ("cloud.google.com/gke-preemptible", ("true",)),
    ("cloud.google.com/gke-spot", ("true",)),
    ("eks.amazonaws.com/capacityType", ("spot",)),
    ("fleet.quarterdeck.dev/spot", ("true",)),
    ("karpenter.sh/capacity-type", ("spot",)),
    ("kubernetes.azure.com/scalesetpriority", ("spot",)),
)
KUBERNETES: Final = "kubernetes"
# The site gives out thousandths of its GPUs itself.
BY_SITE: Final = "site"


@dataclass(frozen=True, slots=True)
class GpuOffer:
    """What the pods of a slice must know of the GPUs of its cluster: `Site.share_by`, and whether some are shared."""

    share_by: str = BY_SITE
    shared: bool = False


@dataclass(frozen=True, slots=True)
class NodeGpus:
    """`memory`: bytes of one GPU, 0 unknown; `model` empty: unknown.

    `replicas`: how many tasks have a slot of one GPU; `count` is that of slots then, where ``nvidia.com/gpu`` means
    slots, and 0 where they have a name of their own (`renamed`).
    """

    model: str = ""
    memory: int = 0
    count: int = 0
    replicas: int = 1
    renamed: bool = False


@dataclass(frozen=True, slots=True)
class Used:
    """`nodes` nodes where this is used by others; `gpu` in thousandths of a GPU, all else in `amount_of` units."""

    nodes: int
    resources: Mapping[str, int]
    gpu: int


@dataclass(frozen=True, slots=True)
class NodeGroup:
    """Nodes that are alike. `allocatable` is of one node and without GPUs; `taints` are (key, value, effect).

    `nodes`: their names, in the order in which `used` counts them; empty: not reported. `match_labels`: what selectors
    and affinity see: `labels`, with those that follow from the GPUs it declares where nobody put them on the nodes.
    """

    name: str
    count: int
    labels: Mapping[str, str]
    taints: tuple[tuple[str, str, str], ...]
    gpus: NodeGpus
    allocatable: Mapping[str, int]
    used: tuple[Used, ...]
    nodes: tuple[str, ...]
    match_labels: Mapping[str, str] = field(compare=False, repr=False)

    @property
    def spot(self) -> bool:
        """Whether its nodes may be taken away at any time: what clouds label as spot or preemptible."""
        return any(self.labels.get(key, "").lower() in values for key, values in _SPOT)

    @property
    def physical_gpus(self) -> float:
        """GPUs of one node, those that are shared included; a slot counts as its part of one."""
        slots = self.allocatable.get(names.GPU_SHARED, 0) if self.gpus.renamed else self.gpus.count
        return slots / self.gpus.replicas

    @property
    def models(self) -> tuple[str, ...]:
        """Every name its GPUs go by: declared, and as the driver labels the node."""
        label = self.labels.get(names.GPU_PRODUCT, "")
        return tuple(dict.fromkeys(model for model in (self.gpus.model, label) if model))


@dataclass(frozen=True, slots=True)
class Site:
    """`images` empty: any image. `groups` in name order: the order of nodes wherever a node has a number."""

    simulated: bool
    runtime: str
    images: tuple[str, ...]
    prices: Prices
    groups: tuple[NodeGroup, ...]

    @property
    def share_by(self) -> str:
        """How a task gets a part of a GPU here: `BY_SITE`, or the resource that its pod asks for; empty: not at all.

        ``nvidia.com/gpu`` and ``nvidia.com/gpu.shared`` are slots of GPUs that tasks share by time. One way a cluster:
        the pods of a slice are all written alike.
        """
        if self.runtime != KUBERNETES:
            return BY_SITE
        if any(names.GPU_MILLI in group.allocatable for group in self.groups):
            return names.GPU_MILLI
        if any(group.gpus.renamed for group in self.groups):
            return names.GPU_SHARED
        return names.GPU if any(group.gpus.replicas > 1 for group in self.groups) else ""

    @property
    def gpu_offer(self) -> GpuOffer:
        replicas = {group.gpus.replicas for group in self.groups if group.gpus.replicas > 1}
        return GpuOffer(self.share_by, bool(replicas))

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
    for position, entry in enumerate(entries(status.get("nodeGroups"), "status.nodeGroups", MAX_GROUPS)):
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
    if images is not None and len(images) > MAX_ENTRIES:
        raise InvalidObjectError(f"{len(images):,} entries, at most {MAX_ENTRIES:,}", field="status.images")
    return Site(
        simulated=status.get("simulated") is True,
        runtime=short(str(status.get("runtime") or ""), MAX_NAME, "status.runtime"),
        images=tuple(sorted({_pattern(short(str(image), MAX_IMAGE, "status.images")) for image in images or ()})),
        prices=read_prices(mapping(status.get("prices"), "status.prices")),
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


def _group(entry: Mapping[str, Any], field: str) -> NodeGroup:
    name = entry.get("name")
    if not isinstance(name, str) or not name:
        raise InvalidObjectError("a node group needs a name", field=f"{field}.name")
    short(name, MAX_NAME, f"{field}.name")
    count = whole(entry.get("count"), f"{field}.count", MAX_NODES)
    labels = texts(entry.get("labels"), f"{field}.labels")
    allocatable = totals(entry.get("allocatable"), f"{field}.allocatable")
    offered = allocatable.pop(names.GPU, None)
    parts = entries(entry.get("used"), f"{field}.used", MAX_NODES)
    milli = names.GPU_MILLI in allocatable
    used = tuple(_used(part, f"{field}.used[{i}]", offers_milli=milli) for i, part in enumerate(parts))
    if sum(part.nodes for part in used) > count:
        raise InvalidObjectError(f"more nodes are in use than the {count} there are", field=f"{field}.used")
    named = entry.get("nodes")
    if named is not None and not isinstance(named, list | tuple):
        raise InvalidObjectError(f"{shorten(named)} is not a list", field=f"{field}.nodes")
    if named and len(named) != count:
        raise InvalidObjectError(f"{len(named)} names of {count} nodes", field=f"{field}.nodes")
    gpus = _gpus(
        mapping(entry.get("gpu"), f"{field}.gpu"), labels, offered, allocatable.get(names.GPU_SHARED, 0), field
    )
    return NodeGroup(
        name=name,
        count=count,
        labels=labels,
        taints=tuple(
            (str(taint.get("key") or ""), str(taint.get("value") or ""), str(taint.get("effect") or ""))
            for taint in entries(entry.get("taints"), f"{field}.taints")
        ),
        gpus=gpus,
        allocatable=allocatable,
        used=used,
        match_labels=_match_labels(labels, gpus),
        nodes=tuple(short(str(node), MAX_NAME, f"{field}.nodes") for node in named or ()),
    )


def _gpus(gpu: Mapping[str, Any], labels: Mapping[str, str], offered: int | None, shared: int, field: str) -> NodeGpus:
    """What the site declares; where it also says what is allocatable, a GPU that is out of order is not counted."""
    declared, replicas = gpu.get("count"), 1
    count = offered or 0
    if gpu.get("replicas") is not None:
        replicas = max(1, whole(gpu["replicas"], f"{field}.gpu.replicas", MAX_SLOTS_PER_NODE))
    # Slots that are called otherwise leave nvidia.com/gpu to the GPUs that nobody shares: the plugin has none then.
    renamed = replicas > 1 and shared > 0 and not offered
    if renamed:
        count = 0
    elif declared is not None:
        count = whole(declared, f"{field}.gpu.count", MAX_GPUS_PER_NODE) * replicas
        if offered is not None:
            count = min(count, offered)
    if count > (MAX_GPUS_PER_NODE if replicas == 1 else MAX_SLOTS_PER_NODE):
        raise InvalidObjectError(f"{count} GPUs in one node", field=f"{field}.allocatable.{names.GPU}")
    memory = 0
    if gpu.get("memory") is not None:
        memory = amount("memory", gpu["memory"], f"{field}.gpu.memory")
    elif labels.get(names.GPU_MEMORY, "").isdecimal():
        memory = min(int(labels[names.GPU_MEMORY][:18]) << 20, MAX_AMOUNT)
    model = str(gpu.get("model") or labels.get(names.GPU_PRODUCT, "")) if count or renamed else ""
    return NodeGpus(short(model, MAX_NAME, f"{field}.gpu.model"), memory, count, replicas, renamed)


def _match_labels(labels: Mapping[str, str], gpus: NodeGpus) -> Mapping[str, str]:
    extra: dict[str, str] = {}
    if gpus.model and names.GPU_PRODUCT not in labels:
        extra[names.GPU_PRODUCT] = gpus.model
    if gpus.memory and names.GPU_MEMORY not in labels and (gpus.count or gpus.renamed):
        extra[names.GPU_MEMORY] = str(gpus.memory >> 20)
    return {**labels, **extra} if extra else labels


def _used(part: Mapping[str, Any], field: str, *, offers_milli: bool) -> Used:
    nodes = whole(part.get("nodes"), f"{field}.nodes", MAX_NODES)
    resources = dict(mapping(part.get("resources"), f"{field}.resources"))
    # Others may hold parts of GPUs, too: as a fraction of the resource, or in our thousandths, where these are not a
    # resource of their own.
    gpu = 0
    if names.GPU in resources:
        gpu = amount("cpu", resources.pop(names.GPU), f"{field}.resources.{names.GPU}")
    if names.GPU_MILLI in resources and not offers_milli:
        gpu += amount(names.GPU_MILLI, resources.pop(names.GPU_MILLI), f"{field}.resources.{names.GPU_MILLI}")
    return Used(nodes, totals(resources, f"{field}.resources"), gpu)
