"""What one decision costs: filtering, scoring and choosing clusters, fitting a shape, taking in a change. CPU time.

Every figure is the best of several rounds, because neighbours on the machine only ever make a round slower.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from itertools import cycle
from typing import Any

import numpy as np

from bench.placements import run as many_placements
from bench.report import Figure
from hub.api import names
from hub.api.nodeaffinity import NodeRequirement
from hub.fleet.changes import CapacitySeen, Charge, ClusterSeen, FleetChange, ScoresSeen
from hub.fleet.fleet import Fleet
from hub.fleet.shape import TaskShape
from hub.placement.decide import decide_placement
from hub.placement.filters import eligible
from hub.placement.prioritizers import scorers_for
from hub.placement.rules import parse_rule
from hub.placement.sets import ClusterSets
from hub.scoring.builtin import default_scorers
from hub.scoring.combine import rank
from hub.scoring.interface import ScoreRequest

_NOW = 1_700_000_000.0
_SHAPE = TaskShape((("cpu", 8000), ("memory", 32 << 30), (names.GPU, 1)), gpu_models=("A100", "H100"))


def run() -> list[Figure]:
    small, large = fleet_of(1_000), fleet_of(10_000)
    site = Fleet.empty().apply([ClusterSeen(_cluster("big", random.Random(1))), CapacitySeen(_big_site())])
    return [
        *many_placements(),
        Figure("one placement, 1,000 clusters", _placement(small), 0.15, "ms", peer=("OCM", 24.0)),
        Figure("one placement, 10,000 clusters", _placement(large), 0.3, "ms", peer=("OCM", 228.0)),
        Figure("one job's ranking, 1,000 clusters", _ranking(small), None, "ms"),
        Figure("fit of a new shape, one cluster of 1,200 nodes", _fit(site, share=0), 0.2, "ms"),
        Figure("the same with required node affinity, named nodes", _fit(site, share=0, affinity=True), 0.2, "ms"),
        Figure("fit of a new GPU share, one cluster of 1,200 nodes", _fit(site, share=300), 0.2, "ms"),
        Figure("charge, 1,000 clusters", _charge(small, large=False), 50.0, "µs"),
        Figure("charge, one cluster of 1,200 nodes", _charge(site, large=True), None, "µs"),
        Figure("charge, then fit again, 1,000 clusters", _charge_and_fit(small), None, "µs"),
        Figure("ManagedCluster event, its condition moved, 1,000 clusters", _event(small, whole=False), 10.0, "µs"),
        Figure("ManagedCluster event, all of it new, 1,000 clusters", _event(small, whole=True), 10.0, "µs"),
        Figure("a report of 50 node groups, one cluster of 1,200 nodes", _report(site), None, "ms"),
    ]


def _placement(fleet: Fleet) -> float:
    rule = parse_rule(
        "bench",
        {
            "clusterSets": ["fleet"],
            "numberOfClusters": 10,
            "predicates": [{"requiredClusterSelector": {"labelSelector": {"matchLabels": {"env": "prod"}}}}],
            "tolerations": [{"key": "gpu", "operator": "Exists"}],
            "prioritizerPolicy": {
                "mode": "Exact",
                "configurations": [
                    *(
                        {"scoreCoordinate": {"builtIn": name}}
                        for name in ("Steady", "Balance", "ResourceAllocatableCPU", "ResourceAllocatableMemory")
                    ),
                    {
                        "scoreCoordinate": {"type": "AddOn", "addOn": {"resourceName": "gpu", "scoreName": "free"}},
                        "weight": 3,
                    },
                ],
            },
        },
        "bench",
        jobs=False,
    )
    sets = _sets()
    counts = np.random.default_rng(1).integers(0, 9, len(fleet.names))
    current = [fleet.names[i] for i in range(0, len(fleet.names), len(fleet.names) // 10)]
    return _best(lambda: decide_placement(fleet, sets, rule, _NOW, current=current, counts=counts), 200) * 1e3


def _ranking(fleet: Fleet) -> float:
    rule = parse_rule("bench", {"clusterSets": ["fleet"]})
    sets, scorers = _sets(), scorers_for(rule, default_scorers())
    request = ScoreRequest(_SHAPE, 1, _NOW)
    return _best(lambda: rank(fleet, request, scorers, eligible(fleet, sets, rule, _NOW)), 200) * 1e3


def _fit(fleet: Fleet, share: int, *, affinity: bool = False) -> float:
    other = NodeRequirement("zone", "In", ("a", "b", "c")), NodeRequirement("gen", "Gt", ("3",))
    named = NodeRequirement("metadata.name", "NotIn", ("group-07-3",), field=True)
    terms = ((named, *other), (NodeRequirement("spot", "DoesNotExist"), *other)) if affinity else ()
    shapes = iter(range(1, 1 << 30))

    def fresh() -> None:
        # Another request each time, so that nothing was ever computed for it.
        cpu = 1000 + next(shapes)
        if share:
            fleet.fit(TaskShape((("cpu", cpu), ("memory", 4 << 30)), gpu_share=share, gpu_models=("A100",)))
        else:
            requests = (("cpu", cpu), ("memory", 4 << 30), (names.GPU, 2))
            fleet.fit(TaskShape(requests, gpu_models=("A100",), node_affinity=terms))

    return _best(fresh, 100) * 1e3


def _charge(fleet: Fleet, *, large: bool) -> float:
    state = fleet
    numbers = iter(range(1 << 30))

    def charge() -> None:
        nonlocal state
        n = next(numbers)
        state = state.apply((Charge(f"job-{n}", "big" if large else state.names[n * 7 % len(state.names)], _SHAPE, 1),))

    return _best(charge, 500) * 1e6


def _charge_and_fit(fleet: Fleet) -> float:
    state = fleet
    numbers = iter(range(1 << 30))
    fleet.fit(_SHAPE)

    def both() -> None:
        nonlocal state
        n = next(numbers)
        state = state.apply((Charge(f"job-{n}", state.names[n * 7 % len(state.names)], _SHAPE, 1),))
        state.fit(_SHAPE)

    return _best(both, 500) * 1e6


def _event(fleet: Fleet, *, whole: bool) -> float:
    """`whole`: labels, taints and totals are other ones at each event. Of few clusters, so that the objects are where
    one that was just received would be, and are not fetched from memory."""
    state = fleet
    source = random.Random(2)
    objects = [_cluster(fleet.names[n % 64], source) for n in range(128)]
    if not whole:
        objects = [
            {**objects[n % 64], "status": {**objects[n % 64]["status"], **_AVAILABLE[n // 64]}} for n in range(128)
        ]
    events = cycle([ClusterSeen(obj) for obj in objects])

    def event() -> None:
        nonlocal state
        state = state.apply((next(events),))

    return _best(event, 512) * 1e6


_AVAILABLE = [
    {"conditions": [{"type": "ManagedClusterConditionAvailable", "status": status, "lastTransitionTime": at}]}
    for status, at in (("True", "2026-01-01T00:00:00Z"), ("Unknown", "2026-01-01T00:05:00Z"))
]


def _report(fleet: Fleet) -> float:
    """Others use one CPU more on a node of the first group at every report."""
    reports = []
    for cpu in range(1, 33):
        report = _big_site()
        groups = report["status"]["nodeGroups"]
        groups[0] = {**groups[0], "used": [{"nodes": 1, "resources": {"cpu": str(cpu)}}]}
        reports.append(CapacitySeen(report))
    changes = cycle(reports)
    state = fleet

    def seen() -> None:
        nonlocal state
        state = state.apply((next(changes),))

    return _best(seen, 32) * 1e3


def _best(work: Callable[[], object], times: int, rounds: int = 7) -> float:
    """CPU seconds of one call."""
    work()
    best = float("inf")
    for _ in range(rounds):
        started = time.process_time()
        for _ in range(times):
            work()
        best = min(best, (time.process_time() - started) / times)
    return best


def _sets() -> ClusterSets:
    return ClusterSets.parse(
        [{"metadata": {"name": "fleet"}}],
        [{"metadata": {"name": "fleet", "namespace": "bench"}, "spec": {"clusterSet": "fleet"}}],
    )


def fleet_of(count: int) -> Fleet:
    source = random.Random(count)
    changes: list[FleetChange] = []
    scores = {}
    for n in range(count):
        name = f"cluster-{n:05}"
        changes += ClusterSeen(_cluster(name, source)), CapacitySeen(_site(name, source))
        scores[name] = float(source.randint(-100, 100))
    return Fleet.empty().apply([*changes, ScoresSeen("AddOn/gpu/free", scores, _NOW + 3600)])


def _cluster(name: str, source: random.Random) -> dict[str, Any]:
    cpu, memory = source.randint(20, 400), source.randint(100, 8000)
    taints = (
        [{"key": "gpu", "effect": "NoSelect", "timeAdded": "2023-01-01T00:00:00Z"}] if source.random() < 0.3 else []
    )
    return {
        "metadata": {
            "name": name,
            "labels": {
                names.CLUSTER_SET: "fleet",
                "env": source.choice(("prod", "dev")),
                "region": f"region-{source.randrange(5)}",
            },
        },
        "spec": {"hubAcceptsClient": True, "taints": taints},
        "status": {
            "capacity": {"cpu": str(cpu), "memory": f"{memory}Gi"},
            "allocatable": {"cpu": str(cpu * 7 // 10), "memory": f"{memory * 7 // 10}Gi"},
            "clusterClaims": [{"name": "platform.open-cluster-management.io", "value": "Other"}],
            "conditions": [{"type": "ManagedClusterConditionAvailable", "status": "True"}],
        },
    }


def _site(name: str, source: random.Random) -> dict[str, Any]:
    model = source.choice(("A100", "H100", "T4", "V100"))
    groups = [_group(f"gpu-{i}", source.randint(1, 6), model, source) for i in range(2)]
    prices = {"gpuHour": {model: f"{source.randint(1, 40) / 10}"}, "cpuHour": "0.04"}
    return {"metadata": {"name": name}, "status": {"nodeGroups": groups, "prices": prices}}


def _big_site() -> dict[str, Any]:
    source = random.Random(3)
    groups = [_group(f"group-{i:02}", 24, source.choice(("A100", "T4")), source) for i in range(50)]
    return {"metadata": {"name": "big"}, "status": {"nodeGroups": groups}}


def _group(name: str, count: int, model: str, source: random.Random) -> dict[str, Any]:
    return {
        "name": name,
        "count": count,
        "nodes": [f"{name}-{number}" for number in range(count)],
        "labels": {"zone": source.choice("abcd"), "gen": str(source.randint(1, 9))},
        "gpu": {"model": model, "memory": "80Gi", "count": 8},
        "allocatable": {"cpu": str(source.choice((64, 96, 128))), "memory": "768Gi", "pods": "110"},
    }
