"""A hub that runs is asked what waits: the listing, `why`, the jobs' own reasons and the visibility API agree."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from controllers_quota import cluster_queue, foreign, is_true, local_queue
from controllers_scene import Scene, Told, until

from hub.api.resource import CLUSTER_QUEUES, PRIORITY_CLASSES, WORKLOADS
from hub.apiserver.server import ApiServer
from hub.cli.plan_input import Settings, list_objects, quiet
from hub.client.session import Session
from hub.controllers.hub import Hub
from hub.controllers.metrics_server import MetricsServer
from hub.controllers.permission import Permission
from hub.controllers.score_state import score_state
from hub.controllers.visibility import VisibilityPages
from hub.server.pending import pending_rows, with_starts
from hub.server.snapshot import State
from hub.server.waiting import why_sections

Json = dict[str, Any]
_LONG = Told(seconds=60.0)
_MODES = pytest.mark.parametrize("mode", ["fleet", "kueue"])


class Asked:
    """Everything that answers questions about one hub."""

    def __init__(self, scene: Scene, token: str) -> None:
        self.scene, self._token = scene, token
        self._servers: list[MetricsServer] = []

    async def start(self, **queue: Any) -> Hub:
        hub = await self.scene.hub(queue=queue)
        self.hub = hub
        permission = Permission(self._api)
        pages = VisibilityPages(hub.deciding, hub.table, permission, hub.way).routes
        server = MetricsServer("127.0.0.1:0", hub.metrics.registry, lambda: None, lambda: "", pages)
        self._servers.append(await server.__aenter__())
        return hub

    _api: Session

    async def stop(self) -> None:
        for server in self._servers:
            await server.__aexit__(None, None, None)

    async def visible(self, queue: str) -> list[Json]:
        url = f"{self._servers[0].url}/apis/visibility.kueue.x-k8s.io/v1beta2/clusterqueues/{queue}/pendingworkloads"
        headers = {"Authorization": f"Bearer {self._token}"}
        async with aiohttp.ClientSession(headers=headers) as http, http.get(url) as answer:
            items: list[Json] = (await answer.json())["items"]
            return items

    async def state(self) -> State:
        """As the command line makes it of the hub's objects and of its settings."""
        sources = await list_objects(self._api)
        hub = self.hub
        scores = score_state(hub.scores, hub.world.fleet, hub.now(), [])
        with quiet():
            settings = Settings.read(None, "1", None, None).knowing(scores, hub.config.queue.whole())
            return settings.state(sources, live=True)[1]

    async def waits(self, *jobs: str) -> None:
        for name in jobs:
            await self.scene.phase(name, "Queued")

        async def told() -> bool:
            return all([(await self.scene.status(name)).get("message") for name in jobs])

        await until(told)


@pytest.fixture
async def asked(scene: Scene, api_server: ApiServer, api: Session) -> AsyncIterator[Asked]:
    found = Asked(scene, api_server.token)
    found._api = api
    yield found
    await found.stop()


async def _same_everywhere(asked: Asked, queue: str, *expected: tuple[str, str]) -> list[Json]:
    """(job, reason) in order, from every side."""

    async def settled() -> list[Json] | None:
        found = await asked.visible(queue)
        said = [(item["metadata"]["name"], item.get("reason")) for item in found]
        return found if said == list(expected) else None

    try:
        found: list[Json] = await until(settled)
    except AssertionError:
        raise AssertionError(f"{expected}, but {await asked.visible(queue)}") from None
    assert [item["positionInClusterQueue"] for item in found] == list(range(len(expected)))
    rows = [row for row in pending_rows(await asked.state()) if row.cluster_queue == queue]
    assert [(row.name, row.reason) for row in rows] == list(expected)
    assert [row.in_cluster_queue for row in rows] == list(range(1, len(expected) + 1))
    assert [row.message for row in rows] == [item["message"] for item in found]

    async def told() -> bool:
        said = {row.name: (row.reason, row.message) for row in rows}
        statuses = {name: await asked.scene.status(name) for name, _ in expected}
        return said == {name: (status.get("reason"), status.get("message")) for name, status in statuses.items()}

    await until(told, what="the jobs say the same of themselves")
    return found


