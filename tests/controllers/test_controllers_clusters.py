"""Clusters that fall silent, come back, are turned away: fencing, stale results, and whose silence counts."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

from controllers_scene import Line, Scene, Told, until

from hub.api import names
from hub.api.conditions import condition_is, find_condition
from hub.api.indexset import IndexSet
from hub.api.resource import LEASES, MANAGED_CLUSTERS, MANIFEST_WORKS, NAMESPACES
from hub.client.patcher import Patcher
from hub.controllers.metrics.all import HubMetrics
from hub.controllers.registrar import Registrar
from hub.controllers.writes import Writes
from hub.registration.acceptance import AcceptRule
from hub.registration.heartbeats import Heartbeats

AVAILABLE = "ManagedClusterConditionAvailable"


async def taints(scene: Scene, name: str) -> list[str]:
    cluster = await scene.api.get(MANAGED_CLUSTERS, name)
    return [taint["key"] for taint in cluster["spec"].get("taints") or ()]


async def test_a_cluster_joins(scene: Scene) -> None:
    await scene.hub()
    await scene.agent("ash", lease_seconds=7)
    await scene.available("ash")
    cluster = await scene.api.get(MANAGED_CLUSTERS, "ash")
    assert cluster["spec"]["hubAcceptsClient"] is True
    assert cluster["metadata"]["labels"][names.CLUSTER_SET] == "default"
    assert condition_is(cluster["status"]["conditions"], "HubAcceptedManagedCluster")
    namespace = await scene.api.get(NAMESPACES, "ash")
    assert namespace["metadata"]["labels"][names.CLUSTER_NAME] == "ash"
    lease = await scene.api.get(LEASES, names.CLUSTER_LEASE, "ash")
    assert lease["spec"]["leaseDurationSeconds"] == 7
    await scene.api.delete(LEASES, names.CLUSTER_LEASE, "ash")

    async def made_again() -> bool:
        return bool(await scene.api.get(LEASES, names.CLUSTER_LEASE, "ash"))

    await until(made_again)


async def test_without_the_rule_a_person_accepts_and_a_no_moves_what_runs(scene: Scene) -> None:
    await scene.hub(autoAccept={"users": ["system:open-cluster-management:elm:*"]})
    ash = await scene.agent("ash", plan=lambda work, tasks: Told(seconds=30.0))
    await asyncio.sleep(0.2)
    cluster = await scene.api.get(MANAGED_CLUSTERS, "ash")
    assert "hubAcceptsClient" not in cluster["spec"]
    await scene.api.patch(MANAGED_CLUSTERS, "ash", {"spec": {"hubAcceptsClient": True}})
    await scene.available("ash")
    await scene.submit("mover", tasks=2)
    await until(lambda: ash.started)
    await scene.agent("elm")
    await scene.available("elm")
    await scene.api.patch(MANAGED_CLUSTERS, "ash", {"spec": {"hubAcceptsClient": False}})
    status = await scene.phase("mover", "Succeeded")
    assert [(a["cluster"], a["state"]) for a in status["attempts"]] == [("ash", "Lost"), ("elm", "Succeeded")]
    cluster = await scene.api.get(MANAGED_CLUSTERS, "ash")
    denied = find_condition(cluster["status"]["conditions"], "HubAcceptedManagedCluster")
    assert denied is not None
    assert denied["reason"] == "HubClusterAdminDenied"


async def test_a_cut_off_cluster_is_fenced_and_its_late_results_do_not_count(scene: Scene) -> None:
    hub = await scene.hub()
    ash = await scene.agent("ash", lease_seconds=1, plan=lambda work, tasks: Told(seconds=1.5, failing=frozenset({1})))
    await scene.available("ash")
    await scene.submit("carry", tasks=2)
    await until(lambda: ash.started)
    ash.line.cut()
    elm = await scene.agent("elm", lease_seconds=30)
    await scene.available("elm")
    line = scene.line_of(hub)
    status = await scene.phase("carry", "Succeeded")
    assert [(a["epoch"], a["cluster"], a["state"]) for a in status["attempts"]] == [
        (1, "ash", "Lost"),
        (2, "elm", "Succeeded"),
    ]
    cluster = await scene.api.get(MANAGED_CLUSTERS, "ash")
    assert condition_is(cluster["status"]["conditions"], AVAILABLE, "Unknown")
    assert await taints(scene, "ash") == [names.TAINT_UNREACHABLE]

    async def taken_back() -> bool:
        work = await scene.api.get(MANIFEST_WORKS, ash.started[0][0], "ash")
        return bool(work["metadata"].get("deletionTimestamp"))

    await until(taken_back)
    said_lost = line.log.index(("patch", "fleetjobs/status", "carry"))
    assert said_lost < line.log.index(("delete", "manifestworks", ash.started[0][0]))

    # It comes back, with a result of its own that it reached while it was alone, and one that it did not.
    await until(lambda: ash.ended, what="the old tasks end")
    ash.line.heal()
    await ash.report(ash.started[0][0], succeeded=IndexSet.of([0]), failed=IndexSet.of([1]), over=True)
    ash._work(await scene.api.get(MANIFEST_WORKS, ash.started[0][0], "ash"))

    async def recorded() -> dict[str, Any] | None:
        status = await scene.status("carry")
        return status if status["attempts"][0].get("stale") else None

    status = await until(recorded)
    assert status["attempts"][0]["stale"] == "0-1"
    assert status["attempts"][0]["state"] == "Lost"
    assert status["phase"] == "Succeeded"
    assert status["tasks"]["succeeded"] == 2

    async def swept() -> bool:
        return not await scene.works("ash") and await taints(scene, "ash") == []

    await until(swept)
    assert len(elm.started) == 1
    await elm.stop()
    await scene.api.patch(MANAGED_CLUSTERS, "elm", {"spec": {"hubAcceptsClient": False}})
    await scene.submit("after")
    assert (await scene.phase("after", "Succeeded"))["clusters"] == ["ash"]


async def test_a_hub_that_was_cut_off_condemns_nobody(scene: Scene) -> None:
    hub = await scene.hub()
    ash = await scene.agent("ash", lease_seconds=2, plan=lambda work, tasks: Told(seconds=4.0, running_after=0.01))
    await scene.available("ash")
    await scene.submit("calm")
    await until(lambda: ash.started)
    line = scene.line_of(hub)
    line.cut()
    await until(lambda: not hub.leading.is_set())
    await asyncio.sleep(2.5)
    line.heal()
    await asyncio.wait_for(hub.leading.wait(), 5)
    status = await scene.phase("calm", "Succeeded")
    assert [(a["epoch"], a["state"]) for a in status["attempts"]] == [(1, "Succeeded")]
    assert await taints(scene, "ash") == []


async def test_when_the_whole_api_was_away_every_cluster_has_a_full_new_period(scene: Scene) -> None:
    """The clusters could not renew either: nobody's silence is theirs alone."""
    hub = await scene.hub()
    ash = await scene.agent("ash", lease_seconds=3, plan=lambda work, tasks: Told(seconds=6.5))
    await scene.available("ash")
    await scene.submit("calm")
    await until(lambda: ash.started)
    line = scene.line_of(hub)
    line.cut()
    ash.line.cut()
    await asyncio.sleep(4.0)
    line.heal()
    await asyncio.wait_for(hub.leading.wait(), 10)
    await asyncio.sleep(0.5)
    ash.line.heal()
    status = await scene.phase("calm", "Succeeded")
    assert [(a["epoch"], a["state"]) for a in status["attempts"]] == [(1, "Succeeded")]


