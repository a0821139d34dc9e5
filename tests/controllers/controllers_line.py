"""Somebody's connection to the API, for tests: counts what it writes, can be cut, and can fail at a chosen moment."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from hub.api.errors import NotFoundError, UnreachableError
from hub.api.resource import Resource
from hub.client.interface import KubeApi, Listing, Object, PatchType, WatchEvent


async def until(condition: Callable[[], Any], seconds: float = 10.0, what: str = "") -> Any:
    """What `condition` gives (awaited if need be) once it is truthy; fails the test after `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            found = condition()
            if asyncio.iscoroutine(found):
                found = await found
        except NotFoundError:
            found = None
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what or condition}")
        await asyncio.sleep(0.005)


class Line:
    """Somebody's connection to the API: counts what it writes, can be cut, and can be made to fail at a moment."""

    def __init__(self, api: KubeApi) -> None:
        self._api = api
        self.down = False
        self.writes: Counter[tuple[str, str]] = Counter()
        self.log: list[tuple[str, str, str]] = []
        # Called before each write with (verb, plural/subresource, name); may raise, or cut the line.
        self.before: Callable[[str, str, str], None] = lambda verb, what, name: None
        # The next write is done by the server, and the line is cut before its answer.
        self.lose_answer = False
        self._cut = asyncio.Event()

    def cut(self) -> None:
        self.down = True
        self._cut.set()

    def heal(self) -> None:
        self.down = False
        self._cut = asyncio.Event()

    def _check(self) -> None:
        if self.down:
            raise UnreachableError("the line is cut")

    async def get(self, resource: Resource, name: str, namespace: str | None = None) -> Object:
        self._check()
        return await self._api.get(resource, name, namespace)

    async def list(
        self, resource: Resource, namespace: str | None = None, *, label_selector: str = "", field_selector: str = ""
    ) -> Listing:
        self._check()
        return await self._api.list(resource, namespace, label_selector=label_selector, field_selector=field_selector)

    async def watch(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        resource_version: str,
        label_selector: str = "",
        field_selector: str = "",
        timeout_seconds: int = 300,
    ) -> AsyncIterator[WatchEvent]:
        self._check()
        stream = self._api.watch(
            resource,
            namespace,
            resource_version=resource_version,
            label_selector=label_selector,
            field_selector=field_selector,
            timeout_seconds=timeout_seconds,
        ).__aiter__()
        cut = asyncio.ensure_future(self._cut.wait())
        following: asyncio.Future[WatchEvent] | None = None
        try:
            while True:
                following = asyncio.ensure_future(stream.__anext__())
                await asyncio.wait({following, cut}, return_when=asyncio.FIRST_COMPLETED)
                if self.down:
                    raise UnreachableError("the line is cut")
                try:
                    event = await following
                except StopAsyncIteration:
                    return
                following = None
                yield event
        finally:
            cut.cancel()
            if following is not None:
                following.cancel()
                await asyncio.gather(following, return_exceptions=True)

    async def create(
        self, resource: Resource, obj: Object, namespace: str | None = None, *, dry_run: bool = False
    ) -> Object:
        self._note("create", resource, str(obj["metadata"].get("name")))
        return self._answer(await self._api.create(resource, obj, namespace, dry_run=dry_run))

    async def replace(self, resource: Resource, obj: Object, *, subresource: str | None = None) -> Object:
        self._note("replace", resource, obj["metadata"]["name"], subresource)
        return self._answer(await self._api.replace(resource, obj, subresource=subresource))

    async def patch(
        self,
        resource: Resource,
        name: str,
        patch: Object | Sequence[Object],
        namespace: str | None = None,
        *,
        subresource: str | None = None,
        type: PatchType = "merge",
        field_manager: str = "",
        force: bool = False,
    ) -> Object:
        self._note("patch", resource, name, subresource)
        return self._answer(await self._api.patch(resource, name, patch, namespace, subresource=subresource, type=type))

    async def delete(
        self,
        resource: Resource,
        name: str,
        namespace: str | None = None,
        *,
        uid: str | None = None,
        propagation_policy: str | None = None,
    ) -> None:
        self._note("delete", resource, name)
        await self._api.delete(resource, name, namespace, uid=uid, propagation_policy=propagation_policy)
        self._arrived()

    def _note(self, verb: str, resource: Resource, name: str, subresource: str | None = None) -> None:
        self._check()
        what = f"{resource.plural}/{subresource}" if subresource else resource.plural
        self.before(verb, what, name)
        self._check()
        self.writes[verb, what] += 1
        self.log.append((verb, what, name))

    def _answer(self, answer: Object) -> Object:
        self._arrived()
        return answer

    def _arrived(self) -> None:
        if self.lose_answer:
            self.lose_answer = False
            self.cut()
        self._check()
