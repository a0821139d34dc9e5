"""A hub that stands by does beforehand what would keep it from renewing its Lease once it leads."""

from __future__ import annotations

import asyncio

import pytest
from controllers_line import Line, until
from controllers_scene import Scene

from hub.controllers.hub import Hub
from hub.controllers.lifecycle import Lifecycle
from hub.controllers.rooms import clusters


async def test_a_standby_loads_kopf_and_a_leader_does_not_in_its_first_moments(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[str] = []
    monkeypatch.setattr(clusters, "_LIFECYCLE_AFTER", 0.05)
    monkeypatch.setattr(Lifecycle, "load", staticmethod(lambda: loaded.append("kopf")))
    monkeypatch.setattr(Lifecycle, "start", lambda self: None)

    def hub(identity: str) -> Hub:
        line = Line(scene.api)
        made = Hub(line, scene.config(lifecycle=True), identity=identity, connect=lambda: pytest.fail("not started"))
        scene.hubs.append((made, line, asyncio.create_task(made.run())))
        return made

    first = hub("one")
    await asyncio.wait_for(first.leading.wait(), 10)
    await asyncio.sleep(0.3)
    assert loaded == []
    hub("two")
    await until(lambda: loaded == ["kopf"], what="the standby has loaded it")
