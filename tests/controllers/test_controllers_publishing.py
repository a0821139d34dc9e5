"""Scores as AddOnPlacementScores: one write for many, only on change beyond the deadband."""

from __future__ import annotations

import time
from typing import Any

import pytest
from controllers_scene import Line, Scene, until

from hub.api import names
from hub.api.conditions import find_condition
from hub.api.errors import NotFoundError
from hub.api.resource import ADDON_PLACEMENT_SCORES, NAMESPACES, SCORE_SOURCES
from hub.api.timestamps import parse_time
from hub.asking.access import Access
from hub.client.patcher import Patcher
from hub.controllers.config import Publish, Scorers
from hub.controllers.metrics.all import HubMetrics
from hub.controllers.publishing import Publishing
from hub.controllers.scores import Scores
from hub.controllers.world import World
from hub.controllers.writes import Writes
from hub.fleet.changes import ClusterSeen

CLUSTERS = ("ash", "elm")


class Stage:
    """Publishing on a real API, with the objects it wrote shown to it as the hub's informer would."""

    def __init__(self, scene: Scene, **publish: Any) -> None:
        self.api = scene.api
        self.now = time.time()
        self.world = World()
        self.patcher = Patcher(Line(scene.api))
        writes = Writes(self.patcher, lambda: True, HubMetrics().writes)
        self.scores = Scores(self.world, writes, Scorers(), now=lambda: self.now, on_change=lambda: None)
        self.scores.start("", 60.0, Access())
        config = Publish(**publish)
        self.publishing = Publishing(self.scores, self.world, writes, config, lambda: self.now)
        self.generation = 0

    async def clusters(self) -> None:
        for name in CLUSTERS:
            await self.api.create(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
            labels = {"tier": "gold"} if name == "ash" else {}
            spec = {"hubAcceptsClient": True}
            self.world.note(ClusterSeen({"metadata": {"name": name, "labels": labels}, "spec": spec}))
        self.world.note(ClusterSeen({"metadata": {"name": "stranger"}}))

    def source(self, name: str, **spec: Any) -> None:
        self.generation += 1
        metadata = {"name": name, "uid": "u", "generation": self.generation}
        self.scores.source_seen({"metadata": metadata, "spec": {"normaliser": {"type": "none"}, **spec}})

    def fixed(self, name: str, ash: float, elm: float, **spec: Any) -> None:
        self.source(name, static={"values": {"ash": str(ash), "elm": str(elm)}}, **spec)

    async def look(self) -> int:
        """How many clusters were written about."""
        count = self.publishing.look()
        await self.patcher.idle()
        for name in CLUSTERS:
            for obj in (await self.api.list(ADDON_PLACEMENT_SCORES, name)).items:
                self.publishing.seen(obj, gone=False)
        return count

    async def told(self, cluster: str) -> dict[str, int]:
        obj = await self.api.get(ADDON_PLACEMENT_SCORES, names.HUB_SCORES, cluster)
        return {score["name"]: score["value"] for score in obj["status"]["scores"]}

    def writes(self) -> int:
        return sum(count for (_, what), count in self.patcher.counts.items() if what != "scoresources/status")

    def stop(self) -> None:
        self.scores.stop()


@pytest.fixture
async def stage(scene: Scene) -> Any:
    made = Stage(scene, deadband=3, validFor=100.0)
    await made.clusters()
    yield made
    made.stop()


async def test_all_scores_of_a_cluster_are_one_write_rounded_half_to_even(stage: Stage) -> None:
    stage.fixed("busy", 10.5, 90)
    stage.fixed("cost", 11.5, 250)
    stage.fixed("shown", 1, 2, weight=0)
    assert await stage.look() == 2
    assert await stage.told("ash") == {"busy": 10, "cost": 12, "shown": 1}
    assert await stage.told("elm") == {"busy": 90, "cost": 100, "shown": 2}
    # Each object is made once, and its status written once.
    assert stage.writes() == 4
    with pytest.raises(NotFoundError):
        await stage.told("stranger")


async def test_what_stays_or_hardly_moves_is_not_written(stage: Stage) -> None:
    stage.fixed("busy", 10, 90)
    await stage.look()
    before = stage.writes()
    for _ in range(3):
        assert await stage.look() == 0
    stage.fixed("busy", 12, 91)
    assert await stage.look() == 0
    assert stage.writes() == before
    stage.fixed("busy", 13, 91)
    assert await stage.look() == 1
    assert (await stage.told("ash"), await stage.told("elm")) == ({"busy": 13}, {"busy": 90})
    assert stage.writes() == before + 1


async def test_what_is_unknown_or_gone_or_not_meant_is_left_out(stage: Stage) -> None:
    stage.source("some", static={"values": {"ash": "5"}})
    stage.fixed("gold", 1, 2, clusterSelector={"matchLabels": {"tier": "gold"}})
    await stage.look()
    assert await stage.told("ash") == {"some": 5, "gold": 1}
    with pytest.raises(NotFoundError):
        await stage.told("elm")
    stage.scores.source_gone("some")
    await stage.look()
    assert await stage.told("ash") == {"gold": 1}


async def test_scores_are_renewed_at_half_of_their_validity(stage: Stage) -> None:
    stage.fixed("busy", 10, 90)
    await stage.look()
    obj = await stage.api.get(ADDON_PLACEMENT_SCORES, names.HUB_SCORES, "ash")
    assert 98 < parse_time(obj["status"]["validUntil"]).timestamp() - stage.now <= 100
    stage.now += 40
    assert await stage.look() == 0
    stage.now += 12
    assert await stage.look() == 2


async def test_a_plugin_that_fails_is_a_condition_and_costs_its_own_score_only(stage: Stage) -> None:
    class Broken:
        name = "mine"
        publish = True

        def score(self, fleet: Any, request: Any) -> Any:
            raise ValueError("no licence")

    from hub.scoring.interface import WeightedScorer

    stage.fixed("busy", 10, 90)
    await stage.look()
    stage.scores._fixed += (WeightedScorer(Broken(), 1.0),)
    assert await stage.look() == 2
    assert await stage.look() == 0
    obj = await stage.api.get(ADDON_PLACEMENT_SCORES, names.HUB_SCORES, "ash")
    condition = find_condition(obj["status"]["conditions"], "ScorersReady")
    assert condition is not None
    assert (condition["status"], condition["reason"]) == ("False", "ScorePluginFailed")
    assert condition["message"] == "mine: ValueError: no licence"
    assert await stage.told("ash") == {"busy": 10}


async def test_a_hub_publishes_its_sources_and_reads_them_again_as_a_placement_names_them(scene: Scene) -> None:
    hub = await scene.hub(scorers={"publish": {"every": 0.1}})
    await scene.agent("ash")
    await scene.available("ash")
    body = {
        "apiVersion": names.API_VERSION, "kind": "ScoreSource", "metadata": {"name": "co2"},
        "spec": {"static": {"values": {"ash": "42"}}, "normaliser": {"type": "none"}},
    }  # fmt: skip
    await scene.api.create(SCORE_SOURCES, body)
    await until(lambda: hub.world.fleet.scores("AddOn/quarterdeck/co2", time.time()).tolist() == [42.0])
