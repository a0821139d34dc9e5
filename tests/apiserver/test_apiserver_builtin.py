"""Built-in kinds and metadata: what they get when they are written, what cannot change, and what names look like."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from hub.apiserver.builtin import builtin_registry
from hub.apiserver.kinds import ServedKind

REGISTRY = builtin_registry()


def kind(name: str, group: str = "") -> ServedKind:
    found = REGISTRY.by_kind(group, name)
    assert found is not None
    return found


def admitted(served: ServedKind, obj: dict[str, Any], old: dict[str, Any] | None = None) -> dict[str, Any]:
    admission = served.admit({"metadata": {"name": "a"}, **obj}, old)
    assert admission.errors == ()
    return admission.obj


def fields(served: ServedKind, obj: dict[str, Any], old: dict[str, Any] | None = None) -> list[str]:
    return [error.field for error in served.admit({"metadata": {"name": "a"}, **obj}, old).errors]


def job(**spec: Any) -> dict[str, Any]:
    pod = {"containers": [{"name": "main", "image": "busybox"}], "restartPolicy": "Never"}
    return {"spec": {"template": {"spec": pod}, **spec}}


JOBS, PODS = kind("Job", "batch"), kind("Pod")


@pytest.mark.parametrize(
    ("spec", "given"),
    [
        ({}, {"completions": 1, "parallelism": 1, "backoffLimit": 6, "completionMode": "NonIndexed"}),
        ({"parallelism": 3}, {"completions": None, "parallelism": 3}),
        ({"completions": 5}, {"completions": 5, "parallelism": 1}),
        (
            {"completions": 5, "completionMode": "Indexed", "backoffLimitPerIndex": 0},
            {"parallelism": 1, "backoffLimit": 2**31 - 1},
        ),
        ({"suspend": True, "parallelism": 0}, {"suspend": True, "parallelism": 0}),
    ],
)
def test_a_job_gets_kubernetes_defaults(spec: dict[str, Any], given: dict[str, Any]) -> None:
    found = admitted(JOBS, job(**spec))["spec"]
    assert {name: found.get(name) for name in given} == given


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"completionMode": "Indexed"}, "spec.completions"),
        ({"backoffLimitPerIndex": 1}, "spec.backoffLimitPerIndex"),
        ({"completions": -1}, "spec.completions"),
        ({"completionMode": "Some"}, "spec.completionMode"),
        ({"template": {"spec": {"containers": [{"name": "a"}]}}}, "spec.template.spec.restartPolicy"),
        (
            {"template": {"spec": {"containers": [{"name": "a"}], "restartPolicy": "Always"}}},
            "spec.template.spec.restartPolicy",
        ),
        ({"template": {"spec": {"containers": [], "restartPolicy": "Never"}}}, "spec.template.spec.containers"),
    ],
)
def test_a_job_that_cannot_run_is_refused_by_field(spec: dict[str, Any], field: str) -> None:
    assert fields(JOBS, job(**spec)) == [field]


def test_a_job_keeps_its_template_unless_it_waits_suspended() -> None:
    other = job()["spec"]["template"] | {"metadata": {"labels": {"x": "y"}}}
    running = admitted(JOBS, job())
    assert fields(JOBS, job(template=other), running) == ["spec.template"]
    assert fields(JOBS, job(completions=2), running) == ["spec.completions"]
    waiting = admitted(JOBS, job(suspend=True))
    assert fields(JOBS, job(template=other), waiting) == []
    started = {**waiting, "status": {"startTime": "2026-01-01T00:00:00Z"}}
    assert fields(JOBS, job(template=other), started) == ["spec.template"]
    assert fields(JOBS, job(suspend=True, managedBy="x"), waiting) == ["spec.managedBy"]
    elastic = admitted(JOBS, job(completions=2, parallelism=2, completionMode="Indexed"))
    assert fields(JOBS, job(completions=4, parallelism=4, completionMode="Indexed"), elastic) == []


def test_a_pod_may_change_its_image_and_little_else() -> None:
    def pod(**spec: Any) -> dict[str, Any]:
        return {"spec": {"containers": [{"name": "a", "image": "x"}], **spec}}

    old = admitted(PODS, pod())
    assert (old["spec"]["restartPolicy"], old["status"]["phase"]) == ("Always", "Pending")
    assert fields(PODS, pod(containers=[{"name": "a", "image": "y"}]), old) == []
    assert fields(PODS, pod(activeDeadlineSeconds=5), old) == []
    assert fields(PODS, pod(containers=[{"name": "a", "image": "x", "command": ["date"]}]), old) == ["spec"]
    assert fields(PODS, {"spec": {}}) == ["spec.containers"]


def test_env_may_name_a_variable_twice_but_containers_differ() -> None:
    env = [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]
    twice = [{"name": "a", "env": env}, {"name": "a"}]
    assert fields(PODS, {"spec": {"containers": [{"name": "a", "env": env}]}}) == []
    assert fields(PODS, {"spec": {"containers": twice}}) == ["spec.containers[1]"]


def test_namespaces_are_active_and_found_by_name() -> None:
    found = admitted(kind("Namespace"), {"metadata": {"name": "team", "labels": {"a": "b"}}})
    assert found["metadata"]["labels"] == {"a": "b", "kubernetes.io/metadata.name": "team"}
    assert found["status"] == {"phase": "Active"}
    assert found["spec"] == {"finalizers": ["kubernetes"]}


def test_secrets_take_text_and_keep_their_type() -> None:
    secrets = kind("Secret")
    found = admitted(secrets, {"stringData": {"a": "b"}, "data": {"c": "ZA=="}})
    assert found["data"] == {"a": base64.b64encode(b"b").decode(), "c": "ZA=="}
    assert found["type"] == "Opaque"
    assert "stringData" not in found
    assert fields(secrets, {"data": {"a": "not base64"}}) == ["data.a"]
    assert fields(secrets, {"data": {"a/b": ""}}) == ["data[a/b]"]
    assert fields(secrets, {"type": "other"}, found) == ["type"]


def test_what_is_immutable_stays() -> None:
    maps = kind("ConfigMap")
    old = admitted(maps, {"data": {"a": "b"}, "immutable": True})
    assert fields(maps, {"data": {"a": "c"}, "immutable": True}, old) == ["data"]
    assert fields(maps, {"data": {"a": "b"}}, old) == ["immutable"]
    assert (
        fields(maps, {"data": {"a": "b"}, "immutable": True, "metadata": {"name": "a", "labels": {"x": "y"}}}, old)
        == []
    )
    assert fields(maps, {"data": {"a": "b"}, "binaryData": {"a": ""}}) == ["binaryData[a]"]
    assert fields(maps, {"data": {"a": "x" * 1_500_000}}) == [""]


def test_priority_classes() -> None:
    classes = kind("PriorityClass", "scheduling.k8s.io")
    old = admitted(classes, {"value": 10})
    assert fields(classes, {}) == ["value"]
    assert fields(classes, {"value": 2_000_000_000}) == ["value"]
    assert fields(classes, {"value": 11}, old) == ["value"]


@pytest.mark.parametrize(
    ("metadata", "field"),
    [
        ({"name": "A"}, "metadata.name"),
        ({"name": "a" * 254}, "metadata.name"),
        ({"name": "a_b"}, "metadata.name"),
        ({"name": 5}, "metadata.name"),
        ({"generateName": "A-"}, "metadata.generateName"),
        ({"name": "a", "namespace": "a.b"}, "metadata.namespace"),
        ({"name": "a", "labels": {"a b": "c"}}, "metadata.labels"),
        ({"name": "a", "labels": {"a": "b c"}}, "metadata.labels"),
        ({"name": "a", "labels": {"a": "x" * 64}}, "metadata.labels"),
        ({"name": "a", "labels": {"a": 5}}, "metadata.labels.a"),
        ({"name": "a", "labels": "x"}, "metadata.labels"),
        ({"name": "a", "annotations": {"a/b/c": ""}}, "metadata.annotations"),
        ({"name": "a", "annotations": {"a": "x" * 300_000}}, "metadata.annotations"),
        ({"name": "a", "finalizers": ["a b"]}, "metadata.finalizers[0]"),
        ({"name": "a", "finalizers": [1]}, "metadata.finalizers[0]"),
        (
            {"name": "a", "ownerReferences": [{"kind": "X", "name": "x", "uid": "u"}]},
            "metadata.ownerReferences[0].apiVersion",
        ),
        ({"name": "a", "ownerReferences": {"a": 1}}, "metadata.ownerReferences"),
        ({"name": "a", "generation": "1"}, "metadata.generation"),
        ("x", "metadata"),
    ],
)
def test_metadata_that_is_refused_by_field(metadata: Any, field: str) -> None:
    assert fields(kind("ConfigMap"), {"metadata": metadata}) == [field]


def test_only_one_owner_controls() -> None:
    owner = {"apiVersion": "v1", "kind": "Pod", "name": "x", "uid": "1", "controller": True}
    metadata = {"name": "a", "ownerReferences": [owner, {**owner, "uid": "2"}]}
    assert fields(kind("ConfigMap"), {"metadata": metadata}) == ["metadata.ownerReferences"]


def test_names_of_namespaces_are_labels() -> None:
    assert fields(kind("Namespace"), {"metadata": {"name": "a.b"}}) == ["metadata.name"]
    assert fields(kind("ConfigMap"), {"metadata": {"name": "a.b"}}) == []


def test_nulls_in_metadata_are_absent_and_unknown_fields_dropped() -> None:
    admission = kind("ConfigMap").admit(
        {"metadata": {"name": "a", "labels": None, "annotations": {"x": None, "y": "z"}, "colour": "red"}}
    )
    assert admission.obj["metadata"] == {"name": "a", "annotations": {"y": "z"}}
    assert admission.unknown == ("metadata.colour",)


def test_a_misspelt_field_of_a_container_is_found() -> None:
    spec = {"containers": [{"name": "a", "comand": ["x"], "volumeMounts": [{"name": "v", "mountPath": "/v"}]}]}
    admission = PODS.admit({"metadata": {"name": "a"}, "spec": {**spec, "hostNetwork": True}})
    assert admission.unknown == ("spec.containers[0].comand",)
    assert admission.obj["spec"]["hostNetwork"] is True
