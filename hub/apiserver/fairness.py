"""Whose turn it is: no client, however many connections it has, keeps the others waiting.

What is asked runs at once while nobody waits and the present turn of the event loop has time left. Beyond that,
requests wait by whom they are from, and whoever has had the least time of the server so far is next. Time is measured,
so one that lists everything pays for it. Who has too much waiting is told to come back (429).
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Final

# Seconds of work before the loop looks at its sockets again.
_TURN: Final = 0.005
# Requests of one client that may wait.
MOST_WAITING: Final = 1024
_FLOWS_KEPT: Final = 4096


class _Flow:
    """`used`: the virtual time (seconds of the server) at which its next request may start."""

    __slots__ = ("used", "waiting")

    def __init__(self) -> None:
        self.used = 0.0
        self.waiting: deque[Callable[[], None]] = deque()


class Turns:
    """Start-time fair queueing. `clock` gives seconds; the loop is the running one."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter, turn: float = _TURN) -> None:
        self._clock = clock
        self._turn = turn
        self._flows: dict[str, _Flow] = {}
        self._waiting: dict[str, _Flow] = {}
        self._spent = 0.0
        self._due = False
        # Where the one who was served last started: who comes back later has saved nothing up.
        self._virtual = 0.0
        self.queued = 0
        self.refused = 0

    def ask(self, who: str, run: Callable[[], None]) -> bool:
        """Runs `run`, which must not raise, now or in `who`'s turn; False when too much of `who` waits already."""
        flow = self._flows.get(who)
        if flow is None:
            if len(self._flows) >= _FLOWS_KEPT:
                self._flows = dict(self._waiting)
            flow = self._flows[who] = _Flow()
        if not self._waiting and self._spent < self._turn:
            flow.used = max(flow.used, self._virtual)
            self._serve(flow, run)
            self._schedule()
            return True
        if len(flow.waiting) >= MOST_WAITING:
            self.refused += 1
            return False
        if not flow.waiting:
            flow.used = max(flow.used, self._virtual)
            self._waiting[who] = flow
        flow.waiting.append(run)
        self.queued += 1
        self._schedule()
        return True

    def _schedule(self) -> None:
        if not self._due:
            self._due = True
            asyncio.get_running_loop().call_soon(self._next)

    def _next(self) -> None:
        self._due = False
        self._spent = 0.0
        # One at least, however short the turn.
        while self._waiting:
            who = min(self._waiting, key=lambda name: (self._waiting[name].used, name))
            flow = self._waiting[who]
            run = flow.waiting.popleft()
            if not flow.waiting:
                del self._waiting[who]
            self._serve(flow, run)
            if self._spent >= self._turn:
                break
        if self._waiting:
            self._schedule()

    def _serve(self, flow: _Flow, run: Callable[[], None]) -> None:
        self._virtual = flow.used
        started = self._clock()
        run()
        seconds = self._clock() - started
        self._spent += seconds
        flow.used += seconds
