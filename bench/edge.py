"""One edge site. By itself, without hub and agent: how fast it starts and ends tasks, and what each costs it in CPU.
Then in an agent, a process of its own on a hub of its own: the memory it takes, idle and with what is done.

python -m bench.edge
"""

from __future__ import annotations

import asyncio
import contextlib
import resource
import shutil
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

from agent.edge.site import EdgeSite
from agent.edge.sitefile import parse_site
from bench import loop
from bench.report import Figure, print_figures
from hub.api import names
from hub.api.conditions import condition_is
from hub.api.resource import FLEET_JOBS, JOBS
from hub.cli.up.datadir import DataDirectory
from hub.cli.up.local_fleet import LocalFleet
from hub.client.informer import Informer
from hub.client.session import Session

_JOBS = 400
_WORKS = 1000
# Longer than the site takes to put away what is over.
_REST_SECONDS = 4.0


def job(name: str, command: list[str], completions: int = 1, **annotations: str) -> dict[str, Any]:
    container = {"name": "main", "image": "host", "command": command, "resources": {"requests": {"cpu": "100m"}}}
    template = {"metadata": {"annotations": annotations}, "spec": {"restartPolicy": "Never", "containers": [container]}}
    spec = {"completions": completions, "parallelism": 16, "completionMode": "Indexed", "backoffLimitPerIndex": 0}
    metadata = {"name": name, "namespace": "default", "labels": {names.JOB_UID: "0"}}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": {**spec, "template": template}}


@contextlib.asynccontextmanager
async def running(data: Path, **entry: Any) -> AsyncIterator[tuple[EdgeSite, dict[str, asyncio.Future[None]]]]:
    """A site, and by Job name a future that is done when the Job is over."""
    nodes = [{"cpu": 64, "memory": "64Gi"}]
    site = EdgeSite(parse_site({"name": "bench", "nodes": nodes, **entry}), data)
    ends: dict[str, asyncio.Future[None]] = {}

    def look(change: str, key: str, old: Any, new: Any) -> None:
        end = ends.get(new["metadata"]["name"]) if new else None
        conditions = ((new or {}).get("status") or {}).get("conditions")
        if end is not None and not end.done() and condition_is(conditions, "Complete"):
            end.set_result(None)

    tasks = [asyncio.create_task(site.run())]
    await site.ready()
    tasks.append(asyncio.create_task(Informer(site.api, JOBS, on_event=look).run()))
    try:
        yield site, ends
    finally:
        await site.stop_tasks()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def submit(site: EdgeSite, ends: dict[str, asyncio.Future[None]], obj: dict[str, Any]) -> None:
    """Returns when it is over."""
    end = ends[obj["metadata"]["name"]] = asyncio.get_running_loop().create_future()
    await site.api.create(JOBS, obj, "default")
    await end


@contextlib.contextmanager
def measured(count: int) -> Iterator[dict[str, float]]:
    """Seconds a piece, and milliseconds of CPU a piece of this process and of the processes it started."""
    found: dict[str, float] = {}
    began, before = time.monotonic(), _cpu()
    yield found
    own, children = (now - then for now, then in zip(_cpu(), before, strict=True))
    found.update(rate=count / (time.monotonic() - began), own=own / count * 1000, children=children / count * 1000)


def _cpu() -> tuple[float, float]:
    uses = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    own, children = (use.ru_utime + use.ru_stime for use in uses)
    return own, children


async def _measure(data: Path) -> list[Figure]:
    async with running(data / "process") as (site, ends):
        for n in range(20):
            await submit(site, ends, job(f"warm-{n}", ["true"]))
        with measured(_JOBS) as single:
            await asyncio.gather(*(submit(site, ends, job(f"one-{n}", ["true"])) for n in range(_JOBS)))
        with measured(_JOBS) as array:
            await submit(site, ends, job("array", ["true"], _JOBS))
        delays = []
        for n in range(60):
            stamp = data / f"stamp-{n}"
            created = time.time()
            await submit(site, ends, job(f"late-{n}", ["/bin/sh", "-c", f"date +%s.%N > {stamp}"]))
            delays.append((float(stamp.read_text()) - created) * 1000)
    async with running(data / "simulated", runtime="simulated") as (site, ends):
        timed: dict[str, Any] = {names.SIMULATED_DURATION: "500ms"}
        with measured(_JOBS) as simulated:
            await asyncio.gather(*(submit(site, ends, job(f"sim-{n}", ["x"], **timed)) for n in range(_JOBS)))
    return [
        Figure("jobs of one task (true), one site", single["rate"], 100, "/s", at_least=True),
        Figure("  CPU a job, all in", single["own"] + single["children"], 6, "ms"),
        Figure("  of which the site's own", single["own"], None, "ms"),
        Figure("tasks of one array, one site", array["rate"], 100, "/s", at_least=True),
        Figure("  CPU a task, all in", array["own"] + array["children"], 6, "ms"),
        Figure("Job created → process runs, p50", statistics.median(delays), 15, "ms"),
        Figure("Job created → process runs, p95", statistics.quantiles(delays, n=20)[18], None, "ms"),
        Figure("simulated: CPU a job", simulated["own"] + simulated["children"], 6, "ms"),
    ]


async def _memory(data: Path) -> list[Figure]:
    """Of the agent: nobody takes the works away, so it has all of them, as has one that starts again."""
    with DataDirectory(data / "fleet") as paths:
        async with (
            LocalFleet(paths, [loop.site("edge", 16)], lambda line: None, with_prometheus=False) as fleet,
            Session.from_kubeconfig(fleet.kubeconfig) as api,
        ):
            agent = fleet.processes["site-edge"]
            idle = loop.resident_mib(agent.pid)
            for number in range(_WORKS):
                await api.create(FLEET_JOBS, loop.job(f"nothing-{number:04d}", ["true"]), "default")
            ended = await loop.until_all(api, _WORKS)
            await asyncio.sleep(_REST_SECONDS)
            after = loop.resident_mib(agent.pid)
            agent.kill()
            await asyncio.sleep(2 * _REST_SECONDS)
            again = loop.resident_mib(agent.pid)
    return [
        Figure("agent memory, idle", idle, 80, "MiB"),
        Figure(f"  after {ended:,} finished works", after, 80, "MiB"),
        Figure("  the same, started again", again, 80, "MiB"),
    ]


def run() -> list[Figure]:
    data = Path(tempfile.mkdtemp(prefix="quarterdeck-bench-"))
    try:
        return asyncio.run(_measure(data)) + asyncio.run(_memory(data))
    finally:
        shutil.rmtree(data, ignore_errors=True)


if __name__ == "__main__":
    print_figures("edge", run())
