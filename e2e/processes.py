"""Every process of a control plane, by pid in one place, and gone when the one who started them is.

They are children with logs of their own, in sessions of their own, so that Ctrl-C reaches the harness alone, which then
ends them. Should the harness itself be killed, a reaper that holds the other end of a pipe does it: it reads the same
list (`pids` in the directory: pid, start time, name), and a pid that meanwhile belongs to another is left alone.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from e2e.reaper import start_time


class ProcessEndedError(Exception):
    """A process ended by itself; the message ends with the last lines of its log."""


class Processes:
    """A context manager: whatever was started is killed at its end. May be used from several threads."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._lock = threading.Lock()
        self._reaper: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.directory.mkdir(parents=True, exist_ok=True)
        (self.directory / "logs").mkdir(exist_ok=True)
        listed = self.directory / "pids"
        listed.touch()
        # -I -S: a third of the memory and of the start; it needs nothing but the standard library.
        reaper = [sys.executable, "-I", "-S", str(Path(__file__).with_name("reaper.py")), str(listed)]
        self._reaper = subprocess.Popen(reaper, stdin=subprocess.PIPE, start_new_session=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill(self.names())
        if self._reaper is not None and self._reaper.stdin is not None:
            self._reaper.stdin.close()
            self._reaper.wait()

    def start(
        self,
        name: str,
        command: Sequence[str],
        *,
        environment: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> subprocess.Popen[bytes]:
        """Its output goes to `log(name)`. A name may be used again once its process is gone."""
        with self._lock, self.log(name).open("ab") as log:
            before = self._running.get(name)
            if before is not None and before.poll() is None:
                raise ValueError(f"{name} runs already, pid {before.pid}")
            process = subprocess.Popen(
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=dict(environment) if environment is not None else None,
                cwd=cwd,
                start_new_session=True,
            )
            self._running[name] = process
            with (self.directory / "pids").open("a") as file:
                file.write(f"{process.pid} {start_time(process.pid)} {name}\n")
        return process

    def log(self, name: str) -> Path:
        return self.directory / "logs" / f"{name}.log"

    def names(self) -> list[str]:
        """Of those that run, the oldest first."""
        with self._lock:
            return [name for name, process in self._running.items() if process.poll() is None]

    def pids(self) -> dict[str, int]:
        with self._lock:
            return {name: process.pid for name, process in self._running.items() if process.poll() is None}

    def check(self, name: str) -> None:
        """Raises ProcessEndedError when it does not run (any more)."""
        process = self._running[name]
        if process.poll() is not None:
            tail = "\n".join(self.log(name).read_text(errors="replace").splitlines()[-15:])
            raise ProcessEndedError(f"{name} ended with code {process.returncode}; its last words:\n{tail}")

    def signal(self, name: str, number: signal.Signals) -> None:
        """To it and to those it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._running[name].pid, number)

    def kill(self, names: Iterable[str]) -> None:
        """At once, and all together: nothing is saved. Returns when they are gone."""
        for name in (chosen := list(names)):
            self.signal(name, signal.SIGKILL)
        for name in chosen:
            self._running[name].wait()

    def stop(self, name: str, seconds: float = 10.0) -> int:
        """In order: asked first, killed after `seconds`. Returns its exit code."""
        self.signal(name, signal.SIGTERM)
        try:
            return self._running[name].wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill([name])
            return self._running[name].returncode

    def cpu_seconds(self) -> dict[str, float]:
        """What each has used, those it started and has waited for included."""
        ticks = os.sysconf("SC_CLK_TCK")
        return {name: sum(map(int, _stat(pid)[11:15])) / ticks for name, pid in self.pids().items() if _stat(pid)}

    def resident_bytes(self) -> dict[str, int]:
        page = os.sysconf("SC_PAGE_SIZE")
        return {name: int(_stat(pid)[21]) * page for name, pid in self.pids().items() if _stat(pid)}


def _stat(pid: int) -> list[str]:
    """Fields of /proc/PID/stat from the third on; empty when it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def wait_for(condition: object, seconds: float, what: str) -> None:
    """Calls `condition` until it is true. Raises TimeoutError."""
    assert callable(condition)
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {seconds:.0f} s: {what}")
        time.sleep(0.05)
