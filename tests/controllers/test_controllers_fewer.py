"""A job that runs on fewer slots than it asks for says so, with numbers, and where it is, it says as it is now."""

from __future__ import annotations

from typing import Any

from controllers_scene import Scene, Told
from controllers_scene import until as within
from controllers_tenants import tenant

from hub.api.indexset import IndexSet
from hub.api.resource import EVENTS

Json = dict[str, Any]


async def until(condition: Any) -> Any:
    """However busy the machine is."""
    return await within(condition, 30)


async def says(scene: Scene, name: str, *parts: str) -> bool:
    message = (await scene.status(name)).get("message") or ""
    return all(part in message for part in parts)


async def test_in_mode_kueue_an_array_tells_why_it_has_fewer_slots(scene: Scene) -> None:
    await scene.hub(queue={"mode": "kueue"})
    await scene.agent("ash", cpu=16, plan=lambda work, tasks: Told(seconds=30, running_after=0.0))
    await scene.available("ash")
    await tenant(scene, "vision", 4, cohort=None, preemption={})
    await tenant(scene, "speech", 3, cohort=None, preemption={})
    # One whose tasks all have a slot to run on, one of which most tasks wait, and one that waits for its first.
    await scene.submit("all", tasks=6, queueName="vision")
    await scene.phase("all", "Running", seconds=30)
    await scene.submit("most", tasks=100, parallelism=6, queueName="speech")
    await scene.submit("none", tasks=60, parallelism=6, queueName="vision")
    free = "0 free in ClusterQueue"
    await until(lambda: says(scene, "all", "has 4 of the 6 slots", "needs 1 cpu", f"{free} vision"))
    await until(lambda: says(scene, "most", "76 wait: has 3 of the 6 slots", "needs 1 cpu", f"{free} speech"))
    await until(lambda: says(scene, "none", "needs 1 cpu", f"{free} vision"))
    assert (await scene.status("none"))["reason"] == "WaitingForQuota"


async def test_after_a_restart_and_in_mode_fleet_the_numbers_are_told(scene: Scene) -> None:
    await scene.hub()
    await scene.agent("ash", cpu=4, plan=lambda work, tasks: Told(seconds=30, running_after=0.0))
    await scene.available("ash")
    await scene.submit("array", tasks=6)
    await until(lambda: says(scene, "array", "has 4 of the 6 slots that it asks for"))


async def test_clusters_that_a_job_has_left_are_not_where_it_is(scene: Scene) -> None:
    """Sent away from one cluster it waits nowhere, then is on another; at its end it says where its tasks ended."""
    await scene.hub(queue={"notice": "0s"})
    first = {"1"}

    def plan(work: Json, tasks: IndexSet) -> Told:
        labels = work["metadata"]["labels"]
        slow = labels["fleet.quarterdeck.dev/job-name"] == "mover" and labels["fleet.quarterdeck.dev/epoch"] in first
        return Told(seconds=60 if slow else 1.5, running_after=0.0)

    await scene.agent("ash", cpu=2, plan=plan)
    await scene.available("ash")
    await tenant(scene, "vision", 0)
    await tenant(scene, "speech", 4)
    await scene.submit("mover", tasks=2, queueName="vision", gang=True)
    await scene.phase("mover", "Running", seconds=30)
    assert (await scene.status("mover"))["clusters"] == ["ash"]
    await scene.submit("owner", tasks=2, queueName="speech", gang=True, placement=only("ash"))
    await scene.phase("owner", "Running", seconds=30)
    await until(lambda: left(scene))
    await scene.agent("elm", cpu=2, plan=plan)
    status = await scene.phase("mover", "Succeeded", seconds=20)
    assert len(status["attempts"]) == 2
    assert status["clusters"] == [status["attempts"][1]["cluster"]]


def only(cluster: str) -> Json:
    rule = f"managedCluster.metadata.name == '{cluster}'"
    return {"predicates": [{"requiredClusterSelector": {"celSelector": {"celExpressions": [rule]}}}]}


async def left(scene: Scene) -> bool:
    status = await scene.status("mover")
    return status.get("phase") == "Queued" and "clusters" not in status


async def test_two_evictions_of_one_job_are_two_events(scene: Scene) -> None:
    await scene.hub(queue={"notice": "100ms"})
    await scene.agent("ash", cpu=3, plan=lambda work, tasks: Told(seconds=60, running_after=0.0))
    await scene.agent("elm", cpu=3, plan=lambda work, tasks: Told(seconds=60, running_after=0.0))
    await scene.available("ash", "elm")
    await tenant(scene, "vision", 0)
    await tenant(scene, "speech", 6)
    await scene.submit("borrower", tasks=6, queueName="vision")
    await scene.phase("borrower", "Running", seconds=30)
    await scene.submit("owner", tasks=6, queueName="speech")

    async def told() -> set[str] | None:
        events = (await scene.api.list(EVENTS, "default")).items
        found = [e["note"] for e in events if e["reason"] == "Preempted" and e["regarding"]["kind"] == "FleetJob"]
        return set(found) if len(found) == 2 else None

    notes = await until(told)
    assert {cluster for note in notes for cluster in ("ash", "elm") if f"on {cluster}" in note} == {"ash", "elm"}
