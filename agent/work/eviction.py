"""Records of works that the hub no longer has: kept for a grace period, then swept.

A hub that is rebuilt or moved must not cost the workloads, so nothing goes at first sight; and nothing is judged before
the hub's list of works has been seen. Records of other agents are not ours to touch.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from agent.waiting import came
from agent.work.applied import AppliedWorks
from agent.work.removal import Remover
from hub.api.errors import NotFoundError, QuarterdeckError
from hub.api.timestamps import format_time, parse_time

_log = logging.getLogger("agent.work.eviction")
_PASS_SECONDS = 30.0
_SWEEP_SECONDS = 1.0


class Evictor:
    def __init__(
        self,
        applied: AppliedWorks,
        remover: Remover,
        has_work: Callable[[object], bool],
        *,
        grace: float,
        now: Callable[[], datetime],
    ) -> None:
        self._applied = applied
        self._remover = remover
        self._has_work = has_work
        self._grace = grace
        self._now = now
        self._wake = asyncio.Event()

    def wake(self) -> None:
        self._wake.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self._wake.clear()
            delay = _PASS_SECONDS
            for record in self._applied.strays(self._has_work):
                try:
                    delay = min(delay, await self._judge(record))
                except NotFoundError:
                    self._applied.seen(record, deleted=True)
                except QuarterdeckError as error:
                    fields = {"record": record["metadata"]["name"], "why": error}
                    _log.warning("record not judged", extra={"fields": fields})
            await came(self._wake, max(delay, 0.05))

    async def _judge(self, record: Mapping[str, Any]) -> float:
        """Seconds until this record is worth another look."""
        spec, metadata = record["spec"], record["metadata"]
        if spec.get("agentID") != self._applied.agent_id:
            return _PASS_SECONDS
        work = str(spec.get("manifestWorkName", ""))
        if metadata.get("deletionTimestamp"):
            return _PASS_SECONDS if await self._remover.end_record(record) else _SWEEP_SECONDS
        since = (record.get("status") or {}).get("evictionStartTime")
        if not since:
            _log.info(
                "the hub no longer has this work", extra={"fields": {"work": work, "grace": f"{self._grace:.0f}s"}}
            )
            await self._applied.patch_status(record, {"evictionStartTime": format_time(self._now())})
            return min(_PASS_SECONDS, self._grace)
        left = self._grace - (self._now() - parse_time(since)).total_seconds()
        if left > 0:
            return left
        _log.info("evicting", extra={"fields": {"work": work}})
        await self._applied.delete(record)
        return 0.0
