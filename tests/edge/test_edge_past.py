"""What is over: little of it is kept in memory, and everything that is asked of it is answered from the disk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from edge_rig import Rig, job, shell, until

from agent.edge.controller import FINALIZER
from hub.api.reasons import Reason
from hub.api.resource import JOBS, PODS


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.edge.site._TIDY_SECONDS", 0.02)


def at_work(rig: Rig) -> list[str]:
    return [str(item) for item in (*rig.site._jobs, *rig.site._pods)]  # type: ignore[misc]


async def test_a_job_that_is_over_is_let_go_and_still_tells_how_each_task_ended(rig: Rig) -> None:
    await rig.run(job("a", 'echo "task $JOB_COMPLETION_INDEX"; exit $JOB_COMPLETION_INDEX', 3))
    await until(lambda: not at_work(rig))
    assert await rig.log("a", 1) == "task 1\n"
    ends = [(await rig.chunks("a", index))[-1] for index in range(3)]
    assert [(end.final, end.exit_code) for end in ends] == [(True, 0), (True, 1), (True, 2)]


async def test_a_task_that_was_killed_says_why_long_after(rig: Rig) -> None:
    await rig.run(job("a", "sleep 60", activeDeadlineSeconds=1, pod={"terminationGracePeriodSeconds": 0}))
    before = (await rig.chunks("a"))[-1]
    await until(lambda: not at_work(rig))
    assert (await rig.chunks("a"))[-1] == before
    assert before.reason == "DeadlineExceeded"


async def test_a_refused_job_still_says_why(rigs: Callable[..., Rig]) -> None:
    rig = rigs()
    await rig.start()
    await rig.run(job("a", pod={"containers": [{**shell("true"), "image": "nowhere/to-be-found"}]}))
    await until(lambda: not at_work(rig))
    (end,) = await rig.chunks("a")
    assert b"nowhere/to-be-found" in end.data
    assert end.exit_code is None


async def test_what_is_over_is_known_at_a_start_and_goes_with_its_records(rig: Rig) -> None:
    await rig.run(job("a"))
    uid = (await rig.job("a"))["metadata"]["uid"]
    records = Path(rig.site._host.machinery.records.directory(uid))  # type: ignore[union-attr]
    await until(lambda: not at_work(rig))
    await rig.cut()
    await rig.start()
    assert at_work(rig) == []
    assert records.is_dir()
    await rig.site.api.delete(JOBS, "a", "default")
    await rig.gone("a")
    await until(lambda: not records.exists())
    assert not rig.site._jobs.knows(uid)  # type: ignore[union-attr]


async def test_the_name_of_one_that_is_over_can_be_used_again(rig: Rig) -> None:
    await rig.run(job("a", "echo first"))
    await until(lambda: not at_work(rig))
    await rig.site.api.delete(JOBS, "a", "default")
    await rig.gone("a")
    await rig.run(job("a", "echo second"))
    assert await rig.log("a") == "second\n"


async def test_one_that_is_held_for_its_deletion_is_not_let_go_before(rig: Rig) -> None:
    await rig.submit(job("a", "trap 'sleep 0.2; exit 0' TERM; echo x; while :; do sleep 0.02; done"))
    await until(lambda: at_work(rig))

    async def said() -> bool:
        return await rig.log("a") == "x\n"

    await until(said)
    undo = await rig.site._jobs.hold("default", "a", None)  # type: ignore[union-attr]
    assert FINALIZER in (await rig.job("a"))["metadata"]["finalizers"]
    undo()  # type: ignore[misc]
    for item in rig.site._jobs:  # type: ignore[union-attr]
        item._condemn(Reason.DEADLINE_EXCEEDED, "long enough")
    await rig.ended("a")
    rig.site._jobs.settle()  # type: ignore[union-attr]
    assert at_work(rig) == ["default/a"]
    await rig.site.api.delete(JOBS, "a", "default")
    await rig.gone("a")


async def test_a_pod_that_is_over_is_let_go_and_still_tells_how_it_ended(rig: Rig) -> None:
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "p", "namespace": "default"},
        "spec": {"restartPolicy": "Never", "containers": [shell("echo out; exit 3")]},
    }
    await rig.site.api.create(PODS, pod, "default")

    async def failed() -> bool:
        return ((await rig.site.api.get(PODS, "p", "default")).get("status") or {}).get("phase") == "Failed"

    await until(failed)
    await until(lambda: not at_work(rig))
    *_, end = await rig.chunks("p")
    assert await rig.log("p") == "out\n"
    assert end.exit_code == 3
