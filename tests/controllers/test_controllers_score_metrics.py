"""What metrics say of everything that scores: sources that are asked, plugins, columns that are read and written."""

from __future__ import annotations

from typing import Any

from controllers_scene import Scene, until
from controllers_web import JSON, Web

from hub.api.errors import NotFoundError
from hub.api.resource import ADDON_PLACEMENT_SCORES, SCORE_SOURCES
from hub.controllers.hub import Hub
from hub.controllers.readings import refresh

Json = dict[str, Any]


def metric(hub: Hub, name: str, **labels: str) -> float | None:
    refresh(hub)
    return hub.metrics.registry.get_sample_value(name, labels)


async def test_a_source_an_add_on_and_what_is_published(scene: Scene, web: Web) -> None:
    hub = await scene.hub(scorers={"publish": {"every": 0.05}})
    for name in ("ash", "elm"):
        await scene.agent(name)
    await scene.available("ash", "elm")
    web.answers = lambda path, asked: (200, JSON, b'{"data": [{"cluster": "ash", "value": 7}]}')
    spec = {"url": f"{web.url}/", "items": "data"}
    source = {
        "apiVersion": SCORE_SOURCES.api_version,
        "kind": "ScoreSource",
        "metadata": {"name": "load"},
        "spec": {"httpJson": spec, "interval": "50ms", "normaliser": {"type": "none"}},
    }
    await scene.api.create(SCORE_SOURCES, source)

    async def add_on() -> Any:
        obj = {
            "apiVersion": ADDON_PLACEMENT_SCORES.api_version,
            "kind": "AddOnPlacementScore",
            "metadata": {"name": "r", "namespace": "elm"},
        }
        try:
            return await scene.api.create(ADDON_PLACEMENT_SCORES, obj, "elm")
        except NotFoundError:
            return None

    await until(add_on)
    status = {"status": {"scores": [{"name": "s", "value": 5}]}}
    await scene.api.patch(ADDON_PLACEMENT_SCORES, "r", status, "elm", subresource="status")
    await until(lambda: metric(hub, "quarterdeck_scorer_seconds_count", scorer="load") or 0)
    await until(lambda: metric(hub, "quarterdeck_score_coverage", source="load") == 0.5)
    await until(lambda: metric(hub, "quarterdeck_score_coverage", source="AddOn/r/s") == 0.5)
    age = metric(hub, "quarterdeck_score_age_seconds", source="load")
    assert age is not None
    assert 0 <= age < 30
    assert metric(hub, "quarterdeck_scorer_ready", scorer="load") == 1
    assert not metric(hub, "quarterdeck_scorer_failures_total", scorer="load")
    await until(lambda: metric(hub, "quarterdeck_published_score_coverage", score="load") == 0.5)
    written = metric(hub, "quarterdeck_published_score_age_seconds", score="load")
    assert written is not None
    assert 0 <= written < 60
    assert metric(hub, "quarterdeck_publish_seconds_count")
    # It answers, but with nothing that is a number: its last values stay, and the failure is counted.
    web.answers = lambda path, asked: (200, JSON, b'{"data": [{"cluster": "ash", "value": "NaN"}]}')
    await until(lambda: metric(hub, "quarterdeck_scorer_failures_total", scorer="load"))
    await until(lambda: metric(hub, "quarterdeck_scorer_ready", scorer="load") == 0)
    hub.world.refresh()
    assert hub.world.fleet.scores("load", 0.0)[0] == 7.0
    await scene.api.delete(SCORE_SOURCES, "load")
    await until(lambda: metric(hub, "quarterdeck_score_age_seconds", source="load") is None)
