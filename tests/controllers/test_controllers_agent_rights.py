"""Agents of accepted clusters get their rights once, and whoever takes over writes only what differs."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import yaml

from hub.api import names
from hub.api.errors import AlreadyExistsError, NotFoundError
from hub.api.resource import CLUSTER_ROLE_BINDINGS, CLUSTER_ROLES, ROLE_BINDINGS, Resource
from hub.api.wire import Listing
from hub.client.patcher import Patcher
from hub.controllers.agent_rights import AgentRights
from hub.controllers.metrics.all import HubMetrics
from hub.controllers.writes import Writes
from hub.registration.rights import agent_role

Json = dict[str, Any]
ROLES = Path(__file__).parents[2] / "manifests" / "hub" / "base" / "agent-roles.yaml"


class RbacApi:
    """Keeps objects; `namespaces` are those in which something can be made. `serves` False: an API without RBAC."""

    def __init__(self, serves: bool = True) -> None:
        self.objects: dict[tuple[Resource, str, str], Json] = {}
        self.namespaces: set[str] = set()
        self.serves = serves
        self.sent: list[tuple[str, str, str]] = []

    async def list(self, resource: Resource, namespace: str | None = None, **selectors: str) -> Listing:
        if not self.serves:
            raise NotFoundError(404, {"message": "the server could not find the requested resource"})
        assert selectors["label_selector"] == names.AGENT_RIGHTS
        return Listing([obj for key, obj in self.objects.items() if key[0] is resource], "1")

    async def create(self, resource: Resource, obj: Json, namespace: str | None = None) -> Json:
        name = obj["metadata"]["name"]
        self.sent.append(("create", resource.plural, name))
        if namespace and namespace not in self.namespaces:
            raise NotFoundError(404, {"message": f'namespaces "{namespace}" not found'})
        if (resource, namespace or "", name) in self.objects:
            raise AlreadyExistsError(409, {"message": "already exists"})
        self.objects[resource, namespace or "", name] = obj
        return obj

    async def patch(self, resource: Resource, name: str, patch: Json, namespace: str | None = None, **_: Any) -> Json:
        self.sent.append(("patch", resource.plural, name))
        obj = self.objects[resource, namespace or "", name]
        obj.update(patch | {"metadata": obj["metadata"] | patch.get("metadata", {})})
        return obj


def cluster(name: str, accepted: bool = True, uid: str = "u1") -> Json:
    return {"metadata": {"name": name, "uid": uid}, "spec": {"hubAcceptsClient": accepted}}


async def settle(api: RbacApi, clusters: dict[str, Json], seconds: float = 0.3) -> None:
    writes = Writes(Patcher(api), lambda: True, HubMetrics().writes)  # type: ignore[arg-type]
    rights = AgentRights(api, writes, lambda: clusters, lambda: True)  # type: ignore[arg-type]
    running = asyncio.create_task(rights.run())
    quiet = 0
    for _ in range(400):
        before = len(api.sent)
        await asyncio.sleep(0.05)
        quiet = quiet + 1 if len(api.sent) == before else 0
        if quiet * 0.05 > seconds:
            break
    running.cancel()


async def test_an_accepted_cluster_gets_its_rights_and_another_none() -> None:
    api = RbacApi()
    api.namespaces = {"barn", "shed"}
    await settle(api, {"barn": cluster("barn"), "shed": cluster("shed", accepted=False)})
    assert sorted((kind.plural, space, name) for kind, space, name in api.objects) == [
        ("clusterrolebindings", "", "quarterdeck:cluster:barn"),
        ("clusterroles", "", "quarterdeck:cluster:barn"),
        ("rolebindings", "barn", "quarterdeck-agent"),
    ]
    role = api.objects[CLUSTER_ROLES, "", "quarterdeck:cluster:barn"]
    assert all(rule["resourceNames"] == ["barn"] for rule in role["rules"])
    assert role["metadata"]["ownerReferences"][0]["uid"] == "u1"
    binding = api.objects[ROLE_BINDINGS, "barn", "quarterdeck-agent"]
    assert {subject["name"] for subject in binding["subjects"]} == {"system:open-cluster-management:barn", "agent"}


async def test_who_takes_over_writes_nothing_that_is_there_and_mends_what_differs() -> None:
    api = RbacApi()
    api.namespaces = {"barn"}
    await settle(api, {"barn": cluster("barn")})
    api.sent.clear()
    await settle(api, {"barn": cluster("barn")})
    assert api.sent == []
    api.objects[CLUSTER_ROLES, "", "quarterdeck:cluster:barn"]["rules"] = []
    api.objects[CLUSTER_ROLE_BINDINGS, "", "quarterdeck:cluster:barn"]["subjects"] = []
    await settle(api, {"barn": cluster("barn", uid="u2")})
    assert sorted(api.sent) == [
        ("patch", "clusterrolebindings", "quarterdeck:cluster:barn"),
        ("patch", "clusterroles", "quarterdeck:cluster:barn"),
    ]
    assert api.objects[CLUSTER_ROLES, "", "quarterdeck:cluster:barn"]["rules"]
    owners = api.objects[CLUSTER_ROLES, "", "quarterdeck:cluster:barn"]["metadata"]["ownerReferences"]
    assert owners[0]["uid"] == "u2"


async def test_a_namespace_that_comes_late_is_waited_for() -> None:
    api = RbacApi()
    asyncio.get_running_loop().call_later(0.5, api.namespaces.add, "barn")
    await settle(api, {"barn": cluster("barn")}, seconds=1.5)
    assert (ROLE_BINDINGS, "barn", "quarterdeck-agent") in api.objects


async def test_an_api_without_rbac_is_left_alone() -> None:
    api = RbacApi(serves=False)
    await settle(api, {"barn": cluster("barn")})
    assert api.sent == []


def test_the_role_in_the_manifests_is_the_one_that_is_bound() -> None:
    files = {obj["metadata"]["name"]: obj for obj in yaml.safe_load_all(ROLES.read_text())}
    ours = agent_role()
    written = files[ours["metadata"]["name"]]

    def plain(rules: list[Json]) -> set[tuple[str, ...]]:
        return {
            (group, resource, verb, *rule.get("resourceNames", ()))
            for rule in rules
            for group in rule["apiGroups"]
            for resource in rule["resources"]
            for verb in rule["verbs"]
        }

    assert plain(written["rules"]) == plain(ours["rules"])
