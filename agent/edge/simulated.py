"""Runs tasks as timers: how long each lasts and how it ends stands in its pod template; all else of a site is the same.

The records are those of real processes, so a site that comes back goes on where it was: a task that should have ended
meanwhile has ended, at the moment it should have.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass

from agent.edge.launch import Ended, Launch, LaunchFailed, RunEnd
from agent.edge.records import Record, Records, RunId, shortage

_TERMINATED = 128 + signal.SIGTERM


@dataclass(slots=True, eq=False)
class _Live:
    launch: Launch
    ended: Ended
    due: float


class SimulatedRuntime:
    """`time_scale`: how many seconds of a task pass in one. Usage is told in the task's seconds."""

    def __init__(self, records: Records, *, time_scale: float = 1.0, now: Callable[[], float] = time.time) -> None:
        self._records = records
        self._scale = time_scale
        self._now = now
        self._live: dict[RunId, _Live] = {}
        self._queue: list[tuple[float, int, RunId]] = []
        self._count = 0
        self._timer: asyncio.TimerHandle | None = None

    def live(self) -> int:
        return len(self._live)

    def start(self, launch: Launch, ended: Ended) -> None:
        assert launch.simulated is not None
        try:
            # One file written once: no supervisor will mark it later.
            os.close(self._records.create(launch.run, launch.started, launch.node, launch.gpus, b"start\n"))
        except OSError as error:
            lacking = shortage(error, f"cannot start task {launch.run}")
            raise lacking or LaunchFailed(f"cannot record the start: {error.strerror}") from error
        self._watch(launch, ended, launch.simulated[0])

    def look_around(self) -> None:
        """There are no processes to find."""

    def adopt(self, record: Record, launch: Launch, ended: Ended) -> float | None:
        assert launch.simulated is not None
        loop = asyncio.get_running_loop()
        if record.code is not None:
            # Stopped before its time.
            ran = max(0.0, record.ended - record.started) * self._scale
            cpu = self._cpu(launch, ran)
            loop.call_soon(ended, RunEnd(record.code, record.reason, record.ended, cpu, ran))
        else:
            self._watch(launch, ended, max(0.0, record.started + launch.simulated[0] - self._now()))
        return max(0.0, self._now() - record.started)

    def stop(self, run: RunId, grace: float, reason: str) -> None:
        live = self._live.pop(run, None)
        if live is None:
            return
        self._records.note(run, reason)
        code = _TERMINATED if grace > 0 else 128 + signal.SIGKILL
        # Where that cannot be written it is later found as ended on time; the Job's status says otherwise by then.
        with contextlib.suppress(OSError):
            self._records.mark(run, f"start\nexit {code}\n")
        finished = self._now()
        ran = max(0.0, finished - live.launch.started) * self._scale
        end = RunEnd(code, reason, finished, self._cpu(live.launch, ran), ran)
        asyncio.get_running_loop().call_soon(live.ended, end)

    def forget_strangers(self) -> None:
        """There are none."""

    async def run(self) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            self._live.clear()
            self._queue.clear()

    def _watch(self, launch: Launch, ended: Ended, seconds: float) -> None:
        due = asyncio.get_running_loop().time() + seconds
        self._live[launch.run] = _Live(launch, ended, due)
        self._count += 1
        heapq.heappush(self._queue, (due, self._count, launch.run))
        if self._queue[0][1] == self._count:
            self._arm()

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_at(self._queue[0][0], self._due) if self._queue else None

    def _due(self) -> None:
        self._timer = None
        now = asyncio.get_running_loop().time()
        while self._queue and self._queue[0][0] <= now:
            due, _, run = heapq.heappop(self._queue)
            live = self._live.get(run)
            if live is None or live.due != due:
                continue
            del self._live[run]
            self._end(live)
        self._arm()

    def _end(self, live: _Live) -> None:
        assert live.launch.simulated is not None
        seconds, code = live.launch.simulated
        lasted = seconds * self._scale
        live.ended(RunEnd(code, None, live.launch.started + seconds, self._cpu(live.launch, lasted), lasted))

    def _cpu(self, launch: Launch, seconds: float) -> float:
        """As if it had used all the CPU it asked for."""
        amount = launch.container.requests.get("cpu")
        return seconds * amount.milli() / 1000 if amount is not None else 0.0
