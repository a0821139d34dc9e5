"""What must outlive the agent and the objects it tells about: what ran to its end, and which failures were shipped.

An object that ended and then vanished (a TTL, a person) is neither run again nor forgotten: its last state is here, on
disk before it is reported. A row goes with its work. It holds nothing that can be read again from the local API.
"""

from __future__ import annotations

import asyncio
import hashlib
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from agent.work.manifests import ObjectKey
from hub.api.errors import CorruptStoreError, StorageError

Json = dict[str, Any]
_SCHEMA = """
PRAGMA journal_mode = WAL;
PRAGMA synchronous = FULL;
CREATE TABLE IF NOT EXISTS ended (
    work TEXT, grp TEXT, plural TEXT, namespace TEXT, name TEXT, digest TEXT, object BLOB,
    PRIMARY KEY (work, grp, plural, namespace, name)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS shipped (
    work TEXT PRIMARY KEY, sequence INTEGER, indexes TEXT) WITHOUT ROWID;
"""

_OF_ONE = "FROM ended WHERE work = ? AND grp = ? AND plural = ? AND namespace = ? AND name = ?"
_READ_ONE = f"SELECT object {_OF_ONE}"
_FORGET_ONE = f"DELETE {_OF_ONE}"


@dataclass(frozen=True, slots=True)
class Ended:
    digest: str
    object: Json


@dataclass(frozen=True, slots=True)
class Shipped:
    """Of one work: completion indexes whose last lines are on the hub, and the number of the next object with some."""

    sequence: int = 0
    indexes: str = ""


class Journal:
    """What is there is known from memory, what it says is read when asked; `await flush()` returns when all recorded
    before it is on disk.

    Works are named by uid. Raises `CorruptStoreError` or `StorageError` from `open`, `ended` and `flush`.
    """

    def __init__(self, connection: sqlite3.Connection, reader: sqlite3.Connection, path: Path) -> None:
        self._connection = connection
        self._reader = reader
        self._path = path
        self._lock = asyncio.Lock()
        self._pending: list[tuple[str, tuple[Any, ...]]] = []
        # By work and object: the manifest's digest, and a hash of the object as it ended.
        self._ended: dict[str, dict[ObjectKey, tuple[str, bytes]]] = {}
        # What is not on disk yet.
        self._fresh: dict[tuple[str, ObjectKey], bytes] = {}
        self._shipped: dict[str, Shipped] = {}
        for work, group, plural, namespace, name, digest, blob in connection.execute("SELECT * FROM ended"):
            self._ended.setdefault(work, {})[group, plural, namespace, name] = (digest, _hash(blob))
        for work, sequence, indexes in connection.execute("SELECT * FROM shipped"):
            self._shipped[work] = Shipped(sequence, indexes)

    @classmethod
    def open(cls, path: Path) -> Journal:
        try:
            connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
            connection.executescript(_SCHEMA)
            return cls(connection, sqlite3.connect(path, isolation_level=None), path)
        except sqlite3.OperationalError as error:
            raise StorageError(
                f"cannot open the journal {path}: {error}", hint="Check the disk and its rights."
            ) from error
        except sqlite3.DatabaseError as error:
            raise CorruptStoreError(
                f"the journal {path} is damaged: {error}",
                hint="Move it away to start without it; jobs that ended and were then deleted locally may run again.",
            ) from error

    def close(self) -> None:
        self._connection.close()
        self._reader.close()

    def ended(self, work: str, key: ObjectKey) -> Ended | None:
        found = self._ended.get(work, {}).get(key)
        if found is None:
            return None
        blob = self._fresh.get((work, key)) or self._read(work, key)
        return Ended(found[0], orjson.loads(blob))

    def has_ended(self, work: str, key: ObjectKey, digest: str) -> bool:
        found = self._ended.get(work, {}).get(key)
        return found is not None and found[0] == digest

    def record_end(self, work: str, key: ObjectKey, digest: str, obj: Mapping[str, Any]) -> None:
        """Nothing when it says so already."""
        slim = {**obj, "metadata": {k: v for k, v in obj["metadata"].items() if k != "managedFields"}}
        blob = orjson.dumps(slim)
        known = (digest, _hash(blob))
        if self._ended.get(work, {}).get(key) == known:
            return
        self._ended.setdefault(work, {})[key] = known
        self._fresh[work, key] = blob
        self._pending.append(("INSERT OR REPLACE INTO ended VALUES (?,?,?,?,?,?,?)", (work, *key, digest, blob)))

    def shipped(self, work: str) -> Shipped:
        return self._shipped.get(work, Shipped())

    def record_shipped(self, work: str, shipped: Shipped) -> None:
        self._shipped[work] = shipped
        row = (work, shipped.sequence, shipped.indexes)
        self._pending.append(("INSERT OR REPLACE INTO shipped VALUES (?,?,?)", row))

    def forget(self, work: str) -> None:
        """The work is gone. Not urgent: it is on disk with the next flush, or never missed."""
        for key in self._ended.pop(work, None) or ():
            self._fresh.pop((work, key), None)
            self._pending.append((_FORGET_ONE, (work, *key)))
        if self._shipped.pop(work, None) is not None:
            self._pending.append(("DELETE FROM shipped WHERE work = ?", (work,)))

    def works(self) -> set[str]:
        return {*self._ended, *self._shipped}

    async def flush(self) -> None:
        if not self._pending and not self._lock.locked():
            return
        async with self._lock:
            batch, self._pending = self._pending, []
            if not batch:
                return
            written = list(self._fresh.items())
            try:
                await asyncio.to_thread(self._write, batch)
            except sqlite3.Error as error:
                self._pending = batch + self._pending
                raise StorageError(
                    f"cannot write the journal {self._path}: {error}",
                    hint="Free some space: nothing is reported as ended before it is on disk.",
                ) from error

            for entry, blob in written:
                if self._fresh.get(entry) is blob:
                    del self._fresh[entry]

    def _read(self, work: str, key: ObjectKey) -> bytes:
        try:
            row = self._reader.execute(_READ_ONE, (work, *key)).fetchone()
        except sqlite3.Error as error:
            raise StorageError(f"cannot read the journal {self._path}: {error}") from error
        if row is None:
            raise CorruptStoreError(f"the journal {self._path} has lost an entry of the work with uid {work}")
        return bytes(row[0])

    def _write(self, batch: list[tuple[str, tuple[Any, ...]]]) -> None:
        self._connection.execute("BEGIN")
        try:
            for statement, row in batch:
                self._connection.execute(statement, row)
            self._connection.execute("COMMIT")
        except sqlite3.Error:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise


def _hash(blob: bytes) -> bytes:
    return hashlib.blake2b(blob, digest_size=16).digest()
