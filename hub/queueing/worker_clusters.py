"""On which clusters the jobs of a ClusterQueue may run, where its owner says so with MultiKueue's objects. Pure.

    ClusterQueue → AdmissionCheck (controller kueue.x-k8s.io/multikueue) → MultiKueueConfig → MultiKueueCluster

Each names the next; the last is a ManagedCluster. What Kueue does by racing copies of a job on all of them is one
placement here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from hub.api.multikueue import AdmissionCheck, MultiKueueCluster, MultiKueueConfig
from hub.queueing.objects import ClusterQueue, model_of, name_of

MULTI_KUEUE: Final = "kueue.x-k8s.io/multikueue"


@dataclass(frozen=True, slots=True)
class Check:
    """An AdmissionCheck. `config`: the MultiKueueConfig it names; empty: none."""

    name: str
    controller: str
    config: str = ""


@dataclass(frozen=True, slots=True)
class WorkerList:
    """A MultiKueueConfig: names of MultiKueueClusters."""

    name: str
    workers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Worker:
    """A MultiKueueCluster. `cluster`: the ManagedCluster it is."""

    name: str
    cluster: str


def read_check(obj: Mapping[str, Any]) -> Check:
    spec = model_of(AdmissionCheck, _as_written(obj)).spec
    if spec is None:
        return Check(name_of(obj), "")
    parameters = spec.parameters
    named = parameters is not None and parameters.kind == "MultiKueueConfig"
    return Check(name_of(obj), spec.controllerName, parameters.name if parameters is not None and named else "")


def read_worker_list(obj: Mapping[str, Any]) -> WorkerList:
    return WorkerList(name_of(obj), tuple(model_of(MultiKueueConfig, obj).spec.clusters))


def read_worker(obj: Mapping[str, Any]) -> Worker:
    source = model_of(MultiKueueCluster, _as_written(obj)).spec.clusterSource
    profile = source.clusterProfileRef if source is not None else None
    return Worker(name_of(obj), profile.name if profile is not None else name_of(obj))


def _as_written(obj: Mapping[str, Any]) -> Mapping[str, Any]:
    """Without what others report of it: nothing here depends on that."""
    return {key: value for key, value in obj.items() if key != "status"}


@dataclass(frozen=True, slots=True)
class Unanswered:
    """Why a queue's checks keep it closed. `code`: as Kueue spells the reason of its Active condition."""

    code: str
    detail: str


def clusters_of(
    queue: ClusterQueue,
    checks: Mapping[str, Check],
    lists: Mapping[str, WorkerList],
    workers: Mapping[str, Worker],
) -> tuple[str, ...] | Unanswered:
    """Names of ManagedClusters, in the order of the config. Only for queues with checks."""
    for name in queue.checks:
        check = checks.get(name)
        if check is None:
            return Unanswered("AdmissionCheckNotFound", f"AdmissionCheck {name} does not exist")
        if check.controller != MULTI_KUEUE:
            # To admit without the check that somebody asked for would be worse than not to admit.
            said = f"nothing here answers its admission check {name} (controller {check.controller or 'not given'})"
            return Unanswered("AdmissionCheckNotFound", said)
    if len(queue.checks) > 1:
        said = f"it has more than one admission check of MultiKueue: {', '.join(queue.checks)}"
        return Unanswered("MultipleMultiKueueAdmissionChecks", said)
    if queue.check_rules[0].flavors:
        said = f"AdmissionCheck {queue.checks[0]} of MultiKueue cannot be for some flavors only"
        return Unanswered("MultiKueueAdmissionCheckAppliedPerFlavor", said)
    check = checks[queue.checks[0]]
    config = lists.get(check.config)
    if config is None:
        said = f"AdmissionCheck {check.name} names MultiKueueConfig {check.config or '(none)'}, which does not exist"
        return Unanswered("AdmissionCheckInactive", said)
    missing = [name for name in config.workers if name not in workers]
    if len(missing) == len(config.workers):
        said = f"none of the MultiKueueClusters of MultiKueueConfig {config.name} exists: {', '.join(missing)}"
        return Unanswered("AdmissionCheckInactive", said)
    return tuple(workers[name].cluster for name in config.workers if name in workers)
