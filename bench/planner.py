"""What decisions cost: jobs a second into an empty fleet, a backlog that does not fit, one job among many. CPU time.

Ten thousand jobs of fifty shapes in the order in which they came, so that no two that follow one another are alike.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

from bench.report import Figure
from hub.api.indexset import IndexSet
from hub.fleet.changes import CapacitySeen, ClusterSeen, FleetChange
from hub.fleet.fleet import Fleet
from hub.fleet.shape import TaskShape, task_shape
from hub.planner.backlog import Heads
from hub.planner.cycle import plan
from hub.planner.explain import explain
from hub.planner.plan import Snapshot
from hub.queueing.demand import Demand, TaskGroup
from hub.queueing.quotas import Quotas
from hub.scoring.builtin import default_scorers
from hub.scoring.mix import MixCounter

_JOBS = 10_000
_SHAPES = 50
_NODES = 4_000
_QUEUES = 20
_KUEUE = "kueue.x-k8s.io/v1beta2"


def run() -> list[Figure]:
    quotas, tight = _quotas("1000000"), _quotas("0")
    rows = [Figure("read 1,000 queues in 50 cohorts", _reading(1_000, 50), None, "ms")]
    rows.append(Figure("one of 1,000 queues changes", _change(1_000, 50), None, "ms"))
    for clusters in (10, 100, 1_000):
        fleet = _fleet(clusters)
        for what, shapes in (("jobs of 50 shapes", _SHAPES), ("equal jobs", 1)):
            seconds = min(
                seconds / count for seconds, count in (_decide(fleet, quotas, 1_500, shapes) for _ in range(3))
            )
            rows.append(Figure(f"one admission, {what}, {clusters:,} clusters", seconds * 1e6, None, "µs"))
        seconds = min(
            seconds / count
            for seconds, count in (_decide(fleet, quotas, 1_500, _SHAPES, typical=True) for _ in range(3))
        )
        title = f"the same of 50 shapes, fragmentation and scarcity scored, {clusters:,} clusters"
        rows.append(Figure(title, seconds * 1e6, None, "µs"))
        if clusters > 10:
            seconds, admitted = _decide(fleet, quotas, _JOBS, _SHAPES)
            title = f"decisions until {clusters:,} clusters are full, 10,000 jobs of 50 shapes"
            rows.append(Figure(title, admitted / seconds, None, "/s", at_least=True))
    seconds = _again(fleet, tight, _JOBS, _SHAPES)
    rows.append(Figure("a cycle over 10,000 jobs without quota, 1,000 clusters", seconds * 1e3, 50.0, "ms"))
    seconds = _again(fleet, quotas, _JOBS, _SHAPES, cpu=10_000)
    rows.append(Figure("a cycle over 10,000 jobs that fit nowhere, 1,000 clusters", seconds * 1e3, None, "ms"))
    rows.append(Figure("explain the last of 1,000 jobs, 100 clusters", _explaining(_fleet(100), tight), None, "ms"))
    return rows


def _again(fleet: Fleet, quotas: Quotas, jobs: int, shapes: int, *, cpu: int = 0) -> float:
    """CPU seconds of a cycle over a backlog that was decided about before, as the hub has it."""
    snapshot = _snapshot(fleet, quotas, jobs, shapes, cpu)
    heads = Heads()
    heads.plan(snapshot)
    started = time.process_time()
    decided = heads.plan(snapshot)
    seconds = time.process_time() - started
    assert not decided.admissions
    assert len(decided.refusals) == jobs
    return seconds


def _decide(
    fleet: Fleet, quotas: Quotas, jobs: int, shapes: int, *, cpu: int = 0, typical: bool = False
) -> tuple[float, int]:
    """CPU seconds of one cycle, and how many jobs it admitted. `typical`: the GPU scorers know what usually comes."""
    snapshot = _snapshot(fleet, quotas, jobs, shapes, cpu)
    if typical:
        seen = MixCounter()
        seen.add([(demand.shape, 1) for demand in snapshot.demands])
        snapshot = replace(snapshot, scorers=default_scorers(seen.mix()))
    started = time.process_time()
    decided = plan(snapshot)
    seconds = time.process_time() - started
    assert len(decided.admissions) + len(decided.refusals) == jobs
    return seconds, len(decided.admissions)


def _explaining(fleet: Fleet, quotas: Quotas) -> float:
    snapshot = _snapshot(fleet, quotas, 1_000, _SHAPES, 0)
    started = time.process_time()
    explain(snapshot, snapshot.demands[-1].key)
    return (time.process_time() - started) * 1e3


def _snapshot(fleet: Fleet, quotas: Quotas, jobs: int, shapes: int, cpu: int) -> Snapshot:
    kinds = [_shape(1 + number % 10 + cpu, 1 + number // 10 % 4) for number in range(shapes)]
    demands = tuple(
        Demand(
            key=f"default/job-{number:05}",
            uid=f"uid-{number}",
            namespace="default",
            queue=f"queue-{number % _QUEUES}",
            priority=0,
            created=float(number),
            shape=kinds[number % shapes],
            groups=(TaskGroup(IndexSet.span(1), 1),),
            slots=1,
        )
        for number in range(jobs)
    )
    return Snapshot(0.0, fleet, quotas, {}, demands, scorers=default_scorers())


def _shape(cpu: int, gpus: int) -> TaskShape:
    requests = {"cpu": str(cpu), "memory": f"{cpu}Gi", "nvidia.com/gpu": str(gpus)}
    return task_shape({"spec": {"containers": [{"name": "main", "resources": {"requests": requests}}]}})


def _fleet(clusters: int) -> Fleet:
    changes: list[FleetChange] = []
    for number in range(clusters):
        name = f"site-{number:04}"
        changes.append(
            ClusterSeen(
                {
                    "metadata": {"name": name},
                    "spec": {"hubAcceptsClient": True},
                    "status": {"conditions": [{"type": "ManagedClusterConditionAvailable", "status": "True"}]},
                }
            )
        )
        group = {
            "name": "nodes",
            "count": _NODES // clusters,
            "gpu": {"model": "A100", "memory": "80Gi", "count": 8},
            "allocatable": {"cpu": "64", "memory": "512Gi", "pods": "110"},
        }
        changes.append(CapacitySeen({"metadata": {"name": name, "namespace": name}, "status": {"nodeGroups": [group]}}))
    return Fleet.empty().apply(changes)


def _quotas(each: str) -> Quotas:
    return Quotas.parse(_queue_objects(_QUEUES, 4, each))


def _queue_objects(queues: int, cohorts: int, each: str) -> list[dict[str, Any]]:
    resources = [
        {"name": name, "nominalQuota": each + unit}
        for name, unit in (("cpu", ""), ("memory", "Gi"), ("nvidia.com/gpu", ""))
    ]
    group = {
        "coveredResources": [entry["name"] for entry in resources],
        "flavors": [{"name": "default", "resources": resources}],
    }
    objects: list[dict[str, Any]] = [
        {"apiVersion": _KUEUE, "kind": "ResourceFlavor", "metadata": {"name": "default"}, "spec": {}}
    ]
    for number in range(queues):
        name, cohort = f"queue-{number}", f"cohort-{number % cohorts}"
        spec = {"cohortName": cohort, "namespaceSelector": {}, "resourceGroups": [group]}
        objects.append({"apiVersion": _KUEUE, "kind": "ClusterQueue", "metadata": {"name": name}, "spec": spec})
        local = {"name": name, "namespace": "default"}
        objects.append({"apiVersion": _KUEUE, "kind": "LocalQueue", "metadata": local, "spec": {"clusterQueue": name}})
    return objects


def _reading(queues: int, cohorts: int) -> float:
    objects = _queue_objects(queues, cohorts, "10")
    started = time.process_time()
    Quotas.parse(objects)
    return (time.process_time() - started) * 1e3


def _change(queues: int, cohorts: int) -> float:
    objects = _queue_objects(queues, cohorts, "10")
    quotas = Quotas.parse(objects)
    changed = _queue_objects(1, 1, "20")[1]
    started = time.process_time()
    quotas.updated([changed])
    return (time.process_time() - started) * 1e3
