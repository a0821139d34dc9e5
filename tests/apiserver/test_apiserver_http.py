"""The HTTP front: who may come in, what is too much, what is answered to what, byte by byte where it matters."""

from __future__ import annotations

import asyncio
import json
import os
import re
import socket
import ssl
import stat
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from hub.api.errors import UnauthorizedError
from hub.api.resource import CONFIG_MAPS
from hub.apiserver import ApiServer, serve
from hub.apiserver.http import MAX_BODY
from hub.apiserver.kubeconfig import write_kubeconfig
from hub.client.session import Session

MAPS = "/api/v1/namespaces/default/configmaps"


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[ApiServer]:
    async with serve(tmp_path / "bare") as server:
        yield server


@pytest.fixture
async def raw(server: ApiServer) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(server.url, headers={"Authorization": f"Bearer {server.token}"}) as session:
        yield session


async def exchange(server: ApiServer, sent: bytes, *, until: float = 1.0) -> bytes:
    """What comes back on a connection of its own, until it is closed or silent."""
    reader, writer = await asyncio.open_connection(server.host, server.port)
    writer.write(sent.replace(b"TOKEN", server.token.encode()))
    received = b""
    try:
        while True:
            async with asyncio.timeout(until):
                data = await reader.read(65536)
            if not data:
                return received + b"<closed>"
            received += data
    except TimeoutError:
        return received
    finally:
        writer.close()


GET = b"GET %b HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer TOKEN\r\n\r\n"


async def test_pipelined_requests_are_answered_in_order(server: ApiServer) -> None:
    body = b'{"metadata":{"name":"a"}}'
    post = b"POST %b HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer TOKEN\r\nContent-Length: %d\r\n\r\n%b"
    post %= (MAPS.encode(), len(body), body)
    received = await exchange(server, post + GET % f"{MAPS}/a".encode() + post + GET % b"/nothing", until=0.3)
    codes = re.findall(rb"HTTP/1\.1 (\d+) ", received)
    # What is asked after a write sees it.
    assert codes == [b"201", b"200", b"409", b"404"]


async def test_a_long_pipeline_is_answered_whole(server: ApiServer) -> None:
    received = await exchange(server, GET % b"/version" * 300, until=0.3)
    assert received.count(b"HTTP/1.1 200 OK") == 300


async def test_requests_that_arrive_byte_by_byte(server: ApiServer) -> None:
    reader, writer = await asyncio.open_connection(server.host, server.port)
    for byte in (GET % b"/version").replace(b"TOKEN", server.token.encode()):
        writer.write(bytes([byte]))
        await writer.drain()
        await asyncio.sleep(0)
    assert (await reader.readline()).startswith(b"HTTP/1.1 200")
    writer.close()


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (b"nonsense\r\n\r\n", b"400"),
        (b"GET /version HTTP/1.1\r\nHost: x\r\nX-Long: " + b"x" * 70_000 + b"\r\n\r\n", b"431"),
        (b"GET /" + b"x" * 40_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", b"414"),
        (b"POST /api/v1/namespaces HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n", b"413"),
        (
            b"POST /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
            + b"100000\r\n"
            + b"x" * 0x100000
            + b"\r\n"
            + (b"100000\r\n" + b"x" * 0x100000 + b"\r\n") * 2
            + b"100\r\n"
            + b"x" * 0x100
            + b"\r\n0\r\n\r\n",
            b"413",
        ),
    ],
)
async def test_what_is_no_request_or_too_much_ends_the_connection(server: ApiServer, sent: bytes, code: bytes) -> None:
    received = await exchange(server, sent, until=3)
    assert received.startswith(b"HTTP/1.1 " + code)
    assert received.endswith(b"<closed>")
    head, _, body = received.removesuffix(b"<closed>").partition(b"\r\n\r\n")
    assert b"Connection: close" in head
    assert json.loads(body)["kind"] == "Status"


async def test_the_largest_body_is_taken(raw: aiohttp.ClientSession) -> None:
    padding = "x" * 900_000
    async with raw.post(MAPS, json={"metadata": {"name": "a"}, "data": {"x": padding}}) as answer:
        assert answer.status == 201
    async with raw.post(MAPS, data=b" " * (MAX_BODY + 1)) as answer:
        assert answer.status == 413


