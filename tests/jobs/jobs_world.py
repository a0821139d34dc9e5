"""What tests of jobs are made of: objects as people write them, works as agents report on them."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from hub.api import names
from hub.api.indexset import IndexSet
from hub.jobs.attempt import Attempt
from hub.jobs.fold import fold
from hub.jobs.memory import memory_of
from hub.jobs.spec import JobSpec
from hub.jobs.state import JobState
from hub.jobs.status import fleet_job_status
from hub.jobs.works import attempt_from_work, slice_to_work

UID = "3f2a9c4e-1111-4222-8333-944445555566"
CREATED = 1_700_000_000.0


def tasks(text: str) -> IndexSet:
    return IndexSet.parse(text)


def fleet_job(annotations: Mapping[str, str] | None = None, /, **spec: Any) -> dict[str, Any]:
    container = {"name": "main", "image": "host", "command": ["true"], "resources": {"requests": {"cpu": "1"}}}
    return {
        "apiVersion": names.API_VERSION,
        "kind": "FleetJob",
        "metadata": {
            "name": "train",
            "namespace": "lab",
            "uid": UID,
            "generation": 1,
            "creationTimestamp": "2023-11-14T22:13:20Z",
            "annotations": dict(annotations or {}),
        },
        "spec": {"template": {"spec": {"containers": [container]}}, **spec},
    }


def plain_job(annotations: Mapping[str, str] | None = None, /, **spec: Any) -> dict[str, Any]:
    job = fleet_job(annotations)
    job |= {"apiVersion": "batch/v1", "kind": "Job"}
    job["metadata"]["labels"] = {names.QUEUE_NAME: "research"}
    job["spec"] = {**job["spec"], "suspend": True, "completionMode": "Indexed", **spec}
    return job


def reported(work: Mapping[str, Any], **values: int | str | bool) -> dict[str, Any]:
    """The work with this status feedback, typed as agents type it."""
    typed = []
    for name, value in values.items():
        kind = {bool: "Boolean", int: "Integer"}.get(type(value), "String")
        typed.append({"name": name, "fieldValue": {"type": kind, kind.lower(): value}})
    work = copy.deepcopy(dict(work))
    manifest = {"resourceMeta": {"ordinal": 0}, "conditions": [], "statusFeedback": {"values": typed}}
    work["status"] = {"conditions": [], "resourceStatus": {"manifests": [manifest]}}
    return work


def refused(work: Mapping[str, Any], detail: str, since: str) -> dict[str, Any]:
    work = copy.deepcopy(dict(work))
    verdict = {"type": "Applied", "status": "False", "lastTransitionTime": since}
    work["status"] = {
        "conditions": [{**verdict, "message": "Failed to apply manifest work"}],
        "resourceStatus": {
            "manifests": [{"conditions": [{**verdict, "message": f"Failed to apply manifest: {detail}"}]}]
        },
    }
    return work


class World:
    """One job, the hub that folds it, and its works: what a shell does around the pure core, without a shell."""

    def __init__(self, job: dict[str, Any]) -> None:
        self.job = job
        self.works: dict[str, dict[str, Any]] = {}
        self.lost: set[str] = set()
        self.now = CREATED + 1
        self.refusal: Any = None

    @property
    def spec(self) -> JobSpec:
        return JobSpec.from_fleet_job(self.job) if self.job["kind"] == "FleetJob" else JobSpec.from_job(self.job)

    def state(self) -> JobState:
        found = [attempt_from_work(work) for work in self.works.values()]
        return fold(self.spec, found, lost=self.lost, now=self.now, memory=memory_of(self.job), refusal=self.refusal)

    def write(self) -> JobState:
        """Folds, and writes the status."""
        state = self.state()
        self.job["status"] = fleet_job_status(self.spec, state, self.job.get("status") or {}, self.now)
        return state

    def start(self, cluster: str, which: str, slots: int = 0, attempt: int = 1) -> str:
        """A new slice; its work's name."""
        part = tasks(which)
        work = slice_to_work(
            self.spec, cluster, part, attempt, slots or len(part), (("cpu", "default"),), "cq", self.state().next_epoch
        )
        name = str(work["metadata"]["name"])
        self.works[name] = work
        return name

    def report(self, name: str, **values: int | str | bool) -> None:
        self.works[name] = reported(self.works[name], **values)

    def attempt(self, name: str) -> Attempt:
        return next(attempt for attempt in self.state().attempts if attempt.work == name)

    def delete(self) -> list[str]:
        """Deletes what may be deleted; the finalizer keeps it until `gone`."""
        names_of = [attempt.work for attempt in self.state().delete]
        for name in names_of:
            self.works[name]["metadata"]["deletionTimestamp"] = "2023-11-14T22:20:00Z"
        return names_of

    def gone(self, name: str) -> None:
        del self.works[name]
