"""Jobs on a site beyond the plain run: retries, suspension, deletion, time to live, what is refused, what waits."""

from __future__ import annotations

import asyncio
import base64
import errno
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from edge_rig import Rig, job, message_of, reason_of, shell, until

from agent.edge import jobrun, records
from hub.api import names
from hub.api.conditions import find_condition
from hub.api.errors import ConflictError, NotFoundError, OverloadedError
from hub.api.resource import CONFIG_MAPS, JOBS, NAMESPACES, SECRETS

PROBED = shell("true", livenessProbe={"exec": {"command": ["x"]}})
MOUNTED = shell("true", volumeMounts=[{"name": "v", "mountPath": "/v"}])
FIELD = shell("true", env=[{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "spec.hostname"}}}])


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobrun, "_RETRY_FIRST", 0.05)
    monkeypatch.setattr("agent.edge.starter._RETRY_SECONDS", 0.1)
    monkeypatch.setattr("agent.edge.configs._LOOK_SECONDS", 0.05)


async def test_a_task_that_ends_at_once_costs_one_status(rig: Rig) -> None:
    """A machine that is busy elsewhere may keep a task from ending at once; then it costs two, and another is tried."""
    costs = []
    for name in ("a", "b", "c", "d", "e"):
        assert rig.site._host is not None
        before = rig.site._host.patcher.counts["patch", "jobs/status"]
        await rig.run(job(name))
        costs.append(rig.site._host.patcher.counts["patch", "jobs/status"] - before)
    assert 1 in costs
    assert max(costs) <= 2


async def test_a_large_job_costs_a_few_statuses_a_second(rig: Rig) -> None:
    started = time.monotonic()
    await rig.run(job("a", "sleep 0.05", 40, parallelism=4))
    assert rig.site._host is not None
    writes = rig.site._host.patcher.counts["patch", "jobs/status"]
    assert writes <= 3 + (time.monotonic() - started) / 0.25


async def test_parallelism_holds_and_can_be_turned(rig: Rig) -> None:
    await rig.submit(job("a", "sleep 0.3", 8, parallelism=2))
    await until(lambda: _active(rig, "a", 2))
    await rig.site.api.patch(JOBS, "a", {"spec": {"parallelism": 6}}, "default")
    await until(lambda: _active(rig, "a", 6))
    assert (await rig.ended("a"))["succeeded"] == 8


async def _active(rig: Rig, name: str, count: int) -> bool:
    return bool((await rig.status(name)).get("active") == count)


async def test_an_index_is_tried_as_often_as_it_may_be(rig: Rig, tmp_path: Path) -> None:
    """Index 0 succeeds at the third try, index 1 never; each try's output is in the log."""
    script = f"echo try; echo x >> {tmp_path}/t$JOB_COMPLETION_INDEX; "
    script += f"[ $JOB_COMPLETION_INDEX = 0 ] && [ $(wc -l < {tmp_path}/t0) = 3 ]"
    status = await rig.run(job("a", script, 2, backoffLimitPerIndex=2))
    assert (status["completedIndexes"], status["failedIndexes"], status["failed"]) == ("0", "1", 5)
    assert status["exitCodes"] == "1=1"
    assert await rig.log("a", 0) == "try\n" * 3


async def test_backoff_limit_ends_the_whole(rig: Rig) -> None:
    obj = job(
        "a", "sleep 0.0$JOB_COMPLETION_INDEX; [ $JOB_COMPLETION_INDEX = 2 ] && sleep 60; exit 1", 3, backoffLimit=1
    )
    del obj["spec"]["backoffLimitPerIndex"]
    status = await rig.run(obj)
    assert reason_of(status) == "BackoffLimitExceeded"
    assert status["active"] == 0


async def test_too_many_failed_indexes_end_the_whole(rig: Rig) -> None:
    status = await rig.run(job("a", "exit 1", 20, parallelism=1, maxFailedIndexes=2))
    assert reason_of(status) == "MaxFailedIndexesExceeded"
    assert status["failedIndexes"] == "0-2"


async def test_on_failure_starts_the_container_again(rigs: Callable[..., Rig], tmp_path: Path) -> None:
    rig = rigs()
    site = await rig.start()
    assert site._host is not None
    object.__setattr__(site._host.machinery, "restart_first", 0.05)
    script = f"echo x >> {tmp_path}/n; [ $(wc -l < {tmp_path}/n) = 3 ]"
    obj = job("a", pod={"containers": [shell(script)], "restartPolicy": "OnFailure"}, backoffLimit=5)
    del obj["spec"]["backoffLimitPerIndex"]
    assert (await rig.run(obj))["succeeded"] == 1
    forever = job("b", pod={"containers": [shell("exit 1")], "restartPolicy": "OnFailure"}, backoffLimit=2)
    del forever["spec"]["backoffLimitPerIndex"]
    assert reason_of(await rig.run(forever)) == "BackoffLimitExceeded"


