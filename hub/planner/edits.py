"""Single changes that could let a refused job in, as snapshots and demands to decide about again.

Each is something that one person could do: to the job, to a queue, to a cluster. Whether it helps is found out by
hub/planner/whatif.py. From the least to the most, so that the first that helps is the one to name.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hub.api import names
from hub.api.reasons import Reason
from hub.fleet.changes import ClusterSeen, Release
from hub.fleet.facts import AVAILABLE
from hub.fleet.shape import TaskShape, Toleration
from hub.placement.filters import describe, eligible, verdicts
from hub.placement.rule import ClusterRule, ClusterToleration
from hub.placement.what_if import lifts
from hub.planner.plan import Refusal, Snapshot
from hub.queueing.amount import readable
from hub.queueing.assign import counted
from hub.queueing.demand import Demand
from hub.queueing.objects import ClusterQueue

Counts = NDArray[np.int64]
Mask = NDArray[np.bool_]
Room = Callable[[TaskShape], Counts]
# Holders of room that are tried, and clusters of a kind.
_TRIED = 20


@dataclass(frozen=True, slots=True)
class Edit:
    """`words` are an instruction: what to do, to which object."""

    words: str
    snapshot: Snapshot
    demand: Demand


def job_edits(snapshot: Snapshot, demand: Demand, refusal: Refusal) -> Iterator[Edit]:
    """Less at once, where that is more than the queue can ever have."""
    route = snapshot.quotas.route(demand.namespace, demand.queue)
    if refusal.reason is not Reason.EXCEEDS_MAX_QUOTA or not isinstance(route, ClusterQueue):
        return
    facts = dict(refusal.facts)
    resource = str(facts["resource"])
    tree = snapshot.quotas.trees[route.name]
    most = tree.potential(tree.position[route.name], (str(facts["flavor"]), resource))
    each = counted(route, demand.shape)[resource]
    if demand.gang and 0 < most // each < demand.slots:
        yield Edit(f"start at most {most // each} tasks at once", snapshot, replace(demand, slots=most // each))
    elif most > 0 and demand.shape.request(resource):
        smaller = _asking(demand.shape, resource, most)
        words = f"ask for at most {readable(resource, most)} {resource} a task"
        yield Edit(words, snapshot, replace(demand, shape=smaller))


def queue_edits(snapshot: Snapshot, demand: Demand, refusal: Refusal) -> Iterator[Edit]:
    """What stands between the job and its queue."""
    facts = dict(refusal.facts)
    if refusal.reason is Reason.PARALLELISM_REACHED:
        yield Edit("raise the job's parallelism by 1", snapshot, replace(demand, slots=demand.slots + 1))
    elif refusal.reason is Reason.QUEUE_NOT_FOUND:
        for namespace, name in sorted(snapshot.quotas.local_queues):
            if namespace == demand.namespace:
                yield Edit(f"use LocalQueue {name}", snapshot, replace(demand, queue=name))
    elif refusal.reason is Reason.BEHIND_OLDER_JOB:
        queue = str(facts["queue"])
        words = f"set queueingStrategy of ClusterQueue {queue} to BestEffortFIFO"
        yield Edit(words, _respecified(snapshot, "ClusterQueue", queue, queueingStrategy="BestEffortFIFO"), demand)
    elif refusal.reason is Reason.QUEUE_INACTIVE:
        queue = str(facts["queue"])
        words = f"set stopPolicy of ClusterQueue {queue} to None"
        yield Edit(words, _respecified(snapshot, "ClusterQueue", queue, stopPolicy="None"), demand)
        words = f"set stopPolicy of LocalQueue {demand.queue} to None"
        opened = _respecified(snapshot, "LocalQueue", demand.queue, demand.namespace, stopPolicy="None")
        yield Edit(words, opened, demand)
    elif refusal.reason is Reason.NAMESPACE_MISMATCH:
        queue = str(facts["queue"])
        words = f"let namespaceSelector of ClusterQueue {queue} select namespace {demand.namespace}"
        yield Edit(words, _respecified(snapshot, "ClusterQueue", queue, namespaceSelector={}), demand)
    elif refusal.reason is Reason.NO_MATCHING_FLAVOR:
        resource = str(facts["resource"])
        without = _asking(demand.shape, resource, 0)
        words = f"ask for no {resource}, or add it to the resourceGroups of ClusterQueue {facts['queue']}"
        yield Edit(words, snapshot, replace(demand, shape=without))


def room_edits(snapshot: Snapshot, demand: Demand, refusal: Refusal) -> Iterator[Edit]:
    """Room that others hold, and places that the job does not allow itself."""
    yield from _wishes(snapshot, demand)
    tried = 0
    # That its own tasks end is no news to anyone.
    own = f"-{demand.uid.replace('-', '')[:8]}-"
    for name in snapshot.fleet.names:
        held = snapshot.fleet.held(name)
        for key in sorted(held, key=lambda key: (held[key].count, key)):
            if tried < _TRIED and own not in key:
                tried += 1
                freed = replace(snapshot, fleet=snapshot.fleet.apply([Release(key)]))
                yield Edit(f"wait until {key} on {name} has ended", freed, demand)
    yield from _smaller(snapshot, demand, snapshot.fleet.fit)
    for name in snapshot.fleet.names[:_TRIED]:
        others = [key for key in snapshot.fleet.held(name) if own not in key]
        if len(others) > 1:
            freed = replace(snapshot, fleet=snapshot.fleet.apply([Release(key) for key in sorted(others)]))
            yield Edit(f"wait until the {len(others)} slices of others on {name} have ended", freed, demand)


def spread_edits(snapshot: Snapshot, demand: Demand, refusal: Refusal) -> Iterator[Edit]:
    """The job's own evenness, relaxed; then what would make room where it is missing."""
    for number, constraint in enumerate(demand.rule.spread):
        if not constraint.hard:
            continue
        kind = "claim" if constraint.claim else "label"
        for words, looser in (
            (f"raise maxSkew over {kind} {constraint.key} by 1", replace(constraint, skew=constraint.skew + 1)),
            (f"write ScheduleAnyway for the spread over {kind} {constraint.key}", replace(constraint, hard=False)),
        ):
            spread = (*demand.rule.spread[:number], looser, *demand.rule.spread[number + 1 :])
            yield Edit(words, snapshot, replace(demand, rule=replace(demand.rule, spread=spread)))
    yield from room_edits(snapshot, demand, refusal)


