"""The hub's pages about itself: OCM's debug endpoint with who may ask first, and what `explain` ranks clusters with."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from controllers_scene import Scene, until

from hub.api import names
from hub.api.resource import (
    LEASES,
    MANAGED_CLUSTER_SET_BINDINGS,
    MANAGED_CLUSTERS,
    PLACEMENT_DECISIONS,
    PLACEMENTS,
    Resource,
)
from hub.apiserver.server import ApiServer
from hub.client.interface import Object
from hub.client.session import Session
from hub.controllers.debug_server import DebugPages
from hub.controllers.hub import Hub
from hub.controllers.metrics_server import MetricsServer
from hub.controllers.permission import Permission

Json = dict[str, Any]


class Rules:
    """The API's reviews with somebody in front who says who may do what. Everything asked is kept."""

    def __init__(self, api: Session) -> None:
        self._api = api
        self.asked: list[Json] = []
        self.allowed = True
        self.broken = False

    async def create(
        self, resource: Resource, obj: Object, namespace: str | None = None, *, dry_run: bool = False
    ) -> Object:
        answer = await self._api.create(resource, obj, namespace)
        if resource.kind == "SubjectAccessReview":
            if self.broken:
                return await self._api.create(Resource("", "v1", "Nothing", "nothings", False), obj)
            self.asked.append(obj["spec"])
            answer["status"]["allowed"] = self.allowed
        return answer


class Pages:
    def __init__(self, url: str, token: str, hub: Hub, rules: Rules) -> None:
        self.url, self.token, self.hub, self.rules = url, token, hub, rules

    async def ask(self, path: str, body: Any = None, *, token: str | None = None) -> tuple[int, Any]:
        secret = self.token if token is None else token
        headers = {"Authorization": f"Bearer {secret}"} if secret else {}
        async with aiohttp.ClientSession(headers=headers) as http:
            method = "GET" if body is None else "POST"
            data = body if isinstance(body, bytes) else None
            json = None if isinstance(body, bytes) else body
            async with http.request(method, f"{self.url}{path}", data=data, json=json) as answer:
                return answer.status, await answer.json()


@pytest.fixture
async def pages(scene: Scene, api_server: ApiServer, api: Session) -> AsyncIterator[Pages]:
    hub = await scene.hub()
    rules = Rules(api)
    permission = Permission(rules)  # type: ignore[arg-type]  # it creates reviews, and nothing else
    async with MetricsServer(
        "127.0.0.1:0", hub.metrics.registry, lambda: None, lambda: "", DebugPages(hub, permission).routes
    ) as server:
        yield Pages(server.url, api_server.token, hub, rules)


async def fleet(scene: Scene) -> None:
    for name, region, taints, cpu in (
        ("a", "eu", [], "4"),
        ("b", "eu", [], "8"),
        ("c", "eu", [{"key": "drain", "effect": "NoSelect"}], "9"),
        ("d", "us", [], "9"),
    ):
        obj = {
            "apiVersion": MANAGED_CLUSTERS.api_version,
            "kind": "ManagedCluster",
            "metadata": {"name": name, "labels": {"region": region}},
            "spec": {"hubAcceptsClient": True, "taints": taints},
        }
        await scene.api.create(MANAGED_CLUSTERS, obj)
        total = {"cpu": cpu, "memory": "1Gi"}
        status = {"status": {"allocatable": total, "capacity": total}}
        await scene.api.patch(MANAGED_CLUSTERS, name, status, subresource="status")
    binding = {
        "apiVersion": MANAGED_CLUSTER_SET_BINDINGS.api_version,
        "kind": "ManagedClusterSetBinding",
        "metadata": {"name": "default", "namespace": "default"},
        "spec": {"clusterSet": "default"},
    }
    await scene.api.create(MANAGED_CLUSTER_SET_BINDINGS, binding, "default")


def placement(name: str = "p", **spec: Any) -> Json:
    eu = {"requiredClusterSelector": {"labelSelector": {"matchLabels": {"region": "eu"}}}}
    policy = {
        "mode": "Exact",
        "configurations": [
            {"scoreCoordinate": {"builtIn": "ResourceAllocatableCPU"}, "weight": 2},
            {"scoreCoordinate": {"builtIn": "Steady"}, "weight": 1},
            {"scoreCoordinate": {"builtIn": "Balance"}, "weight": 1},
        ],
    }
    return {
        "apiVersion": PLACEMENTS.api_version,
        "kind": "Placement",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"numberOfClusters": 1, "predicates": [eu], "prioritizerPolicy": policy, **spec},
    }


async def decided(scene: Scene, name: str, *clusters: str) -> None:
    async def is_so() -> bool:
        selector = f"{names.PLACEMENT}={name}"
        found = (await scene.api.list(PLACEMENT_DECISIONS, "default", label_selector=selector)).items
        listed = [e["clusterName"] for d in found for e in (d.get("status") or {}).get("decisions") or ()]
        return listed == list(clusters)

    await until(is_so, what=f"{name} on {clusters}")


