"""The hub as one object: everything wired together, and what happens when it leads, stops leading, or ends.

A standby runs all informers and decides nothing. Becoming leader means: the API is listed once more where another hub
may have written meanwhile, jobs before works, so that nothing it did is unknown; then every job is looked at. Nothing
is written before that, and nothing any more once the lead is lost.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import replace
from typing import Any, Final

from hub.api import names
from hub.api.errors import QuarterdeckError
from hub.api.resource import FLEET_JOBS, JOBS, LOCAL_QUEUES, MANIFEST_WORKS, WORKLOADS
from hub.client.backoff import Backoff
from hub.client.elector import Elector
from hub.client.interface import KubeApi
from hub.client.patcher import Patcher
from hub.client.session import Session
from hub.controllers.config import HubConfig
from hub.controllers.cycle import Cycle
from hub.controllers.deciding import Deciding
from hub.controllers.delivery import Delivery
from hub.controllers.dynamic_scoring import DynamicScoring
from hub.controllers.events import Events
from hub.controllers.evicting import Evicting
from hub.controllers.experience import SliceRecord
from hub.controllers.foreign import Foreign
from hub.controllers.garbage import REQUEST_KEPT, Garbage
from hub.controllers.holdings import Holdings
from hub.controllers.idle import IdleWatch
from hub.controllers.in_use import InUse
from hub.controllers.lifecycle import Lifecycle
from hub.controllers.limits import Limits
from hub.controllers.logs import logger
from hub.controllers.looking import Looking
from hub.controllers.metrics import HubMetrics
from hub.controllers.mirror import Mirror
from hub.controllers.past_usage import WATCHED, PastUsage, read_past
from hub.controllers.placements import PlacementKeeper
from hub.controllers.plugin_status import PluginStatus
from hub.controllers.publishing import Publishing
from hub.controllers.queue_status import QueueStatus
from hub.controllers.registrar import Registrar
from hub.controllers.scores import Scores
from hub.controllers.seen import read_job, read_work, read_workload
from hub.controllers.source_clients import Access, SourceClients
from hub.controllers.table import JobEntry, JobTable
from hub.controllers.telling import Telling
from hub.controllers.tempo import Tempo
from hub.controllers.watching import Watching
from hub.controllers.workload_mirror import WorkloadMirror
from hub.controllers.world import World
from hub.controllers.writes import Writes
from hub.planner.backlog import Heads
from hub.planner.kueue import KueuePlanner
from hub.queueing.demand import Demand
from hub.queueing.kueue.history import LocalKey, Past
from hub.registration.heartbeats import Heartbeats

_log = logger(__name__)
_LIFECYCLE_AFTER: Final = 2.0
"""kopf takes a second of CPU to load: that is spent when the first jobs are on their way."""
_SETTLE: Final = 0.04
_FLUSH: Final = 3.0
_AGAIN: Final = 1.0
_IDLE_TIMEOUT: Final = 10.0


class Hub:
    """`run()` until cancelled or `stop()`. `connect` makes sessions for the lifecycle's thread; None: it does not run.

    `now` is epoch seconds, `monotonic` the clock by which clusters' silence is measured.
    """

    def __init__(
        self,
        api: KubeApi,
        config: HubConfig,
        *,
        identity: str,
        connect: Callable[[], Session] | None = None,
        metrics: HubMetrics | None = None,
        now: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        request_kept: float = REQUEST_KEPT,
    ) -> None:
        self.metrics = metrics or HubMetrics()
        self.config = config
        self.ready = asyncio.Event()
        self.leading = asyncio.Event()
        self._api, self._now = api, now
        clock = asyncio.get_running_loop().time
        timing = config.leadership
        self.elector = Elector(
            api,
            names.HUB_NAMESPACE,
            names.HUB_LEASE,
            identity,
            lease_duration=timing.lease,
            renew_deadline=timing.renewDeadline,
            retry_period=timing.retry,
            on_started=self._on_started,
            on_stopped=self._on_stopped,
            clock=monotonic,
        )
        self.patcher = Patcher(api, concurrency=config.writers)
        self.writes = Writes(self.patcher, self._may_decide, self.metrics)
        self.table = JobTable()
        self.world = World()
        self.holdings = Holdings(self.world)
        self.tempo = Tempo(clock)
        self.delivery = Delivery(self.table, self.world, self.writes, clock)
        self.events = Events(self.writes, identity, clock, now)
        self._telling = Telling(self.events, self.table.entries.get)
        self.garbage = Garbage(api, self.table, self.delivery, self.writes, clock, now, request_kept=request_kept)
        self.scores = Scores(
            self.world,
            self.writes,
            config.scorers,
            now=now,
            on_change=self._scores_changed,
            watcher=self._scorer_called,
        )
        self.dynamic = DynamicScoring(
            api,
            self.world,
            self.writes,
            self.metrics.dynamic,
            Access(config.sources.allow, config.sources.tokens),
            now=now,
            on_change=self._scores_changed,
            sync_every=config.scorers.dynamic.sync,
            at_once=config.scorers.dynamic.atOnce,
        )
        self.scores.others = self.dynamic
        self.slices = SliceRecord(self.world.note, now)
        self.plugin_status = PluginStatus(api, self.writes, self.scores.installed, leads=self._may_decide, now=now)
        self.publishing = Publishing(
            self.scores, self.world, self.writes, config.scorers.publish, now, self.metrics.publish_seconds.observe
        )
        queue, policy = config.queue, config.queue.policy
        remembers = queue.settings.history
        self.past_usage = PastUsage(remembers or WATCHED, now)
        self._sampling = remembers.sampling if remembers is not None and remembers.half_life > 0 else None
        kueue = KueuePlanner(replace(queue.settings, block=False), self.past_usage.history)
        evicting = Evicting(self.table, self.writes, self.metrics, now, self._telling.told_to_go)
        self.idle = self._idle_watch(policy.notice) if queue.idle is not None else None
        self.limits = Limits(self.world, queue.ready, policy.notice, now, self.idle)
        self.looking = Looking(
            self.table,
            self.world,
            self.holdings,
            self.delivery,
            evicting,
            self.limits,
            Mirror(self.table, self.writes, self.tempo, clock, now),
            WorkloadMirror(self.table, self.world, self.writes, self.tempo, clock, now, waits=queue.ready is not None),
            self.tempo,
            self.metrics,
            now=now,
            on_change=lambda: self.cycle.changed(),
            on_orphan=self._orphaned,
            on_state=self._on_state,
            on_demand=self._asked,
        )
        self.foreign = Foreign(self.world, self.writes, now=now, on_change=lambda: self.cycle.decide_again())
        self.deciding = Deciding(
            self.table,
            self.world,
            self.holdings,
            self.delivery,
            evicting,
            self.limits,
            self.looking,
            self.foreign,
            self.tempo,
            self.metrics,
            planner=kueue.plan if queue.mode == "kueue" else Heads().plan,
            policy=policy,
            block=queue.ready is not None and queue.ready.block,
            now=now,
        )
        self.cycle = Cycle(
            self.table,
            self.world,
            self.looking,
            self.deciding,
            self.metrics,
            may_decide=self._may_decide,
            config=config.cycle,
            now=now,
            on_turn=self._on_turn,
            on_looked=lambda: self.in_use.look(),
        )
        self.table.on_mark = self.cycle.wake
        self.registrar = Registrar(
            self.writes,
            config.autoAccept.rule,
            Heartbeats(config.leases.grace),
            clock=monotonic,
            now=now,
            leads=self._may_decide,
            heard_api=lambda: self.elector.renewed_at,
            gap=timing.retry * 2 + 1.0,
            finalizers=(names.HUB_FINALIZER,) if connect is not None and config.lifecycle else (),
        )
        self.world.on_problems = self.registrar.problems_seen
        self.placements = PlacementKeeper(
            self.world,
            self.writes,
            self.events,
            now=now,
            leads=self._may_decide,
            on_decided=self._placement_decided,
            observe=self.metrics.placement_seconds.observe,
        )
        self.watching = Watching(
            api, self.table, self.world, self.cycle, self.placements,
            self.registrar, self.garbage, self.scores, self.publishing, self.dynamic, self.foreign,
        )  # fmt: skip
        self.queue_status = QueueStatus(
            self.table, self.foreign, self.world, self.holdings, self.writes, self.watching.store, now,
            fair=policy.fair, past=self.past if self._sampling is not None else None,
        )  # fmt: skip
        self.in_use = InUse(self.world, self.holdings, self.foreign, self.writes, self.watching.store)
        self.lifecycle = (
            Lifecycle(connect, busy=lambda: self.tempo.busy) if connect is not None and config.lifecycle else None
        )
        self._deciding = False
        self._first_term = 0
        self._stopping = asyncio.Event()
        self._taking_over: asyncio.Task[None] | None = None
        self._lifecycle_timer: asyncio.TimerHandle | None = None

    def now(self) -> float:
        """Epoch seconds, by the clock that it decides by."""
        return self._now()

    def announce(self, url: str) -> None:
        """Where its pages are (hub/controllers/debug_server.py), said in the Lease while it leads. Before `run`."""
        self.elector.annotations = {names.DEBUG_URL: url}

    def stop(self) -> None:
        """Ends `run` in order: nothing new is decided, what is decided is written, the lead is given up."""
        self._stopping.set()

    async def run(self) -> None:
        # Asked before anything is listed: who leads from then on has missed nothing of what it lists.
        timeout = self.config.leadership.renewDeadline / 2
        with contextlib.suppress(QuarterdeckError, TimeoutError):
            async with asyncio.timeout(timeout):
                await self.elector.step()
        if self.elector.is_leader:
            self._first_term = self.elector.term
        async with asyncio.TaskGroup() as tasks:
            running = [
                tasks.create_task(self._keep(f"watch {informer.resource.plural}", informer.run))
                for informer in self.watching.informers
            ]
            running.append(tasks.create_task(self.elector.run(), name="elector"))
            await self._first(self.watching.synced())
            if not self._stopping.is_set():
                prometheus = self.config.prometheus
                self.scores.start(
                    prometheus.url if prometheus else "",
                    prometheus.interval if prometheus else 15.0,
                    Access(self.config.sources.allow, self.config.sources.tokens),
                )
                self.deciding.scorers = self.scores.scorers()
                self.past()
                self.ready.set()
                _log.info("everything is known", jobs=len(self.table), clusters=len(self.world.clusters))
                rooms: dict[str, Callable[[], Coroutine[Any, Any, None]]] = {
                    "cycle": self.cycle.run,
                    "registrar": self.registrar.run,
                    "placements": self.placements.run,
                    "garbage": self.garbage.run,
                    "publishing": self.publishing.run,
                    "plugin status": self.plugin_status.run,
                    "dynamic scorers": self.dynamic.run,
                    "queue status": self.queue_status.run,
                    "lag": self._measure_lag,
                    "past usage": self._measure_usage,
                    **({"idle": self.idle.run} if self.idle is not None else {}),
                }
                running += [tasks.create_task(self._keep(name, run)) for name, run in rooms.items()]
                if not self.elector.is_leader:
                    # The API may have come back only now: its next look at the Lease need not be waited for.
                    with contextlib.suppress(QuarterdeckError, TimeoutError):
                        async with asyncio.timeout(timeout):
                            await self.elector.step()
                if self.elector.is_leader:
                    self._on_started(self.elector.term)
            await self._stopping.wait()
            await self._wind_down(running)

    async def _keep(self, name: str, run: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """`run` until cancelled: an error of our own in one room is logged, and the room opens again."""
        while True:
            try:
                await run()
                return
            except Exception:
                self.metrics.room_failures.labels(name).inc()
                _log.exception("a part of the hub failed and starts again", part=name)
                await asyncio.sleep(_AGAIN)

    async def _first(self, what: Coroutine[Any, Any, None]) -> None:
        """`what`, unless it is to end before."""
        done = asyncio.ensure_future(what)
        stopping = asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait({done, stopping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (done, stopping):
                task.cancel()

    async def _wind_down(self, running: list[asyncio.Task[Any]]) -> None:
        if self._lifecycle_timer is not None:
            self._lifecycle_timer.cancel()
        if self.lifecycle is not None:
            self.lifecycle.stop()
        self.scores.stop()
        self.dynamic.stop()
        self.slices.stop()
        self.cycle.closing = self.writes.closing = True
        if self._may_decide():
            await self._settle()
        elector = next(task for task in running if task.get_name() == "elector")
        for task in running:
            if task is not elector:
                task.cancel()
        await self.dynamic.closed()
        await self.patcher.stop(_FLUSH)
        elector.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        if self._taking_over is not None:
            self._taking_over.cancel()

    async def _settle(self) -> None:
        """What is on its way is answered, and what the answers ask for is written, too."""
        for _ in range(3):
            self.cycle.wake()
            await asyncio.sleep(_SETTLE)

    # Leading.

    def _may_decide(self) -> bool:
        return self._deciding and self.elector.is_leader

    def _on_started(self, term: int) -> None:
        self.metrics.leader.set(1)
        if self.ready.is_set() and (self._taking_over is None or self._taking_over.done()):
            self._taking_over = asyncio.get_running_loop().create_task(self._take_over(term))

    def _on_stopped(self) -> None:
        self._deciding = False
        self.leading.clear()
        self.metrics.leader.set(0)
        self.registrar.stand_by()
        self.placements.stand_by()
        self.dynamic.stop()
        if self._lifecycle_timer is not None:
            self._lifecycle_timer.cancel()
        if self.lifecycle is not None:
            self.lifecycle.stop()

    async def _take_over(self, term: int) -> None:
        backoff = Backoff(0.1, 2.0)
        while term != self._first_term:
            try:
                await self._catch_up()
                break
            except QuarterdeckError as error:
                _log.warning("cannot take over yet", why=str(error))
            except Exception:
                # To lead and decide nothing for good would be the worst of all.
                _log.exception("cannot take over yet")
            await asyncio.sleep(backoff.next())
            if not self.elector.is_leader:
                return
        if not (self.elector.is_leader and self.elector.term == term):
            return
        # Good for the first term only: after a gap somebody else may have led.
        self._first_term = 0
        for entry in self.table:
            entry.assumed.clear()
            entry.evicting.clear()
            entry.said = entry.workload_said = ()
            entry.unsaid_since = entry.workload_since = entry.trouble = None
            entry.workload_asked, entry.pause_until, entry.pauses = False, 0.0, 0
        self._deciding = True
        self.leading.set()
        self.registrar.take_over()
        self.placements.take_over()
        self.dynamic.start()
        self.garbage.take_over()
        self.table.mark_all()
        self.foreign.take_over()
        self.in_use.take_over()
        self.cycle.decide_again()
        if self.lifecycle is not None:
            loop = asyncio.get_running_loop()
            self._lifecycle_timer = loop.call_later(_LIFECYCLE_AFTER, self.lifecycle.start)

    async def _catch_up(self) -> None:
        """What another hub wrote, as the API has it now. Works last: they must be at least as new as the statuses."""
        for resource, selector in ((FLEET_JOBS, ""), (JOBS, names.QUEUE_NAME)):
            for obj in (await self._api.list(resource, label_selector=selector)).items:
                meta = obj["metadata"]
                entry = self.table.named(resource.kind, str(meta.get("namespace") or ""), str(meta["name"]))
                seen = read_job(obj, entry.seen if entry is not None else None)
                if seen is not None:
                    self.table.job_seen(seen)
        for obj in (await self._api.list(WORKLOADS, label_selector=names.KUEUE_JOB_UID)).items:
            self.table.workload_seen(read_workload(obj))
        for obj in (await self._api.list(MANIFEST_WORKS, label_selector=names.JOB_UID)).items:
            work = read_work(obj)
            if work is not None:
                self.table.work_seen(work)

    # What the cycle says.

    def _on_turn(self) -> None:
        self.foreign.refresh()
        self.queue_status.news()

    def _on_state(self, entry: JobEntry) -> None:
        self.slices.job_state(entry)
        self._telling.job_state(entry)
        self.garbage.job_state(entry)

    def _orphaned(self, entry: JobEntry) -> None:
        self.slices.job_gone(entry.uid)
        self._telling.forget(entry.uid)
        self.garbage.orphan(entry)

    def _scores_changed(self) -> None:
        self.deciding.scorers = self.scores.scorers()
        self.cycle.decide_again()
        self.placements.wake()

    def _placement_decided(self, namespace: str, name: str, clusters: tuple[str, ...]) -> None:
        self.dynamic.roster.placement_decided(namespace, name, clusters)
        if self.world.placement_decided(namespace, name, clusters):
            self.table.mark_open()
            self.cycle.wake()

    def _asked(self, demand: Demand) -> None:
        if self.scores.asked(demand.shape, demand.waiting):
            # For the decision that follows; what is placed already stays where it is.
            self.deciding.scorers = self.scores.scorers()

    def _scorer_called(self, scorer: str, seconds: float, problem: str) -> None:
        self.metrics.scorer_seconds.labels(scorer).observe(seconds)
        if problem:
            self.metrics.scorer_failures.labels(scorer).inc()

    def _idle_watch(self, notice: float) -> IdleWatch:
        config = self.config
        assert config.queue.idle is not None, "asked only where somebody watches"
        url = config.prometheus.url if config.prometheus is not None else ""
        clients = SourceClients(url, Access(config.sources.allow, config.sources.tokens), clusters=lambda name: ())
        return IdleWatch(
            config.queue.idle,
            lambda promql: clients.vector(promql, _IDLE_TIMEOUT),
            lambda: self.holdings.slices if self._deciding else (),
            notice,
            self._now,
            on_idle=self._telling.idle,
            on_change=self.table.mark,
        )

    def past(self) -> Mapping[LocalKey, Past]:
        """What LocalQueues used before, as of now."""
        self.past_usage.restore(read_past(self.watching.store(LOCAL_QUEUES).values()))
        if self._deciding:
            self.past_usage.look(self.holdings.slices)
        return self.past_usage.past

    async def _measure_usage(self) -> None:
        """Past usage fades also when nothing happens."""
        while self._sampling:
            await asyncio.sleep(max(self._sampling, 1.0))
            self.past()
            if self._may_decide():
                self.queue_status.write()

    async def _measure_lag(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            before = loop.time()
            await asyncio.sleep(1.0)
            self.metrics.loop_lag.set(max(0.0, loop.time() - before - 1.0))
