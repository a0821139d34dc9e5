"""The commands that follow a job take plain Jobs as they take FleetJobs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from hub.api import names, resource
from hub.api.errors import QuarterdeckError, UsageError
from hub.api.indexset import IndexSet
from hub.cli.completion import complete_failed_job, complete_job, complete_live_job
from hub.cli.jobs import attempts_of, exit_code, failed_tasks, get_job, has_ended
from hub.cli.main import cli
from hub.cli.task_logs import Source, sources
from hub.client.session import Session
from hub.jobs.spec import JobSpec
from hub.jobs.works import slice_to_work

Run = Callable[..., Awaitable[Result]]


@pytest.fixture
def run(kubeconfig: Path) -> Run:
    async def call(*arguments: str) -> Result:
        result = await asyncio.to_thread(
            CliRunner().invoke, cli, [*arguments, "--kubeconfig", str(kubeconfig)], catch_exceptions=True
        )
        if result.exception is not None and not isinstance(result.exception, SystemExit | QuarterdeckError):
            raise result.exception
        return result

    return call


def _job(name: str, queue: str = "q", **spec: Any) -> dict[str, Any]:
    template = {"spec": {"restartPolicy": "Never", "containers": [{"name": "main", "image": "host"}]}}
    labels = {names.QUEUE_NAME: queue} if queue else {}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "labels": labels},
        "spec": {"suspend": True, "completions": 3, "parallelism": 3, "template": template, **spec},
    }


def _value(name: str, value: Any) -> dict[str, Any]:
    kind = "Integer" if isinstance(value, int) else "String"
    return {"name": name, "fieldValue": {"type": kind, kind[0].lower() + kind[1:]: value}}


async def _slice(api: Session, job: dict[str, Any], epoch: int, cluster: str, tasks: str, **values: Any) -> None:
    spec, indexes = JobSpec.from_job(job), IndexSet.parse(tasks)
    work = slice_to_work(spec, cluster, indexes, len(indexes), epoch, (("cpu", "any"),), "team", epoch)
    made = await api.create(resource.MANIFEST_WORKS, work, cluster)
    feedback = {"values": [_value(name, value) for name, value in values.items()]}
    manifest = {"resourceMeta": {"ordinal": 0, "kind": "Job"}, "conditions": [], "statusFeedback": feedback}
    status = {"resourceStatus": {"manifests": [manifest]}}
    await api.patch(
        resource.MANIFEST_WORKS, made["metadata"]["name"], {"status": status}, cluster, subresource="status"
    )


async def _failed_job(api: Session) -> dict[str, Any]:
    """Task 1 failed on ash and then on elm; tasks 0 and 2 succeeded on ash."""
    for name in ("ash", "elm"):
        await api.create(resource.NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    job = await api.create(resource.JOBS, _job("batch"), "default")
    ended = {"complete": "False", "failedCondition": "True", "active": 0}
    await _slice(api, job, 1, "ash", "0-2", completedIndexes="0,2", failedIndexes="1", exitCodes="3=1", **ended)
    await _slice(api, job, 2, "elm", "1", failedIndexes="0", exitCodes="7=0", **ended)
    condition = {"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded", "message": "1 of 3 tasks failed"}
    condition["lastTransitionTime"] = "2026-01-01T00:00:00Z"
    status = {"conditions": [condition], "failed": 2, "succeeded": 2}
    await api.patch(resource.JOBS, "batch", {"status": status}, "default", subresource="status")
    return await get_job(api, "batch", "default")


async def test_where_its_tasks_ran_and_how_they_ended(api: Session, run: Run) -> None:
    job = await _failed_job(api)
    attempts = await attempts_of(api, job)
    assert has_ended(job)
    assert failed_tasks(job, attempts) == IndexSet.parse("1")
    assert exit_code(job, attempts) == 3
    first, second = sources(job, attempts, None)
    assert (first.cluster, first.epoch, str(first.tasks)) == ("ash", 1, "0,2")
    assert second == Source("elm", attempts[1].work, 2, IndexSet.parse("1"))
    assert sources(job, attempts, IndexSet.parse("0")) == [Source("ash", attempts[0].work, 1, IndexSet.parse("0"))]

    waited = await run("wait", "batch", "--timeout", "5")
    assert (waited.exit_code, waited.stdout) == (1, "batch  Failed  1 of 3 tasks failed\n")
    shown = await run("get", "jobs")
    assert "ash,elm" in shown.stdout
    told = await run("describe", "job", "batch")
    assert "2 of 3 succeeded (0,2), 1 failed (1)" in told.stdout
    again = await run("retry", "--failed", "batch")
    assert "the end of a Job is final" in str(again.exception)
    assert "has ended already: Failed" in (await run("cancel", "batch")).stdout


async def test_a_plain_job_is_cancelled_by_its_annotation(api: Session, run: Run) -> None:
    await api.create(resource.JOBS, _job("batch"), "default")
    assert (await run("cancel", "batch")).stdout == "batch is being cancelled\n"
    job = await api.get(resource.JOBS, "batch", "default")
    assert JobSpec.from_job(job).cancelled == "cancelled by its owner"


async def test_a_job_that_no_queue_leads_here_says_what_to_do(api: Session, run: Run) -> None:
    await api.create(resource.JOBS, _job("other", queue=""), "default")
    with pytest.raises(UsageError, match="names no queue"):
        await get_job(api, "other", "default")
    result = await run("logs", "nothing")
    assert "there is no job nothing" in str(result.exception)


async def test_a_fleet_job_goes_before_a_job_of_the_same_name(api: Session) -> None:
    template = _job("x")["spec"]["template"]
    fleet = {"apiVersion": names.API_VERSION, "kind": "FleetJob", "metadata": {"name": "same"}}
    await api.create(resource.JOBS, _job("same"), "default")
    await api.create(resource.FLEET_JOBS, {**fleet, "spec": {"template": template}}, "default")
    assert (await get_job(api, "same", "default"))["kind"] == "FleetJob"


async def test_names_that_make_sense_complete(api: Session, kubeconfig: Path) -> None:
    import click

    await _failed_job(api)
    template = _job("x")["spec"]["template"]
    fleet = {"apiVersion": names.API_VERSION, "kind": "FleetJob", "spec": {"template": template}}
    for name in ("sweep", "broken"):
        await api.create(resource.FLEET_JOBS, {**fleet, "metadata": {"name": name}}, "default")
    status = {"phase": "Failed", "tasks": {"failed": 1, "failedIndexes": "0"}}
    await api.patch(resource.FLEET_JOBS, "broken", {"status": status}, "default", subresource="status")

    async def offered(complete: Any, **params: Any) -> list[str]:
        ctx = click.Context(cli)
        ctx.obj = {"kubeconfig": str(kubeconfig), "namespace": None}
        ctx.params = params
        return [item.value for item in await asyncio.to_thread(complete, ctx, None, "")]

    assert await offered(complete_job) == ["batch", "broken", "sweep"]
    assert await offered(complete_job, jobs=("broken",)) == ["batch", "sweep"]
    assert await offered(complete_live_job) == ["sweep"]
    assert await offered(complete_failed_job) == ["broken"]


@pytest.mark.parametrize(
    ("job", "says"),
    [
        (
            _job("batch", queue="nowhere"),
            "batch waits: there is no queue nowhere in namespace default; there is: none yet",
        ),
        (_job("batch", queue=""), "nobody runs Job batch here"),
        (_job("batch", suspend=False), "nobody runs Job batch here"),
    ],
)
async def test_a_job_that_will_not_run_is_warned_of(run: Run, tmp_path: Path, job: dict[str, Any], says: str) -> None:
    import json

    (tmp_path / "job.json").write_text(json.dumps(job))
    result = await run("submit", str(tmp_path / "job.json"))
    assert (result.exit_code, result.stdout) == (0, "created  Job batch\n")
    assert says in result.stderr
