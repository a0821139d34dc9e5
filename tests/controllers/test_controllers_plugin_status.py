"""A hub with plugins that are good, bad and broken: what is placed, what is said of them, what is written for it."""

from __future__ import annotations

import asyncio
from importlib.metadata import EntryPoint
from typing import Any

import hostile_scorers
import numpy as np
import pytest
from controllers_scene import Scene, until

from hub.api.conditions import find_condition
from hub.api.errors import NotFoundError
from hub.api.resource import SCORER_PLUGINS
from hub.fleet.fleet import Fleet
from hub.scoring.interface import ScoreRequest
from hub.scoring.plugins import GROUP


class Fine:
    name = "fine"
    weight = 3

    def score(self, fleet: Fleet, request: ScoreRequest) -> Any:
        return np.arange(len(fleet.names), dtype=np.float64)


def broken() -> Any:
    raise RuntimeError("no licence")


@pytest.fixture
def plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    own = [EntryPoint(name, f"{__name__}:{what}", GROUP) for name, what in (("fine", "Fine"), ("broken", "broken"))]
    bad = EntryPoint("bad", f"{hostile_scorers.__name__}:Hostile", GROUP)
    monkeypatch.setattr("hub.scoring.plugins.entry_points", lambda group: [*own, bad])


async def said(scene: Scene, name: str) -> dict[str, Any]:
    try:
        status: dict[str, Any] = (await scene.api.get(SCORER_PLUGINS, name)).get("status") or {}
    except NotFoundError:
        return {}
    ready = find_condition(status.get("conditions"), "Ready") or {}
    return status | {"ready": ready.get("status")}


@pytest.mark.usefixtures("plugins")
async def test_what_plugins_do_is_said_and_jobs_run_all_the_same(scene: Scene) -> None:
    stale = {"apiVersion": SCORER_PLUGINS.api_version, "kind": "ScorerPlugin", "metadata": {"name": "uninstalled"}}
    await scene.api.create(SCORER_PLUGINS, stale)
    config = {
        "isolate": ["bad"],
        "settings": {"bad": {"behave": 1, "how": "spin"}},
        "weights": {"fine": 2},
        "budget": "300ms",
        "keep": "1m",
    }
    hub = await scene.hub(scorers=config)
    for name in ("ash", "elm"):
        await scene.agent(name)
    await scene.available("ash", "elm")
    for number in range(3):
        await scene.submit(f"job-{number}")
        await scene.phase(f"job-{number}", "Succeeded", seconds=20)

    async def failed() -> bool:
        return (await said(scene, "bad")).get("ready") == "False"

    async def answered() -> bool:
        return (await said(scene, "fine")).get("clusters") == 2

    await until(failed, 15)
    await until(answered, 15)
    bad, fine, none = await said(scene, "bad"), await said(scene, "fine"), await said(scene, "broken")
    assert (bad["isolated"], bad["scorer"], bad["reason"]) == (True, "hostile", "ScorePluginFailed")
    assert "no answer within 300ms; its process was killed; left alone for" in bad["message"]
    assert (fine["ready"], fine["weight"], fine["isolated"], fine["source"]) == ("True", "2", False, f"{__name__}:Fine")
    assert "reason" not in fine
    assert (none["ready"], none["message"]) == ("False", f"broken: {__name__}:broken: RuntimeError: no licence")

    async def gone() -> bool:
        return not any(
            item["metadata"]["name"] == "uninstalled" for item in (await scene.api.list(SCORER_PLUGINS)).items
        )

    await until(gone, 10)
    counted = hub.metrics.registry.get_sample_value("quarterdeck_scorer_failures_total", {"scorer": "hostile"})
    assert counted is not None
    assert counted >= 1
    # Nothing happens, nothing is written.
    await asyncio.sleep(0.5)
    before = {key: count for key, count in hub.patcher.counts.items() if "scorerplugins" in key}
    await asyncio.sleep(2.5)
    assert {key: count for key, count in hub.patcher.counts.items() if "scorerplugins" in key} == before


@pytest.mark.usefixtures("plugins")
async def test_another_hub_takes_over_what_is_said(scene: Scene) -> None:
    first = await scene.hub()

    async def there() -> bool:
        return all([(await said(scene, name)).get("ready") for name in ("fine", "broken", "bad")])

    await until(there, 15)
    version = (await scene.api.get(SCORER_PLUGINS, "broken"))["metadata"]["resourceVersion"]
    await scene.kill(first)
    await scene.api.delete(SCORER_PLUGINS, "fine")
    await scene.hub(identity="another")

    async def again() -> bool:
        return bool((await said(scene, "fine")).get("ready"))

    await until(again, 15)
    assert (await scene.api.get(SCORER_PLUGINS, "broken"))["metadata"]["resourceVersion"] == version
