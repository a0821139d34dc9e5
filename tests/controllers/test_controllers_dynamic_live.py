"""B, C, F, G, J: what changes while it runs: configurations, clusters, scores that end, scorers that hang."""

from __future__ import annotations

import asyncio
import time
from itertools import pairwise
from typing import Any

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

from hub.api import names
from hub.api.resource import (
    ADDON_PLACEMENT_SCORES,
    DYNAMIC_SCORERS,
    DYNAMIC_SCORING_CONFIGS,
    MANAGED_CLUSTER_SET_BINDINGS,
    MANAGED_CLUSTERS,
    PLACEMENT_DECISIONS,
    PLACEMENTS,
    SCORER_POLICIES,
    Resource,
)
from hub.api.timestamps import parse_time

Json = dict[str, Any]
SOON: Json = {"dynamic": {"sync": "150ms"}}


async def site(scene: Scene, *clusters: str, **options: Any) -> None:
    for name in clusters:
        await scene.agent(name, **options)
    await scene.available(*clusters)


async def placement(scene: Scene, name: str, **spec: Any) -> None:
    binding = {
        "apiVersion": MANAGED_CLUSTER_SET_BINDINGS.api_version,
        "kind": "ManagedClusterSetBinding",
        "metadata": {"name": "default", "namespace": "default"},
        "spec": {"clusterSet": "default"},
    }
    await scene.api.create(MANAGED_CLUSTER_SET_BINDINGS, binding, "default")
    body = {
        "apiVersion": PLACEMENTS.api_version,
        "kind": "Placement",
        "metadata": {"name": name, "namespace": "default", "annotations": {names.MIN_DWELL: "0s"}},
        "spec": spec,
    }
    await scene.api.create(PLACEMENTS, body, "default")


async def chosen(scene: Scene) -> list[str]:
    sheets = (await scene.api.list(PLACEMENT_DECISIONS, "default")).items
    return [d["clusterName"] for sheet in sheets for d in (sheet.get("status") or {}).get("decisions") or ()]


def best_by(resource: str, score: str) -> Json:
    coordinate = {"type": "AddOn", "addOn": {"resourceName": resource, "scoreName": score}}
    policy = {"mode": "Exact", "configurations": [{"scoreCoordinate": coordinate, "weight": 1}]}
    return {"numberOfClusters": 1, "prioritizerPolicy": policy}


async def test_b_a_changed_configuration_is_used_within_a_sync_and_nothing_is_asked_twice(
    scene: Scene, prometheus: FakePrometheus, scorer: Scorer
) -> None:
    prometheus.series = lambda query: [series([{"old": 10.0, "new": 30.0}[query]], cluster="ash")]

    def config(query: str, interval: int) -> Json:
        source = {"type": "Prometheus", "host": prometheus.url, "params": {"query": query, "range": 60, "step": 15}}
        params = {"name": "my_score", "interval": interval}
        return {"name": "x", "description": "", "source": source, "scoring": {"path": "/scoring", "params": params}}

    scorer.config = config("old", 3600)
    await scene.hub(scorers=SOON)
    await site(scene, "ash")
    await scene.api.create(DYNAMIC_SCORERS, scorer_object("load", scorer.url), "default")
    assert await until(lambda: published(scene, "ash", "my-score")) == {"my_score": 10}
    # What says the same is not asked again.
    await until(lambda: scorer.config_asked >= 4)
    assert len(scorer.asked) == 1
    scorer.config = config("new", 1)
    changed = time.monotonic()

    async def new() -> bool:
        return await published(scene, "ash", "my-score") == {"my_score": 30}

    await until(new)
    assert time.monotonic() - changed < 5
    before, began = len(scorer.asked), time.monotonic()
    await asyncio.sleep(3.3)
    # One loop a scorer: about one a second, never two.
    assert len(scorer.asked) - before <= time.monotonic() - began + 1
    assert scorer.most_at_once == 1
    assert {parameters["query"] for _, parameters, _ in prometheus.asked[1:]} == {"new"}
    # The object's own mode, too: what the scorer says of itself counts no more.
    scoring = {"path": "/scoring", "params": {"name": "other_score", "interval": 1}}
    patch = {"spec": {"configSyncMode": "None", "source": {"type": "None"}, "scoring": scoring}}
    scorer.answer = always(3)
    await scene.api.patch(DYNAMIC_SCORERS, "load", patch, "default")
    assert await until(lambda: published(scene, "ash", "other-score")) == {"other_score": 3}

    async def gone() -> bool:
        return await published(scene, "ash", "my-score") is None

    await until(gone)


