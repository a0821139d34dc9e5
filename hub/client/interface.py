"""What controllers and agents may ask of an API server, whoever answers.

Two things implement it: `hub.client.session.Session` over HTTP, and the embedded server's in-process access (an edge
site talks to its own API without a socket). Objects are plain dicts as the wire has them. Errors are the `ApiError`
tree; `UnreachableError` when nobody answered.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Protocol, runtime_checkable

from hub.api.resource import Resource
from hub.api.wire import EventType, Listing, Object, Page, PatchType, WatchEvent

__all__ = ["EventType", "KubeApi", "Listing", "Object", "Page", "PagedApi", "PatchType", "WatchEvent"]


class KubeApi(Protocol):
    async def get(self, resource: Resource, name: str, namespace: str | None = None) -> Object: ...

    async def list(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        label_selector: str = "",
        field_selector: str = "",
    ) -> Listing:
        """Everything that matches, whatever the page size of the server."""
        ...

    def watch(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        resource_version: str,
        label_selector: str = "",
        field_selector: str = "",
        timeout_seconds: int = 300,
    ) -> AsyncIterator[WatchEvent]:
        """Events after `resource_version`, until the server ends the stream. Raises `GoneError` when it is too old."""
        ...

    async def create(
        self, resource: Resource, obj: Object, namespace: str | None = None, *, dry_run: bool = False
    ) -> Object: ...

    async def replace(self, resource: Resource, obj: Object, *, subresource: str | None = None) -> Object: ...

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
    ) -> Object: ...

    async def delete(
        self,
        resource: Resource,
        name: str,
        namespace: str | None = None,
        *,
        uid: str | None = None,
        propagation_policy: str | None = None,
    ) -> None:
        """Raises `NotFoundError` when it is gone already, `ConflictError` when `uid` names another object."""
        ...


@runtime_checkable
class PagedApi(Protocol):
    """An API that can also list a page at a time: who keeps little of each object need not hold them all at once."""

    def pages(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        label_selector: str = "",
        field_selector: str = "",
    ) -> AsyncIterator[Page]:
        """At least one page; the last one's version is the listing's."""
        ...
