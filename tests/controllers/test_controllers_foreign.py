"""Workloads that somebody else runs: they get quota by the same rules, in Kueue's words, and give it back."""

from __future__ import annotations

from typing import Any

import pytest
from controllers_scene import Scene, until

from hub.api.conditions import condition_is, find_condition
from hub.api.resource import CLUSTER_QUEUES, LOCAL_QUEUES, RESOURCE_FLAVORS, WORKLOADS
from hub.controllers.hub import Hub

Json = dict[str, Any]
_API = "kueue.x-k8s.io/v1beta2"
_MODES = pytest.mark.parametrize("mode", ["fleet", "kueue"])


class Queue:
    """A ClusterQueue `team` with four CPUs, and what its users and whoever runs their Workloads do."""

    def __init__(self, scene: Scene) -> None:
        self.api = scene.api

    async def make(self, **spec: Any) -> None:
        await self.api.create(
            RESOURCE_FLAVORS, {"apiVersion": _API, "kind": "ResourceFlavor", "metadata": {"name": "any"}}
        )
        resources = [{"name": "cpu", "nominalQuota": 4}]
        group = {"coveredResources": ["cpu"], "flavors": [{"name": "any", "resources": resources}]}
        body = {"namespaceSelector": {}, "resourceGroups": [group]} | spec
        queue = {"apiVersion": _API, "kind": "ClusterQueue", "metadata": {"name": "team"}, "spec": body}
        await self.api.create(CLUSTER_QUEUES, queue)
        local = {
            "apiVersion": _API,
            "kind": "LocalQueue",
            "metadata": {"name": "team"},
            "spec": {"clusterQueue": "team"},
        }
        await self.api.create(LOCAL_QUEUES, local, "default")

    async def add(self, name: str, cpu: int = 2, *, owned: bool = True, **spec: Any) -> None:
        pods = {"containers": [{"name": "main", "image": "x", "resources": {"requests": {"cpu": cpu}}}]}
        meta: Json = {"name": name}
        if owned:
            meta["ownerReferences"] = [
                {"apiVersion": "ray.io/v1", "kind": "RayJob", "name": name, "uid": f"ray-{name}"}
            ]
        body = {"queueName": "team", "podSets": [{"name": "main", "count": 1, "template": {"spec": pods}}]} | spec
        await self.api.create(
            WORKLOADS, {"apiVersion": _API, "kind": "Workload", "metadata": meta, "spec": body}, "default"
        )

    async def get(self, name: str) -> Json:
        return await self.api.get(WORKLOADS, name, "default")

    async def is_true(self, name: str, *conditions: str) -> Json:
        async def all_are() -> Json | None:
            found = await self.get(name)
            held = (found.get("status") or {}).get("conditions")
            return found if all(condition_is(held, kind) for kind in conditions) else None

        result: Json = await until(all_are, what=f"{name} is {conditions}")
        return result

    async def is_false(self, name: str, condition: str, reason: str = "") -> Json:
        async def is_so() -> Json | None:
            found = await self.get(name)
            held = find_condition((found.get("status") or {}).get("conditions"), condition)
            says = held is not None and held["status"] == "False" and reason in ("", held["reason"])
            return held if says else None

        result: Json = await until(is_so, what=f"{name} is not {condition} for {reason}")
        return result

    async def put(self, name: str, condition: str, **more: Any) -> None:
        """As whoever runs it: a condition that became true, and anything else of the status."""
        found = await self.get(name)
        conditions = [c for c in found["status"].get("conditions") or () if c["type"] != condition]
        at = "2026-01-01T00:00:00Z"
        conditions.append(
            {"type": condition, "status": "True", "reason": "Said", "message": "", "lastTransitionTime": at}
        )
        patch = {"status": {"conditions": conditions, **more}}
        await self.api.patch(WORKLOADS, name, patch, "default", subresource="status")

    async def give_back(self, name: str) -> None:
        """As the controller of an evicted job, once its pods are gone."""
        found = await self.get(name)
        conditions = [c for c in found["status"]["conditions"] if c["type"] not in ("QuotaReserved", "Admitted")]
        patch = {"status": {"conditions": conditions, "admission": None}}
        await self.api.patch(WORKLOADS, name, patch, "default", subresource="status")


@pytest.fixture
async def queue(scene: Scene) -> Queue:
    return Queue(scene)


async def _hub(scene: Scene, mode: str) -> Hub:
    return await scene.hub(queue={"mode": mode, "notice": "0s"})


@_MODES
async def test_quota_is_given_and_said_in_kueues_words(scene: Scene, queue: Queue, mode: str) -> None:
    await _hub(scene, mode)
    await queue.make()
    await queue.add("first")
    found = await queue.is_true("first", "QuotaReserved", "Admitted")
    assert found["status"]["admission"] == {
        "clusterQueue": "team",
        "podSetAssignments": [
            {"name": "main", "flavors": {"cpu": "any"}, "resourceUsage": {"cpu": "2"}, "count": 1},
        ],
    }


