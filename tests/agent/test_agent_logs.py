"""Logs that are asked for: in order, complete, soon, and unharmed by outages and restarts. Also how text is cut."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Mapping
from typing import Any

import orjson
import pytest
from agent_fakes import FakeApi, until
from agent_rig import CLUSTER, job_manifest, manifest_work
from agent_site import FakeSite
from hypothesis import given
from hypothesis import strategies as st

import agent.logs
from agent.link import HubLink
from agent.logs import LogService
from agent.logtext import BUNDLE_BYTES, TextStream, last_lines
from hub.api import names
from hub.api.errors import UnreachableError
from hub.api.resource import JOBS, MANIFEST_WORKS, NAMESPACES, TASK_LOG_REQUESTS, TASK_LOGS
from hub.client.backoff import Backoff


class Served:
    """A log service whose works are those of the hub; started and stopped by the test."""

    def __init__(self, hub: FakeApi, site: FakeSite) -> None:
        self.hub, self.site = hub, site
        self.synced = True
        self.service: LogService
        self._task: asyncio.Task[None] | None = None

    def works(self) -> Mapping[str, Any] | None:
        if not self.synced:
            return None
        found = [obj for (_, plural, _, _), obj in self.hub.objects.items() if plural == "manifestworks"]
        return {obj["metadata"]["name"]: obj for obj in found}

    def start(self) -> None:
        link = HubLink(Backoff(0.01, 0.05))
        self.service = LogService(self.hub, self.site, cluster=CLUSTER, link=link, works=self.works)
        self._task = asyncio.create_task(self.service.run())

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def ask(self, name: str = "log-1", **spec: Any) -> None:
        body = {"metadata": {"name": name}, "spec": {"work": "w1", "jobUID": "0f", **spec}}
        await self.hub.create(TASK_LOG_REQUESTS, body, CLUSTER)

    def objects(self, name: str = "log-1") -> list[dict[str, Any]]:
        return [
            obj
            for (_, plural, _, key), obj in sorted(self.hub.objects.items())
            if plural == "tasklogs" and obj["metadata"]["labels"].get(names.LOG_REQUEST) == name
        ]

    def entries(self, name: str = "log-1") -> list[dict[str, Any]]:
        return [entry for obj in self.objects(name) for entry in obj["entries"]]

    def text(self, task: int, name: str = "log-1") -> str:
        return "".join(entry["text"] for entry in self.entries(name) if entry["task"] == task)

    def state(self, name: str = "log-1") -> dict[str, Any]:
        return (self.hub.peek(TASK_LOG_REQUESTS, name, CLUSTER) or {}).get("status") or {}

    def is_final(self, name: str = "log-1") -> bool:
        return any(obj.get("final") for obj in self.objects(name))

    async def done(self, name: str = "log-1", seconds: float = 5.0) -> None:
        await until(lambda: self.state(name).get("state") in ("Done", "Failed"), seconds, "request done")


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    hub, site = FakeApi(), FakeSite()
    await hub.create(NAMESPACES, {"metadata": {"name": CLUSTER}})
    work = manifest_work("w1", job_manifest(completions=4))
    work["metadata"]["annotations"][names.TASKS] = "3,5-7"
    await hub.create(MANIFEST_WORKS, work, CLUSTER)
    found = Served(hub, site)
    found.start()
    yield found
    await found.stop()


async def test_tasks_are_found_by_their_place_in_the_slice(served: Served) -> None:
    for index in range(4):
        served.site.output(index).write(f"index {index}\n".encode())
        served.site.output(index).end(index)
    await served.ask(tasks="5,7")
    await served.done()
    assert served.entries() == [
        {"task": 5, "attempt": 1, "offset": 0, "text": "index 1\n", "exitCode": 1, "final": True},
        {"task": 7, "attempt": 1, "offset": 0, "text": "index 3\n", "exitCode": 3, "final": True},
    ]
    (only,) = served.objects()
    assert only["metadata"]["name"] == "log-1-00000000"
    assert only["final"] is True
    request = served.hub.peek(TASK_LOG_REQUESTS, "log-1", CLUSTER)
    assert request is not None
    assert only["metadata"]["ownerReferences"] == [
        {
            "apiVersion": names.API_VERSION,
            "kind": "TaskLogRequest",
            "name": "log-1",
            "uid": request["metadata"]["uid"],
        }
    ]
    assert served.state() == {"state": "Done"}
    # One object and one state: nothing in between for an answer this quick.
    assert len(served.hub.writes("TaskLogRequest", "status")) == 1


async def test_all_tasks_of_all_attempts_when_neither_work_nor_tasks_are_named(served: Served) -> None:
    second = manifest_work("w2", job_manifest("sum-2"))
    second["metadata"]["labels"][names.EPOCH] = "2"
    second["metadata"]["annotations"] = {names.TASKS: "5", names.ATTEMPT: "2"}
    await served.hub.create(MANIFEST_WORKS, second, CLUSTER)
    served.site.output(1).write(b"first")
    served.site.output(0, job="sum-2").write(b"second")
    await served.ask(work=None)
    await served.done()
    assert [(e["task"], e["attempt"], e["text"]) for e in served.entries()] == [
        (3, 1, ""),
        (5, 1, "first"),
        (6, 1, ""),
        (7, 1, ""),
        (5, 2, "second"),
    ]
    assert served.state()["message"] == "no log here of tasks 3,6-7: they have not started, or it is gone"


async def test_a_large_log_comes_whole_in_objects_that_fit(served: Served) -> None:
    noise = random.Random(7)
    data = "".join(noise.choice("añ\u20ac\U0001f600\x01\n") for _ in range(400_000)).encode()
    served.site.output(0).write(data)
    served.site.output(0).end()
    served.site.chunk = 50_001
    await served.ask(tasks="3")
    await served.done(seconds=20)
    objects = served.objects()
    assert len(objects) > 4
    assert all(len(orjson.dumps(obj["entries"])) <= BUNDLE_BYTES for obj in objects)
    assert [obj["metadata"]["name"] for obj in objects] == [f"log-1-{n:08d}" for n in range(len(objects))]
    assert [bool(obj.get("final")) for obj in objects] == [False] * (len(objects) - 1) + [True]
    assert served.text(3).encode() == data
    offset = 0
    for entry in served.entries():
        assert entry["offset"] == offset
        offset += len(entry["text"].encode())


async def test_last_lines_and_offsets(served: Served) -> None:
    served.site.output(0).write(b"one\ntwo\nthree\n")
    reads = []
    original = served.hub.get

    async def get(resource: Any, *args: Any, **kwargs: Any) -> Any:
        reads.append(resource.kind)
        return await original(resource, *args, **kwargs)

    served.hub.get = get  # type: ignore[method-assign]
    await served.ask("tail", tasks="3", tailLines=2)
    await served.ask("since", tasks="3", sinceOffset={"3": 6}, tailLines=1)
    await served.done("tail")
    await served.done("since")
    assert served.entries("tail") == [{"task": 3, "attempt": 1, "offset": 4, "text": "two\nthree\n", "final": True}]
    assert [(e["offset"], e["text"]) for e in served.entries("since")] == [(6, "o\nthree\n")]
    # Nobody has answered a request that is new: there is nothing to look for.
    assert reads == []


async def test_following_is_soon_and_coalesced(served: Served) -> None:
    output = served.site.output(0)
    output.write(b"begin\n")
    await served.ask(tasks="3", follow=True)
    await until(lambda: served.text(3) == "begin\n")
    loop = asyncio.get_running_loop()
    waits = []
    for line in ("first\n", "second\n", "third\n", "fourth\n"):
        written = loop.time()
        output.write(line.encode())
        await until(lambda line=line: served.text(3).endswith(line))
        waits.append(loop.time() - written)
    assert min(waits) < 0.1
    before = len(served.objects())
    started = loop.time()
    for number in range(100):
        output.write(f"{number}\n".encode())
        await asyncio.sleep(0.003)
    await until(lambda: served.text(3).endswith("99\n"))
    assert len(served.objects()) - before <= 2 + (loop.time() - started) / 0.05
    output.end(3, "OOMKilled")
    await served.done()
    assert served.entries()[-1]["exitCode"] == 3
    assert served.entries()[-1]["reason"] == "OOMKilled"
    assert served.is_final()


async def test_following_waits_for_tasks_that_start_later(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    # Nothing but being told makes it look again.
    monkeypatch.setattr(agent.logs, "_PROBE_SECONDS", 3600.0)
    await served.ask(tasks="5-6", follow=True)
    await asyncio.sleep(0.2)
    assert served.objects() == []
    served.site.output(2).write(b"late\n")
    work = served.hub.peek(MANIFEST_WORKS, "w1", CLUSTER)
    assert work is not None
    served.service.observe(work, JOBS, {})
    await until(lambda: served.text(6) == "late\n")
    served.site.output(2).end()
    await asyncio.sleep(0.1)
    assert not served.is_final()
    conditions = [{"type": "Complete", "status": "True"}]
    served.hub.edit(MANIFEST_WORKS, "w1", CLUSTER, lambda obj: obj.update(status={"conditions": conditions}))
    served.service.observe(work, JOBS, {})
    await served.done()
    assert [(e["task"], e.get("reason")) for e in served.entries() if e.get("final")] == [(6, None), (5, "NotStarted")]


async def test_following_many_waiting_tasks_asks_about_few_at_a_time(served: Served) -> None:
    work = manifest_work("big", job_manifest("big", completions=3000))
    work["metadata"]["annotations"][names.TASKS] = "0-2999"
    await served.hub.create(MANIFEST_WORKS, work, CLUSTER)
    await served.ask(work="big", follow=True)
    await asyncio.sleep(1.2)
    assert 32 <= len(served.site.reads) <= 32 * 6
    for index in (0, 1, 2990):
        served.site.output(index, job="big").write(b"x")
    found = served.hub.peek(MANIFEST_WORKS, "big", CLUSTER)
    assert found is not None
    for _ in range(4):
        served.service.observe(found, JOBS, {})
        await asyncio.sleep(0.06)
    await until(lambda: served.text(0) and served.text(1))


async def test_a_request_that_is_taken_away_is_dropped(served: Served) -> None:
    served.site.output(0).write(b"x")
    await served.ask(tasks="3", follow=True)
    await until(lambda: served.text(3))
    await served.hub.delete(TASK_LOG_REQUESTS, "log-1", CLUSTER)
    await until(lambda: served.service.open_requests == 0)
    assert served.site.open_reads == 0


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"work": "nope"}, "there is no work nope here"),
        ({"tasks": "99"}, "none of the tasks 99 is here: w1 has 3,5-7"),
        ({"tasks": "7-3"}, "runs backwards"),
    ],
)
async def test_what_cannot_be_answered_fails_with_words_and_an_end(
    served: Served, monkeypatch: pytest.MonkeyPatch, spec: dict[str, Any], message: str
) -> None:
    monkeypatch.setattr(agent.logs, "_WORK_PATIENCE", 0.1)
    await served.ask(**spec)
    await served.done()
    assert served.state()["state"] == "Failed"
    assert message in served.state()["message"]
    assert served.is_final()


async def test_a_request_may_come_before_its_work(served: Served) -> None:
    served.synced = False
    await served.ask(tasks="3")
    await asyncio.sleep(0.1)
    served.site.output(0).write(b"x")
    served.synced = True
    await served.done()
    assert served.text(3) == "x"


async def test_an_outage_of_the_hub_costs_nothing(served: Served) -> None:
    output = served.site.output(0)
    output.write(b"a\n")
    await served.ask(tasks="3", follow=True)
    await until(lambda: served.text(3) == "a\n")
    served.hub.cut()
    for number in range(50):
        output.write(f"{number}\n".encode())
        await asyncio.sleep(0.002)
    await asyncio.sleep(0.2)
    served.hub.heal()
    output.end(0)
    await served.done()
    assert served.text(3) == "a\n" + "".join(f"{n}\n" for n in range(50))


async def test_a_write_whose_answer_was_lost_is_not_sent_twice(served: Served) -> None:
    original, lost = served.hub.create, []

    async def create(resource: Any, *args: Any, **kwargs: Any) -> Any:
        answer = await original(resource, *args, **kwargs)
        if resource == TASK_LOGS and not lost:
            lost.append(1)
            raise UnreachableError("the answer was lost")
        return answer

    served.hub.create = create  # type: ignore[method-assign]
    served.site.output(0).write(b"once")
    await served.ask(tasks="3")
    await served.done()
    assert lost
    assert served.text(3) == "once"
    assert len(served.objects()) == 1


async def test_a_read_that_breaks_off_goes_on_where_it_was(served: Served) -> None:
    served.site.chunk, served.site.broken = 3, 2
    served.site.output(0).write("1234\u20ac5678".encode())
    served.site.output(0).end(0)
    await served.ask(tasks="3")
    await served.done()
    assert served.text(3) == "1234\u20ac5678"


@pytest.mark.parametrize("follow", [False, True])
async def test_a_restarted_agent_goes_on_where_it_stopped(served: Served, follow: bool) -> None:
    data = bytes(random.Random(3).choice(b"ab\n\xe2\x82\xac\xff\xc3") for _ in range(300_000))
    served.site.chunk = 10_000
    served.site.output(0).write(data)
    served.site.output(1).write(b"the other\n")
    original, stopped = served.hub.create, asyncio.Event()

    async def create(resource: Any, *args: Any, **kwargs: Any) -> Any:
        if resource == TASK_LOGS and len(served.objects()) >= 1:
            stopped.set()
            await asyncio.sleep(3600)
        return await original(resource, *args, **kwargs)

    served.hub.create = create  # type: ignore[method-assign]
    await served.ask(tasks="3,5", follow=follow)
    await asyncio.wait_for(stopped.wait(), 5)
    await served.stop()
    served.hub.create = original  # type: ignore[method-assign]
    assert len(served.objects()) == 1
    served.start()
    served.site.output(0).end(0)
    served.site.output(1).end(0)
    await served.done(seconds=20)
    expected = data.decode("utf-8", "surrogateescape")
    assert served.text(3) == "".join("\ufffd" if "\udc80" <= c <= "\udcff" else c for c in expected)
    assert served.text(5) == "the other\n"
    finals = [entry["task"] for entry in served.entries() if entry.get("final")]
    assert sorted(finals) == [3, 5]
    offsets = [entry["offset"] for entry in served.entries() if entry["task"] == 3]
    assert offsets == sorted(offsets)
    again = len(served.objects())
    await served.stop()
    served.start()
    await asyncio.sleep(0.1)
    assert len(served.objects()) == again


async def test_more_followers_than_places_are_told_so(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent.logs, "FOLLOWING", 1)
    served.site.output(0).write(b"x")
    await served.ask("one", tasks="3", follow=True)
    await until(lambda: served.text(3, "one"))
    await served.ask("two", tasks="3", follow=True)
    await served.done("two")
    assert served.state("two")["state"] == "Failed"
    assert "1 logs are followed here already" in served.state("two")["message"]
    # Reading without following goes on beside it.
    await served.ask("three", tasks="3")
    await served.done("three")
    assert served.text(3, "three") == "x"


async def test_one_request_gets_its_share_and_no_more(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.answer.ANSWER_BYTES", 100_000)
    served.site.chunk = 20_000
    served.site.output(0).write(b"y" * 1_000_000)
    await served.ask(tasks="3")
    await served.done()
    assert served.state()["state"] == "Done"
    assert "ask for the rest with sinceOffset" in served.state()["message"]
    assert served.is_final()
    assert 100_000 <= len(served.text(3)) < 200_000


@given(st.text(max_size=40), st.binary(max_size=20), st.lists(st.integers(1, 9), max_size=30), st.data())
def test_text_is_never_lost_however_it_is_cut(text: str, junk: bytes, cuts: list[int], draw: Any) -> None:
    data = text.encode("utf-8", "ignore") + junk + text.encode("utf-8", "ignore")
    expected = data.decode("utf-8", "surrogateescape")
    pieces: list[tuple[int, str]] = []
    stream, at = TextStream(), 0
    for cut in [*cuts, len(data)]:
        part = data[at : at + cut]
        pieces += stream.feed(at, part)
        at += len(part)
    pieces += stream.feed(at, b"", final=True)
    whole = "".join(piece for _, piece in pieces)
    assert whole == "".join("\ufffd" if "\udc80" <= c <= "\udcff" else c for c in expected)
    assert stream.next == len(data)
    # Picked up from any entry, the rest comes, and nothing that was sent comes again.
    if pieces:
        number = draw.draw(st.integers(0, len(pieces) - 1))
        offset, sent = pieces[number]
        resumed = TextStream(offset, len(sent))
        rest = "".join(piece for _, piece in resumed.feed(offset, data[offset:], final=True))
        assert rest == "".join(piece for _, piece in pieces[number + 1 :])


def test_a_log_that_lost_its_beginning_goes_on_from_what_is_left() -> None:
    stream = TextStream(0)
    assert list(stream.feed(0, b"abc")) == [(0, "abc")]
    assert list(stream.feed(10, b"xyz")) == [(10, "xyz")]
    resumed = TextStream(0, skip=3)
    assert list(resumed.feed(10, b"xyz")) == [(10, "xyz")]


@given(
    st.binary(max_size=200) | st.lists(st.sampled_from([b"a", b"\n", b"\xe2\x82\xac"])).map(b"".join),
    st.integers(1, 5),
    st.integers(1, 30),
)
def test_last_lines_are_whole_lines_within_the_limit(data: bytes, lines: int, limit: int) -> None:
    start, text = last_lines(data, lines, limit)
    assert data[start:].decode("utf-8", "replace") == text
    assert len(data) - start <= limit
    wanted = b"".join(_lines(data)[-lines:])
    if len(wanted) <= limit:
        assert data[start:] == wanted
    else:
        assert wanted.endswith(data[start:])


def _lines(data: bytes) -> list[bytes]:
    *whole, rest = data.split(b"\n")
    return [line + b"\n" for line in whole] + ([rest] if rest else [])
