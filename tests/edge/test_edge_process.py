"""Real processes on a site: what they find, how they end, and that nothing of them is left."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from edge_rig import Rig, alive, job, message_of, reason_of, shell, until

from agent.edge import procfs, shim
from agent.edge.jobrun import Usage
from hub.api import names
from hub.api.resource import JOBS


async def test_an_indexed_job_runs_to_its_end(rig: Rig) -> None:
    status = await rig.run(job("a", "echo $JOB_COMPLETION_INDEX; exit $(( JOB_COMPLETION_INDEX % 3 ))", 7))
    assert (status["succeeded"], status["failed"], status["active"], status["ready"]) == (3, 4, 0, 0)
    assert status["completedIndexes"] == "0,3,6"
    assert status["failedIndexes"] == "1-2,4-5"
    assert status["exitCodes"] == "1=1,4;2=2,5"
    assert reason_of(status) == "FailedIndexes"
    assert status["startTime"] <= status["completionTime"]
    usage = Usage.parse(status["usage"])
    assert 0 < usage.wall < 5
    assert usage.gpu == 0
    assert await rig.log("a", 4) == "4\n"


async def test_complete_means_all_of_it(rig: Rig) -> None:
    status = await rig.run(job("a", "true", 3))
    assert status["completedIndexes"] == "0-2"
    assert [c["type"] for c in status["conditions"]] == ["Complete"]
    assert "failedIndexes" not in status
    assert "exitCodes" not in status


async def test_tasks_know_which_task_of_the_job_they_are(rig: Rig) -> None:
    script = "echo $QUARTERDECK_TASK_INDEX $JOB_COMPLETION_INDEX $POD $NODE $EPOCH"
    fields = [("POD", "metadata.name"), ("NODE", "spec.nodeName"), ("EPOCH", "metadata.labels['e']")]
    env = [{"name": n, "valueFrom": {"fieldRef": {"fieldPath": p}}} for n, p in fields]
    obj = job("a", script, 3, annotations={names.TASKS: "4,8-9"}, pod={"containers": [shell(script, env=env)]})
    obj["spec"]["template"]["metadata"]["labels"] = {"e": "12"}
    assert (await rig.run(obj))["succeeded"] == 3
    assert [await rig.log("a", index) for index in range(3)] == [
        f"{task} {index} a-{index} edge-1-0 12\n" for index, task in enumerate((4, 8, 9))
    ]


@pytest.mark.parametrize(
    ("script", "code"),
    [
        ("exit 0", 0),
        ("exit 3", 3),
        ("exit 255", 255),
        ("kill -TERM $$", 143),
        ("kill -KILL $$", 137),
        ("kill -SEGV $$", 139),
    ],
)
async def test_exit_codes_and_signals(rig: Rig, script: str, code: int) -> None:
    status = await rig.run(job("a", script))
    assert status.get("exitCodes") == (f"{code}=0" if code else None)
    last = (await rig.chunks("a"))[-1]
    assert (last.final, last.exit_code, last.reason) == (True, code, None)


@pytest.mark.parametrize(
    ("command", "code", "says"),
    [
        (["no-such-program"], 127, "no-such-program: not found on this site"),
        (["/no/such/file"], 127, "there is no such file"),
        (["/etc/passwd"], 126, "cannot be executed"),
    ],
)
async def test_what_cannot_start_says_so(rig: Rig, command: list[str], code: int, says: str) -> None:
    status = await rig.run(job("a", pod={"containers": [{"name": "main", "image": "host", "command": command}]}))
    assert status["exitCodes"] == f"{code}=0"
    assert says in await rig.log("a")
    assert (await rig.chunks("a"))[-1].reason == "StartError"


async def test_a_missing_working_directory_says_so(rig: Rig, tmp_path: Path) -> None:
    here = tmp_path / "here"
    here.mkdir()
    assert (await rig.run(job("a", pod={"containers": [shell("pwd", workingDir=str(here))]})))["succeeded"] == 1
    assert await rig.log("a") == f"{here}\n"
    status = await rig.run(job("b", pod={"containers": [shell("pwd", workingDir=f"{here}/not")]}))
    assert status["exitCodes"] == "128=0"
    assert "working directory" in await rig.log("b")


async def test_processes_get_a_plain_environment(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENT_SECRET", "s3cret")
    await rig.cut()
    await rig.start()
    env = [{"name": "with.dots", "value": "1"}, {"name": "B", "value": "$(with.dots)2"}]
    plain = {"name": "main", "image": "host", "command": ["env"], "env": env}
    await rig.run(job("a", pod={"containers": [plain]}))
    await rig.run(job("b", "grep Sig[IB] /proc/self/status"))
    lines = (await rig.log("a")).splitlines() + (await rig.log("b")).splitlines()
    assert "with.dots=1" in lines
    assert "B=12" in lines
    assert "HOSTNAME=a-0" in lines
    assert "s3cret" not in "".join(lines)
    assert not [line for line in lines if line.startswith("OLDPWD=")]
    # Nothing is blocked or ignored, but for two signals that the C library keeps to itself.
    masks = [int(line.split()[1], 16) for line in lines if line.startswith(("SigBlk", "SigIgn"))]
    assert [mask & ~0x180000000 for mask in masks] == [0, 0]


async def test_grace_then_kill_of_all_of_it(rig: Rig, tmp_path: Path) -> None:
    """A deaf process, its child, and a grandchild in a session of its own are all gone with the job."""
    pids = tmp_path / "pids"
    script = f"""trap '' TERM; echo $$ >> {pids}
        sh -c 'trap "" TERM; echo $$ >> {pids}; while :; do sleep 0.1; done' &
        setsid sh -c 'trap "" TERM; echo $$ >> {pids}; while :; do sleep 0.1; done' &
        while :; do sleep 0.1; done"""
    await rig.submit(job("a", script, pod={"containers": [shell(script)], "terminationGracePeriodSeconds": 1}))
    await until(lambda: pids.exists() and len(pids.read_text().split()) == 3)
    found = [int(pid) for pid in pids.read_text().split()]
    asked = time.monotonic()
    await rig.site.api.delete(JOBS, "a", "default")
    await rig.gone("a")
    assert 0.9 < time.monotonic() - asked < 4
    await until(lambda: not any(map(alive, found)), 5)
    assert rig.processes() == []


async def test_a_polite_process_is_asked_first(rig: Rig, tmp_path: Path) -> None:
    said, ready = tmp_path / "said", tmp_path / "ready"
    script = f"trap 'echo bye > {said}; exit 0' TERM; touch {ready}; while :; do sleep 0.05; done"
    await rig.submit(job("a", script))
    await until(ready.exists)
    await rig.site.api.delete(JOBS, "a", "default")
    await rig.gone("a")
    assert said.read_text() == "bye\n"


async def test_what_a_task_leaves_behind_is_ended(rig: Rig, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    status = await rig.run(job("a", f"sleep 60 & echo $! >> {pids}; setsid sleep 60 & echo $! >> {pids}; exit 0"))
    assert status["succeeded"] == 1
    in_group, escaped = (int(pid) for pid in pids.read_text().split())
    await until(lambda: not alive(in_group), 2)
    await until(lambda: not alive(escaped), 6, "the sweep finds what left the group")


async def test_deadline_of_a_job(rig: Rig) -> None:
    started = time.monotonic()
    status = await rig.run(job("a", "sleep 60", 2, activeDeadlineSeconds=1))
    assert time.monotonic() - started < 4
    assert reason_of(status) == "DeadlineExceeded"
    assert status["exitCodes"] == "143=0-1"
    assert (await rig.chunks("a", 1))[-1].reason == "DeadlineExceeded"


async def test_deadline_of_a_pod(rig: Rig) -> None:
    status = await rig.run(job("a", pod={"containers": [shell("sleep 60")], "activeDeadlineSeconds": 1}))
    assert reason_of(status) == "FailedIndexes"
    assert (await rig.chunks("a"))[-1].reason == "DeadlineExceeded"


async def test_a_killed_supervisor_is_a_failed_task_without_orphans(rig: Rig, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    await rig.submit(job("a", f"echo $$ >> {pids}; setsid sleep 60 & echo $! >> {pids}; sleep 60"))
    await until(lambda: pids.exists() and len(pids.read_text().split()) == 2)
    supervisor = next(p.pid for p in rig.processes() if p.session_leader and shim.is_shim(p.pid))
    os.kill(supervisor, signal.SIGKILL)
    status = await rig.ended("a")
    assert status["exitCodes"] == "137=0"
    assert (await rig.chunks("a"))[-1].reason == "RuntimeKilled"
    # By the time it is reported nothing of it runs: it may be started elsewhere.
    assert not any(alive(int(pid)) for pid in pids.read_text().split())


async def test_memory_beyond_the_limit_ends_a_task(rig: Rig) -> None:
    hog = "x = bytearray(200 << 20); import time; time.sleep(30)"
    container = {"name": "main", "image": "host", "command": ["python3", "-c", hog]}
    container["resources"] = {"limits": {"memory": "64Mi"}}
    status = await rig.run(job("a", pod={"containers": [container], "terminationGracePeriodSeconds": 1}))
    assert status["exitCodes"] == "137=0"
    assert (await rig.chunks("a"))[-1].reason == "OOMKilled"


async def test_a_runaway_meets_the_data_limit_before_the_machine_does(rig: Rig) -> None:
    hog = "x = bytearray(2 << 30)"
    container = {"name": "main", "image": "host", "command": ["python3", "-c", hog]}
    container["resources"] = {"limits": {"memory": "64Mi"}}
    status = await rig.run(job("a", pod={"containers": [container]}))
    assert status["exitCodes"] == "1=0"
    assert "MemoryError" in await rig.log("a")


async def test_init_containers_go_first_and_in_order(rig: Rig) -> None:
    init = [{**shell("echo one"), "name": "one"}, {**shell("sleep 0.1; echo two"), "name": "two"}]
    both = [{**shell("sleep 0.2; echo main"), "name": "m"}, {**shell("echo side"), "name": "s"}]
    status = await rig.run(job("a", pod={"initContainers": init, "containers": both}))
    assert status["succeeded"] == 1
    assert await rig.log("a") == "one\ntwo\nside\nmain\n"


async def test_a_failed_init_container_fails_the_task(rig: Rig) -> None:
    pod = {"initContainers": [{**shell("exit 9"), "name": "one"}], "containers": [shell("echo never")]}
    assert (await rig.run(job("a", pod=pod)))["exitCodes"] == "9=0"
    assert await rig.log("a") == ""


async def test_several_containers_end_with_the_first_failure(rig: Rig) -> None:
    both = [{**shell("exit 4"), "name": "m"}, {**shell("sleep 0.2; exit 5"), "name": "s"}]
    started = time.monotonic()
    assert (await rig.run(job("a", pod={"containers": both})))["exitCodes"] == "4=0"
    assert time.monotonic() - started > 0.2


async def test_gpus_are_one_task_s_alone(rigs: Callable[..., Rig]) -> None:
    rig = rigs(nodes=[{"count": 2, "cpu": 8, "memory": "8Gi", "gpu": {"model": "L4", "count": 2}}])
    await rig.start()
    gpu: dict[str, Any] = {"resources": {"limits": {names.GPU: "1"}}}
    script = "echo $NODE $CUDA_VISIBLE_DEVICES; sleep 0.4"
    env = [{"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}]
    env += [{"name": "CUDA_VISIBLE_DEVICES", "value": "0,1,2,3"}]
    await rig.submit(job("a", pod={"containers": [shell(script, env=env, **gpu)]}, completions=6))
    status = await until(lambda: _active(rig, "a", 4))
    assert (status["active"], status["ready"]) == (4, 4)
    status = await rig.ended("a")
    assert status["succeeded"] == 6
    held = [await rig.log("a", index) for index in range(6)]
    assert sorted(held[:4]) == ["edge-1-0 0\n", "edge-1-0 1\n", "edge-1-1 0\n", "edge-1-1 1\n"]
    assert Usage.parse(status["usage"]).gpu == pytest.approx(6 * 0.4, abs=0.6)


async def _active(rig: Rig, name: str, count: int) -> Any:
    status = await rig.status(name)
    return status if status.get("active") == count else None


async def test_shares_of_a_gpu_meet_on_one(rig: Rig) -> None:
    share = {"resources": {"limits": {names.GPU_MILLI: "400"}}}
    script = "echo $CUDA_VISIBLE_DEVICES $CUDA_MPS_ACTIVE_THREAD_PERCENTAGE; sleep 0.2"
    await rig.run(job("a", completions=3, pod={"containers": [shell(script, **share)]}))
    assert sorted([await rig.log("a", index) for index in range(3)]) == ["0 40\n", "0 40\n", "1 40\n"]


async def test_who_asked_for_no_gpu_sees_none(rig: Rig) -> None:
    await rig.run(job("a", 'echo "[${CUDA_VISIBLE_DEVICES-unset}]"'))
    assert await rig.log("a") == "[]\n"


async def test_an_image_that_is_mapped_to_nothing_is_refused(rigs: Callable[..., Rig]) -> None:
    rig = rigs(images={"python:*": "host", "mine": "registry/mine:1"})
    site = await rig.start()
    assert site.capacity()["images"] == ["host", "python:*"]
    mapped = {**shell("echo here"), "image": "python:3.12"}
    assert (await rig.run(job("a", pod={"containers": [mapped]})))["succeeded"] == 1
    status = await rig.run(job("b", completions=3, pod={"containers": [{**mapped, "image": "golang:1.24"}]}))
    assert reason_of(status) == "ImageNotAvailable"
    assert "golang:1.24" in message_of(status)
    assert status["failedIndexes"] == "0-2"
    chunks = await rig.chunks("b", 1)
    assert (chunks[-1].exit_code, chunks[-1].reason) == (None, "ImageNotAvailable")
    assert b"golang:1.24" in chunks[-1].data


async def test_kill_marked_spares_strangers(tmp_path: Path) -> None:
    """Whoever only mentions the marker, or is of another site, lives."""
    environment = {**os.environ, "OTHER": "QUARTERDECK_RUN=aa:x"}
    stranger = await asyncio.create_subprocess_exec("sleep", "30", env=environment)
    neighbour = await asyncio.create_subprocess_exec("sleep", "30", env={**os.environ, procfs.MARKER: "bb:x/0-0-0-0"})
    ours = await asyncio.create_subprocess_exec("sleep", "30", env={**os.environ, procfs.MARKER: "aa:x/0-0-0-0"})
    try:
        assert procfs.kill_marked("aa", keep=()) == [ours.pid]
        assert await ours.wait() == -signal.SIGKILL
        assert alive(stranger.pid)
        assert alive(neighbour.pid)
        assert procfs.kill_marked("bb", keep=("x/0-0-0-0",)) == []
    finally:
        for process in (stranger, neighbour):
            process.kill()
            await process.wait()
