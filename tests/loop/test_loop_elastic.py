"""An elastic job on a real site: its newest tasks save their work, go and come back, and a hub is killed meanwhile."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import yaml
from loop_command import Home, until

from hub.api.resource import CLUSTER_QUEUES, EVENTS, FLEET_JOBS, LOCAL_QUEUES
from hub.client.session import Session

Json = dict[str, Any]
SITES: list[Json] = [{"name": "north", "runtime": "process", "nodes": [{"count": 1, "cpu": 4, "memory": "8Gi"}]}]
# Counts on, in steps that it can go on from, until it may end.
SAVES = """
me={work}/$QUARTERDECK_TASK_INDEX; at=0; [ -e $me.saved ] && at=$(cat $me.saved)
stop=; trap 'stop=1' TERM
while [ ! -e {work}/go ]
do
  at=$((at + 1)); echo $at >> $me.steps; sleep 0.05
  [ -z "$stop" ] || {{ cat "$QUARTERDECK_NOTICE_FILE" > $me.notice; echo $at > $me.saved; exit 143; }}
done
"""


def fleet_job(name: str, queue: str, tasks: int, script: str, **spec: Any) -> Json:
    container = {
        "name": "main",
        "image": "host",
        "command": ["/bin/sh", "-c", script],
        "resources": {"requests": {"cpu": "1", "memory": "16Mi"}},
    }
    return {
        "apiVersion": FLEET_JOBS.api_version,
        "kind": "FleetJob",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"queueName": queue, "tasks": tasks, "gang": True, "template": {"spec": {"containers": [container]}}}
        | spec,
    }


def queues() -> list[tuple[Any, Json]]:
    found: list[tuple[Any, Json]] = []
    for name in ("vision", "speech"):
        resources = [{"name": "cpu", "nominalQuota": 2}, {"name": "memory", "nominalQuota": "16Gi"}]
        group = {"coveredResources": ["cpu", "memory"], "flavors": [{"name": "default", "resources": resources}]}
        spec = {"cohortName": "lab", "namespaceSelector": {}, "resourceGroups": [group]}
        for resource, body in ((CLUSTER_QUEUES, spec), (LOCAL_QUEUES, {"clusterQueue": name})):
            meta = {"name": name} | ({} if resource is CLUSTER_QUEUES else {"namespace": "default"})
            found.append(
                (resource, {"apiVersion": resource.api_version, "kind": resource.kind, "metadata": meta, "spec": body})
            )
    return found


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_tasks_above_the_minimum_save_their_work_make_room_and_come_back(tmp_path: Path) -> None:
    home, work = Home(tmp_path / "machine", SITES), tmp_path / "work"
    work.mkdir()
    (home.root / "hub.yaml").write_text(yaml.safe_dump({"queue": {"notice": "30s"}}))

    def call(action: Any) -> Any:
        async def send() -> Any:
            async with Session.from_kubeconfig(home.data / "kubeconfig") as api:
                return await action(api)

        return asyncio.run(send())

    def status(name: str) -> Json:
        found: Json = call(lambda api: api.get(FLEET_JOBS, name, "default"))
        return found.get("status") or {}

    def size(current: int) -> bool:
        found = status("training").get("elastic") or {}
        return found.get("current") == current and "giving" not in found

    def steps(task: int) -> list[int]:
        path = work / f"{task}.steps"
        return [int(line) for line in path.read_text().split()] if path.exists() else []

    def said() -> set[str]:
        return {event["reason"] for event in call(lambda api: api.list(EVENTS, "default")).items}

    async def make(api: Session) -> None:
        for resource, obj in queues():
            await api.create(resource, obj, obj["metadata"].get("namespace"))
        training = fleet_job("training", "vision", 4, SAVES.format(work=work), elastic={"min": 1})
        await api.create(FLEET_JOBS, training, "default")

    with home.up("--config", str(home.root / "hub.yaml")):
        call(make)
        until(lambda: all(len(steps(task)) > 3 for task in range(4)), 30, "four tasks run, two on what speech owns")
        owner = fleet_job("owner", "speech", 2, f"while [ ! -e {work}/owner ]; do sleep 0.05; done")
        call(lambda api: api.create(FLEET_JOBS, owner, "default"))
        until(lambda: (status("owner")).get("phase") == "Running", 25, "the owner runs, long before the notice is over")
        until(lambda: size(2), 10, "two slots are left")
        saved = sorted(path.name for path in work.glob("*.saved"))
        assert len(saved) == 2
        told = json.loads((work / saved[0].replace("saved", "notice")).read_text())
        assert told["reason"] == "ElasticShrink"
        assert "default/owner" in told["message"]
        assert 20 < told["seconds"] <= 31
        assert "preemptions" not in status("training")
        until(lambda: "ElasticShrink" in said(), 10, "an Event tells that it gave slots back")
        # The hub is killed, and what the next one finds is what there is.
        hubs = home.processes("hub.controllers")
        assert hubs
        for pid in hubs:
            os.kill(pid, signal.SIGKILL)
        (work / "owner").touch()
        until(lambda: size(4), 40, "it has all of its slots again")
        again = [int(name.partition(".")[0]) for name in saved]
        until(lambda: all(len(steps(task)) > int((work / f"{task}.saved").read_text()) for task in again), 20, "go on")
        (work / "go").touch()
        until(lambda: status("training").get("phase") == "Succeeded", 30, "it ends")
        for task in range(4):
            assert steps(task) == list(range(1, len(steps(task)) + 1)), "a step was lost or done twice"
        ended = status("training")
        assert ended["tasks"]["succeeded"] == 4
        assert len(ended["attempts"]) == 1
        until(lambda: "ElasticGrow" in said(), 10, "an Event tells that it grew")
