"""MultiKueue's objects say on which clusters the jobs of a queue run; what is wrong with them closes the queue."""

from __future__ import annotations

from typing import Any

import pytest
from kueue_objects import cluster_queue, flavor, group, local_queue, quota

from hub.api.indexset import IndexSet
from hub.fleet.changes import CapacitySeen, ClusterSeen, FleetChange
from hub.fleet.fleet import Fleet
from hub.fleet.shape import TaskShape
from hub.planner.cycle import plan
from hub.planner.explain import explain
from hub.planner.plan import Snapshot
from hub.queueing.demand import Demand, TaskGroup
from hub.queueing.quotas import Quotas

API = "kueue.x-k8s.io/v1beta2"


def check(name: str = "workers", config: str = "eu", controller: str = "kueue.x-k8s.io/multikueue") -> dict[str, Any]:
    spec: dict[str, Any] = {"controllerName": controller}
    if config:
        spec["parameters"] = {"apiGroup": "kueue.x-k8s.io", "kind": "MultiKueueConfig", "name": config}
    return {"apiVersion": API, "kind": "AdmissionCheck", "metadata": {"name": name}, "spec": spec}


def config(name: str = "eu", *clusters: str) -> dict[str, Any]:
    return {
        "apiVersion": API,
        "kind": "MultiKueueConfig",
        "metadata": {"name": name},
        "spec": {"clusters": list(clusters)},
    }


def worker(name: str, profile: str = "", version: str = API) -> dict[str, Any]:
    source: dict[str, Any] = {"kubeConfig": {"location": f"{name}-kubeconfig", "locationType": "Secret"}}
    spec: dict[str, Any] = source if version.endswith("v1beta1") else {"clusterSource": source}
    if profile:
        spec = {"clusterSource": {"clusterProfileRef": {"name": profile}}}
    return {"apiVersion": version, "kind": "MultiKueueCluster", "metadata": {"name": name}, "spec": spec}


def objects(*more: dict[str, Any], rules: list[dict[str, Any]] | None = None) -> list[dict[str, Any]]:
    named = [{"name": "workers"}] if rules is None else rules
    asked = cluster_queue("q", group(("any", [quota("cpu", 100)])), admissionChecksStrategy={"admissionChecks": named})
    return [flavor("any"), asked, local_queue("q", "q"), *more]


WORKERS = [check(), config("eu", "one", "two"), worker("one"), worker("two", profile="frankfurt")]


def fleet_of(*names: str) -> Fleet:
    changes: list[FleetChange] = []
    for name in names:
        seen = {
            "metadata": {"name": name},
            "spec": {"hubAcceptsClient": True},
            "status": {"conditions": [{"type": "ManagedClusterConditionAvailable", "status": "True"}]},
        }
        group_ = {"name": "nodes", "count": 1, "labels": {}, "taints": [], "allocatable": {"cpu": "4"}}
        reported = {"metadata": {"name": name, "namespace": name}, "status": {"nodeGroups": [group_]}}
        changes += [ClusterSeen(seen), CapacitySeen(reported)]
    return Fleet.empty().apply(changes)


def asking(tasks: int, *quotas: dict[str, Any]) -> Snapshot:
    shape = TaskShape((("cpu", 1_000),))
    groups = (TaskGroup(IndexSet.span(tasks), 1),)
    demand = Demand("default/job", "uid", "default", "q", 0, 0.0, shape, groups, tasks)
    return Snapshot(0.0, fleet_of("one", "frankfurt", "elsewhere"), Quotas.parse(quotas), {}, (demand,))


def test_jobs_go_to_the_clusters_that_are_named() -> None:
    decided = plan(asking(9, *objects(*WORKERS)))
    assert {part.cluster for part in decided.admissions[0].slices} == {"one", "frankfurt"}
    assert sum(part.slots for part in decided.admissions[0].slices) == 8


def test_versions_and_names() -> None:
    old = worker("one", version="kueue.x-k8s.io/v1beta1")
    quotas = Quotas.parse(objects(check(), config("eu", "two", "one"), old, worker("two", profile="frankfurt")))
    assert quotas.workers == {"q": ("frankfurt", "one")}
    assert not quotas.problems


def test_a_cluster_that_is_not_named_says_so() -> None:
    only = objects(check(), config("eu", "gone"), worker("gone"))
    decided = plan(asking(1, *only))
    assert decided.refusals[0].reason.code == "NoClusterFits"
    assert "is for other clusters, by its admission check of MultiKueue" in decided.refusals[0].message
    lines = {line.cluster: line.code for line in explain(asking(1, *objects(*WORKERS)), "default/job").clusters}
    assert lines == {"one": "", "frankfurt": "", "elsewhere": "NotAWorker"}


@pytest.mark.parametrize(
    ("rules", "more", "code", "said"),
    [
        (None, [], "AdmissionCheckNotFound", "AdmissionCheck workers does not exist"),
        (None, [check(controller="example.com/other")], "AdmissionCheckInactive", "its controller (example.com/other)"),
        (None, [check()], "AdmissionCheckInactive", "MultiKueueConfig eu, which does not exist"),
        (None, [check(config="")], "AdmissionCheckInactive", "MultiKueueConfig (none), which does not exist"),
        (None, [check(), config("eu", "x", "y")], "AdmissionCheckInactive", "none of the MultiKueueClusters"),
        (
            [{"name": "workers"}, {"name": "again"}],
            [check(), check("again"), config("eu", "one"), worker("one")],
            "MultipleMultiKueueAdmissionChecks",
            "more than one admission check of MultiKueue: again, workers",
        ),
        (
            [{"name": "workers", "onFlavors": ["any"]}],
            WORKERS,
            "MultiKueueAdmissionCheckAppliedPerFlavor",
            "cannot be for some flavors only",
        ),
    ],
)
def test_what_is_wrong_closes_the_queue(
    rules: list[dict[str, Any]] | None, more: list[dict[str, Any]], code: str, said: str
) -> None:
    quotas = Quotas.parse(objects(*more, rules=rules))
    assert quotas.inactive["q"].code == code
    assert said in quotas.inactive["q"].detail
    assert not quotas.workers
    decided = plan(asking(1, *objects(*more, rules=rules)))
    assert decided.refusals[0].reason.code == "QueueInactive"


def test_objects_may_come_and_go_one_by_one() -> None:
    quotas = Quotas.parse(objects())
    for obj in reversed(WORKERS):
        quotas = quotas.updated([obj])
    assert quotas.workers == {"q": ("one", "frankfurt")}
    assert "q" not in quotas.inactive
    quotas = quotas.updated(gone=[("MultiKueueCluster", "", "one")])
    assert quotas.workers == {"q": ("frankfurt",)}
    quotas = quotas.updated(gone=[("AdmissionCheck", "", "workers")])
    assert quotas.inactive["q"].code == "AdmissionCheckNotFound"


def test_a_broken_config_is_a_problem_of_its_own() -> None:
    broken = config("eu")
    quotas = Quotas.parse(objects(check(), broken, worker("one")))
    assert "spec.clusters" in quotas.problems["MultiKueueConfig/eu"]
    assert quotas.inactive["q"].code == "AdmissionCheckInactive"
