"""`bench/kueue-baseline`: the load of Kueue's own performance test, end to end over HTTP, on the embedded API.

30 ClusterQueues in 5 cohorts, 20 CPUs each, 15,000 Workloads of three classes that arrive within 60 s. Beside the hub,
this process plays the controller of the jobs: it creates Workloads as they arrive, says Finished when one has run, and
gives the quota of an evicted one back. Work for 66 s is there in all, so no scheduler is done before. The peer's
figures are Kueue's published means on that load.
"""

from __future__ import annotations

import argparse
import asyncio
import heapq
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from bench.report import Figure, print_figures
from hub.api.conditions import condition_is
from hub.api.resource import CLUSTER_QUEUES, LOCAL_QUEUES, RESOURCE_FLAVORS, WORKLOADS
from hub.api.timestamps import format_time, from_timestamp
from hub.cli.up.datadir import DataDirectory
from hub.cli.up.local_fleet import LocalFleet
from hub.client.informer import Informer
from hub.client.session import Session
from hub.queueing.fairness import jain

Json = dict[str, Any]
_API: Final = "kueue.x-k8s.io/v1beta2"
_COHORTS, _QUEUES, _CPUS = 5, 6, 20
_LATE: Final = 600.0
_FINISHERS: Final = 32


@dataclass(frozen=True, slots=True)
class Class:
    """`every`: seconds between arrivals in one queue; `wait`: Kueue's published limit of the average wait, seconds."""

    name: str
    count: int
    cpu: int
    runtime: float
    priority: int
    every: float
    wait: float


CLASSES: Final = (
    Class("small", 350, 1, 0.2, 50, 0.1, 260.0),
    Class("medium", 100, 5, 0.5, 100, 0.5, 90.0),
    Class("large", 50, 20, 1.0, 200, 1.2, 23.0),
)
IDEAL: Final = max(
    sum(kind.count * kind.cpu * kind.runtime for kind in CLASSES) / _CPUS,
    max(kind.count * kind.every for kind in CLASSES),
)


@dataclass(slots=True)
class Load:
    """What is known of every Workload, by name. Times are of the monotonic clock."""

    api: Session
    parts: float
    created: dict[str, float] = field(default_factory=dict)
    waits: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    running: dict[str, str] = field(default_factory=dict)
    begun: set[str] = field(default_factory=set)
    finished: int = 0
    evictions: int = 0
    ends: list[tuple[float, str, str]] = field(default_factory=list)
    evicted: asyncio.Queue[str] = field(default_factory=asyncio.Queue)
    used: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    indices: list[float] = field(default_factory=list)
    violations: list[int] = field(default_factory=list)

    def seen(self, change: str, key: str, old: Json | None, new: Json | None) -> None:
        if new is None:
            return
        name = str(new["metadata"]["name"])
        conditions = (new.get("status") or {}).get("conditions")
        if condition_is(conditions, "Finished"):
            return
        queue, kind, _ = name.rsplit("-", 2)
        now = time.monotonic()
        if condition_is(conditions, "Evicted"):
            if name in self.running and condition_is(conditions, "QuotaReserved"):
                self._stop(name, queue, kind)
                self.evictions += 1
                self.evicted.put_nowait(name)
        elif condition_is(conditions, "Admitted") and name not in self.running:
            if name not in self.begun:
                self.begun.add(name)
                self.waits[kind].append(now - self.created[name])
            stamp = f"{now}"
            self.running[name] = stamp
            self.used[queue] += _class(kind).cpu
            heapq.heappush(self.ends, (now + _class(kind).runtime, name, stamp))

    def _stop(self, name: str, queue: str, kind: str) -> None:
        del self.running[name]
        self.used[queue] -= _class(kind).cpu

    def due(self) -> Iterable[str]:
        now = time.monotonic()
        while self.ends and self.ends[0][0] <= now:
            _, name, stamp = heapq.heappop(self.ends)
            if self.running.get(name) == stamp:
                queue, kind, _ = name.rsplit("-", 2)
                self._stop(name, queue, kind)
                yield name

    async def finish(self, name: str) -> None:
        at = format_time(from_timestamp(time.time()))
        done = {
            "type": "Finished",
            "status": "True",
            "reason": "Succeeded",
            "message": "done",
            "lastTransitionTime": at,
        }
        await self.api.patch(WORKLOADS, name, {"status": {"conditions": [done]}}, "default", subresource="status")
        self.finished += 1

    async def give_back(self, name: str) -> None:
        at = format_time(from_timestamp(time.time()))
        gone = {"status": "False", "reason": "Pending", "message": "evicted", "lastTransitionTime": at}
        conditions = [{"type": "QuotaReserved", **gone}, {"type": "Admitted", **gone}]
        patch = {"status": {"admission": None, "conditions": conditions}}
        await self.api.patch(WORKLOADS, name, patch, "default", subresource="status")

    def sample(self, waiting: dict[str, int]) -> None:
        """How even the queues' use is, and how many of them have less than their own while they wait."""
        busy = [queue for queue in waiting if waiting[queue] > 0 or self.used[queue]]
        if len(busy) > 1:
            self.indices.append(jain([self.used[queue] / _CPUS for queue in busy]))
        self.violations.append(sum(waiting[queue] > 0 and self.used[queue] < _CPUS - 20 + 1 for queue in busy))


def _class(name: str) -> Class:
    return next(kind for kind in CLASSES if kind.name == name)


def names() -> list[str]:
    return [f"c{cohort}-q{queue}" for cohort in range(_COHORTS) for queue in range(_QUEUES)]


