"""Kueue's visibility API as the hub serves it: order, places, pages, who may ask, and what ours adds."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from controllers_scene import Scene, Told, until

from hub.api.resource import CLUSTER_QUEUES, LOCAL_QUEUES, RESOURCE_FLAVORS
from hub.apiserver.server import ApiServer
from hub.client.session import Session
from hub.controllers.hub import Hub
from hub.controllers.metrics_server import MetricsServer
from hub.controllers.permission import Permission
from hub.controllers.visibility import VisibilityPages

_BASE = "/apis/visibility.kueue.x-k8s.io/v1beta1"
_KUEUE = "kueue.x-k8s.io/v1beta2"


class Pages:
    def __init__(self, url: str, token: str, hub: Hub) -> None:
        self.url, self.token, self.hub = url, token, hub

    async def ask(self, path: str, token: str | None = None) -> tuple[int, Any]:
        headers = {"Authorization": f"Bearer {self.token if token is None else token}"}
        async with aiohttp.ClientSession(headers=headers) as http, http.get(self.url + _BASE + path) as answer:
            return answer.status, await answer.json()


@pytest.fixture
async def pages(scene: Scene, api_server: ApiServer, api: Session) -> AsyncIterator[Pages]:
    """A site with eight CPUs, a queue `team` that may use two, and jobs of ten minutes that ask for two each."""
    hub = await scene.hub()
    await scene.agent("east", cpu=8, plan=lambda work, tasks: Told(seconds=60.0))
    await api.create(RESOURCE_FLAVORS, {"apiVersion": _KUEUE, "kind": "ResourceFlavor", "metadata": {"name": "any"}})
    group = {
        "coveredResources": ["cpu", "memory"],
        "flavors": [
            {
                "name": "any",
                "resources": [{"name": "cpu", "nominalQuota": 2}, {"name": "memory", "nominalQuota": "1Gi"}],
            }
        ],
    }
    spec = {"namespaceSelector": {}, "resourceGroups": [group]}
    await api.create(
        CLUSTER_QUEUES, {"apiVersion": _KUEUE, "kind": "ClusterQueue", "metadata": {"name": "team"}, "spec": spec}
    )
    for name in ("a", "b"):
        local = {"kind": "LocalQueue", "metadata": {"name": name}, "spec": {"clusterQueue": "team"}}
        await api.create(LOCAL_QUEUES, {"apiVersion": _KUEUE, **local}, "default")
    await scene.available("east")
    permission = Permission(api)
    async with MetricsServer(
        "127.0.0.1:0",
        hub.metrics.registry,
        lambda: None,
        lambda: "",
        VisibilityPages(hub.deciding, hub.table, permission, hub.way).routes,
    ) as server:
        yield Pages(server.url, api_server.token, hub)


async def _waiting(scene: Scene, pages: Pages, *jobs: tuple[str, str]) -> None:
    await scene.submit("first", cpu="2", queueName="a", expectedDuration="10m")
    await scene.phase("first", "Admitted", "Running")
    for name, queue in jobs:
        await scene.submit(name, cpu="2", queueName=queue, expectedDuration="10m")
        await scene.phase(name, "Queued")

    async def all_wait() -> bool:
        _, found = await pages.ask("/clusterqueues/team/pendingworkloads")
        return len(found["items"]) == len(jobs)

    await until(all_wait)


async def test_what_waits_is_listed_in_order_with_kueues_fields(scene: Scene, pages: Pages) -> None:
    await _waiting(scene, pages, ("x", "a"), ("y", "b"), ("z", "b"))
    status, found = await pages.ask("/clusterqueues/team/pendingworkloads")
    assert status == 200
    assert (found["kind"], found["apiVersion"]) == ("PendingWorkloadsSummary", "visibility.kueue.x-k8s.io/v1beta1")
    places = [
        (item["metadata"]["name"], item["localQueueName"], item["positionInClusterQueue"], item["positionInLocalQueue"])
        for item in found["items"]
    ]
    assert places == [("x", "a", 0, 0), ("y", "b", 1, 0), ("z", "b", 2, 1)]
    first = found["items"][0]
    assert first["priority"] == 0
    assert first["metadata"]["namespace"] == "default"
    assert first["metadata"]["ownerReferences"][0]["kind"] == "FleetJob"


async def test_ours_says_why_and_when_besides(scene: Scene, pages: Pages) -> None:
    await _waiting(scene, pages, ("x", "a"), ("y", "b"))
    _, found = await pages.ask("/clusterqueues/team/pendingworkloads")
    x, y = found["items"]
    assert x["reason"] == "WaitingForQuota"
    assert "needs 2 cpu" in x["message"]
    assert set(x["estimatedStart"]) == {"earliest", "latest"}
    assert x["estimatedStart"]["earliest"] < y["estimatedStart"]["earliest"]
    assert "nominalQuota" in x["wouldAdmit"]


async def test_a_local_queue_has_its_own_and_pages_are_cut(scene: Scene, pages: Pages) -> None:
    await _waiting(scene, pages, ("x", "a"), ("y", "b"), ("z", "b"))
    _, of_b = await pages.ask("/namespaces/default/localqueues/b/pendingworkloads")
    assert [item["metadata"]["name"] for item in of_b["items"]] == ["y", "z"]
    _, page = await pages.ask("/clusterqueues/team/pendingworkloads?offset=1&limit=1")
    assert [item["metadata"]["name"] for item in page["items"]] == ["y"]
    assert page["items"][0]["positionInClusterQueue"] == 1
    assert (await pages.ask("/clusterqueues/team/pendingworkloads?offset=9"))[1]["items"] == []


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/clusterqueues/absent/pendingworkloads", 404),
        ("/namespaces/default/localqueues/absent/pendingworkloads", 404),
        ("/clusterqueues/team/pendingworkloads?limit=-1", 400),
        ("/clusterqueues/team/pendingworkloads?offset=many", 400),
    ],
)
async def test_what_is_wrong_is_a_status(pages: Pages, path: str, code: int) -> None:
    status, found = await pages.ask(path)
    assert (status, found["kind"], found["code"]) == (code, "Status", code)


async def test_who_is_not_known_is_told_nothing(pages: Pages) -> None:
    status, found = await pages.ask("/clusterqueues/absent/pendingworkloads", token="wrong")
    assert (status, found["reason"]) == (401, "Unauthorized")


async def test_discovery_of_the_group(pages: Pages) -> None:
    _, found = await pages.ask("")
    assert [entry["name"] for entry in found["resources"]] == [
        "clusterqueues",
        "clusterqueues/pendingworkloads",
        "localqueues",
        "localqueues/pendingworkloads",
    ]
