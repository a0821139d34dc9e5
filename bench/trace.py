"""`make trace`: real arrivals, shapes and durations through the whole loop, 10,000 times faster than they happened.

Ten simulated sites (their runtime is the only thing that is simulated), one hub, one API; three queues of one cohort.
What must hold is checked while it runs: all jobs end, and no quota is exceeded at any instant (every ManifestWork event
is one). Prints and draws the allocation over time, and counts the hub's writes a job.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import shutil
import sys
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from bench.allocation_svg import allocation_svg
from bench.openb import data
from bench.writes import count_writes, per_job
from hub.api import names
from hub.api.conditions import condition_is
from hub.api.errors import GoneError, QuarterdeckError
from hub.api.resource import CLUSTER_QUEUES, FLEET_JOBS, LOCAL_QUEUES, MANIFEST_WORKS
from hub.cli.up.datadir import DataDirectory
from hub.cli.up.local_fleet import LocalFleet
from hub.client.session import Session

_COHORT = "trace"
_QUEUE_OF = {"LS": "latency", "BE": "batch", "Burstable": "burst", "Guaranteed": "burst"}
# Share of the peak demand that each queue owns: less than it wants at the peak, so that queues wait and borrow.
_NOMINAL_SHARE = 0.45


@dataclass(slots=True)
class Held:
    """What runs now by queue, in thousandths of a GPU, from the order of events that the API itself gives."""

    nominal: dict[str, int]
    usage: Counter[str] = field(default_factory=Counter)
    live: dict[str, tuple[str, int]] = field(default_factory=dict)
    samples: list[tuple[float, int]] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    peak_borrowed: int = 0

    def start(self, work: str, queue: str, milli: int, at: float) -> None:
        if work in self.live:
            return
        self.live[work] = (queue, milli)
        self.usage[queue] += milli
        total, limit = sum(self.usage.values()), sum(self.nominal.values())
        if total > limit:
            self.violations.append(f"{work}: the cohort holds {total} of {limit} thousandths")
        self.peak_borrowed = max(self.peak_borrowed, *(self.usage[q] - n for q, n in self.nominal.items()))
        self.samples.append((at, total))

    def end(self, work: str, at: float) -> None:
        queue, milli = self.live.pop(work, ("", 0))
        if queue:
            self.usage[queue] -= milli
            self.samples.append((at, sum(self.usage.values())))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--openb", type=Path, required=True, help="folder of the trace's CSV files")
    parser.add_argument("--jobs", type=int, default=2000)
    parser.add_argument("--skip", type=int, default=1000)
    parser.add_argument("--speed", type=float, default=10_000.0)
    parser.add_argument("--data", type=Path, default=Path(".trace"))
    options = parser.parse_args()
    try:
        data.require(options.openb)
        sys.exit(asyncio.run(_run(options)))
    except QuarterdeckError as error:
        print(f"{error}\n  → {error.hint}" if error.hint else error, file=sys.stderr)
        sys.exit(2)


async def _run(options: argparse.Namespace) -> int:
    jobs = data.jobs(options.openb, options.skip, options.jobs)
    sites = data.sites(options.openb, options.speed)
    gpus = sum(node["count"] * node["gpu"]["count"] for site in sites for node in site["nodes"])
    print(f"{len(sites)} simulated sites, {gpus} GPUs; {len(jobs)} jobs, {options.speed:,.0f} × real time")
    shutil.rmtree(options.data, ignore_errors=True)
    nominal = _nominal_quota(jobs)
    held = Held(nominal)
    with DataDirectory(options.data) as paths:
        async with (
            LocalFleet(paths, sites, print, with_prometheus=False) as fleet,
            Session.from_kubeconfig(fleet.kubeconfig) as api,
        ):
            await _create_queues(api, nominal)
            before = count_writes(fleet)
            started = time.monotonic()
            watcher = asyncio.create_task(_watch_works(api, {j.name: j for j in jobs}, held, started))
            await _submit(api, jobs, options.speed, started)
            print(f"all submitted after {time.monotonic() - started:.0f} s")
            ended = await _until_all_ended(api, len(jobs), started)
            elapsed = time.monotonic() - started
            watcher.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watcher
            writes = count_writes(fleet) - before
    return _report(jobs, held, ended, elapsed, gpus, writes, options.data)


def _nominal_quota(jobs: list[data.TraceJob]) -> dict[str, int]:
    edges: dict[str, list[tuple[float, int]]] = defaultdict(list)
    for job in jobs:
        queue = _QUEUE_OF.get(job.qos, "batch")
        edges[queue] += [(job.arrival, job.demand_milli), (job.arrival + job.duration, -job.demand_milli)]
    nominal = {}
    for queue, changes in sorted(edges.items()):
        level = peak = 0
        for _, change in sorted(changes):
            level += change
            peak = max(peak, level)
        nominal[queue] = max(int(peak * _NOMINAL_SHARE), 8000)
    return nominal


async def _create_queues(api: Session, nominal: dict[str, int]) -> None:
    for queue, milli in nominal.items():
        quota = {"name": names.GPU_MILLI, "nominalQuota": str(milli)}
        generous = [{"name": r, "nominalQuota": "1Pi"} for r in ("cpu", "memory", names.GPU)]
        group = {
            "coveredResources": [r["name"] for r in [*generous, quota]],
            "flavors": [{"name": "default", "resources": [*generous, quota]}],
        }
        spec = {"cohortName": _COHORT, "namespaceSelector": {}, "resourceGroups": [group]}
        await api.create(
            CLUSTER_QUEUES,
            {
                "apiVersion": CLUSTER_QUEUES.api_version,
                "kind": "ClusterQueue",
                "metadata": {"name": queue},
                "spec": spec,
            },
        )
        await api.create(
            LOCAL_QUEUES,
            {
                "apiVersion": LOCAL_QUEUES.api_version,
                "kind": "LocalQueue",
                "metadata": {"name": queue, "namespace": "default"},
                "spec": {"clusterQueue": queue},
            },
            "default",
        )


async def _submit(api: Session, jobs: list[data.TraceJob], speed: float, started: float) -> None:
    first = jobs[0].arrival
    for job in jobs:
        wait = started + (job.arrival - first) / speed - time.monotonic()
        if wait > 0:
            await asyncio.sleep(wait)
        await api.create(FLEET_JOBS, data.fleet_job(job, _QUEUE_OF.get(job.qos, "batch")), "default")


async def _watch_works(api: Session, jobs: dict[str, data.TraceJob], held: Held, started: float) -> None:
    version = (await api.list(MANIFEST_WORKS)).resource_version
    while True:
        try:
            async for event in api.watch(MANIFEST_WORKS, resource_version=version):
                version = event.object["metadata"]["resourceVersion"]
                if event.type == "BOOKMARK":
                    continue
                work, at = event.object["metadata"], time.monotonic() - started
                job = jobs.get(work.get("labels", {}).get(names.JOB_NAME, ""))
                if job is None:
                    continue
                finished = condition_is(event.object.get("status", {}).get("conditions"), "Complete")
                if event.type == "DELETED" or finished:
                    held.end(work["name"], at)
                elif event.type == "ADDED":
                    held.start(work["name"], _QUEUE_OF.get(job.qos, "batch"), job.demand_milli, at)
        except GoneError:
            held.violations.append("the watch fell behind: instants were missed")
            version = (await api.list(MANIFEST_WORKS)).resource_version


async def _until_all_ended(api: Session, count: int, started: float) -> Counter[str]:
    said = 0.0
    while True:
        phases = Counter(
            str(job.get("status", {}).get("phase") or "Pending") for job in (await api.list(FLEET_JOBS)).items
        )
        ended = phases["Succeeded"] + phases["Failed"] + phases["Cancelled"]
        elapsed = time.monotonic() - started
        if ended >= count:
            return phases
        if elapsed - said >= 10:
            said = elapsed
            print(f"  {elapsed:4.0f} s  " + "  ".join(f"{phase} {n}" for phase, n in sorted(phases.items())))
        if elapsed > 600:
            print("not all jobs ended within ten minutes")
            return phases
        await asyncio.sleep(0.5)


def _report(
    jobs: list[data.TraceJob],
    held: Held,
    phases: Counter[str],
    elapsed: float,
    gpus: int,
    writes: Counter[str],
    directory: Path,
) -> int:
    counted = {what: n for what, n in writes.items() if not what.endswith((" events", " leases"))}
    peak = max((level for _, level in held.samples), default=0)
    area = sum(level * (after - at) for (at, level), (after, _) in zip(held.samples, held.samples[1:], strict=False))
    print(f"\nended in {elapsed:.0f} s: " + ", ".join(f"{n} {phase}" for phase, n in sorted(phases.items())))
    print(f"allocation: peak {peak / 1000:.1f} GPUs, mean {area / max(elapsed, 1) / 1000:.1f}, of {gpus}")
    limit = sum(held.nominal.values())
    borrowed = max(held.peak_borrowed, 0) / 1000
    print(f"quota: {limit / 1000:.1f} GPUs in the cohort; the most a queue borrowed: {borrowed:.1f}")
    print(f"quota exceeded at {len(held.violations)} of {len(held.samples)} instants")
    for violation in held.violations[:5]:
        print(f"  {violation}")
    print(f"hub writes a job: {per_job(writes, len(jobs)):.2f}   (MultiKueue, measured: 14-26)")
    for what, n in sorted(counted.items(), key=lambda item: (-item[1], item[0])):
        print(f"  {what:<32} {n / len(jobs):6.2f}")
    drawing = directory / "allocation.svg"
    drawing.write_text(allocation_svg(held.samples, limit))
    print(f"drawn: {drawing}")
    ok = phases["Succeeded"] == len(jobs) and not held.violations
    print("all ended, quotas held" if ok else "NOT all as it must be")
    return 0 if ok else 1


if __name__ == "__main__":
    main()
