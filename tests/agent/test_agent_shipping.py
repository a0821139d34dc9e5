"""The last lines of failed tasks: shipped unasked, once each over restarts, and many in few objects."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import orjson
import pytest
from agent_fakes import FakeApi, invalid, until
from agent_rig import CLUSTER, job_manifest, manifest_work
from agent_site import FakeSite

from agent.journal import Journal, Shipped
from agent.link import HubLink
from agent.logtext import BUNDLE_BYTES
from agent.shipping import FailureShipper
from hub.api import names
from hub.api.errors import UnreachableError
from hub.api.resource import JOBS, MANIFEST_WORKS, NAMESPACES, TASK_LOGS
from hub.client.backoff import Backoff


class Shipping:
    def __init__(self, hub: FakeApi, site: FakeSite, data: Path) -> None:
        self.hub, self.site, self.data = hub, site, data
        self.shipper: FailureShipper
        self.journal: Journal
        self._task: asyncio.Task[None] | None = None

    def works(self) -> Mapping[str, Any]:
        found = [obj for (_, plural, _, _), obj in self.hub.objects.items() if plural == "manifestworks"]
        return {obj["metadata"]["name"]: obj for obj in found}

    def start(self) -> None:
        self.journal = Journal.open(self.data / "journal.db")
        self.shipper = FailureShipper(
            self.hub,
            self.site,
            cluster=CLUSTER,
            link=HubLink(Backoff(0.01, 0.05)),
            journal=self.journal,
            works=self.works,
        )
        self._task = asyncio.create_task(self.shipper.run())

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
            self.journal.close()

    async def deliver(self, name: str = "w1", tasks: str = "0-9", completions: int = 10) -> None:
        work = manifest_work(name, job_manifest(completions=completions, completionMode="Indexed"))
        work["metadata"]["annotations"] = {names.TASKS: tasks, names.ATTEMPT: "2"}
        await self.hub.create(MANIFEST_WORKS, work, CLUSTER)

    def fail(self, indexes: str, name: str = "w1", codes: str = "") -> None:
        """As the local Job's status says it."""
        job = {"spec": {"completionMode": "Indexed"}, "status": {"failedIndexes": indexes, "exitCodes": codes}}
        self.shipper.observe(self.works()[name], JOBS, job)

    def objects(self) -> list[dict[str, Any]]:
        return [obj for (_, plural, _, _), obj in sorted(self.hub.objects.items()) if plural == "tasklogs"]

    def entries(self) -> list[dict[str, Any]]:
        return [entry for obj in self.objects() for entry in obj["entries"]]

    async def settled(self, seconds: float = 5.0) -> None:
        await until(lambda: self.shipper.idle, seconds, "everything shipped")


@pytest.fixture
async def shipping(tmp_path: Path) -> AsyncIterator[Shipping]:
    hub = FakeApi()
    await hub.create(NAMESPACES, {"metadata": {"name": CLUSTER}})
    found = Shipping(hub, FakeSite(), tmp_path)
    await found.deliver()
    found.start()
    yield found
    await found.stop()


async def test_a_failed_task_ships_its_last_lines_and_how_it_ended(shipping: Shipping) -> None:
    shipping.site.output(3).write(b"".join(b"line %d\n" % n for n in range(100)))
    shipping.site.output(3).end(7, "OOMKilled")
    shipping.fail("3", codes="7=3")
    await shipping.settled()
    (found,) = shipping.objects()
    assert found["metadata"]["name"] == "w1-failed-00000000"
    assert found["metadata"]["labels"] == {names.JOB_UID: "0f", names.EPOCH: "1"}
    (entry,) = found["entries"]
    text = "".join(f"line {n}\n" for n in range(60, 100))
    offset = sum(len(f"line {n}\n") for n in range(60))
    assert entry == {
        "task": 3,
        "attempt": 2,
        "offset": offset,
        "text": text,
        "exitCode": 7,
        "reason": "OOMKilled",
        "final": True,
    }


async def test_long_lines_are_cut_to_four_kib(shipping: Shipping) -> None:
    shipping.site.output(0).write(b"x" * 9000 + b"\n" + b"y" * 5000 + b"end\n")
    shipping.site.output(0).end(1)
    shipping.fail("0")
    await shipping.settled()
    (entry,) = shipping.entries()
    assert len(entry["text"]) == 4096
    assert entry["text"].endswith("yend\n")
    assert entry["offset"] == 9001 + 5004 - 4096


async def test_a_log_that_is_gone_still_says_that_and_how_it_failed(shipping: Shipping) -> None:
    shipping.fail("4", codes="137=4")
    await shipping.settled()
    assert shipping.entries() == [
        {"task": 4, "attempt": 2, "offset": 0, "text": "", "exitCode": 137, "reason": "LogGone", "final": True}
    ]


async def test_each_is_shipped_once_however_often_it_is_told(shipping: Shipping) -> None:
    for index in range(3):
        shipping.site.output(index).write(b"%d" % index)
        shipping.fail(f"0-{index}")
        await asyncio.sleep(0.15)
    await shipping.settled()
    for _ in range(3):
        shipping.fail("0-2")
    await asyncio.sleep(0.3)
    assert [entry["task"] for entry in shipping.entries()] == [0, 1, 2]
    # The first at once, the others together a second later.
    assert len(shipping.objects()) == 2


