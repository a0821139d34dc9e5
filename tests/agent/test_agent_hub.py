"""The agent against a hub's real API: what its objects look like there, and that the command line can read its logs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from agent_fakes import until
from agent_hub import deliver, eventually, let_in
from agent_rig import CLUSTER, RUNNING, manifest_work
from agent_site import FACTS, FakeSite

from agent.assembly import Agent, StopSignal
from agent.journal import Journal
from agent.options import Options
from hub.api import names
from hub.api.cluster import ManagedCluster
from hub.api.fleet import ClusterCapacity, TaskLog, TaskLogRequest
from hub.api.indexset import IndexSet
from hub.api.resource import (
    CLUSTER_CAPACITIES,
    JOBS,
    LEASES,
    MANAGED_CLUSTERS,
    TASK_LOG_REQUESTS,
    TASK_LOGS,
)
from hub.cli.task_logs import Source, read_logs
from hub.client.session import Session

JOB = {"metadata": {"uid": "0f", "name": "sum", "namespace": "team-a"}}


class Site(FakeSite):
    """With an agent of its own."""

    def __init__(self, api: Session, data: Path) -> None:
        super().__init__()
        self._stop, self._journal = StopSignal(), Journal.open(data / "journal.db")
        agent = Agent(Options(CLUSTER, data, data), api, self, self._journal, agent_id="a", hub_hash="h")
        self._task = asyncio.create_task(agent.run(self._stop))

    async def leave(self) -> None:
        self._stop()
        await asyncio.wait_for(self._task, 5)
        self._journal.close()


@pytest.fixture
async def site(api: Session, tmp_path: Path) -> AsyncIterator[Site]:
    """A site whose agent has joined the hub behind `api`."""
    site = Site(api, tmp_path)
    await let_in(api, CLUSTER)
    yield site
    await site.leave()


async def run_job(api: Session, site: Site, tasks: str = "0-9") -> None:
    work = manifest_work()
    work["metadata"]["annotations"][names.TASKS] = tasks
    work["spec"]["workload"]["manifests"][0]["spec"] |= {"completions": 10, "completionMode": "Indexed"}
    await deliver(api, work)
    await until(lambda: site.api.peek(JOBS, "sum", "team-a"))
    site.api.set_status(JOBS, "sum", "team-a", RUNNING)


async def test_its_objects_are_what_the_kinds_say(api: Session, site: Site) -> None:
    cluster = ManagedCluster.model_validate(await api.get(MANAGED_CLUSTERS, CLUSTER))
    assert cluster.status is not None
    assert cluster.status.version is not None
    assert cluster.status.version.kubernetes == FACTS["version"]["kubernetes"]  # type: ignore[index]
    found = await eventually(lambda: api.get(CLUSTER_CAPACITIES, CLUSTER, CLUSTER))
    capacity = ClusterCapacity.model_validate(found)
    assert capacity.status is not None
    assert [group.count for group in capacity.status.nodeGroups] == [2]

    async def renewed() -> Any:
        return (await api.get(LEASES, names.CLUSTER_LEASE, CLUSTER))["spec"].get("renewTime")

    assert await eventually(renewed)
    # The server fills in what the agent leaves out; that is no reason to write again.
    await asyncio.sleep(0.3)
    settled = await api.get(CLUSTER_CAPACITIES, CLUSTER, CLUSTER), await api.get(MANAGED_CLUSTERS, CLUSTER)
    site.change()
    await asyncio.sleep(0.3)
    assert (await api.get(CLUSTER_CAPACITIES, CLUSTER, CLUSTER), await api.get(MANAGED_CLUSTERS, CLUSTER)) == settled


async def test_the_command_line_reads_what_a_site_sends(api: Session, site: Site) -> None:
    await run_job(api, site, "3-12")
    for index in range(10):
        site.output(index).write(f"task {index + 3}\nlast line without an end".encode())
        site.output(index).end()
    said: list[str] = []
    source = Source(CLUSTER, "w1", 1, IndexSet.parse("4,12"))
    lines = [(line.task, line.text) async for line in read_logs(api, JOB, source, said.append, tail=None, follow=False)]
    assert lines == [
        (4, "task 4"),
        (4, "last line without an end"),
        (12, "task 12"),
        (12, "last line without an end"),
    ]
    assert said == []

    async def cleared() -> bool:
        return not (await api.list(TASK_LOG_REQUESTS, CLUSTER)).items and not (await api.list(TASK_LOGS, CLUSTER)).items

    await eventually(cleared, what="the answer goes with its request")


async def test_the_command_line_follows_a_task_to_its_end(api: Session, site: Site) -> None:
    await run_job(api, site, "0-9")
    source = Source(CLUSTER, "w1", 1, IndexSet.parse("2"))
    found: list[str] = []

    async def follow() -> None:
        async for line in read_logs(api, JOB, source, found.append, tail=None, follow=True):
            found.append(line.text)  # noqa: PERF401  # looked at while it grows

    following = asyncio.create_task(follow())
    await asyncio.sleep(0.1)
    site.output(2).write(b"one\ntw")
    await until(lambda: found == ["one"])
    requests = (await api.list(TASK_LOG_REQUESTS, CLUSTER)).items
    TaskLogRequest.model_validate(requests[0])
    for log in (await api.list(TASK_LOGS, CLUSTER)).items:
        TaskLog.model_validate(log)
    site.output(2).write(b"o\n")
    await until(lambda: found == ["one", "two"])
    site.output(2).end(3)
    await asyncio.wait_for(following, 5)
    assert found == ["one", "two"]


async def test_the_command_line_says_why_there_is_no_log(api: Session, site: Site) -> None:
    await run_job(api, site)
    said: list[str] = []
    for work, tasks in (("other", "0"), ("w1", "77"), ("w1", "3")):
        source = Source(CLUSTER, work, 1, IndexSet.parse(tasks))
        assert [line async for line in read_logs(api, JOB, source, said.append, tail=None, follow=False)] == []
    assert said[:2] == [
        "edge-1: there is no work other here",
        "edge-1: none of the tasks 77 is here: w1 has 0-9",
    ]


async def test_failed_tasks_are_on_the_hub_for_when_the_site_is_not(api: Session, site: Site) -> None:
    await run_job(api, site)
    site.output(4).write(b"Traceback: no such file\n")
    site.output(4).end(1)
    site.api.set_status(JOBS, "sum", "team-a", {"active": 9, "failed": 1, "failedIndexes": "4"})

    async def shipped() -> Any:
        return (await api.list(TASK_LOGS, CLUSTER, label_selector=f"{names.JOB_UID}=0f")).items

    (log,) = await eventually(shipped)
    TaskLog.model_validate(log)
    await site.leave()
    lost = {"type": "ManagedClusterConditionAvailable", "status": "Unknown", "reason": "X", "message": ""}
    lost["lastTransitionTime"] = "2026-01-01T00:00:00Z"
    await api.patch(MANAGED_CLUSTERS, CLUSTER, {"status": {"conditions": [lost]}}, subresource="status")
    said: list[str] = []
    source = Source(CLUSTER, "w1", 1, IndexSet.parse("0-9"))
    lines = [line async for line in read_logs(api, JOB, source, said.append, tail=None, follow=False)]
    assert [(line.task, line.text) for line in lines] == [(4, "Traceback: no such file")]
    assert "offline" in said[0]
