"""Two tenants on real sites: one borrows, the owner takes back what is its own, and every task runs to its end."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from loop_command import Home, until

from hub.api.errors import UnreachableError
from hub.api.resource import CLUSTER_QUEUES, JOBS, LOCAL_QUEUES, WORKLOADS
from hub.client.session import Session

Json = dict[str, Any]
SITES: list[Json] = [
    {"name": name, "runtime": "process", "nodes": [{"count": 1, "cpu": 3, "memory": "8Gi"}]}
    for name in ("north", "south")
]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]
KUEUE_CONFIGURATION = {
    "apiVersion": "config.kueue.x-k8s.io/v1beta2",
    "kind": "Configuration",
    "integrations": {"frameworks": ["batch/job"]},
}


@pytest.fixture(params=["fleet", "kueue"])
def home(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Home]:
    here = Home(tmp_path / "machine", SITES)
    config = {"queue": {"mode": "fleet", "notice": "500ms"}} if request.param == "fleet" else KUEUE_CONFIGURATION
    (here.root / "hub.yaml").write_text(yaml.safe_dump(config))
    with here.up("--config", str(here.root / "hub.yaml")):
        yield here


def objects() -> list[tuple[Any, Json]]:
    found: list[tuple[Any, Json]] = []
    for name, cpu in (("vision", 2), ("speech", 4)):
        resources = [{"name": "cpu", "nominalQuota": cpu}, {"name": "memory", "nominalQuota": "16Gi"}]
        group = {"coveredResources": ["cpu", "memory"], "flavors": [{"name": "default", "resources": resources}]}
        spec = {
            "cohortName": "lab",
            "namespaceSelector": {},
            "resourceGroups": [group],
            "preemption": {"reclaimWithinCohort": "Any"},
        }
        for resource, body in ((CLUSTER_QUEUES, spec), (LOCAL_QUEUES, {"clusterQueue": name})):
            meta = {"name": name} | ({} if resource is CLUSTER_QUEUES else {"namespace": "default"})
            obj = {"apiVersion": resource.api_version, "kind": resource.kind, "metadata": meta, "spec": body}
            found.append((resource, obj))
    return found


def job(name: str, queue: str, pods: int, script: str) -> Json:
    container = {
        "name": "main",
        "image": "host",
        "command": ["/bin/sh", "-c", script],
        "resources": {"requests": {"cpu": "1", "memory": "16Mi"}},
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "namespace": "default", "labels": {"kueue.x-k8s.io/queue-name": queue}},
        "spec": {
            "suspend": True,
            "parallelism": pods,
            "completions": pods,
            "completionMode": "Indexed",
            "template": {
                "spec": {"restartPolicy": "Never", "terminationGracePeriodSeconds": 2, "containers": [container]}
            },
        },
    }


def test_what_was_lent_comes_back_to_its_owner_and_all_tasks_end(home: Home) -> None:
    diary = home.root / "diary"
    diary.mkdir()
    # The first time a task runs long; whoever runs it again has nothing left to wait for.
    long_once = f'f={diary}/$QUARTERDECK_TASK_INDEX; echo run >> "$f"; [ $(wc -l < "$f") -gt 1 ] || exec sleep 120'
    asyncio.run(play(home, job("borrower", "vision", 6, long_once), job("owner", "speech", 4, "exit 0"), diary))
    runs = {path.name: path.read_text().split() for path in diary.iterdir()}
    assert sorted(runs) == [str(index) for index in range(6)]
    # Every task ran to its end once more, and none a third time.
    assert {len(lines) for lines in runs.values()} <= {2}
    described = home.run("describe", "job", "borrower")
    assert "Preempted" in described.stdout
    assert "Evicted" in described.stdout
    until(lambda: not home.processes("sleep", "120"), 20, "nothing of the preempted slices is left")


async def play(home: Home, borrower: Json, owner: Json, diary: Path) -> None:
    async with Session.from_kubeconfig(home.data / "kubeconfig") as api:
        for resource, obj in objects():
            await api.create(resource, obj, obj["metadata"].get("namespace"))
        await api.create(JOBS, borrower, "default")
        await _until(lambda: len(list(diary.iterdir())) == 6, "all six run, four of them on borrowed quota")
        await api.create(JOBS, owner, "default")

        async def complete(name: str) -> bool:
            conditions = ((await api.get(JOBS, name, "default")).get("status") or {}).get("conditions") or []
            return any(c["type"] == "Complete" and c["status"] == "True" for c in conditions)

        await _until(lambda: complete("owner"), "the owner's job ends")
        await _until(lambda: complete("borrower"), "the borrower's job ends")

        async def said() -> bool:
            for workload in (await api.list(WORKLOADS, "default")).items:
                status = workload.get("status") or {}
                evictions = (status.get("schedulingStats") or {}).get("evictions") or []
                if any(entry["reason"] == "Preempted" for entry in evictions):
                    text = json.dumps(status["conditions"])
                    return '"Preempted"' in text and '"Finished"' in text
            return False

        await _until(said, "the Workload says that it was preempted")


async def _until(condition: Any, what: str, seconds: float = 60.0) -> None:
    deadline = asyncio.get_running_loop().time() + seconds
    while True:
        found = condition()
        if asyncio.iscoroutine(found):
            try:
                found = await found
            except UnreachableError:
                # A loaded machine; the next look tells.
                found = None
        if found:
            return
        assert asyncio.get_running_loop().time() < deadline, f"not within {seconds:.0f} s: {what}"
        await asyncio.sleep(0.05)
