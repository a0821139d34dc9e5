"""All objects of a collection a page at a time, from any API: who keeps little of each need not hold them all."""

from __future__ import annotations

from collections.abc import AsyncIterator

from hub.api.resource import Resource
from hub.client.interface import KubeApi, Page, PagedApi


async def pages_of(
    api: KubeApi,
    resource: Resource,
    namespace: str | None = None,
    *,
    label_selector: str = "",
    field_selector: str = "",
) -> AsyncIterator[Page]:
    """At least one page; the last one's version is the listing's. Raises what `list` raises."""
    if isinstance(api, PagedApi):
        async for page in api.pages(resource, namespace, label_selector=label_selector, field_selector=field_selector):
            yield page
        return
    listing = await api.list(resource, namespace, label_selector=label_selector, field_selector=field_selector)
    yield Page(listing.items, listing.resource_version, fresh=True)
