"""Groups that somebody else serves: what is passed on with which words, and what a silent server costs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from hub.api.errors import UsageError
from hub.apiserver.aggregation import read_aggregated
from hub.apiserver.server import ApiServer, serve

GROUP = "visibility.kueue.x-k8s.io"


class Behind:
    """A server behind the API that keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[web.Request] = []
        self.url = ""

    async def answer(self, request: web.Request) -> web.Response:
        self.asked.append(request)
        if request.path.endswith("/elsewhere"):
            raise web.HTTPFound("http://127.0.0.1:1/secret")
        if request.path.endswith("/large"):
            return web.Response(body=b"x" * (1 << 20))
        return web.json_response({"kind": "Mine"}, status=404 if request.path.endswith("/absent") else 200)


@pytest.fixture
async def behind() -> AsyncIterator[Behind]:
    found = Behind()
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", found.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    found.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield found
    await runner.cleanup()


@pytest.fixture
async def api(behind: Behind, tmp_path: Path) -> AsyncIterator[ApiServer]:
    async with serve(tmp_path, aggregated={GROUP: behind.url, "gone.example": "http://127.0.0.1:1"}) as server:
        yield server


async def _ask(api: ApiServer, path: str, method: str = "GET", token: str | None = None) -> tuple[int, str, bytes]:
    headers = {"Authorization": f"Bearer {api.token if token is None else token}", "X-Mine": "1"}
    async with (
        aiohttp.ClientSession(headers=headers) as http,
        http.request(method, api.url + path, allow_redirects=False) as answer,
    ):
        return answer.status, answer.content_type, await answer.read()


async def test_a_request_is_passed_on_with_its_query_and_the_callers_token(api: ApiServer, behind: Behind) -> None:
    path = f"/apis/{GROUP}/v1beta1/clusterqueues/a%2Fb/pendingworkloads?offset=2&limit=3"
    assert await _ask(api, path) == (200, "application/json", b'{"kind": "Mine"}')
    (request,) = behind.asked
    assert request.raw_path == path
    assert request.headers["Authorization"] == f"Bearer {api.token}"
    assert "X-Mine" not in request.headers


async def test_what_the_other_server_refuses_is_refused(api: ApiServer) -> None:
    status, _, body = await _ask(api, f"/apis/{GROUP}/absent")
    assert (status, body) == (404, b'{"kind": "Mine"}')


async def test_a_large_answer_comes_whole(api: ApiServer) -> None:
    status, _, body = await _ask(api, f"/apis/{GROUP}/large")
    assert (status, len(body)) == (200, 1 << 20)


async def test_nobody_is_led_elsewhere(api: ApiServer) -> None:
    status, _, body = await _ask(api, f"/apis/{GROUP}/elsewhere")
    assert status == 302
    assert b"secret" not in body


async def test_who_is_not_known_gets_nowhere(api: ApiServer, behind: Behind) -> None:
    status, _, _ = await _ask(api, f"/apis/{GROUP}/v1beta1", token="wrong")
    assert status == 401
    assert behind.asked == []


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
async def test_only_reading_is_passed_on(api: ApiServer, behind: Behind, method: str) -> None:
    status, _, _ = await _ask(api, f"/apis/{GROUP}/v1beta1", method)
    assert status == 405
    assert behind.asked == []


async def test_a_server_that_is_not_there_is_named_and_the_rest_goes_on(api: ApiServer) -> None:
    status, _, body = await _ask(api, "/apis/gone.example/v1")
    assert status == 503
    assert b"gone.example" in body
    assert (await _ask(api, "/api/v1/namespaces"))[0] == 200


@pytest.mark.parametrize("option", ["x", "x=", "=http://a", "x=ftp://a", "x=http://"])
def test_an_option_that_says_nothing_is_refused(option: str) -> None:
    with pytest.raises(UsageError, match="GROUP=URL"):
        read_aggregated([option])


def test_options_by_group() -> None:
    assert read_aggregated(["a.example=http://h:1/", "b=https://h"]) == {
        "a.example": "http://h:1",
        "b": "https://h",
    }
