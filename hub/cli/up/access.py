"""What a local fleet's sites may do, given before they ask: each makes its ManagedCluster, and works in its namespace.

A hub gives an agent its rights once it has let the cluster in (hub/controllers/agent_rights.py). The sites here are let
in anyway, and would only wait for it. That no site makes another's ManagedCluster is seen to by the embedded API, which
knows whose token it is.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Mapping
from typing import Any, Final

from hub.api.errors import AlreadyExistsError
from hub.api.resource import CLUSTER_ROLE_BINDINGS, CLUSTER_ROLES, MANAGED_CLUSTERS, NAMESPACES, Resource
from hub.client.interface import KubeApi
from hub.registration.acceptance import cluster_namespace
from hub.registration.rights import agent_rights

Json = dict[str, Any]
_RBAC: Final = "rbac.authorization.k8s.io"
_ALL_SITES: Final = "system:open-cluster-management:managed-clusters"


async def let_sites_join(api: KubeApi, sites: Iterable[str]) -> None:
    """Raises what the API raises. What is there stays as it is."""
    names = list(sites)
    rule = {"apiGroups": [MANAGED_CLUSTERS.group], "resources": [MANAGED_CLUSTERS.plural], "verbs": ["create"]}
    first = [*_given("quarterdeck-site-join", _ALL_SITES, rule)]
    await asyncio.gather(
        *(_ensure(api, resource, obj) for resource, obj in first),
        *(_ensure(api, NAMESPACES, cluster_namespace(name)) for name in names),
    )
    rights = [pair for name in names for pair in _rights(name)]
    await asyncio.gather(*(_ensure(api, resource, obj) for resource, obj in rights))


def _rights(site: str) -> list[tuple[Resource, Json]]:
    """As the hub gives them; there is nothing yet that could own them, which the hub adds."""
    found = agent_rights({"metadata": {"name": site}})
    for _, obj in found:
        obj["metadata"] = {name: value for name, value in obj["metadata"].items() if name != "ownerReferences"}
    return found


def _given(name: str, group: str, rule: Mapping[str, Any]) -> list[tuple[Resource, Json]]:
    subject = {"kind": "Group", "apiGroup": _RBAC, "name": group}
    reference = {"apiGroup": _RBAC, "kind": "ClusterRole", "name": name}
    return [
        (CLUSTER_ROLES, _object(CLUSTER_ROLES, name, rules=[rule])),
        (CLUSTER_ROLE_BINDINGS, _object(CLUSTER_ROLE_BINDINGS, name, roleRef=reference, subjects=[subject])),
    ]


def _object(resource: Resource, name: str, **content: Any) -> Json:
    return {"apiVersion": resource.api_version, "kind": resource.kind, "metadata": {"name": name}, **content}


async def _ensure(api: KubeApi, resource: Resource, obj: Json) -> None:
    with contextlib.suppress(AlreadyExistsError):
        await api.create(resource, obj)
