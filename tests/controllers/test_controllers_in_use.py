"""Queues and flavors that somebody deletes while jobs hold quota of them: they go when nothing does any more."""

from __future__ import annotations

import pytest
from controllers_quota import active, cluster_queue, ends, flavor, foreign, is_gone, is_true, waits
from controllers_scene import Scene, Told, until

from hub.api import names
from hub.api.resource import CLUSTER_QUEUES, LOCAL_QUEUES, RESOURCE_FLAVORS, Resource

_MODES = pytest.mark.parametrize("mode", ["fleet", "kueue"])


async def _held(scene: Scene, resource: Resource, name: str) -> None:
    async def found() -> bool:
        meta = (await scene.api.get(resource, name))["metadata"]
        return names.IN_USE_FINALIZER in meta.get("finalizers", ())

    await until(found, what=f"{resource.kind} {name} has the finalizer")


@_MODES
async def test_a_queue_deleted_while_a_workload_holds_its_quota_takes_nothing_new_and_goes_after_it(
    scene: Scene, mode: str
) -> None:
    await scene.hub(queue={"mode": mode})
    await cluster_queue(scene, "team", {"cpu": 4})
    await _held(scene, CLUSTER_QUEUES, "team")
    await foreign(scene, "first", "team", {"cpu": 1})
    await is_true(scene, "first")
    await scene.api.delete(CLUSTER_QUEUES, "team")
    said = await active(scene, "team", "False", "Terminating")
    assert "being deleted" in said["message"]
    await foreign(scene, "second", "team", {"cpu": 1})
    await waits(scene, "second", "QueueInactive", "Suspended")
    await is_true(scene, "first")
    assert not await is_gone(scene, CLUSTER_QUEUES, "team")
    await ends(scene, "first")
    await until(lambda: is_gone(scene, CLUSTER_QUEUES, "team"))
    # Made anew under the same name, it serves who still waits.
    await scene.api.delete(LOCAL_QUEUES, "team", "default")
    await cluster_queue(scene, "team", {"cpu": 4})
    await is_true(scene, "second")


async def test_a_queue_waits_for_its_jobs_over_a_change_of_hubs(scene: Scene) -> None:
    hub = await scene.hub()
    ash = await scene.agent("ash", plan=lambda work, tasks: Told(seconds=2.5))
    await scene.available("ash")
    await cluster_queue(scene, "team", {"cpu": 4, "memory": "8Gi"})
    await _held(scene, CLUSTER_QUEUES, "team")
    await scene.submit("job", queueName="team")
    await until(lambda: ash.started)
    await scene.api.delete(CLUSTER_QUEUES, "team")
    await scene.kill(hub)
    await scene.hub(identity="another")
    await active(scene, "team", "False", "Terminating")
    assert not await is_gone(scene, CLUSTER_QUEUES, "team")
    await scene.phase("job", "Succeeded")
    assert len(ash.started) == 1
    await until(lambda: is_gone(scene, CLUSTER_QUEUES, "team"))


@_MODES
async def test_a_flavor_stays_until_no_queue_names_it(scene: Scene, mode: str) -> None:
    await scene.hub(queue={"mode": mode})
    await flavor(scene, "big")
    await cluster_queue(scene, "team", {"cpu": 4}, uses="big")
    await _held(scene, RESOURCE_FLAVORS, "big")
    await scene.api.delete(RESOURCE_FLAVORS, "big")
    # It is given until then: the queue works.
    await foreign(scene, "first", "team", {"cpu": 1})
    await is_true(scene, "first")
    await active(scene, "team", "True", "Ready")
    await scene.api.delete(CLUSTER_QUEUES, "team")
    await active(scene, "team", "False", "Terminating")
    assert not await is_gone(scene, RESOURCE_FLAVORS, "big")
    await ends(scene, "first")
    await until(lambda: is_gone(scene, CLUSTER_QUEUES, "team"))
    await until(lambda: is_gone(scene, RESOURCE_FLAVORS, "big"))


async def test_what_nothing_uses_goes_at_once_and_finalizers_of_others_stay(scene: Scene) -> None:
    await scene.hub()
    await flavor(scene, "spare")
    await cluster_queue(scene, "idle", {"cpu": 4})
    for resource, name in ((CLUSTER_QUEUES, "idle"), (RESOURCE_FLAVORS, "spare")):
        await _held(scene, resource, name)
        both = ["example.org/kept", names.IN_USE_FINALIZER]
        await scene.api.patch(resource, name, {"metadata": {"finalizers": both}})
        await scene.api.delete(resource, name)

        async def only_the_other(resource: Resource = resource, name: str = name) -> bool:
            meta = (await scene.api.get(resource, name))["metadata"]
            return list(meta.get("finalizers") or ()) == ["example.org/kept"]

        await until(only_the_other)
        await scene.api.patch(resource, name, {"metadata": {"finalizers": None}})
        assert await is_gone(scene, resource, name)


@_MODES
async def test_a_queue_torn_out_by_force_stops_no_job_and_counts_again_when_it_is_back(scene: Scene, mode: str) -> None:
    hub = await scene.hub(queue={"mode": mode})
    ash = await scene.agent("ash", plan=lambda work, tasks: Told(seconds=30.0))
    await scene.available("ash")
    await cluster_queue(scene, "team", {"cpu": 2, "memory": "8Gi"})
    await _held(scene, CLUSTER_QUEUES, "team")
    await scene.submit("first", cpu="2", queueName="team")
    await until(lambda: ash.started)
    await scene.api.delete(CLUSTER_QUEUES, "team")
    await scene.api.patch(CLUSTER_QUEUES, "team", {"metadata": {"finalizers": None}})
    await until(lambda: is_gone(scene, CLUSTER_QUEUES, "team"))
    await scene.submit("second", cpu="2", queueName="team")
    status = await scene.phase("second", "Queued")
    assert status["reason"] == {"fleet": "QueueInactive", "kueue": "Misconfigured"}[mode]
    await scene.submit("other", queueName="default")
    await until(lambda: len(ash.started) == 2)
    await scene.api.delete(LOCAL_QUEUES, "team", "default")
    await cluster_queue(scene, "team", {"cpu": 2, "memory": "8Gi"})

    async def reason() -> bool:
        return (await scene.status("second")).get("reason") == "WaitingForQuota"

    await until(reason, what="the first counts")
    assert not ash.stopped
    assert len(ash.started) == 2
    assert hub.holdings.usage["team"]["default", "cpu"] == 2000
