from __future__ import annotations

import base64
import os
import time
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml

from hub.api.errors import (
    AlreadyExistsError,
    ConflictError,
    GoneError,
    NotFoundError,
    OverloadedError,
    RefusedError,
    UnauthorizedError,
    UnreachableError,
    UsageError,
)
from hub.api.resource import CONFIG_MAPS, FLEET_JOBS, NAMESPACES
from hub.client.credentials import InCluster
from hub.client.session import Session


def config_map(name: str, **data: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": "a", "resourceVersion": "1"}, "data": data}


async def test_requests_say_what_the_api_expects(scripted, answering):
    scripted.script = [answering({"metadata": {}})]
    async with Session(scripted.url, token="secret") as session:
        await session.get(NAMESPACES, "a")
        await session.create(CONFIG_MAPS, config_map("x"), dry_run=True)
        await session.replace(FLEET_JOBS, config_map("x"), subresource="status")
        await session.patch(CONFIG_MAPS, "x", {"data": {"k": "v"}}, "a")
        await session.patch(CONFIG_MAPS, "x", {}, "a", type="apply", field_manager="me", force=True)
        await session.delete(CONFIG_MAPS, "x", "a", uid="u", propagation_policy="Foreground")
        await session.delete(CONFIG_MAPS, "y", "a")
    seen = [(method, path, headers.get("Content-Type")) for method, path, headers, _ in scripted.requests]
    assert seen == [
        ("GET", "/api/v1/namespaces/a", None),
        ("POST", "/api/v1/namespaces/a/configmaps?dryRun=All", "application/json"),
        ("PUT", "/apis/fleet.quarterdeck.dev/v1alpha1/namespaces/a/fleetjobs/x/status", "application/json"),
        ("PATCH", "/api/v1/namespaces/a/configmaps/x", "application/merge-patch+json"),
        (
            "PATCH",
            "/api/v1/namespaces/a/configmaps/x?fieldManager=me&force=true",
            "application/apply-patch+yaml",
        ),
        ("DELETE", "/api/v1/namespaces/a/configmaps/x", "application/json"),
        ("DELETE", "/api/v1/namespaces/a/configmaps/y", None),
    ]
    assert all(headers["Authorization"] == "Bearer secret" for _, _, headers, _ in scripted.requests)
    options = orjson.loads(scripted.requests[5][3])
    assert options["preconditions"] == {"uid": "u"}
    assert options["propagationPolicy"] == "Foreground"


@pytest.mark.parametrize(
    ("code", "reason", "expected"),
    [
        (404, "NotFound", NotFoundError),
        (409, "Conflict", ConflictError),
        (409, "AlreadyExists", AlreadyExistsError),
        (410, "Expired", GoneError),
        (422, "Invalid", RefusedError),
        (401, "Unauthorized", UnauthorizedError),
        (500, "InternalError", OverloadedError),
    ],
)
async def test_answers_become_the_errors_of_the_tree(scripted, answering, code, reason, expected):
    scripted.script = [answering({"kind": "Status", "code": code, "reason": reason, "message": "because"}, code)]
    async with Session(scripted.url) as session:
        with pytest.raises(expected, match="because") as caught:
            await session.get(NAMESPACES, "a")
    assert caught.value.reason == reason


async def test_what_is_no_api_server_is_said_so(scripted):
    async def html(_):
        from aiohttp import web

        return web.Response(text="<html>login here</html>", content_type="text/html")

    scripted.script = [html]
    async with Session(scripted.url) as session:
        with pytest.raises(OverloadedError, match="login here"):
            await session.get(NAMESPACES, "a")


async def test_nobody_there_is_unreachable():
    async with Session("http://127.0.0.1:1") as session:
        with pytest.raises(UnreachableError, match=r"127\.0\.0\.1:1 did not answer"):
            await session.get(NAMESPACES, "a")


async def test_a_server_that_never_answers_is_unreachable_in_time(scripted, streaming):
    scripted.script = [streaming(b"{", hang=True)]
    started = time.monotonic()
    async with Session(scripted.url, timeout=0.3) as session:
        with pytest.raises(UnreachableError, match="no answer in time"):
            await session.get(NAMESPACES, "a")
    assert time.monotonic() - started < 3


async def test_retry_after_is_obeyed(scripted, answering):
    busy = answering({"message": "busy"}, 429, {"Retry-After": "0.2"})
    scripted.script = [busy, busy, answering({"metadata": {"name": "a"}})]
    started = time.monotonic()
    async with Session(scripted.url) as session:
        assert (await session.get(NAMESPACES, "a"))["metadata"]["name"] == "a"
    assert time.monotonic() - started >= 0.4
    assert len(scripted.requests) == 3


async def test_retry_after_beyond_the_timeout_is_an_error_at_once(scripted, answering):
    scripted.script = [answering({"message": "busy"}, 429, {"Retry-After": "20"})]
    async with Session(scripted.url, timeout=1) as session:
        with pytest.raises(OverloadedError, match="busy"):
            await session.get(NAMESPACES, "a")
    assert len(scripted.requests) == 1


async def test_lists_are_put_together_from_pages(scripted, answering):
    scripted.script = [
        answering({"metadata": {"resourceVersion": "7", "continue": "t1"}, "items": [config_map("a")]}),
        answering({"metadata": {"resourceVersion": "7", "continue": ""}, "items": [config_map("b")]}),
    ]
    async with Session(scripted.url) as session:
        listing = await session.list(CONFIG_MAPS, label_selector="a in (b,c)")
    assert [item["metadata"]["name"] for item in listing.items] == ["a", "b"]
    assert listing.resource_version == "7"
    assert listing.items[0]["kind"] == "ConfigMap"
    assert "labelSelector=a%20in%20%28b%2Cc%29" in scripted.requests[0][1]
    assert "continue=t1" in scripted.requests[1][1]


async def test_pages_that_expire_half_way_are_taken_in_one_answer(scripted, answering):
    scripted.script = [
        answering({"metadata": {"resourceVersion": "7", "continue": "t1"}, "items": [config_map("a")]}),
        answering({"reason": "Expired"}, 410),
        answering({"metadata": {"resourceVersion": "9"}, "items": [config_map("a"), config_map("b")]}),
    ]
    async with Session(scripted.url) as session:
        listing = await session.list(CONFIG_MAPS)
    assert [item["metadata"]["name"] for item in listing.items] == ["a", "b"]
    assert "limit" not in scripted.requests[2][1]


async def test_watch_lines_are_put_together_however_they_are_cut(scripted, streaming):
    big = orjson.dumps({"type": "ADDED", "object": config_map("big", text="x" * 3_000_000)}) + b"\n"
    small = orjson.dumps({"type": "DELETED", "object": config_map("small")}) + b"\n"
    whole = big + small + small
    cuts = [whole[:10], whole[10:2_000_000], whole[2_000_000 : len(big) + 3], whole[len(big) + 3 :]]
    scripted.script = [streaming(*cuts, pause=0.01)]
    async with Session(scripted.url) as session:
        events = [event async for event in session.watch(CONFIG_MAPS, resource_version="5")]
    assert [(event.type, event.object["metadata"]["name"]) for event in events] == [
        ("ADDED", "big"),
        ("DELETED", "small"),
        ("DELETED", "small"),
    ]
    assert "resourceVersion=5" in scripted.requests[0][1]
    assert "allowWatchBookmarks=true" in scripted.requests[0][1]


async def test_an_error_event_raises(scripted, streaming):
    gone = {"type": "ERROR", "object": {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"}}
    scripted.script = [streaming(orjson.dumps(gone) + b"\n")]
    async with Session(scripted.url) as session:
        with pytest.raises(GoneError):
            async for _ in session.watch(CONFIG_MAPS, resource_version="5"):
                pass


def kubeconfig(path: Path, url: str, **user: str) -> Path:
    path.write_text(
        yaml.safe_dump(
            {
                "current-context": "c",
                "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u", "namespace": "team"}}],
                "clusters": [{"name": "k", "cluster": {"server": url}}],
                "users": [{"name": "u", "user": user}],
            }
        )
    )
    return path


