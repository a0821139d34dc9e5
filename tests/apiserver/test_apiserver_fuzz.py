"""A few hundred of the requests of `make fuzz-api`, and what that has found."""

from __future__ import annotations

import json
from typing import Any

import aiohttp
import pytest

from bench.fuzz_api import run
from hub.api.resource import NAMESPACES
from hub.apiserver import ApiServer

WORKS = "/apis/work.open-cluster-management.io/v1/namespaces/default/manifestworks"
MAPS = "/api/v1/namespaces/default/configmaps"


async def test_nothing_that_is_sent_breaks_the_server(api_server: ApiServer, caplog: pytest.LogCaptureFixture) -> None:
    outcome = await run(api_server.host, api_server.port, api_server.token, requests=500, seed=7)
    assert outcome.problems == []
    assert sum(outcome.codes.values()) == 500
    # It got somewhere: all kinds of refusals, and writes.
    assert {200, 201, 400, 401, 404, 405, 409, 422} <= outcome.codes.keys()
    assert not [record for record in caplog.records if record.exc_info]
    assert (await api_server.in_process().get(NAMESPACES, "default"))["status"]["phase"] == "Active"


@pytest.mark.parametrize(
    ("method", "path", "content_type", "body"),
    [
        ("PATCH", f"{MAPS}/a", "application/json-patch+json", [{"op": [[]], "path": "/x", "value": 1}]),
        (
            "POST",
            WORKS,
            "application/json",
            {
                "metadata": {"name": "w"},
                "spec": {"workload": {"manifests": [{"apiVersion": "v1", "kind": "X", "metadata": {"name": {}}}]}},
            },
        ),
        (
            "POST",
            WORKS,
            "application/json",
            {"metadata": {"name": "w"}, "spec": {"workload": {"manifests": [{"metadata": []}]}}},
        ),
        (
            "PATCH",
            f"{MAPS}/a?fieldManager=x",
            "application/apply-patch+yaml",
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": True}, "nothing": 1},
        ),
    ],
)
async def test_what_once_broke_it_is_refused(
    api_server: ApiServer, method: str, path: str, content_type: str, body: Any
) -> None:
    headers = {"Authorization": f"Bearer {api_server.token}", "Content-Type": content_type}
    async with aiohttp.ClientSession(api_server.url) as client:
        await (await client.post(MAPS, json={"metadata": {"name": "a"}}, headers=headers)).read()
        async with client.request(method, path, data=json.dumps(body), headers=headers) as answer:
            assert answer.status in (400, 422)
            assert (await answer.json())["message"]