class Times:
    """Clocks that a test turns."""

    def __init__(self) -> None:
        self.mono = 1000.0
        self.renewed = 1000.0
        self.leads = True


def registrar(scene: Scene, times: Times) -> Registrar:
    writes = Writes(Patcher(Line(scene.api)), lambda: times.leads, HubMetrics().writes)
    return Registrar(
        writes, AcceptRule(("*",)), Heartbeats(1.0),
        clock=lambda: times.mono, now=lambda: 1.7e9, leads=lambda: times.leads,
        heard_api=lambda: times.renewed, gap=5.0,
    )  # fmt: skip


def cluster(name: str, version: int = 1) -> dict[str, Any]:
    condition = {
        "type": AVAILABLE,
        "status": "True",
        "reason": "X",
        "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }
    return {
        "metadata": {"name": name, "uid": name, "resourceVersion": str(version)},
        "spec": {"hubAcceptsClient": True, "leaseDurationSeconds": 60},
        "status": {"conditions": [condition]},
    }


def lease(name: str, at: str) -> dict[str, Any]:
    return {"metadata": {"name": names.CLUSTER_LEASE, "namespace": name, "uid": "l"}, "spec": {"renewTime": at}}


async def test_silence_is_judged_by_the_hubs_clock_and_never_across_a_gap(scene: Scene) -> None:
    times = Times()
    made = registrar(scene, times)
    made.lease_seen(lease("ash", "2001-01-01T00:00:00Z"))
    made.cluster_seen(cluster("ash"))
    made.take_over()

    def silent() -> bool:
        times.renewed = times.mono
        made._look()
        return "ash" in made._silent

    times.mono += 59
    assert not silent()
    # The agent's clock runs backwards: that the Lease changed is what counts.
    made.lease_seen(lease("ash", "1999-01-01T00:00:00Z"))
    times.mono += 59
    assert not silent()
    # The hub itself hears nothing for ten minutes, and looks before its API has answered again.
    times.mono += 600
    made._look()
    assert "ash" not in made._silent
    assert not silent()
    times.mono += 59
    assert not silent()
    times.mono += 2
    assert silent()
    made.lease_seen(lease("ash", "2000-01-01T00:00:00Z"))
    assert "ash" not in made._silent


async def test_a_standby_judges_nobody(scene: Scene) -> None:
    times = Times()
    made = registrar(scene, times)
    made.lease_seen(lease("ash", "a"))
    made.cluster_seen(cluster("ash"))
    times.mono += 1000
    made._look()
    assert not made._silent
    made.take_over()
    times.renewed = times.mono
    made._look()
    assert not made._silent


async def test_an_unavailable_cluster_keeps_what_it_runs_and_gets_nothing_new(scene: Scene) -> None:
    await scene.hub()
    ash = await scene.agent("ash", plan=lambda work, tasks: Told(seconds=1.0))
    await scene.available("ash")
    await scene.submit("keeps")
    await until(lambda: ash.started)
    ash.paused = True
    current = await scene.api.get(MANAGED_CLUSTERS, "ash")
    conditions = [{**c, "status": "False"} if c["type"] == AVAILABLE else c for c in current["status"]["conditions"]]
    await scene.api.patch(MANAGED_CLUSTERS, "ash", {"status": {"conditions": conditions}}, subresource="status")

    async def tainted() -> bool:
        return await taints(scene, "ash") == [names.TAINT_UNAVAILABLE]

    await until(tainted)
    await scene.submit("new")
    waiting = await scene.phase("new", "Queued")
    assert waiting["reason"] == "NoClusterFits"
    status = await scene.phase("keeps", "Succeeded")
    assert len(status["attempts"]) == 1


async def test_a_work_that_somebody_deletes_runs_again_elsewhere_or_anew(scene: Scene) -> None:
    await scene.hub()
    seconds = 30.0
    ash = await scene.agent("ash", plan=lambda work, tasks: Told(seconds=seconds))
    await scene.available("ash")
    await scene.submit("snatched")
    await until(lambda: ash.started)
    seconds = 0.0
    await scene.api.delete(MANIFEST_WORKS, ash.started[0][0], "ash")
    status = await scene.phase("snatched", "Succeeded")
    assert [(a["epoch"], a["state"]) for a in status["attempts"]] == [(1, "Lost"), (2, "Succeeded")]


async def test_a_cluster_that_is_gone_takes_nothing_with_it(scene: Scene) -> None:
    hub = await scene.hub()
    ash = await scene.agent("ash", plan=lambda work, tasks: Told(seconds=30.0))
    await scene.available("ash")
    await scene.submit("orphaned")
    await until(lambda: ash.started)
    await scene.agent("elm")
    await scene.available("elm")
    await ash.stop()
    await scene.api.delete(MANAGED_CLUSTERS, "ash")
    status = await scene.phase("orphaned", "Succeeded")
    assert status["attempts"][-1]["cluster"] == "elm"
    assert "ash" not in hub.world.clusters


async def test_tasks_of_a_lost_cluster_that_were_reported_are_not_run_again(scene: Scene) -> None:
    await scene.hub()
    ash = await scene.agent("ash", lease_seconds=1, plan=lambda work, tasks: Told(seconds=30.0))
    await scene.available("ash")
    await scene.submit("partly", tasks=4)
    await until(lambda: ash.started)
    await ash.report(ash.started[0][0], active=2, succeeded=IndexSet.of([0, 2]))

    async def counted() -> bool:
        return (await scene.status("partly")).get("tasks", {}).get("succeeded") == 2

    await until(counted)
    ash.line.cut()
    elm = await scene.agent("elm", lease_seconds=30)
    status = await scene.phase("partly", "Succeeded")
    assert [tasks for _, tasks in elm.started] == ["1,3"]
    counted_in = Counter(task for a in status["attempts"] for task in IndexSet.parse(str(a.get("succeeded") or "")))
    assert counted_in == {0: 1, 1: 1, 2: 1, 3: 1}
