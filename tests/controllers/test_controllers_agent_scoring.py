"""A, B, C, D, H, J: scorers that real agents' rooms ask, and a real hub that makes of it what it makes of its own."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from controllers_line import Line
from controllers_scene import Scene, until
from controllers_scorer import (
    FakePrometheus,
    Scorer,
    always,
    condition,
    policy_object,
    published,
    says,
    scorer_object,
    series,
)

from agent.link import HubLink
from agent.scoring.room import SECRETS_NAMESPACE, ScoringRoom
from hub.api.resource import (
    CLUSTER_SCORINGS,
    DYNAMIC_SCORERS,
    MANAGED_CLUSTER_SET_BINDINGS,
    NAMESPACES,
    PLACEMENT_DECISIONS,
    PLACEMENTS,
    SCORER_POLICIES,
    SECRETS,
)
from hub.asking.access import Access
from hub.client.backoff import Backoff

Json = dict[str, Any]
SOON: Json = {"dynamic": {"sync": "150ms"}}


class Site:
    """A cluster whose agent scores; `line` can be cut. Its Secrets are in the scene's API, in a namespace of theirs."""

    def __init__(self, scene: Scene, name: str, kept: Path, access: Access, ahead: float) -> None:
        self.line, self.name = Line(scene.api), name
        accepted = asyncio.Event()
        accepted.set()
        self.room = ScoringRoom(
            self.line,
            lambda: scene.api,
            cluster=name,
            link=HubLink(Backoff(0.02, 0.2)),
            accepted=accepted,
            access=access,
            kept=kept,
            clock=lambda: time.time() + ahead,
        )
        self._task = asyncio.create_task(self.room.run())

    async def kill(self) -> None:
        self.line.cut()
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    def writes(self) -> int:
        return sum(count for (_, what), count in self.line.writes.items() if "clusterscorings" in what)


@pytest.fixture
async def sites(scene: Scene, tmp_path: Path) -> AsyncIterator[Any]:
    made: list[Site] = []

    async def make(*names: str, access: Access | None = None, ahead: float = 0.0) -> list[Site]:
        for name in names:
            await scene.agent(name)
        await scene.available(*names)
        fresh = [Site(scene, name, tmp_path / f"{name}.json", access or Access(), ahead) for name in names]
        made.extend(fresh)
        return fresh

    yield make
    for site in made:
        await site.kill()


def by_cluster(scorer: Scorer, values: Json) -> None:
    scorer.answer = lambda request: {"results": [{"metric": {}, "score": values[scorer.clusters_asked()[-1]]}]}


async def best_of(scene: Scene, resource: str, score: str) -> None:
    binding = {
        "apiVersion": MANAGED_CLUSTER_SET_BINDINGS.api_version,
        "kind": "ManagedClusterSetBinding",
        "metadata": {"name": "default", "namespace": "default"},
        "spec": {"clusterSet": "default"},
    }
    await scene.api.create(MANAGED_CLUSTER_SET_BINDINGS, binding, "default")
    coordinate = {"type": "AddOn", "addOn": {"resourceName": resource, "scoreName": score}}
    policy = {"mode": "Exact", "configurations": [{"scoreCoordinate": coordinate, "weight": 1}]}
    body = {
        "apiVersion": PLACEMENTS.api_version,
        "kind": "Placement",
        "metadata": {
            "name": "best",
            "namespace": "default",
            "annotations": {"fleet.quarterdeck.dev/min-dwell": "0s"},
        },
        "spec": {"numberOfClusters": 1, "prioritizerPolicy": policy},
    }
    await scene.api.create(PLACEMENTS, body, "default")


async def chosen(scene: Scene) -> list[str]:
    sheets = (await scene.api.list(PLACEMENT_DECISIONS, "default")).items
    return [d["clusterName"] for sheet in sheets for d in (sheet.get("status") or {}).get("decisions") or ()]


async def by_agents(scene: Scene, name: str, scorer: Scorer, **policy: Any) -> None:
    """Answers every second; they count longer than a busy machine takes to bring them."""
    policy = {"scoredBy": "Agent", "validFor": "5s", **policy}
    await scene.api.create(SCORER_POLICIES, policy_object(name, **policy), "default")
    await scene.api.create(DYNAMIC_SCORERS, scorer_object(name, scorer.url), "default")


