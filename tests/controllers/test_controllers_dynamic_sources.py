"""H: where scorers' data comes from besides Prometheus: documents, written values, programs, pushed metrics."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import stat
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from controllers_scene import Scene, until
from controllers_scorer import Scorer, policy_object, published, says, scorer_object

from hub.api.resource import DYNAMIC_SCORERS, SCORER_POLICIES, SECRETS
from hub.client.session import Session
from hub.controllers.metrics_server import MetricsServer
from hub.controllers.otlp_server import OtlpPages
from hub.controllers.permission import Permission

Json = dict[str, Any]
SOON: Json = {"dynamic": {"sync": "150ms"}}


class Document:
    """A JSON document over HTTP; `asked`: (path, Authorization) of each request."""

    def __init__(self) -> None:
        self.content: Any = {}
        self.asked: list[tuple[str, str]] = []
        self.url = ""
        self._runner: web.AppRunner | None = None

    async def start(self) -> Document:
        app = web.Application()
        app.router.add_get("/{tail:.*}", self._get)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _get(self, request: web.Request) -> web.Response:
        self.asked.append((request.path, request.headers.get("Authorization", "")))
        content = self.content(request.path) if callable(self.content) else self.content
        return web.json_response(content)


@pytest.fixture
async def document() -> AsyncIterator[Document]:
    server = await Document().start()
    yield server
    await server.stop()


def newest(request: Json) -> Json:
    """Each series' newest sample is its score."""
    return {"results": [{"metric": s["metric"], "score": float(s["values"][-1][1])} for s in request["data"]]}


async def start(
    scene: Scene, scorer: Scorer, source: Json, *clusters: str, spec: Json | None = None, **config: Any
) -> Any:
    hub = await scene.hub(scorers=SOON, **config)
    for name in clusters:
        await scene.agent(name)
    await scene.available(*clusters)
    await scene.api.create(SCORER_POLICIES, policy_object("load", source=source, validFor="1m"), "default")
    body = scorer_object("load", scorer.url, scoreDimensionFormat="${scoreName}${node}", **(spec or {}))
    await scene.api.create(DYNAMIC_SCORERS, body, "default")
    return hub


def sent_for(scorer: Scorer, cluster: str) -> list[Json]:
    return [body for headers, body in scorer.asked if headers["X-Quarterdeck-Cluster"] == cluster]


async def test_h_a_document_is_fetched_once_for_all_and_each_cluster_gets_its_members(
    scene: Scene, scorer: Scorer, document: Document
) -> None:
    scorer.answer = newest
    now = time.time()
    document.content = {
        "sites": [
            {"name": "ash", "load": 12.5, "node": "n1", "at": now},
            {"name": "ash", "load": "40", "node": "n2", "at": now - 5},
            {"name": "elm", "load": None, "node": "n1", "at": now},
            {"name": "fir", "load": 7, "node": "n1", "at": now - 9999},
        ]
    }
    secret = {
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "doc", "namespace": "default"},
        "stringData": {"token": "of the document"},
    }  # fmt: skip
    await scene.api.create(SECRETS, secret, "default")
    source = {
        "httpJson": {"url": f"{document.url}/v1", "items": "sites", "cluster": "name", "value": "load", "time": "at"}
    }
    auth = {"source": {"auth": {"tokenSecretRef": {"name": "doc", "key": "token"}}}}
    await start(scene, scorer, source, "ash", "elm", "fir", "oak", spec=auth)
    assert await until(lambda: published(scene, "ash", "my-score")) == {"my_scoren1": 12, "my_scoren2": 40}
    assert [s["metric"] for s in sent_for(scorer, "ash")[0]["data"]] == [
        {"cluster": "ash", "node": "n1"}, {"cluster": "ash", "node": "n2"},
    ]  # fmt: skip
    # One request for all clusters, with the token; what could not be used is said of its cluster.
    assert set(document.asked) == {("/v1", "Bearer of the document")}
    assert len(document.asked) <= len(sent_for(scorer, "ash")) + 1
    said = (await says(scene, "load", "Answering", "ScoreSourceFailed"))["message"]
    assert "elm: " in said
    assert "None is not a number" in said
    assert "fir: " in said
    assert " old" in said
    assert sent_for(scorer, "elm") == []
    # Of oak the document says nothing: the scorer is asked with an empty list.
    assert sent_for(scorer, "oak")[0]["data"] == []


