"""Processes that belong together: started in order, restarted when they die, stopped in the reverse order.

It knows nothing of what they do. Each writes to its own log file; a process that keeps dying is tried again ever more
slowly and its last lines are shown, so that a person sees why without opening a file.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

_PR_SET_PDEATHSIG = 1
# Looked up here: after a fork nothing may be loaded any more.
_PRCTL = ctypes.CDLL(None, use_errno=True).prctl

# A longer log is put away when its process starts.
_LOG_BYTES: Final = 16 * 2**20


@dataclass(frozen=True, slots=True)
class ProcessSpec:
    name: str
    argv: tuple[str, ...]
    log: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    # Seconds between SIGTERM and SIGKILL at the end.
    grace: float = 10.0


class Supervised:
    """One process kept alive. `notice` is told, in one line, what a person should know.

    `refused`: it has ended with code 2, the code for a mistake in what it was given, within moments of its first start:
    another start would end the same, so there is none.
    """

    def __init__(self, spec: ProcessSpec, notice: Callable[[str], None]) -> None:
        self.spec = spec
        self.restarts = 0
        self.refused = False
        self._log_start = 0
        self._notice = notice
        self._process: asyncio.subprocess.Process | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._stopping = False

    @property
    def pid(self) -> int | None:
        process = self._process
        return process.pid if process is not None and process.returncode is None else None

    async def start(self) -> None:
        await self._spawn()
        self._keeper = asyncio.create_task(self._keep(), name=f"keep {self.spec.name}")

    def let_die(self) -> None:
        """From now on it is not started again."""
        self._stopping = True

    async def stop(self) -> None:
        self.let_die()
        if self._keeper is not None:
            self._keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._keeper
        process = self._process
        if process is None or process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(process.wait(), self.spec.grace)
        except TimeoutError:
            self._notice(f"{self.spec.name} did not stop within {self.spec.grace:.0f} s; killed")
            self.kill()
            await process.wait()

    def kill(self) -> None:
        if self.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    def tail(self, lines: int = 8) -> str:
        """The last lines of what it wrote since it was started the last time."""
        with contextlib.suppress(OSError), open(self.spec.log, "rb") as log:
            log.seek(max(self._log_start, log.seek(0, os.SEEK_END) - 8192))
            return "\n".join(log.read().decode(errors="replace").splitlines()[-lines:])
        return ""

    async def _spawn(self) -> None:
        self.spec.log.parent.mkdir(parents=True, exist_ok=True)
        _put_away(self.spec.log)
        with open(self.spec.log, "ab") as log:
            self._log_start = log.tell()
            # A session of its own: Ctrl-C reaches only the supervisor, which then stops everything in order.
            self._process = await asyncio.create_subprocess_exec(
                *self.spec.argv,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **self.spec.environment},
                start_new_session=True,
                preexec_fn=_end_with_parent,
            )

    async def _keep(self) -> None:
        clock = asyncio.get_running_loop().time
        delay = 0.2
        while True:
            process, started = self._process, clock()
            assert process is not None
            code = await process.wait()
            if self._stopping:
                return
            if code == 2 and not self.restarts and clock() - started < 30:
                self.refused = True
                return
            delay = 0.2 if clock() - started > 30 else min(delay * 2, 10.0)
            self.restarts += 1
            ended = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
            self._notice(f"{self.spec.name} {ended}; starting it again in {delay:.1f} s (log: {self.spec.log})")
            if code > 0 and (tail := self.tail(3)):
                self._notice(tail)
            await asyncio.sleep(delay)
            await self._spawn()


def _end_with_parent() -> None:
    """Asks the kernel to end this process when its supervisor is killed: nothing may go on holding the data unseen."""
    _PRCTL(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _put_away(log: Path) -> None:
    """A long log of earlier runs becomes LOG.1; the one before that goes."""
    with contextlib.suppress(FileNotFoundError):
        if log.stat().st_size > _LOG_BYTES:
            log.replace(log.with_name(log.name + ".1"))


class ProcessGroup:
    """Several `Supervised`, in the order they were started."""

    def __init__(self, notice: Callable[[str], None]) -> None:
        self._notice = notice
        self._members: list[Supervised] = []

    def __getitem__(self, name: str) -> Supervised:
        return next(member for member in self._members if member.spec.name == name)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(member.spec.name for member in self._members)

    async def start(self, specs: Sequence[ProcessSpec]) -> None:
        """All of them at once; they may not depend on each other."""
        members = [Supervised(spec, self._notice) for spec in specs]
        self._members += members
        await asyncio.gather(*(member.start() for member in members))

    def let_die(self) -> None:
        """All are about to be stopped: none is started again."""
        for member in self._members:
            member.let_die()

    async def stop(self, names: Sequence[str]) -> None:
        """These, side by side; unknown names are ignored."""
        await asyncio.gather(*(member.stop() for member in self._members if member.spec.name in names))

    def kill(self) -> None:
        for member in self._members:
            member.kill()
