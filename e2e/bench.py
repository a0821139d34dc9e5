"""`make bench-e2e`: Quarterdeck on real control planes, its figures beside those of MultiKueue and of OCM's works.

As theirs were taken: a hub and two members, each with an API server, an etcd that syncs, a controller-manager, members
with scheduler and kwok; pods run at once and succeed after one second; everything on this machine. The submitter and
the watchers that measure are not counted. First one job at a time, then two hundred at once. The jobs are plain
batch/v1 Jobs that name their controller (managedBy), as the peers take them.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

from bench.report import Figure, print_figures
from e2e import versions
from e2e.building import SKIPPED, CannotBuildError
from e2e.jobs import NAMESPACE, fleet_job, plain_job
from e2e.measuring import Stories, Story, writes
from e2e.nodes import NodeShape
from e2e.planes import Planes, fleet
from e2e.quarterdeck import Quarterdeck
from hub.api import names
from hub.api.resource import FLEET_JOBS, JOBS
from hub.client.session import Session

Json = dict[str, Any]
MEMBERS: Final = {name: (NodeShape(f"{name}-node", 3, cpu=64, memory="256Gi"),) for name in ("ash", "elm")}
REPEATS: Final = 20
AT_ONCE: Final = 200
KINDS: Final = ("suspend", "managedBy", "fleet")
_WARM_UP: Final = 3
_SUBMITTERS: Final = 16
_PATIENCE: Final = 300.0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m e2e.bench", description="Measure the loop on real control planes.")
    parser.add_argument("--kubernetes", default=versions.newest(), help=f"one of {', '.join(versions.KUBERNETES)}")
    parser.add_argument(
        "--jobs", choices=KINDS, default="managedBy", help="FleetJobs, or plain Jobs taken up by one of the two"
    )
    options = parser.parse_args()
    try:
        with fleet(MEMBERS, version=options.kubernetes, fsync=True, etcd_each=True, say=print) as planes:
            figures = asyncio.run(measure(planes, options.jobs))
    except CannotBuildError as error:
        print(f"e2e: skipped: {error}")
        return SKIPPED
    return 0 if print_figures("the hub on real control planes", figures) else 1


async def measure(planes: Planes, kind: str) -> list[Figure]:
    quarterdeck = Quarterdeck(planes)
    quarterdeck.start()
    await quarterdeck.joined()
    async with planes.hub.session() as api, Stories(planes) as stories:
        for number in range(_WARM_UP):
            await _one(api, stories, kind, f"warm-{number}")
        await asyncio.sleep(2)
        single = await _singles(planes, api, stories, kind)
        await asyncio.sleep(2)
        return single + await _burst(planes, api, stories, kind)


async def _singles(planes: Planes, api: Session, stories: Stories, kind: str) -> list[Figure]:
    before = await _written(planes)
    told = [await _one(api, stories, kind, f"single-{number}") for number in range(REPEATS)]
    # What is written after a job's end belongs to it.
    await asyncio.sleep(2)
    at_hub, on_members = (
        _said(after - start, REPEATS) for after, start in zip(await _written(planes), before, strict=True)
    )
    running = [1000 * (story.running - story.submitted) for story in told]
    known = [1000 * (story.known - story.complete) for story in told]
    return [
        Figure("submit → work on the hub, p50", _p(told, "decided", 50), None, "ms", peer=("MultiKueue", 351)),
        Figure("submit → pod running, p50", statistics.median(running), 150, "ms", peer=("MultiKueue", 418)),
        Figure("submit → pod running, p95", _percentile(running, 95), None, "ms", peer=("MultiKueue", 1374)),
        Figure("member Complete → hub knows, p50", statistics.median(known), 50, "ms", peer=("MultiKueue", 999)),
        Figure("member Complete → hub knows, p95", _percentile(known, 95), None, "ms", peer=("MultiKueue", 1005)),
        Figure("hub writes a job", at_hub, 6, "", peer=("MultiKueue", 25.8)),
        Figure("member writes a job", on_members, None, "", peer=("MultiKueue", 35.1)),
    ]


async def _burst(planes: Planes, api: Session, stories: Stories, kind: str) -> list[Figure]:
    before, cpu = await _written(planes), planes.processes.cpu_seconds()
    began = time.monotonic()
    turn = asyncio.Semaphore(_SUBMITTERS)

    async def one(number: int) -> Story | None:
        async with turn:
            uid = await _submit(api, stories, kind, f"burst-{number}")
        try:
            return await stories.over(uid, _PATIENCE)
        except TimeoutError:
            return None

    told = [story for story in await asyncio.gather(*map(one, range(AT_ONCE))) if story is not None]
    took = max(story.known for story in told) - min(story.submitted for story in told)
    spent = {name: seconds - cpu.get(name, 0.0) for name, seconds in planes.processes.cpu_seconds().items()}
    elapsed = time.monotonic() - began
    at_hub = _said((await _written(planes))[0] - before[0], AT_ONCE)
    each = 1000 / AT_ONCE
    print("CPU by process, ms a job: " + ", ".join(f"{n} {s * each:.0f}" for n, s in sorted(spent.items())))
    return [
        Figure(f"{AT_ONCE} at once: jobs a second", len(told) / took, 12, "", True, ("MultiKueue", 0.97)),
        Figure(f"{AT_ONCE} at once: ended", len(told), AT_ONCE, "", True, ("MultiKueue", 199)),
        Figure("CPU of all processes a job", sum(spent.values()) * each, 150, "ms", peer=("OCM works alone", 193)),
        Figure("of it the hub's API server", spent["hub-kube-apiserver"] * each, 20, "ms", peer=("OCM works", 40)),
        Figure("cores busy", sum(spent.values()) / elapsed, None, ""),
        Figure("hub writes a job", at_hub, 6, "", peer=("MultiKueue", 14.1)),
    ]


async def _one(api: Session, stories: Stories, kind: str, name: str) -> Story:
    return await stories.over(await _submit(api, stories, kind, name), 60)


async def _submit(api: Session, stories: Stories, kind: str, name: str) -> str:
    now = asyncio.get_running_loop().time()
    made = await api.create(FLEET_JOBS if kind == "fleet" else JOBS, _job(kind, name), NAMESPACE)
    uid = str(made["metadata"]["uid"])
    stories.story(uid).submitted = now
    return uid


def _job(kind: str, name: str) -> Json:
    if kind == "fleet":
        return fleet_job(name, cpu="100m")
    job = plain_job(name, 1, **({"suspend": True} if kind == "suspend" else {"managedBy": f"{names.GROUP}/hub"}))
    job["spec"]["template"]["spec"]["containers"][0]["resources"] = {"requests": {"cpu": "100m"}}
    return job


async def _written(planes: Planes) -> tuple[Counter[str], Counter[str]]:
    """At the hub, and on all members."""
    counts = await asyncio.gather(*(writes(member) for member in planes.members.values()))
    return await writes(planes.hub), sum(counts, Counter())


def _said(written: Counter[str], jobs: int) -> float:
    """Writes a job, and which they are."""
    print("writes a job: " + ", ".join(f"{what} {count / jobs:.2g}" for what, count in written.most_common()))
    return written.total() / jobs


def _p(told: Sequence[Story], what: str, percent: int) -> float:
    return _percentile([1000 * (getattr(story, what) - story.submitted) for story in told], percent)


def _percentile(values: Sequence[float], percent: int) -> float:
    return sorted(values)[min(len(values) - 1, round(len(values) * percent / 100))]


if __name__ == "__main__":
    sys.exit(main())
