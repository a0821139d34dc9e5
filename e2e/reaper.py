"""Kills what is listed once nobody holds its standard input any more: `python reaper.py FILE`.

A program of its own (e2e/processes.py starts it), since whoever is killed with SIGKILL cannot clean up after itself.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys


def start_time(pid: int) -> str:
    """Ticks after boot at which `pid` started: with the pid this names a process for good. Nothing if it is gone."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[19]
    except OSError:
        return ""


def reap(listed: str) -> None:
    with open(listed) as file:
        for line in file:
            pid, started, _ = line.split(" ", 2)
            if started and start_time(int(pid)) == started:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(int(pid), signal.SIGKILL)


if __name__ == "__main__":
    sys.stdin.buffer.read()
    # No such file: its directory is gone, all ended in order.
    with contextlib.suppress(FileNotFoundError):
        reap(sys.argv[1])