@_MODES
async def test_who_waits_says_why_and_starts_when_another_has_finished(scene: Scene, queue: Queue, mode: str) -> None:
    await _hub(scene, mode)
    await queue.make()
    await queue.add("first", 3)
    await queue.is_true("first", "Admitted")
    await queue.add("second", 3)
    said = await queue.is_false("second", "QuotaReserved")
    assert said["reason"] == "WaitingForQuota"
    await queue.put("first", "Finished")
    await queue.is_true("second", "Admitted")


@_MODES
async def test_a_workload_makes_way_and_comes_back(scene: Scene, queue: Queue, mode: str) -> None:
    await _hub(scene, mode)
    await queue.make(preemption={"withinClusterQueue": "LowerPriority"})
    await queue.add("low", 4)
    await queue.is_true("low", "Admitted")
    await queue.add("high", 4, priority=10)
    found = await queue.is_true("low", "Evicted", "Preempted")
    assert find_condition(found["status"]["conditions"], "Preempted")["reason"] == "InClusterQueue"  # type: ignore[index]
    await queue.is_false("high", "QuotaReserved")
    await queue.give_back("low")
    await queue.is_true("high", "Admitted")
    await queue.put("high", "Finished")
    again = await queue.is_true("low", "Admitted")
    assert not condition_is(again["status"]["conditions"], "Evicted")
    assert again["status"]["schedulingStats"]["evictions"] == [
        {"reason": "Preempted", "underlyingCause": "", "count": 1}
    ]


async def test_of_one_without_an_owner_the_hub_gives_the_quota_back_itself(scene: Scene, queue: Queue) -> None:
    await _hub(scene, "fleet")
    await queue.make(preemption={"withinClusterQueue": "LowerPriority"})
    await queue.add("low", 4, owned=False)
    await queue.is_true("low", "Admitted")
    await queue.add("high", 4, owned=False, priority=10)
    await queue.is_true("high", "Admitted")
    assert "admission" not in (await queue.get("low"))["status"]
    await queue.is_true("low", "Requeued")


async def test_a_deactivated_one_and_a_drained_queue_give_quota_back(scene: Scene, queue: Queue) -> None:
    await _hub(scene, "fleet")
    await queue.make()
    await queue.add("first", owned=False)
    await queue.add("second", owned=False)
    await queue.is_true("first", "Admitted")
    await queue.is_true("second", "Admitted")
    await queue.api.patch(WORKLOADS, "first", {"spec": {"active": False}}, "default")
    await queue.is_false("first", "QuotaReserved")
    assert condition_is((await queue.get("second"))["status"]["conditions"], "Admitted")
    await queue.api.patch(CLUSTER_QUEUES, "team", {"spec": {"stopPolicy": "HoldAndDrain"}})
    await queue.is_false("second", "QuotaReserved")
    await queue.api.patch(CLUSTER_QUEUES, "team", {"spec": {"stopPolicy": "None"}})
    await queue.is_true("second", "Admitted")
    assert not condition_is((await queue.get("first"))["status"]["conditions"], "QuotaReserved")


async def test_a_hub_that_dies_gives_nothing_twice(scene: Scene, queue: Queue) -> None:
    hub = await _hub(scene, "fleet")
    await queue.make()
    await queue.add("first", 3)
    await queue.is_true("first", "Admitted")
    await scene.kill(hub)
    await queue.add("second", 3)
    hub = await scene.hub(identity="other", queue={"mode": "fleet"})
    await queue.is_false("second", "QuotaReserved")
    assert hub.foreign.usage["team"] == {("any", "cpu"): 3000}


async def test_one_that_cannot_be_read_says_so_and_stops_nobody(scene: Scene, queue: Queue) -> None:
    await _hub(scene, "fleet")
    await queue.make()
    await queue.add(
        "odd", priorityClassRef={"group": "kueue.x-k8s.io", "kind": "WorkloadPriorityClass", "name": "none"}
    )
    await queue.add("sound")
    await queue.is_true("sound", "Admitted")
    said = await queue.is_false("odd", "QuotaReserved")
    assert "WorkloadPriorityClass none" in said["message"]


async def test_queues_count_them_and_the_hubs_own_jobs_share_with_them(scene: Scene, queue: Queue) -> None:
    hub = await _hub(scene, "fleet")
    await queue.make()
    await queue.add("first", 3)
    await queue.is_true("first", "Admitted")
    await queue.add("second", 3)
    await queue.is_false("second", "QuotaReserved")
    assert sorted(hub.foreign.counts()) == [
        ("default", "team", False, {}, False),
        ("default", "team", True, {("any", "cpu"): 3000}, False),
    ]
    assert [place.key for place in hub.deciding.snapshot().demands] == ["default/second"]
