"""The writer: latest wins, nothing equal is sent, one object's writes keep their order, outages are waited out."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from hub.api.errors import NotFoundError, OverloadedError
from hub.api.resource import CONFIG_MAPS, NAMESPACES
from hub.client.backoff import Backoff
from hub.client.patcher import Create, Delete, MergePatch, Patcher, Write, WriteKey
from tests.agent.agent_fakes import FakeApi, invalid


@pytest.fixture
async def store() -> FakeApi:
    api = FakeApi()
    await api.create(NAMESPACES, {"metadata": {"name": "a"}})
    return api


def key(name: str = "x", subresource: str | None = None) -> WriteKey:
    return WriteKey(CONFIG_MAPS, "a", name, subresource)


def config_map(name: str = "x", **data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "a"}, "data": data}


def patcher(api: FakeApi, **options: Any) -> Patcher:
    return Patcher(api, backoff=Backoff(0.001, 0.01, random.Random(1)), **options)


async def test_of_many_submissions_only_the_last_is_sent(store: FakeApi) -> None:
    writer = patcher(store)
    writer.submit(key(), lambda: Create(config_map(v="0")))
    await writer.idle()
    for n in range(50):
        writer.submit(key(), lambda n=n: MergePatch({"data": {"v": str(n)}}), delay=0.01)
    await writer.idle()
    found = store.peek(CONFIG_MAPS, "x", "a")
    assert found is not None
    assert found["data"] == {"v": "49"}
    assert len(store.writes("ConfigMap")) == 2
    assert writer.coalesced == 49


async def test_nothing_to_say_is_not_sent(store: FakeApi) -> None:
    writer = patcher(store)
    done: list[object] = []
    writer.submit(key(), lambda: None, on_done=done.append)
    writer.submit(key("y"), lambda: MergePatch({"metadata": {"uid": "u"}}), on_done=done.append)
    await writer.idle()
    assert (store.writes("ConfigMap"), done, writer.skipped) == ([], [], 2)


async def test_a_status_waits_for_the_objects_creation(store: FakeApi) -> None:
    writer = patcher(store, concurrency=8)
    writer.submit(key(), lambda: Create(config_map()))
    writer.submit(key(subresource="status"), lambda: MergePatch({"status": {"ok": True}}))
    await writer.idle()
    assert [entry[0] for entry in store.writes("ConfigMap")] == ["create", "patch"]


async def test_an_outage_is_waited_out_and_desired_is_asked_anew(store: FakeApi) -> None:
    writer = patcher(store)
    failures = [OverloadedError(503, {"message": "busy"})] * 3
    store.refuse = lambda verb, kind, obj: failures.pop() if failures else None
    asked: list[int] = []

    def desired() -> Write:
        asked.append(1)
        return Create(config_map(v=str(len(asked))))

    writer.submit(key(), desired)
    await asyncio.wait_for(writer.idle(), 5)
    found = store.peek(CONFIG_MAPS, "x", "a")
    assert found is not None
    assert found["data"] == {"v": "4"}
    assert writer.retries == 3


async def test_what_the_server_refuses_is_reported_once_and_the_others_go_on(store: FakeApi) -> None:
    writer = patcher(store)
    store.refuse = lambda verb, kind, obj: invalid("no") if obj["metadata"].get("name") == "bad" else None
    refused: list[str] = []
    writer.submit(
        key("bad"), lambda: Create(config_map("bad")), on_error=lambda where, error: refused.append(str(where))
    )
    writer.submit(key("good"), lambda: Create(config_map("good")))
    await asyncio.wait_for(writer.idle(), 5)
    assert refused == ["ConfigMap a/bad"]
    assert store.peek(CONFIG_MAPS, "good", "a") is not None


async def test_a_callback_that_raises_stops_nothing(store: FakeApi) -> None:
    writer = patcher(store)

    def broken(_: object) -> None:
        raise RuntimeError("a bug of the caller")

    writer.submit(key(), lambda: Create(config_map()), on_done=broken)
    writer.submit(key("y"), lambda: Create(config_map("y")))
    await asyncio.wait_for(writer.idle(), 5)
    assert store.peek(CONFIG_MAPS, "y", "a") is not None


async def test_deleting_what_is_gone_is_no_error(store: FakeApi) -> None:
    writer = patcher(store)
    errors: list[Exception] = []
    writer.submit(key("nobody"), lambda: Delete(), on_error=lambda where, error: errors.append(error))
    await asyncio.wait_for(writer.idle(), 5)
    assert errors == []
    with pytest.raises(NotFoundError):
        await store.get(CONFIG_MAPS, "nobody", "a")


async def test_stop_sends_what_was_delayed_and_takes_nothing_more(store: FakeApi) -> None:
    writer = patcher(store)
    writer.submit(key(), lambda: Create(config_map()), delay=60)
    assert await writer.stop(2.0) == 0
    assert store.peek(CONFIG_MAPS, "x", "a") is not None
    writer.submit(key("late"), lambda: Create(config_map("late")))
    await asyncio.sleep(0.01)
    assert store.peek(CONFIG_MAPS, "late", "a") is None


async def test_stop_says_how_much_was_left_when_nobody_answers(store: FakeApi) -> None:
    writer = patcher(store)
    store.cut()
    writer.submit(key(), lambda: Create(config_map()))
    assert await writer.stop(0.05) == 1
