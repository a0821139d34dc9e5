"""What goes with what: dependents with their owners, contents with their namespace, objects with their CRD."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from hub.api.errors import NotFoundError, QuarterdeckError, RefusedError
from hub.api.installed import installed_crds
from hub.api.resource import (
    CONFIG_MAPS,
    CUSTOM_RESOURCE_DEFINITIONS,
    EVENTS,
    FLEET_JOBS,
    JOBS,
    NAMESPACES,
    Resource,
)
from hub.apiserver import ApiServer, ControlPlane, InProcessApi
from hub.client.interface import KubeApi

WIDGETS = Resource("example.dev", "v1", "Widget", "widgets", True)


def widget_crd(**spec: Any) -> dict[str, Any]:
    schema = {"type": "object", "properties": {"spec": {"type": "object", "properties": {"size": {"type": "integer"}}}}}
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    names = {"kind": "Widget", "plural": "widgets"}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.example.dev"},
        "spec": {"group": "example.dev", "names": names, "scope": "Namespaced", "versions": [version], **spec},
    }


def owned(name: str, *owners: dict[str, Any], block: bool = True, finalizers: tuple[str, ...] = ()) -> dict[str, Any]:
    references = [
        {
            "apiVersion": owner["apiVersion"],
            "kind": owner["kind"],
            "name": owner["metadata"]["name"],
            "uid": owner["metadata"]["uid"],
            "blockOwnerDeletion": block,
        }
        for owner in owners
    ]
    return {"metadata": {"name": name, "ownerReferences": references, "finalizers": list(finalizers)}}


async def maps(api: KubeApi, namespace: str = "default") -> list[str]:
    return [item["metadata"]["name"] for item in (await api.list(CONFIG_MAPS, namespace)).items]


async def until(api: KubeApi, expected: list[str], namespace: str = "default") -> None:
    async with asyncio.timeout(3):
        while await maps(api, namespace) != expected:
            await asyncio.sleep(0.005)


async def gone(api: KubeApi, resource: Resource, name: str, namespace: str | None = None) -> None:
    async with asyncio.timeout(3):
        while True:
            try:
                await api.get(resource, name, namespace)
            except NotFoundError:
                return
            await asyncio.sleep(0.005)


@pytest.fixture
def local(api_server: ApiServer) -> InProcessApi:
    return api_server.in_process()


async def test_dependents_go_after_their_owner(local: InProcessApi) -> None:
    owner = await local.create(CONFIG_MAPS, {"metadata": {"name": "owner"}}, "default")
    child = await local.create(CONFIG_MAPS, owned("child", owner), "default")
    await local.create(CONFIG_MAPS, owned("grandchild", child), "default")
    await local.create(CONFIG_MAPS, {"metadata": {"name": "other"}}, "default")
    await local.delete(CONFIG_MAPS, "owner", "default", propagation_policy="Background")
    await until(local, ["other"])


async def test_a_dependent_of_two_stays_until_both_are_gone(local: InProcessApi) -> None:
    one = await local.create(CONFIG_MAPS, {"metadata": {"name": "one"}}, "default")
    two = await local.create(CONFIG_MAPS, {"metadata": {"name": "two"}}, "default")
    await local.create(CONFIG_MAPS, owned("child", one, two), "default")
    await local.delete(CONFIG_MAPS, "one", "default")
    await asyncio.sleep(0.05)
    assert await maps(local) == ["child", "two"]
    await local.delete(CONFIG_MAPS, "two", "default")
    await until(local, [])


async def test_an_owner_deleted_in_the_foreground_waits_for_its_dependents(local: InProcessApi) -> None:
    owner = await local.create(CONFIG_MAPS, {"metadata": {"name": "owner"}}, "default")
    await local.create(CONFIG_MAPS, owned("held", owner, finalizers=("x.dev/hold",)), "default")
    await local.create(CONFIG_MAPS, owned("loose", owner), "default")
    await local.delete(CONFIG_MAPS, "owner", "default", propagation_policy="Foreground")
    await until(local, ["held", "owner"])
    waiting = await local.get(CONFIG_MAPS, "owner", "default")
    assert waiting["metadata"]["finalizers"] == ["foregroundDeletion"]
    await local.patch(CONFIG_MAPS, "held", {"metadata": {"finalizers": None}}, "default")
    await until(local, [])


async def test_dependents_that_do_not_block_hold_nobody(local: InProcessApi) -> None:
    owner = await local.create(CONFIG_MAPS, {"metadata": {"name": "owner"}}, "default")
    await local.create(CONFIG_MAPS, owned("held", owner, block=False, finalizers=("x.dev/hold",)), "default")
    await local.delete(CONFIG_MAPS, "owner", "default", propagation_policy="Foreground")
    await until(local, ["held"])


async def test_orphans_are_let_go_and_stay(local: InProcessApi) -> None:
    owner = await local.create(CONFIG_MAPS, {"metadata": {"name": "owner"}}, "default")
    await local.create(CONFIG_MAPS, owned("child", owner), "default")
    await local.delete(CONFIG_MAPS, "owner", "default", propagation_policy="Orphan")
    await until(local, ["child"])
    assert "ownerReferences" not in (await local.get(CONFIG_MAPS, "child", "default"))["metadata"]


async def test_a_job_orphans_unless_told_otherwise_as_in_kubernetes(local: InProcessApi) -> None:
    template = {"spec": {"containers": [{"name": "c", "image": "i"}], "restartPolicy": "Never"}}
    job = await local.create(JOBS, {"metadata": {"name": "j"}, "spec": {"template": template}}, "default")
    await local.create(CONFIG_MAPS, owned("child", job), "default")
    await local.delete(JOBS, "j", "default")
    await gone(local, JOBS, "j", "default")
    assert await maps(local) == ["child"]


async def test_who_names_an_owner_that_is_gone_goes_too(local: InProcessApi) -> None:
    owner = await local.create(CONFIG_MAPS, {"metadata": {"name": "owner"}}, "default")
    await local.delete(CONFIG_MAPS, "owner", "default")
    # The same name again is another object.
    await local.create(CONFIG_MAPS, {"metadata": {"name": "owner"}}, "default")
    await local.create(CONFIG_MAPS, owned("child", owner), "default")
    await until(local, ["owner"])


async def test_owners_of_unknown_kinds_are_left_to_others(local: InProcessApi) -> None:
    foreign = {"apiVersion": "nobody.dev/v1", "kind": "Thing", "metadata": {"name": "x", "uid": "u"}}
    await local.create(CONFIG_MAPS, owned("child", foreign), "default")
    await asyncio.sleep(0.05)
    assert await maps(local) == ["child"]


async def test_collection_goes_on_after_a_restart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        # A server that dies between the deletion of an owner and that of its dependents.
        patch.setattr("hub.apiserver.garbage.GarbageCollector.follow", lambda *_: None)
        async with ControlPlane(tmp_path) as plane:
            api = InProcessApi(plane)
            owner = await api.create(CONFIG_MAPS, {"metadata": {"name": "owner"}}, "default")
            other = await api.create(CONFIG_MAPS, {"metadata": {"name": "other"}}, "default")
            await api.create(CONFIG_MAPS, owned("child", owner), "default")
            await api.create(CONFIG_MAPS, owned("kept", other), "default")
            await api.delete(CONFIG_MAPS, "owner", "default")
            await api.delete(CONFIG_MAPS, "other", "default", propagation_policy="Orphan")
            assert await maps(api) == ["child", "kept", "other"]
    async with ControlPlane(tmp_path) as plane:
        await until(InProcessApi(plane), ["kept"])


async def test_a_namespace_goes_with_all_that_is_in_it(local: InProcessApi) -> None:
    await local.create(NAMESPACES, {"metadata": {"name": "n"}})
    await local.create(CONFIG_MAPS, {"metadata": {"name": "a"}}, "n")
    await local.create(CONFIG_MAPS, {"metadata": {"name": "b", "finalizers": ["x.dev/hold"]}}, "n")
    await local.delete(NAMESPACES, "n")
    dying = await local.get(NAMESPACES, "n")
    assert dying["status"]["phase"] == "Terminating"
    await until(local, ["b"], "n")
    with pytest.raises(RefusedError, match="being terminated") as refusal:
        await local.create(CONFIG_MAPS, {"metadata": {"name": "c"}}, "n")
    assert refusal.value.code == 403
    assert refusal.value.status["details"]["causes"][0]["reason"] == "NamespaceTerminating"
    await local.patch(CONFIG_MAPS, "b", {"metadata": {"finalizers": None}}, "n")
    await gone(local, NAMESPACES, "n")
    await local.create(NAMESPACES, {"metadata": {"name": "n"}})
    assert await maps(local, "n") == []


async def test_an_empty_namespace_goes_at_once(local: InProcessApi) -> None:
    await local.create(NAMESPACES, {"metadata": {"name": "n"}})
    await local.delete(NAMESPACES, "n")
    await gone(local, NAMESPACES, "n")


async def test_some_namespaces_stay(local: InProcessApi) -> None:
    for name in ("default", "kube-system"):
        with pytest.raises(RefusedError, match="may not be deleted"):
            await local.delete(NAMESPACES, name)


async def test_emptying_goes_on_after_a_restart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("hub.apiserver.emptying.Emptier.follow", lambda *_: None)
        async with ControlPlane(tmp_path) as plane:
            api = InProcessApi(plane)
            await plane.install([widget_crd()])
            await api.create(NAMESPACES, {"metadata": {"name": "n"}})
            await api.create(CONFIG_MAPS, {"metadata": {"name": "a"}}, "n")
            await api.create(WIDGETS, {"metadata": {"name": "w"}}, "default")
            await api.delete(NAMESPACES, "n")
            await api.delete(CUSTOM_RESOURCE_DEFINITIONS, "widgets.example.dev")
    async with ControlPlane(tmp_path) as plane:
        api = InProcessApi(plane)
        await gone(api, NAMESPACES, "n")
        await gone(api, CUSTOM_RESOURCE_DEFINITIONS, "widgets.example.dev")


async def test_a_crd_is_served_from_its_answer_on_and_over_restarts(tmp_path: Path) -> None:
    async with ControlPlane(tmp_path) as plane:
        api = InProcessApi(plane)
        with pytest.raises(NotFoundError):
            await api.list(WIDGETS)
        crd = await api.create(CUSTOM_RESOURCE_DEFINITIONS, widget_crd())
        conditions = {entry["type"]: entry["status"] for entry in crd["status"]["conditions"]}
        assert conditions == {"NamesAccepted": "True", "Established": "True"}
        assert crd["status"]["acceptedNames"]["listKind"] == "WidgetList"
        made = await api.create(WIDGETS, {"metadata": {"name": "w"}, "spec": {"size": 3, "other": 1}}, "default")
        assert made["spec"] == {"size": 3}
        with pytest.raises(RefusedError, match=r"spec\.size"):
            await api.create(WIDGETS, {"metadata": {"name": "x"}, "spec": {"size": "3"}}, "default")
    async with ControlPlane(tmp_path) as plane:
        assert (await InProcessApi(plane).get(WIDGETS, "w", "default")) == made


async def test_a_crd_goes_with_its_objects(local: InProcessApi) -> None:
    await local.create(CUSTOM_RESOURCE_DEFINITIONS, widget_crd())
    await local.create(WIDGETS, {"metadata": {"name": "w", "finalizers": ["x.dev/hold"]}}, "default")
    await local.delete(CUSTOM_RESOURCE_DEFINITIONS, "widgets.example.dev")
    with pytest.raises(RefusedError, match="being deleted"):
        await local.create(WIDGETS, {"metadata": {"name": "x"}}, "default")
    # Still served, or nobody could let go of what is left.
    await local.patch(WIDGETS, "w", {"metadata": {"finalizers": None}}, "default")
    await gone(local, CUSTOM_RESOURCE_DEFINITIONS, "widgets.example.dev")
    with pytest.raises(NotFoundError, match="could not find"):
        await local.list(WIDGETS)


async def test_a_kind_that_comes_back_can_be_watched_again(local: InProcessApi) -> None:
    for _ in range(2):
        await local.create(CUSTOM_RESOURCE_DEFINITIONS, widget_crd())

        async def watch() -> list[str]:
            return [event.type async for event in local.watch(WIDGETS, resource_version="0", timeout_seconds=20)]

        watching = asyncio.create_task(watch())
        await asyncio.sleep(0.01)
        await local.create(WIDGETS, {"metadata": {"name": "w"}}, "default")
        await local.delete(CUSTOM_RESOURCE_DEFINITIONS, "widgets.example.dev")
        # The watch ends with what it watched.
        async with asyncio.timeout(5):
            assert await watching == ["ADDED", "DELETED"]
        await gone(local, CUSTOM_RESOURCE_DEFINITIONS, "widgets.example.dev")


async def test_a_changed_crd_is_served_as_changed(local: InProcessApi) -> None:
    await local.create(CUSTOM_RESOURCE_DEFINITIONS, widget_crd())
    await local.create(WIDGETS, {"metadata": {"name": "w"}, "spec": {"size": 3}}, "default")
    crd = await local.get(CUSTOM_RESOURCE_DEFINITIONS, "widgets.example.dev")
    old = crd["spec"]["versions"][0]
    crd["spec"]["versions"] = [{**old, "storage": False}, {**old, "name": "v2"}]
    changed = await local.replace(CUSTOM_RESOURCE_DEFINITIONS, crd)
    assert changed["status"]["storedVersions"] == ["v1", "v2"]
    newer = Resource("example.dev", "v2", "Widget", "widgets", True)
    found = await local.get(newer, "w", "default")
    assert found["apiVersion"] == "example.dev/v2"
    # What was stored as the old version is shown in each as it is asked for.
    assert (await local.get(WIDGETS, "w", "default"))["apiVersion"] == "example.dev/v1"
    await local.patch(newer, "w", {"spec": {"size": 4}}, "default")
    old_again = await local.get(WIDGETS, "w", "default")
    assert (old_again["apiVersion"], old_again["spec"]) == ("example.dev/v1", {"size": 4})


@pytest.mark.parametrize(
    ("crd", "field"),
    [
        (widget_crd(scope="Everywhere"), "spec.scope"),
        (widget_crd(group="batch", names={"kind": "Job", "plural": "jobs"}), "spec.group"),
        (widget_crd(versions=[]), "spec.versions"),
        ({**widget_crd(), "metadata": {"name": "x"}}, "metadata.name"),
        (
            widget_crd(group="fleet.quarterdeck.dev", names={"kind": "FleetJob", "plural": "widgets"})
            | {"metadata": {"name": "widgets.fleet.quarterdeck.dev"}},
            "spec.names.kind",
        ),
    ],
)
async def test_a_crd_that_cannot_be_served_is_refused_by_field(
    local: InProcessApi, crd: dict[str, Any], field: str
) -> None:
    with pytest.raises(RefusedError) as refusal:
        await local.create(CUSTOM_RESOURCE_DEFINITIONS, crd)
    assert refusal.value.code == 422
    assert refusal.value.status["details"]["causes"][0]["field"] == field


async def test_installing_again_writes_nothing(api_server: ApiServer) -> None:
    version = api_server.plane.store.version
    await api_server.plane.install(installed_crds())
    assert api_server.plane.store.version == version


async def test_older_versions_of_a_kind_are_converted(local: InProcessApi) -> None:
    old = Resource("kueue.x-k8s.io", "v1beta1", "ClusterQueue", "clusterqueues", False)
    new = Resource("kueue.x-k8s.io", "v1beta2", "ClusterQueue", "clusterqueues", False)
    await local.create(old, {"metadata": {"name": "q"}, "spec": {"cohort": "c", "namespaceSelector": {}}})
    assert (await local.get(new, "q"))["spec"]["cohortName"] == "c"
    changed = await local.patch(old, "q", {"spec": {"cohort": "d"}})
    assert changed["spec"]["cohort"] == "d"
    assert [item["spec"]["cohortName"] for item in (await local.list(new)).items] == ["d"]


async def test_events_are_one_kind_under_two_groups_and_end_after_an_hour(
    local: InProcessApi, api_server: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    core = Resource("", "v1", "Event", "events", True)
    event = {
        "metadata": {"name": "e"},
        "regarding": {"kind": "Pod", "name": "p", "namespace": "default"},
        "note": "hello",
        "reason": "Said",
        "action": "Say",
        "type": "Normal",
        "eventTime": "2026-01-01T00:00:00.000000Z",
        "reportingController": "x.dev/y",
        "reportingInstance": "z",
    }
    await local.create(EVENTS, event, "default")
    found = await local.get(core, "e", "default")
    assert found["message"] == "hello"
    assert found["involvedObject"]["name"] == "p"
    cluster = api_server.plane.clusters[""]
    api_server.plane._expire_events(cluster)
    assert (await local.get(EVENTS, "e", "default"))["note"] == "hello"
    monkeypatch.setattr("hub.apiserver.plane.EVENT_SECONDS", -10.0)
    api_server.plane._expire_events(cluster)
    await gone(local, EVENTS, "e", "default")


async def test_logical_clusters_share_a_store_and_nothing_else(tmp_path: Path) -> None:
    async with ControlPlane(tmp_path) as plane:
        hub, edge = InProcessApi(plane), InProcessApi(plane, "edge-1")
        await plane.install(installed_crds())
        await hub.create(CONFIG_MAPS, {"metadata": {"name": "a"}}, "default")
        assert await maps(edge) == []
        await edge.create(CONFIG_MAPS, {"metadata": {"name": "a"}}, "default")
        await edge.create(CONFIG_MAPS, {"metadata": {"name": "b"}}, "default")
        with pytest.raises(NotFoundError):
            await edge.list(FLEET_JOBS)
        await edge.delete(NAMESPACES, (await edge.create(NAMESPACES, {"metadata": {"name": "n"}}))["metadata"]["name"])
        with pytest.raises(QuarterdeckError, match="not a name for a cluster"):
            await InProcessApi(plane, "Not/A/Name").list(CONFIG_MAPS)
    async with ControlPlane(tmp_path) as plane:
        assert await maps(InProcessApi(plane)) == ["a"]
        assert await maps(InProcessApi(plane, "edge-1")) == ["a", "b"]
