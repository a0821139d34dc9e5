"""Bodies and headers that mean no good, over HTTP: refused with the reason, and the server goes on."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import aiohttp
import pytest

from hub.apiserver.server import ApiServer

WORKS = "/apis/work.open-cluster-management.io/v1/namespaces/default/manifestworks"
WORK = """{"apiVersion": "work.open-cluster-management.io/v1", "kind": "ManifestWork", "metadata": {"name": "w"},
"spec": {"workload": {"manifests": [
  {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": DEEP}
]}}}"""
LAUGHS = "a: &a [x,x]\n" + "".join(
    f"{chr(98 + n)}: &{chr(98 + n)} [*{chr(97 + n)},*{chr(97 + n)}]\n" for n in range(24)
)
Send = Callable[..., Awaitable[tuple[int, dict[str, object]]]]


@pytest.fixture
async def send(api_server: ApiServer) -> AsyncIterator[Send]:
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {api_server.token}"}) as client:

        async def request(method: str, path: str, body: str = "", **headers: str) -> tuple[int, dict[str, object]]:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            async with client.request(method, api_server.url + path, data=body.encode(), headers=named) as answer:
                return answer.status, await answer.json()

        yield request


def nested(depth: int) -> str:
    return '{"a":' * depth + "1" + "}" * depth


@pytest.mark.parametrize(
    ("method", "path", "content_type", "body"),
    [
        ("POST", WORKS, "application/json", WORK),
        ("PATCH", f"{WORKS}/w?fieldManager=x", "application/apply-patch+yaml", WORK),
        ("PATCH", f"{WORKS}/w", "application/merge-patch+json", '{"spec": DEEP}'),
        ("PATCH", f"{WORKS}/w", "application/json-patch+json", '[{"op": "test", "path": "", "value": DEEP}]'),
        ("PATCH", "/api/v1/namespaces/default", "application/strategic-merge-patch+json", '{"spec": DEEP}'),
    ],
)
async def test_what_is_nested_too_deeply_is_refused(
    send: Send, method: str, path: str, content_type: str, body: str
) -> None:
    for depth in (160, 300, 900, 5000):
        status, answer = await send(method, path, body.replace("DEEP", nested(depth)), Content_Type=content_type)
        assert status == 400, depth
        assert "body of the request" in str(answer["message"])


async def test_objects_of_a_depth_that_somebody_might_mean_are_kept(send: Send) -> None:
    status, _ = await send("POST", WORKS, WORK.replace("DEEP", nested(100)), Content_Type="application/json")
    assert status == 201
    assert (await send("GET", WORKS))[0] == 200


async def test_yaml_that_explodes_is_refused(send: Send) -> None:
    path = "/api/v1/namespaces/default/configmaps/x?fieldManager=x"
    status, answer = await send("PATCH", path, LAUGHS, Content_Type="application/apply-patch+yaml")
    assert status == 400
    assert "aliases" in str(answer["message"])
