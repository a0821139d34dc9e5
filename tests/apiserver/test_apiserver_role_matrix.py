"""What an agent may do on the hub, tried: everything of its own namespace that it needs, nothing of anybody else's.

And what people need besides a verb: accepting a cluster, moving it into a set, binding a set, executing as somebody.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from hub.api.installed import installed_crds
from hub.api.resource import CLUSTER_ROLES
from hub.apiserver import ApiServer, serve
from hub.cli.up.access import let_sites_join
from hub.registration.rights import agent_rights, agent_role

CLUSTERS = "/apis/cluster.open-cluster-management.io/v1/managedclusters"
WORKS = "/apis/work.open-cluster-management.io/v1/namespaces/{}/manifestworks"
RBAC = "/apis/rbac.authorization.k8s.io/v1"
MERGE = "application/merge-patch+json"
Send = Callable[..., Awaitable[tuple[int, Any]]]


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[ApiServer]:
    tokens = tmp_path / "tokens.json"
    known: dict[str, Any] = {"admin": {"user": "root", "groups": ["system:masters"]}, "bob": {"user": "bob"}}
    for name in ("ash", "oak"):
        groups = [f"system:open-cluster-management:{name}", "system:open-cluster-management:managed-clusters"]
        known[name] = {"user": f"system:open-cluster-management:{name}:agent", "groups": groups}
    tokens.write_text(json.dumps(known))
    async with serve(tmp_path / "api", tokens=tokens, crds=installed_crds()) as server:
        await server.in_process().create(CLUSTER_ROLES, agent_role())
        await let_sites_join(server.in_process(), ["ash", "oak"])
        yield server


@pytest.fixture
async def send(server: ApiServer) -> AsyncIterator[Send]:
    async with aiohttp.ClientSession() as client:

        async def request(
            who: str, method: str, path: str, body: Any = None, *, kind: str = "application/json"
        ) -> tuple[int, Any]:
            headers = {"Authorization": f"Bearer {who}", "Content-Type": kind}
            data = None if body is None else json.dumps(body)
            async with client.request(method, server.url + path, data=data, headers=headers) as answer:
                text = await answer.text()
                return answer.status, json.loads(text) if text.startswith("{") else text

        yield request


async def let_in(server: ApiServer, send: Send, name: str) -> None:
    assert (await send(name, "POST", CLUSTERS, {"metadata": {"name": name}, "spec": {}}))[0] == 201
    code, made = await send("admin", "PATCH", f"{CLUSTERS}/{name}", {"spec": {"hubAcceptsClient": True}}, kind=MERGE)
    assert code == 200
    # What the hub gives, and what a local fleet gives beforehand, is the same.
    for resource, obj in agent_rights(made):
        path = resource.path(obj["metadata"].get("namespace"), obj["metadata"]["name"])
        code, found = await send("admin", "GET", path)
        assert code == 200
        for part in ("rules", "roleRef", "subjects"):
            assert json.dumps(found.get(part), sort_keys=True) == json.dumps(obj.get(part), sort_keys=True)


async def test_an_agent_makes_its_own_cluster_and_cannot_let_itself_in(send: Send) -> None:
    code, said = await send("ash", "POST", CLUSTERS, {"metadata": {"name": "oak"}, "spec": {}})
    assert (code, "agent of another cluster" in said["message"]) == (403, True)
    code, said = await send("ash", "POST", CLUSTERS, {"metadata": {"name": "ash"}, "spec": {"hubAcceptsClient": True}})
    assert (code, "accept" in said["message"]) == (403, True)
    body = {
        "metadata": {"name": "ash", "labels": {"cluster.open-cluster-management.io/clusterset": "secret"}},
        "spec": {},
    }
    code, said = await send("ash", "POST", CLUSTERS, body)
    assert (code, "secret" in said["message"]) == (403, True)
    assert (await send("ash", "POST", CLUSTERS, {"metadata": {"name": "ash"}, "spec": {}}))[0] == 201


async def test_the_role_matrix_of_agents(server: ApiServer, send: Send) -> None:
    for name in ("ash", "oak"):
        await let_in(server, send, name)
    work = {
        "metadata": {"name": "w"},
        "spec": {"workload": {"manifests": [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}}]}},
    }
    for name in ("ash", "oak"):
        assert (await send("admin", "POST", WORKS.format(name), work))[0] == 201
    # Its own: what the loop needs.
    own = WORKS.format("ash")
    assert (await send("ash", "GET", own))[0] == 200
    assert (await send("ash", "GET", f"{own}?watch=1&timeoutSeconds=1&resourceVersion=0"))[0] == 200
    assert (await send("ash", "PATCH", f"{own}/w", {"metadata": {"finalizers": ["a.b/c"]}}, kind=MERGE))[0] == 200
    assert (await send("ash", "PATCH", f"{own}/w/status", {"status": {"conditions": []}}, kind=MERGE))[0] == 200
    assert (await send("ash", "GET", f"{CLUSTERS}?fieldSelector=metadata.name%3Dash"))[0] == 200
    assert (await send("ash", "PATCH", f"{CLUSTERS}/ash/status", {"status": {"conditions": []}}, kind=MERGE))[0] == 200
    # Everything that is served, in every other place.
    _, groups = await send("admin", "GET", "/apis")
    documents = ["/api/v1"] + [
        f"/apis/{version['groupVersion']}" for group in groups["groups"] for version in group["versions"]
    ]
    reached = []
    for document in documents:
        _, listed = await send("admin", "GET", document)
        for resource in listed["resources"]:
            plural = resource["name"]
            if "/" in plural or "list" not in resource["verbs"]:
                continue
            paths = [f"{document}/{plural}", f"{document}/{plural}/oak"]
            if resource["namespaced"]:
                inside = f"{document}/namespaces/{{}}/{plural}"
                paths = [f"{document}/{plural}"]
                for namespace in ("oak", "default", "kube-system"):
                    paths += [inside.format(namespace), f"{inside.format(namespace)}/w"]
            for path in paths:
                for method in ("GET", "POST", "PUT", "PATCH", "DELETE"):
                    if method == "POST" and path == CLUSTERS:
                        continue
                    code, _ = await send(
                        "ash", method, path, {}, kind=MERGE if method == "PATCH" else "application/json"
                    )
                    if code not in (403, 405):
                        reached.append((method, path, code))
    assert reached == []
    # In its own namespace, too, it has no use for most of it.
    for path in ("secrets", "configmaps", "pods", "serviceaccounts"):
        assert (await send("ash", "GET", f"/api/v1/namespaces/ash/{path}"))[0] == 403
    assert (await send("ash", "POST", own, work))[0] == 403
    assert (await send("ash", "DELETE", f"{own}/w"))[0] == 403
    assert (await send("ash", "POST", f"{RBAC}/namespaces/ash/rolebindings", {}))[0] == 403


async def test_accepting_joining_binding_and_executing_take_rights_of_their_own(server: ApiServer, send: Send) -> None:
    sets = "/apis/cluster.open-cluster-management.io/v1beta2"
    group = "rbac.authorization.k8s.io"
    await send("admin", "POST", CLUSTERS, {"metadata": {"name": "ash"}, "spec": {}})
    rules: list[dict[str, Any]] = [
        {"verbs": ["*"], "apiGroups": ["cluster.open-cluster-management.io"], "resources": ["*"], "resourceNames": []},
        {"verbs": ["create"], "apiGroups": ["work.open-cluster-management.io"], "resources": ["manifestworks"]},
    ]
    # All of the group, so joining and binding, too: take that away again.
    rules[0]["resources"] = ["managedclusters", "managedclustersetbindings"]
    await send("admin", "POST", f"{RBAC}/clusterroles", {"metadata": {"name": "r"}, "rules": rules})
    subject = {"kind": "User", "name": "bob", "apiGroup": group}
    reference = {"kind": "ClusterRole", "name": "r"}
    binding = {"metadata": {"name": "r"}, "roleRef": reference, "subjects": [subject]}
    await send("admin", "POST", f"{RBAC}/clusterrolebindings", binding)
    label = {"metadata": {"labels": {"cluster.open-cluster-management.io/clusterset": "blue"}}}
    bind = {"metadata": {"name": "blue"}, "spec": {"clusterSet": "blue"}}
    subject_of_work = {"type": "ServiceAccount", "serviceAccount": {"namespace": "x", "name": "y"}}
    work = {
        "metadata": {"name": "w"},
        "spec": {
            "executor": {"subject": subject_of_work},
            "workload": {"manifests": [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}}]},
        },
    }
    attempts = [
        ("PATCH", f"{CLUSTERS}/ash", {"spec": {"hubAcceptsClient": True}}),
        ("PATCH", f"{CLUSTERS}/ash", label),
        ("POST", f"{sets}/namespaces/default/managedclustersetbindings", bind),
        ("POST", WORKS.format("default"), work),
    ]
    for method, path, body in attempts:
        code, said = await send("bob", method, path, body, kind=MERGE if method == "PATCH" else "application/json")
        assert code == 403, said
    more = [
        {
            "verbs": ["update"],
            "apiGroups": ["register.open-cluster-management.io"],
            "resources": ["managedclusters/accept"],
        },
        {
            "verbs": ["create"],
            "apiGroups": ["cluster.open-cluster-management.io"],
            "resources": ["managedclustersets/join", "managedclustersets/bind"],
            "resourceNames": ["blue", "default"],
        },
        {
            "verbs": ["execute-as"],
            "apiGroups": ["work.open-cluster-management.io"],
            "resources": ["manifestworks"],
            "resourceNames": ["system:serviceaccount:x:y"],
        },
    ]
    await send("admin", "PATCH", f"{RBAC}/clusterroles/r", {"rules": rules + more}, kind=MERGE)
    for method, path, body in attempts:
        code, said = await send("bob", method, path, body, kind=MERGE if method == "PATCH" else "application/json")
        assert code in (200, 201), said