async def test_b_an_answer_to_a_question_that_nobody_asks_any_more_is_not_heard(scene: Scene, scorer: Scorer) -> None:
    scorer.answer, scorer.hang = always(99), 1.0
    await scene.hub(scorers=SOON)
    await site(scene, "ash")
    await scene.api.create(DYNAMIC_SCORERS, scorer_object("load", scorer.url), "default")
    await until(lambda: scorer.asked)
    scorer.answer, scorer.hang = always(1), 0.0
    scorer.config["scoring"]["params"]["interval"] = 2
    assert await until(lambda: published(scene, "ash", "my-score")) == {"my_score": 1}


async def test_c_a_score_is_good_for_two_intervals_and_its_end_moves_the_next_decision(
    scene: Scene, scorer: Scorer
) -> None:
    values: dict[str, Any] = {"ash": 90, "elm": 40}
    scorer.answer = lambda request: {"results": [{"metric": {}, "score": values[scorer.clusters_asked()[-1]]}]}
    scorer.config["scoring"]["params"]["interval"] = 2
    hub = await scene.hub(scorers=SOON)
    await site(scene, "ash", "elm")
    await placement(scene, "best", **best_by("my-score", "my_score"))
    await scene.api.create(DYNAMIC_SCORERS, scorer_object("load", scorer.url), "default")
    await until(lambda: published(scene, "ash", "my-score"))

    async def is_(cluster: str) -> bool:
        return await chosen(scene) == [cluster]

    await until(lambda: is_("ash"))
    status = (await scene.api.get(ADDON_PLACEMENT_SCORES, "my-score", "ash"))["status"]
    left = parse_time(status["validUntil"]).timestamp() - time.time()
    assert left <= 4.0
    # Of ash nothing more is heard: the scorer says nothing that could be used.
    values["ash"] = None
    lost = time.monotonic()
    await until(lambda: is_("elm"), 20)
    # Two intervals, and what a busy machine takes.
    assert time.monotonic() - lost < 15
    said = await says(scene, "load", "Fresh", "ScoreExpired")
    assert "ash: score expired" in said["message"]

    async def one_left() -> bool:
        return (await condition(scene, "load"))["message"].endswith("values for 1 clusters")

    await until(one_left)
    hub.world.refresh()
    assert list(hub.world.fleet.scores("Dynamic/my_score", time.time()))[1] == 40.0
    values["ash"] = 95
    await until(lambda: is_("ash"))
    await says(scene, "load", "Fresh", "ScoreAnswered")


async def test_c_a_cluster_of_which_nothing_is_heard_is_not_asked_about_and_its_score_ends(
    scene: Scene, scorer: Scorer
) -> None:
    scorer.answer = always(50)
    await scene.hub(scorers=SOON)
    await site(scene, "ash", "elm", lease_seconds=1)
    await scene.api.create(DYNAMIC_SCORERS, scorer_object("load", scorer.url), "default")
    await until(lambda: published(scene, "ash", "my-score"))
    agent = next(agent for agent in scene.agents if agent.name == "ash")
    await agent.stop()
    assert "ash: score expired" in (await says(scene, "load", "Fresh", "ScoreExpired", 20))["message"]
    asked = len(scorer.asked)
    await until(lambda: len(scorer.asked) > asked + 1)
    assert "ash" not in scorer.clusters_asked()[asked:]


