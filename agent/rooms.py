"""The parts of the agent side by side: one that crashes is started again, later each time, and takes no other with it.

It knows nothing of what they do. A room is a coroutine function that runs until cancelled; one that returns, raises or
cancels itself has crashed.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable

from hub.api.errors import QuarterdeckError
from hub.client.backoff import Backoff

Room = Callable[[], Awaitable[None]]
_log = logging.getLogger("agent.rooms")

# A room that stood this long has recovered: its next crash starts with a short pause again.
_STEADY_SECONDS = 60.0


class Rooms:
    """`restarts` counts by room; `failing` holds, by room, why it is not running at the moment."""

    def __init__(self, *, first_pause: float = 0.5, longest_pause: float = 60.0) -> None:
        self.restarts: Counter[str] = Counter()
        self.failing: dict[str, str] = {}
        self._first, self._longest = first_pause, longest_pause

    async def keep(self, name: str, room: Room) -> None:
        """Runs `room` until this is cancelled."""
        loop = asyncio.get_running_loop()
        task = asyncio.current_task()
        assert task is not None
        backoff = Backoff(self._first, self._longest)
        while True:
            started = loop.time()
            self.failing.pop(name, None)
            try:
                await room()
                why: object = "it ended by itself"
            except asyncio.CancelledError:
                why = "it cancelled itself"
            except QuarterdeckError as error:
                why = f"{error} ({error.hint})" if error.hint else error
            except Exception as error:
                why = f"{type(error).__name__}: {error}"
                _log.exception("a part of the agent crashed", extra={"fields": {"room": name}})
            if task.cancelling():
                # However it ended: it was told to.
                raise asyncio.CancelledError
            if loop.time() - started > _STEADY_SECONDS:
                backoff.reset()
            self.restarts[name] += 1
            self.failing[name] = str(why)
            pause = backoff.next()
            fields = {"room": name, "why": why, "in": f"{pause:.1f}s", "restarts": self.restarts[name]}
            _log.error("starting a part of the agent again", extra={"fields": fields})
            await asyncio.sleep(pause)
