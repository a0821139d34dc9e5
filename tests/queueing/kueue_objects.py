"""Kueue objects for the queue's tests, written as short as the tests are."""

from __future__ import annotations

from typing import Any

_API = "kueue.x-k8s.io/v1beta2"


def flavor(name: str, **spec: Any) -> dict[str, Any]:
    return {"apiVersion": _API, "kind": "ResourceFlavor", "metadata": {"name": name}, "spec": spec}


def quota(resource: str, nominal: Any, borrowing: Any = None, lending: Any = None) -> dict[str, Any]:
    entry: dict[str, Any] = {"name": resource, "nominalQuota": nominal}
    if borrowing is not None:
        entry["borrowingLimit"] = borrowing
    if lending is not None:
        entry["lendingLimit"] = lending
    return entry


def group(*flavors: tuple[str, list[dict[str, Any]]]) -> dict[str, Any]:
    return {
        "coveredResources": [entry["name"] for entry in flavors[0][1]],
        "flavors": [{"name": name, "resources": resources} for name, resources in flavors],
    }


def cluster_queue(name: str, *groups: dict[str, Any], cohort: str = "", **spec: Any) -> dict[str, Any]:
    body: dict[str, Any] = {"resourceGroups": list(groups), "namespaceSelector": {}} | spec
    if cohort:
        body["cohortName"] = cohort
    return {"apiVersion": _API, "kind": "ClusterQueue", "metadata": {"name": name}, "spec": body}


def cpu_queue(name: str, nominal: Any, borrowing: Any = None, lending: Any = None, **spec: Any) -> dict[str, Any]:
    return cluster_queue(name, group(("default", [quota("cpu", nominal, borrowing, lending)])), **spec)


def cohort(name: str, *groups: dict[str, Any], parent: str = "", **spec: Any) -> dict[str, Any]:
    body: dict[str, Any] = {"resourceGroups": list(groups)} | spec
    if parent:
        body["parentName"] = parent
    return {"apiVersion": _API, "kind": "Cohort", "metadata": {"name": name}, "spec": body}


def local_queue(name: str, cluster_queue: str, namespace: str = "default", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": _API,
        "kind": "LocalQueue",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"clusterQueue": cluster_queue} | spec,
    }


def namespace(name: str, **labels: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