async def test_a_plain_job_without_indexes(rig: Rig) -> None:
    obj = job("a", 'echo "[$JOB_COMPLETION_INDEX]"')
    obj["spec"] = {"template": obj["spec"]["template"]}
    assert (await rig.run(obj))["succeeded"] == 1
    assert await rig.log("a") == "[]\n"


async def test_suspended_jobs_wait_and_running_ones_are_stopped(rig: Rig, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    script = f"[ -e {mark} ] && exit 0; echo started; trap 'exit 1' TERM; while :; do sleep 0.05; done"
    await rig.submit(job("a", script, suspend=True))
    await until(lambda: _condition(rig, "a", "Suspended", "True"))
    await rig.site.api.patch(JOBS, "a", {"spec": {"suspend": False}}, "default")
    await until(lambda: _active(rig, "a", 1))
    await until(lambda: _logged(rig, "a", "started\n"))
    await rig.site.api.patch(JOBS, "a", {"spec": {"suspend": True}}, "default")
    await until(lambda: _condition(rig, "a", "Suspended", "True"))
    await until(lambda: _active(rig, "a", 0))
    assert rig.processes() == []
    assert "startTime" not in await rig.status("a")
    mark.touch()
    await rig.site.api.patch(JOBS, "a", {"spec": {"suspend": False}}, "default")
    status = await rig.ended("a")
    # Being stopped is no failure.
    assert (status["succeeded"], status["failed"]) == (1, 0)


async def _condition(rig: Rig, name: str, kind: str, value: str) -> bool:
    found = find_condition((await rig.status(name)).get("conditions"), kind)
    return found is not None and found["status"] == value


async def _logged(rig: Rig, name: str, text: str) -> bool:
    return await rig.log(name) == text


async def test_a_job_stays_until_its_processes_are_gone(rig: Rig, tmp_path: Path) -> None:
    go = tmp_path / "go"
    deaf = f"trap 'sleep 0.4; exit 7' TERM; touch {go}; while :; do sleep 0.02; done"
    script = f"[ $JOB_COMPLETION_INDEX = 0 ] || {{ {deaf}; }}"
    await rig.submit(job("a", script, 2))
    await until(go.exists)
    uid = (await rig.job("a"))["metadata"]["uid"]
    with pytest.raises(ConflictError):
        await rig.site.api.delete(JOBS, "a", "default", uid="another")
    await rig.site.api.delete(JOBS, "a", "default", uid=uid, propagation_policy="Foreground")
    held = await rig.job("a")
    assert held["metadata"]["deletionTimestamp"]
    # Who deletes can read how far it came.
    await until(lambda: _succeeded(rig, "a", 1))
    await rig.gone("a")
    assert rig.processes() == []
    await until(lambda: not (rig.data / "tasks" / uid).exists())
    with pytest.raises(NotFoundError):
        await rig.log("a")


async def _succeeded(rig: Rig, name: str, count: int) -> bool:
    return bool((await rig.status(name)).get("succeeded") == count)


async def test_a_job_that_is_over_goes_at_once(rig: Rig) -> None:
    await rig.run(job("a"))
    await rig.site.api.delete(JOBS, "a", "default")
    with pytest.raises(NotFoundError):
        await rig.job("a")


async def test_a_namespace_that_goes_takes_its_processes_with_it(rig: Rig, tmp_path: Path) -> None:
    await rig.site.api.create(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team"}})
    obj = job("a", f"touch {tmp_path}/go; sleep 60")
    obj["metadata"]["namespace"] = "team"
    await rig.site.api.create(JOBS, obj, "team")
    await until((tmp_path / "go").exists)
    await rig.site.api.delete(NAMESPACES, "team")
    await until(lambda: not rig.processes(), 5)


async def test_time_to_live_after_the_end(rig: Rig) -> None:
    await rig.submit(job("a", ttlSecondsAfterFinished=0))
    await rig.gone("a")
    await rig.run(job("b", ttlSecondsAfterFinished=1))
    await rig.gone("b")


async def test_a_job_of_the_same_name_is_another_job(rig: Rig) -> None:
    await rig.run(job("a", "echo old"))
    await rig.site.api.delete(JOBS, "a", "default")
    await rig.run(job("a", "echo new"))
    assert await rig.log("a") == "new\n"


async def test_a_job_of_another_controller_is_left_alone(rig: Rig) -> None:
    await rig.submit(job("a", managedBy=names.MANAGED_BY))
    await rig.run(job("b"))
    assert await rig.status("a") == {}


@pytest.mark.parametrize(
    ("pod", "reason", "says"),
    [
        ({"containers": [PROBED]}, "PodNotSupported", "livenessProbe"),
        ({"containers": [MOUNTED], "volumes": [{"name": "v", "emptyDir": {}}]}, "PodNotSupported", "its own path"),
        ({"containers": [{"name": "main", "image": "host"}]}, "PodNotSupported", "command"),
        ({"containers": [shell("true", securityContext={"runAsUser": 4242})]}, "PodNotSupported", "runAsUser"),
        ({"containers": [FIELD]}, "PodNotSupported", "spec.hostname"),
        ({"containers": [shell("true", resources={"requests": {"cpu": "99"}})]}, "ShapeNeverFits", "99 CPU"),
        ({"containers": [shell("true")], "nodeSelector": {"disk": "nvme"}}, "ShapeNeverFits", "labels"),
    ],
)  # fmt: skip
async def test_what_a_site_cannot_do_is_refused_with_a_reason(rig: Rig, pod: Any, reason: str, says: str) -> None:
    status = await rig.run(job("a", completions=2, pod=pod))
    assert reason_of(status) == reason
    assert says in message_of(status)
    assert status["failedIndexes"] == "0-1"
    assert (await rig.run(job("b")))["succeeded"] == 1


@pytest.mark.parametrize(
    "change",
    [
        lambda obj: obj["metadata"]["annotations"].update({names.TASKS: "0-7"}),
        lambda obj: obj["metadata"]["annotations"].update({names.TASKS: "x"}),
        lambda obj: obj["spec"].update(podFailurePolicy={"rules": []}),
        lambda obj: obj["spec"]["template"]["spec"]["containers"][0].update(workingDir="relative"),
        lambda obj: obj["spec"]["template"]["spec"]["containers"].append(shell("true")),
        lambda obj: obj["spec"]["template"]["spec"]["containers"][0]["resources"].update(requests={"cpu": "-1"}),
    ],
)
async def test_garbage_harms_itself_only(rig: Rig, change: Callable[[Any], None]) -> None:
    """Whether the API takes it or not: nothing else stops."""
    obj = job("a")
    obj["metadata"]["annotations"] = {}
    change(obj)
    try:
        await rig.submit(obj)
    except Exception as error:
        assert type(error).__name__ == "RefusedError"  # noqa: PT017
    else:
        status = await rig.ended("a")
        assert reason_of(status) in ("InvalidSpec", "Complete", "None", "PodNotSupported")
    assert (await rig.run(job("b")))["succeeded"] == 1


async def test_configmaps_and_secrets_are_waited_for(rig: Rig) -> None:
    refs = [
        {"name": "A", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "a"}}},
        {"name": "B", "valueFrom": {"secretKeyRef": {"name": "s", "key": "b"}}},
        {"name": "C", "valueFrom": {"configMapKeyRef": {"name": "none", "key": "c", "optional": True}}},
    ]
    container = shell("echo $A $B [$C] $X_a", env=refs, envFrom=[{"prefix": "X_", "configMapRef": {"name": "c"}}])
    await rig.submit(job("a", pod={"containers": [container]}))
    await until(lambda: _condition(rig, "a", "Blocked", "True"))
    await rig.site.api.create(CONFIG_MAPS, _named("ConfigMap", "c", {"a": "one"}), "default")
    secret = {"b": base64.b64encode(b"two").decode()}
    await rig.site.api.create(SECRETS, _named("Secret", "s", secret), "default")
    status = await rig.ended("a")
    assert status["succeeded"] == 1
    assert find_condition(status["conditions"], "Blocked") is None
    assert await rig.log("a") == "one two [] one\n"


