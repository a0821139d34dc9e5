"""End to end on this machine: how soon a submitted job runs, how soon the hub knows it has ended, and what a job costs.

1. Latency on an idle site: jobs one at a time; the task itself writes the time at which it started and ended.
2. Throughput and writes: 1,000 jobs that do nothing, submitted one by one, over 10 sites.
3. Memory: the hub and each agent after that.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.report import Figure, print_figures
from bench.writes import count_writes, per_job
from hub.api import names
from hub.api.resource import FLEET_JOBS
from hub.cli.jobs import has_ended, phase, until_ended
from hub.cli.up.datadir import DataDirectory
from hub.cli.up.local_fleet import LocalFleet
from hub.client.session import Session


def site(name: str, cpu: int) -> dict[str, Any]:
    return {"name": name, "runtime": "process", "nodes": [{"count": 1, "cpu": cpu, "memory": "64Gi"}]}


def job(name: str, command: Sequence[str], environment: dict[str, str] | None = None) -> dict[str, Any]:
    container = {
        "name": "main",
        "image": "host",
        "command": list(command),
        "env": [{"name": key, "value": value} for key, value in (environment or {}).items()],
        "resources": {"requests": {"cpu": "1", "memory": "64Mi"}},
    }
    return {
        "apiVersion": names.API_VERSION,
        "kind": "FleetJob",
        "metadata": {"name": name},
        "spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [container]}}},
    }


async def latency(data: Path, repeats: int) -> list[Figure]:
    """Submit → the task's own first instruction; the task's last instruction → the hub says Succeeded."""
    to_running, to_known = [], []
    with DataDirectory(data / "latency") as paths:
        async with (
            LocalFleet(paths, [site("idle", 8)], lambda line: None, with_prometheus=False) as fleet,
            Session.from_kubeconfig(fleet.kubeconfig) as api,
        ):
            for number in range(repeats + 3):
                name, stamp = f"latency-{number}", data / f"stamp-{number}"
                script = 'date +%s.%N > "$STAMP"; sleep 0.2; date +%s.%N >> "$STAMP"'
                spec = job(name, ["/bin/sh", "-c", script], {"STAMP": str(stamp)})
                submitted = time.time()
                await api.create(FLEET_JOBS, spec, "default")
                await until_ended(api, name, "default")
                known = time.time()
                began, ended = (float(line) for line in stamp.read_text().split())
                if number >= 3:
                    to_running.append((began - submitted) * 1000)
                    to_known.append((known - ended) * 1000)
    running, finished = statistics.quantiles(to_running, n=100), statistics.quantiles(to_known, n=100)
    return [
        Figure("submit → running, idle site, p50", statistics.median(to_running), 100, "ms", peer=("MultiKueue", 418)),
        Figure("submit → running, idle site, p99", running[98], 300, "ms", peer=("MultiKueue p95", 1374)),
        Figure("finished → hub knows, p50", statistics.median(to_known), 50, "ms", peer=("MultiKueue", 999)),
        Figure("finished → hub knows, p99", finished[98], None, "ms"),
    ]


async def throughput(data: Path, count: int) -> tuple[list[Figure], Counter[str]]:
    with DataDirectory(data / "throughput") as paths:
        sites = [site(f"edge-{number}", 16) for number in range(10)]
        async with (
            LocalFleet(paths, sites, lambda line: None, with_prometheus=False) as fleet,
            Session.from_kubeconfig(fleet.kubeconfig) as api,
        ):
            before = count_writes(fleet)
            started = time.monotonic()
            for number in range(count):
                await api.create(FLEET_JOBS, job(f"nothing-{number:04d}", ["true"]), "default")
            submitted = time.monotonic() - started
            ended = await until_all(api, count)
            elapsed = time.monotonic() - started
            await asyncio.sleep(2)
            writes = count_writes(fleet) - before
            hub = resident_mib(fleet.processes["hub"].pid)
            agents = max(resident_mib(fleet.processes[f"site-{entry['name']}"].pid) for entry in sites)
    print(f"{ended} of {count} jobs succeeded; submitting took {submitted:.1f} s, the end came after {elapsed:.1f} s")
    figures = [
        Figure(
            "1,000 jobs of `true`, 10 sites", count / elapsed, 100, "jobs/s", at_least=True, peer=("MultiKueue", 2.05)
        ),
        Figure("hub writes a job", per_job(writes, count), 6, "writes", peer=("MultiKueue", 25.8)),
        Figure("hub memory after them", hub, 300, "MiB"),
        Figure("largest agent", agents, 80, "MiB"),
    ]
    return figures, writes


async def until_all(api: Session, count: int) -> int:
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        jobs = (await api.list(FLEET_JOBS)).items
        if sum(map(has_ended, jobs)) >= count:
            return sum(phase(found) == "Succeeded" for found in jobs)
        await asyncio.sleep(0.2)
    return sum(phase(found) == "Succeeded" for found in (await api.list(FLEET_JOBS)).items)


def resident_mib(pid: int | None) -> float:
    """Resident MiB of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * 4096 / 2**20


def run(repeats: int = 60, count: int = 1000) -> list[Figure]:
    data = Path(tempfile.mkdtemp(prefix="quarterdeck-bench-"))
    try:
        figures = asyncio.run(latency(data, repeats))
        more, writes = asyncio.run(throughput(data, count))
    finally:
        shutil.rmtree(data, ignore_errors=True)
    print("\nhub writes a job, by verb and kind (Events and Leases apart)")
    for what, n in sorted(writes.items(), key=lambda item: (-item[1], item[0])):
        if not what.endswith((" events", " leases")):
            print(f"  {what:<32} {n / count:6.2f}")
    return figures + more


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Latency, throughput, writes and memory of the whole loop.")
    parser.add_argument("--repeats", type=int, default=60)
    parser.add_argument("--jobs", type=int, default=1000)
    options = parser.parse_args()
    print_figures("the loop", run(options.repeats, options.jobs))
