"""DynamicScorers end to end: a hub, agents, and scorers that speak the framework's protocol over real HTTP."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from controllers_scene import Scene, until
from controllers_scorer import FakePrometheus, Scorer, always, policy_object, scorer_object, series

from hub.api.conditions import find_condition
from hub.api.errors import NotFoundError
from hub.api.resource import ADDON_PLACEMENT_SCORES, DYNAMIC_SCORERS, SCORER_POLICIES

Json = dict[str, Any]


@pytest.fixture
async def prometheus() -> AsyncIterator[FakePrometheus]:
    server = await FakePrometheus().start()
    yield server
    await server.stop()


@pytest.fixture
async def scorers() -> AsyncIterator[list[Scorer]]:
    started: list[Scorer] = []
    yield started
    for scorer in started:
        await scorer.stop()


async def condition(scene: Scene, name: str, kind: str = "Ready") -> Json:
    status = (await scene.api.get(DYNAMIC_SCORERS, name, "default")).get("status") or {}
    return find_condition(status.get("conditions"), kind) or {}


async def says(scene: Scene, name: str, kind: str, reason: str, seconds: float = 10.0) -> Json:
    async def so() -> Json | None:
        found = await condition(scene, name, kind)
        return found if found.get("reason") == reason else None

    try:
        return await until(so, seconds)
    except AssertionError:
        status = (await scene.api.get(DYNAMIC_SCORERS, name, "default")).get("status")
        raise AssertionError(f"{kind} is not {reason} but {status}") from None


async def published(scene: Scene, cluster: str, name: str) -> dict[str, int] | None:
    try:
        status = (await scene.api.get(ADDON_PLACEMENT_SCORES, name, cluster)).get("status") or {}
    except NotFoundError:
        return None
    return {score["name"]: score["value"] for score in status.get("scores") or ()} if "validUntil" in status else None


async def test_a_mode_full_scorer_is_asked_for_each_cluster_and_its_scores_are_published(
    scene: Scene, prometheus: FakePrometheus, scorers: list[Scorer]
) -> None:
    prometheus.series = lambda query: [
        series([10, 20], cluster="ash", node="n1"),
        series([2.5, "NaN"], cluster="ash", node="n2"),
        series([40.0], cluster="elm", node="n1"),
    ]
    source = {
        "type": "Prometheus", "host": prometheus.url, "path": "/api/v1/query_range",
        "params": {"query": "avg by (cluster, node) (node_load1)", "range": 3600, "step": 30},
    }  # fmt: skip
    scorer = await Scorer(source=source).start()
    scorers.append(scorer)
    scorer.answer = lambda request: {
        "results": [{"metric": one["metric"], "score": float(one["values"][0][1])} for one in request["data"]]
    }
    hub = await scene.hub()
    for name in ("ash", "elm"):
        await scene.agent(name)
    await scene.available("ash", "elm")
    body = scorer_object("load", scorer.url, scoreDimensionFormat="${scoreName}/${node}")
    await scene.api.create(DYNAMIC_SCORERS, body, "default")
    await until(lambda: published(scene, "elm", "my-score"))
    assert await published(scene, "ash", "my-score") == {"my_score/n1": 10, "my_score/n2": 2}
    assert await published(scene, "elm", "my-score") == {"my_score/n1": 40}
    ready = await says(scene, "load", "Ready", "ScoreAnswered")
    assert ready["observedGeneration"] == 1
    status = (await scene.api.get(DYNAMIC_SCORERS, "load", "default"))["status"]
    assert status["healthStatus"] == "Active"
    assert status["lastSyncedConfig"]["scoring"] == {"path": "/scoring", "params": {"name": "my_score", "interval": 1}}
    # One query for the whole fleet, in whole seconds; numbers as Prometheus gave them.
    path, parameters, _ = prometheus.asked[0]
    assert (path, parameters["query"], parameters["step"]) == ("/api/v1/query_range", source["params"]["query"], "30")
    assert int(parameters["end"]) - int(parameters["start"]) == 3600
    sent = {headers["X-Quarterdeck-Cluster"]: request for headers, request in scorer.asked[:2]}
    assert sent["elm"] == {"data": [series([40.0], cluster="elm", node="n1")]}
    assert all(headers["Content-Type"] == "application/json" for headers, _ in scorer.asked)
    hub.world.refresh()
    assert list(hub.world.fleet.scores("Dynamic/my_score", time.time())) == [6.25, 40.0]
