"""The rules of writing and reading, the same over HTTP and in the server's own process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from hub.api.errors import (
    AlreadyExistsError,
    ApiError,
    ConflictError,
    NotFoundError,
    RefusedError,
)
from hub.api.resource import CONFIG_MAPS, FLEET_JOBS, JOBS, MANAGED_CLUSTERS, NAMESPACES, NODES, PODS, Resource
from hub.apiserver import ApiServer
from hub.client.interface import KubeApi
from hub.client.session import Session


@pytest.fixture(params=["http", "in process"])
async def either(request: pytest.FixtureRequest, api_server: ApiServer) -> AsyncIterator[KubeApi]:
    if request.param == "in process":
        yield api_server.in_process()
        return
    async with Session(api_server.url, token=api_server.token) as session:
        yield session


def config(name: str = "a", **more: Any) -> dict[str, Any]:
    metadata = {"name": name, **more.pop("metadata", {})}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"x": "1"}, **more}


def job(name: str = "j", **spec: Any) -> dict[str, Any]:
    template = {"spec": {"containers": [{"name": "main", "image": "busybox"}]}}
    return {
        "apiVersion": "fleet.quarterdeck.dev/v1alpha1",
        "kind": "FleetJob",
        "metadata": {"name": name},
        "spec": {"template": template, **spec},
    }


async def test_a_created_object_has_what_the_server_adds_and_is_read_back_as_it_was_answered(either: KubeApi) -> None:
    sent = config(metadata={"labels": {"a": "b"}, "uid": "mine", "creationTimestamp": "2001-01-01T00:00:00Z"})
    before = str(sent)
    made = await either.create(CONFIG_MAPS, sent, "default")
    assert str(sent) == before
    metadata = made["metadata"]
    assert metadata["uid"] != "mine"
    assert metadata["creationTimestamp"] > "2020"
    assert metadata["namespace"] == "default"
    assert int(metadata["resourceVersion"]) > 1
    assert "generation" not in metadata
    assert await either.get(CONFIG_MAPS, "a", "default") == made
    assert (await either.list(CONFIG_MAPS, "default")).items == [made]


async def test_what_comes_out_is_the_callers_to_change(either: KubeApi) -> None:
    made = await either.create(CONFIG_MAPS, config(), "default")
    made["data"]["x"] = "changed"
    made["metadata"].clear()
    assert (await either.get(CONFIG_MAPS, "a", "default"))["data"] == {"x": "1"}


async def test_creating_twice_is_refused(either: KubeApi) -> None:
    await either.create(CONFIG_MAPS, config(), "default")
    with pytest.raises(AlreadyExistsError) as refusal:
        await either.create(CONFIG_MAPS, config(), "default")
    assert str(refusal.value) == 'configmaps "a" already exists'
    assert refusal.value.status["details"] == {"name": "a", "kind": "configmaps"}


async def test_two_creates_at_once_make_one_object(either: KubeApi) -> None:
    results = await asyncio.gather(
        *(either.create(CONFIG_MAPS, config(), "default") for _ in range(5)), return_exceptions=True
    )
    assert sum(isinstance(result, dict) for result in results) == 1
    assert sum(isinstance(result, AlreadyExistsError) for result in results) == 4


@pytest.mark.parametrize(
    ("obj", "namespace", "error", "words"),
    [
        (config("Not_A_Name"), "default", RefusedError, "metadata.name"),
        (config("a", metadata={"labels": {"a": "not a value"}}), "default", RefusedError, "metadata.labels"),
        (config("a", metadata={"resourceVersion": "5"}), "default", RefusedError, "resourceVersion"),
        (config("a", metadata={"namespace": "other"}), "default", RefusedError, "namespace"),
        (config("a"), "missing", NotFoundError, 'namespaces "missing" not found'),
        ({"metadata": {}}, "default", RefusedError, "name or generateName is required"),
        ({"kind": "Secret", "metadata": {"name": "a"}}, "default", RefusedError, "does not match the expected kind"),
        ({"apiVersion": "v2", "metadata": {"name": "a"}}, "default", RefusedError, "does not match the expected API"),
        (config("a", data={"x": 1}), "default", RefusedError, "data.x"),
    ],
)
async def test_bad_objects_are_refused_with_the_field(
    either: KubeApi, obj: dict[str, Any], namespace: str, error: type[ApiError], words: str
) -> None:
    with pytest.raises(error) as refusal:
        await either.create(CONFIG_MAPS, obj, namespace if "namespace" not in obj["metadata"] else "default")
    assert words in str(refusal.value)


async def test_a_crds_schema_prunes_defaults_and_refuses(either: KubeApi) -> None:
    made = await either.create(FLEET_JOBS, {**job(), "status": {"phase": "Running"}}, "default")
    assert made["spec"]["tasks"] == 1
    assert made["spec"]["queueName"] == "default"
    assert "status" not in made
    assert made["metadata"]["generation"] == 1
    pruned = await either.create(FLEET_JOBS, job("k", nonsense=1), "default")
    assert "nonsense" not in pruned["spec"]
    with pytest.raises(RefusedError) as refusal:
        await either.create(FLEET_JOBS, job("l", tasks=0), "default")
    assert refusal.value.code == 422
    assert refusal.value.status["details"]["causes"][0]["field"] == "spec.tasks"


async def test_generated_names_differ(either: KubeApi) -> None:
    obj = {"metadata": {"generateName": "part-"}}
    names = {(await either.create(CONFIG_MAPS, obj, "default"))["metadata"]["name"] for _ in range(5)}
    assert len(names) == 5
    assert all(name.startswith("part-") and len(name) == 10 for name in names)


async def test_a_dry_run_stores_nothing(either: KubeApi) -> None:
    made = await either.create(CONFIG_MAPS, config(), "default", dry_run=True)
    assert made["metadata"]["uid"]
    with pytest.raises(NotFoundError):
        await either.get(CONFIG_MAPS, "a", "default")


async def test_a_replacement_needs_the_version_it_replaces(either: KubeApi) -> None:
    first = await either.create(FLEET_JOBS, job(), "default")
    second = await either.replace(FLEET_JOBS, {**first, "spec": {**first["spec"], "suspend": True}})
    assert second["metadata"]["generation"] == 2
    assert second["metadata"]["uid"] == first["metadata"]["uid"]
    with pytest.raises(ConflictError) as refusal:
        await either.replace(FLEET_JOBS, first)
    assert "the object has been modified" in str(refusal.value)
    without = {**second, "metadata": {"name": "j", "namespace": "default"}}
    with pytest.raises(RefusedError) as refused:
        await either.replace(FLEET_JOBS, without)
    assert "metadata.resourceVersion" in str(refused.value)
    # Built-in kinds may be replaced blindly, as in Kubernetes.
    await either.create(CONFIG_MAPS, config(), "default")
    blind = await either.replace(CONFIG_MAPS, config(metadata={"namespace": "default"}, data={"x": "2"}))
    assert blind["data"] == {"x": "2"}


async def test_what_changes_nothing_keeps_the_version(either: KubeApi) -> None:
    first = await either.create(FLEET_JOBS, job(), "default")
    assert await either.replace(FLEET_JOBS, first) == first
    assert await either.patch(FLEET_JOBS, "j", {"spec": {"tasks": 1}}, "default") == first
    assert await either.patch(FLEET_JOBS, "j", {"status": {"phase": "Running"}}, "default") == first
    # A number is not a truth value, whatever Python thinks.
    with pytest.raises(RefusedError):
        await either.patch(FLEET_JOBS, "j", {"spec": {"tasks": True}}, "default")
    assert (await either.list(FLEET_JOBS)).resource_version == first["metadata"]["resourceVersion"]


async def test_status_is_written_apart(either: KubeApi) -> None:
    first = await either.create(FLEET_JOBS, job(), "default")
    both = {"metadata": {"labels": {"a": "b"}}, "spec": {"suspend": True}, "status": {"phase": "Running"}}
    changed = await either.patch(FLEET_JOBS, "j", both, "default", subresource="status")
    assert changed["status"] == {"phase": "Running"}
    assert changed["spec"] == first["spec"]
    assert "labels" not in changed["metadata"]
    assert changed["metadata"]["generation"] == 1
    changed = await either.patch(FLEET_JOBS, "j", {**both, "status": {"phase": "Failed"}}, "default")
    assert changed["status"] == {"phase": "Running"}
    assert changed["spec"]["suspend"] is True
    assert changed["metadata"] | {"resourceVersion": ""} == {
        **first["metadata"],
        "labels": {"a": "b"},
        "generation": 2,
        "resourceVersion": "",
    }
    replaced = await either.replace(FLEET_JOBS, {**changed, "status": {"phase": "Failed"}}, subresource="status")
    assert replaced["status"] == {"phase": "Failed"}


@pytest.mark.parametrize("subresource", [None, "status"])
async def test_a_patch_may_name_the_version_and_uid_it_is_for(either: KubeApi, subresource: str | None) -> None:
    made = await either.create(FLEET_JOBS, job(), "default")
    change: dict[str, Any] = {"spec": {"suspend": True}, "status": {"phase": "Queued"}}
    for metadata in ({"resourceVersion": "3"}, {"uid": "another"}):
        with pytest.raises(ConflictError) as refusal:
            await either.patch(FLEET_JOBS, "j", {**change, "metadata": metadata}, "default", subresource=subresource)
        assert refusal.value.reason == "Conflict"
    right = {name: made["metadata"][name] for name in ("resourceVersion", "uid")}
    changed = await either.patch(FLEET_JOBS, "j", {**change, "metadata": right}, "default", subresource=subresource)
    assert changed["metadata"]["resourceVersion"] != made["metadata"]["resourceVersion"]


async def test_the_patch_formats(either: KubeApi) -> None:
    await either.create(CONFIG_MAPS, config(data={"a": "1", "b": "2"}), "default")
    merged = await either.patch(CONFIG_MAPS, "a", {"data": {"a": None, "c": "3"}}, "default")
    assert merged["data"] == {"b": "2", "c": "3"}
    operations = [{"op": "test", "path": "/data/b", "value": "2"}, {"op": "remove", "path": "/data/b"}]
    assert (await either.patch(CONFIG_MAPS, "a", operations, "default", type="json"))["data"] == {"c": "3"}
    with pytest.raises(RefusedError) as refusal:
        await either.patch(CONFIG_MAPS, "a", operations, "default", type="json")
    assert refusal.value.code == 422
    strategic = await either.patch(CONFIG_MAPS, "a", {"data": {"d": "4"}}, "default", type="strategic")
    assert strategic["data"] == {"c": "3", "d": "4"}
    await either.create(FLEET_JOBS, job(), "default")
    with pytest.raises(RefusedError) as refusal:
        await either.patch(FLEET_JOBS, "j", {}, "default", type="strategic")
    assert refusal.value.code == 415
    with pytest.raises(RefusedError, match="list of operations"):
        await either.patch(CONFIG_MAPS, "a", {"data": {}}, "default", type="json")


async def test_apply_creates_changes_and_conflicts(either: KubeApi) -> None:
    wanted = config()
    made = await either.patch(CONFIG_MAPS, "a", wanted, "default", type="apply", field_manager="one")
    assert made["metadata"]["managedFields"][0]["manager"] == "one"
    again = await either.patch(CONFIG_MAPS, "a", wanted, "default", type="apply", field_manager="one")
    assert again == made
    other = config(data={"x": "2"})
    with pytest.raises(ConflictError) as refusal:
        await either.patch(CONFIG_MAPS, "a", other, "default", type="apply", field_manager="two")
    assert refusal.value.status["details"]["causes"][0]["reason"] == "FieldManagerConflict"
    forced = await either.patch(CONFIG_MAPS, "a", other, "default", type="apply", field_manager="two", force=True)
    assert forced["data"] == {"x": "2"}
    # Any other write moves ownership as well.
    await either.patch(CONFIG_MAPS, "a", {"data": {"x": "3"}}, "default", field_manager="three")
    with pytest.raises(ConflictError, match="three"):
        await either.patch(CONFIG_MAPS, "a", other, "default", type="apply", field_manager="two")


async def test_objects_that_nobody_applied_carry_no_record_of_owners(either: KubeApi) -> None:
    await either.create(CONFIG_MAPS, config(), "default")
    changed = await either.patch(CONFIG_MAPS, "a", {"data": {"x": "3"}}, "default", field_manager="three")
    assert "managedFields" not in changed["metadata"]


async def test_a_patch_cannot_rename(either: KubeApi) -> None:
    await either.create(CONFIG_MAPS, config(), "default")
    with pytest.raises(RefusedError):
        await either.patch(CONFIG_MAPS, "a", {"metadata": {"name": "b"}}, "default")


async def test_lists_are_sorted_and_selected(either: KubeApi) -> None:
    for namespace in ("b", "a"):
        await either.create(NAMESPACES, {"metadata": {"name": namespace}})
        for name in ("3", "1", "2"):
            labels = {"odd": str(int(name) % 2 == 1).lower(), "name": f"n{name}"}
            await either.create(CONFIG_MAPS, config(name, metadata={"labels": labels}), namespace)

    async def keys(**selectors: Any) -> list[str]:
        items = (await either.list(CONFIG_MAPS, **selectors)).items
        return [f"{item['metadata']['namespace']}/{item['metadata']['name']}" for item in items]

    assert await keys() == ["a/1", "a/2", "a/3", "b/1", "b/2", "b/3"]
    assert await keys(namespace="b") == ["b/1", "b/2", "b/3"]
    assert await keys(label_selector="odd=true") == ["a/1", "a/3", "b/1", "b/3"]
    assert await keys(label_selector="odd!=true,name in (n2,n9)", namespace="a") == ["a/2"]
    assert await keys(field_selector="metadata.name=2") == ["a/2", "b/2"]
    assert await keys(field_selector="metadata.name!=2,metadata.namespace=a") == ["a/1", "a/3"]
    with pytest.raises(RefusedError, match="field label not supported"):
        await keys(field_selector="data.x=1")
    with pytest.raises(RefusedError, match="label selector"):
        await keys(label_selector="a in b")


async def test_fields_of_a_kind_are_selectable(either: KubeApi) -> None:
    pod = {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}], "nodeName": "n1"}}
    await either.create(PODS, pod, "default")
    await either.create(PODS, {**pod, "metadata": {"name": "q"}, "spec": {**pod["spec"], "nodeName": "n2"}}, "default")
    found = (await either.list(PODS, field_selector="spec.nodeName=n1")).items
    assert [item["metadata"]["name"] for item in found] == ["p"]


async def test_asking_often_for_a_label_changes_how_it_is_found_not_what(either: KubeApi) -> None:
    for number in range(300):
        labels = {"team": f"t{number % 3}"}
        await either.create(CONFIG_MAPS, config(f"m{number:03}", metadata={"labels": labels}), "default")
    expected = [f"m{number:03}" for number in range(0, 300, 3)]
    for _ in range(6):
        items = (await either.list(CONFIG_MAPS, "default", label_selector="team=t0")).items
        assert [item["metadata"]["name"] for item in items] == expected
    await either.patch(CONFIG_MAPS, "m000", {"metadata": {"labels": {"team": "t1"}}}, "default")
    await either.patch(CONFIG_MAPS, "m001", {"metadata": {"labels": {"team": "t0"}}}, "default")
    await either.delete(CONFIG_MAPS, "m003", "default")
    items = (await either.list(CONFIG_MAPS, label_selector="team=t0")).items
    assert [item["metadata"]["name"] for item in items] == ["m001", *expected[2:]]


async def test_deleting(either: KubeApi) -> None:
    made = await either.create(CONFIG_MAPS, config(), "default")
    with pytest.raises(ConflictError):
        await either.delete(CONFIG_MAPS, "a", "default", uid="another")
    await either.delete(CONFIG_MAPS, "a", "default", uid=made["metadata"]["uid"])
    for gone in (either.get(CONFIG_MAPS, "a", "default"), either.delete(CONFIG_MAPS, "a", "default")):
        with pytest.raises(NotFoundError) as refusal:
            await gone
        assert refusal.value.status["reason"] == "NotFound"


async def test_finalizers_hold_an_object_until_the_last_is_gone(either: KubeApi) -> None:
    await either.create(
        FLEET_JOBS, {**job(), "metadata": {"name": "j", "finalizers": ["x.dev/a", "x.dev/b"]}}, "default"
    )
    await either.delete(FLEET_JOBS, "j", "default")
    dying = await either.get(FLEET_JOBS, "j", "default")
    assert dying["metadata"]["deletionTimestamp"]
    assert dying["metadata"]["generation"] == 2
    await either.delete(FLEET_JOBS, "j", "default")
    assert await either.get(FLEET_JOBS, "j", "default") == dying
    with pytest.raises(RefusedError, match="no new finalizers"):
        await either.patch(FLEET_JOBS, "j", {"metadata": {"finalizers": ["x.dev/c"]}}, "default")
    with pytest.raises(AlreadyExistsError):
        await either.create(FLEET_JOBS, job(), "default")
    await either.patch(FLEET_JOBS, "j", {"metadata": {"finalizers": ["x.dev/b"]}}, "default")
    # Nobody takes a deletion back.
    kept = await either.patch(FLEET_JOBS, "j", {"metadata": {"deletionTimestamp": None}}, "default")
    assert kept["metadata"]["deletionTimestamp"] == dying["metadata"]["deletionTimestamp"]
    await either.patch(FLEET_JOBS, "j", {"metadata": {"finalizers": None}}, "default")
    with pytest.raises(NotFoundError):
        await either.get(FLEET_JOBS, "j", "default")


async def test_a_kind_that_is_not_served_is_not_found(either: KubeApi) -> None:
    nothing = Resource("nobody.dev", "v1", "Nothing", "nothings", True)
    for call in (
        either.get(nothing, "a", "default"),
        either.list(nothing),
        either.create(nothing, config(), "default"),
    ):
        with pytest.raises(NotFoundError, match="could not find the requested resource"):
            await call


async def test_a_node_comes_with_its_status(either: KubeApi) -> None:
    made = await either.create(NODES, {"metadata": {"name": "n"}, "status": {"capacity": {"cpu": "4"}}})
    assert made["status"]["capacity"] == {"cpu": "4"}


async def test_built_in_kinds_get_their_defaults(either: KubeApi) -> None:
    template = {"spec": {"containers": [{"name": "c", "image": "i"}], "restartPolicy": "Never"}}
    made = await either.create(JOBS, {"metadata": {"name": "j"}, "spec": {"template": template}}, "default")
    assert made["spec"]["completions"] == 1
    namespace = await either.create(NAMESPACES, {"metadata": {"name": "n"}})
    assert namespace["status"] == {"phase": "Active"}


async def test_clusters_get_their_set_and_the_times_of_their_taints(either: KubeApi) -> None:
    taint = {"key": "gpu", "effect": "NoSelect", "timeAdded": "2001-01-01T00:00:00Z"}
    made = await either.create(MANAGED_CLUSTERS, {"metadata": {"name": "c1"}, "spec": {"taints": [taint]}})
    assert made["metadata"]["labels"] == {"cluster.open-cluster-management.io/clusterset": "default"}
    assert made["spec"]["leaseDurationSeconds"] == 60
    added = made["spec"]["taints"][0]["timeAdded"]
    assert added > "2020"
    with pytest.raises(RefusedError, match="not allowed to set TimeAdded"):
        await either.patch(MANAGED_CLUSTERS, "c1", {"spec": {"taints": [taint]}})
    kept = [{**taint, "timeAdded": added}, {"key": "new", "effect": "NoSelect"}]
    changed = await either.patch(MANAGED_CLUSTERS, "c1", {"spec": {"taints": kept}})
    assert changed["spec"]["taints"][0] == kept[0]
    assert changed["spec"]["taints"][1]["timeAdded"] > "2020"
    with pytest.raises(RefusedError, match=r"metadata\.name"):
        await either.create(MANAGED_CLUSTERS, {"metadata": {"name": "c.1"}})


async def test_what_is_wrong_with_an_object_is_said_before_that_there_is_one(api_server: ApiServer) -> None:
    api = api_server.in_process()
    body = {"metadata": {"name": "j"}, "spec": {"template": {"spec": {"containers": [{"name": "m", "image": "x"}]}}}}
    await api.create(FLEET_JOBS, body, "default")
    with pytest.raises(RefusedError) as refusal:
        await api.create(FLEET_JOBS, {**body, "spec": {**body["spec"], "tasks": -1}}, "default")
    assert refusal.value.code == 422
    with pytest.raises(AlreadyExistsError):
        await api.create(FLEET_JOBS, body, "default")
