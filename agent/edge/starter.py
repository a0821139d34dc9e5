"""Starts tasks where there is room: one after the other, whoever waits longest first, without one holding up the rest.

What finds no room waits until something is given back. What can never find room is refused. A shortage of the machine
itself (a full disk, no more processes) makes everything wait, is said, and is tried again; nothing is lost by it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

from agent.edge.nodes import Need, Nodes, Place
from agent.edge.records import Shortage
from hub.api.reasons import Reason

_log = logging.getLogger("agent.edge.starter")
_RETRY_SECONDS: Final = 2.0
# The loop serves others after this long, however many tasks there are to start.
_SLICE_SECONDS: Final = 0.01


class Starts(Protocol):
    """A Job or Pod that has tasks to start. `order` is total: who was there first."""

    order: int

    @property
    def need(self) -> Need: ...

    @property
    def foreign(self) -> bool:
        """Whether it did not come from the hub, which then does not know what it takes."""
        ...

    def wants_start(self) -> bool:
        """Whether a task could be started if there were room."""
        ...

    def start_one(self, place: Place) -> None:
        """Starts its next task there; the room is taken already. Raises `Shortage` when it could not."""
        ...

    def refuse(self, reason: Reason, message: str) -> None: ...

    def blocked(self, reason: Reason, message: str) -> None:
        """It waits because of the machine; empty `message`: no longer."""
        ...


class Starter:
    def __init__(self, nodes: Nodes, *, on_change: Callable[[], None] = lambda: None) -> None:
        self.short: str = ""
        self._nodes = nodes
        self._on_change = on_change
        self._ready: deque[Starts] = deque()
        self._queued: set[int] = set()
        self._waiting: dict[int, Starts] = {}
        # Needs known to have no room until something is given back.
        self._full: set[Need] = set()
        self._wake = asyncio.Event()
        self._retry: asyncio.TimerHandle | None = None

    def add(self, item: Starts) -> None:
        if item.order not in self._queued:
            self._queued.add(item.order)
            self._ready.append(item)
            self._wake.set()

    def drop(self, item: Starts) -> None:
        self._waiting.pop(item.order, None)

    def give_back(self, item: Starts, place: Place) -> None:
        """The room of one task of `item`."""
        self._give_back(item, place)
        self._full.clear()
        if self._waiting:
            self._again()

    def _give_back(self, item: Starts, place: Place) -> None:
        self._nodes.give_back(item.need, place, foreign=item.foreign)
        if item.foreign:
            self._on_change()

    async def run(self) -> None:
        """Until cancelled."""
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                began = time.monotonic()
                while self._ready and not self.short:
                    item = self._ready.popleft()
                    self._queued.discard(item.order)
                    if self._start(item):
                        self.add(item)
                    if time.monotonic() - began > _SLICE_SECONDS:
                        await asyncio.sleep(0)
                        began = time.monotonic()
        finally:
            if self._retry is not None:
                self._retry.cancel()

    def _start(self, item: Starts) -> bool:
        """Whether it should be asked again."""
        if not item.wants_start():
            return False
        need = item.need
        place = None if need in self._full else self._nodes.choose(need)
        if place is None:
            return self._no_room(item, need)
        self._nodes.take(need, place, foreign=item.foreign)
        if item.foreign:
            self._on_change()
        try:
            item.start_one(place)
        except Shortage as error:
            self._give_back(item, place)
            self._machine_short(item, error)
            return False
        except Exception:
            self._give_back(item, place)
            _log.exception("task cannot be started")
            item.refuse(Reason.START_FAILED, Reason.START_FAILED.message(detail="an error in the site; see its log"))
            return False
        return True

    def _no_room(self, item: Starts, need: Need) -> bool:
        if need not in self._full:
            never = self._nodes.ever_fits(need)
            if never:
                item.refuse(Reason.SHAPE_NEVER_FITS, Reason.SHAPE_NEVER_FITS.message(detail=never))
                return False
            self._full.add(need)
        self._waiting[item.order] = item
        return False

    def _machine_short(self, item: Starts, error: Shortage) -> None:
        message = Reason.SITE_SHORTAGE.message(detail=error)
        if not self.short:
            _log.error("tasks wait", extra={"fields": {"why": error, "hint": error.hint}})
        self.short = message
        self._waiting[item.order] = item
        for other in (*self._ready, *self._waiting.values()):
            other.blocked(Reason.SITE_SHORTAGE, message)
        if self._retry is None:
            self._retry = asyncio.get_running_loop().call_later(_RETRY_SECONDS, self._try_again)
        self._on_change()

    def _try_again(self) -> None:
        self._retry = None
        self.short = ""
        waiting = [*self._waiting.values(), *self._ready]
        self._again()
        for item in waiting:
            item.blocked(Reason.SITE_SHORTAGE, "")
        self._on_change()

    def _again(self) -> None:
        waiting = sorted(self._waiting.values(), key=lambda item: item.order)
        self._waiting.clear()
        # Who waited goes before who came later.
        for item in reversed(waiting):
            if item.order not in self._queued:
                self._queued.add(item.order)
                self._ready.appendleft(item)
        self._wake.set()
