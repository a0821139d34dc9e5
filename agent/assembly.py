"""The whole agent, put together: which room is told what by which, in what order they stop, what is said of them.

Each room does its own; here is only the wiring. The hub may be away at any time: what needs it waits by itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections import Counter
from collections.abc import Mapping
from functools import cache
from typing import Any

from agent.capacity import CapacityReporter
from agent.journal import Journal
from agent.lease import LeaseKeeper
from agent.link import HubLink
from agent.local import LocalCluster
from agent.logs import LogService
from agent.metrics import Metric, MetricsServer, parse_listen, process_metrics, render
from agent.options import Options
from agent.registration import Registration
from agent.rooms import Room, Rooms
from agent.scoring.room import ScoringRoom
from agent.shipping import FailureShipper
from agent.work.executor import WorkExecutor
from hub.api.conditions import condition_is
from hub.api.errors import StorageError
from hub.api.resource import Resource
from hub.asking.access import Access
from hub.client.backoff import Backoff
from hub.client.interface import KubeApi

Json = dict[str, Any]
_log = logging.getLogger("agent")

# Of an orderly end: tasks have their own grace inside this, and then what happened to them goes to the hub.
STOP_TASKS_SECONDS = 30.0
REPORT_SECONDS = 5.0
# A room's own order at its end, before it is told again.
CLOSE_SECONDS = 6.0


class StopSignal:
    """Asked once: stop in order. Asked again: stop now."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.hurried = asyncio.Event()

    def __call__(self) -> None:
        (self.hurried if self.asked.is_set() else self.asked).set()


