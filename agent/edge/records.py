"""What is on disk of each task: one small record a process run, one log a task. It outlives the agent and the task.

A record is a file of fixed size, written in full before the process starts, so that the process's supervisor can write
how it ended even on a full disk. Its parts: what the site decided (JSON), the site's notes (why it stopped the task),
and the supervisor's marks (`start`, `exit CODE`, CPU times). Marks are single short writes into bytes that exist: a
kill leaves a mark whole or absent. The record is the truth until the Job's status, which the API makes durable before
anyone can read it, says the same; nothing is reported from a record alone.

    DIR/<uid of Job or Pod>/<index>.log
    DIR/<uid of Job or Pod>/<index>-<attempt>-<container>-<restart>.rec
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import orjson

from hub.api.errors import StorageError

_HEADER: Final = 1024
_NOTES: Final = 512
_MARKS: Final = 512
_NOTES_AT: Final = _HEADER
_MARKS_AT: Final = _HEADER + _NOTES
_BLANK: Final = b" " * (_HEADER + _NOTES + _MARKS)
_NAME: Final = re.compile(r"([0-9]+)-([0-9]+)-([0-9]+)-([0-9]+)\.rec")
_TIMES: Final = re.compile(rb"([0-9]+)m([0-9.,]+)s")
# Not the task's fault, and over some time: the task waits instead of failing.
_SHORTAGES: Final = {errno.ENOSPC, errno.EDQUOT, errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE}


@dataclass(frozen=True, slots=True, order=True)
class RunId:
    """One process run: of which Job or Pod, task (completion index), attempt, container (init first), restart."""

    owner: str
    index: int
    attempt: int
    container: int = 0
    restart: int = 0

    def __str__(self) -> str:
        return f"{self.owner}/{self.index}-{self.attempt}-{self.container}-{self.restart}"


@dataclass(frozen=True, slots=True)
class Record:
    """What the file of one run says. `started` is epoch seconds as the site decided it; `ended` when it was marked.

    `marked_start`: the process was really started. `code` is None until it ended. `reason`: the site's note.
    """

    run: RunId
    started: float
    node: str
    gpus: tuple[int, ...]
    marked_start: bool
    code: int | None
    reason: str | None
    ended: float
    cpu: float


class Shortage(StorageError):
    """The machine lacks space, processes or file handles: nothing was started, nothing is lost, try again later."""


def shortage(error: OSError, what: str) -> Shortage | None:
    """The shortage that `error` is, if it is one."""
    if error.errno not in _SHORTAGES:
        return None
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    return Shortage(
        f"{what}: {error.strerror}",
        hint="Free some space on the site: its tasks wait and nothing is lost."
        if full
        else "The site waits for resources and tries again.",
    )


class Records:
    """All of them, under one directory. Raises `StorageError` when the directory cannot be used."""

    def __init__(self, root: Path) -> None:
        self.root = root
        try:
            root.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise StorageError(f"cannot use {root} for records of tasks: {error.strerror}") from error
        self._made: set[str] = set()

    def directory(self, owner: str) -> Path:
        return self.root / owner

    def workdir(self, owner: str) -> str:
        """Where tasks run that name no directory: one a Job, gone with it."""
        path = f"{self.root}/{owner}/work"
        if owner not in self._made:
            os.makedirs(path, mode=0o700, exist_ok=True)
            self._made.add(owner)
        return path

    def notice(self, owner: str, index: int) -> str:
        """The file by which a task is told that it has to go (agent/edge/notice.py)."""
        return f"{self.root}/{owner}/notices/{index}/notice"

    def log(self, owner: str, index: int) -> str:
        return f"{self.root}/{owner}/{index}.log"

    def path(self, run: RunId) -> str:
        return f"{self.root}/{run}.rec"

    def create(self, run: RunId, started: float, node: str, gpus: tuple[int, ...], marks: bytes = b"") -> int:
        """The open file, placed where the supervisor writes its marks. Raises `OSError`; then there is no record."""
        header = orjson.dumps({"started": started, "node": node, "gpus": gpus})
        if len(header) > _HEADER:
            raise ValueError("a record's header does not fit")
        self.workdir(run.owner)
        path = self.path(run)
        # One that is there was not readable when the site came back, or its run would have been taken up.
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            content = header + _BLANK[len(header) :]
            if marks:
                content = content[:_MARKS_AT] + marks.ljust(_MARKS)
            if os.write(handle, content) != len(content):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.lseek(handle, _MARKS_AT, os.SEEK_SET)
        except BaseException:
            os.close(handle)
            os.unlink(path)
            raise
        return handle

    def note(self, run: RunId, reason: str) -> None:
        """Why the site ends this run, before it does. A note that cannot be written costs the reason only."""
        with contextlib.suppress(OSError), open(self.path(run), "r+b") as file:
            os.pwrite(file.fileno(), reason.encode()[:_NOTES].ljust(_NOTES), _NOTES_AT)

    def mark(self, run: RunId, marks: str) -> None:
        """In the supervisor's stead: for runs that have none. Raises `OSError`."""
        with open(self.path(run), "r+b") as file:
            os.pwrite(file.fileno(), marks.encode().ljust(_MARKS), _MARKS_AT)

    def read(self, run: RunId) -> Record | None:
        """None when there is no such record, or none that was written in full."""
        try:
            with open(self.path(run), "rb") as file:
                content = file.read(len(_BLANK))
                ended = os.fstat(file.fileno()).st_mtime
        except OSError:
            return None
        try:
            header = orjson.loads(content[:_HEADER])
            started, node = float(header["started"]), str(header["node"])
            gpus = tuple(int(gpu) for gpu in header["gpus"])
        except (ValueError, KeyError, TypeError):
            return None
        marks = content[_MARKS_AT:].strip(b" \0")
        code = cpu = None
        for line in marks.split(b"\n"):
            if line.startswith(b"exit ") and line[5:].isdigit():
                code = int(line[5:])
        times = _TIMES.findall(marks)
        cpu = sum(int(minutes) * 60 + float(seconds.replace(b",", b".")) for minutes, seconds in times)
        return Record(
            run=run,
            started=started,
            node=node,
            gpus=gpus,
            marked_start=marks.startswith(b"start"),
            code=code,
            reason=content[_NOTES_AT:_MARKS_AT].strip(b" \0").decode(errors="replace") or None,
            ended=ended,
            cpu=cpu,
        )

    def remove_run(self, run: RunId) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path(run))

    def owners(self) -> list[str]:
        with os.scandir(self.root) as entries:
            return sorted(entry.name for entry in entries if entry.is_dir())

    def runs(self, owner: str) -> Iterator[RunId]:
        """By file name only; cheap for many."""
        with contextlib.suppress(FileNotFoundError):
            for name in sorted(os.listdir(self.directory(owner))):
                match = _NAME.fullmatch(name)
                if match is not None:
                    index, attempt, container, restart = map(int, match.groups())
                    yield RunId(owner, index, attempt, container, restart)

    def runs_of(self, owner: str, index: int) -> list[RunId]:
        """Of one task, in order."""
        return [run for run in self.runs(owner) if run.index == index] if index >= 0 else []

    def remove(self, owner: str) -> None:
        """Everything of one Job or Pod: records, logs, working directory. Slow for many tasks: call it in a thread."""
        self._made.discard(owner)
        shutil.rmtree(self.directory(owner), ignore_errors=True)
