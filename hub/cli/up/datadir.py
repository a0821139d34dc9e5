"""The directory that `up` keeps everything in, and the lock that makes it one `up`'s alone.

DIR/kubeconfig           for people: the one place where the admin's token is
DIR/lock                 who holds the directory
DIR/sites.yaml           which sites it was started with last
DIR/port                 the API's port, kept so that a kubeconfig stays right over restarts
DIR/api/                 the embedded API server's store and tokens
DIR/hub.kubeconfig       the hub's own credential; DIR/sites/NAME/hub.kubeconfig a site's
DIR/sites/NAME/          one edge site: its own API, runs and logs
DIR/prometheus/          metrics, where a `prometheus` is on PATH
DIR/logs/                one log a process
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import secrets
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from hub.api.errors import DataDirectoryBusyError, StorageError, UsageError


@dataclass(frozen=True, slots=True)
class Paths:
    root: Path

    @property
    def kubeconfig(self) -> Path:
        return self.root / "kubeconfig"

    @property
    def hub_kubeconfig(self) -> Path:
        return self.root / "hub.kubeconfig"

    @property
    def api(self) -> Path:
        return self.root / "api"

    @property
    def tokens(self) -> Path:
        return self.api / "tokens.json"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def prometheus(self) -> Path:
        return self.root / "prometheus"

    @property
    def sites(self) -> Path:
        return self.root / "sites.yaml"

    def site(self, name: str) -> Path:
        return self.root / "sites" / name

    def log(self, process: str) -> Path:
        return self.logs / f"{process}.log"


class DataDirectory:
    """Holds the lock from `__enter__` to `__exit__`.

    Raises `DataDirectoryBusyError` naming the holder, `StorageError` when the disk refuses.
    """

    def __init__(self, root: Path) -> None:
        self.paths = Paths(root.expanduser().absolute())
        self._lock: IO[str] | None = None

    def __enter__(self) -> Paths:
        try:
            for directory in (self.paths.root, self.paths.api, self.paths.logs):
                directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            lock = open(self.paths.root / "lock", "a+")
        except OSError as error:
            raise StorageError(
                f"cannot use {self.paths.root} as data directory: {error.strerror}",
                hint="Give a directory that you may write to with --data DIR.",
            ) from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            lock.seek(0)
            holder = lock.read().strip() or "another process"
            lock.close()
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                raise StorageError(f"cannot lock {self.paths.root}: {error.strerror}") from error
            raise DataDirectoryBusyError(
                f"{self.paths.root} is held by {holder}",
                hint="Use the hub that runs there, stop it first (Ctrl-C), or give another directory with --data DIR.",
            ) from None
        lock.seek(0)
        lock.truncate()
        lock.write(f"`quarterdeck up` with pid {os.getpid()}")
        lock.flush()
        self._lock = lock
        return self.paths

    def __exit__(self, *exc: object) -> None:
        if self._lock is not None:
            self._lock.seek(0)
            self._lock.truncate()
            self._lock.close()
            self._lock = None


def ensure_token(paths: Paths, user: str, groups: list[str]) -> str:
    """The token of `user`, made on first use.

    Kept in the API server's token file and in that user's kubeconfig, nowhere else.
    """
    tokens = _read_tokens(paths.tokens)
    for token, owner in tokens.items():
        if owner.get("user") == user:
            return token
    token = secrets.token_urlsafe(32)
    tokens[token] = {"user": user, "groups": groups}
    write_private(paths.tokens, json.dumps(tokens, indent=1))
    return token


def write_private(path: Path, text: str) -> None:
    """Readable by the owner only, and never seen half written."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    partial = path.with_name(path.name + ".partial")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)


def choose_port(paths: Paths, wanted: int | None) -> int:
    """The port asked for, else the one used last time, else a free one.

    Raises `UsageError` when the one asked for is taken.
    """
    remembered = paths.root / "port"
    candidates = [wanted] if wanted else []
    if not wanted:
        with contextlib.suppress(OSError, ValueError):
            candidates.append(int(remembered.read_text()))
        candidates.append(0)
    for candidate in candidates:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", candidate or 0))
            except OSError:
                continue
            port = int(probe.getsockname()[1])
        write_private(remembered, str(port))
        return port
    raise UsageError(
        f"port {wanted} is in use by another process",
        field="--port",
        hint="Choose another with --port, or leave it out for a free one.",
    )


def _read_tokens(path: Path) -> dict[str, dict[str, object]]:
    try:
        tokens = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise StorageError(
            f"{path} is not readable as JSON: {error}", hint="Remove it: new tokens and kubeconfigs are made."
        ) from error
    return tokens if isinstance(tokens, dict) else {}
