"""ClusterCapacity: written when it changes, seldom enough, and put right when someone else changed it."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from agent_fakes import FakeApi, invalid, until
from agent_site import GROUP, FakeSite

from agent.capacity import CapacityReporter
from agent.link import HubLink
from hub.api.resource import CLUSTER_CAPACITIES, NAMESPACES
from hub.client.backoff import Backoff

NAME = "edge-1"


class Reported:
    def __init__(self, hub: FakeApi, site: FakeSite, **options: Any) -> None:
        self.hub, self.site = hub, site
        self.accepted = asyncio.Event()
        self.reporter = CapacityReporter(
            hub,
            site,
            cluster=NAME,
            link=HubLink(Backoff(0.01, 0.05)),
            accepted=self.accepted,
            **{"interval": 0.1, **options},
        )
        self._task = asyncio.create_task(self.reporter.run())

    async def stop(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    @property
    def status(self) -> dict[str, Any]:
        return (self.hub.peek(CLUSTER_CAPACITIES, NAME, NAME) or {}).get("status") or {}

    @property
    def writes(self) -> list[str]:
        return [verb for verb, *_ in self.hub.writes("ClusterCapacity")]


@pytest.fixture
async def start() -> AsyncIterator[Callable[..., Any]]:
    running: list[Reported] = []

    async def make(hub: FakeApi | None = None, site: FakeSite | None = None, **options: Any) -> Reported:
        hub = hub or FakeApi()
        if ("", "namespaces", "", NAME) not in hub.objects:
            await hub.create(NAMESPACES, {"metadata": {"name": NAME}})
        running.append(Reported(hub, site or FakeSite(), **options))
        return running[-1]

    yield make
    for reported in running:
        await reported.stop()


async def test_it_is_written_once_the_hub_has_accepted(start: Any) -> None:
    reported = await start()
    await asyncio.sleep(0.05)
    assert reported.writes == []
    reported.accepted.set()
    await until(lambda: reported.status)
    assert reported.status["observedTime"].endswith("Z")
    assert {k: v for k, v in reported.status.items() if k != "observedTime"} == reported.site.capacity()
    assert reported.writes == ["create"]


async def test_a_change_is_patched_and_what_equals_is_not_written(start: Any) -> None:
    reported = await start()
    reported.accepted.set()
    await until(lambda: reported.status)
    for _ in range(5):
        reported.site.change()
        await asyncio.sleep(0.03)
    assert reported.writes == ["create"]
    reported.site.change(nodeGroups=[{**GROUP, "count": 3}], images=["host"])
    await until(lambda: reported.status.get("images") == ["host"])
    assert reported.status["nodeGroups"][0]["count"] == 3
    del reported.site.state["images"]
    reported.site.change()
    await until(lambda: "images" not in reported.status)
    assert reported.writes == ["create", "patch", "patch"]


async def test_many_changes_are_few_writes_and_the_last_one_counts(start: Any) -> None:
    reported = await start()
    reported.accepted.set()
    await until(lambda: reported.status)
    loop = asyncio.get_running_loop()
    started = loop.time()
    for count in range(3, 43):
        reported.site.change(nodeGroups=[{**GROUP, "count": count}])
        await asyncio.sleep(0.01)
    await until(lambda: reported.status["nodeGroups"][0]["count"] == 42)
    assert 1 <= len(reported.writes) - 1 <= 2 + (loop.time() - started) / 0.1


async def test_a_restart_writes_nothing_even_where_the_server_filled_in(start: Any) -> None:
    reported = await start()
    reported.accepted.set()
    await until(lambda: reported.status)
    await reported.stop()

    def filled(obj: dict[str, Any]) -> None:
        obj["status"] = copy.deepcopy(obj["status"]) | {"images": [], "prices": {"gpuHour": {}}}
        obj["status"]["nodeGroups"][0] |= {"labels": {}, "taints": [], "used": []}

    reported.hub.edit(CLUSTER_CAPACITIES, NAME, NAME, filled)
    again = await start(reported.hub, reported.site)
    again.accepted.set()
    await asyncio.sleep(0.2)
    assert again.writes == ["create"]


async def test_deleted_or_edited_it_is_put_right_at_the_next_look(start: Any) -> None:
    reported = await start(look_seconds=0.3)
    reported.accepted.set()
    await until(lambda: reported.status)
    await reported.hub.delete(CLUSTER_CAPACITIES, NAME, NAME)
    await until(lambda: reported.status, what="created again")
    reported.hub.edit(CLUSTER_CAPACITIES, NAME, NAME, lambda obj: obj["status"].update(runtime="simulated"))
    reported.reporter.look_again()
    await until(lambda: reported.status["runtime"] == "process")


async def test_one_that_is_there_already_is_patched(start: Any) -> None:
    reported = await start()
    body = {"metadata": {"name": NAME}, "status": {"runtime": "simulated", "images": ["x"]}}
    await reported.hub.create(CLUSTER_CAPACITIES, body, NAME)
    reported.accepted.set()
    await until(lambda: reported.status["runtime"] == "process")
    assert "images" not in reported.status
    assert reported.writes == ["create", "patch"]


async def test_cut_off_it_is_written_when_the_hub_is_back(start: Any) -> None:
    reported = await start()
    reported.accepted.set()
    await until(lambda: reported.status)
    reported.hub.cut()
    reported.site.change(nodeGroups=[{**GROUP, "count": 7}])
    await asyncio.sleep(0.2)
    reported.hub.heal()
    await until(lambda: reported.status["nodeGroups"][0]["count"] == 7)


async def test_a_refusal_is_said_and_the_next_change_is_tried(start: Any, caplog: pytest.LogCaptureFixture) -> None:
    reported = await start()
    reported.hub.refuse = lambda verb, kind, obj: invalid("nodeGroups: no") if kind == "ClusterCapacity" else None
    reported.accepted.set()
    await until(lambda: "capacity not written" in caplog.text)
    reported.hub.refuse = lambda verb, kind, obj: None
    await until(lambda: reported.status, seconds=20)


async def test_nothing_is_claimed_before_it_is_known(start: Any) -> None:
    site = FakeSite()
    site.state = {}
    reported = await start(site=site)
    reported.accepted.set()
    await asyncio.sleep(0.05)
    assert reported.writes == []
    site.change(runtime="kubernetes", nodeGroups=[GROUP])
    await until(lambda: reported.status.get("runtime") == "kubernetes")
