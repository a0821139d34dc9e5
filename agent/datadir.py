"""The agent's own directory: whose it is, and which agent this is.

One agent a directory: two would run the same work twice. The lock is the kernel's, so a killed agent leaves none.
"""

from __future__ import annotations

import fcntl
import os
import uuid
from pathlib import Path
from typing import IO

from hub.api.errors import DataDirectoryBusyError, StorageError


class AgentDirectory:
    """Holds the lock between `__enter__` and `__exit__`. Raises `DataDirectoryBusyError` naming the holder's pid."""

    def __init__(self, path: Path) -> None:
        self.path = path.expanduser().absolute()
        self._lock: IO[str] | None = None

    def __enter__(self) -> AgentDirectory:
        try:
            self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
            lock = open(self.path / "agent.lock", "a+")
        except OSError as error:
            raise StorageError(
                f"cannot use {self.path} as the agent's data directory: {error.strerror}",
                hint="Give a directory that you may write to with --data DIR.",
            ) from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.seek(0)
            holder = lock.read().strip() or "unknown"
            lock.close()
            raise DataDirectoryBusyError(
                f"{self.path} is held by the agent with pid {holder}",
                hint="Stop that agent first, or give another directory with --data DIR.",
            ) from None
        lock.seek(0)
        lock.truncate()
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        self._lock = lock
        return self

    def __exit__(self, *exc: object) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def agent_id(self) -> str:
        """Made once, kept: how AppliedManifestWorks of this agent are told from another's on the same cluster."""
        path = self.path / "agent-id"
        try:
            return path.read_text().strip() or self._new_id(path)
        except FileNotFoundError:
            return self._new_id(path)
        except OSError as error:
            raise StorageError(f"cannot read {path}: {error.strerror}") from error

    def _new_id(self, path: Path) -> str:
        value = str(uuid.uuid4())
        partial = path.with_name("agent-id.partial")
        try:
            partial.write_text(value + "\n")
            os.replace(partial, path)
        except OSError as error:
            raise StorageError(f"cannot write {path}: {error.strerror}") from error
        return value
