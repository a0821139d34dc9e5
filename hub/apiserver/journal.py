"""The store on disk: one SQLite database in WAL mode, one row an object, one transaction a batch of writes.

A committed batch survives kill -9; with `power_safe` it is also flushed to the disk before anyone hears of it, and so
survives a power cut. Checkpoints run beside the writer, in a thread. What rows mean, and who waits for a commit, is
hub/apiserver/store.py's business.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
import zlib
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hub.api.errors import CorruptStoreError, DataDirectoryBusyError, StorageError

FORMAT: Final = 1
_CHECKPOINT_AFTER: Final = 16 * 2**20
# Readers of a long WAL get slow and it takes disk: beyond this a write waits for a checkpoint.
_WAL_LIMIT: Final = 256 * 2**20
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS collections (
  id INTEGER PRIMARY KEY, cluster TEXT NOT NULL, grp TEXT NOT NULL, plural TEXT NOT NULL, version INTEGER NOT NULL,
  UNIQUE (cluster, grp, plural)
);
CREATE TABLE IF NOT EXISTS objects (
  id INTEGER PRIMARY KEY, collection INTEGER NOT NULL, crc INTEGER NOT NULL, data BLOB NOT NULL
);
"""


@dataclass(frozen=True, slots=True)
class CollectionRow:
    """`version` is the resourceVersion of the last change to the collection, deletions included."""

    id: int
    cluster: str
    group: str
    plural: str
    version: int


@dataclass(slots=True)
class Transaction:
    """What one commit writes: rows by object id (None: deleted), touched collections, the last resourceVersion."""

    rows: dict[int, tuple[int, bytes] | None]
    collections: dict[int, CollectionRow]
    version: int


