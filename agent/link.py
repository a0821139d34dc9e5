"""The agent's shared opinion of whether the hub answers: the first failure pauses all writers, one success frees them.

So a hub that comes back is met by one try, not by every work's. It does no I/O.
"""

from __future__ import annotations

import asyncio
import logging

from agent.waiting import came
from hub.api.errors import OverloadedError, UnauthorizedError, UnreachableError
from hub.client.backoff import Backoff

# What says nothing about the object that was written: the same write may work a little later.
TRANSIENT = (UnreachableError, OverloadedError, UnauthorizedError)

_log = logging.getLogger("agent.hub")


class HubLink:
    """Shared by everything that writes to the hub: `await ready()` before a write, `failed`/`succeeded` after."""

    def __init__(self, backoff: Backoff | None = None) -> None:
        self._backoff = backoff or Backoff(0.25, 30.0)
        self._paused_until = 0.0
        self._freed = asyncio.Event()
        self.failures_total = 0

    @property
    def up(self) -> bool:
        return self._backoff.failures == 0

    @property
    def pause(self) -> float:
        """Seconds until the hub is to be tried again; 0 when it may be now."""
        return max(0.0, self._paused_until - asyncio.get_running_loop().time())

    async def ready(self) -> None:
        """Returns when the pause is over, or at once when someone else's write got through."""
        while (remaining := self.pause) > 0:
            await came(self._freed, remaining)

    def failed(self, error: Exception) -> None:
        self.failures_total += 1
        now = asyncio.get_running_loop().time()
        if now < self._paused_until:
            return
        if self.up:
            _log.warning(
                "hub does not answer: everything local goes on, reports wait", extra={"fields": {"why": error}}
            )
        self._paused_until = now + self._backoff.next()
        self._freed.clear()

    def succeeded(self) -> None:
        if not self.up:
            _log.info("hub answers again", extra={"fields": {"failures": self._backoff.failures}})
            self._backoff.reset()
        self._paused_until = 0.0
        self._freed.set()
