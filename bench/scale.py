"""What a hub of some size costs: 100 simulated sites, each an agent process of its own, and 10,000 jobs.

The jobs are simulated too (their sites only count the time), everything else is the real way through. The hub's
memory is looked at every second until all have ended; its largest value is the number.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.loop import resident_mib
from bench.report import Figure, print_figures
from hub.api import names
from hub.api.resource import FLEET_JOBS
from hub.cli.jobs import has_ended
from hub.cli.up.datadir import DataDirectory
from hub.cli.up.local_fleet import LocalFleet
from hub.client.session import Session

_SUBMITTERS = 8


def _site(number: int) -> dict[str, Any]:
    nodes = [{"count": 2, "cpu": 32, "memory": "128Gi", "gpu": {"model": "A100", "count": 4, "memory": "40Gi"}}]
    return {"name": f"sim-{number:03d}", "runtime": "simulated", "timeScale": 60.0, "nodes": nodes}


def _job(number: int) -> dict[str, Any]:
    container = {"name": "main", "image": "any", "resources": {"requests": {"cpu": "2", "memory": "4Gi"}}}
    template = {
        "metadata": {"annotations": {names.SIMULATED_DURATION: f"{600 + number % 600}s"}},
        "spec": {"containers": [container]},
    }
    return {
        "apiVersion": names.API_VERSION,
        "kind": "FleetJob",
        "metadata": {"name": f"job-{number:05d}"},
        "spec": {"template": template},
    }


async def _measure(data: Path, sites: int, jobs: int) -> list[Figure]:
    with DataDirectory(data) as paths:
        started = time.monotonic()
        async with (
            LocalFleet(paths, [_site(number) for number in range(sites)], print, with_prometheus=False) as fleet,
            Session.from_kubeconfig(fleet.kubeconfig) as api,
        ):
            joined = time.monotonic() - started
            print(f"{sites} sites joined after {joined:.0f} s", flush=True)
            numbers = iter(range(jobs))

            async def submit() -> None:
                for number in numbers:
                    await api.create(FLEET_JOBS, _job(number), "default")

            started = time.monotonic()
            submitting = asyncio.gather(*(submit() for _ in range(_SUBMITTERS)))
            largest, said = 0.0, 0.0
            while True:
                await asyncio.sleep(1)
                largest = max(largest, resident_mib(fleet.processes["hub"].pid))
                elapsed = time.monotonic() - started
                if not submitting.done() or elapsed - said < 10:
                    continue
                said = elapsed
                ended = sum(map(has_ended, (await api.list(FLEET_JOBS)).items))
                print(f"  {elapsed:4.0f} s  {ended:,} of {jobs:,} ended; hub {largest:.0f} MiB", flush=True)
                if ended == jobs or elapsed > 900:
                    break
            await submitting
            api_memory = resident_mib(fleet.processes["api"].pid)
    return [
        Figure(f"hub memory, {sites} sites, {jobs:,} jobs", largest, 300, "MiB"),
        Figure("API memory after them", api_memory, None, "MiB"),
        Figure("jobs ended", ended, jobs, "jobs", at_least=True),
        Figure("all jobs, submit to end", elapsed, None, "s"),
    ]


def run(sites: int = 100, jobs: int = 10_000) -> list[Figure]:
    data = Path(tempfile.mkdtemp(prefix="quarterdeck-scale-"))
    try:
        return asyncio.run(_measure(data, sites, jobs))
    finally:
        shutil.rmtree(data, ignore_errors=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="The hub's memory with many sites and jobs.")
    parser.add_argument("--sites", type=int, default=100)
    parser.add_argument("--jobs", type=int, default=10_000)
    options = parser.parse_args()
    print_figures("scale", run(options.sites, options.jobs))