class Journal:
    """Holds the directory's lock from construction to `close`.

    Raises `DataDirectoryBusyError` when another process has it, `CorruptStoreError` when the files are not what was
    written, `StorageError` for everything else the disk refuses. `commit` may be called again after it raised.
    """

    def __init__(self, directory: Path, *, power_safe: bool = False) -> None:
        self.path = directory / "store.db"
        self.power_safe = power_safe
        self.clean = True
        self._unsynced = 0
        self._checkpoint: Future[bool] | None = None
        self._thread: ThreadPoolExecutor | None = None
        self._wal = -1
        try:
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._lock = _lock(directory)
        except OSError as error:
            raise StorageError(
                f"cannot keep a store in {directory}: {error.strerror}",
                hint="Give a directory that this user may write to.",
            ) from error
        try:
            with _storage_errors(self.path):
                self._db = self._open()
        except BaseException:
            os.close(self._lock)
            raise

    def _open(self) -> sqlite3.Connection:
        new = not self.path.exists()
        # Before SQLite makes it: the files beside it get its permissions.
        os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600))
        db = self._connect()
        try:
            if new and not self.power_safe:
                # Nothing is acknowledged yet; waiting for the disk would only make starting slow.
                db.execute("PRAGMA synchronous=OFF")
            db.execute("PRAGMA auto_vacuum=INCREMENTAL")
            mode = db.execute("PRAGMA journal_mode=WAL").fetchone()[0]
            if mode != "wal":
                raise StorageError(
                    f"{self.path} cannot be kept with a write-ahead log here (got {mode!r})",
                    hint="Use a local file system: network file systems do not carry it.",
                )
            db.execute("PRAGMA wal_autocheckpoint=0")
            db.executescript("PRAGMA cache_size=-4096; PRAGMA journal_size_limit=33554432;")
            found = db.execute("PRAGMA user_version").fetchone()[0]
            if found not in (0, FORMAT):
                raise CorruptStoreError(
                    f"{self.path} has format {found}; this version reads {FORMAT}",
                    hint="A newer Quarterdeck wrote it: start that one.",
                )
            db.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version={FORMAT}; COMMIT;")
            # Durable against kill -9 as it is; the flush that a power cut asks for is ours, off the loop's thread.
            db.execute("PRAGMA synchronous=NORMAL")
            self.clean = bool(self._meta(db, "clean", 1))
            db.execute("INSERT OR REPLACE INTO meta VALUES ('clean', 0)")
            self._wal = os.open(f"{self.path}-wal", os.O_RDWR)
            if self.power_safe:
                _flush_directory(self.path.parent)
        except BaseException:
            db.close()
            raise
        return db

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(self.path, timeout=0.5, isolation_level=None, check_same_thread=False)

    @staticmethod
    def _meta(db: sqlite3.Connection, key: str, default: int) -> int:
        row = db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return default if row is None else int(row[0])

    # Reading, once, at the start

    def version(self) -> int:
        """The last resourceVersion that was committed."""
        with _storage_errors(self.path):
            return self._meta(self._db, "version", 0)

    def collections(self) -> list[CollectionRow]:
        with _storage_errors(self.path):
            rows = self._db.execute("SELECT id, cluster, grp, plural, version FROM collections ORDER BY id")
            return [CollectionRow(*row) for row in rows]

    def objects(self) -> Iterator[tuple[int, int, bytes]]:
        """(id, collection, JSON) of everything, in the order of first writing; each checked against its checksum."""
        with _storage_errors(self.path):
            for id, collection, crc, data in self._db.execute(
                "SELECT id, collection, crc, data FROM objects ORDER BY id"
            ):
                if not isinstance(data, bytes) or zlib.crc32(data) != crc:
                    raise CorruptStoreError(
                        f"{self.path} is damaged: object {id} ({data[:120]!r} …) does not match its checksum",
                        hint=_RECOVER,
                    )
                yield id, collection, data

    # Writing

    def commit(self, transaction: Transaction) -> None:
        """All or nothing, durable against the end of this process when it returns."""
        db = self._db
        rows = [(id, row[0], zlib.crc32(row[1]), row[1]) for id, row in transaction.rows.items() if row is not None]
        gone = [(id,) for id, row in transaction.rows.items() if row is None]
        touched = [(c.id, c.cluster, c.group, c.plural, c.version) for c in transaction.collections.values()]
        with _storage_errors(self.path):
            try:
                db.execute("BEGIN IMMEDIATE")
                if rows:
                    db.executemany("INSERT OR REPLACE INTO objects VALUES (?, ?, ?, ?)", rows)
                if gone:
                    db.executemany("DELETE FROM objects WHERE id = ?", gone)
                if touched:
                    db.executemany("INSERT OR REPLACE INTO collections VALUES (?, ?, ?, ?, ?)", touched)
                db.execute("INSERT OR REPLACE INTO meta VALUES ('version', ?)", (transaction.version,))
                db.execute("COMMIT")
            except BaseException:
                if db.in_transaction:
                    with contextlib.suppress(sqlite3.Error):
                        db.execute("ROLLBACK")
                raise
            self._unsynced += sum(len(row[3]) + 64 for row in rows) + 4096
            if self._unsynced > _CHECKPOINT_AFTER:
                self._start_checkpoint()

    def flush(self) -> None:
        """Waits for the disk. For another thread; raises `StorageError`, after which nothing is certain any more."""
        try:
            os.fdatasync(self._wal)
        except OSError as error:
            raise StorageError(f"the disk did not take what was written to {self.path}: {error.strerror}") from error

    def maintain(self) -> None:
        """Gives space of deleted objects back to the file system, a little at a time. Cheap when there is none."""
        with _storage_errors(self.path):
            free = int(self._db.execute("PRAGMA freelist_count").fetchone()[0])
            if free > 1024:
                # As a script: a plain statement would free one page and stop.
                self._db.executescript(f"PRAGMA incremental_vacuum({min(free - 1024, 512)});")

    def close(self) -> None:
        """Everything into the database file, and the lock released."""
        try:
            if self._thread is not None:
                self._thread.shutdown(wait=True)
            # A full disk must not keep us from ending; the WAL has everything.
            with contextlib.suppress(sqlite3.Error):
                self._db.execute("INSERT OR REPLACE INTO meta VALUES ('clean', 1)")
            with contextlib.suppress(sqlite3.Error):
                self._db.close()
        finally:
            if self._wal >= 0:
                os.close(self._wal)
            os.ftruncate(self._lock, 0)
            os.close(self._lock)

    def _start_checkpoint(self) -> None:
        running = self._checkpoint is not None and not self._checkpoint.done()
        if self._wal_size() > _WAL_LIMIT:
            # The disk is slower than we write, or we never pause: whoever writes waits for it.
            if self._checkpoint is not None:
                self._checkpoint.result()
            self._db.execute("PRAGMA wal_checkpoint(RESTART)").fetchall()
        elif running:
            return
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._unsynced = 0
        self._checkpoint = self._thread.submit(self._run_checkpoint)

    def _run_checkpoint(self) -> bool:
        # A failed checkpoint loses nothing: the WAL stays, and the next one tries again.
        with contextlib.suppress(sqlite3.Error), contextlib.closing(self._connect()) as db:
            # Else the last connection to close would take the WAL with it.
            db.execute("PRAGMA wal_autocheckpoint=0")
            db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
            return True
        return False

    def _wal_size(self) -> int:
        return os.fstat(self._wal).st_size


_RECOVER: Final = (
    "Restore a backup, or move the directory away to start empty; `sqlite3 store.db .recover` reads what is left of it."
)


def _lock(directory: Path) -> int:
    lock = os.open(directory / "store.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.read(lock, 100).decode(errors="replace").strip()
        os.close(lock)
        raise DataDirectoryBusyError(
            f"{directory} is held by another API server" + (f" (pid {holder})" if holder else ""),
            hint="Stop that one first, or give another directory.",
        ) from None
    os.ftruncate(lock, 0)
    os.pwrite(lock, str(os.getpid()).encode(), 0)
    return lock


def _flush_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _storage_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise _translated(path, error) from error


def _translated(path: Path, error: sqlite3.Error) -> StorageError:
    name = getattr(error, "sqlite_errorname", None) or ""
    if name.startswith("SQLITE_FULL"):
        return StorageError(
            f"the disk that holds {path} is full",
            hint="Free some space: what was acknowledged is safe, reads go on, and writes work again at once.",
        )
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return DataDirectoryBusyError(f"{path} is locked by another program", hint="Close whatever has it open.")
    if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
        return CorruptStoreError(f"{path} is damaged: {error}", hint=_RECOVER)
    if name.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM")):
        return StorageError(f"{path} cannot be written: {error}", hint="Check who owns it and its permissions.")
    return StorageError(f"{path}: {error}", hint="Check the disk; what was acknowledged is safe.")