async def test_h_a_document_of_each_cluster_and_one_of_its_own(
    scene: Scene, scorer: Scorer, document: Document
) -> None:
    scorer.answer = newest
    document.content = lambda path: {"ash": 3, "elm": 4}.get(path.rpartition("/")[2], 9)
    source = {"httpJson": {"url": document.url + "/of/${cluster}"}}
    await start(scene, scorer, source, "ash", "elm")
    assert await until(lambda: published(scene, "ash", "my-score")) == {"my_score": 3}
    assert await until(lambda: published(scene, "elm", "my-score")) == {"my_score": 4}
    # An override has the address of one cluster.
    override = {"clusters": ["elm"], "source": {"path": "/elsewhere"}}
    await scene.api.patch(SCORER_POLICIES, "load", {"spec": {"overrides": [override]}}, "default")

    async def elsewhere() -> bool:
        return ("/elsewhere", "") in document.asked

    await until(elsewhere)


async def test_h_written_values_are_sent_and_a_cluster_without_one_gets_an_empty_list(
    scene: Scene, scorer: Scorer
) -> None:
    scorer.answer = newest
    await start(scene, scorer, {"static": {"values": {"ash": "1.5k", "elm": "-3"}}}, "ash", "elm", "oak")
    assert await until(lambda: published(scene, "elm", "my-score")) == {"my_score": -3}
    assert await until(lambda: published(scene, "ash", "my-score")) == {"my_score": 100}
    await until(lambda: sent_for(scorer, "oak"))
    assert sent_for(scorer, "oak")[0] == {"data": []}
    (one,) = sent_for(scorer, "ash")[0]["data"]
    assert one["values"][0][1] == "1500.0"


def program(path: Path, text: str) -> list[str]:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return [str(path)]


async def test_h_a_program_that_the_configuration_has_is_run_once_a_cluster_and_nothing_else(
    scene: Scene, scorer: Scorer, tmp_path: Path
) -> None:
    scorer.answer = newest
    command = program(
        tmp_path / "power",
        'printf \'{"data": [{"metric": {"node": "%s"}, "values": [[1, "4"], [2, "%s"]]}]}\' '
        '"$1" "${#QUARTERDECK_CLUSTER}"\n'
        f"env > {tmp_path}/env; cat > {tmp_path}/input",
    )
    os.environ["QUARTERDECK_TEST_SECRET"] = "of the hub"
    try:
        source = {"exec": {"program": "power"}}
        await start(scene, scorer, source, "ash", "maple", sources={"programs": {"power": [*command, "$(id)"]}})
        assert await until(lambda: published(scene, "ash", "my-score")) == {"my_score$(id)": 3}
        assert await until(lambda: published(scene, "maple", "my-score")) == {"my_score$(id)": 5}
    finally:
        del os.environ["QUARTERDECK_TEST_SECRET"]
    environment = (tmp_path / "env").read_text()
    assert "QUARTERDECK_CLUSTER=" in environment
    assert "QUARTERDECK_TEST_SECRET" not in environment
    assert (tmp_path / "input").read_text() == ""
    await scene.api.patch(SCORER_POLICIES, "load", {"spec": {"source": {"exec": {"program": "rm"}}}}, "default")
    said = (await says(scene, "load", "Answering", "ScorerNotAllowed"))["message"]
    assert "may not run rm: sources.programs in the configuration has power" in said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("echo careful >&2; exit 3", "ends with 3: careful"),
        ("echo nonsense", "'nonsense', which is not JSON"),
        ("echo '{\"data\": 5}'", "no list of series"),
        ("sleep 60 & sleep 60", "has not ended within 0.4 s"),
        ("head -c 9000000 /dev/zero | tr '\\0' 1", "prints more than 4 MiB"),
        ("exec /nowhere/at/all", "ends with 127"),
    ],
)
async def test_h_a_program_that_does_not_do_costs_itself_only_and_leaves_nothing_behind(
    scene: Scene, scorer: Scorer, tmp_path: Path, text: str, said: str
) -> None:
    command = program(tmp_path / "odd", f"echo $$ >> {tmp_path}/pids\n{text}")
    hub = await scene.hub(scorers=SOON, sources={"programs": {"odd": command}})
    await scene.agent("ash")
    await scene.available("ash")
    policy = policy_object("load", source={"exec": {"program": "odd"}}, timeout="400ms")
    await scene.api.create(SCORER_POLICIES, policy, "default")
    await scene.api.create(DYNAMIC_SCORERS, scorer_object("load", scorer.url), "default")
    assert said in (await says(scene, "load", "Answering", "ScoreSourceFailed"))["message"]
    assert scorer.asked == []
    assert hub.dynamic.states["default", "load"].problem is None
    await scene.api.delete(DYNAMIC_SCORERS, "load", "default")

    def nobody() -> bool:
        groups = {int(pid) for pid in (tmp_path / "pids").read_text().split()}
        return not any(_alive(group) for group in groups)

    await until(nobody)


