"""What the admission checks of a ClusterQueue ask for: on which clusters its jobs may run, and whose answers they need.

    ClusterQueue → AdmissionCheck (controller kueue.x-k8s.io/multikueue) → MultiKueueConfig → MultiKueueCluster

Each names the next; the last is a ManagedCluster. What Kueue does by racing copies of a job on all of them is one
placement here. A check with any other controller is answered by that one, workload by workload, once quota is
reserved; here is only whether it can be asked. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from hub.api.conditions import condition_is
from hub.api.multikueue import AdmissionCheck, MultiKueueCluster, MultiKueueConfig
from hub.queueing.objects import ClusterQueue, model_of, name_of

MULTI_KUEUE: Final = "kueue.x-k8s.io/multikueue"
PROVISIONING: Final = "kueue.x-k8s.io/provisioning-request"


@dataclass(frozen=True, slots=True)
class Check:
    """An AdmissionCheck. `config`: the MultiKueueConfig it names; empty: none. `active`: its controller says that it
    can be asked; of MultiKueue's it does not matter, for that one is the hub."""

    name: str
    controller: str
    config: str = ""
    active: bool = False

    @property
    def ours(self) -> bool:
        """Whether the hub itself answers it, by the clusters that it chooses from."""
        return self.controller == MULTI_KUEUE


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
    config = parameters.name if parameters is not None and named else ""
    return Check(name_of(obj), spec.controllerName, config, is_active(obj))


def is_active(obj: Mapping[str, Any]) -> bool:
    """Whether its controller says that the AdmissionCheck can be asked. Of MultiKueue's that need not be said: what
    keeps its clusters from taking jobs, each job says by itself."""
    spec, status = obj.get("spec"), obj.get("status")
    if isinstance(spec, Mapping) and spec.get("controllerName") == MULTI_KUEUE:
        return True
    return isinstance(status, Mapping) and condition_is(status.get("conditions"), "Active")


def read_worker_list(obj: Mapping[str, Any]) -> WorkerList:
    return WorkerList(name_of(obj), tuple(model_of(MultiKueueConfig, obj).spec.clusters))


def read_worker(obj: Mapping[str, Any]) -> Worker:
    source = model_of(MultiKueueCluster, _as_written(obj)).spec.clusterSource
    profile = source.clusterProfileRef if source is not None else None
    return Worker(name_of(obj), profile.name if profile is not None else name_of(obj))


def _as_written(obj: Mapping[str, Any]) -> Mapping[str, Any]:
    """Without what others report of it: how that is written makes no object unreadable."""
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
) -> tuple[str, ...] | Unanswered | None:
    """Names of ManagedClusters, in the order of the config; None: any cluster. Only for queues with checks."""
    for name in queue.checks:
        if name not in checks:
            return Unanswered("AdmissionCheckNotFound", f"AdmissionCheck {name} does not exist")
    ours = [rule for rule in queue.check_rules if checks[rule.name].ours]
    if len(ours) > 1:
        said = f"it has more than one admission check of MultiKueue: {', '.join(rule.name for rule in ours)}"
        return Unanswered("MultipleMultiKueueAdmissionChecks", said)
    if ours and ours[0].flavors:
        said = f"AdmissionCheck {ours[0].name} of MultiKueue cannot be for some flavors only"
        return Unanswered("MultiKueueAdmissionCheckAppliedPerFlavor", said)
    found = [checks[name] for name in queue.checks]
    provisioning = next((check.name for check in found if check.controller == PROVISIONING), "")
    if ours and provisioning:
        said = f"its checks {ours[0].name} of MultiKueue and {provisioning} of ProvisioningRequests do not go together"
        return Unanswered("MultiKueueWithProvisioningRequest", said)
    for check in found:
        if not check.ours and not check.active:
            whom = check.controller or "not given"
            said = f"AdmissionCheck {check.name} is not active: its controller ({whom}) has not said that it is"
            return Unanswered("AdmissionCheckInactive", said)
    return _workers(checks[ours[0].name], lists, workers) if ours else None


def _workers(
    check: Check, lists: Mapping[str, WorkerList], workers: Mapping[str, Worker]
) -> tuple[str, ...] | Unanswered:
    config = lists.get(check.config)
    if config is None:
        said = f"AdmissionCheck {check.name} names MultiKueueConfig {check.config or '(none)'}, which does not exist"
        return Unanswered("AdmissionCheckInactive", said)
    missing = [name for name in config.workers if name not in workers]
    if len(missing) == len(config.workers):
        said = f"none of the MultiKueueClusters of MultiKueueConfig {config.name} exists: {', '.join(missing)}"
        return Unanswered("AdmissionCheckInactive", said)
    return tuple(workers[name].cluster for name in config.workers if name in workers)