async def test_a_refused_token_is_read_again_once(scripted, answering, tmp_path):
    token = tmp_path / "token"
    token.write_text("old\n")
    path = kubeconfig(tmp_path / "config", scripted.url, tokenFile="token")
    scripted.script = [answering({}), answering({"message": "who?"}, 401), answering({"metadata": {}})]
    async with Session.from_kubeconfig(path) as session:
        await session.get(NAMESPACES, "a")
        token.write_text("new\n")
        await session.get(NAMESPACES, "a")
        assert (await session.connection()).namespace == "team"
    assert [headers["Authorization"] for _, _, headers, _ in scripted.requests] == [
        "Bearer old",
        "Bearer old",
        "Bearer new",
    ]


async def test_a_changed_file_is_read_without_a_refusal(scripted, answering, tmp_path, monkeypatch):
    monkeypatch.setattr("hub.client.transport._CHECK_CREDENTIALS_EVERY", 0.0)
    path = kubeconfig(tmp_path / "config", scripted.url, token="one")
    scripted.script = [answering({})]
    async with Session.from_kubeconfig(path) as session:
        await session.get(NAMESPACES, "a")
        kubeconfig(path, scripted.url, token="second")
        await session.get(NAMESPACES, "a")
        path.write_text("{")
        await session.get(NAMESPACES, "a")
    assert [headers["Authorization"] for _, _, headers, _ in scripted.requests] == [
        "Bearer one",
        "Bearer second",
        "Bearer second",
    ]


