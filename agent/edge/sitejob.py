"""One Job at work on a site: takes it in, starts its tasks where it is told to, stops them, and says how it stands.

The Job's tasks are no Pods of the API: a site may run a hundred a second, and each would cost three writes. What a task
is, its record on disk and the Job's status say together.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from agent.edge.configs import Found
from agent.edge.environment import TaskFacts, check_environments, sources
from agent.edge.host import INTERVAL, SETTLE, Host
from agent.edge.joblog import completions_asked, log_place
from agent.edge.jobplan import JobDials, JobPlan, job_dials, job_plan
from agent.edge.jobrun import Progress
from agent.edge.jobtakeup import take_up
from agent.edge.logs import LogPlace
from agent.edge.nodes import Need, Place
from agent.edge.notice import Notice, notice_of
from agent.edge.podplan import PodRefused
from agent.edge.records import RunId
from agent.edge.task import Task, TaskEnd
from agent.edge.timers import Timers
from hub.api import names
from hub.api.conditions import find_condition
from hub.api.errors import ApiError, InvalidObjectError, QuarterdeckError
from hub.api.reasons import Reason
from hub.api.resource import JOBS
from hub.api.timestamps import format_time, from_timestamp, parse_time
from hub.client.patcher import MergePatch, WriteKey

Json = dict[str, Any]
_log = logging.getLogger("agent.edge.job")
INDEX_KEY: Final = "batch.kubernetes.io/job-completion-index"
ENV_COMPLETION_INDEX: Final = "JOB_COMPLETION_INDEX"


class SiteJob:
    """`on_idle` is called when it is being deleted and the last of its tasks has ended."""

    def __init__(self, host: Host, job: Json, on_idle: Callable[[], None] = lambda: None) -> None:
        self.host = host
        self.on_idle = on_idle
        self.obj = job
        metadata = job["metadata"]
        self.uid = str(metadata["uid"])
        self.namespace, self.name = str(metadata["namespace"]), str(metadata["name"])
        self.order = host.next_order()
        self.foreign = names.JOB_UID not in (metadata.get("labels") or {})
        self.progress = Progress()
        self.plan: JobPlan | None = None
        self.dials: JobDials | None = None
        self.deleting = False
        self.gone = False
        self._configs: Found | None = None
        self._fetching: asyncio.Task[None] | None = None
        self._timers = Timers()
        self._written = 0.0
        # The status as last asked for, and as last taken by the API, which may drop or respell of it what it likes.
        self._asked: Json | None = None
        self._was_written: Json | None = None
        self._ended_logs: list[int] = []

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"

    @property
    def busy(self) -> bool:
        return bool(self.progress.active)

    @property
    def settled(self) -> bool:
        """Over, written, its logs looked at once more, and with no time to live to wait for."""
        over = self.progress.over and _ended(self.obj.get("status") or {}) is not None
        ttl = self.dials.ttl if self.dials is not None else None
        return over and ttl is None and not (self.deleting or self.gone or self._ended_logs)

    @property
    def need(self) -> Need:
        assert self.plan is not None
        return self.plan.pod.need

    def tasks(self) -> Iterable[Task]:
        return self.progress.active.values()

    def log_paths(self) -> list[str]:
        """Of what runs now, and of what ended since this was asked last."""
        ended, self._ended_logs = self._ended_logs, []
        return [self.host.machinery.records.log(self.uid, index) for index in (*ended, *self.progress.active)]

    # Coming and going.

    def take_in(self, left: Iterable[RunId]) -> None:
        """`left`: runs of this Job's tasks that there are records of, from before a restart."""
        status = self.obj.get("status") or {}
        finished = _ended(status)
        try:
            self.progress.restore(status)
            self.dials = job_dials(self.obj)
            if finished is None:
                self.plan = job_plan(self.obj, self.host.images, simulated=self.host.simulated)
                if not self.host.simulated:
                    check_environments(self.plan.pod, self.namespace)
        except PodRefused as error:
            self.refuse(error.reason, _said(error))
        except InvalidObjectError as error:
            self.refuse(Reason.INVALID_SPEC, Reason.INVALID_SPEC.message(detail=error))
        if finished is not None:
            self.progress.over = True
            self.progress.finished = finished
            self._expire()
            return
        if self.plan is None or self.progress.over:
            return
        take_up(self.progress, self.plan, self.host.machinery.records, left, self._task, self._hold)
        self._set_deadline()
        self._set_suspended()
        # Once those are counted that had ended while the site was away.
        asyncio.get_running_loop().call_soon(self._fit)
        if sources(self.plan.pod) and not self.host.simulated:
            self._fetching = asyncio.get_running_loop().create_task(self._fetch())
        else:
            self._configs = {}
            self.go_on()

    def _hold(self, place: Place) -> None:
        self.host.nodes.take(self.need, place, foreign=self.foreign)

    async def _fetch(self) -> None:
        assert self.plan is not None
        reason = Reason.CONFIG_MISSING
        self._configs = await self.host.configs.wait(
            self.namespace, self.plan.pod, lambda what: self.blocked(reason, reason.message(detail=what))
        )
        self.blocked(reason, "")
        self.go_on()

    def update(self, job: Json) -> None:
        """Its owner changed it, or we did."""
        self.obj = job
        if job["metadata"].get("deletionTimestamp"):
            self.begin_deletion()
            return
        if self.progress.over:
            return
        before = self.dials
        try:
            self.dials = job_dials(job)
        except InvalidObjectError as error:
            # What runs goes on as it was; the API does not take such objects.
            _log.warning("job cannot be read", extra={"fields": {"job": self, "why": error}})
            return
        self._set_suspended()
        self._fit()
        if self.dials != before:
            self.changed()
        self.go_on()

    def _fit(self) -> None:
        """The newest of its tasks go where fewer may run at once than do."""
        if self.dials is None or self.gone or self.progress.suspended or self.progress.verdict is not None:
            return
        staying = [task for task in self.progress.active.values() if not task.stopping]
        surplus = len(staying) - self.dials.parallelism
        if surplus > 0:
            notice = notice_of(self.obj)
            for task in sorted(staying, key=lambda task: (task.started, task.index))[-surplus:]:
                task.stop(Reason.STOPPED.code, notice)

    def begin_deletion(self) -> None:
        self.deleting = True
        self.stop(Reason.STOPPED)

    def stop(self, reason: Reason, notice: Notice | None = None) -> None:
        for task in list(self.progress.active.values()):
            task.stop(reason.code, notice)

    def close(self) -> None:
        """It is gone, or the site goes: nothing more happens to it."""
        self.gone = True
        self._timers.cancel_all()
        if self._fetching is not None:
            self._fetching.cancel()
        self.host.starter.drop(self)

    def abandon(self) -> None:
        self.close()
        for task in self.progress.active.values():
            task.abandon()

    def _set_suspended(self) -> None:
        if self.dials is None or self.dials.suspend == self.progress.suspended:
            return
        self.progress.suspended = self.dials.suspend
        if self.dials.suspend:
            self.stop(Reason.STOPPED, notice_of(self.obj))
            if not self.progress.active:
                self.progress.started = None
            self._timers.cancel("deadline")
        self.changed()

    # Starting.

    def wants_start(self) -> bool:
        dials, progress = self.dials, self.progress
        if (
            self.plan is None
            or dials is None
            or self._configs is None
            or self.deleting
            or self.gone
            or self.host.draining
        ):
            return False
        if progress.over or progress.verdict is not None or progress.suspended:
            return False
        if len(progress.active) >= dials.parallelism:
            return False
        return progress.next_index(self.plan, self.host.now()) is not None

    def start_one(self, place: Place) -> None:
        assert self.plan is not None
        index = self.progress.next_index(self.plan, self.host.now())
        assert index is not None
        task = self._task(index, self.progress.attempt_of(index), place)
        task.start()
        self.progress.begin(index, task)
        self._set_deadline()
        self.changed()

    def go_on(self) -> None:
        """Something may be startable, or all may be over."""
        if self.plan is None or self.progress.over:
            return
        if self.progress.all_ended(self.plan):
            self._finish()
            return
        if self.wants_start():
            self.host.starter.add(self)
            return
        retry = self.progress.next_retry()
        if retry is not None and retry > self.host.now():
            self._timers.set("retry", retry - self.host.now(), self.go_on)

    def _task(self, index: int, attempt: int, place: Place) -> Task:
        assert self.plan is not None
        pod = self.plan.pod
        name = f"{self.name}-{index}"
        generated = {"job-name": self.name, "batch.kubernetes.io/job-name": self.name, INDEX_KEY: str(index)}
        facts = TaskFacts(
            name=name,
            namespace=self.namespace,
            uid=str(uuid.uuid5(uuid.NAMESPACE_OID, f"{self.uid}/{index}/{attempt}")),
            labels={**pod.labels, **generated, "batch.kubernetes.io/controller-uid": self.uid},
            annotations={**pod.annotations, INDEX_KEY: str(index)},
            node=place.node,
            host_ip=self.host.host_ip,
            allocatable=self.host.allocatable(place.node) if place.node in self.host.nodes else {},
        )
        given = {names.ENV_TASK_INDEX: str(self.plan.task(index))}
        if self.plan.indexed:
            given[ENV_COMPLETION_INDEX] = str(index)
        return Task(
            machinery=self.host.machinery,
            plan=pod,
            owner=self.uid,
            index=index,
            attempt=attempt,
            place=place,
            facts=facts,
            given=given,
            configs=self._configs or {},
            ended=self._task_ended,
            changed=self._task_changed,
        )

    # Ending.

    def _task_changed(self, task: Task) -> None:
        assert self.plan is not None
        assert self.dials is not None
        if self.plan.pod.restart == "OnFailure" and self.progress.verdict is None:
            restarts = sum(sum(t.restarts.values()) for t in self.progress.active.values())
            if restarts + self.progress.failures > self.dials.backoff_limit:
                self._condemn(Reason.BACKOFF_LIMIT_EXCEEDED, Reason.BACKOFF_LIMIT_EXCEEDED.message())

    def _task_ended(self, task: Task, end: TaskEnd) -> None:
        assert self.plan is not None
        assert self.dials is not None
        if end.reason == Reason.STOPPED.code and end.code != 0:
            self._forget_attempt(task)
        self.progress.record_end(self.plan, self.dials, task.index, task.attempt, end, self.host.now())
        self._ended_logs.append(task.index)
        self.host.starter.give_back(self, task.place)
        if self.progress.suspended and not self.progress.active:
            self.progress.started = None
        if self.progress.verdict is not None:
            self.stop(self.progress.verdict[0])
        if not self.deleting:
            self.go_on()
        self.changed()
        if self.deleting and not self.progress.active:
            self.on_idle()

    def _forget_attempt(self, task: Task) -> None:
        """It will run again, so what is left of it must not look like an end."""
        for number in range(len(task.containers)):
            for restart in range(task.restarts.get(number, 0) + 1):
                self.host.machinery.records.remove_run(RunId(self.uid, task.index, task.attempt, number, restart))

    def _condemn(self, reason: Reason, message: str) -> None:
        self.progress.condemn(reason, message)
        self.stop(reason)
        self.go_on()
        self.changed()

    def _deadline_passed(self) -> None:
        assert self.plan is not None
        message = Reason.DEADLINE_EXCEEDED.message(deadline=f"{self.plan.deadline:.0f}s")
        self._condemn(Reason.DEADLINE_EXCEEDED, message)

    def refuse(self, reason: Reason, message: str) -> None:
        _log.warning("job refused", extra={"fields": {"job": self, "reason": reason.code, "why": message}})
        self.progress.condemn(reason, message)
        if not self.progress.active:
            self.progress.fail_rest(completions_asked(self.obj))
            self._finish()
        else:
            self.stop(reason)

    def blocked(self, reason: Reason, message: str) -> None:
        current = self.progress.blocked
        if not message and (current is None or current[0] is not reason):
            return
        wanted = (reason, message) if message else None
        if wanted != current:
            self.progress.blocked = wanted
            self.changed()

    def _finish(self) -> None:
        self.progress.over = True
        self.progress.finished = self.host.now()
        self._timers.cancel("deadline")
        self.changed()

    def _expire(self) -> None:
        """Its time to live, from its end; not before that end is written."""
        if self.dials is not None and self.dials.ttl is not None and self.progress.finished is not None:
            left = self.progress.finished + self.dials.ttl - self.host.now()
            self._timers.set("ttl", max(0.0, left), self._delete_self)

    def _delete_self(self) -> None:
        asyncio.get_running_loop().create_task(self._delete())

    async def _delete(self) -> None:
        try:
            await self.host.api.delete(JOBS, self.name, self.namespace, uid=self.uid)
        except QuarterdeckError as error:
            _log.info("job not deleted after its time to live", extra={"fields": {"job": self, "why": error}})

    def _set_deadline(self) -> None:
        plan, started = self.plan, self.progress.started
        if plan is None or plan.deadline is None or started is None or "deadline" in self._timers:
            return
        self._timers.set("deadline", max(0.0, started + plan.deadline - self.host.now()), self._deadline_passed)

    # Saying so.

    def changed(self) -> None:
        """Its status is to be written: an end at once, a beginning a little later, the rest spaced."""
        if self.gone:
            return
        loop = asyncio.get_running_loop()
        if self.progress.over or self.deleting:
            delay = 0.0
        else:
            delay = max(SETTLE, self._written + INTERVAL - loop.time()) if self._written else SETTLE
        key = WriteKey(JOBS, self.namespace, self.name, "status")
        self.host.patcher.submit(key, self._patch, delay=delay, on_done=self._done, on_error=self._not_written)

    def _patch(self) -> MergePatch | None:
        previous = self.obj.get("status") or {}
        status = self.progress.status(previous, format_time(from_timestamp(self.host.now())))
        if self.dials is not None and not self.progress.over:
            # How it was understood: a change that was not seen yet must not be believed to be in force.
            status["slots"] = 0 if self.dials.suspend else self.dials.parallelism
        patch: Json = {key: value for key, value in status.items() if previous.get(key) != value}
        patch |= {key: None for key in ("startTime", "completionTime") if key in previous and key not in status}
        if not patch or status == self._was_written:
            return None
        self._asked = status
        self._written = asyncio.get_running_loop().time()
        return MergePatch({"metadata": {"uid": self.uid}, "status": patch})

    def _done(self, answer: Json | None) -> None:
        self._was_written = self._asked
        if answer is not None:
            self.obj = answer
        if self.progress.over:
            self._expire()

    def _not_written(self, key: WriteKey, error: Exception) -> None:
        # What the API refuses it would refuse again, and a Job that is gone needs no status; a full disk gets space.
        if not isinstance(error, ApiError):
            self._timers.set("write", 1.0, self.changed)

    # Being asked.

    def log_of(self, index: int) -> LogPlace | None:
        """None: there is no such task."""
        return log_place(self.obj, self.progress, self.host.machinery.records, index)


def past_log(host: Host, job: Json, index: int) -> LogPlace | None:
    """`log_of`, for a Job that is over."""
    progress = Progress(over=True)
    progress.restore(job.get("status") or {})
    return log_place(job, progress, host.machinery.records, index)


def _said(error: PodRefused) -> str:
    if error.reason is Reason.POD_NOT_SUPPORTED:
        return error.reason.message(detail=error)
    return str(error)


def _ended(status: Mapping[str, Any]) -> float | None:
    """When a Job that is over ended, None for one that is not."""
    for kind in ("Complete", "Failed"):
        condition = find_condition(status.get("conditions"), kind)
        if condition is not None and condition.get("status") == "True":
            text = status.get("completionTime") or condition.get("lastTransitionTime")
            try:
                return parse_time(str(text)).timestamp()
            except InvalidObjectError:
                return 0.0
    return None
