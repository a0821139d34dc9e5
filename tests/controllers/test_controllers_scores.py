"""Scores from outside: add-ons' objects and Prometheus, into the fleet's columns and out again; flavors' labels."""

from __future__ import annotations

import asyncio
import math
import time
from typing import Any

from controllers_scene import Line, Scene, until

from hub.api import names
from hub.api.conditions import find_condition
from hub.api.resource import (
    ADDON_PLACEMENT_SCORES,
    CLUSTER_QUEUES,
    FLEET_JOBS,
    LOCAL_QUEUES,
    MANIFEST_WORKS,
    RESOURCE_FLAVORS,
    SCORE_SOURCES,
)
from hub.api.timestamps import format_time, from_timestamp
from hub.asking.access import Access
from hub.client.patcher import Patcher
from hub.controllers.asking import SourceReport
from hub.controllers.config import Scorers
from hub.controllers.metrics.all import HubMetrics
from hub.controllers.scores import Scores
from hub.controllers.world import World
from hub.controllers.writes import Writes
from hub.fleet.changes import ClusterSeen, ScoresSeen
from hub.scoring.source import SourceQuery


def addon(cluster: str, value: int, until_: float | None = None) -> dict[str, Any]:
    status: dict[str, Any] = {"scores": [{"name": "free", "value": value}, {"name": "odd", "value": "x"}]}
    if until_ is not None:
        status["validUntil"] = format_time(from_timestamp(until_))
    return {
        "apiVersion": ADDON_PLACEMENT_SCORES.api_version,
        "kind": "AddOnPlacementScore",
        "metadata": {"name": "disk", "namespace": cluster},
        "status": status,
    }


class Asked:
    """Stands where Prometheus is asked."""

    def __init__(self) -> None:
        self.sources: dict[str, SourceQuery] = {}

    def set_source(self, name: str, query: SourceQuery) -> None:
        self.sources[name] = query

    def remove_source(self, name: str) -> None:
        self.sources.pop(name, None)

    def start(self) -> None:
        return

    def stop(self) -> None:
        return


def scores_of(scene: Scene, weights: dict[str, float] | None = None) -> tuple[Scores, World, list[int]]:
    world, changed = World(), list[int]()
    for name in ("ash", "elm"):
        world.note(ClusterSeen({"metadata": {"name": name}, "spec": {"hubAcceptsClient": True}}))
    writes = Writes(Patcher(Line(scene.api)), lambda: True, HubMetrics().writes)
    made = Scores(world, writes, Scorers(weights=weights or {}), now=time.time, on_change=lambda: changed.append(1))
    return made, world, changed


def column(world: World, source: str) -> list[float]:
    world.refresh()
    return list(world.fleet.scores(source, time.time()))


async def test_scores_of_add_ons_become_one_column_and_expire_cluster_by_cluster(scene: Scene) -> None:
    scores, world, changed = scores_of(scene)
    scores.addon_seen(addon("ash", 40))
    scores.addon_seen(addon("elm", -7, time.time() + 1.5))
    await until(lambda: column(world, "AddOn/disk/free") == [40.0, -7.0])
    assert all(math.isnan(value) for value in column(world, "AddOn/disk/odd"))
    # What comes together is one change.
    assert len(changed) == 1
    await until(lambda: math.isnan(column(world, "AddOn/disk/free")[1]), 4)
    assert column(world, "AddOn/disk/free")[0] == 40.0
    # Nobody waits for the next news to notice that.
    await until(lambda: len(changed) == 2)
    scores.addon_gone("ash", "disk")
    await until(lambda: all(math.isnan(value) for value in column(world, "AddOn/disk/free")))


async def test_a_source_is_a_scorer_with_a_direction_and_a_weight(scene: Scene) -> None:
    scores, world, _ = scores_of(scene, {"Price": 0, "load": 5})
    asked = Asked()
    scores.start("", 1.0, Access())
    scores.stop()
    scores._asking = asked  # type: ignore[assignment]
    source = {"metadata": {"name": "load", "uid": "u"}, "spec": {"promQL": "x", "direction": "lower", "weight": 2}}
    scores.source_seen(source)
    assert asked.sources["load"].promql == "x"
    found = {entry.scorer.name: entry for entry in scores.scorers()}
    assert "Price" not in found
    assert found["load"].weight == 5
    assert getattr(found["load"].scorer, "lower_is_better", False) is True
    # From another thread, as the one that asks does.
    await asyncio.to_thread(scores.feed, ScoresSeen("load", {"ash": 1.5}, time.time() + 60))
    await asyncio.sleep(0.01)
    assert column(world, "load")[0] == 1.5
    scores._reported("load", SourceReport(1, time.time() - 2))
    assert 1.5 < scores.ages()["load"] < 10
    scores.source_gone("load")
    assert "load" not in {entry.scorer.name for entry in scores.scorers()}
    assert asked.sources == {}


