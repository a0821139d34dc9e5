"""What a job costs the hub each time something of it changes: reading its work, folding it, its status. CPU time.

Every figure is the best of several rounds, because neighbours on the machine only ever make a round slower.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from bench.report import Figure
from hub.api import names
from hub.api.indexset import IndexSet
from hub.jobs.attempt import Attempt, Usage
from hub.jobs.fold import fold
from hub.jobs.memory import memory_of
from hub.jobs.spec import JobSpec
from hub.jobs.status import fleet_job_status
from hub.jobs.works import attempt_from_work, slice_to_work

_NOW = 1_700_000_000.0
_TASKS, _SLICES = 5_000, 50


def run() -> list[Figure]:
    one, many = _job(1), _job(_TASKS)
    small, large = JobSpec.from_fleet_job(one), JobSpec.from_fleet_job(many)
    work = _reported(slice_to_work(small, "ash", IndexSet.span(1), 1, 1, (("cpu", "default"),), "default", 1))
    running = replace(attempt_from_work(work), state="Running", active=1)
    one["status"] = fleet_job_status(small, fold(small, [running], now=_NOW), {}, _NOW)
    ended = attempt_from_work(work)
    remembered = memory_of(one)
    attempts = _attempts()
    state = fold(large, attempts, now=_NOW)
    many["status"] = fleet_job_status(large, state, {}, _NOW)
    memory = memory_of(many)
    size = len(json.dumps(many["status"], separators=(",", ":"))) / 1000
    return [
        Figure("reading a job's spec", _micro(lambda: JobSpec.from_fleet_job(one)), None, "µs"),
        Figure("making one slice's work", _micro(lambda: slice_to_work(
            small, "ash", IndexSet.span(1), 1, 1, (("cpu", "default"),), "default", 1)), None, "µs"),
        Figure("reading one slice's work", _micro(lambda: attempt_from_work(work)), None, "µs"),
        Figure("fold of one task", _micro(lambda: fold(small, [ended], now=_NOW, memory=remembered)), 50.0, "µs"),
        Figure("status of one task", _micro(lambda: fleet_job_status(
            small, fold(small, [ended], now=_NOW, memory=remembered), one["status"], _NOW)), None, "µs"),
        Figure("fold of 5,000 tasks in 50 slices", _micro(
            lambda: fold(large, attempts, now=_NOW, memory=memory), 20) / 1000, 5.0, "ms"),
        Figure("status of 5,000 tasks in 50 slices", _micro(
            lambda: fleet_job_status(large, state, many["status"], _NOW), 20) / 1000, None, "ms"),
        Figure("its size", size, 50.0, "kB"),
    ]  # fmt: skip


def _micro(action: Callable[[], Any], times: int = 2000) -> float:
    best = float("inf")
    for _ in range(5):
        started = time.process_time()
        for _ in range(times):
            action()
        best = min(best, (time.process_time() - started) / times)
    return best * 1e6


def _job(tasks: int) -> dict[str, Any]:
    container = {"name": "main", "image": "host", "command": ["true"], "resources": {"requests": {"cpu": "1"}}}
    return {
        "apiVersion": names.API_VERSION,
        "kind": "FleetJob",
        "metadata": {"name": "bench", "namespace": "default", "uid": "3f2a9c4e-1111-4222-8333-944445555566"},
        "spec": {
            "tasks": tasks,
            "retry": {"limitPerTask": 3},
            "template": {"spec": {"containers": [container]}},
        },
    }


def _reported(work: dict[str, Any]) -> dict[str, Any]:
    values = {"active": 0, "ready": 0, "succeeded": 1, "completedIndexes": "0", "complete": "True",
              "startTime": "2023-11-14T22:13:10Z", "completionTime": "2023-11-14T22:13:20Z",
              "usage": "cpu=1.5;gpu=0;wall=10"}  # fmt: skip
    typed = [
        {"name": name, "fieldValue": {"type": "Integer", "integer": value}}
        if isinstance(value, int)
        else {"name": name, "fieldValue": {"type": "String", "string": value}}
        for name, value in values.items()
    ]
    manifest = {"resourceMeta": {"ordinal": 0}, "conditions": [], "statusFeedback": {"values": typed}}
    return {**work, "status": {"conditions": [], "resourceStatus": {"manifests": [manifest]}}}


def _attempts() -> list[Attempt]:
    """Four fifths of the slices are first attempts; a tenth of their tasks failed and were tried again."""
    rng = random.Random(1)
    first = _SLICES * 4 // 5
    size = _TASKS // first
    parts = [(1, range(number * size, (number + 1) * size)) for number in range(first)]
    failed_tasks: list[int] = []
    found: list[Attempt] = []
    for number in range(_SLICES):
        if number >= first:
            mine = IndexSet.of(failed_tasks[number - first :: _SLICES - first])
            attempt = 2
        else:
            mine, attempt = IndexSet.of(parts[number][1]), 1
        failed = IndexSet.of(task for task in mine if rng.random() < 0.1)
        if attempt == 1:
            failed_tasks += failed
        found.append(
            Attempt(number + 1, attempt, f"site-{number % 7}", mine, 60, f"w-{number}", "default", state="Failed",
                    succeeded=mine - failed, failed=failed, exit_codes=((1, failed),), usage=Usage(1.5, 0.5, 7.25))
        )  # fmt: skip
    return found
