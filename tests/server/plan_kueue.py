"""Kueue's objects as files have them, decided in mode kueue, and what of the document the tests look at."""

from __future__ import annotations

from typing import Any

from hub.cli.plan_input import Settings as Input
from hub.server.reading import Source

KUEUE = "kueue.x-k8s.io/v1beta2"
NOW = "2026-01-01T00:00:00Z"


def kueue(
    kind: str, name: str, spec: dict[str, Any], status: dict[str, Any] | None = None, **meta: Any
) -> dict[str, Any]:
    meta = {"name": name} | ({"namespace": "default"} if kind in ("LocalQueue", "Workload") else {}) | meta
    return {"apiVersion": KUEUE, "kind": kind, "metadata": meta, "spec": spec} | ({"status": status} if status else {})


def queue(cpu: Any = 4, name: str = "q", flavors: tuple[str, ...] = ("default",), **spec: Any) -> list[dict[str, Any]]:
    quotas = [{"name": f, "resources": [{"name": "cpu", "nominalQuota": cpu}]} for f in flavors]
    body = {"namespaceSelector": {}, "resourceGroups": [{"coveredResources": ["cpu"], "flavors": quotas}]} | spec
    found = [kueue("ClusterQueue", name, body), kueue("LocalQueue", name, {"clusterQueue": name})]
    return found + [kueue("ResourceFlavor", f, {"nodeLabels": {"pool": f}}) for f in flavors]


def workload(
    name: str, cpu: Any = 1, count: int = 1, status: dict[str, Any] | None = None, **more: Any
) -> dict[str, Any]:
    pod = {"containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]} | more.pop("pod", {})
    pods = {"name": "main", "count": count, "template": {"spec": pod}} | more.pop("pods", {})
    meta = more.pop("meta", {})
    made = {"creationTimestamp": "2025-12-31T23:00:00Z", "uid": name} | meta
    return kueue("Workload", name, {"queueName": "q", "podSets": [pods]} | more, status, **made)


def condition(kind: str, reason: str = "", at: str = "2025-12-31T23:30:00Z", status: str = "True") -> dict[str, str]:
    return {"type": kind, "status": status, "reason": reason or kind, "lastTransitionTime": at}


def holding(cpu: Any, count: int = 1, *conditions: dict[str, str], **more: Any) -> dict[str, Any]:
    part = {"name": "main", "flavors": {"cpu": "default"}, "resourceUsage": {"cpu": cpu}, "count": count}
    admission = {"clusterQueue": "q", "podSetAssignments": [part]}
    return {"admission": admission, "conditions": [condition("QuotaReserved"), *conditions]} | more


def decide(*objects: Any, cycles: str = "1", **configuration: Any) -> dict[str, Any]:
    found = [part for some in objects for part in (some if isinstance(some, list) else [some])]
    if configuration:
        found.append({"apiVersion": "config.kueue.x-k8s.io/v1beta2", "kind": "Configuration"} | configuration)
    return Input.read(NOW, cycles, None, "kueue").decide([Source(obj, "f.yaml") for obj in found])


def admitted(document: dict[str, Any], cycle: int = 0) -> dict[str, int]:
    return {
        entry["workload"].partition("/")[2]: entry["admission"]["podSetAssignments"][0]["count"]
        for entry in document["cycles"][cycle]["admitted"]
    }


def waits(document: dict[str, Any], cycle: int = 0) -> dict[str, str]:
    return {row["workload"].partition("/")[2]: row["reason"] for row in document["cycles"][cycle]["pending"]}


def evicted(document: dict[str, Any], cycle: int = 0) -> dict[str, str]:
    return {row["workload"].partition("/")[2]: row["reason"] for row in document["cycles"][cycle]["evicted"]}


def check(name: str, controller: str = "example.com/budget", active: str | None = None) -> dict[str, Any]:
    status = None if active is None else {"conditions": [condition("Active", status=active)]}
    return kueue("AdmissionCheck", name, {"controllerName": controller}, status)
