"""What is said of names that name nothing, and what no later object could mend."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.admission.decide import ADMITTED, admit
from hub.admission.rule import Object

KUEUE, CLUSTER, FLEET = "kueue.x-k8s.io", "cluster.open-cluster-management.io", "fleet.quarterdeck.dev"
NOW = "2026-01-02T03:04:05Z"
Json = dict[str, Any]


class Known:
    """A `Look` over objects given as (group, plural, namespace, name, spec)."""

    def __init__(self, *objects: tuple[str, str, str, str, Json]) -> None:
        self._objects = {
            (group, plural, namespace, name): {"metadata": {"name": name, "namespace": namespace}, "spec": spec}
            for group, plural, namespace, name, spec in objects
        }

    def find(self, group: str, plural: str, namespace: str, name: str) -> Object | None:
        return self._objects.get((group, plural, namespace, name))

    def all(self, group: str, plural: str, namespace: str = "") -> Sequence[Object]:
        return [
            obj
            for key, obj in self._objects.items()
            if key[:2] == (group, plural) and (not namespace or key[2] == namespace)
        ]


QUEUES = Known(
    (KUEUE, "localqueues", "team", "research", {"clusterQueue": "all"}),
    (KUEUE, "localqueues", "team", "stray", {"clusterQueue": "gone"}),
    (KUEUE, "clusterqueues", "", "all", {}),
    (KUEUE, "workloadpriorityclasses", "", "high", {}),
    (KUEUE, "resourceflavors", "", "a100", {}),
    (CLUSTER, "placements", "team", "near", {}),
    (CLUSTER, "managedclustersets", "", "gpus", {}),
    (CLUSTER, "managedclustersetbindings", "team", "gpus", {"clusterSet": "gpus"}),
)


def job(**spec: Any) -> Json:
    return {"metadata": {"name": "j", "namespace": "team"}, "spec": spec}


def of_queue(flavor: str) -> Json:
    quotas = [{"name": "cpu", "nominalQuota": 1}]
    groups = [{"coveredResources": ["cpu"], "flavors": [{"name": flavor, "resources": quotas}]}]
    return {"metadata": {"name": "q"}, "spec": {"resourceGroups": groups}}


@pytest.mark.parametrize(
    ("group", "plural", "obj", "said"),
    [
        (FLEET, "fleetjobs", job(queueName="research"), ""),
        (FLEET, "fleetjobs", job(queueName="reserch"), "no LocalQueue reserch in namespace team.*research, stray"),
        (FLEET, "fleetjobs", job(), "no LocalQueue default"),
        (FLEET, "fleetjobs", job(queueName="stray"), "LocalQueue stray: there is no ClusterQueue gone"),
        (FLEET, "fleetjobs", job(queueName="research", priorityClassName="high"), ""),
        (FLEET, "fleetjobs", job(queueName="research", priorityClassName="hihg"), "no WorkloadPriorityClass hihg"),
        (FLEET, "fleetjobs", job(queueName="research", placementRef={"name": "near"}), ""),
        (FLEET, "fleetjobs", job(queueName="research", placementRef={"name": "far"}), "no Placement far"),
        (KUEUE, "localqueues", {"metadata": {"name": "l"}, "spec": {"clusterQueue": "all"}}, ""),
        (KUEUE, "localqueues", {"metadata": {"name": "l"}, "spec": {"clusterQueue": "none"}}, "no ClusterQueue none"),
        (KUEUE, "clusterqueues", of_queue("a100"), ""),
        (KUEUE, "clusterqueues", of_queue("b100"), r"flavors\[0\].name: there is no ResourceFlavor b100"),
        (KUEUE, "cohorts", of_queue("b100"), "no ResourceFlavor b100"),
        (
            KUEUE,
            "clusterqueues",
            {"metadata": {"name": "q"}, "spec": {"admissionChecksStrategy": {"admissionChecks": [{"name": "ask"}]}}},
            "no AdmissionCheck ask",
        ),
        (CLUSTER, "managedclustersetbindings", {"metadata": {"name": "x"}, "spec": {"clusterSet": "x"}}, "Set x"),
        (CLUSTER, "managedclusters", {"metadata": {"name": "c"}, "spec": {}}, "no ManagedClusterSet default"),
        (CLUSTER, "placements", job(clusterSets=["gpus"]), ""),
        (CLUSTER, "placements", job(clusterSets=["cpus"]), "cpus is not bound to namespace team"),
        (
            CLUSTER,
            "placements",
            {"metadata": {"name": "p", "namespace": "bare"}, "spec": {}},
            "bare has no ManagedClusterSetBinding",
        ),
    ],
)
def test_a_name_of_nothing_is_told_and_taken(group: str, plural: str, obj: Json, said: str) -> None:
    decision = admit(group, plural, obj, None, now=NOW, look=QUEUES)
    assert not decision.errors
    if not said:
        assert decision.warnings == ()
    else:
        assert len(decision.warnings) == 1

        assert re.search(said, decision.warnings[0]), decision.warnings


def test_nothing_is_said_twice_of_what_did_not_change() -> None:
    wrong = job(queueName="none")
    assert admit(FLEET, "fleetjobs", wrong, None, now=NOW, look=QUEUES).warnings
    assert not admit(FLEET, "fleetjobs", {**wrong, "status": {"phase": "Queued"}}, wrong, now=NOW, look=QUEUES).warnings


def test_without_a_look_only_the_object_counts() -> None:
    decision = admit(FLEET, "fleetjobs", job(queueName="none"), None, now=NOW)
    assert (decision.errors, decision.warnings) == ((), ())


def cohort(name: str, parent: str) -> Json:
    return {"metadata": {"name": name}, "spec": {"parentName": parent} if parent else {}}


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.sampled_from(["", *"abcdef"])), max_size=20))
def test_cohorts_written_one_after_another_never_close_a_circle(writes: list[tuple[str, str]]) -> None:
    kept: dict[str, str] = {}
    for name, parent in writes:
        known = Known(*((KUEUE, "cohorts", "", n, cohort(n, p)["spec"]) for n, p in kept.items()))
        if not admit(KUEUE, "cohorts", cohort(name, parent), None, now=NOW, look=known).errors:
            kept[name] = parent
        else:
            # Refused is only what would have closed one.
            at, steps = parent, 0
            while at and at != name and steps < 10:
                at, steps = kept.get(at, ""), steps + 1
            assert at == name
    for start in kept:
        at, steps = kept[start], 0
        while at:
            assert at != start
            at, steps = kept.get(at, ""), steps + 1
            assert steps < 10


def test_every_kind_with_rules_is_one_that_is_served() -> None:
    from hub.api.resource import KNOWN

    assert set(ADMITTED) <= {(resource.group, resource.plural) for resource in KNOWN}