def place_edits(snapshot: Snapshot, demand: Demand, refusal: Refusal) -> Iterator[Edit]:
    """What keeps clusters out, then what the task asks of them."""
    against = verdicts(snapshot.fleet, snapshot.sets, demand.rule, snapshot.now, demand.running)
    for name in [n for n, v in against.items() if v is not None and v[0] is Reason.CLUSTER_NOT_ACCEPTED][:_TRIED]:
        yield Edit(f"accept cluster {name}", as_if_back(snapshot, name), demand)
    yield from _wishes(snapshot, demand)
    yield from _smaller(snapshot, demand, snapshot.fleet.capacity)
    # What an empty cluster could hold need not have room now.
    yield from _smaller(snapshot, demand, snapshot.fleet.fit)
    for name in [n for n, v in against.items() if v is not None and v[0] is Reason.SELECTOR_MISMATCH][:_TRIED]:
        for lift in lifts(snapshot.fleet, snapshot.sets, demand.rule, snapshot.now, name, demand.running):
            changed = replace(snapshot, fleet=lift.fleet, sets=lift.sets)
            yield Edit(f"have {lift.what}", changed, replace(demand, rule=lift.rule))
    for name in [n for n, v in against.items() if v is not None and v[0] is Reason.CLUSTER_UNREACHABLE][:_TRIED]:
        yield Edit(f"bring cluster {name} back", as_if_back(snapshot, name), demand)


def _node_taints(snapshot: Snapshot, shape: TaskShape) -> list[tuple[str, str, str]]:
    """Of nodes anywhere, those that keep the job away."""
    sites = (snapshot.fleet.site(name) for name in snapshot.fleet.names)
    taints = {taint for site in sites if site is not None for group in site.groups for taint in group.taints}
    return sorted(taint for taint in taints if not shape.tolerates(*taint))


def _wishes(snapshot: Snapshot, demand: Demand) -> Iterator[Edit]:
    """Each wish of the job left out."""
    shape, rule = demand.shape, demand.rule
    if shape.gpu_models:
        words = f"allow other GPU models than {', '.join(shape.gpu_models)}"
        yield Edit(words, snapshot, replace(demand, shape=replace(shape, gpu_models=())))
    if shape.gpu_min_memory:
        words = "ask for less GPU memory"
        yield Edit(words, snapshot, replace(demand, shape=replace(shape, gpu_min_memory=0)))
    for key, value in shape.node_selector:
        fewer = tuple(pair for pair in shape.node_selector if pair != (key, value))
        words = f"drop node selector {key}={value}"
        yield Edit(words, snapshot, replace(demand, shape=replace(shape, node_selector=fewer)))
    if shape.node_affinity:
        words = "drop the required node affinity"
        yield Edit(words, snapshot, replace(demand, shape=replace(shape, node_affinity=())))
    for key, value, effect in _node_taints(snapshot, shape)[:_TRIED]:
        tolerations = tuple(sorted({*shape.tolerations, Toleration(key, "Equal", value, effect)}))
        words = f"tolerate the nodes' taint {key}{'=' if value else ''}{value}:{effect}"
        yield Edit(words, snapshot, replace(demand, shape=replace(shape, tolerations=tolerations)))
    for taint in sorted(
        {taint for name in snapshot.fleet.names for taint in snapshot.fleet.facts(name).taints}, key=str
    ):
        tolerating = ClusterToleration(taint.key, "Equal", taint.value, taint.effect)
        if tolerating not in rule.tolerations:
            wider = replace(rule, tolerations=(*rule.tolerations, tolerating))
            yield Edit(f"tolerate the clusters' taint {taint}", snapshot, replace(demand, rule=wider))
    if rule.predicates:
        words = f"drop the cluster selector {describe(rule)}"
        yield Edit(words, snapshot, replace(demand, rule=replace(rule, predicates=())))
    if rule.limit is not None:
        words = f"let the job use more than {rule.limit} clusters"
        yield Edit(words, snapshot, replace(demand, rule=replace(rule, limit=None)))
    if rule != ClusterRule():
        words = f"bind a set with other clusters to namespace {rule.namespace or demand.namespace}"
        yield Edit(words, snapshot, replace(demand, rule=replace(rule, namespace="", sets=())))
    for image in shape.images:
        fewer_images = tuple(other for other in shape.images if other != image)
        words = f"map image {image} on a site"
        yield Edit(words, snapshot, replace(demand, shape=replace(shape, images=fewer_images)))


