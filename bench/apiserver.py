"""The embedded API over HTTP, durable, with watchers: what it does a second, and how fast it is back after a crash.

The server and the load are processes of their own, as in real life. Peer: kube-apiserver with etcd on such a machine.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.report import Figure
from hub.api.installed import installed_crds
from hub.apiserver.plane import ControlPlane

_OBJECTS = 10_000
_WATCHERS = 5
_RECOVERED = 100_000
_JOBS = "/apis/fleet.quarterdeck.dev/v1alpha1/namespaces/default/fleetjobs"
_MAPS = "/api/v1/namespaces/default/configmaps"
_JSON, _MERGE = "application/json", "application/merge-patch+json"


def config_map(number: int) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": f"map-{number:06}", "labels": {"app": "bench", "shard": str(number % 10)}},
        "data": {"a": "x" * 100, "b": "y" * 100},
    }


def fleet_job(number: int) -> dict[str, Any]:
    container = {
        "name": "main",
        "image": "python:3.12-slim",
        "command": ["python", "train.py", "--epochs", "3"],
        "env": [{"name": "SEED", "value": str(number)}],
        "resources": {"requests": {"cpu": "2", "memory": "4Gi"}, "limits": {"memory": "8Gi"}},
    }
    return {
        "apiVersion": "fleet.quarterdeck.dev/v1alpha1",
        "kind": "FleetJob",
        "metadata": {"name": f"job-{number:06}", "labels": {"team": f"t{number % 10}"}},
        "spec": {
            "queueName": "research",
            "tasks": 10,
            "template": {"spec": {"containers": [container]}},
            "gpu": {"count": 1, "models": ["A100", "H100"]},
            "retry": {"limitPerTask": 3, "elsewhere": True},
        },
    }


def plan(objects: int) -> list[dict[str, Any]]:
    status = {"status": {"phase": "Running", "tasks": {"total": 10, "active": 3, "pending": 7}}}
    return [
        {
            "name": "create",
            "watches": [f"{_MAPS}?watch=1&resourceVersion=1"] * _WATCHERS,
            "requests": [("POST", _MAPS, json.dumps(config_map(n)), _JSON) for n in range(objects)],
        },
        {"name": "get", "requests": [("GET", f"{_MAPS}/map-{n:06}", "", "") for n in range(objects)] * 2},
        {
            "name": "create jobs",
            "watches": [f"{_JOBS}?watch=1&resourceVersion=1"] * _WATCHERS,
            "requests": [("POST", _JOBS, json.dumps(fleet_job(n)), _JSON) for n in range(objects)],
        },
        {
            "name": "patch job status",
            "requests": [("PATCH", f"{_JOBS}/job-{n:06}/status", json.dumps(status), _MERGE) for n in range(objects)],
        },
        {"name": "list", "connections": 1, "requests": [("GET", _MAPS, "", "")] * 10},
        {"name": "delete", "requests": [("DELETE", f"{_MAPS}/map-{n:06}", "", "") for n in range(objects)]},
        {
            "name": "one at a time",
            "connections": 1,
            "requests": [("POST", _MAPS, json.dumps(config_map(n)), _JSON) for n in range(500)],
        },
    ]


class Server:
    """A server process on a directory."""

    def __init__(self, directory: Path, *options: str) -> None:
        self.directory = directory
        self._options = options
        self.token_file = directory / "token"
        self.log = directory / "log"
        self.url = ""

    def __enter__(self) -> Server:
        tokens = self.directory / "tokens.json"
        if not tokens.exists():
            token = secrets.token_urlsafe(32)
            self.token_file.write_text(token)
            tokens.write_text(json.dumps({token: {"user": "bench", "groups": ["system:masters"]}}))
        argv = [sys.executable, "-m", "hub.apiserver", "--data", str(self.directory), "--listen", "127.0.0.1:0"]
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen([*argv, *self._options], stdout=log, stderr=log)
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline and self.process.poll() is None:
            said = self.log.read_text()
            if "listening on " in said:
                self.url = said.split("listening on ")[1].split(";")[0]
                return self
            time.sleep(0.02)
        self.__exit__()
        raise RuntimeError(f"the server did not start: {self.log.read_text()}")

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        self.process.wait(20)

    def cpu(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory(self) -> float:
        """MiB."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20

    def load(self, phases: list[dict[str, Any]]) -> dict[str, Any]:
        argv = [sys.executable, "-m", "bench.apiserver_load", self.url, str(self.token_file)]
        done = subprocess.run(argv, input=json.dumps(phases).encode(), stdout=subprocess.PIPE, check=True, timeout=300)
        result: dict[str, Any] = json.loads(done.stdout)
        return result


async def prepare(directory: Path) -> None:
    async with ControlPlane(directory) as plane:
        await plane.install(installed_crds())


async def _fill(directory: Path, count: int) -> None:
    from hub.api.resource import FLEET_JOBS
    from hub.apiserver.inprocess import InProcessApi

    async with ControlPlane(directory) as plane:
        await plane.install(installed_crds())
        api = InProcessApi(plane)
        for start in range(0, count, 500):
            await asyncio.gather(
                *(api.create(FLEET_JOBS, fleet_job(n), "default") for n in range(start, min(start + 500, count)))
            )


def _rate(result: dict[str, Any], name: str) -> float:
    phase = result[name]
    if phase["errors"]:
        raise RuntimeError(f"{name}: answers with errors: {phase['errors']}")
    return float(phase["count"] / phase["seconds"])


def measure(objects: int = _OBJECTS, *options: str) -> tuple[dict[str, Any], float]:
    """Results of the load, and the server's memory at the end in MiB."""
    with tempfile.TemporaryDirectory(prefix="bench-api-") as path:
        directory = Path(path)
        asyncio.run(prepare(directory))
        with Server(directory, *options) as server:
            result = server.load(plan(objects))
            return result, server.memory()


def recovery(objects: int = _RECOVERED) -> float:
    """Seconds from the start of the process until it serves what a killed one left."""
    with tempfile.TemporaryDirectory(prefix="bench-api-") as path:
        directory = Path(path)
        asyncio.run(_fill(directory, objects))
        with Server(directory):
            pass
        started = time.perf_counter()
        with Server(directory):
            return time.perf_counter() - started


def run() -> list[Figure]:
    result, memory = measure()
    expected = _OBJECTS
    if any(lines < expected for lines in result["watched"]):
        raise RuntimeError(f"watchers missed events: {result['watched']}")
    apiserver = "kube-apiserver"
    return [
        Figure("creates", _rate(result, "create"), 4500, "/s", at_least=True, peer=(apiserver, 1317)),
        Figure("creates of FleetJobs", _rate(result, "create jobs"), 4500, "/s", at_least=True),
        Figure("gets", _rate(result, "get"), 10000, "/s", at_least=True, peer=(apiserver, 2446)),
        Figure("status patches of FleetJobs", _rate(result, "patch job status"), None, "/s", at_least=True),
        Figure("deletes", _rate(result, "delete"), None, "/s", at_least=True),
        Figure("list of 10,000", result["list"]["p50"] * 1000, None, "ms"),
        Figure("create, one at a time, p50", result["one at a time"]["p50"] * 1000, None, "ms"),
        Figure("create, one at a time, p99", result["one at a time"]["p99"] * 1000, None, "ms"),
        Figure("memory with 10,000 FleetJobs", memory, None, "MiB"),
        Figure("back after a restart with 100,000 FleetJobs", recovery(), 3.0, "s"),
    ]
