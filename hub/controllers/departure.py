"""A cluster leaves the fleet: its works go first, while its agent may still stop what runs, then its namespace.

Called by the lifecycle (hub/controllers/lifecycle.py) while a finalizer holds the ManagedCluster. Where its tasks run
next is the cycle's business, which counts a leaving cluster as lost.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from hub.api import names
from hub.api.conditions import condition_is
from hub.api.errors import NotFoundError, QuarterdeckError
from hub.api.resource import MANIFEST_WORKS, NAMESPACES, Resource
from hub.client.interface import KubeApi
from hub.controllers.logs import logger
from hub.registration.availability import AVAILABLE

Json = dict[str, Any]
_log = logger(__name__)
_CYCLE_FIRST: Final = 1.0
_POLL: Final = 0.25


async def leave_fleet(api: KubeApi, name: str, cluster: Json, patience: float) -> None:
    """Returns once nothing of the cluster is left. Raises what the API raises, or `QuarterdeckError` when it takes too
    long; calling it again goes on. `patience`: seconds that an available agent has to clean up.
    """
    loop = asyncio.get_running_loop()
    _log.info("a cluster leaves: its works are taken back", cluster=name)
    # Slices that run are taken back by the cycle, which notes first what had finished.
    await asyncio.sleep(_CYCLE_FIRST)
    works = (await api.list(MANIFEST_WORKS, name)).items
    for work in works:
        await _delete(api, MANIFEST_WORKS, work)
    reachable = condition_is((cluster.get("status") or {}).get("conditions"), AVAILABLE)
    deadline = loop.time() + (patience if reachable else 2.0)
    while loop.time() < deadline:
        if not (await api.list(MANIFEST_WORKS, name)).items:
            break
        await asyncio.sleep(_POLL)
    for work in (await api.list(MANIFEST_WORKS, name)).items:
        # Nobody is there to say that it is stopped. What this hub still has to note keeps its own finalizer.
        kept = [f for f in work["metadata"].get("finalizers") or () if f != names.WORK_FINALIZER]
        await _finalizers(api, work, kept)
    try:
        namespace = await api.get(NAMESPACES, name)
        await api.delete(NAMESPACES, name, uid=namespace["metadata"]["uid"])
    except NotFoundError:
        return
    deadline = loop.time() + patience
    while loop.time() < deadline:
        try:
            await api.get(NAMESPACES, name)
        except NotFoundError:
            _log.info("a cluster has left", cluster=name)
            return
        await asyncio.sleep(_POLL)
    raise QuarterdeckError(f"namespace {name} still has something in it")


async def _delete(api: KubeApi, resource: Resource, obj: Json) -> None:
    try:
        await api.delete(resource, obj["metadata"]["name"], obj["metadata"].get("namespace"))
    except NotFoundError:
        return


async def _finalizers(api: KubeApi, work: Json, kept: list[str]) -> None:
    meta = work["metadata"]
    patch = {"metadata": {"resourceVersion": meta["resourceVersion"], "finalizers": kept or None}}
    try:
        await api.patch(MANIFEST_WORKS, meta["name"], patch, meta["namespace"])
    except NotFoundError:
        return
