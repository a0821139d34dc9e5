"""Elastic jobs in the live hub: they grow, give back, say so, and no hub that dies in the middle doubles anything."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import Any

import pytest
from controllers_agent import _value
from controllers_scene import FakeAgent, Line, Scene
from controllers_scene import until as within
from controllers_tenants import tenant

from hub.api import names
from hub.api.conditions import with_condition
from hub.api.errors import ConflictError, NotFoundError, RefusedError, UnreachableError
from hub.api.indexset import IndexSet
from hub.api.resource import EVENTS, FLEET_JOBS, MANIFEST_WORKS
from hub.api.timestamps import format_time, from_timestamp
from hub.controllers.hub import Hub
from hub.jobs.resize import read_resize

Json = dict[str, Any]


async def until(condition: Any) -> Any:
    """However busy the machine is."""
    return await within(condition, 30)


@dataclass
class Site(FakeAgent):
    """Runs as many tasks of a slice as its Job says, as an edge site does, and stops them `slow` seconds after it is
    told. Its tasks never end by themselves; `most` is how many ran at once."""

    slow: float = 0.0
    running: dict[str, int] = field(default_factory=dict)
    most: int = 0
    _told: dict[str, int] = field(default_factory=dict)

    def _work(self, work: Json | None) -> None:
        if work is None or work["metadata"].get("deletionTimestamp"):
            if work is not None:
                self.running.pop(work["metadata"]["name"], None)
            super()._work(work)
            return
        name, generation = work["metadata"]["name"], int(work["metadata"]["generation"])
        if self._told.get(name, 0) < generation:
            self._told[name] = generation
            self._runs[f"{name}/{generation}"] = asyncio.create_task(self._obey(work))

    async def _obey(self, work: Json) -> None:
        spec = work["spec"]["workload"]["manifests"][0]["spec"]
        name, generation = work["metadata"]["name"], int(work["metadata"]["generation"])
        wanted = 0 if spec.get("suspend") else min(spec["parallelism"], spec["completions"])
        before = self.running.get(name, 0)
        if wanted < before:
            await self._say(name, before, wanted, generation)
            await asyncio.sleep(self.slow)
        if self._told[name] == generation:
            self.running[name] = wanted
            self.most = max(self.most, sum(self.running.values()))
            await self._say(name, wanted, wanted, generation)

    async def _say(self, name: str, active: int, slots: int, generation: int) -> None:
        now = format_time(from_timestamp(time.time()))
        values = [_value("active", active), _value("ready", active), _value("slots", slots), _value("startTime", now)]
        conditions = with_condition([], "Applied", "True", "A", "", now=now, generation=generation)
        status = {"resourceMeta": {"ordinal": 0}, "conditions": conditions, "statusFeedback": {"values": values}}
        patch = {"status": {"conditions": conditions, "resourceStatus": {"manifests": [status]}}}
        while True:
            try:
                await self.line.patch(MANIFEST_WORKS, name, patch, self.name, subresource="status")
                return
            except (ConflictError, UnreachableError):
                await asyncio.sleep(0.02)
            except NotFoundError:
                return


async def site(scene: Scene, name: str, cpu: int, **options: Any) -> Site:
    agent = Site(scene.api, name, cpu=cpu, **options)
    scene.agents.append(agent)
    await agent.start()
    return agent


async def elastic(scene: Scene, name: str = "elastic", tasks: int = 8, **bounds: int) -> Json:
    return await scene.submit(name, tasks=tasks, queueName="vision", gang=True, elastic=bounds)


async def size(scene: Scene, name: str = "elastic") -> Json:
    return (await scene.status(name)).get("elastic") or {}


async def is_size(scene: Scene, current: int, name: str = "elastic") -> Json | None:
    found = await size(scene, name)
    return found if found.get("current") == current and "giving" not in found else None


async def growing(scene: Scene, *, cpu: int = 8, slow: float = 0.0, line: Line | None = None) -> tuple[Hub, Site]:
    """An elastic job of 2 to 8 slots has all eight of the only cluster."""
    hub = await scene.hub(queue={"notice": "5s"}, line=line)
    ash = await site(scene, "ash", cpu, slow=slow)
    await scene.available("ash")
    await tenant(scene, "vision", 4)
    await tenant(scene, "speech", 4)
    await elastic(scene, min=2, max=8)
    await until(lambda: is_size(scene, 8))
    return hub, ash


async def test_it_grows_into_what_is_free_and_gives_back_to_who_is_entitled(scene: Scene) -> None:
    hub, ash = await growing(scene, slow=1.0)
    (work,) = await scene.works("ash")
    assert work["spec"]["workload"]["manifests"][0]["spec"]["parallelism"] == 8
    await scene.submit("owner", tasks=3, queueName="speech", gang=True)

    async def giving() -> Json | None:
        found = await size(scene)
        return found if found.get("giving") else None

    found = await until(giving)
    assert (found["current"], found["giving"], found["min"], found["max"]) == (5, 3, 2, 8)
    assert "default/owner" in found["message"]
    assert "from 8 to 5 slots on ash" in found["message"]
    status = await scene.status("elastic")
    assert "3 slots on ash are being given back" in status["message"]
    assert (await scene.status("owner")).get("phase") == "Queued"
    await scene.phase("owner", "Running", seconds=30)
    assert ash.most == 8
    status = await scene.status("elastic")
    # It is the same slice, and nobody was evicted for it.
    assert [attempt["state"] for attempt in status["attempts"]] == ["Running"]
    assert "preemptions" not in status
    assert "evictions" not in status
    # When the other is gone it grows again, and then all rests.
    await scene.api.patch(FLEET_JOBS, "owner", {"spec": {"cancel": True}}, "default")
    await until(lambda: is_size(scene, 8))
    assert ash.most == 8
    turns = hub.deciding.count
    generation = (await scene.works("ash"))[0]["metadata"]["generation"]
    await asyncio.sleep(0.5)
    assert (await scene.works("ash"))[0]["metadata"]["generation"] == generation
    assert hub.deciding.count - turns < 5


async def test_people_are_told_of_every_change_of_size(scene: Scene) -> None:
    hub, _ = await growing(scene)
    for count in (1, 2):
        await scene.submit(f"owner{count}", tasks=1, queueName="speech", cpu=str(count))
        await scene.phase(f"owner{count}", "Running", seconds=30)

    async def notes() -> list[str] | None:
        found = (await scene.api.list(EVENTS, "default")).items
        return [e["note"] for e in found if e["reason"] == "ElasticShrink" and e["regarding"]["kind"] == "FleetJob"]

    async def told() -> list[str] | None:
        found = await notes() or []
        return found if len(found) == 2 else None

    found = sorted(await until(told))
    assert "from 7 to 5 slots on ash" in found[0]
    assert "owner2" in found[0]
    assert "from 8 to 7 slots on ash" in found[1]
    assert "owner1" in found[1]
    value = hub.metrics.registry.get_sample_value
    assert value("quarterdeck_resizes_total", {"queue": "vision", "direction": "shrink"}) == 2

    async def admitted() -> bool:
        status = (await scene.workload("elastic")).get("status") or {}
        return bool(status.get("admission", {}).get("podSetAssignments", [{}])[0].get("count") == 5)

    await until(admitted)
    assert (await scene.workload("elastic"))["spec"]["podSets"][0]["minCount"] == 2


async def test_below_its_minimum_it_is_not_made_smaller(scene: Scene) -> None:
    await growing(scene)
    await scene.submit("large", tasks=7, queueName="speech", gang=True)

    async def waits() -> bool:
        return (await scene.status("large")).get("reason") in ("WaitingForQuota", "WaitingForCapacity")

    await until(waits)
    assert (await size(scene))["current"] == 8


async def test_tasks_that_have_not_stopped_keep_their_slots(scene: Scene) -> None:
    """Whoever needs them waits for that, however long it takes, and nothing is decided a second time."""
    _, ash = await growing(scene, slow=1.0)
    await scene.submit("owner", tasks=4, queueName="speech", gang=True)
    await until(lambda: _gives(scene, 4))
    await asyncio.sleep(0.5)
    assert (await scene.status("owner")).get("phase") == "Queued"
    assert sum(ash.running.values()) == 8
    await scene.phase("owner", "Running", seconds=30)
    assert ash.most == 8


async def _gives(scene: Scene, slots: int) -> bool:
    return (await size(scene)).get("giving") == slots


@pytest.mark.parametrize("change", ["grow", "shrink"])
@pytest.mark.parametrize("moment", ["before", "answer", "after"])
async def test_a_hub_killed_at_any_moment_of_it_loses_and_doubles_nothing(
    scene: Scene, change: str, moment: str
) -> None:
    line = Line(scene.api)
    first, ash = await growing(scene, line=line, slow=0.1)
    if change == "grow":
        await scene.submit("owner", tasks=4, queueName="speech", gang=True)
        await scene.phase("owner", "Running", seconds=30)
    reached = asyncio.Event()

    def before(verb: str, what: str, name: str) -> None:
        if verb == "patch" and what == "manifestworks" and name.startswith("elastic") and not reached.is_set():
            reached.set()
            if moment == "before":
                line.cut()
            elif moment == "answer":
                line.lose_answer = True

    line.before = before
    if change == "grow":
        await scene.api.patch(FLEET_JOBS, "owner", {"spec": {"cancel": True}}, "default")
    else:
        await scene.submit("owner", tasks=4, queueName="speech", gang=True)
    await asyncio.wait_for(reached.wait(), 30)
    if moment == "after":
        await until(lambda: _written(scene, 8 if change == "grow" else 4))
    await scene.kill(first)
    (work,) = [w for w in await scene.works("ash") if w["metadata"]["name"].startswith("elastic")]
    decided = work["metadata"]["annotations"][names.SLOTS]
    assert (decided == ("8" if change == "grow" else "4")) == (moment != "before")
    second = await scene.hub(identity="second", queue={"notice": "5s"})
    if change == "grow":
        await until(lambda: is_size(scene, 8))
    else:
        await scene.phase("owner", "Running", seconds=20)
        await until(lambda: is_size(scene, 4))
    assert ash.most <= 8
    assert sum(part.slots for part in second.holdings.slices) == 8
    status = await scene.status("elastic")
    assert [attempt["epoch"] for attempt in status["attempts"]] == [1]


async def _written(scene: Scene, slots: int) -> bool:
    works = [w for w in await scene.works("ash") if w["metadata"]["name"].startswith("elastic")]
    return works[0]["metadata"]["annotations"][names.SLOTS] == str(slots)


async def test_a_refused_change_of_size_leaves_everything_as_it_was(scene: Scene) -> None:
    line = Line(scene.api)
    hub, _ = await growing(scene, line=line)
    refusals = 0

    def before(verb: str, what: str, name: str) -> None:
        nonlocal refusals
        if verb == "patch" and what == "manifestworks" and refusals < 2:
            refusals += 1
            raise RefusedError(403, {"message": "a webhook says no"})

    line.before = before
    await scene.submit("owner", tasks=2, queueName="speech", gang=True)
    await scene.phase("owner", "Running", seconds=20)
    assert refusals == 2
    entry = hub.table.named("FleetJob", "default", "elastic")
    assert entry is not None
    assert entry.resizing == {}
    (work,) = [w for w in await scene.works("ash") if w["metadata"]["name"].startswith("elastic")]
    record = read_resize(work["metadata"]["annotations"][names.RESIZE])
    assert record is not None
    assert (record.before, record.slots, record.by) == (8, 6, "default/owner")
    assert record.stops - record.at == pytest.approx(5.0, abs=1e-3)


async def test_an_evicted_slice_goes_as_soon_as_nothing_runs_on_it(scene: Scene) -> None:
    """Its tasks are told at once, and need not use the whole of a long notice."""
    await scene.hub(queue={"notice": "10m"})
    await site(scene, "ash", 6)
    await scene.available("ash")
    await tenant(scene, "vision", 2)
    await tenant(scene, "speech", 4)
    await scene.submit("borrower", tasks=6, queueName="vision", gang=True)
    await scene.phase("borrower", "Running", seconds=30)
    await scene.submit("owner", tasks=4, queueName="speech", gang=True)
    await scene.phase("owner", "Running", seconds=30)
    status = await scene.status("borrower")
    assert status["preemptions"] == 1
    assert IndexSet.parse(status["attempts"][0]["tasks"]) == IndexSet.span(6)


async def test_a_lowered_maximum_is_kept_at_once(scene: Scene) -> None:
    await growing(scene)
    await scene.api.patch(FLEET_JOBS, "elastic", {"spec": {"elastic": {"max": 5}}}, "default")
    found = await until(lambda: is_size(scene, 5))
    assert found["max"] == 5
    assert found["message"].endswith("its maximum is 5 now")
    assert "evictions" not in await scene.status("elastic")


@pytest.mark.parametrize(("own", "notice", "expected"), [(None, "2m", 120), (7, "2m", 7), (None, "10s", None)])
async def test_on_kubernetes_the_notice_is_the_pods_grace(
    scene: Scene, own: int | None, notice: str, expected: int | None
) -> None:
    await scene.hub(queue={"notice": notice})
    await scene.agent("ash", cpu=2)
    await scene.available("ash")
    container = {"name": "main", "image": "host", "command": ["true"]}
    pod = {"containers": [container]} | ({} if own is None else {"terminationGracePeriodSeconds": own})
    await scene.submit("a", template={"spec": pod})
    await scene.phase("a", "Succeeded", seconds=30)
    (work,) = await scene.works("ash")
    sent = work["spec"]["workload"]["manifests"][0]["spec"]["template"]["spec"]
    assert sent.get("terminationGracePeriodSeconds") == expected
