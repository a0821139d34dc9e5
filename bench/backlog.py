"""What a million jobs that wait cost: memory, one that comes, one decision. CPU time, decisions only.

Two hundred kinds of jobs (fifty shapes, four priorities) in twenty queues of one cohort that is full.
"""

from __future__ import annotations

import resource
import time
from typing import Any

from bench.queue_cases import fleet_of
from bench.report import Figure
from hub.api.indexset import IndexSet
from hub.fleet.shape import TaskShape
from hub.placement.rule import ClusterRule
from hub.planner.backlog import Backlog
from hub.planner.plan import HeldSlice, Snapshot
from hub.queueing.demand import Demand, TaskGroup
from hub.queueing.fleet.policy import FleetPolicy
from hub.queueing.kueue.settings import FINAL, INITIAL
from hub.queueing.quotas import Quotas

_API = "kueue.x-k8s.io/v1beta2"
_QUEUES, _SHAPES, _PRIORITIES = 20, 50, 4
_RUNNING = 1_000
_ONE = (TaskGroup(IndexSet.span(1), 1),)
_RULE = ClusterRule()


def run(pending: int = 1_000_000) -> list[Figure]:
    before = _memory()
    shapes = [TaskShape((("cpu", 1_000 + 100 * number),)) for number in range(_SHAPES)]
    snapshot = _full(shapes)
    started = time.process_time()
    backlog = Backlog(_demand(number, shapes) for number in range(pending))
    put = (time.process_time() - started) / pending
    started = time.process_time()
    backlog.decide(snapshot)
    first = time.process_time() - started
    memory = (_memory() - before) / 2**30
    events = 2_000
    started = time.process_time()
    told = sum(backlog.put(_demand(pending + number, shapes)) is not None for number in range(events))
    arrival = (time.process_time() - started) / events
    assert told == events, "who comes behind others that wait needs no decision"
    started = time.process_time()
    for number in range(events):
        backlog.concerns("q0", [("other", "cpu")], "")
        backlog.drop(f"default/j{pending + number:07}")
    release = (time.process_time() - started) / events
    started = time.process_time()
    backlog.decide(snapshot)
    again = time.process_time() - started
    return [
        Figure(f"{pending:,} jobs wait: memory", memory, 1.5, "GiB"),
        Figure("one of them comes in at first", put * 1e6, None, "µs"),
        Figure("one more comes, and is told why it waits", arrival * 1e6, 100.0, "µs"),
        Figure("one goes, and something ends that nobody can use", release * 1e6, 100.0, "µs"),
        Figure(f"the first decision, {_RUNNING:,} running", first * 1e3, None, "ms"),
        Figure(f"a decision, {_RUNNING:,} running", again * 1e3, None, "ms"),
    ]


def _full(shapes: list[TaskShape]) -> Snapshot:
    objects: list[dict[str, Any]] = [_object("ResourceFlavor", "default", {})]
    for number in range(_QUEUES):
        quota = [{"name": "cpu", "nominalQuota": str(2 * _RUNNING // _QUEUES)}]
        spec = {
            "cohortName": "team",
            "namespaceSelector": {},
            "resourceGroups": [{"coveredResources": ["cpu"], "flavors": [{"name": "default", "resources": quota}]}],
            "preemption": {"reclaimWithinCohort": "Any", "withinClusterQueue": "LowerPriority"},
        }
        objects.append(_object("ClusterQueue", f"q{number}", spec))
        local = _object("LocalQueue", f"q{number}", {"clusterQueue": f"q{number}"})
        local["metadata"]["namespace"] = "default"
        objects.append(local)
    held = tuple(
        HeldSlice(
            key=f"default/r{number}",
            uid=f"r{number}",
            work=f"r{number}",
            epoch=1,
            cluster="",
            queue=f"q{number % _QUEUES}",
            priority=9,
            created=0.0,
            admitted=float(number),
            shape=TaskShape((("cpu", 2_000),)),
            slots=1,
            amounts=((("default", "cpu"), 2_000),),
            place=False,
        )
        for number in range(_RUNNING)
    )
    usage: dict[str, dict[tuple[str, str], int]] = {}
    for one in held:
        used = usage.setdefault(one.queue, {})
        for key, amount in one.amounts:
            used[key] = used.get(key, 0) + amount
    policy = FleetPolicy(strategies=(FINAL, INITIAL))
    return Snapshot(1e6, fleet_of(()), Quotas.parse(objects), usage, (), held=held, policy=policy)


def _demand(number: int, shapes: list[TaskShape]) -> Demand:
    return Demand(
        key=f"default/j{number:07}",
        uid=f"8c5e1f0a-0000-4000-8000-{number:012}",
        namespace="default",
        queue=f"q{number % _QUEUES}",
        priority=number // _QUEUES % _PRIORITIES,
        created=float(number),
        shape=shapes[number // (_QUEUES * _PRIORITIES) % _SHAPES],
        groups=_ONE,
        slots=1,
        rule=_RULE,
        place=False,
    )


def _object(kind: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": _API, "kind": kind, "metadata": {"name": name}, "spec": spec}


def _memory() -> int:
    """Bytes that the process had at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