async def test_old_and_closing_clients(server: ApiServer) -> None:
    old = await exchange(server, b"GET /healthz HTTP/1.0\r\n\r\n")
    assert old.endswith(b"ok<closed>")
    closing = await exchange(server, b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert closing.endswith(b"ok<closed>")
    expecting = await exchange(
        server,
        b"POST /version HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n{}",
        until=0.3,
    )
    assert expecting.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 ")


async def test_who_is_unknown_learns_nothing(server: ApiServer) -> None:
    async with aiohttp.ClientSession(server.url) as stranger:
        for header in ("", "Bearer ", "Bearer wrong", f"Basic {server.token}", f"Bearer {server.token}x"):
            headers = {"Authorization": header} if header else {}
            for path in (MAPS, "/api", "/apis", "/metrics", "/openapi/v3", "/clusters/x/api", "/nothing"):
                async with stranger.get(path, headers=headers) as answer:
                    assert answer.status == 401
                    assert (await answer.json())["reason"] == "Unauthorized"
        for path in ("/healthz", "/livez", "/readyz", "/version"):
            async with stranger.get(path) as answer:
                assert answer.status == 200


async def test_tokens_are_read_again_when_their_file_changes(tmp_path: Path) -> None:
    tokens = tmp_path / "tokens.json"

    def write(entries: dict[str, Any]) -> None:
        tokens.write_text(json.dumps(entries))
        os.utime(tokens, ns=(time.time_ns(), time.time_ns()))

    write({"one": {"user": "a", "groups": ["g", "system:masters"]}})
    async with serve(tmp_path / "x", tokens=tokens) as server:
        assert server.token == ""
        async with Session(server.url, token="one") as one, Session(server.url, token="two") as two:
            review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
            path = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
            who = (await one.request("POST", path, body=review))["status"]["userInfo"]
            assert who == {"username": "a", "groups": ["g", "system:masters", "system:authenticated"]}
            with pytest.raises(UnauthorizedError):
                await two.list(CONFIG_MAPS)
            write({"two": {"user": "b", "groups": ["system:masters"]}})
            # New ones at once, old ones within a second or so.
            await two.list(CONFIG_MAPS)
            with pytest.raises(UnauthorizedError):
                await one.list(CONFIG_MAPS)
            tokens.write_text("{half")
            await asyncio.sleep(1.2)
            await two.list(CONFIG_MAPS)


@pytest.mark.parametrize(
    ("method", "path", "body", "content_type", "code", "reason"),
    [
        ("GET", f"{MAPS}/missing", None, "", 404, "NotFound"),
        ("GET", "/api/v1/nothings", None, "", 404, "NotFound"),
        ("GET", "/apis/nobody.dev/v1/things", None, "", 404, "NotFound"),
        ("GET", f"{MAPS}/a/status", None, "", 404, "NotFound"),
        ("GET", f"{MAPS}?limit=many", None, "", 400, "BadRequest"),
        ("GET", f"{MAPS}?resourceVersion=99999999", None, "", 504, "Timeout"),
        ("GET", f"{MAPS}?continue=abc", None, "", 400, "BadRequest"),
        ("POST", "/api/v1/configmaps", "{}", "", 405, "MethodNotAllowed"),
        ("PUT", MAPS, "{}", "", 405, "MethodNotAllowed"),
        ("POST", f"{MAPS}/a", "{}", "", 405, "MethodNotAllowed"),
        ("DELETE", "/version", None, "", 405, "MethodNotAllowed"),
        ("POST", "/apis", "{}", "", 405, "MethodNotAllowed"),
        ("POST", MAPS, "{not json", "application/json", 400, "BadRequest"),
        ("POST", MAPS, "[]", "application/json", 400, "BadRequest"),
        ("POST", MAPS, "{}", "text/html", 415, "UnsupportedMediaType"),
        ("POST", f"{MAPS}?dryRun=Some", '{"metadata":{"name":"b"}}', "", 400, "BadRequest"),
        ("POST", f"{MAPS}?fieldValidation=Sometimes", '{"metadata":{"name":"b"}}', "", 400, "BadRequest"),
        ("PATCH", f"{MAPS}/a", "{}", "application/json", 415, "UnsupportedMediaType"),
        ("PATCH", f"{MAPS}/a", "{}", "application/apply-patch+yaml", 400, "BadRequest"),
        ("PATCH", f"{MAPS}/a?force=1", "{}", "application/merge-patch+json", 400, "BadRequest"),
        ("DELETE", f"{MAPS}/a", '{"propagationPolicy":"Maybe"}', "", 400, "BadRequest"),
        ("DELETE", f"{MAPS}/a", '{"preconditions":{"uid":"x"}}', "", 409, "Conflict"),
    ],
)
async def test_refusals_are_statuses_with_their_code_and_reason(
    raw: aiohttp.ClientSession, method: str, path: str, body: str | None, content_type: str, code: int, reason: str
) -> None:
    await (await raw.post(MAPS, json={"metadata": {"name": "a"}})).read()
    headers = {"Content-Type": content_type} if content_type else {}
    async with raw.request(method, path, data=body, headers=headers, skip_auto_headers=["Content-Type"]) as answer:
        status = await answer.json(content_type=None)
        assert (answer.status, status["code"], status["reason"]) == (code, code, reason)
        assert status["kind"] == "Status"
        assert status["message"]


async def test_bodies_may_be_yaml(raw: aiohttp.ClientSession) -> None:
    text = "kind: ConfigMap\napiVersion: v1\nmetadata: {name: y}\ndata: {x: '1'}\n"
    async with raw.post(MAPS, data=text, headers={"Content-Type": "application/yaml"}) as answer:
        assert (await answer.json())["data"] == {"x": "1"}
    applied = {"Content-Type": "application/apply-patch+yaml"}
    async with raw.patch(f"{MAPS}/z?fieldManager=m", data=text.replace("y}", "z}"), headers=applied) as answer:
        assert answer.status == 201


async def test_unknown_fields_are_refused_warned_of_or_dropped(raw: aiohttp.ClientSession) -> None:
    obj = {"metadata": {"name": "a", "nonsense": 1}, "data": {}, "other": 2}
    async with raw.post(f"{MAPS}?fieldValidation=Strict", json=obj) as answer:
        assert answer.status == 400
        assert 'unknown field "metadata.nonsense"' in (await answer.json())["message"]
        assert 'unknown field "other"' in (await answer.json())["message"]
    async with raw.post(f"{MAPS}?fieldValidation=Warn", json=obj) as answer:
        assert answer.status == 201
        assert answer.headers.getall("Warning") == [
            '299 - "unknown field \\"metadata.nonsense\\""',
            '299 - "unknown field \\"other\\""',
        ]
        assert "other" not in await answer.json()
    many = {"metadata": {"name": "many"}, **{f"unknown{n}": n for n in range(2000)}}
    async with raw.post(MAPS, json=many) as answer:
        assert answer.headers.getall("Warning")[-1].endswith(' more warnings"')
        assert len(answer.headers.getall("Warning")) < 200
    obj["metadata"] = {"name": "b"}
    async with raw.post(f"{MAPS}?fieldValidation=Ignore", json=obj) as answer:
        assert answer.status == 201
        assert "Warning" not in answer.headers


async def test_pages_show_one_moment_however_much_is_written(raw: aiohttp.ClientSession, server: ApiServer) -> None:
    api = server.in_process()
    for number in range(10):
        await api.create(CONFIG_MAPS, {"metadata": {"name": f"m{number}"}}, "default")
    seen: list[str] = []
    query = {"limit": "4"}
    versions = set()
    while True:
        async with raw.get(MAPS, params=query) as answer:
            page = await answer.json()
        seen += [item["metadata"]["name"] for item in page["items"]]
        versions.add(page["metadata"]["resourceVersion"])
        if not page["metadata"].get("continue"):
            assert "remainingItemCount" not in page["metadata"]
            break
        assert page["metadata"]["remainingItemCount"] == 10 - len(seen)
        query["continue"] = page["metadata"]["continue"]
        await api.delete(CONFIG_MAPS, seen[-1], "default")
        await api.delete(CONFIG_MAPS, f"m{len(seen)}", "default")
        await api.create(CONFIG_MAPS, {"metadata": {"name": f"n{len(seen)}"}}, "default")
    assert seen == [f"m{number}" for number in range(10)]
    assert len(versions) == 1
    server.plane.pages._snapshots.clear()
    async with raw.get(MAPS, params=query) as answer:
        assert answer.status == 410
        assert (await answer.json())["reason"] == "Expired"


async def test_a_list_that_is_gone_on_with_too_late_begins_anew(
    raw: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        await (await raw.post(MAPS, json={"metadata": {"name": f"m{number}"}})).read()
    async with raw.get(f"{MAPS}?limit=1") as answer:
        token = (await answer.json())["metadata"]["continue"]
    async with raw.get(MAPS, params={"limit": "1", "continue": token, "labelSelector": "a=b"}) as answer:
        assert answer.status == 410
    now = time.monotonic()
    monkeypatch.setattr("hub.apiserver.listing.time.monotonic", lambda: now + 3600)
    async with raw.get(MAPS, params={"limit": "1", "continue": token}) as answer:
        assert (answer.status, (await answer.json())["reason"]) == (410, "Expired")


async def test_delete_collection_takes_what_is_selected(raw: aiohttp.ClientSession, server: ApiServer) -> None:
    api = server.in_process()
    for number in range(4):
        labels = {"odd": str(number % 2)}
        await api.create(CONFIG_MAPS, {"metadata": {"name": f"m{number}", "labels": labels}}, "default")
    async with raw.delete(f"{MAPS}?labelSelector=odd%3D1") as answer:
        assert [item["metadata"]["name"] for item in (await answer.json())["items"]] == ["m1", "m3"]
    assert [item["metadata"]["name"] for item in (await api.list(CONFIG_MAPS)).items] == ["m0", "m2"]
    async with raw.delete("/api/v1/configmaps") as answer:
        assert answer.status == 405


async def test_lists_as_tables_and_as_metadata(raw: aiohttp.ClientSession, server: ApiServer) -> None:
    obj = {"metadata": {"name": "a", "labels": {"k": "v"}}, "data": {"x": "1"}}
    await server.in_process().create(CONFIG_MAPS, obj, "default")
    accept = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"
    async with raw.get(MAPS, headers={"Accept": accept}) as answer:
        table = await answer.json()
    assert table["kind"] == "Table"
    assert [column["name"] for column in table["columnDefinitions"]] == ["Name", "Data", "Age"]
    assert table["rows"][0]["cells"][:2] == ["a", 1]
    assert table["rows"][0]["object"]["metadata"]["labels"] == {"k": "v"}
    accept = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"
    async with raw.get(MAPS, headers={"Accept": accept}) as answer:
        partial = await answer.json()
    assert partial["kind"] == "PartialObjectMetadataList"
    assert set(partial["items"][0]) == {"kind", "apiVersion", "metadata"}
    async with raw.get(MAPS, headers={"Accept": "text/html"}) as answer:
        assert answer.status == 406
    # What cannot be answered is not done.
    async with raw.post(MAPS, json={"metadata": {"name": "b"}}, headers={"Accept": "text/html"}) as answer:
        assert answer.status == 406
    assert len((await server.in_process().list(CONFIG_MAPS)).items) == 1


async def test_scale(raw: aiohttp.ClientSession) -> None:
    deployments = "/apis/apps/v1/namespaces/default/deployments"
    pod = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    spec = {"replicas": 2, "selector": {"matchLabels": {"a": "b"}}, "template": pod}
    await (await raw.post(deployments, json={"metadata": {"name": "d"}, "spec": spec})).read()
    async with raw.get(f"{deployments}/d/scale") as answer:
        scale = await answer.json()
    assert (scale["kind"], scale["spec"]["replicas"]) == ("Scale", 2)
    async with raw.put(f"{deployments}/d/scale", json={**scale, "spec": {"replicas": 5}}) as answer:
        assert (await answer.json())["spec"]["replicas"] == 5
    merge = {"Content-Type": "application/merge-patch+json"}
    async with raw.patch(f"{deployments}/d/scale", data=b'{"spec":{"replicas":6}}', headers=merge) as answer:
        assert (await answer.json())["spec"]["replicas"] == 6
    async with raw.patch(f"{deployments}/d/scale", data=b'{"spec":{"replicas":-1}}', headers=merge) as answer:
        assert answer.status == 422
    async with raw.get(f"{deployments}/d") as answer:
        found = await answer.json()
    assert (found["spec"]["replicas"], found["metadata"]["generation"]) == (6, 3)


async def test_clusters_by_path(raw: aiohttp.ClientSession, server: ApiServer) -> None:
    await (await raw.post(f"/clusters/edge-1{MAPS}", json={"metadata": {"name": "a"}})).read()
    async with raw.get(f"/clusters/edge-1{MAPS}/a") as answer:
        assert answer.status == 200
    async with raw.get(f"{MAPS}/a") as answer:
        assert answer.status == 404
    async with raw.get("/clusters/edge-1/api/v1/namespaces") as answer:
        assert len((await answer.json())["items"]) == 4
    # The first look at a cluster finds its namespaces as well.
    async with raw.get("/clusters/edge-2/api/v1/namespaces/default") as answer:
        assert answer.status == 200
    async with raw.get("/clusters/edge-2/apis") as answer:
        assert (await answer.json())["kind"] == "APIGroupList"
    async with raw.get("/clusters/No_Name/api") as answer:
        assert answer.status == 400
    async with Session(f"{server.url}/clusters/edge-3", token=server.token) as session:
        await session.create(CONFIG_MAPS, {"metadata": {"name": "b"}}, "default")
        assert len((await session.list(CONFIG_MAPS)).items) == 1


async def test_access_reviews(raw: aiohttp.ClientSession, server: ApiServer) -> None:
    async def review(group: str, kind: str, spec: dict[str, Any]) -> dict[str, Any]:
        path = f"/apis/{group}/v1/{kind.lower()}s"
        async with raw.post(path, json={"kind": kind, "apiVersion": f"{group}/v1", "spec": spec}) as answer:
            assert answer.status == 201
            result: dict[str, Any] = await answer.json()
            return result

    allowed = await review("authorization.k8s.io", "SelfSubjectAccessReview", {"resourceAttributes": {"verb": "get"}})
    assert allowed["status"]["allowed"] is True
    rules = await review("authorization.k8s.io", "SelfSubjectRulesReview", {"namespace": "default"})
    assert rules["status"]["resourceRules"]
    known = await review("authentication.k8s.io", "TokenReview", {"token": server.token})
    assert known["status"]["user"]["username"] == "admin"
    assert server.token not in json.dumps(known)
    unknown = await review("authentication.k8s.io", "TokenReview", {"token": "x"})
    assert unknown["status"] == {"user": {}, "error": "invalid bearer token"}


async def test_metrics_count_writes_that_changed_something(raw: aiohttp.ClientSession) -> None:
    await (await raw.post(MAPS, json={"metadata": {"name": "a"}})).read()
    merge = {"Content-Type": "application/merge-patch+json"}
    for body in (b'{"data":{"x":"1"}}', b'{"data":{"x":"1"}}', b'{"data":{"x":"2"}}'):
        await (await raw.patch(f"{MAPS}/a", data=body, headers=merge)).read()
    await (await raw.post(MAPS, json={"metadata": {"name": "a"}})).read()
    await (await raw.delete(f"{MAPS}/a")).read()
    async with raw.get("/metrics") as answer:
        lines = (await answer.text()).splitlines()
    counted = {
        line for line in lines if line.startswith("quarterdeck_apiserver_writes_total{") and "configmaps" in line
    }
    assert counted == {
        'quarterdeck_apiserver_writes_total{verb="create",resource="configmaps"} 1',
        'quarterdeck_apiserver_writes_total{verb="patch",resource="configmaps"} 2',
        'quarterdeck_apiserver_writes_total{verb="delete",resource="configmaps"} 1',
    }
    assert 'quarterdeck_apiserver_requests_total{method="POST",code="409"} 1' in lines


async def test_beyond_loopback_it_is_https_unless_told_otherwise(tmp_path: Path) -> None:
    async with serve(tmp_path / "x", host="0.0.0.0", names=["fleet.example"]) as server:
        assert server.url.startswith("https://")
        context = ssl.create_default_context(cadata=server.authority.decode())
        for name in ("127.0.0.1", "localhost", socket.gethostname(), "fleet.example"):
            connection = asyncio.open_connection("127.0.0.1", server.port, ssl=context, server_hostname=name)
            _, writer = await connection
            writer.close()
        with pytest.raises(ssl.SSLCertVerificationError):
            await asyncio.open_connection("127.0.0.1", server.port, ssl=context, server_hostname="other.example")
    async with serve(tmp_path / "y", host="0.0.0.0", insecure=True) as server:
        assert server.url.startswith("http://")
    async with serve(tmp_path / "z") as server:
        assert server.url.startswith("http://127.0.0.1:")


async def test_objects_have_a_largest_size_however_they_grow(raw: aiohttp.ClientSession) -> None:
    works = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    crd = {
        "metadata": {"name": "bags.example.com"},
        "spec": {
            "group": "example.com",
            "scope": "Cluster",
            "names": {"plural": "bags", "kind": "Bag"},
            "versions": [{"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}],
        },
    }
    assert (await raw.post(works, json=crd)).status == 201
    bags = "/apis/example.com/v1/bags"
    assert (await raw.post(bags, json={"metadata": {"name": "b"}, "a": "x" * 1_000_000})).status == 201
    merge = {"Content-Type": "application/merge-patch+json"}
    async with raw.patch(f"{bags}/b", data=json.dumps({"b": "x" * 1_000_000}), headers=merge) as answer:
        assert answer.status == 413
        assert (await answer.json())["reason"] == "RequestEntityTooLarge"
    assert (await raw.patch(f"{bags}/b", data=json.dumps({"b": "x" * 100_000}), headers=merge)).status == 200
    assert (await raw.delete(f"{bags}/b")).status == 200


async def test_https_with_a_certificate_of_its_own_survives_restarts(tmp_path: Path) -> None:
    tokens = tmp_path / "tokens.json"
    tokens.write_text('{"t": {"user": "u", "groups": ["system:masters"]}}')
    kubeconfig = tmp_path / "kubeconfig"
    port = 0
    for _ in range(2):
        async with serve(tmp_path / "x", port, tokens=tokens, self_signed=True) as server:
            assert server.url.startswith("https://127.0.0.1:")
            if not port:
                write_kubeconfig(kubeconfig, server.url, "t", user="u", ca=server.authority)
            port = server.port
            async with Session.from_kubeconfig(kubeconfig) as session:
                assert len((await session.list(CONFIG_MAPS)).items) == 0
    for path in (kubeconfig, tmp_path / "x/tls/ca.key", tmp_path / "x/tls/server.key", tmp_path / "x/store.db"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


async def test_a_stopping_server_answers_what_it_was_asked(tmp_path: Path) -> None:
    async with serve(tmp_path / "x", power_safe=True) as server:
        session = Session(server.url, token=server.token)
        await session.list(CONFIG_MAPS)
        writes = [
            asyncio.create_task(session.create(CONFIG_MAPS, {"metadata": {"name": f"m{n}"}}, "default"))
            for n in range(10)
        ]
        async with asyncio.timeout(3):
            while server.plane.store.version == 5:
                await asyncio.sleep(0.001)
    results = await asyncio.gather(*writes, return_exceptions=True)
    await session.close()
    stored = {result["metadata"]["name"] for result in results if isinstance(result, dict)}
    assert stored
    async with serve(tmp_path / "x") as server:
        there = {item["metadata"]["name"] for item in (await server.in_process().list(CONFIG_MAPS)).items}
    assert stored <= there