class Agent:
    """`run(stop)` until `stop` is asked. `hub_hash` tells this hub's records from another's on the same cluster.
    `access`: whom scorers may have asked here."""

    def __init__(
        self,
        options: Options,
        hub: KubeApi,
        local: LocalCluster,
        journal: Journal,
        *,
        agent_id: str,
        hub_hash: str,
        access: Access | None = None,
    ) -> None:
        self._options, self._hub, self._local, self._journal = options, hub, local, journal
        self._agent_id, self._hub_hash = agent_id, hub_hash
        self._executor: WorkExecutor | None = None
        cluster = options.cluster
        self.rooms = Rooms()
        self.link = HubLink(Backoff(0.25, 10.0))
        self.lease = LeaseKeeper(hub, cluster, self.link)
        self.registration = Registration(
            hub, local, cluster=cluster, link=self.link, lease=self.lease, on_accepted=self._on_accepted
        )
        self.capacity = CapacityReporter(
            hub, local, cluster=cluster, link=self.link, accepted=self.registration.accepted
        )
        self.logs = LogService(hub, local, cluster=cluster, link=self.link, works=self._works)
        self.shipper = FailureShipper(hub, local, cluster=cluster, link=self.link, journal=journal, works=self._works)
        self.scoring = ScoringRoom(
            hub,
            lambda: local.api,
            cluster=cluster,
            link=self.link,
            accepted=self.registration.accepted,
            access=access or Access(),
            kept=options.data.expanduser() / "scoring.json",
        )
        self.server: MetricsServer | None = None
        if options.metrics_listen is not None:
            host, port = parse_listen(options.metrics_listen)
            self.server = MetricsServer(host, port, self._metrics, self._problems)

    async def run(self, stop: StopSignal) -> None:
        rooms: dict[str, Room] = {
            "site": self._local.run,
            "lease": self.lease.run,
            "registration": self.registration.run,
            "capacity": self._report_capacity,
            "work": self._work,
            "logs": self._serve_logs,
            "shipping": self.shipper.run,
            "scoring": self.scoring.run,
        }
        if self.server is not None:
            rooms["metrics"] = self.server.run
        kept = [asyncio.create_task(self.rooms.keep(name, room), name=name) for name, room in rooms.items()]
        try:
            await stop.asked.wait()
            _log.info("stopping", extra={"fields": {"tasks": "ended" if self._options.stop_tasks_on_exit else "left"}})
            if self._options.stop_tasks_on_exit:
                await self._end_tasks(stop)
        finally:
            await _close(kept, stop)
            with contextlib.suppress(StorageError):
                await self._journal.flush()

    # Rooms that wait for another.

    async def _report_capacity(self) -> None:
        await self._local.ready()
        await self.capacity.run()

    async def _serve_logs(self) -> None:
        # Before that the namespace with the requests is not there, or not ours to read.
        await self.registration.accepted.wait()
        await self.logs.run()

    async def _work(self) -> None:
        await self._local.ready()
        await self.registration.accepted.wait()
        executor = WorkExecutor(
            self._hub,
            self._local.api,
            cluster=self._options.cluster,
            hub_hash=self._hub_hash,
            agent_id=self._agent_id,
            journal=self._journal,
            link=self.link,
            eviction_grace=self._options.eviction_grace,
            on_object=self._on_object,
        )
        self._executor = executor
        await executor.run()

    def _works(self) -> Mapping[str, Json] | None:
        executor = self._executor
        return executor.works if executor is not None and executor.works_synced.is_set() else None

    def _on_accepted(self, accepted: bool) -> None:
        if self._executor is not None:
            self._executor.accept(accepted)
        if accepted:
            self.capacity.look_again()

    def _on_object(self, work: Json, resource: Resource, obj: Json) -> None:
        self.shipper.observe(work, resource, obj)
        self.logs.observe(work, resource, obj)

    # The orderly end.

    async def _end_tasks(self, stop: StopSignal) -> None:
        """Nothing new is taken, what runs is ended, and what came of it is on the hub if the hub can be reached."""
        if self._executor is not None:
            self._executor.accept(False)
        ending = asyncio.create_task(self._end_and_report())
        hurried = asyncio.create_task(stop.hurried.wait())
        await asyncio.wait({ending, hurried}, return_when=asyncio.FIRST_COMPLETED)
        for task in (ending, hurried):
            task.cancel()
        results = await asyncio.gather(ending, hurried, return_exceptions=True)
        if isinstance(results[0], Exception):
            _log.error("the tasks were not all ended", extra={"fields": {"why": results[0]}})

    async def _end_and_report(self) -> None:
        await self.registration.leave()
        try:
            async with asyncio.timeout(STOP_TASKS_SECONDS):
                await self._local.stop_tasks()
        except TimeoutError:
            _log.error("tasks still run", extra={"fields": {"after": f"{STOP_TASKS_SECONDS:.0f}s"}})
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(REPORT_SECONDS):
                # What was recorded just now is heard of through the local watch.
                await asyncio.sleep(0.1)
                while self.link.up and not self._all_told():
                    await asyncio.sleep(0.02)

    def _all_told(self) -> bool:
        return (self._executor is None or self._executor.reporter.idle) and self.shipper.idle

    # What is said of it.

    def _problems(self) -> list[str]:
        found = [f"{name}: {why}" for name, why in sorted(self.rooms.failing.items())]
        if self.registration.healthy is False:
            found.append("the cluster's own API does not answer")
        return found

    def _metrics(self) -> str:
        return self._local.metrics() + render([*self._own_metrics(), *process_metrics()])

    def _own_metrics(self) -> list[Metric]:
        executor, prefix = self._executor, "quarterdeck_agent"
        writes = {
            "leases": float(self.lease.renewals),
            "managedclusters": float(self.registration.writes),
            "clustercapacities": float(self.capacity.writes),
            "manifestworks/status": float(executor.reporter.writes if executor else 0),
            "tasklogs": float(self.shipper.writes + self.logs.writes),
            "clusterscorings/status": float(self.scoring.writes),
        }
        works = Counter(map(_work_state, (self._works() or {}).values()))
        info: dict[tuple[tuple[str, str], ...], float] = {
            (("cluster", self._options.cluster), ("version", _version())): 1.0
        }
        found = [
            Metric(f"{prefix}_info", "gauge", "Constant 1, labelled with cluster and version.", info),
            Metric.of(f"{prefix}_hub_up", "gauge", "1 while the hub answers.", float(self.link.up)),
            Metric.of(
                f"{prefix}_hub_failures_total", "counter", "Requests to the hub that failed.", self.link.failures_total
            ),
            Metric.by(
                f"{prefix}_registration", "gauge", "1 for the state it is in.", "state", {self.registration.state: 1}
            ),
            Metric.by(f"{prefix}_works", "gauge", "ManifestWorks by state.", "state", works),
            Metric.by(f"{prefix}_hub_writes_total", "counter", "Writes that the hub took.", "resource", writes),
            Metric.of(
                f"{prefix}_status_writes_skipped_total",
                "counter",
                "Work statuses that needed no write.",
                executor.reporter.skipped if executor else 0,
            ),
            Metric.of(f"{prefix}_lease_failures_total", "counter", "Lease renewals that failed.", self.lease.failures),
            Metric.of(f"{prefix}_log_requests", "gauge", "Log requests being answered.", self.logs.open_requests),
            Metric.of(f"{prefix}_log_requests_total", "counter", "Log requests answered.", self.logs.served),
            Metric.of(f"{prefix}_log_sent_bytes_total", "counter", "Log text sent on request.", self.logs.sent_bytes),
            Metric.of(
                f"{prefix}_failed_tasks_shipped_total",
                "counter",
                "Failed tasks whose last lines were sent.",
                self.shipper.shipped,
            ),
            Metric.by(
                f"{prefix}_room_restarts_total",
                "counter",
                "Restarts of a part of the agent after a crash.",
                "room",
                {name: float(count) for name, count in self.rooms.restarts.items()},
            ),
        ]
        asked: dict[tuple[tuple[str, str], ...], float] = {
            (("reason", reason), ("scorer", scorer)): float(count)
            for (scorer, reason), count in self.scoring.asked.items()
        }
        if asked:
            found.append(
                Metric(f"{prefix}_scorer_requests_total", "counter", "Askings of scorers by how they ended.", asked)
            )
        if ages := self.scoring.ages():
            said = "Since a scorer last gave this cluster a score."
            found.append(Metric.by(f"{prefix}_score_age_seconds", "gauge", said, "scorer", ages))
        if self.lease.age < math.inf:
            found.append(
                Metric.of(
                    f"{prefix}_lease_age_seconds", "gauge", "Since the last renewal that arrived.", self.lease.age
                )
            )
        return found


