"""What the store promises when disks fill up, files rot, others hold it, and processes die."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest

from hub.api.errors import (
    AlreadyExistsError,
    CorruptStoreError,
    DataDirectoryBusyError,
    OverloadedError,
    StorageError,
)
from hub.api.resource import CONFIG_MAPS
from hub.apiserver import ControlPlane, InProcessApi, serve
from hub.apiserver.history import Event, History
from hub.apiserver.journal import Journal
from hub.apiserver.record import Record
from hub.client.session import Session


def config(name: str, size: int = 10) -> dict[str, Any]:
    return {"metadata": {"name": name}, "data": {"x": "y" * size}}


async def names(api: InProcessApi) -> list[str]:
    return [item["metadata"]["name"] for item in (await api.list(CONFIG_MAPS)).items]


async def test_what_was_acknowledged_is_there_after_a_restart(tmp_path: Path) -> None:
    async with ControlPlane(tmp_path) as plane:
        api = InProcessApi(plane)
        await asyncio.gather(*(api.create(CONFIG_MAPS, config(f"m{n:02}"), "default") for n in range(50)))
        await api.delete(CONFIG_MAPS, "m07", "default")
        changed = await api.patch(CONFIG_MAPS, "m08", {"data": {"x": "z"}}, "default")
        version = plane.store.version
    async with ControlPlane(tmp_path) as plane:
        api = InProcessApi(plane)
        assert await names(api) == [f"m{n:02}" for n in range(50) if n != 7]
        assert await api.get(CONFIG_MAPS, "m08", "default") == changed
        assert plane.store.version == version
        made = await api.create(CONFIG_MAPS, config("m07"), "default")
        assert int(made["metadata"]["resourceVersion"]) == version + 1


@pytest.mark.parametrize("power_safe", [False, True])
async def test_writes_that_arrive_together_follow_each_other(tmp_path: Path, power_safe: bool) -> None:
    async with ControlPlane(tmp_path, power_safe=power_safe) as plane:
        api = InProcessApi(plane)
        await api.create(CONFIG_MAPS, config("a"), "default")
        steps = [api.patch(CONFIG_MAPS, "a", {"data": {str(n): "x"}}, "default") for n in range(20)]
        results = await asyncio.gather(*steps)
        assert len({result["metadata"]["resourceVersion"] for result in results}) == 20
        assert set((await api.get(CONFIG_MAPS, "a", "default"))["data"]) == {"x", *map(str, range(20))}
        made, gone, again = await asyncio.gather(
            api.create(CONFIG_MAPS, config("b"), "default"),
            api.delete(CONFIG_MAPS, "b", "default"),
            api.create(CONFIG_MAPS, config("b"), "default"),
        )
        assert gone is None
        assert made["metadata"]["uid"] != again["metadata"]["uid"]
    async with ControlPlane(tmp_path) as plane:
        assert await names(InProcessApi(plane)) == ["a", "b"]


async def test_nobody_reads_what_is_not_yet_durable(tmp_path: Path) -> None:
    async with ControlPlane(tmp_path, power_safe=True) as plane:
        api = InProcessApi(plane)
        creating = asyncio.create_task(api.create(CONFIG_MAPS, config("a"), "default"))
        await asyncio.sleep(0)
        assert await names(api) == []
        # Whoever writes next knows of it all the same.
        with pytest.raises(AlreadyExistsError):
            await api.create(CONFIG_MAPS, config("a"), "default")
        await creating
        assert await names(api) == ["a"]


def fill_up(plane: ControlPlane) -> None:
    """Lets the database grow no further, which SQLite reports as a full disk."""
    db = plane.store._journal._db
    pages = db.execute("PRAGMA page_count").fetchone()[0]
    db.execute(f"PRAGMA max_page_count={pages}")


def free_up(plane: ControlPlane) -> None:
    plane.store._journal._db.execute("PRAGMA max_page_count=1000000")


async def test_a_full_disk_refuses_writes_and_loses_nothing(tmp_path: Path) -> None:
    async with serve(tmp_path) as server, Session(server.url, token=server.token, timeout=0.5) as session:
        api = server.in_process()
        await session.create(CONFIG_MAPS, config("before"), "default")
        version = server.plane.store.version
        fill_up(server.plane)
        writes = [session.create(CONFIG_MAPS, config(f"big{n}", 100_000), "default") for n in range(5)]
        for result in await asyncio.gather(*writes, return_exceptions=True):
            assert isinstance(result, OverloadedError)
            assert result.code == 507
            assert "full" in str(result)
        with pytest.raises(OverloadedError, match="Free some space"):
            await api.create(CONFIG_MAPS, config("big", 100_000), "default")
        # Reads go on, show nothing of it, and a watch has nothing to tell.
        assert await names(api) == ["before"]
        assert server.plane.store.version == version
        free_up(server.plane)
        await session.create(CONFIG_MAPS, config("after", 100_000), "default")
        assert await names(api) == ["after", "before"]
    async with ControlPlane(tmp_path) as plane:
        assert await names(InProcessApi(plane)) == ["after", "before"]


async def test_a_disk_that_does_not_flush_ends_writing_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serve(tmp_path, power_safe=True) as server:
        api = server.in_process()
        await api.create(CONFIG_MAPS, config("a"), "default")

        def fail(_: Journal) -> None:
            raise StorageError("the disk did not take what was written: Input/output error")

        monkeypatch.setattr(Journal, "flush", fail)
        for name in ("b", "c"):
            with pytest.raises(OverloadedError, match="did not take"):
                await api.create(CONFIG_MAPS, config(name), "default")
        assert await names(api) == ["a"]
        async with Session(server.url, token=server.token, timeout=1) as session:
            with pytest.raises(OverloadedError):
                await session.request("GET", "/readyz")


def test_a_second_server_on_the_same_directory_says_who_has_it(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    try:
        with pytest.raises(DataDirectoryBusyError, match=f"pid {os.getpid()}"):
            Journal(tmp_path)
    finally:
        journal.close()
    Journal(tmp_path).close()


async def test_nobody_else_may_read_the_store(tmp_path: Path) -> None:
    async with ControlPlane(tmp_path) as plane:
        await InProcessApi(plane).create(CONFIG_MAPS, config("a"), "default")
        for path in tmp_path.iterdir():
            assert path.stat().st_mode & 0o077 == 0, path


def test_a_directory_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot keep a store"):
        Journal(tmp_path / "file")


async def fill(directory: Path, count: int = 20) -> None:
    async with ControlPlane(directory) as plane:
        api = InProcessApi(plane)
        await asyncio.gather(*(api.create(CONFIG_MAPS, config(f"m{n}", 500), "default") for n in range(count)))


async def test_a_damaged_object_is_found(tmp_path: Path) -> None:
    await fill(tmp_path)
    with sqlite3.connect(tmp_path / "store.db") as db:
        db.execute("UPDATE objects SET data = replace(data, 'yyy', 'yyz') WHERE id = 9")
    db.close()
    with pytest.raises(CorruptStoreError, match=r"object 9 .* does not match its checksum") as refusal:
        async with ControlPlane(tmp_path):
            pass
    assert "backup" in refusal.value.hint
    # The lock is given back, and nothing was removed.
    assert (tmp_path / "store.db").stat().st_size > 0
    Journal(tmp_path).close()


async def test_a_file_that_is_no_store_is_said_so(tmp_path: Path) -> None:
    await fill(tmp_path)
    content = bytearray((tmp_path / "store.db").read_bytes())
    content[:100] = b"\xff" * 100
    (tmp_path / "store.db").write_bytes(content)
    with pytest.raises(CorruptStoreError, match="damaged"):
        async with ControlPlane(tmp_path):
            pass
    assert (tmp_path / "store.db").read_bytes() == bytes(content)


async def test_a_store_of_a_newer_release_is_left_alone(tmp_path: Path) -> None:
    await fill(tmp_path)
    with sqlite3.connect(tmp_path / "store.db") as db:
        db.execute("PRAGMA user_version=99")
    db.close()
    with pytest.raises(CorruptStoreError, match="format 99"):
        Journal(tmp_path)


async def test_another_program_that_holds_the_database(tmp_path: Path) -> None:
    await fill(tmp_path)
    db = sqlite3.connect(tmp_path / "store.db", isolation_level=None)
    db.execute("BEGIN EXCLUSIVE")
    try:
        with pytest.raises(DataDirectoryBusyError, match="locked by another program"):
            Journal(tmp_path)
    finally:
        db.close()


async def test_the_log_is_folded_into_the_database_while_writes_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hub.apiserver.journal._CHECKPOINT_AFTER", 200_000)
    monkeypatch.setattr("hub.apiserver.journal._WAL_LIMIT", 1_000_000)
    async with ControlPlane(tmp_path) as plane:
        api = InProcessApi(plane)
        await api.create(CONFIG_MAPS, config("a"), "default")
        for number in range(300):
            await api.patch(CONFIG_MAPS, "a", {"data": {"x": f"{number}" + "y" * 20_000}}, "default")
        assert (tmp_path / "store.db-wal").stat().st_size < 3_000_000
    async with ControlPlane(tmp_path) as plane:
        assert (await InProcessApi(plane).get(CONFIG_MAPS, "a", "default"))["data"]["x"].startswith("299y")


async def test_space_of_deleted_objects_is_given_back(tmp_path: Path) -> None:
    async with ControlPlane(tmp_path) as plane:
        api = InProcessApi(plane)
        await asyncio.gather(*(api.create(CONFIG_MAPS, config(f"m{n}", 50_000), "default") for n in range(150)))
        full = plane.store._journal._db.execute("PRAGMA page_count").fetchone()[0]
        await asyncio.gather(*(api.delete(CONFIG_MAPS, f"m{n}", "default") for n in range(150)))
        for _ in range(20):
            plane.store.maintain()
        assert plane.store._journal._db.execute("PRAGMA page_count").fetchone()[0] < full * 0.7


WRITER = """
import asyncio, sys
from pathlib import Path
from hub.api.resource import CONFIG_MAPS
from hub.apiserver import ControlPlane, InProcessApi

