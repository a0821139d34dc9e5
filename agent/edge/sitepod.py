"""One Pod of a site's API at work: somebody wrote it as it is, so it is run as it is and its status is a pod's."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from agent.edge.configs import Found
from agent.edge.environment import TaskFacts, check_environments, sources
from agent.edge.host import INTERVAL, SETTLE, Host
from agent.edge.logs import LogPlace
from agent.edge.nodes import Need, Place
from agent.edge.podplan import PodPlan, PodRefused, plan_pod
from agent.edge.records import Record, RunId
from agent.edge.task import Task, TaskEnd
from hub.api import names
from hub.api.conditions import with_condition
from hub.api.errors import ApiError, InvalidObjectError
from hub.api.reasons import Reason
from hub.api.resource import PODS
from hub.api.timestamps import format_time, from_timestamp
from hub.client.patcher import MergePatch, WriteKey

Json = dict[str, Any]
_log = logging.getLogger("agent.edge.pod")


class SitePod:
    def __init__(self, host: Host, pod: Json, on_idle: Callable[[], None] = lambda: None) -> None:
        self.host = host
        self.on_idle = on_idle
        self.obj = pod
        metadata = pod["metadata"]
        self.uid = str(metadata["uid"])
        self.namespace, self.name = str(metadata["namespace"]), str(metadata["name"])
        self.order = host.next_order()
        self.foreign = names.JOB_UID not in (metadata.get("labels") or {})
        self.plan: PodPlan | None = None
        self.deleting = False
        self.gone = False
        self._task: Task | None = None
        self._last: Task | None = None
        self._end: TaskEnd | None = None
        self._attempt = 0
        self._phase = "Pending"
        self._why: tuple[str, str] | None = None
        self._configs: Found | None = None
        self._fetching: asyncio.Task[None] | None = None
        self._retry: asyncio.TimerHandle | None = None
        self._written = 0.0

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"

    @property
    def busy(self) -> bool:
        return self._task is not None

    @property
    def settled(self) -> bool:
        over = self._phase in ("Succeeded", "Failed") and not self.deleting and not self.gone
        return over and (self.obj.get("status") or {}).get("phase") == self._phase

    @property
    def need(self) -> Need:
        assert self.plan is not None
        return self.plan.need

    def tasks(self) -> Iterable[Task]:
        return () if self._task is None else (self._task,)

    def log_paths(self) -> list[str]:
        return [self.host.machinery.records.log(self.uid, 0)] if self._task or self._last else []

    def take_in(self, left: Iterable[RunId]) -> None:
        status = self.obj.get("status") or {}
        if status.get("phase") in ("Succeeded", "Failed"):
            self._phase = status["phase"]
            if status.get("reason"):
                self._why = (str(status["reason"]), str(status.get("message") or ""))
            return
        spec, metadata = self.obj.get("spec") or {}, self.obj["metadata"]
        try:
            self.plan = plan_pod(
                metadata, spec, self.host.images, simulated=self.host.simulated, default_restart="Always"
            )
            if not self.host.simulated:
                check_environments(self.plan, self.namespace)
        except PodRefused as error:
            self.refuse(error.reason, str(error))
            return
        except InvalidObjectError as error:
            self.refuse(Reason.INVALID_SPEC, Reason.INVALID_SPEC.message(detail=error))
            return
        self._take_up(list(filter(None, map(self.host.machinery.records.read, left))))
        if sources(self.plan) and not self.host.simulated:
            self._fetching = asyncio.get_running_loop().create_task(self._fetch())
        else:
            self._configs = {}
            self.go_on()

    def _take_up(self, records: list[Record]) -> None:
        if not records:
            return
        self._attempt = max(record.run.attempt for record in records)
        runs = [record for record in records if record.run.attempt == self._attempt]
        place = Place(runs[0].node, runs[0].gpus)
        task = self._new_task(place)
        if task.adopt(runs):
            self.host.nodes.take(self.need, place, foreign=self.foreign)
            self._task = task
            task.start()
            self.changed()

    async def _fetch(self) -> None:
        assert self.plan is not None
        reason = Reason.CONFIG_MISSING
        self._configs = await self.host.configs.wait(
            self.namespace, self.plan, lambda what: self.blocked(reason, reason.message(detail=what))
        )
        self.blocked(reason, "")
        self.go_on()

    def update(self, obj: Json) -> None:
        self.obj = obj
        if obj["metadata"].get("deletionTimestamp"):
            self.begin_deletion()

    def begin_deletion(self) -> None:
        self.deleting = True
        self.stop(Reason.STOPPED)

    def stop(self, reason: Reason) -> None:
        if self._task is not None:
            self._task.stop(reason.code)

    def close(self) -> None:
        self.gone = True
        if self._fetching is not None:
            self._fetching.cancel()
        if self._retry is not None:
            self._retry.cancel()
        self.host.starter.drop(self)

    def abandon(self) -> None:
        self.close()
        if self._task is not None:
            self._task.abandon()

    def wants_start(self) -> bool:
        waits = self._phase == "Pending" and self._task is None and self._configs is not None
        return waits and self.plan is not None and not self.deleting and not self.gone and not self.host.draining

    def start_one(self, place: Place) -> None:
        task = self._new_task(place)
        task.start()
        self._task = task
        self.changed()

    def go_on(self) -> None:
        if self.wants_start():
            self.host.starter.add(self)

    def _new_task(self, place: Place) -> Task:
        assert self.plan is not None
        facts = TaskFacts(
            name=self.name,
            namespace=self.namespace,
            uid=self.uid,
            labels=self.plan.labels,
            annotations=self.plan.annotations,
            node=place.node,
            host_ip=self.host.host_ip,
            allocatable=self.host.allocatable(place.node) if place.node in self.host.nodes else {},
        )
        return Task(
            machinery=self.host.machinery,
            plan=self.plan,
            owner=self.uid,
            index=0,
            attempt=self._attempt,
            place=place,
            facts=facts,
            given={},
            configs=self._configs or {},
            ended=self._task_ended,
            changed=lambda task: self.changed(),
        )

    def _task_ended(self, task: Task, end: TaskEnd) -> None:
        self._task = None
        self.host.starter.give_back(self, task.place)
        if end.reason == Reason.STOPPED.code and end.code != 0 and not self.deleting:
            # The site was stopped, not the pod: it runs again with it.
            records = self.host.machinery.records
            for number in range(len(task.containers)):
                for restart in range(task.restarts.get(number, 0) + 1):
                    records.remove_run(RunId(self.uid, 0, task.attempt, number, restart))
            self._attempt += 1
            self.changed()
            self.go_on()
            return
        self._end, self._phase = end, "Succeeded" if end.code == 0 else "Failed"
        if end.reason is not None:
            self._why = (end.reason, f"exit code {end.code}")
        self._last = task
        self.changed()
        if self.deleting:
            self.on_idle()

    def refuse(self, reason: Reason, message: str) -> None:
        _log.warning("pod refused", extra={"fields": {"pod": self, "reason": reason.code, "why": message}})
        self._phase, self._why = "Failed", (reason.code, message)
        self.changed()

    def blocked(self, reason: Reason, message: str) -> None:
        if not message and (self._why is None or self._why[0] != reason.code):
            return
        wanted = (reason.code, message) if message else None
        if wanted != self._why:
            self._why = wanted
            self.changed()

    def changed(self) -> None:
        if self.gone:
            return
        over = self._phase in ("Succeeded", "Failed") or self.deleting
        loop = asyncio.get_running_loop()
        delay = 0.0 if over else max(SETTLE, self._written + INTERVAL - loop.time())
        key = WriteKey(PODS, self.namespace, self.name, "status")
        self.host.patcher.submit(key, self._patch, delay=delay, on_done=self._done, on_error=self._not_written)

    def _patch(self) -> MergePatch | None:
        previous = self.obj.get("status") or {}
        status = self._status(previous)
        patch = {key: value for key, value in status.items() if previous.get(key) != value}
        patch |= {key: None for key in ("reason", "message") if key in previous and key not in status}
        if not patch:
            return None
        self._written = asyncio.get_running_loop().time()
        return MergePatch({"metadata": {"uid": self.uid}, "status": patch})

    def _done(self, answer: Json | None) -> None:
        if answer is not None:
            self.obj = answer

    def _not_written(self, key: WriteKey, error: Exception) -> None:
        if not isinstance(error, ApiError):
            self._retry = asyncio.get_running_loop().call_later(1.0, self.changed)

    def _status(self, previous: Mapping[str, Any]) -> Json:
        task = self._task or self._last
        running = self._task is not None and bool(self._task.live)
        phase = "Running" if self._phase == "Pending" and task is not None and task.started else self._phase
        now = format_time(from_timestamp(self.host.now()))
        conditions: list[Json] = list(previous.get("conditions") or [])
        scheduled = task is not None or phase in ("Succeeded",)
        reason, message = self._why or ("", "")
        conditions = with_condition(conditions, "PodScheduled", str(scheduled), reason, message, now=now)
        ready = running and phase == "Running"
        done = "PodCompleted" if phase == "Succeeded" else reason
        for kind in ("ContainersReady", "Ready"):
            conditions = with_condition(conditions, kind, str(ready), "" if ready else done, "", now=now)
        status: Json = {"phase": phase, "conditions": conditions}
        if self._why is not None:
            status |= {"reason": reason, "message": message}
        if task is not None:
            status["hostIP"] = status["podIP"] = self.host.host_ip
            status["startTime"] = format_time(from_timestamp(task.started))
            inits = len(task.plan.init)
            every = [_container_status(task, number) for number in range(len(task.containers))]
            status["containerStatuses"] = every[inits:]
            if inits:
                status["initContainerStatuses"] = every[:inits]
        return status

    def log_of(self, index: int) -> LogPlace | None:
        if index != 0:
            return None
        path = self.host.machinery.records.log(self.uid, 0)
        if self._phase not in ("Succeeded", "Failed"):
            return LogPlace(path, False)
        if self._end is not None:
            return LogPlace(path, True, self._end.code, self._end.reason)
        code = next((code for code in _exit_codes(self.obj) if code), 0 if self._phase == "Succeeded" else None)
        reason, message = self._why or (None, "")
        return LogPlace(path, True, code, reason, message)


def past_log(host: Host, pod: Json, index: int) -> LogPlace | None:
    """`log_of`, for a Pod that is over."""
    if (pod.get("status") or {}).get("phase") not in ("Succeeded", "Failed"):
        return None
    found = SitePod(host, pod)
    found.take_in(())
    return found.log_of(index)


def _container_status(task: Task, number: int) -> Json:
    container, end = task.containers[number], task.ends.get(number)
    live = number in task.live
    state: Json = {"waiting": {"reason": "PodInitializing" if number not in task.restarts else "CrashLoopBackOff"}}
    started = format_time(from_timestamp(task.started))
    if end is not None:
        word = end.reason or ("Completed" if end.code == 0 else "Error")
        finished = format_time(from_timestamp(end.finished))
        state = {
            "terminated": {"exitCode": end.code, "reason": word, "startedAt": started, "finishedAt": finished}
        }  # fmt: skip
    elif live:
        state = {"running": {"startedAt": started}}
    return {
        "name": container.name,
        "image": container.target,
        "imageID": "",
        "ready": live,
        "started": live,
        "restartCount": task.restarts.get(number, 0),
        "state": state,
        "lastState": {},
    }


def _exit_codes(pod: Mapping[str, Any]) -> list[int]:
    statuses = (pod.get("status") or {}).get("containerStatuses") or ()
    return [int(((s.get("state") or {}).get("terminated") or {}).get("exitCode") or 0) for s in statuses]
