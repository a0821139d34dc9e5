"""Backups of an embedded API: taken while it runs, restored into a directory that has none.

One file, a tar: the store as of one commit, the authority and keys (tls/), the tokens, and a note of what it is.
Whoever has it is administrator of what is restored from it, so only its owner may read it. After a restore no
resourceVersion is given out twice: watches of clients that had seen later ones are told to list anew.
"""

from __future__ import annotations

import contextlib
import fcntl
import io
import json
import os
import shutil
import sqlite3
import tarfile
import tempfile
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from hub.api.errors import CorruptStoreError, DataDirectoryBusyError, StorageError, UsageError
from hub.apiserver.journal import FORMAT

_NOTE: Final = "backup.json"
_STORE: Final = "store.db"
_BESIDE: Final = ("tokens.json", "kubeconfig")
_PAGES: Final = 2048


@dataclass(frozen=True, slots=True)
class Backup:
    """`version` is the last resourceVersion in it; `taken` in seconds since the epoch."""

    objects: int
    version: int
    taken: float
    size: int = 0


def store_directory(path: Path) -> Path:
    """Where the store is: `path`, or `path`/api as `quarterdeck up` has it. Raises `UsageError` where there is none."""
    for candidate in (path / "api", path):
        if (candidate / _STORE).is_file():
            return candidate
    raise UsageError(
        f"no store in {path}: neither {_STORE} nor api/{_STORE} is there",
        hint="Name the directory of `quarterdeck up --data` or of `python -m hub.apiserver --data`.",
    )


def back_up(directory: Path, target: Path) -> Backup:
    """Writes `target` with the store in `directory`, which may be in use. Never leaves half a file there.

    Raises the `StorageError` tree.
    """
    partial = target.with_name(f"{target.name}.{os.getpid()}.partial")
    try:
        with tempfile.TemporaryDirectory(prefix=".backup-", dir=target.absolute().parent) as scratch:
            copy = Path(scratch) / _STORE
            _copy(directory / _STORE, copy)
            found = _check(copy)
            with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
                _pack(file, directory, copy, found)
                file.flush()
                os.fsync(file.fileno())
        os.replace(partial, target)
    except OSError as error:
        raise StorageError(f"cannot write {target}: {error.strerror}", hint="Name another file.") from error
    finally:
        partial.unlink(missing_ok=True)
    return Backup(found.objects, found.version, found.taken, target.stat().st_size)


