"""The site's own Kubernetes API, as everything on the site uses it, and the one thing added to it: a Job or Pod that
has processes stays until they have ended, whoever deletes it and however.

The store is opened when the site runs and closed when it stops; until then every call says that nobody answers.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

from hub.api.errors import UnreachableError
from hub.api.resource import Resource
from hub.apiserver import InProcessApi
from hub.client.interface import Listing, Object, Page, PatchType, WatchEvent

# Called before an object is deleted; what it returns is called when that came to nothing.
Hold = Callable[[str, str, str | None], Awaitable[Callable[[], None] | None]]


class LocalApi:
    """A `KubeApi` and `PagedApi`. `holds` is by (group, plural)."""

    def __init__(self) -> None:
        self.holds: dict[tuple[str, str], Hold] = {}
        self._inner: InProcessApi | None = None

    def attach(self, inner: InProcessApi | None) -> None:
        self._inner = inner

    @property
    def _api(self) -> InProcessApi:
        if self._inner is None:
            raise UnreachableError("the site's own API is not running")
        return self._inner

    async def get(self, resource: Resource, name: str, namespace: str | None = None) -> Object:
        return await self._api.get(resource, name, namespace)

    async def list(
        self, resource: Resource, namespace: str | None = None, *, label_selector: str = "", field_selector: str = ""
    ) -> Listing:
        return await self._api.list(resource, namespace, label_selector=label_selector, field_selector=field_selector)

    async def pages(
        self, resource: Resource, namespace: str | None = None, *, label_selector: str = "", field_selector: str = ""
    ) -> AsyncIterator[Page]:
        pages = self._api.pages(resource, namespace, label_selector=label_selector, field_selector=field_selector)
        async for page in pages:
            yield page

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
        async for event in self._api.watch(
            resource,
            namespace,
            resource_version=resource_version,
            label_selector=label_selector,
            field_selector=field_selector,
            timeout_seconds=timeout_seconds,
        ):
            yield event

    async def create(
        self, resource: Resource, obj: Object, namespace: str | None = None, *, dry_run: bool = False
    ) -> Object:
        return await self._api.create(resource, obj, namespace, dry_run=dry_run)

    async def replace(self, resource: Resource, obj: Object, *, subresource: str | None = None) -> Object:
        return await self._api.replace(resource, obj, subresource=subresource)

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
        return await self._api.patch(
            resource,
            name,
            patch,
            namespace,
            subresource=subresource,
            type=type,
            field_manager=field_manager,
            force=force,
        )

    async def delete(
        self,
        resource: Resource,
        name: str,
        namespace: str | None = None,
        *,
        uid: str | None = None,
        propagation_policy: str | None = None,
    ) -> None:
        hold = self.holds.get((resource.group, resource.plural))
        if hold is None:
            await self._api.delete(resource, name, namespace, uid=uid, propagation_policy=propagation_policy)
            return
        undo = await hold(namespace or "", name, uid)
        try:
            # What these own on a site are processes, and those are waited for already.
            await self._api.delete(resource, name, namespace, uid=uid, propagation_policy="Background")
        except BaseException:
            if undo is not None:
                undo()
            raise