@pytest.mark.parametrize(("mode", "behind"), [("fleet", "BehindOlderJob"), ("kueue", "PendingEvaluation")])
async def test_a_strict_queue_in_order_with_one_reason_each(asked: Asked, mode: str, behind: str) -> None:
    scene = asked.scene
    hub = await asked.start(mode=mode)
    ash = await scene.agent("ash", cpu=8, plan=lambda work, tasks: _LONG)
    await scene.available("ash")
    await cluster_queue(scene, "team", {"cpu": 4, "memory": "8Gi"}, queueingStrategy="StrictFIFO")
    await scene.submit("runs", cpu="3", queueName="team", expectedDuration="10m")
    await until(lambda: ash.started)
    await scene.submit("large", cpu="4", queueName="team", expectedDuration="1m")
    await asked.waits("large")
    await asyncio.sleep(1.1)
    await scene.submit("small", cpu="1", queueName="team")
    await asked.waits("small")
    found = await _same_everywhere(asked, "team", ("large", "WaitingForQuota"), ("small", behind))
    large, small = found
    assert "needs 4 cpu in flavor default; 1 free" in large["message"]
    assert small["message"] == "ClusterQueue team is StrictFIFO and default/large before it still waits"
    assert small["wouldAdmit"] == "set queueingStrategy of ClusterQueue team to BestEffortFIFO"
    assert large["estimatedStart"]["earliest"] < small["estimatedStart"]["earliest"]
    state = await asked.state()
    rows = {row.name: row for row in with_starts(state, pending_rows(state), 2)}
    first, second = rows["large"].start, rows["small"].start
    assert first is not None
    assert second is not None
    assert first.earliest is not None
    assert second.earliest == pytest.approx(first.earliest + 60)
    assert 590 < first.earliest - hub.now() < 601
    sections = why_sections(state, "default/small")
    assert sections is not None
    said = dict(sections[0].facts)
    assert said["In line"] == "2nd of 2 in ClusterQueue team, behind default/large"
    assert said["Would start with"] == "set queueingStrategy of ClusterQueue team to BestEffortFIFO"


async def test_kueue_places_by_uid_and_fleet_by_name_and_each_hub_shows_its_own(asked: Asked) -> None:
    scene = asked.scene
    await asked.start(mode="kueue")
    await cluster_queue(scene, "team", {"cpu": 1})
    await foreign(scene, "runs", "team", {"cpu": 1})
    await is_true(scene, "runs")
    # All in one second.
    for name in ("b", "a", "d", "c"):
        await foreign(scene, name, "team", {"cpu": 1})
    uids = {item["metadata"]["name"]: item["metadata"]["uid"] for item in (await scene.api.list(WORKLOADS)).items}
    created = {
        item["metadata"]["name"]: item["metadata"]["creationTimestamp"]
        for item in (await scene.api.list(WORKLOADS)).items
    }
    expected = sorted(("a", "b", "c", "d"), key=lambda name: (created[name], uids[name]))

    async def shown() -> bool:
        return [item["metadata"]["name"] for item in await asked.visible("team")] == expected

    await until(shown)
    rows = pending_rows(await asked.state())
    assert [row.name for row in rows] == expected


