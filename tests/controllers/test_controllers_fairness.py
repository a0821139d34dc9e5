"""What queues, cohorts and metrics say of shares, past usage and guarantees, while jobs run."""

from __future__ import annotations

from typing import Any

from controllers_scene import Scene, Told, until
from controllers_tenants import tenant

from hub.api.quantity import Quantity
from hub.api.resource import CLUSTER_QUEUES, COHORTS, LOCAL_QUEUES
from hub.controllers.past_usage import past_status, read_past
from hub.controllers.readings import refresh
from hub.queueing.kueue.history import Past

Json = dict[str, Any]
FOREVER = Told(seconds=60, running_after=0.0)


async def test_queues_and_cohorts_say_what_they_borrow_and_local_queues_what_they_used(scene: Scene) -> None:
    sharing = {"usageHalfLifeTime": "2s", "usageSamplingInterval": "200ms"}
    hub = await scene.hub(queue={"fairSharing": {}, "admissionFairSharing": sharing})
    await scene.agent("ash", plan=lambda work, tasks: FOREVER)
    await scene.available("ash")
    cohort = {"apiVersion": COHORTS.api_version, "kind": "Cohort", "metadata": {"name": "lab"}, "spec": {}}
    await scene.api.create(COHORTS, cohort)
    await tenant(scene, "vision", 2, fairSharing={"weight": "2"})
    await tenant(scene, "speech", 6)
    await scene.submit("job", tasks=4, queueName="vision")
    await scene.phase("job", "Running")

    async def status(resource: Any, name: str, namespace: str | None = None) -> Json:
        return (await scene.api.get(resource, name, namespace)).get("status") or {}

    async def shares() -> bool:
        # 2 of 8 CPU borrowed, with weight 2: 125 thousandths.
        sharing = (await status(CLUSTER_QUEUES, "vision")).get("fairSharing") or {}
        return sharing.get("weightedShare") == 125

    await until(shares, 20)
    vision = await status(CLUSTER_QUEUES, "vision")
    assert (vision["reservingWorkloads"], vision["admittedWorkloads"], vision["pendingWorkloads"]) == (1, 1, 0)
    (flavor,) = vision["flavorsUsage"]
    assert {"name": "cpu", "total": "4", "borrowed": "2"} in flavor["resources"]
    assert (await status(COHORTS, "lab"))["fairSharing"]["weightedShare"] == 0

    async def used() -> Json | None:
        local = await status(LOCAL_QUEUES, "vision", "default")
        past = (local.get("fairSharing") or {}).get("admissionFairSharingStatus") or {}
        return past if Quantity(past.get("consumedResources", {}).get("cpu", "0")).nano > 10**9 else None

    assert "lastUpdate" in await until(used, 20)
    # Who takes over goes on from there.
    await scene.kill(hub)
    second = await scene.hub(identity="second", queue={"fairSharing": {}, "admissionFairSharing": sharing})
    await until(lambda: second.holdings.slices)
    assert second.past()["default", "vision"].consumed["cpu"] > 1


async def test_metrics_tell_who_waits_for_what_is_its_own(scene: Scene) -> None:
    hub = await scene.hub(queue={"starvation": "0s"})
    await scene.agent("ash", cpu=6, plan=lambda work, tasks: FOREVER)
    await scene.available("ash")
    await tenant(scene, "vision", 2, preemption={})
    await tenant(scene, "speech", 4, preemption={})
    await scene.submit("borrower", tasks=6, queueName="vision")
    await scene.phase("borrower", "Running")
    # Its queue owns what it needs, and may not take it back.
    await scene.submit("owner", tasks=4, queueName="speech")
    await scene.submit("more", tasks=1, queueName="vision")
    for name in ("owner", "more"):
        await scene.phase(name, "Queued")

    def value(name: str, **labels: str) -> float | None:
        refresh(hub)
        return hub.metrics.registry.get_sample_value(name, labels)

    await until(lambda: value("quarterdeck_guarantee_violations", queue="speech") == 1)
    assert value("quarterdeck_guarantee_violations", queue="vision") == 0
    assert value("quarterdeck_starved_jobs", queue="speech") == 1
    assert (value("quarterdeck_oldest_pending_seconds", queue="speech") or -1) >= 0
    # 3 times its own against nothing: half of even, of two.
    assert value("quarterdeck_cohort_jain_index", cohort="lab") == 0.5
    assert (value("quarterdeck_queue_weighted_share", queue="vision") or 0) > 0
    assert value("quarterdeck_queue_weighted_share", queue="speech") == 0


def test_what_is_remembered_is_read_back() -> None:
    past = Past({"cpu": 1.25, "memory": 1024.0}, 1_700_000_000.0, 2.0)
    queue = {
        "metadata": {"namespace": "a", "name": "b"},
        "spec": {"fairSharing": {"weight": "2"}},
        "status": {"fairSharing": {"admissionFairSharingStatus": past_status(past)}},
    }
    broken = {
        **queue,
        "metadata": {"name": "c"},
        "status": {"fairSharing": {"admissionFairSharingStatus": {"lastUpdate": "x"}}},
    }
    found = read_past([queue, broken])
    assert list(found) == [("a", "b")]
    known = found["a", "b"]
    assert (known.consumed, known.updated, known.weight) == (past.consumed, past.updated, past.weight)
