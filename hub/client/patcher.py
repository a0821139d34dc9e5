"""The writer: one bounded pool through which everything is written, so that nothing is written twice.

A caller does not hand over a request but a function that says what to write, asked at the moment of sending. Of many
submissions for one key only the last is sent; what turns out to be nothing is not sent. Writes to one object never
overtake one another (a status waits for the object's creation). Outages are waited out; what the server refuses is
reported once and dropped, because the same request would be refused again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from hub.api.errors import (
    ApiError,
    ConflictError,
    NotFoundError,
    OverloadedError,
    QuarterdeckError,
    UnauthorizedError,
    UnreachableError,
)
from hub.api.resource import Resource
from hub.client.backoff import Backoff
from hub.client.interface import KubeApi, Object

_log = logging.getLogger(__name__)
# With back-off this is about half a minute: long enough for any informer to catch up with what it missed.
_MAX_CONFLICTS = 15


class WriteKey(NamedTuple):
    """What is written: one object, or one subresource of it."""

    resource: Resource
    namespace: str | None
    name: str
    subresource: str | None = None

    def __str__(self) -> str:
        place = f"{self.namespace}/{self.name}" if self.namespace else self.name
        return f"{self.resource.kind} {place}" + (f" ({self.subresource})" if self.subresource else "")


@dataclass(frozen=True, slots=True)
class Create:
    obj: Object


@dataclass(frozen=True, slots=True)
class MergePatch:
    """RFC 7386, to the key's subresource. `metadata.uid` and `.resourceVersion` are preconditions, not changes."""

    patch: Object


@dataclass(frozen=True, slots=True)
class JsonPatch:
    """RFC 6902: for a part of a list, where a merge patch would replace the whole. Preconditions are its tests."""

    operations: tuple[Object, ...]


@dataclass(frozen=True, slots=True)
class Delete:
    """Nothing to do when the object, or the one with this uid, is gone already."""

    uid: str | None = None
    propagation_policy: str | None = None


Write = Create | MergePatch | JsonPatch | Delete
Desired = Callable[[], Write | None]
# With what the server answered: the object, or None after a deletion.
OnDone = Callable[[Object | None], None]
OnError = Callable[[WriteKey, Exception], None]


class Gate(Protocol):
    """What every write of a patcher passes. One object for all of them: what waits is many."""

    def ask(self, key: WriteKey, desired: Desired) -> Write | None:
        """What is to be sent now of what `desired` says; None: nothing."""
        ...

    def hears(self) -> bool:
        """Whether answers are still for those who asked."""
        ...

    def refused(self, key: WriteKey, error: Exception) -> None:
        """Told of every write that is given up, before the one who asked for it."""
        ...


class _Open:
    def ask(self, key: WriteKey, desired: Desired) -> Write | None:
        return desired()

    def hears(self) -> bool:
        return True

    def refused(self, key: WriteKey, error: Exception) -> None:
        pass


@dataclass(slots=True, eq=False)
class _Pending:
    key: WriteKey
    desired: Desired
    due: float
    on_done: OnDone | None
    on_error: OnError | None


@dataclass(slots=True, eq=False)
class _Lane:
    """One object: what waits for it, one a subresource in order of arrival, and whether something is on its way."""

    pending: list[_Pending] = field(default_factory=list)
    queued: bool = False
    backoff: Backoff | None = None
    retry_at: float = 0.0
    timer: asyncio.TimerHandle | None = None

    def of(self, key: WriteKey) -> _Pending | None:
        for pending in self.pending:
            if pending.key == key:
                return pending
        return None


