"""Every decision that hubs ever made, as the API saw it: slices in the order in which they appeared, and what is wrong.

For jobs whose tasks neither fail nor are moved. Then each task is decided once: twice is a doubled decision, and never
is a lost one.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from types import TracebackType
from typing import Any, Self

from hub.api import names
from hub.api.indexset import IndexSet
from hub.api.resource import MANIFEST_WORKS
from hub.client.informer import Informer
from hub.client.session import Session

Json = dict[str, Any]


class Decisions:
    """Watches while its `async with` lasts. Times are monotonic seconds."""

    def __init__(self, api: Session) -> None:
        self.made: dict[str, dict[str, Json]] = {}
        """By job uid: the works that ever were, by their own uid."""
        self.first_at: dict[str, float] = {}
        self._informer: Informer[Json] = Informer(api, MANIFEST_WORKS, on_event=self._seen)
        self._running: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._running = asyncio.create_task(self._informer.run())
        await self._informer.synced.wait()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)

    def _seen(self, _change: str, _key: str, _old: Json | None, new: Json | None) -> None:
        if new is None:
            return
        job = (new["metadata"].get("labels") or {}).get(names.JOB_UID)
        if job:
            self.first_at.setdefault(job, time.monotonic())
            self.made.setdefault(job, {})[new["metadata"]["uid"]] = new

    def problems(self, jobs: dict[str, int]) -> list[str]:
        """`jobs`: how many tasks each uid has."""
        found = []
        for uid, tasks in jobs.items():
            decided: Counter[int] = Counter()
            for work in self.made.get(uid, {}).values():
                decided.update(IndexSet.parse(work["metadata"]["annotations"][names.TASKS]))
            if lost := set(range(tasks)) - set(decided):
                found.append(f"{uid}: never decided: {sorted(lost)}")
            if doubled := [task for task, times in decided.items() if times > 1]:
                found.append(f"{uid}: decided more than once: {sorted(doubled)}")
        return found

    def terms(self) -> list[int]:
        """Of the Lease, in which something was decided."""
        notes = [w["metadata"].get("annotations") or {} for works in self.made.values() for w in works.values()]
        return sorted({int(note[names.TERM]) for note in notes if names.TERM in note})
