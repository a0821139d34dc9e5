"""The store: every object of every logical cluster in memory, one counter of versions, and commits in groups.

A write is staged (seen by later writes, by no reader), committed with everything else that arrived in the same turn of
the loop, then applied, told to listeners, and acknowledged, in this order. A commit that fails takes back all that was
staged, and the store goes on with what the disk has. It judges no object; that is done before staging.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import orjson

from hub.api.errors import CorruptStoreError, StorageError
from hub.apiserver.collection import Collection
from hub.apiserver.history import MAX_BYTES, Change, Event
from hub.apiserver.journal import CollectionRow, Journal, Transaction
from hub.apiserver.record import Record

Committed = Callable[[StorageError | None], None]
Changes = dict[Collection, list[Event]]
Listener = Callable[[Changes], None]
CollectionKey = tuple[str, str, str]

_log = logging.getLogger(__name__)
# After a crash, versions that were handed out but may not have reached the disk are never handed out again.
_VERSIONS_SKIPPED_AFTER_CRASH: Final = 1_000_000
# All histories together, in full ones of one collection.
_HISTORIES: Final = 4


class _Batch:
    __slots__ = ("changes", "waiting")

    def __init__(self) -> None:
        self.changes: list[tuple[Collection, Event]] = []
        self.waiting: list[Committed] = []


class Store:
    """Belongs to the loop it was opened in. `history`: bytes of changes kept of each collection, for watches to go on
    from. Errors of `Store(…)`: the `StorageError` tree."""

    def __init__(self, directory: Path, *, power_safe: bool = False, history: int = MAX_BYTES) -> None:
        self._history = history
        self._journal = Journal(directory, power_safe=power_safe)
        self.collections: dict[CollectionKey, Collection] = {}
        self._listeners: list[Listener] = []
        self._batch = _Batch()
        self._syncing: _Batch | None = None
        self._flush_due = False
        self._failed: StorageError | None = None
        self._closed = False
        self._syncer: ThreadPoolExecutor | None = None
        self._next_id = 1
        self._next_collection = 1
        started = time.perf_counter()
        try:
            self._recover()
        except BaseException:
            self._journal.close()
            raise
        self.recovery_seconds = time.perf_counter() - started

    # State

    @property
    def version(self) -> int:
        """The version of the last committed change: what a list of anything is as of."""
        return self._committed

    @property
    def failed(self) -> StorageError | None:
        """Set when the disk can no longer be trusted with writes."""
        return self._failed

    def collection(self, cluster: str, group: str, plural: str) -> Collection:
        key = (cluster, group, plural)
        found = self.collections.get(key)
        if found is None:
            found = self.collections[key] = self._collection(self._next_collection, cluster, group, plural, 0)
            self._next_collection += 1
        return found

    def _collection(self, id: int, cluster: str, group: str, plural: str, version: int) -> Collection:
        return Collection(id, cluster, group, plural, version, self._history)

    def gap(self, version: int) -> bool:
        """Whether changes after `version` may have been lost with the power: handed out, and not found at the start."""
        return self._recovered < version < self._first_version or version > self._version

    def subscribe(self, listener: Listener) -> None:
        """`listener` is called after each commit with what changed. It must not raise or block; it may stage."""
        self._listeners.append(listener)

    # Writing

    def next_version(self) -> int:
        self._version += 1
        return self._version

    def next_id(self) -> int:
        self._next_id += 1
        return self._next_id - 1

    def stage(self, collection: Collection, type: Change, record: Record, previous: Record | None) -> None:
        """`record.version` must be fresh from `next_version`. Raises `StorageError` when no write can succeed."""
        if self._failed is not None:
            raise self._failed
        if self._closed:
            raise StorageError("the API server is stopping", hint="Try again once it is back.")
        event = Event(type, record, previous)
        collection.pending[record.key] = event
        self._batch.changes.append((collection, event))
        self._schedule()

    def after_commit(self, callback: Committed) -> None:
        """`callback(None)` once all that was staged so far is durable, or with the error that took it back."""
        if self._batch.changes:
            self._batch.waiting.append(callback)
        elif self._syncing is not None:
            self._syncing.waiting.append(callback)
        else:
            callback(None)

    async def committed(self) -> None:
        """Returns when all that was staged so far is durable. Raises `StorageError` when it was taken back."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def done(error: StorageError | None) -> None:
            if future.done():
                return
            if error is None:
                future.set_result(None)
            else:
                future.set_exception(error)

        self.after_commit(done)
        await future

    def maintain(self) -> None:
        """Small housekeeping, every few seconds."""
        try:
            if not self._batch.changes and self._syncing is None:
                self._journal.maintain()
        except StorageError as error:
            _log.warning("housekeeping: %s", error)
        if sum(collection.history.bytes for collection in self.collections.values()) > _HISTORIES * self._history:
            largest = max(self.collections.values(), key=lambda collection: collection.history.bytes)
            largest.history.drop(len(largest.history.events) // 2)

    async def close(self) -> None:
        """What was staged is committed first."""
        if self._closed:
            return
        while self._batch.changes or self._syncing is not None:
            try:
                await self.committed()
            except StorageError:
                break
        self._closed = True
        if self._syncer is not None:
            self._syncer.shutdown(wait=True)
        self._journal.close()

    def _schedule(self) -> None:
        if not self._flush_due and self._syncing is None:
            self._flush_due = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_due = False
        batch = self._batch
        if not batch.changes or self._closed:
            return
        self._batch = _Batch()
        try:
            self._journal.commit(_transaction(batch))
        except StorageError as error:
            self._take_back(batch, error)
            return
        if not self._journal.power_safe:
            self._apply(batch)
            return
        if self._syncer is None:
            self._syncer = ThreadPoolExecutor(1, thread_name_prefix="flush")
        self._syncing = batch
        loop = asyncio.get_running_loop()
        loop.run_in_executor(self._syncer, self._journal.flush).add_done_callback(self._flushed)

    def _flushed(self, flush: asyncio.Future[None]) -> None:
        batch, self._syncing = self._syncing, None
        assert batch is not None
        error = flush.exception()
        if error is None:
            self._apply(batch)
        else:
            # The batch may or may not be there after a restart: only a restart can tell, so no more writes until then.
            self._failed = (
                error if isinstance(error, StorageError) else StorageError(f"the disk did not take a write: {error}")
            )
            self._take_back(batch, self._failed)
        if self._batch.changes:
            self._schedule()

    def _apply(self, batch: _Batch) -> None:
        changes: Changes = {}
        for collection, event in batch.changes:
            collection.apply(event)
            changes.setdefault(collection, []).append(event)
        self._committed = batch.changes[-1][1].version
        for listener in self._listeners:
            try:
                listener(changes)
            except Exception:
                _log.exception("a listener of the store failed")
        for callback in batch.waiting:
            try:
                callback(None)
            except Exception:
                _log.exception("an acknowledgement failed")

    def _take_back(self, batch: _Batch, error: StorageError) -> None:
        # Later writes may build on what is taken back.
        later, self._batch = self._batch, _Batch()
        _log.error("a write was refused by the disk: %s", error)
        for collection, _ in (*batch.changes, *later.changes):
            collection.pending.clear()
        for callback in (*batch.waiting, *later.waiting):
            try:
                callback(error)
            except Exception:
                _log.exception("a refusal failed")

    # Recovery

    def _recover(self) -> None:
        journal = self._journal
        # "0" has a meaning of its own to clients.
        self._version = self._recovered = max(1, journal.version())
        by_id: dict[int, Collection] = {}
        for row in journal.collections():
            collection = self._collection(row.id, row.cluster, row.group, row.plural, row.version)
            self.collections[row.cluster, row.group, row.plural] = by_id[row.id] = collection
            self._next_collection = max(self._next_collection, row.id + 1)
        loads = orjson.loads
        for id, owner, data in journal.objects():
            try:
                by_id[owner].put(Record(id, loads(data), data))
            except (KeyError, TypeError, ValueError) as error:
                raise CorruptStoreError(
                    f"{journal.path} is damaged: object {id} cannot be read: {error!r}",
                    hint="Restore a backup, or move the directory away to start empty.",
                ) from error
            self._next_id = id + 1
        for collection in by_id.values():
            collection.sort()
        if not journal.clean:
            self._version += _VERSIONS_SKIPPED_AFTER_CRASH
        self._committed = self._first_version = self._version


def _transaction(batch: _Batch) -> Transaction:
    rows: dict[int, tuple[int, bytes] | None] = {}
    collections: dict[int, CollectionRow] = {}
    for collection, event in batch.changes:
        record = event.record
        rows[record.id] = None if event.type == "DELETED" else (collection.id, record.raw)
        collections[collection.id] = CollectionRow(
            collection.id, collection.cluster, collection.group, collection.plural, record.version
        )
    return Transaction(rows, collections, batch.changes[-1][1].version)
