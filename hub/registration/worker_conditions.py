"""The Active condition of MultiKueue's objects, as the fleet stands: Kueue's words, about ManagedClusters. Pure.

A MultiKueueCluster is active when its ManagedCluster can be given work; an AdmissionCheck of MultiKueue when at least
one of its clusters is. Nothing is decided by it: a queue stays open while its clusters are silent, and each of its jobs
says of every cluster why not.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from hub.api.conditions import find_condition
from hub.queueing.worker_clusters import Check, Worker, WorkerList
from hub.registration.acceptance import is_accepted, is_leaving
from hub.registration.availability import AVAILABLE, available


class Standing(NamedTuple):
    """A condition's status, reason and message."""

    status: str
    reason: str
    message: str

    @property
    def active(self) -> bool:
        return self.status == "True"


def worker_standing(worker: Worker, cluster: Mapping[str, Any] | None, *, by_profile: bool) -> Standing:
    """`cluster`: the ManagedCluster that it names; None: there is none. `by_profile`: it was named as a ClusterProfile,
    not by the MultiKueueCluster's own name."""
    name = worker.cluster
    if cluster is None:
        if by_profile:
            return Standing("False", "BadClusterProfile", f"There is no ManagedCluster {name}")
        said = f"There is no ManagedCluster {name}: kubeconfigs are not read, an agent of the cluster has to join"
        return Standing("False", "ClientConnectionFailed", said)
    if is_leaving(cluster):
        return Standing("False", "ClientConnectionFailed", f"ManagedCluster {name} is being removed from the fleet")
    if not is_accepted(cluster):
        return Standing("False", "ClientConnectionFailed", f"ManagedCluster {name} is not accepted")
    if available(cluster) == "True":
        return Standing("True", "Active", f"ManagedCluster {name} is available")
    found = find_condition((cluster.get("status") or {}).get("conditions"), AVAILABLE)
    why = str((found or {}).get("message") or "its agent has not said anything yet")
    return Standing("False", "ClientConnectionFailed", f"ManagedCluster {name} is not available: {why}")


def check_standing(check: Check, lists: Mapping[str, WorkerList], workers: Mapping[str, Standing]) -> Standing:
    """`workers`: by name, those that exist."""
    config = lists.get(check.config)
    if config is None:
        said = f"There is no MultiKueueConfig {check.config}" if check.config else "It names no MultiKueueConfig"
        return Standing("False", "BadConfig", said)
    missing = [name for name in config.workers if name not in workers]
    silent = [name for name in config.workers if name in workers and not workers[name].active]
    parts = []
    if missing:
        parts.append(f"Missing clusters: {', '.join(missing)}")
    if silent:
        parts.append(f"Inactive clusters: {', '.join(silent)}")
    if len(missing) + len(silent) == len(config.workers):
        return Standing("False", "NoUsableClusters", ". ".join(parts))
    if parts:
        return Standing("True", "SomeActiveClusters", ". ".join(parts))
    return Standing("True", "Active", "All of its clusters are active")
