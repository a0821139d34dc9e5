"""What OCM's admission does to works and bindings, done here."""

from __future__ import annotations

from typing import Any

import pytest

from hub.api.errors import RefusedError
from hub.api.resource import MANAGED_CLUSTER_SET_BINDINGS, MANIFEST_WORKS
from hub.apiserver import ApiServer


def work(*manifests: dict[str, Any]) -> dict[str, Any]:
    return {"metadata": {"name": "w"}, "spec": {"workload": {"manifests": list(manifests)}}}


def manifest(name: str = "a", **metadata: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "default", **metadata}}


@pytest.mark.parametrize(
    ("manifests", "field"),
    [
        ([], "spec.workload.manifests"),
        ([manifest(), manifest()], "spec.workload.manifests[1]"),
        ([manifest(name="")], "spec.workload.manifests[0].metadata.name"),
        ([manifest(), manifest("b", generateName="x-")], "spec.workload.manifests[1].metadata.generateName"),
        ([{**manifest(f"m{n}"), "data": {"x": "y" * 100_000}} for n in range(6)], "spec.workload.manifests"),
    ],
)
async def test_works_that_no_agent_could_take_are_refused(
    api_server: ApiServer, manifests: list[dict[str, Any]], field: str
) -> None:
    with pytest.raises(RefusedError) as refusal:
        await api_server.in_process().create(MANIFEST_WORKS, work(*manifests), "default")
    assert refusal.value.code == 422
    assert field in [cause["field"] for cause in refusal.value.status["details"]["causes"]]


async def test_a_work_keeps_what_is_in_its_manifests(api_server: ApiServer) -> None:
    api = api_server.in_process()
    made = await api.create(MANIFEST_WORKS, work({**manifest(), "anything": {"at": ["all"]}}), "default")
    assert made["spec"]["workload"]["manifests"][0]["anything"] == {"at": ["all"]}


async def test_a_binding_is_called_as_its_set(api_server: ApiServer) -> None:
    api = api_server.in_process()
    for name, fits in (("gpus", True), ("other", False)):
        binding = {"metadata": {"name": name}, "spec": {"clusterSet": "gpus"}}
        if fits:
            await api.create(MANAGED_CLUSTER_SET_BINDINGS, binding, "default")
            continue
        with pytest.raises(RefusedError, match=r"metadata\.name"):
            await api.create(MANAGED_CLUSTER_SET_BINDINGS, binding, "default")