async def test_what_a_source_says_is_in_its_status(scene: Scene) -> None:
    hub = await scene.hub()
    body = {
        "apiVersion": names.API_VERSION, "kind": "ScoreSource", "metadata": {"name": "load"},
        "spec": {"promQL": "avg by (cluster) (x)"},
    }  # fmt: skip
    await scene.api.create(SCORE_SOURCES, body)
    await until(lambda: "load" in hub.scores._sources)
    # What the test says is said by nobody else meanwhile.
    hub.scores.stop()
    await asyncio.sleep(0.2)
    hub.scores._reported("load", SourceReport(3, 1.7e9))

    async def says() -> dict[str, Any] | None:
        return (await scene.api.get(SCORE_SOURCES, "load")).get("status")

    async def said_of(clusters: int) -> dict[str, Any] | None:
        status = await says()
        return status if status and status.get("clusters") == clusters else None

    status = await until(lambda: said_of(3))
    assert status["lastUpdateTime"] == "2023-11-14T22:13:20Z"
    ready = find_condition(status["conditions"], "Ready")
    assert ready is not None
    assert (ready["status"], ready["reason"], ready["observedGeneration"]) == ("True", "ScoreAnswered", 1)
    hub.scores._reported("load", SourceReport(0, 1.7e9, "ScoreStale", "too old"))

    async def stale() -> bool:
        return ((await says()) or {}).get("reason") == "ScoreStale"

    await until(stale)
    ready = find_condition(((await says()) or {})["conditions"], "Ready")
    assert ready is not None
    assert (ready["status"], ready["message"]) == ("False", "too old")


async def test_a_source_that_cannot_be_read_any_more_keeps_its_last_spec_and_says_so(scene: Scene) -> None:
    scores, _, _ = scores_of(scene)
    scores.start("", 1.0, Access())
    good = {"metadata": {"name": "co2", "uid": "u"}, "spec": {"static": {"values": {"ash": "1"}}, "weight": 3}}
    scores.source_seen(good)
    assert scores._reports["co2"].clusters == 1
    scores.source_seen(good | {"spec": {"static": {"values": {"ash": "much"}}}})
    assert {entry.scorer.name: entry.weight for entry in scores.scorers()}["co2"] == 3
    assert "spec.static.values.ash" in scores._reports["co2"].message
    scores.source_seen(good | {"spec": {"report": "claim/co2"}})
    assert scores._reports["co2"].reason == ""
    scores.stop()


async def test_a_score_decides_where_a_job_goes(scene: Scene) -> None:
    await scene.hub(scorers={"weights": {"FreeSlots": 0, "FreeShare": 0, "Price": 0}})
    await scene.agent("ash")
    await scene.agent("elm")
    await scene.available("ash", "elm")
    for cluster, value in (("ash", 10), ("elm", 90)):
        obj = addon(cluster, value)
        status = obj.pop("status")
        status["scores"] = status["scores"][:1]
        await scene.api.create(ADDON_PLACEMENT_SCORES, obj, cluster)
        await scene.api.patch(ADDON_PLACEMENT_SCORES, "disk", {"status": status}, cluster, subresource="status")
    await asyncio.sleep(0.1)
    coordinate = {"type": "AddOn", "addOn": {"resourceName": "disk", "scoreName": "free"}}
    for weight, wanted in ((1, "elm"), (-1, "ash")):
        policy = {"configurations": [{"scoreCoordinate": coordinate, "weight": weight}]}
        name = f"scored-{wanted}"
        await scene.submit(name, placement={"prioritizerPolicy": policy})
        assert (await scene.phase(name, "Succeeded"))["clusters"] == [wanted]


async def test_a_flavor_sends_its_jobs_to_its_nodes(scene: Scene) -> None:
    """Its labels become the pods' node selector, unless the whole cluster has them; what is charged agrees."""
    hub = await scene.hub()
    await scene.agent("ash", labels={"tier": "gold"})
    await scene.agent("elm")
    await scene.available("ash", "elm")
    flavor = {
        "apiVersion": RESOURCE_FLAVORS.api_version, "kind": "ResourceFlavor", "metadata": {"name": "gold"},
        "spec": {"nodeLabels": {"tier": "gold"}, "tolerations": [{"key": "gold", "operator": "Exists"}]},
    }  # fmt: skip
    await scene.api.create(RESOURCE_FLAVORS, flavor)
    quota = [{"name": "cpu", "nominalQuota": "4"}, {"name": "memory", "nominalQuota": "4Gi"}]
    group = {"coveredResources": ["cpu", "memory"], "flavors": [{"name": "gold", "resources": quota}]}
    queue = {
        "apiVersion": CLUSTER_QUEUES.api_version, "kind": "ClusterQueue", "metadata": {"name": "gold"},
        "spec": {"namespaceSelector": {}, "resourceGroups": [group]},
    }  # fmt: skip
    await scene.api.create(CLUSTER_QUEUES, queue)
    local = {
        "apiVersion": LOCAL_QUEUES.api_version, "kind": "LocalQueue",
        "metadata": {"name": "gold", "namespace": "default"}, "spec": {"clusterQueue": "gold"},
    }  # fmt: skip
    await scene.api.create(LOCAL_QUEUES, local, "default")
    await scene.submit("golden", queueName="gold")
    status = await scene.phase("golden", "Succeeded")
    assert status["clusters"] == ["ash"]
    works = (await scene.api.list(MANIFEST_WORKS, "ash")).items
    pod = works[0]["spec"]["workload"]["manifests"][0]["spec"]["template"]["spec"]
    assert pod["tolerations"] == [{"key": "gold", "operator": "Exists"}]
    assert "nodeSelector" not in pod
    assert (await scene.api.get(FLEET_JOBS, "golden", "default"))["spec"]["queueName"] == "gold"
    shape = hub.world.charged_shape(hub.table.by_key("default/golden").shape, "elm", (("cpu", "gold"),))  # type: ignore[union-attr,arg-type]
    assert shape.node_selector == (("tier", "gold"),)
    assert await until(lambda: hub.holdings.usage.get("gold", {}) == {})