def restore(source: Path, directory: Path) -> Backup:
    """Puts what `source` has into `directory`, which must not have a store.

    Raises `UsageError` for what is no backup, `CorruptStoreError` for a damaged one, the `StorageError` tree.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        with _held(directory), tempfile.TemporaryDirectory(prefix=".restore-", dir=directory) as scratch:
            if (directory / _STORE).exists():
                raise UsageError(
                    f"{directory} has a store already", hint="Restore into an empty directory, or move that one away."
                )
            found = _unpack(source, Path(scratch))
            _check(Path(scratch) / _STORE)
            # The store last: without it the directory counts as empty.
            for path in sorted(Path(scratch).iterdir(), key=lambda path: path.name == _STORE):
                if path.name != _NOTE:
                    _move(path, directory / path.name)
        return found
    except OSError as error:
        raise StorageError(f"cannot restore into {directory}: {error.strerror}") from error


def _copy(source: Path, target: Path) -> None:
    """As of one moment, however much is written meanwhile: one read transaction."""
    try:
        with (
            contextlib.closing(sqlite3.connect(f"file:{source}?mode=rw", uri=True, timeout=30)) as live,
            contextlib.closing(sqlite3.connect(target)) as copy,
        ):
            # Its last connection would fold the log of a server that was killed; that is for the server to do.
            live.execute("PRAGMA wal_autocheckpoint=0")
            live.execute("BEGIN")
            live.execute("SELECT count(*) FROM sqlite_master").fetchone()
            live.backup(copy, pages=_PAGES)
            copy.execute("PRAGMA journal_mode=DELETE")
            # As after a crash: versions that were given out since are not given out again.
            copy.execute("INSERT OR REPLACE INTO meta VALUES ('clean', 0)")
            copy.commit()
    except sqlite3.Error as error:
        raise CorruptStoreError(f"{source} cannot be copied: {error}") from error


def _check(store: Path) -> Backup:
    try:
        with contextlib.closing(sqlite3.connect(store)) as db:
            form = db.execute("PRAGMA user_version").fetchone()[0]
            if form != FORMAT:
                raise CorruptStoreError(
                    f"{store.name} has format {form}; this version reads {FORMAT}",
                    hint="A newer Quarterdeck wrote it: use that one.",
                )
            count = 0
            for crc, data in db.execute("SELECT crc, data FROM objects"):
                if not isinstance(data, bytes) or zlib.crc32(data) != crc:
                    raise CorruptStoreError(f"{store.name} is damaged: an object does not match its checksum")
                count += 1
            row = db.execute("SELECT value FROM meta WHERE key = 'version'").fetchone()
    except sqlite3.Error as error:
        raise CorruptStoreError(f"{store.name} is damaged: {error}") from error
    return Backup(count, int(row[0]) if row else 0, time.time())


def _pack(file: Any, directory: Path, copy: Path, found: Backup) -> None:
    with tarfile.open(fileobj=file, mode="w:gz", compresslevel=1) as tar:
        note = {"format": FORMAT, "objects": found.objects, "resourceVersion": found.version, "taken": found.taken}
        _add(tar, _NOTE, json.dumps(note).encode())
        tar.add(copy, _STORE, filter=_private)
        for name in _BESIDE:
            if (directory / name).is_file():
                _add(tar, name, (directory / name).read_bytes())
        for path in sorted((directory / "tls").glob("*")):
            if path.is_file() and not path.name.endswith(".partial"):
                _add(tar, f"tls/{path.name}", path.read_bytes())


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode, entry.mtime = len(data), 0o600, int(time.time())
    tar.addfile(entry, io.BytesIO(data))


def _private(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.mode, entry.uid, entry.gid, entry.uname, entry.gname = 0o600, 0, 0, "", ""
    return entry


def _unpack(source: Path, scratch: Path) -> Backup:
    note: dict[str, Any] = {}
    try:
        with tarfile.open(source, mode="r:*") as tar:
            for entry in tar:
                if not _is_ours(entry):
                    raise UsageError(f"{source} has {entry.name!r}, which no backup has")
                data = tar.extractfile(entry)
                assert data is not None
                path = scratch / entry.name
                path.parent.mkdir(mode=0o700, exist_ok=True)
                with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                    shutil.copyfileobj(data, file)
                    file.flush()
                    os.fsync(file.fileno())
        note = json.loads((scratch / _NOTE).read_bytes())
        found = Backup(int(note["objects"]), int(note["resourceVersion"]), float(note["taken"]), source.stat().st_size)
    except FileNotFoundError as error:
        raise UsageError(f"{source} is no backup: {Path(str(error.filename)).name} is missing") from error
    except (tarfile.TarError, EOFError, zlib.error, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{source} is no backup, or not all of one: {error}") from error
    if not (scratch / _STORE).is_file():
        raise UsageError(f"{source} is no backup: {_STORE} is missing")
    return found


def _is_ours(entry: tarfile.TarInfo) -> bool:
    folder, _, name = entry.name.rpartition("/")
    plain = entry.isreg() and name not in ("", ".", "..")
    return plain and (folder == "tls" or (not folder and name in (_NOTE, _STORE, *_BESIDE)))


def _move(source: Path, target: Path) -> None:
    if source.is_dir():
        target.mkdir(mode=0o700, exist_ok=True)
        for path in source.iterdir():
            os.replace(path, target / path.name)
    else:
        os.replace(source, target)


@contextlib.contextmanager
def _held(directory: Path) -> Iterator[None]:
    """The lock that a server holds."""
    lock = os.open(directory / "store.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise DataDirectoryBusyError(
            f"{directory} is held by an API server", hint="Stop it first, or restore into another directory."
        ) from None
    else:
        yield
    finally:
        os.close(lock)