@_MODES
async def test_who_preempts_is_first_and_says_whom_it_waits_for(asked: Asked, mode: str) -> None:
    scene = asked.scene
    await asked.start(mode=mode, notice="20s")
    ash = await scene.agent("ash", cpu=8, plan=lambda work, tasks: _LONG)
    await scene.available("ash")
    await cluster_queue(scene, "team", {"cpu": 4, "memory": "8Gi"}, preemption={"withinClusterQueue": "LowerPriority"})
    await scene.submit("low", cpu="4", queueName="team")
    await until(lambda: ash.started)
    await scene.api.create(
        PRIORITY_CLASSES,
        {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": "high"}, "value": 50},
    )
    # The pods' own class counts where the job names none.
    container = {
        "name": "main", "image": "host", "command": ["true"],
        "resources": {"requests": {"cpu": "4", "memory": "1Mi"}},
    }  # fmt: skip
    template = {"spec": {"restartPolicy": "Never", "containers": [container], "priorityClassName": "high"}}
    await scene.submit("high", queueName="team", template=template)
    await scene.submit("next", cpu="1", queueName="team")
    await asked.waits("high", "next")

    async def places() -> list[Json] | None:
        found = await asked.visible("team")
        return found if [item.get("reason") for item in found][:1] == ["WaitingForPreemptedWorkloads"] else None

    found = await until(places)
    assert [item["metadata"]["name"] for item in found] == ["high", "next"]
    assert found[0]["priority"] == 50
    assert found[0]["message"] == "waits until default/low have given their quota back"
    rows = pending_rows(await asked.state())
    assert [(row.name, row.priority) for row in rows] == [("high", 50), ("next", 0)]
    assert rows[0].reason == "WaitingForPreemptedWorkloads"
    workload = await scene.workload("high")
    assert workload["spec"]["priorityClassRef"] == {
        "group": "scheduling.k8s.io", "kind": "PriorityClass", "name": "high",
    }  # fmt: skip
    assert workload["spec"]["priority"] == 50


@_MODES
async def test_what_is_held_back_is_in_no_line_and_says_so_itself(asked: Asked, mode: str) -> None:
    scene = asked.scene
    await asked.start(mode=mode)
    ash = await scene.agent("ash", cpu=8, plan=lambda work, tasks: _LONG)
    await scene.available("ash")
    await cluster_queue(scene, "team", {"cpu": 1, "memory": "8Gi"})
    await scene.submit("runs", cpu="1", queueName="team")
    await until(lambda: ash.started)
    await scene.submit("off", cpu="1", queueName="team")
    await scene.submit("waits", cpu="1", queueName="team")
    await asked.waits("off", "waits")
    await scene.workload("off")
    await scene.api.patch(WORKLOADS, "off", {"spec": {"active": False}}, "default")

    async def off() -> bool:
        return (await scene.status("off")).get("reason") == "Deactivated"

    await until(off)
    await _same_everywhere(asked, "team", ("waits", "WaitingForQuota"))
    state = await asked.state()
    assert why_sections(state, "default/off") is None
    # A stopped queue is one reason for all that waits in it.
    await scene.api.patch(CLUSTER_QUEUES, "team", {"spec": {"stopPolicy": "Hold"}})
    reason = {"fleet": "QueueInactive", "kueue": "Suspended"}[mode]
    await _same_everywhere(asked, "team", ("waits", reason))


async def test_past_usage_orders_a_queue_that_says_so(asked: Asked) -> None:
    scene = asked.scene
    history = {"usageHalfLifeTime": "1h", "usageSamplingInterval": "1h"}
    await asked.start(mode="kueue", admissionFairSharing=history)
    await cluster_queue(scene, "team", {"cpu": 2}, admissionScope={"admissionMode": "UsageBasedAdmissionFairSharing"})
    await local_queue(scene, "heavy", "team")
    await local_queue(scene, "light", "team")
    await foreign(scene, "runs", "heavy", {"cpu": 2})
    await is_true(scene, "runs")
    await foreign(scene, "second", "heavy", {"cpu": 1}, priority=10)
    await foreign(scene, "first", "light", {"cpu": 1})

    async def shown() -> bool:
        return [item["metadata"]["name"] for item in await asked.visible("team")] == ["first", "second"]

    await until(shown)
