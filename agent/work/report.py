"""When a work's status goes to the hub, so that a quick job costs one write and a large one a few a second.

The first status waits until the work has been seen running for `SETTLE` (a task that ends within that costs no write of
its own; where many start, up to `INTERVAL`: a busy machine takes longer to end a quick one, and nobody reads so much
news), or `UNSEEN` long for that. Later ones are at least `INTERVAL` apart and wait `FOLLOWED` for what follows: a
cluster tells the end of a Job in several steps. That pods are ready waits up to `READY`, and an end goes at once. What
is equal is never written. What is written is computed at that moment, so nothing queues up while the hub is away.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from agent.journal import Journal
from agent.link import TRANSIENT, HubLink
from hub.api.errors import ApiError, ConflictError, NotFoundError, QuarterdeckError, StorageError
from hub.api.resource import MANIFEST_WORKS
from hub.client.backoff import Backoff
from hub.client.interface import KubeApi

Json = dict[str, Any]
_log = logging.getLogger("agent.work.report")

SETTLE = 0.05
INTERVAL = 0.25
FOLLOWED = 0.3
READY = 1.5
UNSEEN = 1.0
# Works that may start within a second before the first status is held back longer.
_CALM = 3
_CONCURRENT_WRITES = 32


@dataclass(slots=True)
class _Entry:
    timer: asyncio.TimerHandle | None = None
    due: float = 0.0
    writing: bool = False
    # Asked for while writing; True when an end is waiting.
    again: bool | None = None
    written: float | None = None
    # What we last asked for and what the server made of it: it may drop or respell, and must not be asked twice.
    asked: Json | None = None
    answered: Any = None
    backoff: Backoff | None = None
    # Since when there has been nothing to say but that pods are ready.
    ready_since: float | None = None


class StatusReporter:
    """`desired(work)` gives (the ManifestWork as on the hub, the status it should have); None: nothing to say.

    `on_written` gets the ManifestWork the hub answered with.
    """

    def __init__(
        self,
        hub: KubeApi,
        cluster: str,
        link: HubLink,
        journal: Journal,
        desired: Callable[[str], tuple[Json, Json] | None],
        on_written: Callable[[Json], None],
    ) -> None:
        self._hub = hub
        self._cluster = cluster
        self._link = link
        self._journal = journal
        self._desired = desired
        self._on_written = on_written
        self._entries: dict[str, _Entry] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._slots = asyncio.Semaphore(_CONCURRENT_WRITES)
        self._begun: deque[float] = deque()
        self.writes = 0
        self.skipped = 0

    @property
    def idle(self) -> bool:
        """Whether everything known is on the hub."""
        return not any(entry.writing or entry.timer is not None for entry in self._entries.values())

    def applied(self, work: str, *, expects_end: bool) -> None:
        """After an apply pass. `expects_end`: something in it runs to an end, so a first status can wait a little."""
        entry = self._entries.setdefault(work, _Entry())
        self._schedule(work, entry, UNSEEN if expects_end and entry.written is None else self._spacing(entry))

    def running(self, work: str) -> None:
        """Seen running for the first time."""
        entry = self._entries.setdefault(work, _Entry())
        self._schedule(work, entry, self._settle() if entry.written is None else self._spacing(entry))

    def changed(self, work: str) -> None:
        entry = self._entries.setdefault(work, _Entry())
        if entry.written is not None or (entry.timer is None and not entry.writing):
            self._schedule(work, entry, max(self._spacing(entry), 0.0 if entry.written is None else FOLLOWED))

    def ended(self, work: str) -> None:
        self._schedule(work, self._entries.setdefault(work, _Entry()), 0.0, urgent=True)

    def forget(self, work: str) -> None:
        entry = self._entries.pop(work, None)
        if entry is not None and entry.timer is not None:
            entry.timer.cancel()

    async def write(self, work: str) -> None:
        """Writes now if anything differs. Raises what the hub answered, or `StorageError` when the journal can't be."""
        entry = self._entries.setdefault(work, _Entry())
        found = self._desired(work)
        if found is None:
            return
        current, status = found
        patch = _difference(current.get("status") or {}, status)
        if not patch or (entry.asked == status and entry.answered == current.get("status")):
            self.skipped += 1
            return
        await self._journal.flush()
        body = {"metadata": {"uid": current["metadata"]["uid"]}, "status": patch}
        answer = await self._hub.patch(MANIFEST_WORKS, work, body, self._cluster, subresource="status")
        self.writes += 1
        entry.asked, entry.answered = status, answer.get("status")
        entry.written = asyncio.get_running_loop().time()
        self._link.succeeded()
        self._on_written(answer)

    async def close(self) -> None:
        for work in list(self._entries):
            self.forget(work)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _settle(self) -> float:
        now = asyncio.get_running_loop().time()
        self._begun.append(now)
        while self._begun[0] < now - 1.0:
            self._begun.popleft()
        return min(INTERVAL, SETTLE * max(1.0, len(self._begun) / _CALM))

    def _ready_alone(self, work: str, entry: _Entry) -> float:
        """Seconds that this write may wait, because it would say nothing else than which pods are ready."""
        found = self._desired(work) if entry.written is not None else None
        if found is None or not _differ_in_readiness(found[0].get("status") or {}, found[1]):
            entry.ready_since = None
            return 0.0
        now = asyncio.get_running_loop().time()
        entry.ready_since = now if entry.ready_since is None else entry.ready_since
        return entry.ready_since + READY - now

    def _spacing(self, entry: _Entry) -> float:
        if entry.written is None:
            return 0.0
        return max(0.0, entry.written + INTERVAL - asyncio.get_running_loop().time())

    def _schedule(self, work: str, entry: _Entry, delay: float, *, urgent: bool = False) -> None:
        if entry.writing:
            entry.again = urgent or bool(entry.again)
            return
        loop = asyncio.get_running_loop()
        due = loop.time() + delay
        if entry.timer is not None:
            if entry.due <= due:
                return
            entry.timer.cancel()
        entry.due = due
        entry.timer = loop.call_at(due, self._start, work, entry)

    def _start(self, work: str, entry: _Entry) -> None:
        entry.timer = None
        entry.writing = True
        task = asyncio.create_task(self._attempt(work, entry))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _attempt(self, work: str, entry: _Entry) -> None:
        retry: float | None = None
        try:
            await self._link.ready()
            if (wait := self._ready_alone(work, entry)) > 0.0:
                retry = wait
            else:
                async with self._slots:
                    await self.write(work)
            entry.backoff = None
        except TRANSIENT as error:
            # The next attempt waits for the link, which any other success frees.
            self._link.failed(error)
            retry = 0.0
        except (NotFoundError, ConflictError):
            # Gone, or another work of that name: the informer will say so.
            pass
        except (ApiError, StorageError) as error:
            retry = self._later(entry)
            self._complain(work, error, retry)
        except QuarterdeckError as error:
            self._complain(work, error, None)
        except Exception:
            retry = self._later(entry)
            _log.exception("status could not be made", extra={"fields": {"work": work}})
        finally:
            entry.writing = False
        again, entry.again = entry.again, None
        if self._entries.get(work) is not entry:
            return
        if retry is not None:
            self._schedule(work, entry, retry)
        elif again is not None:
            self._schedule(work, entry, 0.0 if again else self._spacing(entry), urgent=again)

    def _later(self, entry: _Entry) -> float:
        entry.backoff = entry.backoff or Backoff(1.0, 120.0)
        return entry.backoff.next()

    def _complain(self, work: str, error: QuarterdeckError, retry: float | None) -> None:
        fields: Mapping[str, object] = {
            "work": work,
            "why": error,
            "again_in": f"{retry:.0f}s" if retry else "",
            "hint": error.hint,
        }
        _log.error("status not written", extra={"fields": fields})


