"""A queue of names where each is worked on by one worker at a time, and asking twice costs one pass.

Failures come back after a jittered, growing delay of their own; `forget` starts that delay over. It knows nothing of
what is done with a name.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable

from hub.client.backoff import Backoff

_log = logging.getLogger("agent.work.queue")


class KeyedQueue:
    def __init__(self, handle: Callable[[str], Awaitable[None]], *, workers: int = 10) -> None:
        self._handle = handle
        self._workers = workers
        self._ready: deque[str] = deque()
        self._queued: set[str] = set()
        self._active: set[str] = set()
        self._again: set[str] = set()
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._backoffs: dict[str, Backoff] = {}
        self._wake = asyncio.Semaphore(0)

    def add(self, key: str) -> None:
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer.cancel()
        if key in self._active:
            self._again.add(key)
        elif key not in self._queued:
            self._queued.add(key)
            self._ready.append(key)
            self._wake.release()

    def add_after(self, key: str, delay: float) -> None:
        """Keeps the earlier of two dates."""
        loop = asyncio.get_running_loop()
        timer = self._timers.get(key)
        if timer is not None:
            if timer.when() <= loop.time() + delay:
                return
            timer.cancel()
        self._timers[key] = loop.call_later(delay, self._due, key)

    def retry(self, key: str) -> float:
        delay = self._backoffs.setdefault(key, Backoff(0.2, 300.0)).next()
        self.add_after(key, delay)
        return delay

    def forget(self, key: str) -> None:
        self._backoffs.pop(key, None)

    @property
    def idle(self) -> bool:
        return not self._queued and not self._active

    async def run(self) -> None:
        workers = [asyncio.create_task(self._work(), name=f"work executor {n}") for n in range(self._workers)]
        try:
            await asyncio.gather(*workers)
        finally:
            for timer in self._timers.values():
                timer.cancel()
            self._timers.clear()
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)

    def _due(self, key: str) -> None:
        self._timers.pop(key, None)
        self.add(key)

    async def _work(self) -> None:
        while True:
            await self._wake.acquire()
            key = self._ready.popleft()
            self._queued.discard(key)
            self._active.add(key)
            try:
                await self._handle(key)
            except Exception:
                delay = self.retry(key)
                _log.exception(
                    "work failed, will be tried again", extra={"fields": {"work": key, "in": f"{delay:.1f}s"}}
                )
            finally:
                self._active.discard(key)
                if key in self._again:
                    self._again.discard(key)
                    self.add(key)