class Patcher:
    """`submit` from the loop's thread. `counts` is by (verb, plural or plural/subresource) what was really sent.

    Everything passes `gate`, which lets through all until somebody sets another.
    """

    def __init__(
        self, api: KubeApi, *, concurrency: int = 48, on_error: OnError | None = None, backoff: Backoff | None = None
    ) -> None:
        self.counts: Counter[tuple[str, str]] = Counter()
        self.submitted = 0
        self.coalesced = 0
        self.skipped = 0
        self.conflicts = 0
        self.retries = 0
        self.gate: Gate = _Open()
        self._api = api
        self._concurrency = concurrency
        self._on_error = on_error
        self._backoff = backoff or Backoff(first=0.02, cap=5.0)
        self._lanes: dict[tuple[Resource, str | None, str], _Lane] = {}
        self._ready: deque[_Lane] = deque()
        self._workers: set[asyncio.Task[None]] = set()
        # Counted by the workers themselves: a task that has run out is not done until the loop's next turn.
        self._active = 0
        self._settled = asyncio.Event()
        self._settled.set()
        self._stopping = False

    def submit(
        self,
        key: WriteKey,
        desired: Desired,
        *,
        delay: float = 0.0,
        on_done: OnDone | None = None,
        on_error: OnError | None = None,
    ) -> None:
        """Sends what `desired()` returns, at the latest `delay` seconds from now unless the pool is busy.

        A later submission for the same key replaces this one (callbacks included) and keeps the earlier of both due
        times. None, or a patch that changes nothing, is not sent and calls nothing. After `stop` it does nothing.
        """
        if self._stopping:
            return
        self.submitted += 1
        place = key[:3]
        lane = self._lanes.get(place)
        if lane is None:
            lane = self._lanes[place] = _Lane()
        due = asyncio.get_running_loop().time() + delay
        if (waiting := lane.of(key)) is not None:
            self.coalesced += 1
            waiting.desired, waiting.due = desired, min(due, waiting.due)
            waiting.on_done, waiting.on_error = on_done, on_error
        else:
            lane.pending.append(_Pending(key, desired, due, on_done, on_error))
        self._settled.clear()
        self._schedule(lane)

    @property
    def backlog(self) -> int:
        """Objects that something is to be written to, or being written to."""
        return len(self._lanes)

    async def idle(self) -> None:
        """Returns once nothing waits and nothing is on its way."""
        await self._settled.wait()

    async def stop(self, deadline: float = 5.0) -> int:
        """Sends what waits, delayed or not, for at most `deadline` seconds. Returns how many objects were left out."""
        self._stopping = True
        for lane in list(self._lanes.values()):
            for pending in lane.pending:
                pending.due = 0.0
            self._schedule(lane)
        try:
            await asyncio.wait_for(self._settled.wait(), deadline)
        except TimeoutError:
            _log.warning("stopped with %d objects unwritten", len(self._lanes))
        left = len(self._lanes)
        for lane in self._lanes.values():
            if lane.timer is not None:
                lane.timer.cancel()
        for worker in list(self._workers):
            worker.cancel()
        await asyncio.gather(*self._workers, return_exceptions=True)
        return left

    def _schedule(self, lane: _Lane) -> None:
        if lane.queued or not lane.pending:
            return
        if lane.timer is not None:
            lane.timer.cancel()
            lane.timer = None
        loop = asyncio.get_running_loop()
        due = max(min(pending.due for pending in lane.pending), lane.retry_at)
        if due > loop.time():
            lane.timer = loop.call_at(due, self._wake, lane)
            return
        self._wake(lane)

    def _wake(self, lane: _Lane) -> None:
        lane.timer = None
        lane.queued = True
        self._ready.append(lane)
        if self._active < self._concurrency:
            self._active += 1
            worker = asyncio.get_running_loop().create_task(self._work())
            self._workers.add(worker)
            worker.add_done_callback(self._workers.discard)

    async def _work(self) -> None:
        try:
            while self._ready:
                await self._serve(self._ready.popleft())
        finally:
            self._active -= 1

    async def _serve(self, lane: _Lane) -> None:
        pending = _first_due(lane, asyncio.get_running_loop().time())
        if pending is not None:
            lane.pending.remove(pending)
            await self._write(lane, pending)
        lane.queued = False
        if lane.pending:
            self._schedule(lane)
        elif pending is not None:
            self._lanes.pop(pending.key[:3], None)
            if not self._lanes:
                self._settled.set()

    async def _write(self, lane: _Lane, pending: _Pending) -> None:
        key = pending.key
        try:
            write = self.gate.ask(key, pending.desired)
            if write is None or (isinstance(write, MergePatch) and not _changes(write.patch)):
                self.skipped += 1
                lane.backoff = None
                return
            answer = await self._send(key, write)
        except (UnreachableError, OverloadedError, UnauthorizedError, ConflictError) as error:
            if isinstance(error, ConflictError) and lane.backoff and lane.backoff.failures >= _MAX_CONFLICTS:
                lane.backoff = None
                self._report(pending, error)
            else:
                self._retry(lane, pending, error)
            return
        except asyncio.CancelledError:
            if lane.of(key) is None:
                lane.pending.append(pending)
            raise
        except Exception as error:
            lane.backoff = None
            self._report(pending, error)
            return
        lane.backoff = None
        if pending.on_done is not None and self.gate.hears():
            try:
                pending.on_done(answer)
            except Exception:
                _log.exception("after writing %s", key)

    async def _send(self, key: WriteKey, write: Write) -> Object | None:
        resource, namespace, name, subresource = key
        plural = f"{resource.plural}/{subresource}" if subresource else resource.plural
        if isinstance(write, Create):
            self.counts["create", plural] += 1
            return await self._api.create(resource, write.obj, namespace)
        if isinstance(write, MergePatch):
            self.counts["patch", plural] += 1
            return await self._api.patch(resource, name, write.patch, namespace, subresource=subresource)
        if isinstance(write, JsonPatch):
            self.counts["patch", plural] += 1
            operations = list(write.operations)
            return await self._api.patch(resource, name, operations, namespace, subresource=subresource, type="json")
        self.counts["delete", plural] += 1
        with contextlib.suppress(NotFoundError, ConflictError):
            await self._api.delete(
                resource, name, namespace, uid=write.uid, propagation_policy=write.propagation_policy
            )
        return None

    def _retry(self, lane: _Lane, pending: _Pending, error: QuarterdeckError) -> None:
        key = pending.key
        if isinstance(error, ConflictError):
            self.conflicts += 1
        else:
            self.retries += 1
        if lane.backoff is None:
            lane.backoff = Backoff(self._backoff.first, self._backoff.cap, self._backoff.random)
        lane.retry_at = asyncio.get_running_loop().time() + lane.backoff.next()
        # First in line again, unless something newer was submitted meanwhile; `desired` is asked anew either way.
        first = lane.of(key) or pending
        lane.pending = [first, *(other for other in lane.pending if other is not first)]
        if lane.backoff.failures in (1, 10):
            _log.info("%s: %s; trying again", key, error)

    def _report(self, pending: _Pending, error: Exception) -> None:
        key, on_error = pending.key, pending.on_error or self._on_error
        expected = isinstance(error, ApiError)
        _log.log(logging.WARNING if expected else logging.ERROR, "%s: %s", key, error, exc_info=not expected)
        self.gate.refused(key, error)
        if on_error is None:
            return
        try:
            on_error(key, error)
        except Exception:
            _log.exception("while reporting %s", key)


def _first_due(lane: _Lane, now: float) -> _Pending | None:
    return next((pending for pending in lane.pending if pending.due <= now + 0.001), None)


def _changes(patch: Mapping[str, Any]) -> bool:
    """Whether a merge patch says anything besides which object it is meant for."""
    for key, value in patch.items():
        if key == "metadata" and isinstance(value, Mapping):
            value = {name: member for name, member in value.items() if name not in ("uid", "resourceVersion")}
        if not isinstance(value, Mapping) or _changes(value):
            return True
    return False
