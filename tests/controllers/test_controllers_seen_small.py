"""What the hub keeps of an object says the same as the object, and is small: jobs that have ended are many."""

from __future__ import annotations

import gc
import sys
from typing import Any

import orjson
import pytest

from hub.api import names
from hub.controllers.seen import SeenJob, read_job, read_work, read_workload

UID = "405584a6-ef6f-5400-900d-{:012d}"
AT = "2026-01-31T12:00:00Z"


def _status(number: int, phase: str) -> dict[str, Any]:
    message = "1 of 1 tasks succeeded" if phase == "Succeeded" else "1 of 1 tasks running"
    condition = {"type": phase, "status": "True", "reason": phase, "message": message, "lastTransitionTime": AT}
    attempt = {"epoch": 1, "attempt": 1, "cluster": f"site-{number % 9}", "tasks": "0", "state": phase}
    attempt |= {"succeeded": "0", "startedAt": AT, "finishedAt": AT, "usage": {"cpuSeconds": 1.5, "wallSeconds": 2.0}}
    return {
        "phase": phase, "observedGeneration": 1, "conditions": [condition], "reason": phase, "message": message,
        "tasks": {"total": 1, "pending": 0, "active": 0, "succeeded": 1, "failed": 0, "succeededIndexes": "0"},
        "attempts": [attempt], "clusters": [attempt["cluster"]], "submittedAt": AT, "startedAt": AT, "finishedAt": AT,
        "usage": {"cpuSeconds": 1.5, "wallSeconds": 2.0},
    }  # fmt: skip


def _job(number: int, phase: str = "Succeeded") -> dict[str, Any]:
    container = {"name": "main", "image": "any", "resources": {"requests": {"cpu": "2", "memory": "4Gi"}}}
    metadata = {"name": f"job-{number:05}", "namespace": "default", "uid": UID.format(number), "generation": 1}
    job = {
        "kind": "FleetJob", "metadata": {**metadata, "resourceVersion": str(number + 1), "creationTimestamp": AT},
        "spec": {"template": {"spec": {"containers": [container]}}}, "status": _status(number, phase),
    }  # fmt: skip
    return _received(job)


def _work(number: int) -> dict[str, Any]:
    labels = {
        names.JOB_UID: UID.format(number), names.JOB_NAME: f"job-{number:05}", names.JOB_NAMESPACE: "default",
        names.JOB_KIND: "FleetJob", names.EPOCH: "1",
    }  # fmt: skip
    notes = {
        names.TASKS: "0", names.ATTEMPT: "1", names.SLOTS: "1", names.CLUSTER_QUEUE: "default",
        names.FLAVORS: "cpu=default,memory=default",
    }  # fmt: skip
    metadata = {
        "name": names.work_name(f"job-{number:05}", UID.format(number), 1), "namespace": f"site-{number % 9}",
        "uid": UID.format(number + 10**6), "resourceVersion": str(number + 1), "labels": labels, "annotations": notes,
        "finalizers": [names.WORK_FINALIZER], "creationTimestamp": AT,
    }  # fmt: skip
    return _received({"metadata": metadata, "spec": {}})


def _workload(number: int, finished: str) -> dict[str, Any]:
    condition = {
        "type": "Finished",
        "status": finished,
        "reason": "Succeeded",
        "message": "x",
        "lastTransitionTime": AT,
    }
    owner = {"uid": UID.format(number), "controller": True}
    metadata = {"name": f"job-{number:05}", "namespace": "default", "uid": UID.format(number + 10**7)}
    status = {"conditions": [condition]}
    return _received(
        {"metadata": {**metadata, "ownerReferences": [owner]}, "spec": {"queueName": "default"}, "status": status}
    )


def _received(obj: dict[str, Any]) -> dict[str, Any]:
    """As the wire brings it: no string is anybody else's."""
    found: dict[str, Any] = orjson.loads(orjson.dumps(obj))
    return found


def _read(number: int, phase: str = "Succeeded") -> SeenJob:
    seen = read_job(_job(number, phase))
    assert seen is not None
    return seen


@pytest.mark.parametrize("phase", ["Running", "Succeeded"])
def test_a_status_reads_back_as_it_was(phase: str) -> None:
    assert _read(3, phase).status_object() == _job(3, phase)["status"]
    workload = read_workload(_workload(3, "True" if phase == "Succeeded" else "False"))
    assert workload.status_object()["conditions"][0]["reason"] == "Succeeded"
    assert read_workload({"metadata": {"name": "w", "namespace": "n"}}).status_object() == {}


def test_a_status_that_is_over_takes_less() -> None:
    assert len(_read(3).status) < 0.6 * len(orjson.dumps(_job(3)["status"]))


def test_what_is_equal_is_there_once() -> None:
    one, other, work = _read(1), _read(2), read_work(_work(1))
    assert one.spec is not None
    assert other.spec is not None
    assert work is not None
    assert work.attempt is not None
    assert one.spec.shape is other.spec.shape
    assert one.spec.rule is other.spec.rule
    assert one.spec.template is other.spec.template
    assert one.memory.message is other.memory.message
    assert one.memory.attempts[0].tasks is other.memory.attempts[0].tasks
    # And a job's names are one string each, whoever says them.
    assert one.ref.uid is one.spec.uid is work.job.uid
    assert one.memory.attempts[0].work is work.attempt.work is work.name


def test_a_newer_state_of_a_job_keeps_who_it_is() -> None:
    first = _read(1, "Running")
    again = _job(1)
    again["metadata"]["resourceVersion"] = "99"
    second = read_job(again, first)
    assert second is not None
    assert second.ref is first.ref
    assert second.memory.ended


def test_a_job_that_has_ended_is_small() -> None:
    count = 400
    kept = [(_read(n), read_work(_work(n)), read_workload(_workload(n, "True"))) for n in range(count)]
    assert _size(kept) / count < 4_000


def _size(root: object) -> int:
    """Bytes of everything that is reached from `root` and is no class or function."""
    todo, seen, total = [root], set[int](), 0
    while todo:
        obj = todo.pop()
        if id(obj) in seen or isinstance(obj, type) or callable(obj):
            continue
        seen.add(id(obj))
        total += sys.getsizeof(obj)
        todo.extend(gc.get_referents(obj))
    return total