def _difference(current: Mapping[str, Any], wanted: Mapping[str, Any]) -> Json:
    """The top-level parts of the status that differ, whole: arrays are replaced by a merge patch anyway."""
    patch: Json = {}
    for part, value in wanted.items():
        if current.get(part) != value and (value or current.get(part)):
            patch[part] = value
    if "resourceStatus" in patch and not wanted["resourceStatus"].get("manifests"):
        before = (current.get("resourceStatus") or {}).get("manifests")
        if not before:
            del patch["resourceStatus"]
    return patch


def _differ_in_readiness(current: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Whether feedback named `ready` is all that is new."""
    if current.get("conditions") != wanted.get("conditions"):
        return False
    before, after = ((s.get("resourceStatus") or {}).get("manifests") or [] for s in (current, wanted))
    return before != after and list(map(_without_ready, before)) == list(map(_without_ready, after))


def _without_ready(manifest: Mapping[str, Any]) -> Json:
    values = (manifest.get("statusFeedback") or {}).get("values") or ()
    # The time of this condition is that of the last change of a value.
    conditions = [c for c in manifest.get("conditions") or () if c.get("type") != "StatusFeedbackSynced"]
    kept = [v for v in values if v.get("name") != "ready" or (v.get("fieldValue") or {}).get("type") != "Integer"]
    return {**manifest, "conditions": conditions, "statusFeedback": kept}