def smaller_at(snapshot: Snapshot, demand: Demand, cluster: str) -> Iterator[Edit]:
    """Less of what is asked for, so that this cluster has room for it now."""
    only = np.zeros(len(snapshot.fleet.names), np.bool_)
    only[snapshot.fleet.position(cluster)] = True
    yield from _smaller(snapshot, demand, snapshot.fleet.fit, only)


def _smaller(snapshot: Snapshot, demand: Demand, room: Room, allowed: Mask | None = None) -> Iterator[Edit]:
    """Less of one resource a task, or fewer tasks at once: as much as `room` says that some cluster can take."""
    shape = demand.shape
    together = max(1, min(demand.slots, demand.waiting)) if demand.gang else 1
    if allowed is None:
        allowed = eligible(snapshot.fleet, snapshot.sets, demand.rule, snapshot.now, demand.running)
    if demand.gang:
        counts = room(shape)[allowed]
        fewer = int(counts.max()) if len(counts) else 0
        if 0 < fewer < together:
            yield Edit(f"start at most {fewer} tasks at once", snapshot, replace(demand, slots=fewer))
    for resource, amount in shape.requests:
        most = _largest(amount, _Asked(shape, resource, room, allowed, together))
        if most:
            words = f"ask for at most {readable(resource, most)} {resource} a task"
            yield Edit(words, snapshot, replace(demand, shape=_asking(shape, resource, most)))
        elif resource == names.GPU and _fits(room(_asking(shape, resource, 0)), allowed, together):
            yield Edit("ask for no GPU", snapshot, replace(demand, shape=_asking(shape, resource, 0)))
    if shape.gpu_share:
        share = _largest(shape.gpu_share, lambda less: _fits(room(replace(shape, gpu_share=less)), allowed, together))
        if share:
            words = f"ask for at most {share / 1000:g} of a GPU a task"
            yield Edit(words, snapshot, replace(demand, shape=replace(shape, gpu_share=share)))


@dataclass(frozen=True, slots=True, eq=False)
class _Asked:
    """Whether somewhere there is room for tasks that ask for so much of the resource."""

    shape: TaskShape
    resource: str
    room: Room
    allowed: Mask
    together: int

    def __call__(self, amount: int) -> bool:
        return _fits(self.room(_asking(self.shape, self.resource, amount)), self.allowed, self.together)


def _fits(counts: Counts, allowed: Mask, together: int) -> bool:
    return bool((counts[allowed] >= together).any())


def _largest(below: int, enough: Callable[[int], bool]) -> int:
    """The largest value below `below` that is enough; 0: none."""
    low, high = 0, below
    while high - low > 1:
        middle = (low + high) // 2
        if enough(middle):
            low = middle
        else:
            high = middle
    return low


def _asking(shape: TaskShape, resource: str, amount: int) -> TaskShape:
    requests = tuple((name, amount if name == resource else old) for name, old in shape.requests)
    share = 0 if resource in (names.GPU, names.GPU_MILLI) and not amount else shape.gpu_share
    return replace(shape, requests=tuple(pair for pair in requests if pair[1]), gpu_share=share)


def as_if_back(snapshot: Snapshot, name: str) -> Snapshot:
    """With that cluster accepted and available."""
    cluster: dict[str, Any] = copy.deepcopy(dict(snapshot.fleet.facts(name).object))
    cluster.setdefault("spec", {})["hubAcceptsClient"] = True
    cluster.setdefault("status", {})["conditions"] = [{"type": AVAILABLE, "status": "True"}]
    cluster["spec"]["taints"] = [
        taint
        for taint in cluster["spec"].get("taints") or ()
        if taint.get("key") not in (names.TAINT_UNREACHABLE, names.TAINT_UNAVAILABLE)
    ]
    return replace(snapshot, fleet=snapshot.fleet.apply([ClusterSeen(cluster)]))


def _respecified(snapshot: Snapshot, kind: str, name: str, namespace: str = "", **spec: Any) -> Snapshot:
    found = snapshot.quotas.object(kind, name, namespace)
    if found is None:
        return snapshot
    changed = {**found, "spec": {**(found.get("spec") or {}), **spec}}
    return replace(snapshot, quotas=snapshot.quotas.updated([changed]))
