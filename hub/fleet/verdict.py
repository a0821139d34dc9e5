"""Why a shape does not fit a cluster, group by group, in words and numbers. Says nothing that `fit` does not count."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from hub.api import names
from hub.api.quantity import Quantity
from hub.api.reasons import Reason
from hub.fleet.admission import Refusal, admitted_nodes, group_refusal
from hub.fleet.cluster import Cluster
from hub.fleet.held import Held
from hub.fleet.shape import TaskShape
from hub.fleet.site import NodeGroup


@dataclass(frozen=True, slots=True)
class GroupVerdict:
    """`fit` now and `capacity` when empty, in tasks; `reason` is None while `fit` is positive."""

    group: str
    nodes: int
    fit: int
    capacity: int
    reason: Reason | None
    detail: str


@dataclass(frozen=True, slots=True)
class FitVerdict:
    """`reason` is None when at least one task fits; `facts` fill its template. `groups` in name order."""

    cluster: str
    fit: int
    capacity: int
    reason: Reason | None
    facts: Mapping[str, Any]
    groups: tuple[GroupVerdict, ...] = ()

    @property
    def message(self) -> str:
        return "" if self.reason is None else self.reason.message(**self.facts)


def explain_cluster(cluster: Cluster, shape: TaskShape) -> FitVerdict:
    site, held = cluster.site, cluster.held
    if site is None or held is None:
        return FitVerdict(cluster.name, 0, 0, Reason.CAPACITY_UNKNOWN, {})
    image = site.missing_image(shape.images)
    if image:
        return FitVerdict(cluster.name, 0, 0, Reason.IMAGE_NOT_AVAILABLE, {"image": image})
    groups = tuple(
        _group(group, start, held, shape) for start, group in zip(held.table.starts, site.groups, strict=True)
    )
    fit, capacity = cluster.fit(shape), cluster.capacity(shape)
    if fit:
        return FitVerdict(cluster.name, fit, capacity, None, {}, groups)
    if capacity:
        detail = _joined(g for g in groups if g.capacity)
        if held.waiting:
            tasks = "1 task" if held.waiting == 1 else f"{held.waiting} tasks"
            detail += f"; still waiting here for room: {tasks}"
        return FitVerdict(cluster.name, 0, capacity, Reason.NO_FREE_SLOT, {"detail": detail}, groups)
    if shape.gpu_milli and not shape.gpu_models and not any(g.count and _has_gpus(g) for g in site.groups):
        return FitVerdict(cluster.name, 0, 0, Reason.SHAPE_NEVER_FITS, {"detail": "no node has a GPU"}, groups)
    if groups and all(g.reason is Reason.GPU_MODEL_ABSENT for g in groups):
        facts = {"found": _found(site.groups), "wanted": _wanted(shape)}
        return FitVerdict(cluster.name, 0, 0, Reason.GPU_MODEL_ABSENT, facts, groups)
    detail = _joined(g for g in groups if g.reason is not Reason.GPU_MODEL_ABSENT) or "it has no nodes"
    return FitVerdict(cluster.name, 0, 0, Reason.SHAPE_NEVER_FITS, {"detail": detail}, groups)


def _group(group: NodeGroup, start: int, held: Held, shape: TaskShape) -> GroupVerdict:
    table = held.table
    refusal = group_refusal(group, shape, table.share_by)
    if refusal is not None:
        return _refused(group, refusal)
    if not group.count:
        return GroupVerdict(group.name, 0, 0, 0, Reason.SHAPE_NEVER_FITS, "it has no nodes")
    admitted = admitted_nodes(group, shape)
    nodes = start + (np.arange(group.count) if admitted is None else np.array(admitted, np.int64))
    ask = table.ask(shape)
    fit = int(held.slots(ask, nodes).sum())
    capacity = int(table.slots(ask, table.free, table.gpus, table.whole, nodes).sum())
    if fit:
        return GroupVerdict(group.name, group.count, fit, capacity, None, f"{fit} of {capacity} slots free")
    shortages = _shortages(group, held, shape, nodes)
    reason = Reason.NO_FREE_SLOT if capacity else Reason.SHAPE_NEVER_FITS
    return GroupVerdict(group.name, group.count, 0, capacity, reason, shortages)


def _refused(group: NodeGroup, refusal: Refusal) -> GroupVerdict:
    if refusal.kind not in ("model", "memory"):
        return GroupVerdict(group.name, group.count, 0, 0, Reason.SHAPE_NEVER_FITS, refusal.detail)
    detail = refusal.detail if refusal.kind == "model" else _gpus(group)
    return GroupVerdict(group.name, group.count, 0, 0, Reason.GPU_MODEL_ABSENT, detail)


def _shortages(group: NodeGroup, held: Held, shape: TaskShape, nodes: Any) -> str:
    """What no node has enough of: of each thing the most that one has."""
    words: list[str] = []
    for name, amount in shape.requests:
        if name == names.GPU or (name == "pods" and name not in held.table.rows):
            continue
        row = held.table.rows.get(name)
        most = 0 if row is None else max(int(held.free[row, nodes].max()), 0)
        offered = group.allocatable.get(name, 0)
        if most < amount:
            words.append(
                _short_of(show_amount(name, most), show_amount(name, offered), name, show_amount(name, amount))
            )
    if shape.gpu_share and held.table.share_by in (names.GPU_MILLI, names.GPU_SHARED):
        name = held.table.share_by
        row, needed = held.table.rows[name], shape.gpu_share if name == names.GPU_MILLI else 1
        most = max(int(held.free[row, nodes].max()), 0)
        if most < needed:
            words.append(_short_of(str(most), str(group.allocatable.get(name, 0)), name, str(needed)))
    elif shape.gpu_share and held.table.share_by == names.GPU:
        if int(held.whole[nodes].max()) < 1:
            words.append(_short_of("0", str(group.gpus.count), "slots of a GPU", "1"))
    elif shape.gpu_share:
        most = int(held.gpus[nodes].max(initial=0))
        if most < shape.gpu_share:
            found = f"at most {most / 1000:g} of a GPU free on a node" if group.gpus.count else "no GPU"
            words.append(f"{found}, {shape.gpu_share / 1000:g} needed")
    elif shape.gpus:
        most = int(held.whole[nodes].max())
        if most < shape.gpus:
            words.append(_short_of(str(most), str(group.gpus.count), "GPUs", str(shape.gpus)))
    row = held.table.rows.get("pods")
    if row is not None and not shape.request("pods") and int(held.free[row, nodes].max()) < 1:
        words.append("no node takes another pod")
    return "; ".join(words) or "enough of everything, but not on the same node"


def _short_of(most: str, offered: str, name: str, needed: str) -> str:
    found = f"{most} {name}" if most == offered else f"{most} of {offered} {name} free"
    return f"at most {found} on a node, {needed} needed"


def show_amount(resource: str, amount: int) -> str:
    """An `amount_of` integer as people write it: ``1500m``, ``16Gi``."""
    return str(Quantity.from_nano(amount * 10**6) if resource == "cpu" else Quantity(amount))


def _joined(groups: Any) -> str:
    return "; ".join(f"{g.group} ({g.nodes} {'node' if g.nodes == 1 else 'nodes'}): {g.detail}" for g in groups)


def _has_gpus(group: NodeGroup) -> bool:
    return bool(group.physical_gpus) or names.GPU_MILLI in group.allocatable


def _found(groups: tuple[NodeGroup, ...]) -> str:
    found = sorted({_gpus(group) for group in groups if group.physical_gpus and group.count})
    return ", ".join(found) or "no GPU"


def _gpus(group: NodeGroup) -> str:
    if not group.physical_gpus:
        return "no GPU"
    memory = f" with {Quantity(group.gpus.memory)}" if group.gpus.memory else " of unknown memory"
    return (" / ".join(group.models) or "GPUs of unknown model") + memory


def _wanted(shape: TaskShape) -> str:
    wanted = " or ".join(shape.gpu_models) or "a GPU"
    return f"{wanted} with at least {Quantity(shape.gpu_min_memory)}" if shape.gpu_min_memory else wanted
