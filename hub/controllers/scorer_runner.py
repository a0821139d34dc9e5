"""One scorer's two loops: its configuration is looked at, its clusters are asked about. It waits for nobody else.

A change of what is to be asked ends the round that is on its way and begins the next at once, in the same loop, so that
nothing is ever asked twice at once. A scorer that does not answer is not asked about its other clusters, and then ever
less often, first about one cluster. What becomes of answers is hub/controllers/dynamic_scoring.py.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import Any

from hub.api.errors import InvalidObjectError
from hub.api.reasons import Reason
from hub.asking.http import Certificates, ScorerHttp, place
from hub.asking.pace import due, pause, sync_pause
from hub.asking.secrets import ScorerSecrets
from hub.asking.trouble import ScorerTrouble
from hub.controllers.logs import logger
from hub.controllers.scorer_round import Asks, Assignment, ScorerRound
from hub.scoring.dynamic.document import ScorerDocument, read_document
from hub.scoring.dynamic.spec import ScorerSpec

_log = logger(__name__)


class ScorerRunner:
    """`start` and `stop`; `retarget` (None: nobody is asked) at any time."""

    def __init__(
        self,
        asks: Asks,
        *,
        sync_every: float,
        at_once: int,
    ) -> None:
        self._asks = asks
        self._sync_every = sync_every
        self._spec: ScorerSpec | None = None
        self._tls_of: Callable[[], Any] = lambda: None
        self._sync_now, self._news = asyncio.Event(), asyncio.Event()
        self._assignment: Assignment | None = None
        self._asked: dict[str, float] = {}
        self._failures = 0
        self._not_before = 0.0
        # Who is being asked now; who had trouble last time, which was not the scorer's.
        self._flying: set[str] = set()
        self._suspects: set[str] = set()
        self._rounds: set[asyncio.Task[None]] = set()
        self._generation = 0
        self._at_once = at_once
        self._lanes = self._free_lanes()
        self._syncing: asyncio.Task[bool] | None = None
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        self._tasks = [
            asyncio.create_task(self._forever(self._sync_loop), name="scorer's configuration"),
            asyncio.create_task(self._forever(self._score_loop), name="scorer's scores"),
        ]

    async def stop(self) -> None:
        tasks = [*self._tasks, *self._rounds, *([self._syncing] if self._syncing is not None else ())]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._tasks = []

    def set_spec(self, spec: ScorerSpec | None, tls_of: Callable[[], Any]) -> None:
        """Where its configuration is. `tls_of()` is the policy's tls now."""
        self._tls_of = tls_of
        if spec != self._spec:
            self._spec = spec
            self._sync_now.set()
            if self._syncing is not None:
                self._syncing.cancel()

    def retarget(self, assignment: Assignment | None) -> None:
        """What is on its way to an old question is given up when the question changes, not when a cluster comes."""
        before, self._assignment = self._assignment, assignment
        if before == assignment:
            return
        if before is None or assignment is None or before.plan != assignment.plan:
            self._asked.clear()
            self._failures, self._not_before = 0, 0.0
            self._give_up_rounds()
        else:
            changed = {name for name in self._asked if assignment.routes.get(name) != before.routes.get(name)}
            for name in changed:
                del self._asked[name]
        self._news.set()

    async def _forever(self, loop: Callable[[], Any]) -> None:
        while True:
            try:
                await loop()
            except Exception:
                _log.exception("a scorer's loop failed and starts again")
                await asyncio.sleep(1.0)

    # Its configuration.

    async def _sync_loop(self) -> None:
        failures = 0
        while True:
            self._sync_now.clear()
            spec = self._spec
            if spec is not None:
                self._syncing = asyncio.create_task(self._sync(spec))
                await asyncio.wait([self._syncing])
                if self._syncing.cancelled():
                    # Of an address that nobody names any more.
                    failures = 0
                    continue
                failures = 0 if self._syncing.result() else failures + 1
            await _wait(self._sync_now, None if spec is None else sync_pause(failures, self._sync_every))

    async def _sync(self, spec: ScorerSpec) -> bool:
        began = asyncio.get_running_loop().time()
        document, trouble = None, None
        try:
            policy = self._assignment.plan.timeout if self._assignment is not None else 30.0
            timeout = min(policy, max(self._sync_every, 1.0))
            tls = await ScorerSecrets(self._asks.api, self._asks.namespace).certificates(self._tls_of())
            document = await read_configuration(self._asks.http, spec, timeout, tls)
        except ScorerTrouble as error:
            trouble = error
        self._asks.observe("config", asyncio.get_running_loop().time() - began, trouble)
        self._asks.reports.synced(document, trouble)
        return trouble is None

    # Its scores.

    async def _score_loop(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            self._news.clear()
            assignment, wait = self._assignment, None
            if assignment is not None:
                for name in self._asked.keys() - assignment.routes.keys():
                    del self._asked[name]
                free = assignment.routes.keys() - self._flying
                now = loop.time()
                batch, wait = due(free, self._asked, assignment.plan.interval, now, self._not_before)
                if self._failures:
                    # One cluster shows whether the scorer is back; the others are due still.
                    batch, wait = ([], None) if self._flying else (batch[:1], wait)
                if batch:
                    self._begin(assignment, batch, now)
                    continue
            await _wait(self._news, wait)

    def _begin(self, assignment: Assignment, batch: Sequence[str], now: float) -> None:
        """In two rounds, so that clusters whose Prometheus hangs hold up only each other."""
        self._asked.update(dict.fromkeys(batch, now))
        self._flying.update(batch)
        sound = [name for name in batch if name not in self._suspects]
        suspect = [name for name in batch if name in self._suspects]
        for lane, clusters in zip(self._lanes, (sound, suspect), strict=True):
            if clusters:
                task = asyncio.create_task(self._ask(assignment, clusters, lane, now))
                self._rounds.add(task)
                task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._rounds.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("asking a scorer failed", exc_info=error)
        self._news.set()

    def _give_up_rounds(self) -> None:
        for task in self._rounds:
            task.cancel()
        self._flying.clear()
        self._generation += 1
        # A question that was given up before it began gives its place back to nobody.
        self._lanes = self._free_lanes()

    def _free_lanes(self) -> tuple[asyncio.Semaphore, asyncio.Semaphore]:
        return asyncio.Semaphore(self._at_once), asyncio.Semaphore(self._at_once)

    async def _ask(
        self, assignment: Assignment, clusters: Sequence[str], lane: asyncio.Semaphore, began: float
    ) -> None:
        round_, generation = ScorerRound(self._asks, assignment, clusters), self._generation
        try:
            await round_.ask(lane)
        finally:
            # A round that was given up has left the set of those in flight to its successors.
            if generation == self._generation:
                self._flying.difference_update(clusters)
                self._suspects.difference_update(clusters)
                self._suspects |= round_.troubled
        if generation != self._generation:
            return
        if round_.broken:
            self._failures += 1
            self._not_before = began + pause(self._failures, assignment.plan.interval)
            round_.give_up()
        elif round_.answers:
            self._failures, self._not_before = 0, 0.0


async def _wait(event: asyncio.Event, seconds: float | None) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()


async def read_configuration(
    http: ScorerHttp, spec: ScorerSpec, timeout: float, tls: Certificates | None
) -> ScorerDocument | None:
    """What the scorer serves at configURL; None in mode None, where /healthz answers. Raises `ScorerTrouble`."""
    if not spec.full:
        url = f"{spec.origin}/healthz"
        reply = await http.get(url, timeout, tls=tls)
        if reply.status != 200:
            raise ScorerTrouble(Reason.SCORER_INACTIVE, f"{url} answers {reply.status}")
        return None
    reply = await http.get(spec.config_url, timeout, tls=tls)
    try:
        # As the framework has it the status does not matter where the document is one.
        return read_document(reply.json(place(spec.config_url)))
    except ScorerTrouble as error:
        if reply.status == 200:
            raise
        raise ScorerTrouble(Reason.SCORER_INACTIVE, f"{spec.config_url} answers {reply.status}") from error
    except InvalidObjectError as error:
        if reply.status != 200:
            raise ScorerTrouble(Reason.SCORER_INACTIVE, f"{spec.config_url} answers {reply.status}") from error
        raise ScorerTrouble(Reason.SCORER_CONFIG_INVALID, f"{spec.config_url}: {error}") from error
