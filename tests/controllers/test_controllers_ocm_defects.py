"""Defects of OCM's scheduler that only show in a hub that runs: each is shown to be absent. Others are beside what they
are about: writes, names, typos, ends of scores and moves in the tests of Placements, admission in those of rules.
"""

from __future__ import annotations

import asyncio
from typing import Any

from controllers_scene import Scene, until
from test_controllers_placements import BY_SCORE, NS, bind, chosen, cluster, decisions, place, said, score

from hub.api import names
from hub.api.resource import ADDON_PLACEMENT_SCORES, NAMESPACES, PLACEMENT_DECISIONS
from hub.client.interface import Object
from hub.controllers.hub import Hub

Json = dict[str, Any]


async def test_an_expired_score_is_no_reason_to_try_again_and_again(scene: Scene) -> None:
    """4: there a score that ended makes the scheduling a failure, which is retried with a back-off for ever."""
    await bind(scene)
    hub = await scene.hub()
    for name in ("ash", "elm"):
        await cluster(scene, name)
    await score(scene, "ash", 90, valid=-60)
    await score(scene, "elm", -10)
    await until(lambda: _scored(hub, "elm"))
    await place(scene, numberOfClusters=1, prioritizerPolicy=BY_SCORE)
    await chosen(scene, "elm")
    await said(scene, "AllDecisionsScheduled")
    await until(lambda: hub.placements.backlog == 0)
    decided, line = hub.placements.decided, scene.line_of(hub)
    written = sum(line.writes.values())
    await asyncio.sleep(0.8)
    assert hub.placements.decided == decided
    assert sum(count for write, count in line.writes.items() if write[1].startswith("placement")) <= written


async def test_scores_of_a_cluster_that_nobody_knows_harm_nobody(scene: Scene) -> None:
    """7: there the queue goes on with a cluster that is not there, and may dereference nothing."""
    await bind(scene)
    await scene.hub()
    for namespace in ("ash", "ghost"):
        await _namespace(scene, namespace)
        obj = {
            "apiVersion": ADDON_PLACEMENT_SCORES.api_version,
            "kind": "AddOnPlacementScore",
            "metadata": {"name": "r", "namespace": namespace},
        }
        await scene.api.create(ADDON_PLACEMENT_SCORES, obj, namespace)
        values = {"status": {"scores": [{"name": "s", "value": 50}]}}
        await scene.api.patch(ADDON_PLACEMENT_SCORES, "r", values, namespace, subresource="status")
    await place(scene, numberOfClusters=2, prioritizerPolicy=BY_SCORE)
    await said(scene, "AllManagedClusterSetsEmpty")
    await cluster(scene, "ash")
    await chosen(scene, "ash")
    obj = await said(scene, "NotAllDecisionsScheduled")
    assert obj["status"]["numberOfSelectedClusters"] == 1


async def test_many_placements_at_once_are_measured_apart_and_written_side_by_side(scene: Scene) -> None:
    """8: there one shared map of start times allows one worker, and every Placement waits for the one before."""
    await bind(scene)
    hub = await scene.hub()
    for name in ("ash", "elm", "fir"):
        await cluster(scene, name)
    await until(lambda: _clusters(hub) == 3)
    line = scene.line_of(hub)
    writing: set[str] = set()
    most = [0]

    def noted(verb: str, what: str, name: str) -> None:
        if what.startswith("placementdecisions") and verb == "create":
            writing.add(name)
            most[0] = max(most[0], len(writing))

    line.before = noted
    await asyncio.gather(*(place(scene, f"p{n}", numberOfClusters=1 + n % 3) for n in range(30)))
    for n in range(30):
        await until(lambda n=n: _count(scene, f"p{n}", 1 + n % 3))
    assert most[0] == 30
    registry = hub.metrics.registry
    passes = registry.get_sample_value("quarterdeck_placement_seconds_count") or 0
    total = registry.get_sample_value("quarterdeck_placement_seconds_sum")
    assert 1 <= passes <= hub.placements.decided
    assert total is not None
    assert total >= 0


async def test_decisions_that_point_nowhere_stop_nobody(scene: Scene) -> None:
    """10: there a key that cannot be read gives neither a Placement nor an error, and is used all the same."""
    await bind(scene)
    hub = await scene.hub()
    await cluster(scene, "ash")
    for number, labels in enumerate(
        (
            {names.PLACEMENT: "gone"},
            {names.PLACEMENT: ""},
            {names.PLACEMENT: "p", names.DECISION_GROUP_INDEX: "first"},
            {},
        )
    ):
        obj = {
            "apiVersion": PLACEMENT_DECISIONS.api_version,
            "kind": "PlacementDecision",
            "metadata": {"name": f"odd-{number}", "namespace": NS, "labels": labels},
        }
        await scene.api.create(PLACEMENT_DECISIONS, obj, NS)
        status = {
            "status": {"decisions": [{"clusterName": "", "reason": ""}, {"clusterName": "nowhere", "reason": ""}]}
        }
        await scene.api.patch(PLACEMENT_DECISIONS, f"odd-{number}", status, NS, subresource="status")
    await place(scene)
    await chosen(scene, "ash")
    # What claims to be a decision of p becomes one; of others' nothing is touched.
    found = {d["metadata"]["name"]: d for d in (await scene.api.list(PLACEMENT_DECISIONS, NS)).items}
    assert set(found) == {"odd-0", "odd-1", "odd-2", "odd-3"}
    adopted = found["odd-2"]
    assert adopted["metadata"]["labels"][names.DECISION_GROUP_INDEX] == "0"
    assert adopted["metadata"]["ownerReferences"][0]["name"] == "p"
    assert adopted["status"]["decisions"] == [{"clusterName": "ash", "reason": ""}]
    assert found["odd-3"]["status"]["decisions"][1]["clusterName"] == "nowhere"
    assert hub.placements.object("", "") is None
    assert hub.placements.object(NS, "a/b") is None


async def _namespace(scene: Scene, name: str) -> Object:
    return await scene.api.create(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})


def _clusters(hub: Hub) -> int:
    hub.world.refresh()
    return len(hub.world.fleet.names)


def _scored(hub: Hub, name: str) -> bool:
    hub.world.refresh()
    return (hub.world.fleet.scores_under("AddOn/r/", name) or {}).get("s") is not None


async def _count(scene: Scene, name: str, clusters: int) -> bool:
    found = await decisions(scene, name)
    return sum(len(listed) for listed in found.values()) == clusters