def _named(kind: str, name: str, data: dict[str, str]) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": name, "namespace": "default"}, "data": data}


async def test_a_full_disk_makes_tasks_wait_and_loses_nothing(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def refuse(*_: Any, **__: Any) -> int:
        raise full

    with monkeypatch.context() as patched:
        patched.setattr(records.Records, "create", refuse)
        await rig.submit(job("a", "echo done", 2))
        await until(lambda: _condition(rig, "a", "Blocked", "True"))
        blocked = find_condition((await rig.status("a"))["conditions"], "Blocked")
        assert blocked is not None
        assert blocked["reason"] == "SiteShortage"
        assert "No space left on device" in blocked["message"]
        await asyncio.sleep(0.15)
        assert await _condition(rig, "a", "Blocked", "True")
    status = await rig.ended("a")
    assert (status["succeeded"], status["failed"]) == (2, 0)
    assert find_condition(status["conditions"], "Blocked") is None


async def test_an_api_that_refuses_for_a_while_is_told_later(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """As when its disk is full: the end is known, kept, and written once that works again."""
    api = rig.site._api
    real, refused = api.patch, []

    async def patch(*args: Any, **how: Any) -> Any:
        if how.get("subresource") == "status" and len(refused) < 4:
            refused.append(how)
            raise OverloadedError(507, {"message": "the disk is full"})
        return await real(*args, **how)

    monkeypatch.setattr(api, "patch", patch)
    status = await rig.run(job("a", "exit 3"))
    assert len(refused) == 4
    assert status["exitCodes"] == "3=0"


async def test_a_task_without_room_waits_for_it(rig: Rig) -> None:
    """Two jobs of one node's CPUs each, three times over: they take turns, in order."""
    whole = {"containers": [shell("sleep 0.15", resources={"requests": {"cpu": "8"}})]}
    started = time.monotonic()
    for name in "abcdef":
        await rig.submit(job(name, pod=whole))
    for name in "abcdef":
        await rig.ended(name)
    assert 0.45 < time.monotonic() - started < 5