async def test_a_agents_ask_in_both_modes_and_their_answers_count_as_the_hubs_own_do(
    scene: Scene, sites: Any, prometheus: FakePrometheus, scorer: Scorer
) -> None:
    prometheus.series = lambda query: [series([{"of-ash": 10.0, "of-elm": 31.4}[query]], node="n1")]
    params = {"query": "of-${cluster}", "range": 60, "step": 15}
    scorer.config["source"] = {"type": "Prometheus", "host": prometheus.url, "params": params}
    hub = await scene.hub(scorers=SOON)
    await sites("ash", "elm")
    await by_agents(scene, "load", scorer)
    assert await until(lambda: published(scene, "ash", "my-score"), 30) == {"my_score": 10}
    assert await until(lambda: published(scene, "elm", "my-score"), 30) == {"my_score": 31}
    hub.world.refresh()
    assert list(hub.world.fleet.scores("Dynamic/my_score", time.time())) == [10.0, 31.4]
    assert [entry.scorer.name for entry in hub.scores.scorers() if entry.scorer.name.startswith("Dynamic/")]
    assert (await says(scene, "load", "Ready", "ScoreAnswered"))["status"] == "True"
    read = hub.metrics.registry.get_sample_value
    assert read("fleet_score", {"cluster": "elm", "score": "my_score", "dimension": ""}) == 31.4
    # Of mode None, and with nothing to send: an empty list.
    async with _another("health") as other:
        other.answer = always(7)
        scoring = {"path": "/scoring", "params": {"name": "health", "interval": 1}}
        await scene.api.create(SCORER_POLICIES, policy_object("health", scoredBy="Agent"), "default")
        body = scorer_object("health", other.url, mode="None", scoring=scoring, source={"type": "None"})
        await scene.api.create(DYNAMIC_SCORERS, body, "default")
        assert await until(lambda: published(scene, "ash", "health")) == {"health": 7}
        assert other.asked[0][1] == {"data": []}


async def test_a_what_fails_at_an_agent_has_the_same_reasons(scene: Scene, sites: Any, scorer: Scorer) -> None:
    hub = await scene.hub(scorers=SOON)
    await sites("ash")
    await by_agents(scene, "load", scorer, timeout="300ms")
    for reason, answer in {
        "ScorerFailed": lambda request: (500, b""),
        "ScoreNotANumber": always(None),
        "ScorerAnswerNotJSON": lambda request: (200, b"<html>"),
    }.items():
        scorer.answer = answer  # type: ignore[assignment]
        said = await says(scene, "load", "Answering", reason, 20)
        assert said["message"].startswith("default/load: ash: ")
        assert await published(scene, "ash", "my-score") is None
        labels = {"scorer": "default/load", "reason": reason}
        assert hub.metrics.registry.get_sample_value("quarterdeck_dynamic_scorer_failures_total", labels) == 1
    scorer.answer = always(5)
    await says(scene, "load", "Answering", "ScoreAnswered", 20)


async def test_b_a_changed_configuration_reaches_the_agents_and_an_old_answer_does_not_count(
    scene: Scene, sites: Any, scorer: Scorer
) -> None:
    scorer.answer = always(20)
    scorer.config["scoring"]["params"]["interval"] = 3600
    await scene.hub(scorers=SOON)
    await sites("ash")
    await by_agents(scene, "load", scorer)
    assert await until(lambda: published(scene, "ash", "my-score")) == {"my_score": 20}
    scorer.answer = always(30)
    scorer.config["scoring"]["params"] = {"name": "my_score", "interval": 1}
    changed = time.monotonic()

    async def new() -> bool:
        return await published(scene, "ash", "my-score") == {"my_score": 30}

    await until(new)
    assert time.monotonic() - changed < 5
    assert scorer.most_at_once == 1
    # One that leaves is not asked any more, and what was published of it goes.
    await scene.api.delete(DYNAMIC_SCORERS, "load", "default")

    async def gone() -> bool:
        told = await scene.api.get(CLUSTER_SCORINGS, "ash", "ash")
        return await published(scene, "ash", "my-score") is None and told["spec"] == {"scorers": []}

    await until(gone)
    asked = len(scorer.asked)
    await asyncio.sleep(1.5)
    assert len(scorer.asked) <= asked + 1


@pytest.mark.parametrize("ahead", [0.0, -3600.0], ids=["clocks agree", "an hour behind"])
async def test_c_a_killed_agents_score_ends_and_the_next_decision_moves(
    scene: Scene, sites: Any, scorer: Scorer, ahead: float
) -> None:
    values = {"ash": 90, "elm": 40}
    by_cluster(scorer, values)
    await scene.hub(scorers=SOON)
    ash, _ = await sites("ash", "elm", ahead=ahead)
    await best_of(scene, "my-score", "my_score")
    await by_agents(scene, "load", scorer)

    async def is_(cluster: str) -> bool:
        return await chosen(scene) == [cluster]

    await until(lambda: published(scene, "ash", "my-score"), 30)
    await until(lambda: published(scene, "elm", "my-score"), 30)
    await until(lambda: is_("ash"), 30)
    await ash.kill()
    killed = time.monotonic()
    await until(lambda: is_("elm"), 30)
    # Five seconds, and what a busy machine takes.
    assert time.monotonic() - killed < 20
    said = await says(scene, "load", "Fresh", "ScoreExpired")
    assert "ash: score expired" in said["message"]
    assert "elm" not in said["message"]


