"""What changes nothing costs no decision: who arrives behind a refused one, and what nobody who waits could have."""

from __future__ import annotations

from typing import Any

from controllers_quota import cluster_queue
from controllers_scene import Scene, Told, until

from hub.api.indexset import IndexSet


def only(cluster: str) -> dict[str, Any]:
    selector = {"labelSelector": {"matchLabels": {"site": cluster}}}
    return {"predicates": [{"requiredClusterSelector": selector}]}


async def test_who_arrives_behind_a_refused_one_is_told_why_without_a_decision(scene: Scene) -> None:
    hub = await scene.hub()
    agent = await scene.agent("ash", cpu=2, plan=lambda work, tasks: Told(seconds=6.0))
    await scene.available("ash")
    await scene.submit("first", cpu="2")
    await until(lambda: agent.started)
    await scene.submit("second", cpu="2")
    why = (await scene.phase("second", "Queued"))["reason"]
    before = hub.deciding.count
    told = []
    for number in range(12):
        await scene.submit(f"late-{number:02}", cpu="2")
        told.append((await scene.phase(f"late-{number:02}", "Queued"))["reason"])
    assert set(told) == {why} == {"WaitingForCapacity"}
    # What the agent reports meanwhile may ask for some.
    assert hub.deciding.count - before < 6
    await scene.phase("second", "Running", "Succeeded", seconds=30.0)


def slow_or_quick(seconds: float) -> Any:
    def plan(work: object, tasks: IndexSet) -> Told:
        return Told(seconds=seconds)

    return plan


async def test_what_nobody_who_waits_could_have_concerns_nobody(scene: Scene) -> None:
    hub = await scene.hub()
    ash = await scene.agent("ash", cpu=2, labels={"site": "ash"}, plan=slow_or_quick(60.0))
    elm = await scene.agent("elm", cpu=8, labels={"site": "elm"}, plan=slow_or_quick(0.1))
    await scene.available("ash", "elm")
    for name in ("here", "there"):
        await cluster_queue(scene, name, {"cpu": "8", "memory": "8Gi"})
    await scene.submit("runs", cpu="2", queueName="here", placement=only("ash"))
    await until(lambda: ash.started)
    await scene.submit("waits", cpu="2", queueName="here", placement=only("ash"))
    await scene.phase("waits", "Queued")
    await scene.submit("passes", cpu="1", queueName="there", placement=only("elm"))
    await scene.phase("passes", "Succeeded")
    assert len(elm.started) == 1
    concerns, cpu = hub.holdings.concerns, [("default", "cpu")]
    assert not concerns("there", cpu, "elm")
    assert concerns("here", cpu, "elm")
    assert concerns("there", cpu, "ash")
