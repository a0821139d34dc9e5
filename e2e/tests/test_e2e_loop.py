"""The whole loop on real control planes: what the embedded API's tests hold must hold here without a change."""

from __future__ import annotations

from functools import partial

import pytest

from e2e.jobs import NAMESPACE, complete, ended, fleet_job, in_phase, left_on, plain_job, played, works
from e2e.quarterdeck import Quarterdeck, until
from hub.api import names
from hub.api.conditions import condition_is
from hub.api.indexset import IndexSet
from hub.api.resource import FLEET_JOBS, JOBS, MANAGED_CLUSTERS, PODS, WORKLOADS
from hub.client.session import Session

pytestmark = pytest.mark.timeout(180)


async def test_an_array_over_three_members_ends_and_leaves_nothing(quarterdeck: Quarterdeck, api: Session) -> None:
    members = quarterdeck.planes.members
    job = await api.create(FLEET_JOBS, fleet_job("array", tasks=36, gpu={"count": 1}), NAMESPACE)
    uid = job["metadata"]["uid"]
    status = await ended(api, "array")
    assert status["phase"] == "Succeeded", status
    assert status["tasks"]["succeededIndexes"] == "0-35"
    assert sorted(status["clusters"]) == sorted(members)
    parts = [IndexSet.parse(attempt["tasks"]) for attempt in status["attempts"]]
    assert sum(len(part) for part in parts) == 36
    pods = 0
    for name, member in members.items():
        async with member.session() as there:
            listed = (await there.list(PODS, label_selector=f"{names.JOB_UID}={uid}")).items
        pods += len(listed)
        for pod in listed:
            assert pod["spec"]["nodeName"].startswith(name)
            assert pod["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"
            assert pod["status"]["phase"] == "Succeeded"
    assert pods == 36

    async def finished() -> bool:
        workload = await api.get(WORKLOADS, "array", NAMESPACE)
        return condition_is(workload["status"]["conditions"], "Finished")

    # The job's status is one write, its Workload's another.
    await until(finished, 10, "the Workload says that it is finished")
    await api.delete(FLEET_JOBS, "array", NAMESPACE)
    await _gone(quarterdeck, api, uid)


async def test_failed_tasks_run_again_elsewhere_and_give_up_in_the_end(quarterdeck: Quarterdeck, api: Session) -> None:
    first_fails = played(runs_for="300ms", exit_code=9, indexes="0", attempts="1")
    retry = {"limitPerTask": 2}
    await api.create(FLEET_JOBS, fleet_job("brittle", play=first_fails, tasks=4, retry=retry), NAMESPACE)
    always_fails = played(runs_for="300ms", exit_code=9, indexes="0")
    await api.create(FLEET_JOBS, fleet_job("broken", play=always_fails, tasks=3, retry=retry), NAMESPACE)
    status = await ended(api, "brittle")
    assert status["phase"] == "Succeeded", status
    failed = [attempt for attempt in status["attempts"] if attempt.get("failed")]
    again = [attempt for attempt in status["attempts"] if attempt["attempt"] == 2]
    assert [attempt["tasks"] for attempt in again] == [failed[0]["failed"]]
    assert again[0]["cluster"] != failed[0]["cluster"]
    status = await ended(api, "broken")
    assert status["phase"] == "Failed", status
    assert status["tasks"]["failed"] >= 1
    assert max(attempt["attempt"] for attempt in status["attempts"]) == 2


async def test_a_member_that_is_cut_off_loses_its_slice_and_what_it_says_later_does_not_count(
    quarterdeck: Quarterdeck, api: Session
) -> None:
    play = played(runs_for="16s")
    job = await api.create(FLEET_JOBS, fleet_job("stranded", play=play, tasks=2, retry={"limitPerTask": 2}), NAMESPACE)
    uid = job["metadata"]["uid"]
    (cluster,) = (await in_phase(api, "stranded", "Running"))["clusters"]
    quarterdeck.freeze(f"agent-{cluster}")
    try:

        async def moved() -> bool:
            status = (await api.get(FLEET_JOBS, "stranded", NAMESPACE))["status"]
            return any(attempt["cluster"] != cluster for attempt in status["attempts"])

        await until(moved, 40, "its tasks are given to another cluster")
        seen = await api.get(MANAGED_CLUSTERS, cluster)
        assert condition_is(seen["status"]["conditions"], "ManagedClusterConditionAvailable", "Unknown")
        assert any(taint["key"].endswith("/unreachable") for taint in seen["spec"]["taints"])
    finally:
        quarterdeck.thaw(f"agent-{cluster}")
    status = await ended(api, "stranded", seconds=90)
    assert status["phase"] == "Succeeded", status
    lost, *others = status["attempts"]
    assert (lost["cluster"], lost["state"]) == (cluster, "Lost")
    assert not lost.get("succeeded")
    assert [attempt["succeeded"] for attempt in others] == ["0-1"]
    # Back, it has stopped what it was no longer to run.
    await until(partial(_nothing_on, quarterdeck, cluster, uid), 30, f"{cluster} has let go")
    await quarterdeck.joined()


async def test_cancelled_its_pods_are_stopped_everywhere(quarterdeck: Quarterdeck, api: Session) -> None:
    job = fleet_job("endless", play=played(runs_for="1h"), tasks=36, gpu={"count": 1})
    uid = (await api.create(FLEET_JOBS, job, NAMESPACE))["metadata"]["uid"]

    async def all_run() -> bool:
        status = (await api.get(FLEET_JOBS, "endless", NAMESPACE)).get("status") or {}
        return bool((status.get("tasks") or {}).get("active") == 36)

    await until(all_run, 60, "all 36 tasks run")
    await api.patch(FLEET_JOBS, "endless", {"spec": {"cancel": True}}, NAMESPACE)
    status = await ended(api, "endless")
    assert status["phase"] == "Cancelled", status
    await _gone(quarterdeck, api, uid)


@pytest.mark.parametrize(
    "how", [{"suspend": True}, {"managedBy": "fleet.quarterdeck.dev/hub"}], ids=["suspend", "managedBy"]
)
async def test_a_plain_job_is_taken_up_and_its_status_comes_back(
    quarterdeck: Quarterdeck, api: Session, how: dict[str, object]
) -> None:
    name = f"plain-{next(iter(how)).lower()}"
    job = await api.create(JOBS, plain_job(name, 5, play=played(runs_for="500ms"), **how), NAMESPACE)
    done = await complete(api, name)
    status = done["status"]
    assert status["succeeded"] == 5
    assert status["completedIndexes"] == "0-4"
    assert status["startTime"] <= status["completionTime"]
    # It ran on a member, and the hub's own controllers never started a pod of it.
    assert not (await api.list(PODS, NAMESPACE)).items
    uid = job["metadata"]["uid"]
    assert {work["metadata"]["namespace"] for work in await works(api, uid)} <= set(quarterdeck.planes.members)
    await api.delete(JOBS, name, NAMESPACE, propagation_policy="Background")
    await _gone(quarterdeck, api, uid)


async def _gone(quarterdeck: Quarterdeck, api: Session, uid: str) -> None:
    async def no_works() -> bool:
        return not await works(api, uid)

    await until(no_works, 30, "no work of it is on the hub")
    for name in quarterdeck.planes.members:
        await until(partial(_nothing_on, quarterdeck, name, uid), 30, f"nothing of it is on {name}")


async def _nothing_on(quarterdeck: Quarterdeck, cluster: str, uid: str) -> bool:
    return not await left_on(quarterdeck.planes.members[cluster], uid)
