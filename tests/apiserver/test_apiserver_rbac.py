"""Who may do what: roles, bindings, aggregation, and that nobody gives what they do not have, over HTTP."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.apiserver import ApiServer, serve
from hub.apiserver.permissions import EVERYTHING, Permissions, Rule, not_covered, parse_rules

RBAC = "/apis/rbac.authorization.k8s.io/v1"
MAPS = "/api/v1/namespaces/default/configmaps"
Send = Callable[..., Awaitable[tuple[int, Any]]]
GROUP = "rbac.authorization.k8s.io"


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[ApiServer]:
    tokens = tmp_path / "tokens.json"
    known = {
        "admin": {"user": "root", "groups": ["system:masters"]},
        "bob": {"user": "bob", "groups": ["devs"]},
        "eve": {"user": "eve", "groups": []},
        "narrow": {"user": "root", "groups": ["system:masters"], "scopes": ["role:view@default"]},
        "past": {"user": "root", "groups": ["system:masters"], "expires": "2020-01-01T00:00:00Z"},
        "future": {"user": "root", "groups": ["system:masters"], "expires": "2999-01-01T00:00:00Z"},
    }
    tokens.write_text(json.dumps(known))
    async with serve(tmp_path / "api", tokens=tokens) as server:
        yield server


@pytest.fixture
async def send(server: ApiServer) -> AsyncIterator[Send]:
    async with aiohttp.ClientSession() as client:

        async def request(
            who: str, method: str, path: str, body: Any = None, *, kind: str = "application/json", **more: str
        ) -> tuple[int, Any]:
            headers = {"Authorization": f"Bearer {who}", "Content-Type": kind}
            headers |= {name.replace("_", "-"): value for name, value in more.items()}
            data = None if body is None else json.dumps(body)
            async with client.request(method, server.url + path, data=data, headers=headers) as answer:
                text = await answer.text()
                return answer.status, json.loads(text) if text.startswith("{") else text

        yield request


def rule(verbs: str, resources: str, group: str = "", names: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {"verbs": verbs.split(), "apiGroups": [group], "resources": resources.split()}
    return found | ({"resourceNames": names.split()} if names else {})


async def grant(send: Send, subject: str, *rules: dict[str, Any], namespace: str = "") -> None:
    """A role of `rules` for one user or, with a `:`, group; in `namespace`, or everywhere."""
    kind, _, name = subject.rpartition(":")
    reference = {"kind": "Role" if namespace else "ClusterRole", "name": f"of-{name}", "apiGroup": GROUP}
    subjects = [{"kind": kind or "User", "name": name, "apiGroup": GROUP}]
    where = f"{RBAC}/namespaces/{namespace}/" if namespace else f"{RBAC}/cluster"
    code, said = await send("admin", "POST", f"{where}roles", {"metadata": {"name": f"of-{name}"}, "rules": rules})
    assert code == 201, said
    body = {"metadata": {"name": f"of-{name}"}, "roleRef": reference, "subjects": subjects}
    code, said = await send("admin", "POST", f"{where}rolebindings", body)
    assert code == 201, said


async def test_nobody_may_do_anything_that_no_role_allows(send: Send) -> None:
    code, said = await send("eve", "GET", MAPS)
    assert code == 403
    assert said["message"] == (
        'configmaps is forbidden: User "eve" cannot list resource "configmaps" in API group "" '
        'in the namespace "default"'
    )
    assert (await send("eve", "GET", "/apis/nobody.dev/v1/things"))[0] == 403
    assert (await send("admin", "GET", "/apis/nobody.dev/v1/things"))[0] == 404
    code, said = await send("eve", "GET", "/metrics")
    assert (code, said["message"]) == (403, 'forbidden: User "eve" cannot get path "/metrics"')
    for path in ("/api", "/apis", "/apis/batch/v1", "/openapi/v3", "/version"):
        assert (await send("eve", "GET", path))[0] == 200
    assert (await send("eve", "POST", "/clusters/x/api/v1/namespaces", {"metadata": {"name": "n"}}))[0] == 403


async def test_a_role_holds_in_its_namespace_and_a_change_holds_at_once(send: Send) -> None:
    await grant(send, "bob", rule("get list watch create", "configmaps"), namespace="default")
    assert (await send("bob", "POST", MAPS, {"metadata": {"name": "a"}}))[0] == 201
    assert (await send("bob", "GET", f"{MAPS}/a"))[0] == 200
    assert (await send("bob", "DELETE", f"{MAPS}/a"))[0] == 403
    assert (await send("bob", "GET", MAPS.replace("default", "kube-system")))[0] == 403
    assert (await send("bob", "GET", "/api/v1/configmaps"))[0] == 403
    more = [rule("*", "configmaps")]
    patch = {"kind": "application/merge-patch+json"}
    assert (await send("admin", "PATCH", f"{RBAC}/namespaces/default/roles/of-bob", {"rules": more}, **patch))[0] == 200
    assert (await send("bob", "DELETE", f"{MAPS}/a"))[0] == 200
    assert (await send("admin", "DELETE", f"{RBAC}/namespaces/default/rolebindings/of-bob"))[0] == 200
    assert (await send("bob", "GET", MAPS))[0] == 403


async def test_names_groups_subresources_and_paths(send: Send) -> None:
    await grant(
        send,
        "Group:devs",
        rule("get list watch update", "configmaps", names="mine"),
        rule("update patch", "deployments/scale", "apps"),
        rule("get", "*/status", "*"),
        {"verbs": ["get"], "nonResourceURLs": ["/metrics", "/openid/*"]},
    )
    await send("admin", "POST", MAPS, {"metadata": {"name": "mine"}})
    await send("admin", "POST", MAPS, {"metadata": {"name": "other"}})
    assert (await send("bob", "GET", f"{MAPS}/mine"))[0] == 200
    assert (await send("bob", "GET", f"{MAPS}/other"))[0] == 403
    assert (await send("bob", "GET", MAPS))[0] == 403
    # Informers of one object list by its name.
    assert (await send("bob", "GET", f"{MAPS}?fieldSelector=metadata.name%3Dmine"))[0] == 200
    assert (await send("bob", "GET", f"{MAPS}?fieldSelector=metadata.name%3Dother"))[0] == 403
    assert (await send("bob", "GET", "/api/v1/namespaces/default/status"))[0] == 200
    assert (await send("bob", "GET", "/api/v1/namespaces/default"))[0] == 403
    apps = "/apis/apps/v1/namespaces/default/deployments/none"
    assert (await send("bob", "PUT", f"{apps}/scale", {}))[0] == 404
    assert (await send("bob", "PUT", apps, {}))[0] == 403
    assert (await send("bob", "GET", "/metrics"))[0] == 200
    assert (await send("bob", "GET", "/openid/v1/jwks"))[0] == 200
    assert (await send("eve", "GET", "/openid/v1/jwks"))[0] == 403


async def test_applying_what_is_not_there_takes_the_right_to_create(send: Send) -> None:
    await grant(send, "bob", rule("patch", "configmaps"), namespace="default")
    how = {"kind": "application/apply-patch+yaml"}
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}}
    code, said = await send("bob", "PATCH", f"{MAPS}/a?fieldManager=x", body, **how)
    assert code == 403
    assert "cannot create" in said["message"]


async def test_the_roles_of_kubernetes_are_there_and_put_together(send: Send, server: ApiServer) -> None:
    code, listed = await send("admin", "GET", f"{RBAC}/clusterroles")
    assert code == 200
    roles = {item["metadata"]["name"]: item for item in listed["items"]}
    assert {"cluster-admin", "admin", "edit", "view", "system:discovery", "system:basic-user"} <= roles.keys()
    rules = {name: parse_rules(roles[name]["rules"]) for name in ("admin", "edit", "view")}
    assert not not_covered(rules["admin"], rules["edit"])
    assert not not_covered(rules["edit"], rules["view"])
    assert not_covered(rules["view"], rules["edit"])
    label = {f"{GROUP}/aggregate-to-view": "true"}
    made = {"metadata": {"name": "more", "labels": label}, "rules": [rule("get", "widgets", "x.dev")]}
    assert (await send("admin", "POST", f"{RBAC}/clusterroles", made))[0] == 201

    async def has(name: str) -> bool:
        _, role = await send("admin", "GET", f"{RBAC}/clusterroles/{name}")
        return made["rules"][0] in role["rules"]

    for name in ("view", "edit", "admin"):
        async with asyncio.timeout(5):
            while not await has(name):
                await asyncio.sleep(0.01)
    await send("admin", "DELETE", f"{RBAC}/clusterroles/more")
    async with asyncio.timeout(5):
        while await has("admin"):
            await asyncio.sleep(0.01)


async def test_a_restart_brings_lost_rules_back_and_leaves_what_was_added(tmp_path: Path) -> None:
    path, extra = f"{RBAC}/clusterroles/system:basic-user", rule("get", "widgets", "x.dev")
    for turn in range(3):
        async with serve(tmp_path / "api") as server:
            headers = {"Authorization": f"Bearer {server.token}", "Content-Type": "application/merge-patch+json"}
            async with aiohttp.ClientSession(server.url, headers=headers) as client:
                found = await (await client.get(path)).json()
                changed = {"rules": [extra]} if turn == 0 else {}
                if turn == 1:
                    assert extra in found["rules"]
                    assert len(found["rules"]) > 1
                    version = found["metadata"]["resourceVersion"]
                    continue
                if turn == 2:
                    assert found["metadata"]["resourceVersion"] == version
                    continue
                await (await client.patch(path, data=json.dumps(changed))).read()


async def test_nobody_grants_what_they_do_not_have(send: Send) -> None:
    writes = rule("create update patch delete get", "roles rolebindings clusterroles clusterrolebindings", GROUP)
    await grant(send, "bob", writes, rule("get", "configmaps"))
    roles, bindings = (f"{RBAC}/namespaces/default/{plural}" for plural in ("roles", "rolebindings"))
    fine = {"metadata": {"name": "fine"}, "rules": [rule("get", "configmaps", names="a b")]}
    assert (await send("bob", "POST", roles, fine))[0] == 201
    more = {"metadata": {"name": "more"}, "rules": [rule("get list", "configmaps"), rule("get", "secrets")]}
    code, said = await send("bob", "POST", roles, more)
    assert code == 403
    assert 'APIGroups:[""], Resources:["secrets"], Verbs:["get"]' in said["message"]
    assert 'Verbs:["list"]' in said["message"]
    how = {"kind": "application/merge-patch+json"}
    assert (await send("bob", "PATCH", f"{roles}/fine", {"rules": more["rules"]}, **how))[0] == 403
    assert (await send("bob", "PATCH", f"{roles}/fine", {"metadata": {"labels": {"a": "b"}}}, **how))[0] == 200
    subject = {"kind": "User", "name": "bob", "apiGroup": GROUP}

    def bind(role: str, name: str) -> dict[str, Any]:
        kind = "Role" if role == "fine" else "ClusterRole"
        return {"metadata": {"name": name}, "roleRef": {"kind": kind, "name": role}, "subjects": [subject]}

    assert (await send("bob", "POST", bindings, bind("fine", "f")))[0] == 201
    assert (await send("bob", "POST", bindings, bind("cluster-admin", "c")))[0] == 403
    assert (await send("bob", "POST", f"{RBAC}/clusterrolebindings", bind("cluster-admin", "c")))[0] == 403
    assert (await send("bob", "POST", bindings, bind("missing", "m")))[0] == 404
    aggregated = {"metadata": {"name": "a"}, "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {"x": "y"}}]}}
    assert (await send("bob", "POST", f"{RBAC}/clusterroles", aggregated))[0] == 403
    # What bind and escalate are for.
    await send(
        "admin",
        "PATCH",
        f"{RBAC}/clusterroles/of-bob",
        {
            "rules": [
                writes,
                rule("bind", "clusterroles", GROUP, "view"),
                rule("escalate", "roles", GROUP),
            ]
        },
        **how,
    )
    assert (await send("bob", "POST", bindings, bind("view", "v")))[0] == 201
    assert (await send("bob", "POST", bindings, bind("edit", "e")))[0] == 403
    assert (await send("bob", "POST", roles, more))[0] == 201


async def test_a_bindings_role_cannot_be_changed_and_nonsense_is_refused_by_field(send: Send) -> None:
    path = f"{RBAC}/namespaces/default/rolebindings"
    body = {"metadata": {"name": "b"}, "roleRef": {"kind": "ClusterRole", "name": "view"}, "subjects": []}
    code, made = await send("admin", "POST", path, body)
    assert (code, made["roleRef"]["apiGroup"]) == (201, GROUP)
    code, said = await send("admin", "PUT", f"{path}/b", body | {"roleRef": {"kind": "ClusterRole", "name": "edit"}})
    assert (code, said["details"]["causes"][0]["field"]) == (422, "roleRef")
    wrong = [
        ({"roleRef": {"kind": "Nothing", "name": "x"}}, "roleRef.kind"),
        ({"subjects": [{"kind": "ServiceAccount", "name": "x", "apiGroup": "y"}]}, "subjects[0].apiGroup"),
        ({"subjects": [{"kind": "Cat", "name": "x"}]}, "subjects[0].kind"),
    ]
    for change, field in wrong:
        code, said = await send("admin", "POST", path, body | {"metadata": {"name": "c"}} | change)
        assert (code, said["details"]["causes"][0]["field"]) == (422, field)
    for bad, field in (
        ({"verbs": []}, "rules[0].verbs"),
        ({"verbs": ["get"], "apiGroups": [""]}, "rules[0].resources"),
    ):
        code, said = await send("admin", "POST", f"{RBAC}/clusterroles", {"metadata": {"name": "r"}, "rules": [bad]})
        assert code == 422
        assert field in [cause["field"] for cause in said["details"]["causes"]]


async def test_tokens_are_limited_by_scopes_and_time(send: Send) -> None:
    assert (await send("narrow", "GET", MAPS))[0] == 200
    assert (await send("narrow", "POST", MAPS, {"metadata": {"name": "a"}}))[0] == 403
    assert (await send("narrow", "GET", MAPS.replace("default", "kube-system")))[0] == 403
    assert (await send("narrow", "GET", "/api/v1/namespaces/default/secrets"))[0] == 403
    assert (await send("narrow", "GET", "/apis"))[0] == 200
    assert (await send("past", "GET", MAPS))[0] == 401
    assert (await send("future", "GET", MAPS))[0] == 200


async def test_acting_as_somebody_else(send: Send) -> None:
    who = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    code, seen = await send(
        "admin",
        "POST",
        who,
        body,
        Impersonate_User="jane",
        Impersonate_Group="devs",
        Impersonate_Uid="7",
        Impersonate_Extra_Why="test",
    )
    assert code == 201
    assert seen["status"]["userInfo"] == {
        "username": "jane",
        "uid": "7",
        "groups": ["devs", "system:authenticated"],
        "extra": {"why": ["test"]},
    }
    account = "system:serviceaccount:default:robot"
    _, seen = await send("admin", "POST", who, body, Impersonate_User=account)
    assert "system:serviceaccounts:default" in seen["status"]["userInfo"]["groups"]
    assert (await send("admin", "GET", MAPS, Impersonate_User="jane"))[0] == 403
    code, said = await send("eve", "GET", MAPS, Impersonate_User="root")
    assert code == 403
    assert said["message"] == (
        'users "root" is forbidden: User "eve" cannot impersonate resource "users" in API group "" at the cluster scope'
    )
    await grant(send, "eve", rule("impersonate", "users", names="bob"))
    assert (await send("eve", "POST", who, body, Impersonate_User="bob"))[0] == 201
    code, said = await send("eve", "POST", who, body, Impersonate_User="bob", Impersonate_Group="system:masters")
    assert code == 403
    assert (await send("admin", "GET", MAPS, Impersonate_Group="system:masters"))[0] == 400
    # What a token is limited to goes with it.
    assert (await send("narrow", "POST", MAPS, {"metadata": {"name": "z"}}, Impersonate_User="root"))[0] == 403


async def test_reviews_answer_as_the_server_would(send: Send) -> None:
    await grant(send, "bob", rule("get", "configmaps"), namespace="default")

    async def review(who: str, kind: str, spec: dict[str, Any], where: str = "") -> tuple[int, Any]:
        path = f"/apis/authorization.k8s.io/v1/{where}{kind.lower()}s"
        return await send(who, "POST", path, {"kind": kind, "apiVersion": "authorization.k8s.io/v1", "spec": spec})

    def about(verb: str, namespace: str = "default") -> dict[str, Any]:
        return {"resourceAttributes": {"verb": verb, "resource": "configmaps", "namespace": namespace}}

    for verb, namespace, allowed in (("get", "default", True), ("list", "default", False), ("get", "", False)):
        _, own = await review("bob", "SelfSubjectAccessReview", about(verb, namespace))
        _, asked = await review("admin", "SubjectAccessReview", about(verb, namespace) | {"user": "bob"})
        assert (own["status"]["allowed"], asked["status"]["allowed"]) == (allowed, allowed)
    assert (await review("bob", "SubjectAccessReview", about("get") | {"user": "eve"}))[0] == 403
    local = about("get") | {"user": "bob"}
    code, said = await review("admin", "LocalSubjectAccessReview", local, "namespaces/default/")
    assert (code, said["status"]["allowed"]) == (201, True)
    assert (await review("admin", "LocalSubjectAccessReview", local, "namespaces/kube-system/"))[0] == 422
    assert (await review("admin", "SubjectAccessReview", about("get")))[0] == 422
    assert (await review("admin", "SubjectAccessReview", {"user": "bob"}))[0] == 422
    _, said = await review("bob", "SelfSubjectAccessReview", about("get"))
    assert said["status"]["reason"] == 'RBAC: allowed by RoleBinding "of-bob/default" of Role "of-bob" to User "bob"'
    path = {"nonResourceAttributes": {"verb": "get", "path": "/apis"}}
    _, said = await review("bob", "SelfSubjectAccessReview", path)
    assert said["status"]["allowed"] is True
    _, said = await review("bob", "SelfSubjectRulesReview", {"namespace": "default"})
    assert {"verbs": ["get"], "apiGroups": [""], "resources": ["configmaps"]} in said["status"]["resourceRules"]
    _, said = await review("narrow", "SelfSubjectRulesReview", {"namespace": "kube-system"})
    assert all("secrets" not in found["resources"] for found in said["status"]["resourceRules"])


# As a model: what single rules say, and what they cover.

WORDS = st.sampled_from(["*", "a", "b"])
SETS = st.frozensets(WORDS, min_size=1, max_size=2)
RULES = st.builds(
    Rule,
    SETS,
    SETS,
    st.frozensets(st.sampled_from(["*", "p", "q", "p/s", "*/s"]), min_size=1, max_size=2),
    st.frozensets(st.sampled_from(["x", "y"]), max_size=2),
)


@given(st.lists(RULES, max_size=4), st.lists(RULES, max_size=2))
def test_whoever_holds_what_covers_a_rule_may_do_all_that_the_rule_allows(
    owned: list[Rule], wanted: list[Rule]
) -> None:
    mine, theirs = Permissions(owned, {}), Permissions(wanted, {})
    covered = not not_covered(owned, wanted)
    for verb in "ab":
        for group in "ab":
            for resource in ("p", "q", "p/s", "q/s"):
                for name in ("x", "y", "z"):
                    asked = (verb, group, resource, "", name)
                    if covered and theirs.allow(*asked):
                        assert mine.allow(*asked)
                    alone = any(
                        one.matches(verb, group, resource) and (not one.names or name in one.names) for one in owned
                    )
                    assert mine.allow(*asked) is alone


def test_everything_covers_everything() -> None:
    wanted = parse_rules(
        [{"verbs": ["x"], "apiGroups": ["g"], "resources": ["r"]}, {"verbs": ["y"], "nonResourceURLs": ["/z"]}]
    )
    assert not_covered(EVERYTHING, wanted) == []
    assert len(not_covered((), wanted)) == 2