async def test_a_thousand_failures_are_few_objects_that_fit(shipping: Shipping) -> None:
    await shipping.deliver("big", "0-999", 1000)
    for index in range(1000):
        shipping.site.output(index).write(b"%d\x00\n" % index * 500)
        shipping.site.output(index).end(1)
    shipping.fail("0-999", "big")
    await shipping.settled(20)
    assert sorted(entry["task"] for entry in shipping.entries()) == list(range(1000))
    assert all(len(orjson.dumps(obj["entries"])) <= BUNDLE_BYTES for obj in shipping.objects())
    total = sum(len(orjson.dumps(obj["entries"])) for obj in shipping.objects())
    assert len(shipping.objects()) <= total / BUNDLE_BYTES + 2


async def test_a_restart_ships_what_is_missing_and_nothing_twice(shipping: Shipping) -> None:
    for index in range(4):
        shipping.site.output(index).write(b"%d" % index)
    shipping.fail("0-1")
    await shipping.settled()
    await shipping.stop()
    shipping.start()
    shipping.fail("0-3")
    await shipping.settled()
    assert [entry["task"] for entry in shipping.entries()] == [0, 1, 2, 3]
    assert [obj["metadata"]["name"] for obj in shipping.objects()] == ["w1-failed-00000000", "w1-failed-00000001"]


async def test_what_was_sent_but_not_journaled_is_found_on_the_hub(shipping: Shipping) -> None:
    """Killed between the two; or the answer to the write was lost."""
    for index in range(3):
        shipping.site.output(index).write(b"%d" % index)
    shipping.fail("0-1")
    await shipping.settled()
    uid = shipping.works()["w1"]["metadata"]["uid"]
    shipping.journal.record_shipped(uid, Shipped())
    shipping.fail("0-2")
    await shipping.settled()
    assert [entry["task"] for entry in shipping.entries()] == [0, 1, 2]
    original, lost = shipping.hub.create, []

    async def create(resource: Any, *args: Any, **kwargs: Any) -> Any:
        answer = await original(resource, *args, **kwargs)
        if resource == TASK_LOGS and not lost:
            lost.append(1)
            raise UnreachableError("the answer was lost")
        return answer

    shipping.hub.create = create  # type: ignore[method-assign]
    shipping.fail("0-5")
    await shipping.settled()
    assert lost
    assert [entry["task"] for entry in shipping.entries()] == [0, 1, 2, 3, 4, 5]


async def test_killed_after_the_end_was_reported_it_still_ships(shipping: Shipping) -> None:
    """A work that is Complete is not looked at by anyone else after a restart."""
    await shipping.stop()
    values = [
        {"name": "failedIndexes", "fieldValue": {"type": "String", "string": "2"}},
        {"name": "exitCodes", "fieldValue": {"type": "String", "string": "9=2"}},
    ]
    status = {
        "conditions": [{"type": "Complete", "status": "True"}],
        "resourceStatus": {"manifests": [{"resourceMeta": {}, "statusFeedback": {"values": values}}]},
    }
    shipping.hub.edit(MANIFEST_WORKS, "w1", CLUSTER, lambda obj: obj.update(status=status))
    shipping.site.output(2).write(b"last words")
    shipping.start()
    await until(shipping.entries)
    assert [(e["task"], e["exitCode"], e["text"]) for e in shipping.entries()] == [(2, 9, "last words")]
    await shipping.settled()
    await shipping.stop()
    shipping.start()
    await asyncio.sleep(0.3)
    assert len(shipping.objects()) == 1


async def test_an_outage_is_waited_out(shipping: Shipping) -> None:
    shipping.site.output(0).write(b"x")
    shipping.hub.cut()
    shipping.fail("0")
    await asyncio.sleep(0.3)
    assert not shipping.shipper.idle
    shipping.hub.heal()
    await shipping.settled()
    assert [entry["task"] for entry in shipping.entries()] == [0]


async def test_a_refusal_is_tried_again_and_stops_no_other(shipping: Shipping) -> None:
    await shipping.deliver("w2")
    shipping.hub.refuse = lambda verb, kind, obj: (
        invalid("no") if kind == "TaskLog" and obj["metadata"]["name"].startswith("w1") else None
    )
    shipping.fail("0", "w1")
    shipping.fail("1", "w2")
    await until(shipping.entries)
    assert [obj["metadata"]["name"] for obj in shipping.objects()] == ["w2-failed-00000000"]
    shipping.hub.refuse = lambda verb, kind, obj: None
    await shipping.settled()
    assert len(shipping.objects()) == 2


async def test_works_that_are_going_or_not_jobs_of_the_hub_ship_nothing(shipping: Shipping) -> None:
    shipping.hub.edit(MANIFEST_WORKS, "w1", CLUSTER, lambda o: o["metadata"].update(deletionTimestamp="2026-01-01"))
    shipping.fail("0")
    await shipping.deliver("w2")
    shipping.hub.edit(MANIFEST_WORKS, "w2", CLUSTER, lambda o: o["metadata"]["labels"].pop(names.JOB_UID))
    shipping.fail("0", "w2")
    await asyncio.sleep(0.3)
    assert shipping.objects() == []
    assert shipping.shipper.idle


async def test_a_job_without_indexes_is_task_zero(shipping: Shipping) -> None:
    work = manifest_work("plain")
    work["metadata"]["annotations"] = {}
    await shipping.hub.create(MANIFEST_WORKS, work, CLUSTER)
    shipping.site.output(0).write(b"plain words")
    shipping.shipper.observe(
        shipping.works()["plain"], JOBS, {"spec": {}, "status": {"conditions": [{"type": "Failed", "status": "True"}]}}
    )
    await shipping.settled()
    assert [(e["task"], e["text"]) for e in shipping.entries()] == [(0, "plain words")]
