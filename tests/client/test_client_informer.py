"""The informer: what vanished during a gap is reported, equal is not reported twice, one bad object stops no other."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable
from typing import Any

from hub.api.errors import GoneError, UnreachableError
from hub.api.resource import CONFIG_MAPS, Resource
from hub.client.backoff import Backoff
from hub.client.informer import Informer
from hub.client.interface import Listing, Object, Page, WatchEvent
from tests.agent.agent_fakes import until


def config_map(name: str, version: int, **data: str) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": "a", "resourceVersion": str(version)},
        "data": data,
    }


class Scripted:
    """`listings` and `watches` are used up one a call; the last watch hangs."""

    def __init__(self, listings: list[Listing], watches: list[list[WatchEvent | Exception]]) -> None:
        self.listings, self.watches = listings, watches
        self.asked_from: list[str] = []

    async def list(self, *_: Any, **__: Any) -> Listing:
        return self.listings.pop(0) if len(self.listings) > 1 else self.listings[0]

    async def watch(self, *_: Any, resource_version: str, **__: Any) -> AsyncIterator[WatchEvent]:
        self.asked_from.append(resource_version)
        if not self.watches:
            await asyncio.sleep(3600)
        for event in self.watches.pop(0) if self.watches else []:
            if isinstance(event, Exception):
                raise event
            yield event


@contextlib.asynccontextmanager
async def running(
    api: Any, transform: Callable[[Object], Any] | None = None
) -> AsyncIterator[tuple[Informer[Any], list[tuple[str, str]]]]:
    seen: list[tuple[str, str]] = []
    informer: Informer[Any] = Informer(
        api,
        CONFIG_MAPS,
        transform=transform,
        on_event=lambda kind, key, old, new: seen.append((kind, key)),
        backoff=Backoff(0.001, 0.005, random.Random(1)),
    )
    task = asyncio.create_task(informer.run())
    try:
        await asyncio.wait_for(informer.synced.wait(), 5)
        yield informer, seen
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_a_relist_after_410_reports_what_vanished_meanwhile() -> None:
    first = Listing([config_map("a", 1), config_map("b", 2)], "2")
    second = Listing([config_map("a", 1), config_map("c", 9)], "9")
    api = Scripted([first, second], [[GoneError(410, {"message": "too old"})]])
    async with running(api) as (informer, seen):
        await until(lambda: len(seen) == 4)
    assert seen == [("ADDED", "a/a"), ("ADDED", "a/b"), ("ADDED", "a/c"), ("DELETED", "a/b")]
    assert set(informer.store) == {"a/a", "a/c"}
    assert informer.relists == 2


async def test_a_broken_line_goes_on_from_the_last_version_without_listing_again() -> None:
    events: list[WatchEvent | Exception] = [
        WatchEvent("MODIFIED", config_map("a", 5, v="1")),
        WatchEvent("BOOKMARK", {"metadata": {"resourceVersion": "7"}}),
        UnreachableError("reset"),
    ]
    api = Scripted([Listing([config_map("a", 1)], "2")], [events])
    async with running(api) as (informer, seen):
        await until(lambda: len(api.asked_from) == 2)
    assert api.asked_from == ["2", "7"]
    assert seen == [("ADDED", "a/a"), ("MODIFIED", "a/a")]
    assert informer.relists == 1


async def test_what_is_equal_is_not_reported_twice() -> None:
    same = Listing([config_map("a", 1)], "2")
    api = Scripted([same, same], [[GoneError(410, {"message": "too old"})]])
    async with running(api) as (informer, seen):
        await until(lambda: informer.relists == 2)
    assert seen == [("ADDED", "a/a")]


async def test_an_object_that_cannot_be_taken_in_keeps_its_last_value() -> None:
    def transform(obj: Object) -> str:
        return str(obj["data"]["v"])

    events: list[WatchEvent | Exception] = [
        WatchEvent("MODIFIED", {**config_map("a", 5), "data": None}),
        WatchEvent("ADDED", config_map("b", 6, v="2")),
    ]
    api = Scripted([Listing([config_map("a", 1, v="1")], "2")], [events])
    async with running(api, transform) as (informer, _):
        await until(lambda: "a/b" in informer.store)
    assert informer.store == {"a/a": "1", "a/b": "2"}
    assert informer.errors == 1


async def test_what_the_transform_leaves_out_later_counts_as_deleted() -> None:
    def transform(obj: Object) -> Object | None:
        return obj if obj["data"].get("keep") else None

    events: list[WatchEvent | Exception] = [WatchEvent("MODIFIED", config_map("a", 5))]
    api = Scripted([Listing([config_map("a", 1, keep="yes")], "2")], [events])
    async with running(api, transform) as (informer, seen):
        await until(lambda: len(seen) == 2)
    assert seen == [("ADDED", "a/a"), ("DELETED", "a/a")]
    assert informer.store == {}


class Paged(Scripted):
    """Answers in pages; the second one comes from a listing that had to begin anew."""

    async def pages(
        self, resource: Resource, namespace: str | None = None, *, label_selector: str = "", field_selector: str = ""
    ) -> AsyncIterator[Page]:
        listing = await self.list(resource, namespace)
        yield Page([config_map("a", 1), config_map("b", 2)], "3", fresh=True)
        yield Page(listing.items, listing.resource_version, fresh=True)


async def test_a_listing_comes_in_pages_and_what_a_void_page_held_is_gone() -> None:
    api = Paged([Listing([config_map("a", 1), config_map("c", 9)], "9")], [])
    async with running(api) as (informer, seen):
        pass
    assert seen == [("ADDED", "a/a"), ("ADDED", "a/b"), ("ADDED", "a/c"), ("DELETED", "a/b")]
    assert set(informer.store) == {"a/a", "a/c"}
