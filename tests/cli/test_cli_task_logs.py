"""Logs of sites that answer late, not at all, or are listened to only for a moment."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Any

import pytest

from hub.api import names, resource
from hub.api.errors import NotFoundError
from hub.api.indexset import IndexSet
from hub.cli import task_logs
from hub.cli.task_logs import Source, follow_job, read_all, read_logs
from hub.client.session import Session
from hub.jobs.spec import JobSpec
from hub.jobs.works import slice_to_work

SOURCE = Source("ash", "train-1", 1, IndexSet.span(4))


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(task_logs, "_LOOK_EVERY", 1)
    monkeypatch.setattr(task_logs, "_OFFLINE_AFTER", 1.0)


async def _cluster(api: Session, *, available: bool = True) -> None:
    cluster = {"apiVersion": "cluster.open-cluster-management.io/v1", "kind": "ManagedCluster"}
    await api.create(resource.NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "ash"}})
    await api.create(resource.MANAGED_CLUSTERS, {**cluster, "metadata": {"name": "ash"}, "spec": {}})
    await _is_available(api, available)


async def _is_available(api: Session, available: bool) -> None:
    condition = {"type": "ManagedClusterConditionAvailable", "reason": "R", "message": "M"}
    condition |= {"status": str(available), "lastTransitionTime": "2026-01-01T00:00:00Z"}
    await api.patch(resource.MANAGED_CLUSTERS, "ash", {"status": {"conditions": [condition]}}, subresource="status")


async def _job(api: Session) -> dict[str, Any]:
    template = {"spec": {"containers": [{"name": "main", "image": "host", "command": ["true"]}]}}
    job = {"apiVersion": names.API_VERSION, "kind": "FleetJob", "metadata": {"name": "train"}}
    return await api.create(resource.FLEET_JOBS, {**job, "spec": {"tasks": 4, "template": template}}, "default")


async def _log(api: Session, name: str, labels: dict[str, str], *entries: dict[str, Any], final: bool = False) -> None:
    log = {"apiVersion": names.API_VERSION, "kind": "TaskLog", "metadata": {"name": name, "labels": labels}}
    await api.create(resource.TASK_LOGS, {**log, "entries": list(entries), "final": final}, "ash")


async def _shipped(api: Session, job: dict[str, Any], task: int, text: str, epoch: int = 1) -> None:
    labels = {names.JOB_UID: job["metadata"]["uid"], names.EPOCH: str(epoch)}
    await _log(api, f"train-{epoch}-failed-{task}", labels, {"task": task, "text": text, "exitCode": 1, "final": True})


async def _request(api: Session) -> str:
    async with asyncio.timeout(10):
        while not (found := (await api.list(resource.TASK_LOG_REQUESTS, "ash")).items):
            await asyncio.sleep(0.02)
    return str(found[0]["metadata"]["name"])


async def test_a_site_that_does_not_answer_is_said_so_with_what_is_here(api: Session) -> None:
    await _cluster(api)
    job = await _job(api)
    await _shipped(api, job, 0, "sent before\n")
    await _shipped(api, job, 1, "one\ntwo\n")
    await _shipped(api, job, 3, "of another epoch\n", epoch=2)
    said: list[str] = []

    async def read() -> list[tuple[int, str]]:
        lines = read_logs(api, job, SOURCE, said.append, tail=None, follow=False)
        return [(line.task, line.text) async for line in lines]

    reading = asyncio.create_task(read())
    request = await _request(api)
    # It answers for task 0, and falls silent in the middle of a line.
    await _log(api, f"{request}-0", {names.LOG_REQUEST: request}, {"task": 0, "text": "begin\nhalf a l"})
    lines = await asyncio.wait_for(reading, 15)
    assert lines == [(0, "begin"), (0, "half a l"), (1, "one"), (1, "two")]
    assert said == [
        "ash does not answer, asked 1 s ago; here is the end of what tasks 1 wrote, which failed; "
        "of tasks 2-3 it had sent nothing"
    ]
    assert (await api.list(resource.TASK_LOG_REQUESTS, "ash")).items == []


async def test_of_a_site_that_is_offline_nothing_is_asked(api: Session) -> None:
    await _cluster(api, available=False)
    job, said = await _job(api), list[str]()
    lines = read_logs(api, job, SOURCE, said.append, tail=None, follow=False)
    assert [line async for line in lines] == []
    assert said == ["ash is offline; of tasks 0-3 it had sent nothing"]


async def test_who_stops_reading_takes_the_request_away(api: Session) -> None:
    await _cluster(api)
    job = await _job(api)

    async def answer() -> None:
        request = await _request(api)
        await _log(api, f"{request}-0", {names.LOG_REQUEST: request}, {"task": 0, "text": "a\nb\nc\n"})

    answering = asyncio.create_task(answer())
    async with aclosing(read_logs(api, job, SOURCE, lambda _: None, tail=None, follow=True)) as lines:
        async for line in lines:
            assert line.text == "a"
            break
    await answering
    assert (await api.list(resource.TASK_LOG_REQUESTS, "ash")).items == []


async def _running(api: Session) -> dict[str, Any]:
    """The job with one slice that runs on ash."""
    job = await _job(api)
    work = slice_to_work(
        JobSpec.from_fleet_job(job), "ash", SOURCE.tasks, 4, 1, (("cpu", "any"),), "team", 1
    )  # fmt: skip
    await api.create(resource.MANIFEST_WORKS, work, "ash")
    attempt = {"epoch": 1, "attempt": 1, "cluster": "ash", "tasks": "0-3", "state": "Running"}
    status = {"phase": "Running", "attempts": [attempt], "tasks": {"total": 4, "active": 4}}
    return await api.patch(resource.FLEET_JOBS, "train", {"status": status}, "default", subresource="status")


async def test_following_waits_for_a_site_that_is_offline_while_the_job_goes_on(api: Session) -> None:
    await _cluster(api, available=False)
    job, said = await _running(api), list[str]()

    async def follow() -> list[str]:
        return [line.text async for line in follow_job(api, job, None, said.append, lambda _: None)]

    following = asyncio.create_task(follow())
    request = await _request(api)
    assert said == ["ash is offline: what its tasks write comes when it is back"]
    await asyncio.sleep(2.5)
    await _log(
        api, f"{request}-0", {names.LOG_REQUEST: request}, {"task": 2, "text": "late\n", "final": True}, final=True
    )
    await api.patch(resource.TASK_LOG_REQUESTS, request, {"status": {"state": "Done"}}, "ash", subresource="status")
    await api.patch(resource.FLEET_JOBS, "train", {"status": {"phase": "Succeeded"}}, "default", subresource="status")
    assert await asyncio.wait_for(following, 15) == ["late"]


async def test_following_ends_with_the_job_though_its_site_never_comes_back(api: Session) -> None:
    await _cluster(api, available=False)
    job, said = await _running(api), list[str]()
    following = asyncio.create_task(_drain(follow_job(api, job, None, said.append, lambda _: None)))
    await _request(api)
    await api.patch(resource.FLEET_JOBS, "train", {"status": {"phase": "Failed"}}, "default", subresource="status")
    await asyncio.wait_for(following, 15)
    assert said[-1] == "ash does not answer, asked 1 s ago; of tasks 0-3 it had sent nothing"


async def test_a_job_that_is_deleted_while_it_is_followed_is_one_error(api: Session) -> None:
    await _cluster(api)
    job = await _running(api)
    following = asyncio.create_task(_drain(follow_job(api, job, None, lambda _: None, lambda _: None)))
    await _request(api)
    await api.delete(resource.FLEET_JOBS, "train", "default")
    with pytest.raises(NotFoundError, match="was deleted"):
        await asyncio.wait_for(following, 15)


async def _drain(lines: Any) -> None:
    async for _ in lines:
        pass


async def _answer(api: Session, request: dict[str, Any], text: str) -> None:
    name, task = request["metadata"]["name"], int(request["spec"]["tasks"])
    entry = {"task": task, "text": text, "final": True}
    await _log(api, f"{name}-0", {names.LOG_REQUEST: name}, entry, final=True)
    await api.patch(resource.TASK_LOG_REQUESTS, name, {"status": {"state": "Done"}}, "ash", subresource="status")


async def test_several_sources_are_asked_at_once_and_printed_in_their_order(api: Session) -> None:
    await _cluster(api)
    job = await _job(api)
    found = [Source("ash", f"train-{n}", n + 1, IndexSet.of([n])) for n in range(12)]

    async def read() -> list[tuple[int, str]]:
        return [(line.task, line.text) async for line in read_all(api, job, found, lambda _: None, tail=None)]

    reading = asyncio.create_task(read())
    at_once, answered = 0, set[str]()
    async with asyncio.timeout(15):
        while len(answered) < len(found):
            requests = (await api.list(resource.TASK_LOG_REQUESTS, "ash")).items
            fresh = [request for request in requests if request["metadata"]["name"] not in answered]
            at_once = max(at_once, len(fresh))
            # The last first, a few at a time.
            for request in sorted(fresh, key=lambda request: -int(request["spec"]["tasks"]))[:3]:
                answered.add(request["metadata"]["name"])
                await _answer(api, request, f"of {request['spec']['tasks']}\n")
    assert await asyncio.wait_for(reading, 15) == [(n, f"of {n}") for n in range(12)]
    assert 2 <= at_once <= 8
    assert (await api.list(resource.TASK_LOG_REQUESTS, "ash")).items == []


async def test_who_stops_reading_several_sources_takes_all_requests_away(api: Session) -> None:
    await _cluster(api)
    job = await _job(api)
    found = [Source("ash", f"train-{n}", n + 1, IndexSet.of([n])) for n in range(4)]

    async def answer_first() -> None:
        async with asyncio.timeout(10):
            while len(requests := (await api.list(resource.TASK_LOG_REQUESTS, "ash")).items) < 4:
                await asyncio.sleep(0.02)
        await _answer(api, next(request for request in requests if request["spec"]["tasks"] == "0"), "one\ntwo\n")

    answering = asyncio.create_task(answer_first())
    async with aclosing(read_all(api, job, found, lambda _: None, tail=None)) as lines:
        async for line in lines:
            assert line.text == "one"
            break
    await answering
    assert (await api.list(resource.TASK_LOG_REQUESTS, "ash")).items == []
