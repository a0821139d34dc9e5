"""DynamicScorers in the hub: which there are, when each is told what to ask, and what becomes of answers.

Everything happens in the hub's loop, on news: an object, a cluster, a mask, a scorer's own configuration, an answer.
Of a scorer whose object or configuration cannot be read any more the last that could is asked. Asking is
hub/controllers/scorer_runner.py, what is asked about whom is scorer_planning.py and scorer_roster.py, what follows from
answers is scorer_feeding.py; scorers that agents ask are scorer_orders.py and scorer_reports.py.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any

from hub.api.errors import InvalidObjectError
from hub.api.reasons import Reason
from hub.asking.access import Access
from hub.asking.answer import ScorerAnswer
from hub.asking.http import ScorerHttp
from hub.asking.trouble import ScorerTrouble
from hub.client.interface import KubeApi
from hub.controllers.pushed_metrics import PushedMetrics
from hub.controllers.scorer_delivery import ScorerDelivery
from hub.controllers.scorer_feeding import TOGETHER, ScorerFeeding
from hub.controllers.scorer_metrics import ScorerMetrics
from hub.controllers.scorer_orders import ScorerOrders
from hub.controllers.scorer_planning import ScorerPlanning
from hub.controllers.scorer_publishing import ScorerPublishing
from hub.controllers.scorer_reports import ScorerReports
from hub.controllers.scorer_roster import ScorerRoster, key_of
from hub.controllers.scorer_round import Asks
from hub.controllers.scorer_runner import ScorerRunner
from hub.controllers.scorer_state import Key, ScorerState
from hub.controllers.scorer_telling import ScorerTelling
from hub.controllers.world import World
from hub.controllers.writes import Writes
from hub.placement.scorer_targets import column_name
from hub.scoring.dynamic.document import ScorerDocument
from hub.scoring.dynamic.plan import ScorerPlan
from hub.scoring.dynamic.spec import parse_scorer
from hub.scoring.interface import WeightedScorer

Json = dict[str, Any]


class DynamicScoring:
    """`start` when this hub leads, `stop` when it does not. `on_change`: a plan could differ."""

    def __init__(
        self,
        api: KubeApi,
        world: World,
        writes: Writes,
        metrics: ScorerMetrics,
        access: Access,
        *,
        now: Callable[[], float] = time.time,
        on_change: Callable[[], None],
        sync_every: float = 30.0,
        at_once: int = 8,
    ) -> None:
        self._api, self._metrics = api, metrics
        self._access, self._now, self._on_change = access, now, on_change
        self._sync_every, self._at_once = sync_every, at_once
        self.states: dict[Key, ScorerState] = {}
        self.publishing = ScorerPublishing(self.states, writes, now, metrics.sent, self._tell)
        self._telling = ScorerTelling(writes, now)
        self._feeding = ScorerFeeding(self.states, world, self.publishing, self._telling, now, on_change)
        self.roster = ScorerRoster(self.states, world, self._telling, self._retarget_soon)
        self.pushed = PushedMetrics(self.roster.pushed_metrics, now)
        self._planning = ScorerPlanning(self.states, self.roster, world)
        self._orders = ScorerOrders(self.roster, writes)
        self._reports = ScorerReports(self.states, self.roster, self.answered, now)
        self._delivery = ScorerDelivery(api, self.states, self.roster, writes)
        metrics.watch(self.states, now)
        self._runners: dict[Key, ScorerRunner] = {}
        self._http: ScorerHttp | None = None
        self._stopping: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        if self._http is None:
            self._http = ScorerHttp(self._access)
            self._telling.start()
            self._feeding.start()
            for key in self.states:
                self._run(key)
            self.publishing.start()
            self._delivery.start()
            self._orders.start()
            self._retarget()
            self.roster.announce()

    @property
    def running(self) -> bool:
        """Whether scorers are asked here."""
        return self._http is not None

    async def run(self) -> None:
        """Nothing of it outlives this."""
        try:
            await asyncio.Event().wait()
        finally:
            self.stop()

    def stop(self) -> None:
        """Returns at once; what is on its way is given up."""
        http, runners, self._http, self._runners = self._http, list(self._runners.values()), None, {}
        self.publishing.stop()
        self._delivery.stop()
        self._orders.stop()
        self._feeding.stop()
        if http is not None:
            self._finally(self._end(runners, http))

    async def closed(self) -> None:
        """Waits until everything that was stopped has ended."""
        await asyncio.gather(*self._stopping, return_exceptions=True)

    # What others ask.

    def scorers(self) -> tuple[WeightedScorer, ...]:
        """What orders clusters, by name."""
        return tuple(entry for _, entry in sorted(self._planning.scorers.items()))

    def ages(self) -> dict[str, float]:
        """Seconds since each last gave a score."""
        now = self._now()
        lasts = {column_name(s.plan.score): s.values.last() for s in self.states.values() if s.plan is not None}
        return {name: now - last for name, last in lasts.items() if last is not None}

    def coverage(self) -> dict[str, float]:
        """For what part of the clusters it is about each has a value that counts (0–1)."""
        now = self._now()
        return {
            column_name(state.plan.score): len(state.values.fresh(now)) / max(1, len(state.concerned))
            for state in self.states.values()
            if state.plan is not None
        }

    # News.

    def scorer_seen(self, obj: Json) -> None:
        key = key_of(obj)
        state = self.states.get(key)
        if state is None:
            state = self.states[key] = ScorerState(obj)
            self._run(key)
        elif state.obj.get("spec") == obj.get("spec"):
            state.obj = obj
            return
        state.obj = obj
        try:
            spec = parse_scorer(obj.get("spec"))
        except InvalidObjectError as error:
            state.unreadable = str(error)
            self._telling.scorer(key, self.states[key])
            return
        before, state.spec, state.unreadable = state.spec, spec, ""
        if before is not None and (before.config_url, before.full) != (spec.config_url, spec.full):
            # What another scorer said of itself.
            state.document, state.healthy, state.sync_trouble = None, None, None
        runner = self._runners.get(key)
        if runner is not None:
            self._instruct(key, runner)
        self._retarget_soon()
        self.roster.policy_said(key)

    def scorer_gone(self, namespace: str, name: str) -> None:
        key = (namespace, name)
        self.states.pop(key, None)
        runner = self._runners.pop(key, None)
        if runner is not None:
            self._finally(runner.stop())
        self._telling.forget(key)
        self._feeding.forget(key)
        self._reports.forget(key)
        self.roster.forget(key)
        self._metrics.forget(key)
        self._retarget_soon()
        self.roster.policy_said(key)

    def scoring_seen(self, obj: Json, *, gone: bool) -> None:
        """A ClusterScoring: what an agent is told, and what it was answered."""
        self._orders.seen(obj, gone=gone)
        self._reports.seen(obj, gone=gone)

    # What a scorer says.

    def synced(self, key: Key, document: ScorerDocument | None, trouble: ScorerTrouble | None) -> None:
        state = self.states.get(key)
        if state is None:
            return
        same = (state.healthy, state.document) == (trouble is None, state.document if trouble else document)
        state.healthy, state.sync_trouble = trouble is None, trouble
        if trouble is None:
            if state.synced_at is None or document != state.document:
                state.synced_at = self._now()
            state.document = document
        if not same:
            self._retarget_soon()
        self._telling.scorer(key, self.states[key])

    def answered(
        self, key: Key, cluster: str, plan: ScorerPlan, outcome: ScorerAnswer | ScorerTrouble, at: float | None = None
    ) -> None:
        """`at`: when that was, epoch seconds; None: now."""
        state = self.states.get(key)
        if state is None or state.plan != plan or cluster not in state.concerned:
            return
        changed = False
        if isinstance(outcome, ScorerAnswer):
            clamped = state.values.clamped
            changed = state.values.take(cluster, plan, outcome, self._now() if at is None else at)
            self._metrics.cut(key, state.values.clamped - clamped, outcome.dropped)
            state.troubles.pop(cluster, None)
            if outcome.complaints:
                detail = f"{outcome.dropped} results dropped: {'; '.join(outcome.complaints)}"
                state.troubles[cluster] = ScorerTrouble(Reason.SCORE_NOT_A_NUMBER, detail)
        else:
            state.troubles[cluster] = outcome
            if outcome.reason is Reason.SCORER_NO_RESULTS:
                changed = state.values.none(cluster)
        self._metrics.asked(key, plan.score, outcome if isinstance(outcome, ScorerTrouble) else None)
        self._feeding.changed(key)
        self._feeding.feed_soon()
        if changed:
            self._feeding.plan_soon()

    # Who is asked what.

    def _run(self, key: Key) -> None:
        if self._http is None:
            return
        asks = Asks(
            self._api,
            key[0],
            self._http,
            _Reports(self, key),
            self._metrics.observer(key, lambda: self._score_of(key)),
            self._now,
            self._access,
            self.pushed.series,
        )
        runner = ScorerRunner(asks, sync_every=self._sync_every, at_once=self._at_once)
        self._runners[key] = runner
        self._instruct(key, runner)
        runner.start()

    def _instruct(self, key: Key, runner: ScorerRunner) -> None:
        state = self.states[key]
        runner.set_spec(state.spec, lambda: state.policy.tls)

    def _score_of(self, key: Key) -> str:
        state = self.states.get(key)
        return state.plan.score if state is not None and state.plan is not None else ""

    def _retarget_soon(self) -> None:
        if self._http is not None:
            self._feeding.later("retarget", TOGETHER, self._retarget)

    def _retarget(self) -> None:
        """Everybody is told what follows from what is known now. What stays equal is left alone."""
        moved, news = self._planning.look()
        for key in moved:
            self._feeding.changed(key)
        for key, runner in self._runners.items():
            runner.retarget(self.roster.assignment(self.states[key]))
        self._delivery.wake()
        self._orders.wake()
        self._reports.again(moved)
        self.publishing.wake()
        if news or self._feeding.anything:
            self._feeding.feed()
            self._on_change()

    def _tell(self, key: Key) -> None:
        state = self.states.get(key)
        if state is not None:
            self._telling.scorer(key, state)

    def _finally(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._stopping.add(task)
        task.add_done_callback(self._stopping.discard)

    @staticmethod
    async def _end(runners: list[ScorerRunner], http: ScorerHttp) -> None:
        await asyncio.gather(*(runner.stop() for runner in runners), return_exceptions=True)
        await http.close()


class _Reports:
    """What one runner says, with whose it is."""

    def __init__(self, scoring: DynamicScoring, key: Key) -> None:
        self._scoring, self._key = scoring, key

    def synced(self, document: ScorerDocument | None, trouble: ScorerTrouble | None) -> None:
        self._scoring.synced(self._key, document, trouble)

    def answered(self, cluster: str, plan: ScorerPlan, outcome: ScorerAnswer | ScorerTrouble) -> None:
        self._scoring.answered(self._key, cluster, plan, outcome)
