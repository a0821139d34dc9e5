"""What an accepted cluster's agent may do on the hub, as RBAC objects: its namespace, and its own ManagedCluster.

Pure. What it may do in its namespace is one ClusterRole, the same for all (`agent_role`, and as a file in
manifests/hub/base/agent-roles.yaml), bound there; its ManagedCluster needs a role of its own, because RBAC knows no
other way to name one object. Both are for the cluster's group by OCM's naming, and for the ServiceAccount `agent` of
its namespace, whichever the operator hands out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from hub.api import names
from hub.api.resource import (
    CLUSTER_CAPACITIES,
    CLUSTER_ROLE_BINDINGS,
    CLUSTER_ROLES,
    CLUSTER_SCORINGS,
    LEASES,
    MANAGED_CLUSTERS,
    MANIFEST_WORKS,
    ROLE_BINDINGS,
    TASK_LOG_REQUESTS,
    TASK_LOGS,
    Resource,
)

Json = dict[str, Any]

AGENT_ROLE: Final = "quarterdeck-agent"
AGENT_ACCOUNT: Final = "agent"
_RBAC: Final = "rbac.authorization.k8s.io"


def agent_role() -> Json:
    """What an agent does in its cluster's namespace, and nothing that it does not do."""
    rules = [
        _rule(["get", "list", "watch", "patch"], MANIFEST_WORKS),
        _rule(["patch"], MANIFEST_WORKS, "status"),
        _rule(["get", "update"], LEASES, name=names.CLUSTER_LEASE),
        _rule(["get", "create", "patch"], CLUSTER_CAPACITIES),
        _rule(["list", "watch"], TASK_LOG_REQUESTS),
        _rule(["patch"], TASK_LOG_REQUESTS, "status"),
        _rule(["get", "create"], TASK_LOGS),
        _rule(["list", "watch"], CLUSTER_SCORINGS),
        _rule(["patch"], CLUSTER_SCORINGS, "status"),
    ]
    return _object(CLUSTER_ROLES, {"name": AGENT_ROLE}, rules=rules)


def agent_rights(cluster: Mapping[str, Any]) -> list[tuple[Resource, Json]]:
    """What is to exist for `cluster`. What has no namespace is owned by it, and goes with it."""
    metadata = cluster["metadata"]
    name, uid = str(metadata["name"]), str(metadata.get("uid") or "")
    labels = {names.CLUSTER_NAME: name, names.AGENT_RIGHTS: "true"}
    own_role = f"quarterdeck:cluster:{name}"
    owned: Json = {
        "name": own_role,
        "labels": labels,
        "ownerReferences": [
            {"apiVersion": MANAGED_CLUSTERS.api_version, "kind": MANAGED_CLUSTERS.kind, "name": name, "uid": uid}
        ],
    }
    subjects = [
        {"kind": "Group", "apiGroup": _RBAC, "name": f"system:open-cluster-management:{name}"},
        {"kind": "ServiceAccount", "name": AGENT_ACCOUNT, "namespace": name},
    ]
    own = [
        _rule(["get", "list", "watch", "patch"], MANAGED_CLUSTERS, name=name),
        _rule(["patch"], MANAGED_CLUSTERS, "status", name=name),
    ]
    return [
        (CLUSTER_ROLES, _object(CLUSTER_ROLES, owned, rules=own)),
        (
            CLUSTER_ROLE_BINDINGS,
            _object(CLUSTER_ROLE_BINDINGS, owned, roleRef=_reference(own_role), subjects=subjects),
        ),
        (
            ROLE_BINDINGS,
            _object(
                ROLE_BINDINGS,
                {"name": AGENT_ROLE, "namespace": name, "labels": labels},
                roleRef=_reference(AGENT_ROLE),
                subjects=subjects,
            ),
        ),
    ]


def _rule(verbs: list[str], resource: Resource, subresource: str = "", *, name: str = "") -> Json:
    plural = f"{resource.plural}/{subresource}" if subresource else resource.plural
    rule: Json = {"apiGroups": [resource.group], "resources": [plural]}
    return rule | ({"resourceNames": [name]} if name else {}) | {"verbs": verbs}


def _reference(role: str) -> Json:
    return {"apiGroup": _RBAC, "kind": "ClusterRole", "name": role}


def _object(resource: Resource, metadata: Json, **content: Any) -> Json:
    return {"apiVersion": resource.api_version, "kind": resource.kind, "metadata": metadata, **content}
