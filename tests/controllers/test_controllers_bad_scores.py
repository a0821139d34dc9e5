"""A Prometheus that answers 200 with nonsense, all the way: the last good decision stays, and the reason names it."""

from __future__ import annotations

import time
from typing import Any

from controllers_scene import Scene, until
from controllers_web import JSON, Answer, Web, vector
from test_controllers_placements import bind, chosen, place, placement_writes, said

from hub.api import names
from hub.api.resource import ADDON_PLACEMENT_SCORES, SCORE_SOURCES

Json = dict[str, Any]


def series(cluster: str, value: str, ago: float = 0.0) -> Json:
    return {"metric": {"cluster": cluster}, "value": [time.time() - ago, value]}


def values(**values: str) -> Answer:
    return vector([series(cluster, value) for cluster, value in values.items()])


NONSENSE: list[tuple[str, Any, str]] = [
    ("JSON of another kind", lambda: (200, JSON, b'{"hello": "there"}'), "not what was asked for"),
    ("no numbers", lambda: values(ash="NaN", elm="NaN"), "not a number"),
    ("infinite", lambda: values(ash="-Inf", elm="+Inf"), "not a number"),
    ("one that is no number", lambda: values(ash="NaN", elm="3"), "ash: 'NaN' is not a number"),
    ("one that is there twice", lambda: vector([series("ash", "1"), series("ash", "2"), series("elm", "3")]),
     "ash has several series"),
    ("a clock an hour off", lambda: vector([series("ash", "9", 3600), series("elm", "3", 3600)]), "1h behind"),
]  # fmt: skip


async def test_the_last_good_decision_stays_and_the_reason_names_the_source(scene: Scene, web: Web) -> None:
    await bind(scene)
    web.answers = lambda path, asked: values(ash="9", elm="3")
    hub = await scene.hub(
        prometheus={"url": web.url, "interval": 0.05}, scorers={"publish": {"every": 0.05, "validFor": 3600}}
    )
    for name in ("ash", "elm"):
        await scene.agent(name)
    await scene.available("ash", "elm")
    source = {
        "apiVersion": SCORE_SOURCES.api_version,
        "kind": "ScoreSource",
        "metadata": {"name": "load"},
        "spec": {"promQL": "load", "interval": "50ms", "validFor": "1h"},
    }
    await scene.api.create(SCORE_SOURCES, source)

    async def published() -> bool:
        scores = await scene.api.get(ADDON_PLACEMENT_SCORES, names.HUB_SCORES, "ash")
        return bool((scores.get("status") or {}).get("scores"))

    await until(published)
    await until(lambda: "AddOn/quarterdeck/load" in hub.world.fleet.score_sources)
    coordinate = {"type": "AddOn", "addOn": {"resourceName": names.HUB_SCORES, "scoreName": "load"}}
    policy = {"mode": "Exact", "configurations": [{"scoreCoordinate": coordinate}]}
    await place(scene, numberOfClusters=1, scoreRateLimit="0s", prioritizerPolicy=policy)
    await chosen(scene, "ash")
    await said(scene, "AllDecisionsScheduled")
    await until(lambda: hub.placements.backlog == 0)
    written = placement_writes(scene.line_of(hub))
    for what, nonsense, words in NONSENSE:
        web.answers = lambda path, asked, nonsense=nonsense: nonsense()

        async def named(words: str = words) -> bool:
            status = (await scene.api.get(SCORE_SOURCES, "load")).get("status") or {}
            message = str(status.get("message") or "")
            return message.startswith("load") and words in message

        await until(named, what=f"{what}: {words}")
        await chosen(scene, "ash")
        web.answers = lambda path, asked: values(ash="9", elm="3")

        async def well() -> bool:
            return not ((await scene.api.get(SCORE_SOURCES, "load")).get("status") or {}).get("reason")

        await until(well, what=f"well again after {what}")
    assert placement_writes(scene.line_of(hub)) == written
    # What is right is still believed.
    web.answers = lambda path, asked: values(ash="1", elm="3")
    await chosen(scene, "elm")