async def test_j_an_agent_that_is_cut_off_scores_on_and_tells_its_last_score_when_it_is_back(
    scene: Scene, sites: Any, scorer: Scorer
) -> None:
    values = {"ash": 50}
    by_cluster(scorer, values)
    await scene.hub(scorers=SOON)
    (ash,) = await sites("ash")
    await by_agents(scene, "load", scorer)
    assert await until(lambda: published(scene, "ash", "my-score")) == {"my_score": 50}
    ash.line.cut()
    asked = len(scorer.asked)
    await says(scene, "load", "Fresh", "ScoreExpired", 20)
    values["ash"] = 60
    await until(lambda: len(scorer.asked) >= asked + 4, 20)
    values["ash"] = 70
    again = len(scorer.asked)
    await until(lambda: len(scorer.asked) >= again + 2, 20)
    before = ash.writes()
    ash.line.heal()

    async def back() -> bool:
        return await published(scene, "ash", "my-score") == {"my_score": 70}

    await until(back, 20)
    assert ash.writes() - before <= 2
    await says(scene, "load", "Fresh", "ScoreAnswered", 20)


async def test_j_a_hub_that_starts_takes_nothing_from_agents_before_it_knows_what_they_are_to_ask(
    scene: Scene, sites: Any, scorer: Scorer
) -> None:
    scorer.answer = always(5)
    first = await scene.hub(scorers=SOON)
    await sites("ash")
    await by_agents(scene, "load", scorer)
    await until(lambda: published(scene, "ash", "my-score"))
    before = await scene.api.get(CLUSTER_SCORINGS, "ash", "ash")
    await scene.kill(first)
    await scene.hub(identity="second", scorers=SOON)
    await says(scene, "load", "Ready", "ScoreAnswered")
    asked = len(scorer.asked)
    await until(lambda: len(scorer.asked) > asked + 1)
    after = await scene.api.get(CLUSTER_SCORINGS, "ash", "ash")
    assert after["metadata"]["generation"] == before["metadata"]["generation"]


async def test_h_an_agent_has_secrets_programs_and_hosts_of_its_own(
    scene: Scene, sites: Any, scorer: Scorer, tmp_path: Path
) -> None:
    scorer.token = "of the cluster"
    scorer.answer = lambda request: {
        "results": [{"metric": {}, "score": float(one["values"][0][1])} for one in request["data"]]
    }
    program = tmp_path / "power"
    program.write_text('#!/bin/sh\necho "${#QUARTERDECK_CLUSTER}2.5"\n')
    program.chmod(0o755)
    secret = {
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "api", "namespace": SECRETS_NAMESPACE},
        "data": {"token": base64.b64encode(b"of the cluster").decode()},
    }  # fmt: skip
    await scene.api.create(
        NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SECRETS_NAMESPACE}}
    )
    await scene.api.create(SECRETS, secret, SECRETS_NAMESPACE)
    await scene.hub(scorers=SOON)
    await sites("ash", access=Access(programs={"power": [str(program)]}))
    await sites("elm")
    await scene.api.create(
        SCORER_POLICIES, policy_object("load", scoredBy="Agent", source={"exec": {"program": "power"}}), "default"
    )
    auth = {"tokenSecretRef": {"name": "api", "key": "token"}}
    await scene.api.create(DYNAMIC_SCORERS, scorer_object("load", scorer.url, scoring={"auth": auth}), "default")
    assert await until(lambda: published(scene, "ash", "my-score"), 20) == {"my_score": 32}
    said = await says(scene, "load", "Answering", "ScorerNotAllowed", 20)
    assert "elm: may not run power" in said["message"]
    assert (await condition(scene, "load"))["status"] == "True"
    # A token that is rotated in the cluster is used at the next asking.
    scorer.token = "another"
    secret = {"data": {"token": base64.b64encode(b"another").decode()}}
    await scene.api.patch(SECRETS, "api", secret, SECRETS_NAMESPACE)
    heard = len(scorer.asked)
    await until(lambda: len(scorer.asked) >= heard + 2, 20)
    assert scorer.asked[-1][0]["Authorization"] == "Bearer another"


async def test_a_agents_that_say_nothing_are_waited_for_and_said(scene: Scene, scorer: Scorer) -> None:
    """Clusters whose agents do not know how, such as stock ones."""
    await scene.hub(scorers=SOON)
    for name in ("ash", "elm"):
        await scene.agent(name)
    await scene.available("ash", "elm")
    await by_agents(scene, "load", scorer)

    async def told() -> bool:
        said = (await condition(scene, "load")).get("message", "")
        return "the agents of 2 clusters are told to ask it, and none has answered yet" in said

    await until(told)
    assert scorer.asked == []


@contextlib.asynccontextmanager
async def _another(name: str) -> AsyncIterator[Scorer]:
    scorer = await Scorer(name).start()
    try:
        yield scorer
    finally:
        await scorer.stop()
