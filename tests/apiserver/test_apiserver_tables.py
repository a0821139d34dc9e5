"""What `kubectl get` prints: columns of custom resources and of built-in kinds, and ages in kubectl's words."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.api.installed import installed_crds
from hub.apiserver.ages import between, human, since
from hub.apiserver.builtin import builtin_kinds, builtin_registry
from hub.apiserver.kinds import Registry, ServedKind, served_from_crd
from hub.apiserver.tables import column_definitions, table, table_rows

REGISTRY: Registry = builtin_registry().adding(kind for crd in installed_crds() for kind in served_from_crd(crd))
CREATED, NOW = "2026-01-01T00:00:00Z", 1767225600.0 + 90


def kind(name: str, group: str = "") -> ServedKind:
    found = REGISTRY.by_kind(group, name)
    assert found is not None
    return found


def cells(served: ServedKind, obj: dict[str, Any], *, wide: bool = False) -> dict[str, Any]:
    obj = {**obj, "metadata": {"name": "a", "creationTimestamp": CREATED, **obj.get("metadata", {})}}
    definitions = column_definitions(served)
    (row,) = table_rows(served, [obj], include="None", now=NOW)
    assert len(row["cells"]) == len(definitions)
    pairs = zip(definitions, row["cells"], strict=True)
    return {column["name"]: cell for column, cell in pairs if wide or not column["priority"]}


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-5, "<invalid>"),
        (-1, "0s"),
        (0, "0s"),
        (119, "119s"),
        (120, "2m"),
        (200, "3m20s"),
        (600, "10m"),
        (10_799, "179m"),
        (10_800, "3h"),
        (18_180, "5h3m"),
        (30_000, "8h"),
        (172_800, "2d"),
        (180_000, "2d2h"),
        (700_000, "8d"),
        (730 * 86_400, "2y"),
        (800 * 86_400, "2y70d"),
        (4000 * 86_400, "10y"),
    ],
)
def test_ages(seconds: float, words: str) -> None:
    assert human(seconds) == words


def test_times_that_are_none() -> None:
    assert since(None, NOW) == since("soon", NOW) == since(5, NOW) == "<unknown>"
    assert between(CREATED, None) == "<unknown>"


def test_a_fleet_job() -> None:
    served = kind("FleetJob", "fleet.quarterdeck.dev")
    job = {
        "spec": {"queueName": "research", "gpu": {"count": 2}},
        "status": {"phase": "Running", "tasks": {"summary": "3/5"}, "clusters": ["a", "b"]},
    }
    assert cells(served, job) == {
        "NAME": "a",
        "QUEUE": "research",
        "PHASE": "Running",
        "TASKS": "3/5",
        "CLUSTERS": "a,b",
        "AGE": "90s",
    }
    assert cells(served, job, wide=True)["GPU"] == 2
    assert cells(served, {"spec": {}})["PHASE"] is None


def test_a_managed_cluster_shows_its_conditions() -> None:
    conditions = [{"type": "ManagedClusterJoined", "status": "True"}, {"type": "Other", "status": "False"}]
    found = cells(kind("ManagedCluster", "cluster.open-cluster-management.io"), {"status": {"conditions": conditions}})
    assert found["JOINED"] == "True"
    assert found["AVAILABLE"] is None


@pytest.mark.parametrize(
    ("status", "shown"),
    [
        ({}, ("0/1", "", "0/1")),
        ({"succeeded": 1, "startTime": CREATED}, ("1/1", "90s", "")),
        ({"startTime": CREATED, "completionTime": "2026-01-01T00:01:00Z"}, ("0/1", "60s", "")),
    ],
)
def test_a_job_counts(status: dict[str, Any], shown: tuple[str, str, str]) -> None:
    found = cells(kind("Job", "batch"), {"spec": {"completions": 1, "parallelism": 1}, "status": status})
    assert (found["Completions"], found["Duration"]) == shown[:2]


@pytest.mark.parametrize(
    ("condition", "word"),
    [("Complete", "Complete"), ("Failed", "Failed"), ("Suspended", "Suspended"), ("Nothing", "Running")],
)
def test_a_job_stands(condition: str, word: str) -> None:
    job = {"spec": {}, "status": {"conditions": [{"type": condition, "status": "True"}]}}
    assert cells(kind("Job", "batch"), job)["Status"] == word
    gone = {**job, "metadata": {"deletionTimestamp": CREATED}}
    if word in ("Suspended", "Running"):
        assert cells(kind("Job", "batch"), gone)["Status"] == "Terminating"


@pytest.mark.parametrize(
    ("state", "word"),
    [
        ({"waiting": {"reason": "ImagePullBackOff"}}, "ImagePullBackOff"),
        ({"terminated": {"reason": "Error", "exitCode": 1}}, "Error"),
        ({"terminated": {"exitCode": 3}}, "ExitCode:3"),
        ({"terminated": {"signal": 9, "exitCode": 137}}, "Signal:9"),
        ({"running": {}}, "Running"),
    ],
)
def test_a_pod_stands(state: dict[str, Any], word: str) -> None:
    container = {"name": "c", "ready": "running" in state, "restartCount": 2, "state": state}
    pod = {"spec": {"containers": [{"name": "c"}]}, "status": {"phase": "Running", "containerStatuses": [container]}}
    found = cells(kind("Pod"), pod)
    assert (found["Status"], found["Restarts"]) == (word, "2")
    assert found["Ready"] == ("1/1" if "running" in state else "0/1")
    assert cells(kind("Pod"), {**pod, "metadata": {"deletionTimestamp": CREATED}})["Status"] == "Terminating"


def test_a_restart_says_when() -> None:
    container = {"restartCount": 1, "lastState": {"terminated": {"finishedAt": CREATED}}}
    pod = {"spec": {"containers": [{}]}, "status": {"containerStatuses": [container]}}
    assert cells(kind("Pod"), pod)["Restarts"] == "1 (90s ago)"


def test_a_node() -> None:
    node = {
        "metadata": {"labels": {"node-role.kubernetes.io/gpu": "", "node-role.kubernetes.io/edge": ""}},
        "spec": {"unschedulable": True},
        "status": {
            "conditions": [{"type": "Ready", "status": "True"}],
            "addresses": [{"type": "InternalIP", "address": "10.0.0.1"}],
        },
    }
    found = cells(kind("Node"), node, wide=True)
    assert (found["Status"], found["Roles"]) == ("Ready,SchedulingDisabled", "edge,gpu")
    assert (found["Internal-IP"], found["External-IP"]) == ("10.0.0.1", "<none>")


def test_an_event_reads_the_same_in_both_spellings() -> None:
    core = {
        "involvedObject": {"kind": "FleetJob", "name": "x"},
        "reason": "Admitted",
        "message": "onto a\n",
        "type": "Normal",
        "lastTimestamp": CREATED,
        "count": 3,
    }
    stored, other = kind("Event"), kind("Event", "events.k8s.io")
    found = cells(stored, core, wide=True)
    assert (found["Object"], found["Message"], found["Last Seen"], found["Count"]) == ("fleetjob/x", "onto a", "90s", 3)
    assert cells(other, other.from_storage(core), wide=True) == found


def test_rows_carry_what_was_asked_for() -> None:
    served = kind("ConfigMap")
    obj = {"kind": "ConfigMap", "metadata": {"name": "a", "labels": {"x": "y"}}, "data": {"a": "b"}}
    (none,), (metadata,), (whole,) = (
        table_rows(served, [obj], include=include, now=NOW) for include in ("None", "Metadata", "Object")
    )
    assert "object" not in none
    assert metadata["object"]["kind"] == "PartialObjectMetadata"
    assert metadata["object"]["metadata"] == obj["metadata"]
    assert whole["object"] == obj
    made = table(served, [whole], {"resourceVersion": "7"})
    assert (made["kind"], made["apiVersion"], made["metadata"]) == ("Table", "meta.k8s.io/v1", {"resourceVersion": "7"})
    assert made["columnDefinitions"][0]["format"] == "name"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(
                ["containers", "conditions", "containerStatuses", "state", "ports", "addresses", "labels", "type"]
            ),
            inner,
            max_size=3,
        )
    ),
    max_leaves=8,
)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from([kind for kind in builtin_kinds() if not kind.virtual]), json_values, json_values, json_values)
def test_whatever_is_stored_can_be_printed(served: ServedKind, metadata: Any, spec: Any, status: Any) -> None:
    obj = {"metadata": metadata, "spec": spec, "status": status, "involvedObject": spec, "series": status}
    (row,) = table_rows(served, [obj], include="None", now=NOW)
    assert len(row["cells"]) == len(column_definitions(served))
