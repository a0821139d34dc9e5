"""A cohort in a few lines, and what Kueue's rules decide in it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from kueue_objects import flavor, local_queue

from hub.queueing.kueue.cycle import Scheduler
from hub.queueing.kueue.history import Past
from hub.queueing.kueue.roster import Roster
from hub.queueing.kueue.settings import FINAL, INITIAL, Settings
from hub.queueing.kueue.verdict import Outcome
from hub.queueing.kueue.workload import Constraints, Held, PodSet, Workload
from hub.queueing.quotas import Quotas

PLAIN = Settings()
FAIR = Settings(strategies=(FINAL, INITIAL))
TAKES_ALL = {"reclaimWithinCohort": "Any", "withinClusterQueue": "LowerPriority"}


def wl(
    name: str,
    queue: str,
    cpu: int = 1,
    priority: int = 0,
    at: float = 0.0,
    count: int = 1,
    minimum: int | None = None,
    **more: Any,
) -> Workload:
    pods = more.pop("pod_sets", None) or (pod_set("main", cpu, count, minimum),)
    return Workload(f"default/{name}", name, "default", queue, priority, at, pods, **more)


def pod_set(
    name: str, cpu: int, count: int = 1, minimum: int | None = None, group: str = "", **constraints: Any
) -> PodSet:
    return PodSet(name, count, (("cpu", cpu * 1000),), minimum, Constraints(**constraints), group)


def holds(workload: Workload, at: float = 0.0, flavor: str = "default", queue: str = "", **more: Any) -> Held:
    total = sum(value * pods.count for pods in workload.pod_sets for _, value in pods.requests)
    return Held(workload, queue or workload.queue, (((flavor, "cpu"), total),), at, **more)


def scene(
    objects: Iterable[dict[str, Any]],
    waiting: Iterable[Workload] = (),
    held: Iterable[Held] = (),
    settings: Settings = PLAIN,
    *,
    inactive: dict[str, str] | None = None,
    past: dict[tuple[str, str], Past] | None = None,
    flavors: Iterable[dict[str, Any]] = (),
    now: float = 0.0,
) -> Scheduler:
    """Every ClusterQueue has a LocalQueue of its name unless the objects have LocalQueues."""
    given = list(objects)
    if not any(obj["kind"] == "LocalQueue" for obj in given):
        names = [obj["metadata"]["name"] for obj in given if obj["kind"] == "ClusterQueue"]
        given += [local_queue(name, name) for name in names]
    quotas = Quotas.parse([*(list(flavors) or [flavor("default")]), *given])
    return Scheduler(Roster(quotas, settings, waiting=waiting, held=held, inactive=inactive, past=past, now=now))


def admitted(outcome: Outcome) -> list[str]:
    return [entry.workload.uid for entry in outcome.admitted]


def preempted(outcome: Outcome) -> dict[str, str]:
    return {entry.held.workload.uid: entry.why for entry in outcome.preempted}


def reason(scheduler: Scheduler, name: str) -> str:
    return scheduler.roster.verdicts[f"default/{name}"].reason.code


def parked(scheduler: Scheduler) -> set[str]:
    return {workload.uid for workload, is_parked in scheduler.roster.waiting if is_parked}
