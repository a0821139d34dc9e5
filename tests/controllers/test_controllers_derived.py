"""Quota that follows from clusters in a hub that runs: what shrinks never sends away what was started within it."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from controllers_quota import cluster_queue, ends, foreign, is_true, used, waits
from controllers_scene import Scene, Told, until

from hub.api import names
from hub.api.conditions import condition_is, find_condition
from hub.api.resource import CLUSTER_QUEUES, COHORTS, MANAGED_CLUSTERS, Resource
from hub.controllers import readings
from hub.controllers.hub import Hub

Json = dict[str, Any]
_MODES = pytest.mark.parametrize("mode", ["fleet", "kueue"])
_FULL = ("WaitingForQuota", "ExceedsMaxQuota")
_CPU = {"kind": "ClusterQueue", "name": "team", "flavor": "default", "resource": "cpu"}


async def _derive(scene: Scene, resource: Resource, name: str, **source: Any) -> None:
    text = json.dumps({"clusterSet": "default"} | source)
    await scene.api.patch(resource, name, {"metadata": {"annotations": {names.NOMINAL_FROM: text}}})


async def _says(scene: Scene, reason: str, *words: str, resource: Resource = CLUSTER_QUEUES, name: str = "team") -> str:
    async def found() -> str | None:
        obj = await scene.api.get(resource, name)
        said = find_condition((obj.get("status") or {}).get("conditions"), "NominalQuotaDerived")
        good = said is not None and said["reason"] == reason and all(word in said["message"] for word in words)
        return str(said["message"]) if said is not None and good else None

    try:
        message: str = await until(found)
    except AssertionError:
        obj = await scene.api.get(resource, name)
        raise AssertionError(f"{reason} {words}, but {obj.get('status')}") from None
    return message


def _measured(hub: Hub, metric: str, **labels: str) -> float | None:
    readings.refresh(hub)
    return hub.metrics.registry.get_sample_value(f"quarterdeck_derived_quota_{metric}", {**_CPU, **labels})


async def _leaves(scene: Scene, name: str) -> None:
    """The cluster goes over to another set: what it has is not this set's any more."""
    label = {"metadata": {"labels": {names.CLUSTER_SET: "elsewhere"}}}
    await scene.api.patch(MANAGED_CLUSTERS, name, label)


async def _two_sites(scene: Scene) -> None:
    for name in ("ash", "elm"):
        await scene.agent(name, cpu=4, plan=lambda work, tasks: Told(seconds=60.0))
    await scene.available("ash", "elm")


@_MODES
async def test_what_was_started_within_its_quota_stays_when_the_clusters_report_less(scene: Scene, mode: str) -> None:
    hub = await scene.hub(queue={"mode": mode, "notice": "0s"})
    hub.queue_status._calm = 0.05
    await _two_sites(scene)
    takes = {"reclaimWithinCohort": "Any", "withinClusterQueue": "LowerPriority"}
    await cluster_queue(scene, "team", {"cpu": 0}, cohortName="lab", preemption=takes)
    await cluster_queue(scene, "other", {"cpu": 4}, cohortName="lab", preemption=takes)
    await _derive(scene, CLUSTER_QUEUES, "team")
    await _says(scene, "QuotaFollowsClusters", "default cpu: 8 in force, as the 8 that the clusters report")
    for number in range(4):
        await foreign(scene, f"job{number}", "team", {"cpu": 2})
        await is_true(scene, f"job{number}")
    await _leaves(scene, "elm")
    said = await _says(scene, "QuotaKeptForRunning", "8 in force", "report 4")
    assert said.endswith("and more runs: it shrinks as jobs end")
    assert (_measured(hub, "in_force"), _measured(hub, "reported")) == (8.0, 4.0)
    # None of it counts as borrowed, and who owns four elsewhere takes them from nobody.
    await until(lambda: _is(scene, "8", "0"))
    await foreign(scene, "owner", "other", {"cpu": 4})
    await is_true(scene, "owner")
    await foreign(scene, "next", "team", {"cpu": 1})
    await waits(scene, "next", *_FULL)
    for number in range(4):
        assert not condition_is((await scene.workload(f"job{number}"))["status"]["conditions"], "Evicted")
    # It shrinks as they end, and what is free of it is nobody's.
    await ends(scene, "job0")
    await _says(scene, "QuotaKeptForRunning", "6 in force", "report 4")
    await waits(scene, "next", *_FULL)
    await ends(scene, "job1")
    await _says(scene, "QuotaFollowsClusters", "4 in force, as the 4 that the clusters report")
    await waits(scene, "next", *_FULL)
    await ends(scene, "job2")
    await is_true(scene, "next")
    await scene.api.patch(CLUSTER_QUEUES, "team", {"metadata": {"annotations": {names.NOMINAL_FROM: None}}})

    async def as_written() -> bool:
        obj = await scene.api.get(CLUSTER_QUEUES, "team")
        return find_condition(obj["status"]["conditions"], "NominalQuotaDerived") is None

    await until(as_written)
    assert _measured(hub, "in_force") is None