def _alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


# Pushed.


@pytest.fixture
async def receiver(api: Session) -> AsyncIterator[Any]:
    """`receiver(hub)` is where that hub takes pushes."""
    made: list[MetricsServer] = []

    async def make(hub: Any) -> str:
        pages = OtlpPages(hub.dynamic.pushed, Permission(api), lambda: hub.dynamic.running)
        server = MetricsServer("127.0.0.1:0", hub.metrics.registry, lambda: None, lambda: "", pages.routes)
        await server.__aenter__()
        made.append(server)
        return f"http://127.0.0.1:{server.port}/v1/metrics"

    yield make
    for server in made:
        await server.__aexit__(None, None, None)


def gauge(cluster: str, value: float, at: float, name: str = "gpu.power", **attributes: str) -> Json:
    def listed(of: Json) -> list[Json]:
        return [{"key": key, "value": {"stringValue": text}} for key, text in of.items()]

    point = {"timeUnixNano": str(int(at * 1e9)), "asDouble": value, "attributes": listed(attributes)}
    return {
        "resource": {"attributes": listed({"k8s.cluster.name": cluster, "k8s.node.name": "n1"} if cluster else {})},
        "scopeMetrics": [{"metrics": [{"name": name, "gauge": {"dataPoints": [point]}}]}],
    }


async def push(url: str, *resources: Json, token: str = "", **options: Any) -> tuple[int, Any]:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    headers |= options.pop("headers", {})
    if not options:
        options = {"json": {"resourceMetrics": list(resources)}}
    async with aiohttp.ClientSession() as session, session.post(url, headers=headers, **options) as response:
        body = await response.read()
        return response.status, json.loads(body) if "json" in response.content_type else body


async def test_h_metrics_that_are_pushed_are_sent_to_the_scorer_that_names_them(
    scene: Scene, scorer: Scorer, receiver: Any, api_server: Any
) -> None:
    scorer.answer = newest
    hub = await start(scene, scorer, {"otlp": {"metrics": ["gpu.power", "queue"], "range": 60}}, "ash", "elm")
    url, token = await receiver(hub), api_server.token
    await until(lambda: sent_for(scorer, "ash"))
    assert sent_for(scorer, "ash")[0] == {"data": []}
    now = time.time()
    sent = [
        gauge("ash", 20.0, now - 20), gauge("ash", 35.0, now - 1), gauge("elm", 61.0, now),
        gauge("ash", 1.0, now, name="nobody.asks"), gauge("ash", 5.0, now - 600), gauge("", 7.0, now),
    ]  # fmt: skip
    status, answer = await push(url, *sent, token=token)
    assert status == 200
    # What is too old and what is of no cluster is said, as the protocol has it.
    assert answer["partialSuccess"]["rejectedDataPoints"] == "2"
    assert "k8s.cluster.name" in answer["partialSuccess"]["errorMessage"]
    assert await until(lambda: published(scene, "ash", "my-score")) == {"my_scoren1": 35}
    assert await until(lambda: published(scene, "elm", "my-score")) == {"my_scoren1": 61}
    (one,) = sent_for(scorer, "ash")[-1]["data"]
    assert one["metric"] == {
        "__name__": "gpu.power", "cluster": "ash", "node": "n1", "k8s_cluster_name": "ash", "k8s_node_name": "n1",
    }  # fmt: skip
    assert [value for _, value in one["values"]] == ["20.0", "35.0"]
    packed = gzip.compress(json.dumps({"resourceMetrics": [gauge("ash", 44.0, time.time())]}).encode())
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    assert await push(url, token=token, data=packed, headers=headers) == (200, {})

    async def newer() -> bool:
        return await published(scene, "ash", "my-score") == {"my_scoren1": 44}

    await until(newer)


