"""What is written, and what is not: a fleet that stays as it is, objects of others, answers without end; metrics."""

from __future__ import annotations

import asyncio
import gzip
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from controllers_scene import Scene, until
from controllers_scorer import Scorer, always, policy_object, published, says, scorer_object

from hub.api import names
from hub.api.conditions import find_condition
from hub.api.resource import ADDON_PLACEMENT_SCORES, DYNAMIC_SCORERS, SCORER_POLICIES
from hub.api.timestamps import parse_time
from hub.controllers.readings import refresh

Json = dict[str, Any]


@pytest.fixture
async def scorer() -> AsyncIterator[Scorer]:
    server = await Scorer().start()
    yield server
    await server.stop()


async def site(scene: Scene, *clusters: str) -> None:
    for name in clusters:
        await scene.agent(name)
    await scene.available(*clusters)


async def test_scores_that_stay_as_they_are_cost_no_writes_until_half_of_their_validity_is_over(
    scene: Scene, scorer: Scorer
) -> None:
    scorer.answer = always(40)
    policy = policy_object("load", validFor="10m", scoreDeadband="5")
    await scene.api.create(SCORER_POLICIES, policy, "default")
    hub = await scene.hub(scorers={"dynamic": {"sync": "200ms"}})
    await site(scene, "ash")
    await scene.api.create(DYNAMIC_SCORERS, scorer_object("load", scorer.url), "default")
    await until(lambda: published(scene, "ash", "my-score"))
    await says(scene, "load", "Ready", "ScoreAnswered")
    asked = len(scorer.asked)
    before = await scene.api.get(ADDON_PLACEMENT_SCORES, "my-score", "ash")
    told = await scene.api.get(DYNAMIC_SCORERS, "load", "default")
    # Less than the deadband, too.
    scorer.answer = always(43)
    await until(lambda: len(scorer.asked) >= asked + 3)
    after = await scene.api.get(ADDON_PLACEMENT_SCORES, "my-score", "ash")
    assert after["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]
    now_told = await scene.api.get(DYNAMIC_SCORERS, "load", "default")
    assert now_told["metadata"]["resourceVersion"] == told["metadata"]["resourceVersion"]
    assert 590 < parse_time(after["status"]["validUntil"]).timestamp() - time.time() < 601
    ready = find_condition(after["status"]["conditions"], "ScorerReady")
    assert ready is not None
    assert (ready["status"], ready["reason"], ready["message"]) == ("True", "ScorerAccepted", "given by default/load")
    assert after["metadata"]["annotations"] == {names.SCORER: "default/load"}
    scorer.answer = always(90)

    async def moved() -> bool:
        return await published(scene, "ash", "my-score") == {"my_score": 90}

    await until(moved)
    assert hub.metrics.registry.get_sample_value(
        "dynamic_scoring_requests_total", {"score_name": "my_score", "status": "success"}
    )


async def test_what_the_hub_publishes_comes_back_when_somebody_deletes_it(scene: Scene, scorer: Scorer) -> None:
    scorer.answer = always(40)
    await scene.hub()
    await site(scene, "ash")
    await scene.api.create(DYNAMIC_SCORERS, scorer_object("load", scorer.url), "default")
    await until(lambda: published(scene, "ash", "my-score"))
    first = (await scene.api.get(ADDON_PLACEMENT_SCORES, "my-score", "ash"))["metadata"]["uid"]
    await scene.api.delete(ADDON_PLACEMENT_SCORES, "my-score", "ash")
    assert await until(lambda: published(scene, "ash", "my-score")) == {"my_score": 40}
    assert (await scene.api.get(ADDON_PLACEMENT_SCORES, "my-score", "ash"))["metadata"]["uid"] != first


async def test_an_object_that_is_somebody_elses_is_left_alone_and_said(scene: Scene, scorer: Scorer) -> None:
    scorer.answer = always(40)
    await scene.hub()
    await site(scene, "ash", "elm")
    theirs = {
        "apiVersion": ADDON_PLACEMENT_SCORES.api_version,
        "kind": "AddOnPlacementScore",
        "metadata": {"name": "my-score", "namespace": "ash"},
    }
    await scene.api.create(ADDON_PLACEMENT_SCORES, theirs, "ash")
    status = {"status": {"scores": [{"name": "free", "value": 3}]}}
    await scene.api.patch(ADDON_PLACEMENT_SCORES, "my-score", status, "ash", subresource="status")
    await asyncio.sleep(0.2)
    await scene.api.create(DYNAMIC_SCORERS, scorer_object("load", scorer.url), "default")
    said = await says(scene, "load", "Published", "ScoreNameTaken")
    assert "AddOnPlacementScore my-score of ash is not the hub's" in said["message"]
    assert await until(lambda: published(scene, "elm", "my-score")) == {"my_score": 40}
    kept = await scene.api.get(ADDON_PLACEMENT_SCORES, "my-score", "ash")
    assert kept["status"] == status["status"]
    # Once it is gone the name is free.
    await scene.api.delete(ADDON_PLACEMENT_SCORES, "my-score", "ash")
    assert await until(lambda: published(scene, "ash", "my-score")) == {"my_score": 40}
    await says(scene, "load", "Published", "ScoreAnswered")


async def test_a_score_that_is_a_metric_only_is_neither_published_nor_counted(scene: Scene, scorer: Scorer) -> None:
    scorer.answer = always(40, node="n1")
    hub = await scene.hub()
    await site(scene, "ash")
    body = scorer_object("load", scorer.url, scoreDestination="None")
    await scene.api.create(DYNAMIC_SCORERS, body, "default")
    await says(scene, "load", "Ready", "ScoreAnswered")
    read = hub.metrics.registry.get_sample_value
    labels = {f"ds_{name}": "" for name in ("device", "namespace", "app", "pod", "container", "meta")}
    labels |= {"ds_cluster": "ash", "ds_node": "n1", "ds_score_name": "my_score"}
    assert read("dynamic_score", labels) == 40
    assert await published(scene, "ash", "my-score") is None
    assert not any(entry.scorer.name == "Dynamic/my_score" for entry in hub.scores.scorers())


async def test_l_metrics_stand_beside_those_of_score_sources_and_go_with_the_scorer(
    scene: Scene, scorer: Scorer
) -> None:
    scorer.answer = lambda request: {
        "results": [{"metric": {}, "score": 40}] if scorer.clusters_asked()[-1] == "ash" else []
    }
    hub = await scene.hub()
    await site(scene, "ash", "elm")
    await scene.api.create(DYNAMIC_SCORERS, scorer_object("load", scorer.url), "default")
    await says(scene, "load", "Answering", "ScorerNoResults")
    await says(scene, "load", "Ready", "ScoreAnswered")
    read = hub.metrics.registry.get_sample_value
    refresh(hub)
    assert read("quarterdeck_score_coverage", {"source": "Dynamic/my_score"}) == 0.5
    age = read("quarterdeck_score_age_seconds", {"source": "Dynamic/my_score"})
    assert age is not None
    assert 0 <= age < 10
    for step in ("config", "scoring"):
        count = read("quarterdeck_dynamic_scorer_seconds_count", {"scorer": "default/load", "step": step})
        assert (count or 0) >= 1
    assert (read("dynamic_scoring_perform_seconds_total", {"score_name": "my_score"}) or 0) > 0
    await until(lambda: (read("dynamic_scoring_send_seconds_total", {"score_name": "my_score"}) or 0) > 0)
    await scene.api.delete(DYNAMIC_SCORERS, "load", "default")

    def gone() -> bool:
        refresh(hub)
        labels = {"scorer": "default/load", "reason": "ScorerNoResults"}
        found = [
            read("quarterdeck_dynamic_scorer_failures_total", labels),
            read("quarterdeck_score_coverage", {"source": "Dynamic/my_score"}),
            read("fleet_score", {"cluster": "ash", "score": "my_score", "dimension": ""}),
        ]
        return found == [None, None, None]

    await until(gone)


async def test_j_an_answer_without_end_or_of_a_hundred_megabytes_is_given_up(scene: Scene) -> None:
    endless, huge, packed = [await Scorer(name).start() for name in ("endless", "huge", "packed")]
    try:

        async def drip(request: web.Request) -> web.StreamResponse:
            response = web.StreamResponse()
            await response.prepare(request)
            while True:
                await response.write(b" ")
                await asyncio.sleep(0.05)

        endless.config["scoring"]["path"] = "/drip"
        runner = web.AppRunner(web.Application(), handler_cancellation=True, shutdown_timeout=0.1)
        runner.app.router.add_post("/drip", drip)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        endless.config["scoring"]["host"] = f"http://127.0.0.1:{runner.addresses[0][1]}"
        huge.answer = lambda request: (200, b" " * (9 << 20))
        bomb = gzip.compress(b" " * (100 << 20))
        packed.answer = lambda request: web.Response(body=bomb, headers={"Content-Encoding": "gzip"})
        await scene.hub()
        await site(scene, "ash")
        await scene.api.create(SCORER_POLICIES, policy_object("endless", timeout="500ms"), "default")
        for scorer, name in ((endless, "endless"), (huge, "huge"), (packed, "packed")):
            await scene.api.create(DYNAMIC_SCORERS, scorer_object(name, scorer.url), "default")
        await says(scene, "endless", "Ready", "ScorerTimeout")
        for name in ("huge", "packed"):
            assert "more than 8 MiB" in (await says(scene, name, "Ready", "ScorerAnswerUnusable"))["message"]
        await runner.cleanup()
    finally:
        for scorer in (endless, huge, packed):
            await scorer.stop()