async def test_basic_authentication(scripted, answering, tmp_path):
    path = kubeconfig(tmp_path / "config", scripted.url, username="me", password="pass")
    scripted.script = [answering({})]
    async with Session.from_kubeconfig(path) as session:
        await session.get(NAMESPACES, "a")
    assert scripted.requests[0][2]["Authorization"] == "Basic " + base64.b64encode(b"me:pass").decode()


async def test_exec_plugins_are_run(scripted, answering, tmp_path):
    plugin = tmp_path / "plugin.sh"
    credential = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "kind": "ExecCredential",
        "status": {"token": "from-plugin"},
    }
    plugin.write_text(f"#!/bin/sh\necho '{orjson.dumps(credential).decode()}'\n")
    plugin.chmod(0o755)
    execution: Any = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": str(plugin),
        "interactiveMode": "Never",
    }
    path = kubeconfig(tmp_path / "config", scripted.url, exec=execution)
    scripted.script = [answering({})]
    async with Session.from_kubeconfig(path) as session:
        await session.get(NAMESPACES, "a")
    assert scripted.requests[0][2]["Authorization"].lower() == "bearer from-plugin"


async def test_an_exec_plugin_that_fails_is_named(tmp_path):
    execution: Any = {"apiVersion": "client.authentication.k8s.io/v1", "command": "/bin/false"}
    path = kubeconfig(tmp_path / "config", "http://127.0.0.1:1", exec=execution)
    async with Session.from_kubeconfig(path) as session:
        with pytest.raises(UsageError, match="neither a token nor a certificate"):
            await session.get(NAMESPACES, "a")


def test_a_kubeconfig_that_cannot_work_is_refused_at_once(tmp_path):
    with pytest.raises(UsageError, match="cannot read"):
        Session.from_kubeconfig(tmp_path / "absent")
    path = kubeconfig(tmp_path / "config", "http://x")
    with pytest.raises(UsageError, match="no context named other; it has: c"):
        Session.from_kubeconfig(path, "other")
    path.write_text("- a list")
    with pytest.raises(UsageError, match="not a kubeconfig"):
        Session.from_kubeconfig(path)


async def test_a_pod_uses_its_service_account(tmp_path):
    with pytest.raises(UsageError, match="does not run in a pod"):
        await InCluster(tmp_path, {}).load()
    (tmp_path / "token").write_text("t1\n")
    (tmp_path / "namespace").write_text("home")
    # Any CA will do: no connection is made.
    import ssl

    bundle = ssl.get_default_verify_paths().cafile
    if bundle is None or not os.path.exists(bundle):
        pytest.skip("this machine has no CA bundle to stand in for the cluster's")
    (tmp_path / "ca.crt").write_bytes(Path(bundle).read_bytes())
    source = InCluster(tmp_path, {"KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "443"})
    connection = await source.load()
    assert (connection.server, connection.authorization, connection.namespace) == (
        "https://[fd00::1]:443",
        "Bearer t1",
        "home",
    )
    before = source.stamp()
    (tmp_path / "token").write_text("t2 longer\n")
    assert source.stamp() != before


def test_the_official_client_is_not_imported_for_plain_kubeconfigs(tmp_path):
    import subprocess
    import sys

    path = kubeconfig(tmp_path / "config", "http://127.0.0.1:1", token="t")
    program = (
        "import asyncio, sys\n"
        "from hub.client.session import Session\n"
        f"session = Session.from_kubeconfig({str(path)!r})\n"
        "asyncio.run(session.connection())\n"
        "print('kubernetes' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert result.stdout.strip() == "False"
