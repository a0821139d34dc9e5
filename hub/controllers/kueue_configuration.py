"""Kueue's own `Configuration` file as the `queue` part of ours, and what of it means nothing here or something else.

Every field of it is in one of three lists: it decides here as it does there; it is about Kueue's own process; or it
asks for something that the hub does otherwise, and is told so by name. A field in none of them is a mistake. Names that
both files have mean the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from hub.api.errors import InvalidObjectError, UsageError
from hub.api.timestamps import parse_duration

CONFIG_GROUP: Final = "config.kueue.x-k8s.io"
VERSIONS: Final = ("v1beta1", "v1beta2")
KUEUE_TIMEOUT: Final = 1800.0
DECIDES: Final = ("fairSharing", "admissionFairSharing", "waitForPodsReady", "resources")
_PROCESS: Final = (
    "cacheNamespace", "clientConnection", "controller", "gracefulShutDown", "health", "internalCertManagement",
    "leaderElection", "metrics", "namespace", "pprofBindAddress", "queueVisibility", "syncPeriod", "tls", "visibility",
    "webhook",
)  # fmt: skip
_HERE: Final = ("apiVersion", "kind", "metadata")
_RUN_HERE: Final = frozenset({"batch/job"})


@dataclass(frozen=True, slots=True)
class Remark:
    """`field`: its path in the file. `said`: what it means here. `process`: nothing, for it is about Kueue's own
    process."""

    field: str
    said: str
    process: bool = False


_ABOUT_KUEUE: Final = "is about Kueue's own process, and without a meaning here"


def _asks(value: Any) -> bool:
    return value not in (None, False, "", [], {})


def _others(value: Any) -> bool:
    return isinstance(value, list) and bool(set(map(str, value)) - _RUN_HERE)


# What is done otherwise: by path, when it matters, and what the hub does.
_OTHERWISE: Final[tuple[tuple[str, Callable[[Any], bool], str], ...]] = (
    ("manageJobsWithoutQueueName", _asks, "a Job without a queue name is left alone"),
    (
        "managedJobsNamespaceSelector",
        _asks,
        "a Job is taken by its queue name, in every namespace; whose jobs a ClusterQueue takes says its "
        "namespaceSelector",
    ),
    (
        "integrations.frameworks",
        _others,
        "of these the hub runs batch/job; the Workloads that controllers of the others make get quota",
    ),
    ("integrations.externalFrameworks", _asks, "the Workloads that their controllers make get quota"),
    ("integrations.labelKeysToCopy", _asks, "a job's labels are not copied to its Workload"),
    ("integrations.podOptions", _asks, "pods without a job are not taken"),
    ("multiKueue.gcInterval", lambda value: value is not None, "nothing is copied, so there is nothing to collect"),
    ("multiKueue.origin", _asks, "what is placed carries the labels of its job"),
    (
        "multiKueue.workerLostTimeout",
        _asks,
        "a cluster is lost after leaseDurationSeconds × leases.grace of the hub's configuration",
    ),
    ("multiKueue.dispatcherName", _asks, "a job is placed once, by the hub; nothing is dispatched to be raced for"),
    ("multiKueue.incrementalDispatcherConfig", _asks, "a job is placed once, by the hub"),
    ("multiKueue.externalFrameworks", _asks, "only jobs of the hub are placed on clusters"),
    ("multiKueue.clusterProfile", _asks, "agents pull: no credentials of clusters are needed"),
    ("objectRetentionPolicies.workloads.afterFinished", lambda value: value is not None,
     "a Workload goes with its job: write ttlSecondsAfterFinished"),
    ("objectRetentionPolicies.workloads.afterDeactivatedByKueue", lambda value: value is not None,
     "what was deactivated is kept"),
    ("resources.deviceClassMappings", _asks, "devices that pods claim by ResourceClaims are not counted"),
)  # fmt: skip


def is_kueue_configuration(document: Any) -> bool:
    return (
        isinstance(document, Mapping)
        and document.get("kind") == "Configuration"
        and str(document.get("apiVersion") or "").startswith(f"{CONFIG_GROUP}/")
    )


def from_kueue(configuration: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[Remark, ...]]:
    """(our `queue` section, what is to be told of the rest, by field).

    In v1beta2 jobs are waited for unless the file says otherwise, in v1beta1 only where it says `enable: true`.
    Raises `UsageError` for a version or field that Kueue does not have.
    """
    version = str(configuration.get("apiVersion")).rpartition("/")[2]
    if version not in VERSIONS:
        raise UsageError(f"found {version!r}; known: {', '.join(VERSIONS)}", field="apiVersion")
    remarks = tuple(sorted(_remarks(configuration), key=lambda remark: remark.field))
    found: dict[str, Any] = {"mode": "kueue"}
    for name in DECIDES:
        if configuration.get(name) is not None:
            found[name] = configuration[name]
    older = version == "v1beta1"
    ready = found.get("waitForPodsReady")
    if ready is None and not older:
        found["waitForPodsReady"] = {"timeout": KUEUE_TIMEOUT}
    elif isinstance(ready, Mapping):
        found["waitForPodsReady"] = {"timeout": KUEUE_TIMEOUT, "enable": not older, **ready}
    sharing = found.get("fairSharing")
    if isinstance(sharing, Mapping) and older:
        found["fairSharing"] = {"enable": False, **sharing}
    resources = found.get("resources")
    if isinstance(resources, Mapping):
        found["resources"] = {name: value for name, value in resources.items() if name != "deviceClassMappings"}
    return found, remarks


def _remarks(configuration: Mapping[str, Any]) -> Iterator[Remark]:
    paths = [path for path, _, _ in _OTHERWISE]
    tops = {path.partition(".")[0] for path in paths} | {"featureGates"}
    for name in configuration:
        if name in _PROCESS:
            yield Remark(name, _ABOUT_KUEUE, process=True)
        elif name not in (*_HERE, *DECIDES, *tops):
            known = ", ".join(sorted({*DECIDES, *_PROCESS, *tops}))
            raise UsageError(f"Kueue's Configuration has no such field; known: {known}", field=str(name))
    for parent in sorted({part for path in paths for part in _parents(path)}):
        _refuse_unknown(configuration, parent, paths)
    for path, matters, said in _OTHERWISE:
        if matters(_at(configuration, path)):
            yield Remark(path, said)
    gates = configuration.get("featureGates")
    if isinstance(gates, Mapping):
        for gate in gates:
            yield Remark(f"featureGates.{gate}", "the hub has no gates: it decides as Kueue does by default")
    sharing = configuration.get("admissionFairSharing")
    if isinstance(sharing, Mapping) and not _lasts(sharing.get("usageHalfLifeTime")):
        said = "is 0, Kueue's default: nothing is remembered, so past usage orders nothing"
        yield Remark("admissionFairSharing.usageHalfLifeTime", said)


def _parents(path: str) -> Iterator[str]:
    """``a`` and ``a.b`` of ``a.b.c``; not those that are checked where they are read."""
    parts = path.split(".")
    if parts[0] not in DECIDES:
        yield from (".".join(parts[:count]) for count in range(1, len(parts)))


def _refuse_unknown(configuration: Mapping[str, Any], parent: str, paths: list[str]) -> None:
    """Within what is done otherwise, a field that nobody has ever had."""
    holder = _at(configuration, parent)
    if holder is None:
        return
    if not isinstance(holder, Mapping):
        raise UsageError(f"found {holder!r}; expected settings", field=parent)
    known = sorted({p.removeprefix(f"{parent}.").partition(".")[0] for p in paths if p.startswith(f"{parent}.")})
    for name in holder:
        if name not in known:
            raise UsageError(f"there is no such field; known: {', '.join(known)}", field=f"{parent}.{name}")


def _at(configuration: Mapping[str, Any], path: str) -> Any:
    value: Any = configuration
    for name in path.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def _lasts(duration: Any) -> bool:
    """Whether it is any time at all; what is wrong with it is said where it is read."""
    try:
        return parse_duration(str(duration)).total_seconds() > 0 if duration else False
    except InvalidObjectError:
        return True
