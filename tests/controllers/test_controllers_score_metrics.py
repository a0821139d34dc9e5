"""What metrics say of everything that scores: sources that are asked, plugins, columns that are read and written."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from controllers_scene import Scene, until

from hub.api.errors import NotFoundError
from hub.api.resource import ADDON_PLACEMENT_SCORES, SCORE_SOURCES
from hub.controllers.hub import Hub
from hub.controllers.readings import refresh

Json = dict[str, Any]


class _Json(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = self.server.text.encode()  # type: ignore[attr-defined]
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def answers() -> Iterator[ThreadingHTTPServer]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Json)
    server.text = '{"data": [{"cluster": "ash", "value": 7}]}'  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def metric(hub: Hub, name: str, **labels: str) -> float | None:
    refresh(hub)
    return hub.metrics.registry.get_sample_value(name, labels)


async def test_a_source_an_add_on_and_what_is_published(scene: Scene, answers: ThreadingHTTPServer) -> None:
    hub = await scene.hub(scorers={"publish": {"every": 0.05}})
    for name in ("ash", "elm"):
        await scene.agent(name)
    await scene.available("ash", "elm")
    url = f"http://127.0.0.1:{answers.server_address[1]}/"
    spec = {"url": url, "items": "data"}
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
    answers.text = '{"data": [{"cluster": "ash", "value": "NaN"}]}'  # type: ignore[attr-defined]
    await until(lambda: metric(hub, "quarterdeck_scorer_failures_total", scorer="load"))
    await until(lambda: metric(hub, "quarterdeck_scorer_ready", scorer="load") == 0)
    hub.world.refresh()
    assert hub.world.fleet.scores("load", 0.0)[0] == 7.0
    await scene.api.delete(SCORE_SOURCES, "load")
    await until(lambda: metric(hub, "quarterdeck_score_age_seconds", source="load") is None)