async def test_h_protobuf_is_taken_where_its_package_is(
    scene: Scene, scorer: Scorer, receiver: Any, api_server: Any
) -> None:
    pb2 = pytest.importorskip("opentelemetry.proto.collector.metrics.v1.metrics_service_pb2")
    from google.protobuf.json_format import ParseDict

    scorer.answer = newest
    hub = await start(scene, scorer, {"otlp": {"metrics": ["gpu.power"]}}, "ash")
    url, token = await receiver(hub), api_server.token
    await until(lambda: hub.dynamic.roster.pushed_metrics())
    now = time.time()
    request = ParseDict(
        {"resourceMetrics": [gauge("ash", 12.0, now), gauge("ash", 1.0, now + 7200)]}, pb2.ExportMetricsServiceRequest()
    )
    headers = {"Content-Type": "application/x-protobuf"}
    status, body = await push(url, token=token, data=request.SerializeToString(), headers=headers)
    assert status == 200
    answer = pb2.ExportMetricsServiceResponse.FromString(body)
    assert answer.partial_success.rejected_data_points == 1
    assert "ahead" in answer.partial_success.error_message
    assert await until(lambda: published(scene, "ash", "my-score")) == {"my_scoren1": 12}
    status, body = await push(url, token=token, data=b"\xff\xff\xff", headers=headers)
    assert status == 400


async def test_h_who_may_not_say_what_a_clusters_scores_are_may_not_push_for_it(
    scene: Scene, receiver: Any, api_server: Any
) -> None:
    hub = await scene.hub(scorers=SOON)
    url, now = await receiver(hub), time.time()
    assert (await push(url, gauge("ash", 1.0, now)))[0] == 401
    assert (await push(url, gauge("ash", 1.0, now), token="guessed"))[0] == 401
    asked: list[Json] = []
    refused = Permission(_Judge(scene.api, asked, only="ash"))  # type: ignore[arg-type]
    pages = OtlpPages(hub.dynamic.pushed, refused, lambda: True)
    async with MetricsServer("127.0.0.1:0", hub.metrics.registry, lambda: None, lambda: "", pages.routes) as server:
        url = f"http://127.0.0.1:{server.port}/v1/metrics"
        assert (await push(url, gauge("ash", 1.0, now), token="t"))[0] == 200
        status, answer = await push(url, gauge("elm", 1.0, now), token="t")
        assert status == 403
        assert "patch clusterscorings/status" in answer["message"]
        # One that may speak for one cluster cannot hide another among it.
        assert (await push(url, gauge("ash", 1.0, now), gauge("elm", 1.0, now), token="t"))[0] == 403
    assert {entry["namespace"] for entry in asked if "namespace" in entry} == {"ash", "elm"}
    assert all(entry["subresource"] == "status" for entry in asked)


class _Judge:
    """An API that knows everybody, and lets them patch the scoring of one cluster."""

    def __init__(self, api: Any, asked: list[Json], only: str) -> None:
        self._asked, self._only = asked, only

    async def create(self, resource: Any, review: Json) -> Json:
        if resource.kind == "TokenReview":
            return {"status": {"authenticated": True, "user": {"username": "somebody"}}}
        attributes = review["spec"]["resourceAttributes"]
        self._asked.append(attributes)
        return {"status": {"allowed": attributes.get("namespace") == self._only}}


async def test_h_what_is_no_push_is_said(scene: Scene, receiver: Any, api_server: Any) -> None:
    hub = await scene.hub(scorers=SOON)
    url, token = await receiver(hub), api_server.token
    for options, expected in (
        ({"data": b"{", "headers": {"Content-Type": "application/json"}}, 400),
        ({"data": b"[]", "headers": {"Content-Type": "application/json"}}, 400),
        ({"data": b"x", "headers": {"Content-Type": "text/plain"}}, 415),
        ({"data": b" " * (17 << 20), "headers": {"Content-Type": "application/json"}}, 413),
    ):
        assert (await push(url, token=token, **options))[0] == expected, expected
    # Unpacked it would be a gigabyte.
    bomb = gzip.compress(b" " * (64 << 20))
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    assert (await push(url, token=token, data=bomb, headers=headers))[0] == 413
    # A hub that does not lead asks for it again later.
    hub.dynamic.stop()
    await asyncio.sleep(0)
    assert (await push(url, gauge("ash", 1.0, time.time()), token=token))[0] == 503