async def _is(scene: Scene, total: str, borrowed: str) -> bool:
    return await used(scene, "team") == (total, borrowed)


async def test_a_hub_that_takes_over_keeps_what_the_one_before_it_kept(scene: Scene) -> None:
    hub = await scene.hub(queue={"mode": "fleet", "notice": "0s"})
    hub.queue_status._calm = 0.05
    await _two_sites(scene)
    takes = {"reclaimWithinCohort": "Any"}
    await cluster_queue(scene, "team", {"cpu": 0, "memory": 0}, cohortName="lab", preemption=takes)
    await cluster_queue(scene, "other", {"cpu": 4, "memory": "1Gi"}, cohortName="lab", preemption=takes)
    await _derive(scene, CLUSTER_QUEUES, "team", factor=0.5)
    await _says(scene, "QuotaFollowsClusters", "default cpu: 4 in force, as 0.5 of the 8 that the clusters report")
    for number in range(4):
        await scene.submit(f"job{number}", queueName="team")
    await until(lambda: sum(len(agent.started) for agent in scene.agents) == 4)
    await _leaves(scene, "elm")
    await _says(scene, "QuotaKeptForRunning", "4 in force", "report 4, 2 with factor 0.5, and more runs")
    await scene.kill(hub)
    await scene.submit("owner", tasks=4, queueName="other")
    hub = await scene.hub(identity="another", queue={"mode": "fleet", "notice": "0s"})
    hub.queue_status._calm = 0.05
    await asyncio.sleep(0.5)
    assert hub.world.quotas.queues["team"].quotas["default", "cpu"].nominal == 4000
    assert not any(agent.stopped for agent in scene.agents)
    await _says(scene, "QuotaKeptForRunning", "4 in force")


async def test_a_cohorts_own_quota_is_said_of_the_cohort(scene: Scene) -> None:
    hub = await scene.hub()
    hub.queue_status._calm = 0.05
    await _two_sites(scene)
    quota = {"name": "default", "resources": [{"name": "cpu", "nominalQuota": 1}]}
    body = {
        "apiVersion": COHORTS.api_version, "kind": "Cohort", "metadata": {"name": "lab"},
        "spec": {"resourceGroups": [{"coveredResources": ["cpu"], "flavors": [quota]}]},
    }  # fmt: skip
    await scene.api.create(COHORTS, body)
    await cluster_queue(scene, "team", {"cpu": 0}, cohortName="lab")
    await _derive(scene, COHORTS, "lab", factor=2)
    await _says(scene, "QuotaFollowsClusters", "16 in force, as 2 of the 8", resource=COHORTS, name="lab")
    assert _measured(hub, "in_force", kind="Cohort", name="lab") == 16.0
    await foreign(scene, "wide", "team", {"cpu": 12})
    await is_true(scene, "wide")
    await _leaves(scene, "elm")
    await _says(scene, "QuotaFollowsClusters", "8 in force", resource=COHORTS, name="lab")
    assert not condition_is((await scene.workload("wide"))["status"]["conditions"], "Evicted")
