"""What a hub does for a cluster that wants in, over its API: enough of it for an agent to work against."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from typing import Any

from hub.api import names
from hub.api.conditions import condition_is
from hub.api.errors import AlreadyExistsError, NotFoundError, UnreachableError
from hub.api.resource import LEASES, MANAGED_CLUSTERS, MANIFEST_WORKS, NAMESPACES
from hub.client.session import Session

ACCEPTED = {
    "type": "HubAcceptedManagedCluster",
    "status": "True",
    "reason": "HubClusterAdminAccepted",
    "message": "Accepted by hub cluster admin",
    "lastTransitionTime": "2026-01-01T00:00:00Z",
}


async def eventually(look: Callable[[], Awaitable[Any]], seconds: float = 30.0, what: str = "") -> Any:
    """What `look` gives once it is truthy; an absent object or server is a no."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if found := await look():
                return found
        except (NotFoundError, UnreachableError):
            pass
        await asyncio.sleep(0.01)
    raise AssertionError(f"not within {seconds} s: {what}")


async def let_in(api: Session, cluster: str, lease_seconds: int = 60) -> dict[str, Any]:
    """Accepts `cluster` once it asks, and waits until it is available."""
    await eventually(lambda: api.get(MANAGED_CLUSTERS, cluster), what=f"{cluster} asks to join")
    with contextlib.suppress(AlreadyExistsError):
        await api.create(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": cluster}})
    lease = {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": names.CLUSTER_LEASE, "namespace": cluster},
        "spec": {"holderIdentity": cluster, "leaseDurationSeconds": lease_seconds},
    }
    await api.create(LEASES, lease, cluster)
    spec = {"hubAcceptsClient": True, "leaseDurationSeconds": lease_seconds}
    await api.patch(MANAGED_CLUSTERS, cluster, {"spec": spec})
    await api.patch(MANAGED_CLUSTERS, cluster, {"status": {"conditions": [ACCEPTED]}}, subresource="status")
    return await available(api, cluster)


async def available(api: Session, cluster: str, seconds: float = 30.0) -> dict[str, Any]:
    async def look() -> Any:
        found = await api.get(MANAGED_CLUSTERS, cluster)
        good = condition_is(found.get("status", {}).get("conditions"), "ManagedClusterConditionAvailable")
        return found if good else None

    found: dict[str, Any] = await eventually(look, seconds, f"{cluster} is available")
    return found


async def deliver(api: Session, work: dict[str, Any]) -> dict[str, Any]:
    return await api.create(MANIFEST_WORKS, work, work["metadata"]["namespace"])


async def completed(api: Session, work: str, cluster: str, seconds: float = 30.0) -> dict[str, Any]:
    """The work once it is Complete."""

    async def look() -> Any:
        found = await api.get(MANIFEST_WORKS, work, cluster)
        return found if condition_is(found.get("status", {}).get("conditions"), "Complete") else None

    found: dict[str, Any] = await eventually(look, seconds, f"{work} is complete")
    return found


def feedback(work: dict[str, Any]) -> dict[str, Any]:
    manifests = (work.get("status", {}).get("resourceStatus") or {}).get("manifests") or [{}]
    entries = (manifests[0].get("statusFeedback") or {}).get("values") or []
    return {e["name"]: next(v for k, v in e["fieldValue"].items() if k != "type") for e in entries}
