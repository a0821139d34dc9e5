"""The agent as a process with an edge site, against a hub's API: killed, restarted, told to stop, cut off."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from agent_hub import available, completed, deliver, eventually, feedback, let_in
from agent_rig import CLUSTER, job_manifest, manifest_work

from hub.api import names
from hub.api.installed import installed_crds
from hub.api.resource import CLUSTER_CAPACITIES, JOBS, MANIFEST_WORKS, NODES, TASK_LOG_REQUESTS, TASK_LOGS
from hub.apiserver.kubeconfig import write_kubeconfig
from hub.apiserver.server import ApiServer, serve
from hub.client.session import Session

ROOT = Path(__file__).parents[2]
SITE = {"name": CLUSTER, "runtime": "process", "nodes": [{"count": 1, "cpu": 8, "memory": "4Gi"}]}
# A task says that it began, waits until it may end, says so, and fails if it was told to.
PROGRAM = (
    'echo "begin $QUARTERDECK_TASK_INDEX" >> "$DIR/history"; echo "task $QUARTERDECK_TASK_INDEX runs";'
    ' while [ ! -e "$DIR/go-$QUARTERDECK_TASK_INDEX" ]; do sleep 0.02; done;'
    ' echo "end $QUARTERDECK_TASK_INDEX" >> "$DIR/history"; [ ! -e "$DIR/fail-$QUARTERDECK_TASK_INDEX" ]'
)


class Box:
    """A machine with an agent on it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.kubeconfig = directory / "hub.kubeconfig"
        self.output = directory / "agent.log"
        self.process: asyncio.subprocess.Process | None = None
        (directory / "site.yaml").write_text(yaml.safe_dump(SITE))

    async def start(self, *options: str, site: bool = True) -> None:
        arguments = ("--cluster", CLUSTER, "--data", str(self.directory / "data"))
        arguments += ("--hub-kubeconfig", str(self.kubeconfig))
        if site:
            arguments += ("--site-file", str(self.directory / "site.yaml"))
        with self.output.open("ab") as output:
            self.process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "agent.main", *arguments, *options),
                cwd=ROOT,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    async def signal(self, number: signal.Signals) -> int:
        """Sends it and waits; the exit code."""
        assert self.process is not None
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(number)
        return await asyncio.wait_for(self.process.wait(), 30)

    def go(self, *tasks: int) -> None:
        for task in tasks:
            (self.directory / f"go-{task}").touch()

    def history(self) -> Counter[str]:
        with contextlib.suppress(FileNotFoundError):
            return Counter((self.directory / "history").read_text().splitlines())
        return Counter()

    def task_processes(self) -> list[int]:
        """Processes of tasks, by what is in their environment."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdecimal() and int(entry.name) != os.getpid():
                with contextlib.suppress(OSError):
                    if f"DIR={self.directory}\0".encode() in (entry / "environ").read_bytes():
                        found.append(int(entry.name))
        return found

    async def clean(self) -> None:
        # Shown by pytest when the test failed.
        print(self.output.read_text())
        if self.process is not None and self.process.returncode is None:
            await self.signal(signal.SIGKILL)
        for pid in self.task_processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def work(self, tasks: int, name: str = "w1") -> dict[str, Any]:
        labels = {names.JOB_UID: f"uid-of-{name}", names.JOB_NAME: name, names.JOB_NAMESPACE: "default"}
        labels |= {names.EPOCH: "1"}
        annotations = {names.TASKS: f"0-{tasks - 1}", names.ATTEMPT: "1"}
        environment = [{"name": "DIR", "value": str(self.directory)}]
        container = {"name": "main", "image": "host", "command": ["sh", "-c", PROGRAM], "env": environment}
        job = job_manifest(
            name,
            "default",
            tasks,
            parallelism=tasks,
            completionMode="Indexed",
            backoffLimitPerIndex=0,
            backoffLimit=2147483647,
            template={"spec": {"restartPolicy": "Never", "containers": [container]}},
        )
        job["metadata"] |= {"labels": labels, "annotations": annotations}
        work = manifest_work(name, job)
        work["metadata"] |= {"labels": labels, "annotations": annotations}
        paths = ("active", "succeeded", "failed", "completedIndexes", "failedIndexes", "exitCodes")
        config = work["spec"]["manifestConfigs"][0]
        config["resourceIdentifier"] |= {"name": name, "namespace": "default"}
        rules = [{"type": "JSONPaths", "jsonPaths": [{"name": p, "path": f".status.{p}"} for p in paths]}]
        config["feedbackRules"] = rules
        return work


@pytest.fixture
async def box(api_server: ApiServer, tmp_path: Path) -> AsyncIterator[Box]:
    (tmp_path / "box").mkdir()
    box = Box(tmp_path / "box")
    write_kubeconfig(box.kubeconfig, api_server.url, api_server.token, user="agent")
    yield box
    await box.clean()


async def counted(api: Session, name: str = "w1", **wanted: Any) -> None:
    """Until the hub knows these numbers."""

    async def look() -> bool:
        values = feedback(await api.get(MANIFEST_WORKS, name, CLUSTER))
        return all(values.get(key) == value for key, value in wanted.items())

    await eventually(look, what=f"{name}: {wanted}")


async def shipped(api: Session, tasks: set[int]) -> list[dict[str, Any]]:
    async def look() -> Any:
        logs = (await api.list(TASK_LOGS, CLUSTER)).items
        entries = [
            entry for log in logs for entry in log["entries"] if names.LOG_REQUEST not in log["metadata"]["labels"]
        ]
        return entries if {entry["task"] for entry in entries} >= tasks else None

    found: list[dict[str, Any]] = await eventually(look, what=f"logs of {tasks}")
    return found


async def test_killed_at_work_and_started_again_nothing_runs_twice_and_nothing_is_lost(box: Box, api: Session) -> None:
    await box.start("--stop-tasks-on-exit")
    await let_in(api, CLUSTER)
    await deliver(api, box.work(5))
    (box.directory / "fail-1").touch()
    (box.directory / "fail-2").touch()
    box.go(0, 1)
    await counted(api, succeeded=1, failed=1, active=3)
    await shipped(api, {1})
    await box.signal(signal.SIGKILL)
    # One more fails and one succeeds while nobody looks; the last goes on beyond the restart.
    box.go(2, 3)

    async def ended_alone() -> bool:
        return box.history()["end 2"] + box.history()["end 3"] == 2

    await eventually(ended_alone)
    await box.start("--stop-tasks-on-exit")
    await counted(api, succeeded=2, failed=2, active=1)
    box.go(4)
    work = await completed(api, "w1", CLUSTER)
    values = feedback(work)
    assert (values["completedIndexes"], values["failedIndexes"], values["exitCodes"]) == ("0,3-4", "1-2", "1=1-2")
    assert box.history() == Counter([f"{what} {task}" for what in ("begin", "end") for task in range(5)])
    entries = await shipped(api, {1, 2})
    assert sorted((entry["task"], entry["exitCode"], entry["text"]) for entry in entries) == [
        (1, 1, "task 1 runs\n"),
        (2, 1, "task 2 runs\n"),
    ]
    assert await box.signal(signal.SIGTERM) == 0
    assert box.task_processes() == []


async def test_told_to_stop_it_leaves_its_tasks_and_finds_them_again(box: Box, api: Session) -> None:
    await box.start()
    await let_in(api, CLUSTER)
    await deliver(api, box.work(2))
    await counted(api, active=2)
    assert await box.signal(signal.SIGTERM) == 0
    assert box.task_processes()
    box.go(0, 1)
    await box.start("--stop-tasks-on-exit")
    assert feedback(await completed(api, "w1", CLUSTER))["succeeded"] == 2
    assert box.history()["begin 0"] == box.history()["begin 1"] == 1


async def test_told_to_stop_with_its_tasks_it_leaves_the_machine_clean(box: Box, api: Session) -> None:
    await box.start("--stop-tasks-on-exit")
    await let_in(api, CLUSTER)
    await deliver(api, box.work(3))
    await counted(api, active=3)
    assert len(box.task_processes()) >= 3
    assert await box.signal(signal.SIGTERM) == 0
    assert box.task_processes() == []


async def test_a_work_that_is_deleted_stops_its_processes(box: Box, api: Session) -> None:
    await box.start()
    await let_in(api, CLUSTER)
    await deliver(api, box.work(2))
    await counted(api, active=2)
    await api.delete(MANIFEST_WORKS, "w1", CLUSTER)

    async def gone() -> bool:
        return not (await api.list(MANIFEST_WORKS, CLUSTER)).items

    await eventually(gone)
    assert box.task_processes() == []


async def test_a_log_is_followed_across_a_kill(box: Box, api: Session) -> None:
    await box.start()
    await let_in(api, CLUSTER)
    await deliver(api, box.work(1))
    request = {
        "apiVersion": names.API_VERSION,
        "kind": "TaskLogRequest",
        "metadata": {"name": "ask", "namespace": CLUSTER},
        "spec": {"work": "w1", "follow": True},
    }
    await api.create(TASK_LOG_REQUESTS, request, CLUSTER)

    async def text() -> str:
        logs = sorted((await api.list(TASK_LOGS, CLUSTER)).items, key=lambda log: str(log["metadata"]["name"]))
        return "".join(entry["text"] for log in logs for entry in log["entries"])

    await eventually(text)
    await box.signal(signal.SIGKILL)
    box.go(0)
    await box.start()

    async def done() -> bool:
        found = await api.get(TASK_LOG_REQUESTS, "ask", CLUSTER)
        return bool(found.get("status", {}).get("state") == "Done")

    await eventually(done)
    assert await text() == "task 0 runs\n"


async def test_a_hub_that_comes_late_goes_and_comes_back(tmp_path: Path) -> None:
    (tmp_path / "box").mkdir()
    box = Box(tmp_path / "box")
    async with serve(tmp_path / "api", crds=installed_crds()) as server:
        port = server.port
    token = "t0ken"
    tokens = tmp_path / "tokens.json"
    tokens.write_text('{"t0ken": {"user": "admin", "groups": ["system:masters"]}}')
    url = f"http://127.0.0.1:{port}"
    write_kubeconfig(box.kubeconfig, url, token, user="agent")
    try:
        await box.start()
        await asyncio.sleep(1.0)
        async with serve(tmp_path / "api", port, tokens=tokens), Session(url, token=token) as api:
            await let_in(api, CLUSTER, lease_seconds=4)
            await deliver(api, box.work(2))
            await counted(api, active=2)
        box.go(0, 1)
        await asyncio.sleep(0.5)
        async with serve(tmp_path / "api", port, tokens=tokens), Session(url, token=token) as api:
            assert feedback(await completed(api, "w1", CLUSTER))["succeeded"] == 2
            await available(api, CLUSTER)
        assert box.history()["begin 0"] == box.history()["begin 1"] == 1
        log = box.output.read_text()
        assert "hub does not answer" in log
        assert "hub answers again" in log
        assert "Traceback" not in log
    finally:
        await box.clean()


async def test_a_second_agent_on_the_same_directory_ends(box: Box, api: Session) -> None:
    await box.start()
    await let_in(api, CLUSTER)
    second = Box(box.directory)
    second.output = box.directory / "second.log"
    await second.start()
    assert second.process is not None
    assert box.process is not None
    assert await asyncio.wait_for(second.process.wait(), 30) == 1
    assert f"is held by the agent with pid {box.process.pid}" in second.output.read_text()
    assert box.process.returncode is None


async def test_it_is_small_and_quiet(box: Box, api: Session) -> None:
    """With a site of its own beside it, and after work."""
    await box.start()
    await let_in(api, CLUSTER)
    await deliver(api, box.work(8))
    box.go(*range(8))
    await completed(api, "w1", CLUSTER)
    assert box.process is not None
    pages = int(Path(f"/proc/{box.process.pid}/statm").read_text().split()[1])
    assert pages * os.sysconf("SC_PAGE_SIZE") / 2**20 < 80
    log = box.output.read_text()
    assert "level=error" not in log
    assert "level=warning" not in log


async def test_a_kubernetes_cluster_joins_and_carries_out_work(box: Box, api: Session, tmp_path: Path) -> None:
    """A member whose API is all there is of it: its Job controller is this test."""
    async with serve(tmp_path / "member") as server, Session(server.url, token=server.token) as member:
        node = {"metadata": {"name": "n1", "labels": {names.GPU_PRODUCT: "T4"}}}
        offered = {"cpu": "8", "memory": "32Gi", names.GPU: "2"}
        await member.create(NODES, {"apiVersion": "v1", "kind": "Node", **node})
        status = {"capacity": offered, "allocatable": offered, "conditions": [{"type": "Ready", "status": "True"}]}
        await member.patch(NODES, "n1", {"status": status}, subresource="status")
        write_kubeconfig(box.directory / "member.kubeconfig", server.url, server.token, user="agent")
        options = ("--kubeconfig", str(box.directory / "member.kubeconfig"), "--label", "tier=gold")
        await box.start(*options, site=False)
        cluster = await let_in(api, CLUSTER)
        assert cluster["metadata"]["labels"]["tier"] == "gold"
        assert cluster["status"]["capacity"] == offered
        capacity = await eventually(lambda: api.get(CLUSTER_CAPACITIES, CLUSTER, CLUSTER))
        (group,) = capacity["status"]["nodeGroups"]
        assert (group["count"], group["gpu"]) == (1, {"model": "T4", "count": 2})
        await deliver(api, box.work(2))
        await eventually(lambda: member.get(JOBS, "w1", "default"))
        await box.signal(signal.SIGKILL)
        await box.start(*options, site=False)
        ended = {
            "succeeded": 2,
            "completedIndexes": "0-1",
            "conditions": [{"type": "Complete", "status": "True"}],
        }
        await member.patch(JOBS, "w1", {"status": ended}, "default", subresource="status")
        work = await completed(api, "w1", CLUSTER)
        assert feedback(work)["completedIndexes"] == "0-1"
        await api.delete(MANIFEST_WORKS, "w1", CLUSTER)

        async def gone() -> bool:
            jobs = (await member.list(JOBS)).items
            return not jobs and not (await api.list(MANIFEST_WORKS, CLUSTER)).items

        await eventually(gone)
        assert "level=error" not in box.output.read_text()
        assert await box.signal(signal.SIGTERM) == 0
