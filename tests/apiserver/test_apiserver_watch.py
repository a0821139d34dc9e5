"""What a watch says, in which order, and when it says that it cannot."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest

from hub.api.errors import GoneError, RefusedError
from hub.api.resource import CONFIG_MAPS, NAMESPACES
from hub.apiserver import ApiServer, ControlPlane, InProcessApi, serve
from hub.client.backoff import Backoff
from hub.client.informer import Informer
from hub.client.interface import KubeApi
from hub.client.session import Session


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[ApiServer]:
    async with serve(tmp_path / "bare") as server:
        yield server


@pytest.fixture(params=["http", "in process"])
async def either(request: pytest.FixtureRequest, server: ApiServer) -> AsyncIterator[KubeApi]:
    if request.param == "in process":
        yield server.in_process()
        return
    async with Session(server.url, token=server.token) as session:
        yield session


@pytest.fixture
async def raw(server: ApiServer) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(server.url, headers={"Authorization": f"Bearer {server.token}"}) as session:
        yield session


def tokens_file(directory: Path) -> Path:
    path = directory / "tokens.json"
    path.write_text('{"t": {"user": "u", "groups": ["system:masters"]}}')
    return path


MAPS = "/api/v1/namespaces/default/configmaps"


async def make(api: KubeApi, name: str, labels: dict[str, str] | None = None, namespace: str = "default") -> Any:
    return await api.create(CONFIG_MAPS, {"metadata": {"name": name, "labels": labels or {}}}, namespace)


async def collect(api: KubeApi, count: int, namespace: str | None = None, **options: Any) -> list[tuple[str, str]]:
    seen: list[tuple[str, str]] = []
    async with asyncio.timeout(5):
        async for event in api.watch(CONFIG_MAPS, namespace, **options):
            if event.type != "BOOKMARK":
                seen.append((event.type, event.object["metadata"]["name"]))
            if len(seen) == count:
                break
    return seen


async def read(stream: aiohttp.ClientResponse, count: int) -> list[dict[str, Any]]:
    events = []
    async with asyncio.timeout(5):
        while len(events) < count:
            line = await stream.content.readline()
            if not line:
                break
            events.append(orjson.loads(line))
    return events


async def test_a_watch_goes_on_from_its_version(either: KubeApi) -> None:
    first = await make(either, "a")
    version = first["metadata"]["resourceVersion"]
    await make(either, "b")
    await either.patch(CONFIG_MAPS, "a", {"data": {"x": "1"}}, "default")
    await either.delete(CONFIG_MAPS, "b", "default")
    expected = [("ADDED", "b"), ("MODIFIED", "a"), ("DELETED", "b")]
    assert await collect(either, 3, resource_version=version) == expected


async def test_a_watch_from_nowhere_begins_with_what_is_there(either: KubeApi) -> None:
    await make(either, "b")
    await make(either, "a")
    task = asyncio.create_task(collect(either, 3, resource_version="0"))
    await asyncio.sleep(0.05)
    await make(either, "c")
    assert await task == [("ADDED", "a"), ("ADDED", "b"), ("ADDED", "c")]


async def test_versions_grow_and_a_deletion_has_its_own(either: KubeApi) -> None:
    version = (await either.list(CONFIG_MAPS)).resource_version
    await make(either, "a")
    await either.delete(CONFIG_MAPS, "a", "default")
    versions = []
    async for event in either.watch(CONFIG_MAPS, resource_version=version):
        versions.append(int(event.object["metadata"]["resourceVersion"]))
        if len(versions) == 2:
            break
    assert int(version) < versions[0] < versions[1]


async def test_selectors_turn_changes_into_arrivals_and_departures(either: KubeApi) -> None:
    version = (await make(either, "other"))["metadata"]["resourceVersion"]
    await make(either, "a", {"team": "x"})
    await either.patch(CONFIG_MAPS, "a", {"data": {"x": "1"}}, "default")
    await either.patch(CONFIG_MAPS, "a", {"metadata": {"labels": {"team": "y"}}}, "default")
    await either.delete(CONFIG_MAPS, "other", "default")
    await either.patch(CONFIG_MAPS, "a", {"metadata": {"labels": {"team": "x"}}}, "default")
    await either.delete(CONFIG_MAPS, "a", "default")
    expected = [("ADDED", "a"), ("MODIFIED", "a"), ("DELETED", "a"), ("ADDED", "a"), ("DELETED", "a")]
    assert await collect(either, 5, resource_version=version, label_selector="team=x") == expected


async def test_who_leaves_a_selection_is_shown_as_it_was_with_the_version_of_the_change(either: KubeApi) -> None:
    version = (await make(either, "a", {"team": "x"}))["metadata"]["resourceVersion"]
    changed = await either.patch(CONFIG_MAPS, "a", {"metadata": {"labels": {"team": "y"}}}, "default")
    async for event in either.watch(CONFIG_MAPS, resource_version=version, label_selector="team=x"):
        assert event.type == "DELETED"
        assert event.object["metadata"]["labels"] == {"team": "x"}
        assert event.object["metadata"]["resourceVersion"] == changed["metadata"]["resourceVersion"]
        break


async def test_one_namespace_or_one_name(either: KubeApi) -> None:
    version = (await either.create(NAMESPACES, {"metadata": {"name": "n"}}))["metadata"]["resourceVersion"]
    for namespace in ("default", "n"):
        for name in ("a", "b"):
            await make(either, name, namespace=namespace)
    assert await collect(either, 2, "n", resource_version=version) == [("ADDED", "a"), ("ADDED", "b")]
    only = await collect(either, 2, resource_version=version, field_selector="metadata.name=b")
    assert only == [("ADDED", "b"), ("ADDED", "b")]


async def test_a_version_that_is_forgotten_is_gone(either: KubeApi, server: ApiServer) -> None:
    version = (await make(either, "a"))["metadata"]["resourceVersion"]
    history = server.plane.store.collection("", "", "configmaps").history
    history.max_events = 4
    for number in range(8):
        await either.patch(CONFIG_MAPS, "a", {"data": {"x": str(number)}}, "default")
    with pytest.raises(GoneError):
        await collect(either, 1, resource_version=version)
    listed = await either.list(CONFIG_MAPS)
    await make(either, "b")
    assert await collect(either, 1, resource_version=listed.resource_version) == [("ADDED", "b")]


async def test_a_version_of_another_store_is_gone(either: KubeApi) -> None:
    with pytest.raises(GoneError):
        await collect(either, 1, resource_version="999999999")


async def test_a_watch_ends_when_its_time_is_over(either: KubeApi) -> None:
    async with asyncio.timeout(5):
        events = [event async for event in either.watch(CONFIG_MAPS, resource_version="1", timeout_seconds=1)]
    # It says where it is, so that the next one has nothing to catch up with.
    assert [event.type for event in events] in ([], ["BOOKMARK"])


async def test_nonsense_is_refused(either: KubeApi) -> None:
    with pytest.raises(RefusedError):
        await collect(either, 1, resource_version="abc")


async def test_streamed_lists_end_with_a_mark(raw: aiohttp.ClientSession, server: ApiServer) -> None:
    api = server.in_process()
    for name in ("a", "b"):
        await make(api, name)
    query = {
        "watch": "1",
        "sendInitialEvents": "true",
        "resourceVersionMatch": "NotOlderThan",
        "allowWatchBookmarks": "true",
    }
    async with raw.get(MAPS, params=query) as stream:
        events = await read(stream, 3)
        assert [event["type"] for event in events] == ["ADDED", "ADDED", "BOOKMARK"]
        mark = events[-1]["object"]
        assert mark["kind"] == "ConfigMap"
        assert mark["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
        assert mark["metadata"]["resourceVersion"] == str(server.plane.store.version)
        await make(api, "c")
        assert [event["type"] for event in await read(stream, 1)] == ["ADDED"]
    async with raw.get(MAPS, params={"watch": "1", "sendInitialEvents": "true"}) as refused:
        assert refused.status == 422


async def test_bookmarks_say_where_a_quiet_watch_is(
    raw: aiohttp.ClientSession, server: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hub.apiserver.watching.BOOKMARK_SECONDS", 0.0)
    monkeypatch.setattr("hub.apiserver.plane._HOUSEKEEPING_SECONDS", 0.05)
    async with serve(server.plane._directory.parent / "other") as other:
        headers = {"Authorization": f"Bearer {other.token}"}
        url = f"{other.url}{MAPS}?watch=1&allowWatchBookmarks=true&resourceVersion=5"
        async with raw.get(url, headers=headers) as stream:
            await other.in_process().create(NAMESPACES, {"metadata": {"name": "n"}})
            version = str(other.plane.store.version)
            async with asyncio.timeout(5):
                while (await read(stream, 1))[0]["object"]["metadata"]["resourceVersion"] != version:
                    pass


async def test_many_watchers_see_the_same(raw: aiohttp.ClientSession, server: ApiServer) -> None:
    api = server.in_process()
    paths = [f"{MAPS}?watch=1&resourceVersion=1"] * 3 + [f"{MAPS}?watch=1&resourceVersion=1&labelSelector=a%3Db"] * 2
    async with contextlib.AsyncExitStack() as stack:
        streams = [await stack.enter_async_context(raw.get(path)) for path in paths]
        for number in range(30):
            await make(api, f"m{number:02}", {"a": "b"} if number % 2 else None)
        everything = [await read(stream, 30) for stream in streams[:3]]
        half = [await read(stream, 15) for stream in streams[3:]]
    assert [event["object"]["metadata"]["name"] for event in everything[0]] == [f"m{n:02}" for n in range(30)]
    assert everything[0] == everything[1] == everything[2]
    assert half[0] == half[1] == everything[0][1::2]


async def test_a_watcher_that_does_not_read_costs_no_memory_and_is_told(server: ApiServer) -> None:
    api = server.in_process()
    reader, writer = await asyncio.open_connection(server.host, server.port, limit=2**16)
    request = (
        f"GET {MAPS}?watch=1&resourceVersion=1 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {server.token}\r\n\r\n"
    )
    writer.write(request.encode())
    await reader.readuntil(b"\r\n\r\n")
    history = server.plane.store.collection("", "", "configmaps").history
    history.max_events = 40
    await api.create(CONFIG_MAPS, {"metadata": {"name": "big"}}, "default")
    # More than sockets and buffers hold, in many events.
    for number in range(120):
        await api.patch(CONFIG_MAPS, "big", {"data": {"x": str(number) + "y" * 200_000}}, "default")
    (connection,) = server._connections
    assert connection._transport.get_write_buffer_size() < 8 * 2**20
    # The others are served all the while; the slow one learns that it has missed something.
    assert (await api.get(CONFIG_MAPS, "big", "default"))["data"]["x"].startswith("119")
    async with asyncio.timeout(10):
        rest = b""
        while b'"code":410' not in rest[-2000:]:
            chunk = await reader.read(2**20)
            assert chunk
            rest = rest[-4000:] + chunk
    assert b'"type":"ERROR"' in rest
    writer.close()


async def test_a_watcher_that_reads_late_misses_nothing_that_is_kept(server: ApiServer) -> None:
    api = server.in_process()
    reader, writer = await asyncio.open_connection(server.host, server.port, limit=2**26)
    request = (
        f"GET {MAPS}?watch=1&resourceVersion=1 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {server.token}\r\n\r\n"
    )
    writer.write(request.encode())
    await reader.readuntil(b"\r\n\r\n")
    transport: Any = writer.transport
    transport.pause_reading()
    for number in range(60):
        await api.create(CONFIG_MAPS, {"metadata": {"name": f"m{number:02}"}, "data": {"x": "y" * 200_000}}, "default")
    transport.resume_reading()
    names: list[str] = []
    async with asyncio.timeout(10):
        while len(names) < 60:
            size = int(await reader.readline(), 16)
            chunk = await reader.readexactly(size + 2)
            names += [orjson.loads(line)["object"]["metadata"]["name"] for line in chunk.strip().split(b"\n")]
    assert names == [f"m{number:02}" for number in range(60)]
    writer.close()


async def test_tables_and_metadata_can_be_watched(raw: aiohttp.ClientSession, server: ApiServer) -> None:
    table = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"}
    partial = {"Accept": "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io"}
    async with (
        raw.get(f"{MAPS}?watch=1&resourceVersion=1", headers=table) as tables,
        raw.get(f"{MAPS}?watch=1&resourceVersion=1", headers=partial) as partials,
    ):
        await server.in_process().create(CONFIG_MAPS, {"metadata": {"name": "a"}, "data": {"x": "1"}}, "default")
        (event,) = await read(tables, 1)
        assert event["object"]["kind"] == "Table"
        assert event["object"]["rows"][0]["cells"][:2] == ["a", 1]
        (event,) = await read(partials, 1)
        assert event["object"]["kind"] == "PartialObjectMetadata"
        assert event["object"]["metadata"]["name"] == "a"
        assert "data" not in event["object"]


async def test_an_informer_lists_anew_after_a_gap_and_reports_what_vanished(tmp_path: Path) -> None:
    seen: list[tuple[str, str]] = []
    async with serve(tmp_path / "x", tokens=tokens_file(tmp_path)) as server:
        for name in ("a", "b", "c"):
            await make(server.in_process(), name)
        port = server.port
        session = Session(server.url, token="t")
        informer: Informer[Any] = Informer(
            session, CONFIG_MAPS, on_event=lambda what, key, *_: seen.append((what, key)), backoff=Backoff(0.01, 0.05)
        )
        task = asyncio.create_task(informer.run())
        await informer.synced.wait()
        seen.clear()
    # While nobody serves, the store goes on; what happened is not kept over a restart.
    async with ControlPlane(tmp_path / "x") as plane:
        api = InProcessApi(plane)
        await api.delete(CONFIG_MAPS, "b", "default")
        await make(api, "d")
    async with serve(tmp_path / "x", port, tokens=tokens_file(tmp_path)) as server:
        async with asyncio.timeout(5):
            while set(informer.store) != {"default/a", "default/c", "default/d"}:
                await asyncio.sleep(0.01)
        # What is gone is known when the listing is at its end.
        assert seen == [("ADDED", "default/d"), ("DELETED", "default/b")]
        assert informer.relists == 2
        # A restart at which nothing changed costs no list: the watch goes on.
    async with serve(tmp_path / "x", port, tokens=tokens_file(tmp_path)) as server:
        await make(server.in_process(), "e")
        async with asyncio.timeout(5):
            while "default/e" not in informer.store:
                await asyncio.sleep(0.01)
        assert informer.relists == 2
        task.cancel()
        await session.close()


async def test_in_process_watches_end_with_the_server(tmp_path: Path) -> None:
    async with serve(tmp_path / "x") as server:
        api = InProcessApi(server.plane)
        task = asyncio.create_task(collect(api, 1, resource_version="1"))
        await asyncio.sleep(0.05)
    async with asyncio.timeout(2):
        assert await task == []
