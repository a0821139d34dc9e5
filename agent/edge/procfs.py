"""Which processes of this machine belong to which task, read from /proc.

A task's processes carry its name in their environment (`MARKER`), which they inherit whatever group or session they
move to. A pid is never trusted alone: it is pinned (pidfd), looked at again, and only then signalled. What a process
can hide from here: one that starts another with an emptied environment and in a session of its own; a cgroup finds it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Final

MARKER: Final = "QUARTERDECK_RUN"
_PREFIX: Final = f"{MARKER}=".encode()
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")
_TICKS: Final = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Marked:
    """A process with our marker. `run` is the marker's value without the site's token."""

    pid: int
    run: str
    session_leader: bool


@dataclass(slots=True)
class SessionUse:
    """What the processes of one session use now: bytes that are theirs alone, CPU seconds so far."""

    memory: int = 0
    cpu: float = 0.0


def marker_value(token: str, run: str) -> str:
    return f"{token}:{run}"


def marked(token: str) -> list[Marked]:
    """Every process that carries a marker of the site `token`. One pass over /proc."""
    needle = _PREFIX + token.encode() + b":"
    found = []
    for pid in _pids():
        run = _run_of(pid, needle)
        if run is not None:
            found.append(Marked(pid, run, _session(pid) == pid))
    return found


def kill_marked(token: str, keep: Collection[str], only: Collection[str] | None = None) -> list[int]:
    """SIGKILLs processes of the site whose run is not in `keep` (and in `only`, where given); returns their pids.

    Looks again until none is found (a process may fork while others are killed), five times at most.
    """
    needle = _PREFIX + token.encode() + b":"
    killed: list[int] = []
    for _ in range(5):
        found = [
            process.pid
            for process in marked(token)
            if process.run not in keep and (only is None or process.run in only)
        ]
        # One that is dying already is still to be seen for a moment.
        fresh = [pid for pid in found if pid not in killed and _kill(pid, needle)]
        killed += fresh
        if not fresh:
            break
    return killed


def _kill(pid: int, needle: bytes) -> bool:
    try:
        handle = os.pidfd_open(pid)
    except OSError:
        return False
    try:
        # Between the first look and the pin the pid may have become another process.
        if _run_of(pid, needle) is None:
            return False
        signal.pidfd_send_signal(handle, signal.SIGKILL)
        return True
    except OSError:
        return False
    finally:
        os.close(handle)


def still_marked(pid: int, token: str, run: str) -> bool:
    return _run_of(pid, _PREFIX + token.encode() + b":") == run


def age(pid: int) -> float | None:
    """Seconds since the process was started, whatever the clock says; None when it is gone."""
    fields = _stat(pid)
    if fields is None:
        return None
    return max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - int(fields[19]) / _TICKS)


def sessions(wanted: Collection[int]) -> dict[int, SessionUse]:
    """Use by session id, of `wanted` sessions only."""
    found: dict[int, SessionUse] = {}
    for pid in _pids():
        fields = _stat(pid)
        if fields is None:
            continue
        session = int(fields[3])
        if session not in wanted:
            continue
        use = found.setdefault(session, SessionUse())
        use.cpu += (int(fields[11]) + int(fields[12]) + int(fields[13]) + int(fields[14])) / _TICKS
        with contextlib.suppress(OSError, ValueError), open(f"/proc/{pid}/statm", "rb") as file:
            _, resident, shared = file.read().split()[:3]
            use.memory += max(0, int(resident) - int(shared)) * _PAGE
    return found


def _pids() -> Iterator[int]:
    for name in os.listdir("/proc"):
        if name.isdigit():
            yield int(name)


def _run_of(pid: int, needle: bytes) -> str | None:
    try:
        with open(f"/proc/{pid}/environ", "rb", buffering=0) as file:
            environment = file.read()
    except OSError:
        return None
    at = environment.find(needle)
    if at < 0 or (at > 0 and environment[at - 1] != 0):
        return None
    end = environment.find(b"\0", at)
    return environment[at + len(needle) : end if end >= 0 else None].decode(errors="replace")


def _session(pid: int) -> int:
    fields = _stat(pid)
    return int(fields[3]) if fields is not None else -1


def _stat(pid: int) -> list[bytes] | None:
    """Fields of /proc/PID/stat from the state on: 3 is the session, 11 to 14 CPU ticks, 19 the start since boot."""
    try:
        with open(f"/proc/{pid}/stat", "rb", buffering=0) as file:
            text = file.read()
    except OSError:
        return None
    return text[text.rfind(b")") + 2 :].split()