async def measure(mode: str, parts: float, directory: Path) -> list[Figure]:
    """`parts`: of the whole load, for a shorter look."""
    config = {"queue": {"mode": mode, "notice": "0s"}}
    with DataDirectory(directory) as paths:
        async with (
            LocalFleet(paths, [], lambda line: None, with_prometheus=False, hub_config=config) as fleet,
            Session.from_kubeconfig(fleet.kubeconfig) as api,
        ):
            return await _run(api, mode, parts)


async def _run(api: Session, mode: str, parts: float) -> list[Figure]:
    load = Load(api, parts)
    await _create_queues(api)
    informer: Informer[Json] = Informer(api, WORKLOADS, on_event=load.seen)
    arrivals = sorted(
        (number * kind.every, f"{queue}-{kind.name}-{number}", queue, kind)
        for queue in names()
        for kind in CLASSES
        for number in range(max(1, round(kind.count * parts)))
    )
    tasks = [asyncio.create_task(informer.run())]
    await informer.synced.wait()
    started = time.monotonic()
    work: asyncio.Queue[Any] = asyncio.Queue()
    tasks += [asyncio.create_task(_worker(work)) for _ in range(_FINISHERS)]
    tasks.append(asyncio.create_task(_play(load, work)))
    at = 0
    last = started
    while load.finished < len(arrivals):
        now = time.monotonic()
        if now - started > _LATE:
            break
        while at < len(arrivals) and arrivals[at][0] <= now - started:
            _, name, queue, kind = arrivals[at]
            load.created[name] = now
            work.put_nowait(_create(api, name, queue, kind))
            at += 1
        if now - last >= 1.0:
            last = now
            waiting: dict[str, int] = dict.fromkeys(names(), 0)
            for name in load.created:
                if name not in load.begun:
                    waiting[name.rsplit("-", 2)[0]] += 1
            load.sample(waiting)
            if sys.stdout.isatty():
                print(f"\r{now - started:4.0f} s: {load.finished:,} of {len(arrivals):,} finished ", end="", flush=True)
        await asyncio.sleep(0.01)
    wall = time.monotonic() - started
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    if sys.stdout.isatty():
        print()
    ideal = IDEAL * parts
    figures = [
        Figure(f"{mode}: finished of {len(arrivals):,}", load.finished, len(arrivals), "", at_least=True),
        Figure(f"{mode}: makespan (ideal {ideal:.0f} s)", wall, 1.3 * ideal, "s", peer=("Kueue", 351.1 * parts)),
    ]
    for kind, mean in zip(CLASSES, (215.5, 76.8, 16.5), strict=True):
        found = statistics.fmean(load.waits[kind.name]) if load.waits[kind.name] else float("inf")
        figures.append(Figure(f"{mode}: average wait, {kind.name}", found, kind.wait, "s", peer=("Kueue", mean)))
    figures += [
        Figure(f"{mode}: Jain's index, mean over time", statistics.fmean(load.indices or [1.0]), None, ""),
        Figure(f"{mode}: queues idle while they wait, mean", statistics.fmean(load.violations or [0]), None, ""),
        Figure(f"{mode}: evictions", load.evictions, None, ""),
    ]
    return figures


async def _play(load: Load, work: asyncio.Queue[Any]) -> None:
    while True:
        for name in load.due():
            work.put_nowait(load.finish(name))
        while not load.evicted.empty():
            work.put_nowait(load.give_back(load.evicted.get_nowait()))
        await asyncio.sleep(0.005)


async def _worker(work: asyncio.Queue[Any]) -> None:
    while True:
        await (await work.get())


async def _create(api: Session, name: str, queue: str, kind: Class) -> None:
    container = {"name": "c", "image": "x", "resources": {"requests": {"cpu": str(kind.cpu)}}}
    pods = {"name": "main", "count": 1, "template": {"spec": {"containers": [container]}}}
    body = {"queueName": queue, "priority": kind.priority, "podSets": [pods]}
    # An owner: whoever runs it, which here is this process.
    owner = {"apiVersion": "example.org/v1", "kind": "Load", "name": name, "uid": name}
    meta = {"name": name, "ownerReferences": [owner]}
    await api.create(WORKLOADS, {"apiVersion": _API, "kind": "Workload", "metadata": meta, "spec": body}, "default")


async def _create_queues(api: Session) -> None:
    await api.create(RESOURCE_FLAVORS, {"apiVersion": _API, "kind": "ResourceFlavor", "metadata": {"name": "any"}})
    quota = {"name": "cpu", "nominalQuota": _CPUS, "borrowingLimit": 100}
    for name in names():
        spec = {
            "cohortName": name.partition("-")[0],
            "namespaceSelector": {},
            "preemption": {"reclaimWithinCohort": "Any", "withinClusterQueue": "LowerPriority"},
            "resourceGroups": [{"coveredResources": ["cpu"], "flavors": [{"name": "any", "resources": [quota]}]}],
        }
        queue = {"apiVersion": _API, "kind": "ClusterQueue", "metadata": {"name": name}, "spec": spec}
        await api.create(CLUSTER_QUEUES, queue)
        local = {"apiVersion": _API, "kind": "LocalQueue", "metadata": {"name": name}, "spec": {"clusterQueue": name}}
        await api.create(LOCAL_QUEUES, local, "default")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mode", choices=("fleet", "kueue"), action="append", help="default: both")
    parser.add_argument("--parts", type=float, default=1.0, help="of the whole load")
    options = parser.parse_args()
    held = True
    for mode in options.mode or ("fleet", "kueue"):
        with tempfile.TemporaryDirectory() as directory:
            figures = asyncio.run(measure(mode, options.parts, Path(directory)))
        held = print_figures(f"Kueue's baseline load, mode {mode}", figures) and held
    sys.exit(0 if held else 1)


if __name__ == "__main__":
    main()
