"""A site that is cut off for longer than its lease: its real processes are frozen, so that it can come back."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from loop_command import Home, until

from hub.cli.jobs import phase

SITES: list[dict[str, Any]] = [
    {"name": name, "runtime": "process", "nodes": [{"count": 1, "cpu": 4, "memory": "8Gi"}]} for name in ("ash", "elm")
]


def job_of(home: Home, name: str) -> dict[str, Any]:
    found = json.loads(home.run("get", "jobs", name, "-o", "json").stdout)
    return found["items"][0] if "items" in found else found


def kubectl_patch(home: Home, cluster: str, patch: str) -> None:
    import asyncio

    from hub.api.resource import MANAGED_CLUSTERS
    from hub.client.session import Session

    async def send() -> None:
        async with Session.from_kubeconfig(home.data / "kubeconfig") as api:
            await api.patch(MANAGED_CLUSTERS, cluster, json.loads(patch))

    asyncio.run(send())


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_its_tasks_go_elsewhere_and_what_it_says_when_it_is_back_does_not_count(tmp_path: Path) -> None:
    home = Home(tmp_path, SITES)
    history = tmp_path / "history"
    # Only the first try waits: the second is to end while the first is frozen.
    script = f'echo "$QUARTERDECK_CLUSTER" >> {history}; [ "$(wc -l < {history})" -gt 1 ] || sleep 456'
    with home.up():
        for site in SITES:
            kubectl_patch(home, site["name"], '{"spec": {"leaseDurationSeconds": 3}}')
        assert home.run("run", "-d", "--name", "moved", "--", "/bin/sh", "-c", script).returncode == 0
        until(lambda: home.processes("QUARTERDECK_JOB=", "456"), 20, "the task runs")
        first = history.read_text().split()[0]
        agents = home.processes("agent.main", f"sites/{first}/")
        assert agents
        for pid in agents:
            os.kill(pid, signal.SIGSTOP)
        try:
            until(lambda: phase(job_of(home, "moved")) == "Succeeded", 40, "it succeeds elsewhere")
            assert home.processes("QUARTERDECK_JOB=", "456"), "the frozen site could not stop its process"
            assert "unreachable" in home.run("get", "clusters").stdout
        finally:
            for pid in agents:
                os.kill(pid, signal.SIGCONT)
        until(lambda: not home.processes("QUARTERDECK_JOB=", "456"), 60, "its old process is stopped")
        status = job_of(home, "moved")["status"]
    tried = {attempt["cluster"]: attempt for attempt in status["attempts"]}
    assert len(tried) == 2
    assert tried[first]["state"] == "Lost"
    second = next(cluster for cluster in tried if cluster != first)
    assert tried[second]["state"] == "Succeeded"
    assert tried[second]["epoch"] > tried[first]["epoch"]
    assert status["tasks"]["succeeded"] == 1
