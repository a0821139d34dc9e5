"""Webhooks: who is asked about which write, what they change, what they refuse, and what holds when they fail."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from hub.api.installed import installed_crds
from hub.apiserver import ApiServer, serve
from hub.apiserver.certificates import authority, server_context

MAPS = "/api/v1/namespaces/default/configmaps"
HOOKS = "/apis/admissionregistration.k8s.io/v1"
JOBS = "/apis/fleet.quarterdeck.dev/v1alpha1/namespaces/default/fleetjobs"
QUEUES = "/apis/kueue.x-k8s.io"
Send = Callable[..., Awaitable[tuple[int, Any]]]


class Judge:
    """A webhook server: `decide` makes a response of a request; `asked` are all requests."""

    def __init__(self, url: str, bundle: str) -> None:
        self.url = url
        self.bundle = bundle
        self.asked: list[dict[str, Any]] = []
        self.decide: Callable[[dict[str, Any]], dict[str, Any]] = lambda request: {"allowed": True}
        self.delay = 0.0

    async def answer(self, request: web.Request) -> web.Response:
        asked = (await request.json())["request"]
        self.asked.append({**asked, "path": request.path})
        await asyncio.sleep(self.delay)
        response = {"uid": asked["uid"], **self.decide(self.asked[-1])}
        return web.json_response({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "response": response})

    def hook(self, name: str = "a.test.dev", path: str = "/x", **more: Any) -> dict[str, Any]:
        rule = {"operations": ["*"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"]}
        return {
            "name": name,
            "clientConfig": {"url": self.url + path, "caBundle": self.bundle},
            "rules": [rule],
            "sideEffects": "None",
            "admissionReviewVersions": ["v1"],
            **more,
        }


@pytest.fixture
async def judge(tmp_path: Path) -> AsyncIterator[Judge]:
    context = server_context(tmp_path / "judge", "127.0.0.1")
    bundle = base64.b64encode(authority(tmp_path / "judge")).decode()
    made = Judge("", bundle)
    app = web.Application()
    app.router.add_post("/{path:.*}", made.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    made.url = f"https://127.0.0.1:{runner.addresses[0][1]}"
    yield made
    await runner.cleanup()


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[ApiServer]:
    async with serve(tmp_path / "api", crds=installed_crds()) as server:
        yield server


@pytest.fixture
async def send(server: ApiServer) -> AsyncIterator[Send]:
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {server.token}"}) as client:

        async def request(
            method: str, path: str, body: Any = None, *, kind: str = "application/json"
        ) -> tuple[int, Any]:
            data = None if body is None else json.dumps(body)
            headers = {"Content-Type": kind}
            async with client.request(method, server.url + path, data=data, headers=headers) as answer:
                return answer.status, json.loads(await answer.text())

        yield request


async def install(send: Send, plural: str, *hooks: dict[str, Any], name: str = "conf") -> None:
    code, said = await send(
        "POST", f"{HOOKS}/{plural}webhookconfigurations", {"metadata": {"name": name}, "webhooks": hooks}
    )
    assert code == 201, said


def patch(*operations: dict[str, Any]) -> dict[str, Any]:
    encoded = base64.b64encode(json.dumps(operations).encode()).decode()
    return {"allowed": True, "patchType": "JSONPatch", "patch": encoded}


async def test_a_validating_webhook_sees_every_write_and_can_refuse_it(judge: Judge, send: Send) -> None:
    await install(send, "validating", judge.hook())
    assert (await send("POST", MAPS, {"metadata": {"name": "a", "labels": {"x": "y"}}, "data": {"k": "v"}}))[0] == 201
    first = judge.asked[-1]
    assert (first["operation"], first["name"], first["namespace"], first["oldObject"]) == (
        "CREATE",
        "a",
        "default",
        None,
    )
    assert first["object"]["data"] == {"k": "v"}
    assert first["userInfo"]["username"] == "admin"
    assert first["resource"] == {"group": "", "version": "v1", "resource": "configmaps"}
    merge = {"kind": "application/merge-patch+json"}
    assert (await send("PATCH", f"{MAPS}/a", {"data": {"k": "w"}}, **merge))[0] == 200
    assert (judge.asked[-1]["operation"], judge.asked[-1]["oldObject"]["data"]) == ("UPDATE", {"k": "v"})
    judge.decide = lambda request: {"allowed": False, "status": {"code": 422, "message": "no", "reason": "Invalid"}}
    code, said = await send("PATCH", f"{MAPS}/a", {"data": {"k": "x"}}, **merge)
    assert (code, said["message"]) == (422, 'admission webhook "a.test.dev" denied the request: no')
    judge.decide = lambda request: {"allowed": False}
    code, said = await send("DELETE", f"{MAPS}/a")
    assert (code, said["reason"]) == (403, "Forbidden")
    assert (judge.asked[-1]["operation"], judge.asked[-1]["object"]) == ("DELETE", None)
    assert (await send("DELETE", MAPS))[0] == 403
    _, found = await send("GET", f"{MAPS}/a")
    assert found["data"] == {"k": "w"}
    # Other kinds, and webhooks themselves, are nobody's business.
    count = len(judge.asked)
    assert (await send("POST", "/api/v1/namespaces", {"metadata": {"name": "n"}}))[0] == 201
    assert (await send("DELETE", f"{HOOKS}/validatingwebhookconfigurations/conf"))[0] == 200
    assert len(judge.asked) == count
    assert (await send("DELETE", f"{MAPS}/a"))[0] == 200


async def test_mutating_webhooks_follow_each_other_and_validating_ones_see_the_end(judge: Judge, send: Send) -> None:
    def decide(request: dict[str, Any]) -> dict[str, Any]:
        data = request["object"].get("data") or {}
        if request["path"] == "/one":
            return patch({"op": "add", "path": "/data", "value": {**data, "one": str(len(data))}})
        if request["path"] == "/two" and "two" not in data:
            return patch({"op": "add", "path": "/data/two", "value": str(len(data))}) | {"warnings": ["mind the gap"]}
        return {"allowed": True}

    judge.decide = decide
    one = judge.hook("one.test.dev", "/one", reinvocationPolicy="IfNeeded")
    await install(send, "mutating", one, judge.hook("two.test.dev", "/two"))
    await install(send, "validating", judge.hook("see.test.dev", "/see"))
    code, made = await send("POST", MAPS, {"metadata": {"generateName": "a-"}})
    assert code == 201
    assert made["data"] == {"one": "2", "two": "1"}
    assert [request["path"] for request in judge.asked] == ["/one", "/two", "/one", "/see"]
    assert judge.asked[-1]["object"]["data"] == made["data"]
    assert judge.asked[-1]["object"]["metadata"]["name"] == made["metadata"]["name"]


async def test_what_a_mutating_webhook_makes_is_held_against_the_schema(judge: Judge, send: Send) -> None:
    rule = {"operations": ["CREATE"], "apiGroups": ["fleet.quarterdeck.dev"], "apiVersions": ["*"], "resources": ["*"]}
    await install(send, "mutating", judge.hook(rules=[rule]))
    template = {"spec": {"containers": [{"name": "main", "image": "busybox"}]}}
    body = {"apiVersion": "fleet.quarterdeck.dev/v1alpha1", "kind": "FleetJob", "metadata": {"name": "j"}, "spec": {}}
    judge.decide = lambda request: patch({"op": "add", "path": "/spec/template", "value": template})
    # What was missing has been added before anybody looked.
    code, made = await send("POST", JOBS, body)
    assert (code, made["spec"]["template"]["spec"]["containers"][0]["image"]) == (201, "busybox")
    judge.decide = lambda request: patch({"op": "add", "path": "/spec/tasks", "value": "many"})
    code, said = await send("POST", JOBS, body | {"metadata": {"name": "k"}, "spec": {"template": template}})
    assert (code, said["details"]["causes"][0]["field"]) == (422, "spec.tasks")
    judge.decide = lambda request: patch({"op": "replace", "path": "/metadata/name", "value": "other"})
    code, said = await send("POST", JOBS, body | {"metadata": {"name": "k"}, "spec": {"template": template}})
    assert (code, "metadata.name" in said["message"]) == (500, True)


async def test_selectors_conditions_and_equivalent_versions(judge: Judge, send: Send) -> None:
    await send(
        "PATCH",
        "/api/v1/namespaces/default",
        {"metadata": {"labels": {"hooks": "yes"}}},
        kind="application/merge-patch+json",
    )
    await send("POST", "/api/v1/namespaces", {"metadata": {"name": "quiet"}})
    await install(
        send,
        "validating",
        judge.hook(
            namespaceSelector={"matchLabels": {"hooks": "yes"}},
            objectSelector={"matchExpressions": [{"key": "skip", "operator": "DoesNotExist"}]},
            matchConditions=[{"name": "n", "expression": "object.metadata.name != 'never'"}],
        ),
    )
    for path, metadata, times in (
        (MAPS, {"name": "a"}, 1),
        (MAPS, {"name": "b", "labels": {"skip": ""}}, 0),
        (MAPS.replace("default", "quiet"), {"name": "a"}, 0),
        (MAPS, {"name": "never"}, 0),
    ):
        judge.asked.clear()
        assert (await send("POST", path, {"metadata": metadata}))[0] == 201
        assert len(judge.asked) == times, metadata
    rule = {
        "operations": ["*"],
        "apiGroups": ["kueue.x-k8s.io"],
        "apiVersions": ["v1beta1"],
        "resources": ["clusterqueues"],
    }
    await install(send, "validating", judge.hook(rules=[rule]), name="old")
    judge.asked.clear()
    queue = {
        "apiVersion": "kueue.x-k8s.io/v1beta2",
        "kind": "ClusterQueue",
        "metadata": {"name": "q"},
        "spec": {"cohortName": "c"},
    }
    assert (await send("POST", f"{QUEUES}/v1beta2/clusterqueues", queue))[0] == 201
    (asked,) = judge.asked
    assert (asked["object"]["spec"]["cohort"], asked["requestKind"]["version"]) == ("c", "v1beta2")


async def test_who_does_not_answer_holds_its_policy(judge: Judge, send: Send) -> None:
    judge.delay = 5
    await install(send, "validating", judge.hook(timeoutSeconds=1, failurePolicy="Ignore"))
    assert (await send("POST", MAPS, {"metadata": {"name": "a"}}))[0] == 201
    await install(send, "validating", judge.hook("b.test.dev", timeoutSeconds=1), name="strict")
    code, said = await send("POST", MAPS, {"metadata": {"name": "b"}})
    assert (code, said["reason"]) == (500, "InternalError")
    assert 'failed calling webhook "b.test.dev": no answer within 1 s' in said["message"]
    judge.delay = 0
    judge.decide = lambda request: {"allowed": True, "uid": "another"}
    assert "its uid differs" in (await send("POST", MAPS, {"metadata": {"name": "b"}}))[1]["message"]
    await send("DELETE", f"{HOOKS}/validatingwebhookconfigurations/strict")
    service = {"clientConfig": {"service": {"namespace": "default", "name": "s", "path": "/p", "port": 1}}}
    await install(send, "validating", judge.hook("c.test.dev") | service, name="strict")
    assert "default/s has no address" in (await send("POST", MAPS, {"metadata": {"name": "b"}}))[1]["message"]


async def test_a_write_that_comes_between_is_seen(judge: Judge, send: Send) -> None:
    await send("POST", MAPS, {"metadata": {"name": "a"}, "data": {"n": "0"}})
    await install(send, "validating", judge.hook())
    judge.delay = 0.05
    merge = {"kind": "application/merge-patch+json"}
    answers = await asyncio.gather(*(send("PATCH", f"{MAPS}/a", {"data": {f"k{n}": "v"}}, **merge) for n in range(3)))
    assert [code for code, _ in answers] == [200, 200, 200]
    _, found = await send("GET", f"{MAPS}/a")
    assert set(found["data"]) == {"n", "k0", "k1", "k2"}
    # Each was judged about what it changed in the end.
    allowed = {json.dumps(request["object"]["data"], sort_keys=True) for request in judge.asked}
    assert json.dumps(found["data"], sort_keys=True) in allowed


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"name": "short"}, "webhooks[0].name"),
        ({"clientConfig": {}}, "webhooks[0].clientConfig"),
        ({"clientConfig": {"url": "http://x/y"}}, "webhooks[0].clientConfig.url"),
        ({"sideEffects": "Some"}, "webhooks[0].sideEffects"),
        ({"admissionReviewVersions": ["v1beta1"]}, "webhooks[0].admissionReviewVersions"),
        ({"timeoutSeconds": 31}, "webhooks[0].timeoutSeconds"),
    ],
)
async def test_webhooks_that_cannot_be_called_are_refused_by_field(
    judge: Judge, send: Send, change: dict[str, Any], field: str
) -> None:
    body = {"metadata": {"name": "x"}, "webhooks": [judge.hook() | change]}
    code, said = await send("POST", f"{HOOKS}/validatingwebhookconfigurations", body)
    assert (code, said["details"]["causes"][0]["field"]) == (422, field)
