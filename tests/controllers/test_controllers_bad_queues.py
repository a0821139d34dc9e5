"""Quota and queues as nobody should write them: a clear condition, the other queues go on, nothing is given twice."""

from __future__ import annotations

import pytest
from controllers_quota import (
    active,
    cluster_queue,
    cohort,
    ends,
    flavor,
    foreign,
    is_true,
    local_queue,
    used,
    waits,
)
from controllers_scene import Scene, Told, until

from hub.admission import references
from hub.api.conditions import condition_is
from hub.api.errors import ApiError
from hub.api.resource import CLUSTER_QUEUES, COHORTS, LOCAL_QUEUES, WORKLOAD_PRIORITY_CLASSES, WORKLOADS

_MODES = pytest.mark.parametrize("mode", ["fleet", "kueue"])
_BLOCKED = ("QueueInactive", "Suspended")
_FULL = ("WaitingForQuota", "ExceedsMaxQuota", "QuotaExceeded")


@_MODES
async def test_cohorts_in_a_circle_stop_their_own_tree_until_it_is_broken(
    scene: Scene, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The embedded API refuses it; one that does not ask anybody about circles takes it."""
    hub = await scene.hub(queue={"mode": mode})
    await cohort(scene, "a", "")
    await cohort(scene, "b", "a")
    await cluster_queue(scene, "inside", {"cpu": 4}, cohortName="b")
    await cluster_queue(scene, "outside", {"cpu": 4}, cohortName="lab")
    await foreign(scene, "before", "inside", {"cpu": 3})
    await is_true(scene, "before")
    with pytest.raises(ApiError, match="would go round in a circle"):
        await scene.api.patch(COHORTS, "a", {"spec": {"parentName": "b"}})
    monkeypatch.setattr(references, "_circle", lambda name, parent, look: [])
    await scene.api.patch(COHORTS, "a", {"spec": {"parentName": "b"}})
    said = await active(scene, "inside", "False", "Unknown")
    assert "its cohorts go round in a circle: a → b → a" in said["message"]
    await foreign(scene, "stuck", "inside", {"cpu": 3})
    await foreign(scene, "free", "outside", {"cpu": 3})
    await waits(scene, "stuck", *_BLOCKED)
    await is_true(scene, "free")
    await scene.api.patch(COHORTS, "a", {"spec": {"parentName": None}})
    # Who held quota before holds it still, so there is none for another.
    await active(scene, "inside", "True", "Ready")
    await waits(scene, "stuck", *_FULL)
    assert hub.foreign.usage["inside"] == {("default", "cpu"): 3000}
    await ends(scene, "before")
    await is_true(scene, "stuck")


@_MODES
async def test_a_queue_that_names_a_missing_flavor_works_when_it_is_there(scene: Scene, mode: str) -> None:
    await scene.hub(queue={"mode": mode})
    await cluster_queue(scene, "early", {"cpu": 4}, uses="coming", cohortName="lab")
    await cluster_queue(scene, "ready", {"cpu": 4}, cohortName="lab")
    said = await active(scene, "early", "False", "FlavorNotFound")
    assert "ResourceFlavor coming does not exist" in said["message"]
    await foreign(scene, "first", "early", {"cpu": 1})
    await foreign(scene, "second", "ready", {"cpu": 1})
    await is_true(scene, "second")
    await waits(scene, "first", *_BLOCKED)
    await flavor(scene, "coming")
    await is_true(scene, "first")


@_MODES
async def test_quota_lowered_under_usage_stops_nobody_and_counts_as_borrowed(scene: Scene, mode: str) -> None:
    reclaims = {"reclaimWithinCohort": "Any"}
    await scene.hub(queue={"mode": mode, "notice": "0s"})
    await cluster_queue(scene, "team", {"cpu": 4}, cohortName="lab")
    await cluster_queue(scene, "other", {"cpu": 2}, cohortName="lab", preemption=reclaims)
    await foreign(scene, "first", "team", {"cpu": 2})
    await foreign(scene, "second", "team", {"cpu": 2})
    await is_true(scene, "first")
    await is_true(scene, "second")
    queue = await scene.api.get(CLUSTER_QUEUES, "team")
    groups = queue["spec"]["resourceGroups"]
    groups[0]["flavors"][0]["resources"][0]["nominalQuota"] = "1"
    await scene.api.patch(CLUSTER_QUEUES, "team", {"spec": {"resourceGroups": groups}})

    async def says_so() -> bool:
        return await used(scene, "team") == ("4", "3")

    await until(says_so, what="three CPUs count as borrowed")
    # The cohort is overdrawn by one: nobody starts on it, and nobody who holds quota is stopped for that.
    await foreign(scene, "third", "team", {"cpu": 1})
    await waits(scene, "third", *_FULL)
    for name in ("first", "second"):
        assert condition_is((await scene.workload(name))["status"]["conditions"], "Evicted") is False
    # Only who takes what is its own may take it back, and from what is borrowed.
    await foreign(scene, "owner", "other", {"cpu": 2})

    async def evicted() -> list[str]:
        found = []
        for name in ("first", "second"):
            workload = await scene.workload(name)
            if condition_is(workload["status"]["conditions"], "Evicted"):
                found.append(name)
        return found

    gone = await until(evicted, what="what is borrowed goes back")
    assert "first" not in gone or len(gone) == 2


@_MODES
async def test_queues_that_take_each_others_names_over_and_over_give_nothing_twice(scene: Scene, mode: str) -> None:
    hub = await scene.hub(queue={"mode": mode})
    ash = await scene.agent("ash", cpu=4, plan=lambda work, tasks: Told(seconds=30.0))
    await scene.available("ash")
    quotas = {"cpu": 1, "memory": "8Gi"}
    await cluster_queue(scene, "left", quotas)
    await cluster_queue(scene, "right", quotas)
    await scene.submit("one", queueName="left")
    await scene.submit("two", queueName="right")
    await until(lambda: len(ash.started) == 2)
    await scene.submit("three", queueName="left")
    for round_ in range(6):
        for name in ("left", "right"):
            await scene.api.delete(LOCAL_QUEUES, name, "default")
        swapped = round_ % 2 == 0
        await local_queue(scene, "left", "right" if swapped else "left")
        await local_queue(scene, "right", "left" if swapped else "right")

    async def waits_for_quota() -> bool:
        return (await scene.status("three")).get("reason") == "WaitingForQuota"

    await until(waits_for_quota)
    # What runs pays where it was admitted, wherever its queue leads now.
    assert hub.holdings.usage["left"]["default", "cpu"] == 1000
    assert hub.holdings.usage["right"]["default", "cpu"] == 1000
    assert len(ash.started) == 2
    assert not ash.stopped
    await scene.api.delete(LOCAL_QUEUES, "left", "default")
    await local_queue(scene, "left", "default")
    await until(lambda: len(ash.started) == 3)
    status = await scene.phase("three", "Admitted", "Running")
    assert len(status["attempts"]) == 1


@_MODES
async def test_priorities_at_the_ends_of_int32_are_ordered_and_beyond_them_refused(scene: Scene, mode: str) -> None:
    for name, value in (("top", 2**31 - 1), ("bottom", -(2**31))):
        body = {
            "apiVersion": WORKLOAD_PRIORITY_CLASSES.api_version, "kind": "WorkloadPriorityClass",
            "metadata": {"name": name}, "value": value,
        }  # fmt: skip
        await scene.api.create(WORKLOAD_PRIORITY_CLASSES, body)
        beyond = {**body, "metadata": {"name": f"{name}-beyond"}, "value": value + (1 if value > 0 else -1)}
        with pytest.raises(ApiError, match="value"):
            await scene.api.create(WORKLOAD_PRIORITY_CLASSES, beyond)
    hub = await scene.hub(queue={"mode": mode, "notice": "0s"})
    await cluster_queue(scene, "team", {"cpu": 1}, preemption={"withinClusterQueue": "LowerPriority"})
    await foreign(scene, "lowest", "team", {"cpu": 1}, priority=-(2**31))
    await is_true(scene, "lowest")
    await foreign(scene, "highest", "team", {"cpu": 1}, priority=2**31 - 1)
    await is_true(scene, "lowest", "Evicted")
    await foreign(scene, "middle", "team", {"cpu": 1})
    await until(lambda: len(hub.foreign.demands) == 2)
    await ends(scene, "lowest")
    await is_true(scene, "highest")
    await waits(scene, "middle", *_FULL, "WaitingForPreemptedWorkloads", "PendingEvaluation")


@_MODES
async def test_quantities_far_beyond_and_below_every_unit(scene: Scene, mode: str) -> None:
    await scene.hub(queue={"mode": mode})
    await cluster_queue(scene, "endless", {"cpu": "1e30"}, cohortName="lab")
    await cluster_queue(scene, "tiny", {"cpu": "1n"})
    await cluster_queue(scene, "usual", {"cpu": 4})
    await foreign(scene, "small", "endless", {"cpu": 1})
    await foreign(scene, "large", "endless", {"cpu": "1e9"})
    await is_true(scene, "small")
    await is_true(scene, "large")
    # A nanocore counts as the smallest unit, a thousandth: of the quota and of who asks.
    await foreign(scene, "grain", "tiny", {"cpu": "1n"})
    await is_true(scene, "grain")
    await foreign(scene, "sand", "tiny", {"cpu": "1n"})
    await waits(scene, "sand", *_FULL)
    await foreign(scene, "monster", "usual", {"cpu": "1e30"})
    await waits(scene, "monster", *_FULL)
    await foreign(scene, "plain", "usual", {"cpu": 1})
    await is_true(scene, "plain")
    await active(scene, "endless", "True", "Ready")

    async def counted() -> bool:
        return await used(scene, "endless") == ("1000000001", "0") and (await used(scene, "tiny"))[0] == "1m"

    await until(counted)


@_MODES
async def test_weights_of_nothing_and_next_to_nothing(scene: Scene, mode: str) -> None:
    await scene.hub(queue={"mode": mode, "fairSharing": {}})
    with pytest.raises(ApiError, match="must be 0, or greater than 1n"):
        await cluster_queue(scene, "refused", {"cpu": 2}, cohortName="lab", fairSharing={"weight": "1e-9"})
    for name, weight in (("nothing", "0"), ("least", "2n"), ("usual", "1")):
        await cluster_queue(scene, name, {"cpu": 1}, cohortName="lab", fairSharing={"weight": weight})
    await foreign(scene, "modest", "nothing", {"cpu": 1})
    await is_true(scene, "modest")
    await foreign(scene, "greedy", "nothing", {"cpu": 1})
    await is_true(scene, "greedy")

    async def shares() -> bool:
        found = {}
        for name in ("nothing", "least", "usual"):
            queue = await scene.api.get(CLUSTER_QUEUES, name)
            found[name] = ((queue.get("status") or {}).get("fairSharing") or {}).get("weightedShare")
        return found == {"nothing": 2**63 - 1, "least": 0, "usual": 0}

    await until(shares, what="who borrows with no weight has an endless share")
    await foreign(scene, "fair", "usual", {"cpu": 1})
    await is_true(scene, "fair")


@_MODES
async def test_sixty_four_resources_in_one_group_and_no_more(scene: Scene, mode: str) -> None:
    await scene.hub(queue={"mode": mode})
    everything = {"cpu": 2} | {f"example.org/r{number}": 2 for number in range(63)}
    await cluster_queue(scene, "wide", everything)
    with pytest.raises(ApiError, match="coveredResources"):
        await cluster_queue(scene, "wider", everything | {"example.org/more": 2})
    each = dict.fromkeys(everything, 1)
    await foreign(scene, "one", "wide", each)
    await foreign(scene, "two", "wide", each)
    found = await is_true(scene, "one")
    assert len(found["status"]["admission"]["podSetAssignments"][0]["flavors"]) == 64
    await is_true(scene, "two")
    await foreign(scene, "three", "wide", {"example.org/r62": 1})
    await waits(scene, "three", *_FULL)
    assert "example.org/r62" in (await waits(scene, "three", *_FULL))["message"]
    await scene.api.delete(WORKLOADS, "one", "default")
    await is_true(scene, "three")