async def test_g_clusters_are_chosen_by_label_name_and_placement_those_that_come_later_too(
    scene: Scene, scorer: Scorer
) -> None:
    scorer.answer = always(5)
    scorer.config["scoring"]["params"]["interval"] = 3600
    await scene.hub(scorers=SOON)
    await site(scene, "ash", "oak-test", labels={"tier": "gold"})
    await site(scene, "elm")
    policy = policy_object(
        "load", clusterSelector={"matchLabels": {"tier": "gold"}}, clusters={"deny": ["*-test"], "allow": ["*"]}
    )
    await scene.api.create(SCORER_POLICIES, policy, "default")
    await scene.api.create(DYNAMIC_SCORERS, scorer_object("load", scorer.url), "default")
    await until(lambda: scorer.clusters_asked() == ["ash"])
    # A cluster that comes later, and one that gets the label, are asked about at once; nobody else is anew.
    await site(scene, "fir", labels={"tier": "gold"})
    await until(lambda: sorted(scorer.clusters_asked()) == ["ash", "fir"], 5)
    await scene.api.patch(MANAGED_CLUSTERS, "elm", {"metadata": {"labels": {"tier": "gold"}}})
    await until(lambda: sorted(scorer.clusters_asked()) == ["ash", "elm", "fir"], 5)
    await placement(scene, "some", predicates=[
        {"requiredClusterSelector": {"labelSelector": {"matchExpressions": [
            {"key": "name", "operator": "DoesNotExist"}, {"key": "tier", "operator": "In", "values": ["gold"]},
        ]}}}
    ], numberOfClusters=1)  # fmt: skip
    only = await until(lambda: chosen(scene))
    await scene.api.patch(SCORER_POLICIES, "load", {"spec": {"placementRef": {"name": "some"}}}, "default")

    async def others_gone() -> bool:
        found = [name for name in ("ash", "elm", "fir") if await published(scene, name, "my-score") is not None]
        return found == only

    await until(others_gone)


async def test_g_a_policy_says_whether_it_is_used(scene: Scene, scorer: Scorer) -> None:
    scorer.answer = always(5)
    await scene.hub(scorers=SOON)
    await site(scene, "ash")

    async def accepted(status: str, said: str) -> bool:
        found = (await scene.api.get(SCORER_POLICIES, "load", "default")).get("status") or {}
        return any(
            c["type"] == "Accepted" and c["status"] == status and said in c["message"]
            for c in found.get("conditions") or ()
        )

    await scene.api.create(SCORER_POLICIES, policy_object("load"), "default")
    await until(lambda: accepted("False", "there is no DynamicScorer default/load"))
    await scene.api.create(DYNAMIC_SCORERS, scorer_object("load", scorer.url), "default")
    await until(lambda: accepted("True", "used for DynamicScorer default/load"))
    await scene.api.patch(SCORER_POLICIES, "load", {"spec": {"smoothing": "7"}}, "default")
    await until(lambda: accepted("False", "spec.smoothing"))
    await says(scene, "load", "Ready", "ScoreAnswered")
    await scene.api.patch(
        SCORER_POLICIES, "load", {"spec": {"smoothing": None, "clusters": {"allow": ["nobody"]}}}, "default"
    )
    assert "no cluster" in (await says(scene, "load", "Ready", "ScorerNoClusters"))["message"]


