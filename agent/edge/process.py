"""Runs containers as processes of this machine, each under a supervisor of its own that outlives the agent.

What ends a run is the end of its supervisor: then the rest of its group is killed, its mark is read, and what escaped
the group is looked for a little later. A supervisor that is gone without a mark was itself killed: the run counts as
killed (137, `RuntimeKilled`), its processes are found and ended first, so that nothing runs twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import select
import signal
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final

from agent.edge import procfs, shim
from agent.edge.cgroup import Cgroups
from agent.edge.enginecalls import EngineCalls
from agent.edge.images import ContainerEngine
from agent.edge.launch import Ended, Launch, LaunchFailed, RunEnd
from agent.edge.records import Record, Records, RunId, shortage
from hub.api.reasons import Reason

_log = logging.getLogger("agent.edge.process")

# How long after a run's end processes that left its group are looked for: one look serves many runs.
_SWEEP_SECONDS: Final = 3.0
_MEMORY_SECONDS: Final = 1.0
_LAST_GRACE: Final = 2.0
_KILLED: Final = 128 + signal.SIGKILL
# Far above the limit: many programs reserve much more than they use. Only a runaway between two looks meets it.
_DATA_FACTOR: Final = 4
_DATA_EXTRA: Final = 256 << 20


@dataclass(slots=True, eq=False)
class _Live:
    launch: Launch
    ended: Ended
    pid: int
    pidfd: int
    # Whether the supervisor is this process's child, whose resource use the kernel tells.
    child: bool
    began: float
    cgroup: bool = False
    reason: str | None = None
    # Whether when it is killed was only guessed: it was being stopped when the site came back.
    guessed: bool = False
    killer: asyncio.TimerHandle | None = None
    kill_at: float = 0.0
    sampled_cpu: float = 0.0
    killed: bool = False


class ProcessRuntime:
    """`token` tells this site's processes from another's on the same machine; it is kept with the records."""

    def __init__(
        self,
        records: Records,
        token: str,
        *,
        cgroups: Cgroups | None = None,
        engine: ContainerEngine | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._records = records
        self._token = token
        self._cgroups = cgroups
        self._engine = EngineCalls(engine, token) if engine is not None else None
        self._now = now
        self._live: dict[RunId, _Live] = {}
        self._found: dict[str, procfs.Marked] = {}
        self._sweeper: asyncio.TimerHandle | None = None
        # Until every object was taken in, a process without one is not yet a stranger.
        self._all_known = False

    def live(self) -> int:
        return len(self._live)

    def start(self, launch: Launch, ended: Ended) -> None:
        run, text = launch.run, str(launch.run)
        environment = {**launch.environment, procfs.MARKER: procfs.marker_value(self._token, text)}
        container = launch.container
        group = ""
        try:
            record = self._records.create(run, launch.started, launch.node, launch.gpus)
        except OSError as error:
            raise shortage(error, f"cannot start task {text}") or _cannot(launch, error) from error
        try:
            if self._cgroups is not None and not launch.engine_name:
                group = self._cgroups.create(text, container)
            limited = container.memory_limit if not group and not launch.engine_name else None
            pid = shim.spawn(
                launch.command,
                environment,
                record=record,
                log=self._records.log(run.owner, run.index),
                workdir=launch.workdir,
                cgroup=group,
                data_limit=None if limited is None else limited * _DATA_FACTOR + _DATA_EXTRA,
            )
        except (OSError, ValueError) as error:
            self._records.remove_run(run)
            if group and self._cgroups is not None:
                self._cgroups.remove(text)
            if isinstance(error, OSError) and (lacking := shortage(error, f"cannot start task {text}")) is not None:
                raise lacking from error
            raise _cannot(launch, error) from error
        finally:
            os.close(record)
        self._watch(_Live(launch, ended, pid, os.pidfd_open(pid), True, time.monotonic(), cgroup=bool(group)))

    def _watch(self, live: _Live) -> None:
        self._live[live.launch.run] = live
        asyncio.get_running_loop().add_reader(live.pidfd, self._supervisor_ended, live)

    def _supervisor_ended(self, live: _Live) -> None:
        run, text = live.launch.run, str(live.launch.run)
        asyncio.get_running_loop().remove_reader(live.pidfd)
        del self._live[run]
        if live.killer is not None:
            live.killer.cancel()
        cpu: float | None = None
        if live.child:
            # Not yet waited for, so the number is still its own: the rest of the group can be killed by it.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(live.pid, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                _, _, use = os.wait4(live.pid, 0)
                cpu = use.ru_utime + use.ru_stime
        os.close(live.pidfd)
        record = self._records.read(run)
        code = record.code if record is not None else None
        reason = live.reason
        if code is None or not live.child or live.killed:
            procfs.kill_marked(self._token, self._running(), only=(text,))
            if self._engine is not None and live.launch.engine_name:
                self._engine.remove(live.launch.engine_name)
        if live.cgroup and self._cgroups is not None:
            if reason is None and self._cgroups.out_of_memory(text):
                reason = Reason.OUT_OF_MEMORY.code
            self._cgroups.remove(text)
        if code is None:
            code = _KILLED
            reason = reason or Reason.RUNTIME_KILLED.code
        if reason is not None and live.reason is None:
            self._records.note(run, reason)
        recorded = record.cpu if record is not None else 0.0
        self._sweep_soon()
        live.ended(
            RunEnd(
                code=code,
                reason=reason,
                finished=self._now(),
                cpu=max(recorded if cpu is None else cpu, live.sampled_cpu),
                wall=max(0.0, time.monotonic() - live.began),
            )
        )

    def stop(self, run: RunId, grace: float, reason: str) -> None:
        live = self._live.get(run)
        if live is None:
            return
        loop = asyncio.get_running_loop()
        due = loop.time() + grace
        if live.reason is None:
            live.reason = reason
            self._records.note(run, reason)
            if grace > 0:
                self._signal_group(live, signal.SIGTERM)
        elif live.kill_at <= due and not live.guessed:
            return
        live.guessed = False
        if live.killer is not None:
            live.killer.cancel()
        live.kill_at = due
        live.killer = loop.call_later(grace, self._kill, live)

    def _kill(self, live: _Live) -> None:
        live.killer = None
        live.killed = True
        use = procfs.sessions({live.pid}).get(live.pid)
        live.sampled_cpu = use.cpu if use is not None else 0.0
        if live.cgroup and self._cgroups is not None:
            self._cgroups.kill(str(live.launch.run))
        self._signal_group(live, signal.SIGKILL)

    def _signal_group(self, live: _Live, number: signal.Signals) -> None:
        # The pidfd turns readable when the supervisor is gone: its number may then be another's.
        if not select.select([live.pidfd], [], [], 0)[0]:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(live.pid, number)

    # After a start of the site.

    def look_around(self) -> None:
        self._found = {
            process.run: process
            for process in procfs.marked(self._token)
            if process.session_leader and shim.is_shim(process.pid)
        }

    def adopt(self, record: Record, launch: Launch, ended: Ended) -> float | None:
        run, text = record.run, str(record.run)
        ago = max(0.0, self._now() - record.started)
        if record.code is not None:
            self._later(ended, self._end_of(record, record.code, record.reason))
            return ago
        found = self._found.pop(text, None)
        if found is not None:
            # The kernel's word for it: the clock may have been set since.
            age = procfs.age(found.pid)
            if age is not None and self._pin(found, record, launch, ended, age):
                return age
        again = self._records.read(run)
        if again is not None and again.code is not None:
            # It ended between the two looks.
            self._later(ended, self._end_of(again, again.code, again.reason))
            return ago
        if not record.marked_start and found is None:
            self._records.remove_run(run)
            return None
        procfs.kill_marked(self._token, self._running(), only=(text,))
        reason = record.reason or Reason.RUNTIME_KILLED.code
        self._records.note(run, reason)
        self._later(ended, self._end_of(record, _KILLED, reason))
        return ago

    def _pin(self, found: procfs.Marked, record: Record, launch: Launch, ended: Ended, age: float) -> bool:
        try:
            pidfd = os.pidfd_open(found.pid)
        except OSError:
            return False
        if not procfs.still_marked(found.pid, self._token, found.run):
            os.close(pidfd)
            return False
        child = _is_child(found.pid)
        live = _Live(launch, ended, found.pid, pidfd, child, time.monotonic() - age, reason=record.reason)
        live.cgroup = self._cgroups is not None and os.path.isdir(self._cgroups.path(found.run))
        self._watch(live)
        if record.reason is not None:
            # It was being stopped when the agent died: most of its grace is over.
            loop = asyncio.get_running_loop()
            live.kill_at, live.guessed = loop.time() + _LAST_GRACE, True
            live.killer = loop.call_at(live.kill_at, self._kill, live)
        return True

    def _end_of(self, record: Record, code: int, reason: str | None) -> RunEnd:
        finished = max(record.ended, record.started) if record.code is not None else self._now()
        return RunEnd(code, reason, finished, record.cpu, max(0.0, finished - record.started))

    def _later(self, ended: Ended, end: RunEnd) -> None:
        asyncio.get_running_loop().call_soon(ended, end)

    def forget_strangers(self) -> None:
        self._found.clear()
        self._all_known = True
        killed = procfs.kill_marked(self._token, self._running())
        if killed:
            _log.warning("ended processes that nobody wants", extra={"fields": {"pids": killed}})
        if self._engine is not None:
            self._engine.remove_all_but(live.launch.engine_name for live in self._live.values())

    # Upkeep.

    async def run(self) -> None:
        try:
            while True:
                await asyncio.sleep(_MEMORY_SECONDS)
                self._watch_memory()
        finally:
            if self._sweeper is not None:
                self._sweeper.cancel()
                self._sweeper = None
            loop = asyncio.get_running_loop()
            for live in self._live.values():
                loop.remove_reader(live.pidfd)
                os.close(live.pidfd)
                if live.killer is not None:
                    live.killer.cancel()
            self._live.clear()
            if self._engine is not None:
                self._engine.close()

    def _watch_memory(self) -> None:
        """Memory limits where no cgroup keeps them: by what the task's processes hold for themselves."""
        limited = {
            live.pid: (live, live.launch.container.memory_limit)
            for live in self._live.values()
            if live.launch.container.memory_limit is not None
            and not live.cgroup
            and not live.launch.engine_name
            and not live.killed
        }
        if not limited:
            return
        for pid, use in procfs.sessions(limited).items():
            live, limit = limited[pid]
            live.sampled_cpu = use.cpu
            if limit is not None and use.memory > limit:
                fields = {"run": live.launch.run, "used": use.memory, "limit": limit}
                _log.warning("task uses more memory than its limit", extra={"fields": fields})
                self.stop(live.launch.run, 0.0, Reason.OUT_OF_MEMORY.code)

    def _sweep_soon(self) -> None:
        if self._sweeper is None:
            self._sweeper = asyncio.get_running_loop().call_later(_SWEEP_SECONDS, self._sweep)

    def _sweep(self) -> None:
        self._sweeper = None
        if not self._all_known:
            self._sweep_soon()
            return
        killed = procfs.kill_marked(self._token, self._running())
        if killed:
            _log.info("ended processes that outlived their tasks", extra={"fields": {"pids": killed}})

    def _running(self) -> Collection[str]:
        return {str(run) for run in self._live}


def _cannot(launch: Launch, error: Exception) -> LaunchFailed:
    return LaunchFailed(f"cannot start {launch.command[0] if launch.command else 'the container'}: {error}")


def _is_child(pid: int) -> bool:
    """Of this very process: a site may start anew within one agent."""
    try:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except OSError:
        return False
    return True
