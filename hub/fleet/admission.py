"""Which nodes of a group may run a shape, whatever is free on them: GPUs, labels, affinity, taints, names.

Nodes of a group are alike, so all but a node's own name is judged once a group. How many tasks fit is counted in
hub/fleet/nodes.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from hub.api import names
from hub.api.nodeaffinity import HOSTNAME, NodeRequirement, NodeTerm
from hub.fleet.shape import TaskShape
from hub.fleet.site import BY_SITE, NodeGroup

Kind = Literal["model", "memory", "sharing", "selector", "affinity", "taint", "name"]
_WHOLE_GPU = 1000


@dataclass(frozen=True, slots=True)
class Refusal:
    """`detail`: of `model` and `memory` what is there instead; of all others a sentence about the nodes."""

    kind: Kind
    detail: str


def group_refusal(group: NodeGroup, shape: TaskShape, share_by: str = BY_SITE) -> Refusal | None:
    """Why no node of `group` may run `shape`; None: some may, `admitted_nodes` says which. `share_by` is the site's."""
    gpus = group.gpus
    if shape.gpu_milli:
        if shape.gpu_models and gpus.model not in shape.gpu_models:
            models = group.models
            if not set(shape.gpu_models) & set(models):
                return Refusal("model", " / ".join(models) if gpus.count or gpus.renamed else "no GPU")
        if shape.gpu_min_memory and gpus.memory < shape.gpu_min_memory:
            return Refusal("memory", str(gpus.memory))
        sharing = _sharing(group, shape, share_by) if gpus.replicas > 1 or share_by != BY_SITE else ""
        if sharing:
            return Refusal("sharing", sharing)
    if shape.node_selector:
        labels = group.match_labels
        for key, value in shape.node_selector:
            if labels.get(key) != value and not _needs_name(key, group):
                return Refusal("selector", f"its nodes do not have label {key}={value}{_instead(labels, key)}")
    if shape.domain and shape.domain not in group.labels:
        return Refusal("selector", f"its nodes do not have label {shape.domain}")
    for key, value, effect in group.taints:
        if not shape.tolerates(key, value, effect):
            taint = f"{key}={value}:{effect}" if value else f"{key}:{effect}"
            return Refusal("taint", f"its nodes have taint {taint}")
    if shape.node_affinity:
        return _affinity(group, shape)
    return _named(group, shape) if shape.node_selector else None


def admitted_nodes(group: NodeGroup, shape: TaskShape) -> list[int] | None:
    """Which nodes of a group that is not refused may run `shape`, by their position in it; None: every one."""
    if not shape.node_affinity and not shape.node_selector:
        return None
    hosts = {value for key, value in shape.node_selector if _needs_name(key, group)}
    terms = [
        [line for line in term if _about_name(line, group)] for term in shape.node_affinity if _labels_hold(term, group)
    ]
    if not hosts and (not terms or not all(terms)):
        return None
    # Of nodes whose names are not reported nothing is known but that they have one.
    known: tuple[str | None, ...] = group.nodes or (None,) * group.count
    return [
        position
        for position, name in enumerate(known)
        if all(name == host for host in hosts)
        and (not terms or any(all(line.holds(name) for line in term) for term in terms))
    ]


def _sharing(group: NodeGroup, shape: TaskShape, share_by: str) -> str:
    gpus = group.gpus
    if not shape.gpu_share:
        if gpus.replicas == 1 or not gpus.count:
            return ""
        if not shape.gpu_slot:
            return f"its GPUs are shared, {gpus.replicas} tasks each, and whole ones are needed"
        # A second slot may be one of the same GPU: it gives no more of it.
        return f"its GPUs are shared: a task gets one slot there, {shape.gpus} needed" if shape.gpus > 1 else ""
    if share_by in (BY_SITE, names.GPU_MILLI):
        return ""
    has = gpus.renamed if share_by == names.GPU_SHARED else gpus.replicas > 1 and not gpus.renamed
    if not has:
        return "its GPUs are not shared" if gpus.count or gpus.renamed else ""
    if shape.gpu_share * gpus.replicas > _WHOLE_GPU:
        return f"a task gets 1/{gpus.replicas} of a GPU there, {shape.gpu_share / _WHOLE_GPU:g} needed"
    return ""


def _affinity(group: NodeGroup, shape: TaskShape) -> Refusal | None:
    if any(_labels_hold(term, group) for term in shape.node_affinity):
        return _named(group, shape)
    labels = group.match_labels
    failing = []
    for term in shape.node_affinity:
        lines = [line for line in term if not _about_name(line, group) and not line.holds(labels.get(line.key))]
        failing.append(f"{lines[0]}{_instead(labels, lines[0].key)}" if lines else "a term without expressions")
    shown = " or ".join(dict.fromkeys(failing[:3])) + (f" or {len(failing) - 3} more" if len(failing) > 3 else "")
    return Refusal("affinity", f"its nodes do not match required affinity {shown}")


def _named(group: NodeGroup, shape: TaskShape) -> Refusal | None:
    if not group.count or admitted_nodes(group, shape) != []:
        return None
    wanted = [value for key, value in shape.node_selector if key == HOSTNAME]
    wanted += [str(line) for term in shape.node_affinity for line in term if _about_name(line, group)]
    if not group.nodes:
        return Refusal("name", f"it does not report the names of its nodes, {_few(wanted)} needed")
    return Refusal("name", f"none of its nodes is {_few(wanted)}")


def _labels_hold(term: NodeTerm, group: NodeGroup) -> bool:
    """Whether what `term` says of labels holds; what it says of names is each node's own."""
    labels = group.match_labels
    return bool(term) and all(_about_name(line, group) or line.holds(labels.get(line.key)) for line in term)


def _about_name(line: NodeRequirement, group: NodeGroup) -> bool:
    return line.field or _needs_name(line.key, group)


def _needs_name(key: str, group: NodeGroup) -> bool:
    # A group has no label that tells its nodes apart; a node is its own host.
    return key == HOSTNAME and HOSTNAME not in group.labels


def _instead(labels: Mapping[str, str], key: str) -> str:
    found = labels.get(key)
    return f" ({key} is {found})" if found is not None else ""


def _few(words: list[str]) -> str:
    return ", ".join(words[:3]) + (f" and {len(words) - 3} more" if len(words) > 3 else "")
