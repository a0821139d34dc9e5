"""Which changes need more than the right to write the object."""

from __future__ import annotations

from typing import Any

import pytest

from hub.admission.access import needed, untouchable
from hub.api.names import CLUSTER_SET

Json = dict[str, Any]
CLUSTER, WORK = "cluster.open-cluster-management.io", "work.open-cluster-management.io"
AGENT = ("system:open-cluster-management:c", "system:authenticated")


def cluster(accepted: bool = False, of: str = "", **spec: Any) -> Json:
    labels = {CLUSTER_SET: of} if of else {}
    return {"metadata": {"name": "c", "labels": labels}, "spec": {"hubAcceptsClient": accepted, **spec}}


@pytest.mark.parametrize(
    ("new", "old", "wanted"),
    [
        (cluster(), None, []),
        (cluster(accepted=True), None, [("update", "managedclusters/accept", "c")]),
        (cluster(accepted=True), cluster(), [("update", "managedclusters/accept", "c")]),
        (cluster(), cluster(accepted=True), [("update", "managedclusters/accept", "c")]),
        (cluster(accepted=True), cluster(accepted=True), []),
        (cluster(of="gpus"), None, [("create", "managedclustersets/join", "gpus")]),
        (cluster(of="default"), None, []),
        (cluster(of="gpus"), cluster(of="default"), [("create", "managedclustersets/join", "gpus")]),
        (cluster(of="default"), cluster(of="gpus"), [("create", "managedclustersets/join", "gpus")]),
        (cluster(of="gpus"), cluster(of="gpus"), []),
    ],
)
def test_who_lets_clusters_in_and_into_sets_must_be_allowed_to(
    new: Json, old: Json | None, wanted: list[tuple[str, str, str]]
) -> None:
    found = [(one.verb, one.resource, one.name) for one in needed(CLUSTER, "managedclusters", new, old)]
    assert found == wanted


def test_a_binding_needs_the_right_to_bind_its_set_once() -> None:
    binding = {"metadata": {"name": "gpus"}, "spec": {"clusterSet": "gpus"}}
    assert [one.resource for one in needed(CLUSTER, "managedclustersetbindings", binding, None)] == [
        "managedclustersets/bind"
    ]
    assert not list(needed(CLUSTER, "managedclustersetbindings", binding, binding))


@pytest.mark.parametrize(("group", "plural"), [(CLUSTER, "managedclusters"), (WORK, "manifestworks")])
def test_an_agent_changes_metadata_and_status_only(group: str, plural: str) -> None:
    old, taken = cluster(), {**cluster(), "metadata": {"name": "c", "finalizers": ["x"]}}
    assert untouchable(group, plural, AGENT, cluster(accepted=True), old) == "spec"
    assert untouchable(group, plural, AGENT, taken, old) == ""
    assert untouchable(group, plural, AGENT, cluster(), None) == ""
    assert untouchable(group, plural, ("system:masters",), cluster(accepted=True), old) == ""
    assert untouchable("", "configmaps", AGENT, cluster(accepted=True), old) == ""
