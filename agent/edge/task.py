"""One task on one node from its start to its end: init containers in order, then all others at once.

It turns a pod's plan into runs of its containers and the ends of those runs into one end of the task. It decides no
placement and counts nothing: the Job or Pod it belongs to does.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from agent.edge.container import container_name, engine_command
from agent.edge.environment import TaskFacts, command_line, container_environment
from agent.edge.images import HOST, ContainerEngine
from agent.edge.launch import Launch, LaunchFailed, RunEnd, Runtime
from agent.edge.nodes import Place
from agent.edge.notice import FILE, INSIDE, Notice, give, take_away
from agent.edge.podplan import ContainerPlan, PodPlan
from agent.edge.program import resolve
from agent.edge.records import Record, Records, RunId, Shortage
from hub.api import names
from hub.api.errors import InvalidObjectError
from hub.api.reasons import Reason

_log = logging.getLogger("agent.edge.task")
# Kubernetes' CrashLoopBackOff.
_RESTART_FIRST: Final = 10.0
_RESTART_CAP: Final = 300.0


@dataclass(frozen=True, slots=True)
class Machinery:
    """What all tasks of a site share. `gpu_names(node, numbers)`: what the driver calls them."""

    runtime: Runtime
    records: Records
    token: str
    engine: ContainerEngine | None
    base_environment: Mapping[str, str]
    gpu_names: Callable[[str, tuple[int, ...]], tuple[str, ...]]
    hides_gpus: bool
    time_scale: float | None
    now: Callable[[], float]
    restart_first: float = _RESTART_FIRST


@dataclass(frozen=True, slots=True)
class TaskEnd:
    """How a task ended; `code` is of the first container that failed, 0 when none did. Seconds, epoch seconds."""

    code: int
    reason: str | None
    started: float
    finished: float
    cpu: float
    wall: float


@dataclass(eq=False, slots=True)
class Task:
    """`start` once, or `adopt` and then `start`; `ended` is called once, `changed` when a container starts or ends."""

    machinery: Machinery
    plan: PodPlan
    owner: str
    index: int
    attempt: int
    place: Place
    facts: TaskFacts
    given: Mapping[str, str]
    configs: Mapping[tuple[str, str], Mapping[str, str]]
    ended: Callable[[Task, TaskEnd], None]
    changed: Callable[[Task], None] = lambda task: None
    started: float = 0.0
    restarts: dict[int, int] = field(default_factory=dict)
    ends: dict[int, RunEnd] = field(default_factory=dict)
    live: dict[int, RunId] = field(default_factory=dict)
    _pausing: dict[int, asyncio.TimerHandle] = field(default_factory=dict)
    _deadline: asyncio.TimerHandle | None = None
    _stopping: str | None = None
    _cpu: float = 0.0
    _over: bool = False

    @property
    def containers(self) -> tuple[ContainerPlan, ...]:
        return (*self.plan.init, *self.plan.containers)

    def start(self) -> None:
        """Starts what is to be started now. Raises `Shortage` when nothing of it could be; call again later."""
        if not self.started:
            self.started = self.machinery.now()
            take_away(self.machinery.records.notice(self.owner, self.index))
        if self.plan.deadline is not None and self._deadline is None:
            left = self.started + self.plan.deadline - self.machinery.now()
            self._deadline = asyncio.get_running_loop().call_later(max(0.0, left), self._deadline_passed)
        # One that was taken up has begun: what it cannot start now it starts later.
        self._advance(first=not self.live)

    def adopt(self, records: Iterable[Record]) -> bool:
        """Takes up the runs of before. False when none of them ever started."""
        found = False
        latest: dict[int, Record] = {}
        for record in sorted(records, key=lambda record: record.run):
            number = record.run.container
            if number in latest:
                self._cpu += latest[number].cpu
            if number < len(self.containers):
                latest[number] = record
        for number, record in latest.items():
            self.restarts[number] = record.run.restart
            launch = self._bare_launch(record.run, record.started)
            ago = self.machinery.runtime.adopt(record, launch, partial(self._run_ended, number))
            if ago is not None:
                found = True
                self.live[number] = record.run
                started = self.machinery.now() - ago
                self.started = min(self.started or started, started)
        return found

    @property
    def stopping(self) -> bool:
        return self._stopping is not None

    def stop(self, reason: str, notice: Notice | None = None) -> None:
        """Asks all of it to end; it ends with `reason`, unless its processes end well by themselves.

        It has its pod's grace, and with a `notice` at least until then.
        """
        if self._over:
            return
        grace = self.plan.grace
        if notice is not None:
            now = self.machinery.now()
            grace = max(grace, notice.until - now)
            if not self.stopping and self.machinery.time_scale is None:
                give(self.machinery.records.notice(self.owner, self.index), notice, now + grace, now)
        self._stopping = self._stopping or reason
        for timer in self._pausing.values():
            timer.cancel()
        self._pausing.clear()
        for run in list(self.live.values()):
            self.machinery.runtime.stop(run, grace, reason)
        if not self.live:
            asyncio.get_running_loop().call_soon(self._finish)

    def abandon(self) -> None:
        """Forgets it without ending it: the site itself goes, and its tasks go on."""
        self._over = True
        for timer in (*self._pausing.values(), self._deadline):
            if timer is not None:
                timer.cancel()

    def _deadline_passed(self) -> None:
        self._deadline = None
        self.stop(Reason.DEADLINE_EXCEEDED.code)

    def _advance(self, *, first: bool = False) -> None:
        if self._stopping is not None:
            return
        inits = len(self.plan.init)
        for number in range(inits):
            if number in self.live or number in self._pausing:
                return
            if number not in self.ends:
                self._try(number, first)
                return
        for number in range(inits, len(self.containers)):
            if number not in self.ends and number not in self.live and number not in self._pausing:
                self._try(number, first and number == inits)

    def _try(self, number: int, first: bool) -> None:
        try:
            self._launch(number)
        except Shortage as error:
            if first:
                raise
            _log.warning("container has to wait", extra={"fields": {"task": self.facts.name, "why": error}})
            self._pause(number, 2.0)
        except LaunchFailed as failure:
            self._cannot_start(number, failure)
        except InvalidObjectError as error:
            # Checked when the job was taken in; what it refers to has changed since.
            self._cannot_start(number, LaunchFailed(str(error)))

    def _launch(self, number: int) -> None:
        run = RunId(self.owner, self.index, self.attempt, number, self.restarts.get(number, 0))
        now = self.machinery.now()
        launch = self._bare_launch(run, now) if self.machinery.time_scale is not None else self._full_launch(run, now)
        self.machinery.runtime.start(launch, partial(self._run_ended, number))
        self.live[number] = run
        self.changed(self)

    def _bare_launch(self, run: RunId, now: float) -> Launch:
        container = self.containers[run.container]
        scale = self.machinery.time_scale
        simulated = None if scale is None else (self.plan.simulated_seconds / scale, self.plan.simulated_exit)
        name = "" if container.target == HOST else container_name(self.machinery.token, str(run))
        return Launch(
            run, now, self.place.node, self.place.gpus, container, engine_name=name, simulated=simulated
        )  # fmt: skip

    def _full_launch(self, run: RunId, now: float) -> Launch:
        container, machinery = self.containers[run.container], self.machinery
        gpus = machinery.gpu_names(self.place.node, self._gpus_of(run.container))
        # In a container only its own GPUs are there, and counted from 0.
        visible = self._gpu_variables(container, gpus) if container.target == HOST else {}
        notice = machinery.records.notice(self.owner, self.index)
        where = notice if container.target == HOST else f"{INSIDE}/{FILE}"
        given = {**self.given, **visible, names.ENV_NOTICE_FILE: where}
        variables = container_environment(container, self.plan, self.facts, given, self.configs)
        command, args = command_line(container, variables)
        environment = {**machinery.base_environment, "HOSTNAME": self.facts.name, **variables}
        workdir = container.workdir or machinery.records.workdir(self.owner)
        name = ""
        if container.target == HOST:
            if not os.path.isdir(workdir):
                raise LaunchFailed(f"the working directory {workdir} is not there on this site")
            line = resolve((*command, *args), environment["PATH"], workdir)
        else:
            assert machinery.engine is not None
            name, scratch = (
                container_name(machinery.token, str(run)),
                f"{machinery.records.workdir(self.owner)}/{self.index}",
            )
            for mount in container.mounts:
                if not mount.source:
                    os.makedirs(f"{scratch}/{mount.name}", exist_ok=True)
            os.makedirs(os.path.dirname(notice), mode=0o755, exist_ok=True)
            line = engine_command(
                machinery.engine, container, command, args, variables, name=name, token=machinery.token,
                gpus=gpus, scratch=scratch, notices=os.path.dirname(notice),
            )  # fmt: skip
            workdir = "/"
        return Launch(
            run, now, self.place.node, self.place.gpus, container, line, environment, workdir, engine_name=name
        )  # fmt: skip

    def _gpus_of(self, number: int) -> tuple[int, ...]:
        """A container's own part of the task's GPUs; init containers run before and may have the same."""
        container = self.containers[number]
        if container.gpu_share:
            return self.place.gpus[:1]
        before = (
            0 if number < len(self.plan.init) else sum(c.gpus for c in self.containers[len(self.plan.init) : number])
        )
        return self.place.gpus[before : before + container.gpus]

    def _gpu_variables(self, container: ContainerPlan, gpus: tuple[str, ...]) -> dict[str, str]:
        if gpus:
            found = {"CUDA_VISIBLE_DEVICES": ",".join(gpus), "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
            if container.gpu_share:
                found["CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"] = str(max(1, container.gpu_share // 10))
            return found
        # Exclusive means that nobody else sees them.
        return {"CUDA_VISIBLE_DEVICES": ""} if self.machinery.hides_gpus else {}

    def _cannot_start(self, number: int, failure: LaunchFailed) -> None:
        now = self.machinery.now()
        run = RunId(self.owner, self.index, self.attempt, number, self.restarts.get(number, 0))
        message = Reason.START_FAILED.message(detail=failure)
        # Whether or not that can be written: it has failed.
        with contextlib.suppress(OSError):
            self.machinery.records.workdir(self.owner)
            with open(self.machinery.records.log(self.owner, self.index), "ab") as log:
                log.write(f"quarterdeck: {message}\n".encode())
            marks = f"start\nexit {failure.code}\n".encode()
            os.close(self.machinery.records.create(run, now, self.place.node, self.place.gpus, marks))
            self.machinery.records.note(run, failure.reason)
        self.live[number] = run
        end = RunEnd(failure.code, failure.reason, now, 0.0, 0.0)
        asyncio.get_running_loop().call_soon(self._run_ended, number, end)

    def _run_ended(self, number: int, end: RunEnd) -> None:
        if self._over:
            return
        self.live.pop(number, None)
        self._cpu += end.cpu
        init = number < len(self.plan.init)
        if self._stopping is None and self._restarts(init, end):
            count = self.restarts.get(number, 0)
            self.restarts[number] = count + 1
            self._pause(number, min(self.machinery.restart_first * 2**count, _RESTART_CAP))
            self.changed(self)
            return
        self.ends[number] = end
        if init and end.code != 0 and self._stopping is None:
            self._stopping = end.reason or ""
        if self._stopping is None:
            self._advance()
        if self.live or self._pausing:
            self.changed(self)
        else:
            self._finish()

    def _restarts(self, init: bool, end: RunEnd) -> bool:
        if end.reason == Reason.DEADLINE_EXCEEDED.code or self.plan.restart == "Never":
            return False
        return end.code != 0 or (self.plan.restart == "Always" and not init)

    def _pause(self, number: int, seconds: float) -> None:
        self._pausing[number] = asyncio.get_running_loop().call_later(seconds, self._resume, number)

    def _resume(self, number: int) -> None:
        self._pausing.pop(number, None)
        if self._stopping is None:
            self._try(number, False)

    def _finish(self) -> None:
        if self._over:
            return
        self._over = True
        if self._deadline is not None:
            self._deadline.cancel()
        ends = [self.ends[number] for number in sorted(self.ends)]
        failed = next((end for end in ends if end.code != 0), None)
        finished = max((end.finished for end in ends), default=self.machinery.now())
        if failed is not None:
            code, reason = failed.code, failed.reason or self._stopping or None
        elif len(ends) < len(self.containers):
            # Stopped between two containers: it did not come to its end.
            code, reason = 143, self._stopping
        else:
            code, reason = 0, None
        wall = ends[0].wall if len(ends) == 1 else max(0.0, finished - self.started)
        self.ended(self, TaskEnd(code, reason, self.started, finished, self._cpu, wall))