async def _close(rooms: list[asyncio.Task[None]], stop: StopSignal) -> None:
    """Ends them, whatever they do with being told; who takes long is named and told again."""
    hurry = asyncio.create_task(_tell_when_hurried(rooms, stop))
    patience = CLOSE_SECONDS
    for task in rooms:
        task.cancel()
    while waiting := {task for task in rooms if not task.done()}:
        _, late = await asyncio.wait(waiting, timeout=patience)
        patience = 1.0
        for task in late:
            task.cancel()
        if late:
            names = ", ".join(sorted(task.get_name() for task in late))
            _log.warning("still stopping", extra={"fields": {"rooms": names}})
    hurry.cancel()


async def _tell_when_hurried(rooms: list[asyncio.Task[None]], stop: StopSignal) -> None:
    await stop.hurried.wait()
    for task in rooms:
        task.cancel()


def _work_state(work: Mapping[str, Any]) -> str:
    conditions = (work.get("status") or {}).get("conditions")
    if work["metadata"].get("deletionTimestamp"):
        return "deleting"
    if condition_is(conditions, "Complete"):
        return "complete"
    if condition_is(conditions, "Applied"):
        return "applied"
    return "refused" if condition_is(conditions, "Applied", "False") else "waiting"


@cache
def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("quarterdeck")
    except PackageNotFoundError:
        return "unknown"
