"""What this process is called in the hub's Lease, and the proof that nobody else on this machine is called that.

A hub that was killed and starts again need not wait for its own old Lease to expire: if it can lock the file that only
it would have locked, its predecessor is dead, and it may go on under the same name. Where there is nothing to lock the
name is one of a kind, and a successor waits.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import socket
import uuid
from pathlib import Path
from typing import IO


class Identity:
    """`name` for the Lease. Keeps its lock until `release` or the end of the process."""

    def __init__(self, anchor: Path | None = None, name: str = "") -> None:
        """`anchor`: a file of this hub alone, such as its kubeconfig; `name`: what an operator wants to call it."""
        self._lock: IO[str] | None = None
        host = socket.gethostname() or "hub"
        if name:
            self.name = name
        elif anchor is not None and self._acquire(anchor):
            place = hashlib.sha256(str(anchor.resolve()).encode()).hexdigest()[:8]
            self.name = f"{host}-{place}"
        else:
            self.name = f"{host}-{uuid.uuid4().hex[:8]}"

    def release(self) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _acquire(self, anchor: Path) -> bool:
        path = anchor.with_name(anchor.name + ".lock")
        try:
            lock = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+")
        except OSError:
            return False
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            return False
        self._lock = lock
        return True