async def test_a_placement_as_it_is_and_one_that_is_nowhere(scene: Scene, pages: Pages) -> None:
    await fleet(scene)
    await scene.api.create(PLACEMENTS, placement(), "default")
    await decided(scene, "p", "b")
    status, found = await pages.ask("/debug/placements/default/p")
    assert status == 200
    assert found["placement"]["metadata"]["name"] == "p"
    assert {key: value for key, value in found.items() if key != "placement"} == {
        "filteredPipelineResults": [
            {"name": "Predicate", "filteredClusters": ["a", "b", "c"]},
            {"name": "Predicate,TaintToleration", "filteredClusters": ["a", "b"]},
        ],
        "prioritizeResults": [
            {"name": "Balance", "weight": 1, "scores": {"a": 100, "b": 100}},
            {"name": "ResourceAllocatableCPU", "weight": 2, "scores": {"a": -100, "b": 100}},
            {"name": "Steady", "weight": 1, "scores": {"a": 0, "b": 100}},
        ],
        "aggregatedScores": [{"clusterName": "b", "score": 400}, {"clusterName": "a", "score": -100}],
    }
    # One that is only asked about: what p has chosen counts, and it has chosen nothing itself.
    status, what_if = await pages.ask("/debug/placements/", placement("q"))
    assert status == 200
    assert what_if["prioritizeResults"][0]["scores"] == {"a": 100, "b": -100}
    assert what_if["aggregatedScores"][0] == {"clusterName": "b", "score": 100}
    assert [rule["resourceAttributes"] for rule in pages.rules.asked] == [
        {
            "verb": "get",
            "group": PLACEMENTS.group,
            "version": "v1beta1",
            "resource": "placements",
            "namespace": "default",
            "name": "p",
        },
        {
            "verb": "create",
            "group": PLACEMENTS.group,
            "version": "v1beta1",
            "resource": "placements",
            "namespace": "default",
        },
    ]
    assert pages.rules.asked[0]["user"] == "admin"
    assert (await scene.api.list(PLACEMENTS, "default")).items[1:] == []


async def test_why_nothing_could_be_decided_is_said(scene: Scene, pages: Pages) -> None:
    """Defect 14: there a Placement that cannot be read shows empty results and no error."""
    await fleet(scene)
    status, found = await pages.ask("/debug/placements", placement(prioritizerPolicy={"mode": "Bogus"}))
    assert status == 200
    assert found["error"].startswith("spec.prioritizerPolicy.mode: 'Bogus' is not a mode")
    status, found = await pages.ask("/debug/placements", placement(clusterSets=["other"]))
    assert found["error"] == "None of ManagedClusterSets [other] is bound to placement namespace"
    assert "filteredPipelineResults" not in found


async def test_who_may_not_ask_learns_nothing(scene: Scene, pages: Pages) -> None:
    """Defect 14: there a Placement that is missing is a 404 before anybody looks whether the caller may know."""
    await fleet(scene)
    await scene.api.create(PLACEMENTS, placement(), "default")
    await decided(scene, "p", "b")
    pages.rules.allowed = False
    there = await pages.ask("/debug/placements/default/p")
    absent = await pages.ask("/debug/placements/default/q")
    assert there[0] == absent[0] == 403
    assert there[1] == absent[1]
    assert there[1]["error"].startswith(f"admin may not get placements.{PLACEMENTS.group} in namespace default")
    assert (await pages.ask("/debug/placements/", placement()))[0] == 403
    assert (await pages.ask("/debug/state"))[0] == 403
    pages.rules.allowed = True
    assert (await pages.ask("/debug/placements/default/q"))[0] == 404
    asked = len(pages.rules.asked)
    for token in ("", "wrong"):
        status, found = await pages.ask("/debug/placements/default/p", token=token)
        assert status == 401
        assert "token" in found["error"]
    # Nobody is asked what nobody may do, and nothing is allowed in no namespace.
    nowhere = placement()
    del nowhere["metadata"]["namespace"]
    assert (await pages.ask("/debug/placements/", nowhere))[0] == 400
    assert len(pages.rules.asked) == asked
    pages.rules.broken = True
    status, found = await pages.ask("/debug/placements/default/p")
    assert status == 503
    assert "SubjectAccessReview" in found["error"]


@pytest.mark.parametrize(
    ("body", "code", "words"),
    [
        (b"{", 400, "not JSON"),
        (b"[]", 400, "no JSON object"),
        (b"[" + b" " * (1 << 20) + b"]", 413, "larger than 1 MiB"),
    ],
)
async def test_bodies_that_are_none(pages: Pages, body: bytes, code: int, words: str) -> None:
    status, found = await pages.ask("/debug/placements/", body)
    assert status == code
    assert words in found["error"]
    assert (await pages.ask("/debug/state", {"shapes": [{}] * 9}))[0] == 400
    assert (await pages.ask("/debug/state", {"shapes": [{"requests": "x"}]}))[0] == 400


async def test_what_a_score_that_is_missing_counts_is_in_the_sums(scene: Scene, pages: Pages) -> None:
    await fleet(scene)
    addon = {"scoreCoordinate": {"type": "AddOn", "addOn": {"resourceName": "r", "scoreName": "s"}}, "weight": -2}
    policy = {"mode": "Exact", "configurations": [addon]}
    status, found = await pages.ask("/debug/placements/", placement(prioritizerPolicy=policy))
    assert status == 200
    assert found["prioritizeResults"] == [{"name": "AddOn/r/s", "weight": -2, "scores": {"a": 101, "b": 101}}]
    assert found["aggregatedScores"] == [{"clusterName": "a", "score": -202}, {"clusterName": "b", "score": -202}]
    excluding = placement(prioritizerPolicy=policy)
    excluding["metadata"]["annotations"] = {names.MISSING_SCORE: "Exclude"}
    status, found = await pages.ask("/debug/placements/", excluding)
    assert found["filteredPipelineResults"][2] == {
        "name": "Predicate,TaintToleration,MissingScore",
        "filteredClusters": [],
    }
    assert "aggregatedScores" not in found


async def test_the_lease_says_where_the_leader_answers(scene: Scene) -> None:
    hub = await scene.hub(wait=False)
    hub.announce("http://127.0.0.1:4711")
    await hub.leading.wait()
    lease = await scene.api.get(LEASES, names.HUB_LEASE, names.HUB_NAMESPACE)
    assert lease["metadata"]["annotations"][names.DEBUG_URL] == "http://127.0.0.1:4711"