async def test_g_what_was_there_before_the_hub_is_told_what_it_is(scene: Scene, scorer: Scorer) -> None:
    """Objects that a hub sees before it leads are spoken of once it does."""
    scorer.answer = always(5)
    for policy in (policy_object("load", weight=2), policy_object("nobody")):
        await scene.api.create(SCORER_POLICIES, policy, "default")
    await scene.api.create(DYNAMIC_SCORERS, scorer_object("load", scorer.url), "default")
    masks = {
        "apiVersion": DYNAMIC_SCORING_CONFIGS.api_version,
        "kind": "DynamicScoringConfig",
        "metadata": {"name": "dynamic-scoring-config", "namespace": "default"},
        "spec": {"masks": []},
    }
    await scene.api.create(DYNAMIC_SCORING_CONFIGS, masks, "default")
    await scene.hub()

    async def told(resource: Resource, name: str, status: str) -> bool:
        found = (await scene.api.get(resource, name, "default")).get("status") or {}
        return [c["status"] for c in found.get("conditions") or ()] == [status]

    await until(lambda: told(SCORER_POLICIES, "load", "True"))
    await until(lambda: told(SCORER_POLICIES, "nobody", "False"))
    await until(lambda: told(DYNAMIC_SCORING_CONFIGS, "dynamic-scoring-config", "True"))
    await says(scene, "load", "Ready", "ScorerNoClusters")


async def test_j_one_scorer_of_ten_that_hangs_delays_no_other_and_is_left_alone(scene: Scene) -> None:
    scorers = [await Scorer(f"score_{number}").start() for number in range(10)]
    try:
        hanging, others = scorers[0], scorers[1:]
        hanging.hang = 30
        await scene.hub(scorers=SOON)
        await site(scene, "ash", "elm")
        for number, scorer in enumerate(scorers):
            scorer.answer = always(number)
            await scene.api.create(DYNAMIC_SCORERS, scorer_object(f"scorer-{number}", scorer.url), "default")
        await until(lambda: all(len(scorer.asked) >= 8 for scorer in others), 30)
        for scorer in others:
            begins = scorer.at[::2]
            gaps = [later - sooner for sooner, later in pairwise(begins)]
            # Each second; how much later is the machine's, not the hanging one's 30 seconds.
            assert sorted(gaps)[len(gaps) // 2] < 2.0
            assert max(gaps) < 10
        # It is asked about both clusters, once, and waited for.
        assert len(hanging.asked) == 2
    finally:
        for scorer in scorers:
            await scorer.stop()


async def test_j_a_scorer_that_fails_is_asked_about_one_cluster_until_it_is_back(scene: Scene, scorer: Scorer) -> None:
    scorer.answer = lambda request: (500, b"")
    await scene.hub(scorers={"dynamic": {"sync": "150ms", "atOnce": 2}})
    clusters = [f"c{number}" for number in range(9)]
    await site(scene, *clusters)
    await scene.api.create(DYNAMIC_SCORERS, scorer_object("load", scorer.url), "default")
    said = await says(scene, "load", "Answering", "ScorerFailed")
    # Five failures in a row, and one that was on its way: of the others it is said, too.
    assert len(scorer.asked) <= 7
    assert "and 6 more" in said["message"]
    before = len(scorer.asked)
    await until(lambda: len(scorer.asked) >= before + 2)
    assert scorer.most_at_once <= 2
    scorer.answer = always(1)
    await until(lambda: set(scorer.clusters_asked()) == set(clusters), 20)
    assert scorer.most_at_once <= 2
    await until(lambda: published(scene, "c8", "my-score"))


async def test_j_a_hub_that_takes_over_asks_on_and_what_a_scorer_left_behind_goes(scene: Scene, scorer: Scorer) -> None:
    scorer.answer = always(5)
    first = await scene.hub(scorers=SOON)
    await site(scene, "ash")
    await scene.api.create(DYNAMIC_SCORERS, scorer_object("load", scorer.url), "default")
    await until(lambda: published(scene, "ash", "my-score"))
    await scene.kill(first)
    asked = len(scorer.asked)
    await asyncio.sleep(1.5)
    assert len(scorer.asked) <= asked + 1
    await scene.hub(identity="second", scorers=SOON)
    await until(lambda: len(scorer.asked) > asked + 2)
    await scene.kill(scene.hubs[-1][0])
    await scene.api.delete(DYNAMIC_SCORERS, "load", "default")
    await scene.hub(identity="third", scorers=SOON)

    async def gone() -> bool:
        return await published(scene, "ash", "my-score") is None

    await until(gone)