async def main():
    async with ControlPlane(Path(sys.argv[1])) as plane:
        api = InProcessApi(plane)
        async def write(lane):
            number = 0
            while True:
                name = f"lane{lane}-{number}"
                made = await api.create(CONFIG_MAPS, {"metadata": {"name": name}, "data": {"x": "y" * 300}}, "default")
                sys.stdout.write(f"+ {name} {made['metadata']['resourceVersion']}\\n")
                if number % 3 == 2:
                    sys.stdout.write(f"? lane{lane}-{number - 1}\\n")
                    await api.delete(CONFIG_MAPS, f"lane{lane}-{number - 1}", "default")
                    sys.stdout.write(f"- lane{lane}-{number - 1}\\n")
                sys.stdout.flush()
                number += 1
        await asyncio.gather(*(write(lane) for lane in range(8)))

asyncio.run(main())
"""


async def read(directory: Path) -> tuple[int, set[str]]:
    async with ControlPlane(directory) as plane:
        return plane.store.version, set(await names(InProcessApi(plane)))


def test_kill_9_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    there: dict[str, int] = {}
    gone: set[str] = set()
    unsure: set[str] = set()
    highest = 0
    for round in range(3):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER.replace("lane{lane}", f"r{round}-{{lane}}"), str(tmp_path)],
            stdout=subprocess.PIPE,
        )
        assert process.stdout is not None
        acknowledged = 0
        try:
            for line in process.stdout:
                what, name, *version = line.decode().split()
                if what == "+":
                    there[name] = int(version[0])
                    # Numbers are never given out twice, whatever was lost.
                    assert there[name] > highest or acknowledged
                    acknowledged += 1
                elif what == "?":
                    unsure.add(name)
                else:
                    gone.add(name)
                if acknowledged == 150 * (round + 1):
                    process.send_signal(signal.SIGKILL)
                    break
            for line in process.stdout:
                what, name, *version = line.decode().split()
                if what == "+" and version:
                    there[name] = int(version[0])
                elif what == "?":
                    unsure.add(name)
                elif what == "-":
                    gone.add(name)
        finally:
            process.kill()
            process.wait()
            process.stdout.close()
        highest = max(there.values())
        version, found = asyncio.run(read(tmp_path))
        assert version >= highest
        assert there.keys() - unsure <= found
        assert not found & gone


@pytest.mark.parametrize("limit", [1, 3, 10])
def test_a_history_knows_how_far_back_it_goes(limit: int) -> None:
    history = History(5, max_events=limit)
    for version in range(6, 40, 2):
        obj = {"apiVersion": "v1", "metadata": {"name": "a", "uid": "u", "resourceVersion": str(version)}}
        history.append(Event("MODIFIED", Record(1, obj, orjson.dumps(obj)), None))
    assert len(history.events) <= limit
    assert history.after(history.compacted - 1) is None
    kept = history.after(history.compacted)
    assert kept is not None
    assert [event.version for event in kept] == list(range(history.compacted + 2, 40, 2))
    assert history.after(38) == []
    assert history.bytes > sum(len(event.record.raw) for event in kept)
    history.drop(len(kept))
    assert history.bytes == 0


def test_a_history_is_bounded_in_bytes() -> None:
    history = History(0, max_bytes=20_000)
    for version in range(1, 200):
        history.append(Event("MODIFIED", record(version, text="x" * 50 * version), None))
        assert history.bytes <= 20_000


def record(version: int, previous: Record | None = None, **more: str) -> Record:
    labels = {"job": "a-7", "kind": "FleetJob"}
    owners = [{"apiVersion": "v1", "kind": "Owner", "name": "o", "uid": "u-1"}]
    metadata = {"name": "a", "namespace": "somewhere", "uid": "u", "labels": labels, "ownerReferences": owners}
    obj = {"apiVersion": "v1", "metadata": {**metadata, "resourceVersion": str(version)}, **more}
    raw = orjson.dumps(obj)
    return Record(1, orjson.loads(raw), raw, previous)


def test_versions_of_an_object_share_what_they_have_in_common() -> None:
    first = record(1)
    second = record(2, first, text="changed")
    for part in ("key", "uid", "labels", "owners"):
        assert getattr(first, part) is getattr(second, part)
    assert record(1).labels == first.labels
    # And different objects what they say alike.
    assert record(1).labels["job"] is first.labels["job"]
    assert record(1).owners[0].uid is first.owners[0].uid
