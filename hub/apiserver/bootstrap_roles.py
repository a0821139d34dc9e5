"""The roles and bindings that every cluster starts with, by the names that Kubernetes gives them.

Only those that mean something here: no controller manager, scheduler or kubelet runs, so their roles are not among
them. What a person changes of them stays, but for rules that are missing: those come back at the next start, unless the
object says `rbac.authorization.kubernetes.io/autoupdate: "false"`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from hub.apiserver.authorizer import GROUP
from hub.apiserver.create import create
from hub.apiserver.kinds import ServedKind
from hub.apiserver.logical import LogicalCluster
from hub.apiserver.permissions import not_covered, parse_rules
from hub.apiserver.update import replace
from hub.apiserver.written import Object, Options, owned_copy

AUTOUPDATE: Final = "rbac.authorization.kubernetes.io/autoupdate"
_READ: Final = ("get", "list", "watch")
_WRITE: Final = ("create", "delete", "deletecollection", "patch", "update")
_CERTIFICATES: Final = "certificates.k8s.io"


def _rule(verbs: tuple[str, ...], group: str, *resources: str, names: tuple[str, ...] = ()) -> Object:
    rule: Object = {"verbs": list(verbs), "apiGroups": [group], "resources": list(resources)}
    if names:
        rule["resourceNames"] = list(names)
    return rule


def _paths(*urls: str) -> Object:
    return {"verbs": ["get"], "nonResourceURLs": list(urls)}


_CORE: Final = ("configmaps", "endpoints", "persistentvolumeclaims", "pods", "replicationcontrollers")
_WORKLOADS: Final = ("daemonsets", "deployments", "deployments/scale", "replicasets", "replicasets/scale")
_STATEFUL: Final = ("statefulsets", "statefulsets/scale")
_VIEW: Final = (
    _rule(_READ, "", *_CORE, "replicationcontrollers/scale", "serviceaccounts", "services"),
    _rule(_READ, "", "bindings", "events", "limitranges", "namespaces/status", "pods/log", "pods/status"),
    _rule(_READ, "", "resourcequotas", "resourcequotas/status", "namespaces", "services/status"),
    _rule(_READ, "discovery.k8s.io", "endpointslices"),
    _rule(_READ, "apps", "controllerrevisions", *_WORKLOADS, *_STATEFUL, "deployments/status", "statefulsets/status"),
    _rule(_READ, "autoscaling", "horizontalpodautoscalers", "horizontalpodautoscalers/status"),
    _rule(_READ, "batch", "cronjobs", "cronjobs/status", "jobs", "jobs/status"),
    _rule(_READ, "policy", "poddisruptionbudgets", "poddisruptionbudgets/status"),
    _rule(_READ, "networking.k8s.io", "ingresses", "ingresses/status", "networkpolicies"),
    _rule(_READ, "events.k8s.io", "events"),
)
_EDIT: Final = (
    _rule(_READ, "", "pods/attach", "pods/exec", "pods/portforward", "pods/proxy", "secrets", "services/proxy"),
    _rule(("impersonate",), "", "serviceaccounts"),
    _rule(_WRITE, "", "pods", "pods/attach", "pods/exec", "pods/portforward", "pods/proxy"),
    _rule(("create",), "", "pods/eviction", "serviceaccounts/token"),
    _rule(_WRITE, "", *_CORE[:3], "replicationcontrollers", "replicationcontrollers/scale", "events"),
    _rule(_WRITE, "", "secrets", "serviceaccounts", "services", "services/proxy"),
    _rule(_WRITE, "apps", *_WORKLOADS, "deployments/rollback", *_STATEFUL),
    _rule(_WRITE, "autoscaling", "horizontalpodautoscalers"),
    _rule(_WRITE, "batch", "cronjobs", "jobs"),
    _rule(_WRITE, "policy", "poddisruptionbudgets"),
    _rule(_WRITE, "networking.k8s.io", "ingresses", "networkpolicies"),
    _rule((*_WRITE, *_READ), "coordination.k8s.io", "leases"),
    _rule(_WRITE, "events.k8s.io", "events"),
)
_ADMIN: Final = (
    _rule(("create",), "authorization.k8s.io", "localsubjectaccessreviews"),
    _rule((*_WRITE, *_READ), GROUP, "roles", "rolebindings"),
)
_SELVES: Final = ("selfsubjectaccessreviews", "selfsubjectrulesreviews")


def _approver(signer: str) -> Object:
    return _rule(("approve",), _CERTIFICATES, "signers", names=(f"kubernetes.io/{signer}",))


_ROLES: Final[Mapping[str, tuple[Object, ...]]] = {
    "cluster-admin": (_rule(("*",), "*", "*"), {"verbs": ["*"], "nonResourceURLs": ["*"]}),
    "system:discovery": (
        _paths(
            *("/api", "/api/*", "/apis", "/apis/*", "/healthz", "/livez", "/openapi", "/openapi/*", "/readyz"),
            *("/version", "/version/"),
        ),
    ),
    "system:basic-user": (
        _rule(("create",), "authorization.k8s.io", *_SELVES),
        _rule(("create",), "authentication.k8s.io", "selfsubjectreviews"),
    ),
    "system:public-info-viewer": (_paths("/healthz", "/livez", "/readyz", "/version", "/version/"),),
    "system:monitoring": (
        _paths("/healthz", "/healthz/*", "/livez", "/livez/*", "/metrics", "/metrics/slis", "/readyz", "/readyz/*"),
    ),
    "system:auth-delegator": (
        _rule(("create",), "authentication.k8s.io", "tokenreviews"),
        _rule(("create",), "authorization.k8s.io", "subjectaccessreviews"),
    ),
    "system:service-account-issuer-discovery": (_paths("/.well-known/openid-configuration", "/openid/v1/jwks"),),
    **{
        f"system:certificates.k8s.io:{signer}-approver": (_approver(signer),)
        for signer in ("kube-apiserver-client", "kube-apiserver-client-kubelet", "kubelet-serving")
    },
}
_AGGREGATED: Final[Mapping[str, tuple[tuple[str, ...], tuple[Object, ...]]]] = {
    # name → what it is aggregated from besides its own name, what is aggregated to it.
    "admin": (("edit",), _ADMIN),
    "edit": (("view",), _EDIT),
    "view": ((), _VIEW),
}
_BINDINGS: Final[Mapping[str, tuple[str, ...]]] = {
    "cluster-admin": ("system:masters",),
    "system:discovery": ("system:authenticated",),
    "system:basic-user": ("system:authenticated",),
    "system:public-info-viewer": ("system:authenticated", "system:unauthenticated"),
    "system:monitoring": ("system:monitoring",),
    "system:service-account-issuer-discovery": ("system:serviceaccounts",),
}


def aggregate_label(role: str) -> str:
    return f"{GROUP}/aggregate-to-{role}"


def bootstrap_objects() -> Iterator[tuple[str, Object]]:
    """(plural, object) of all that is to be there."""
    for name, rules in _ROLES.items():
        yield "clusterroles", {"metadata": _metadata(name), "rules": list(rules)}
    for name, (_, rules) in _AGGREGATED.items():
        labels = {aggregate_label(name): "true"}
        yield "clusterroles", {"metadata": _metadata(f"system:aggregate-to-{name}", labels), "rules": list(rules)}
    for name in _AGGREGATED:
        # view is part of edit, and edit of admin, by one label each.
        labels = {aggregate_label(wider): "true" for wider, (parts, _) in _AGGREGATED.items() if name in parts}
        selector = {"matchLabels": {aggregate_label(name): "true"}}
        yield (
            "clusterroles",
            {
                "metadata": _metadata(name, labels),
                "aggregationRule": {"clusterRoleSelectors": [selector]},
                "rules": [],
            },
        )
    for role, groups in _BINDINGS.items():
        subjects = [{"kind": "Group", "apiGroup": GROUP, "name": group} for group in groups]
        reference = {"apiGroup": GROUP, "kind": "ClusterRole", "name": role}
        yield "clusterrolebindings", {"metadata": _metadata(role), "roleRef": reference, "subjects": subjects}


def ensure_roles(cluster: LogicalCluster) -> None:
    """Stages what is missing of the roles and bindings above."""
    for plural, wanted in bootstrap_objects():
        kind = cluster.registry.find(GROUP, "v1", plural)
        assert kind is not None
        record = cluster.collection(kind).latest(("", wanted["metadata"]["name"]))
        if record is None:
            create(cluster, kind, owned_copy(wanted), None, Options())
        else:
            _mend(cluster, kind, record.load(), wanted)


def _mend(cluster: LogicalCluster, kind: ServedKind, found: Object, wanted: Object) -> None:
    if (found["metadata"].get("annotations") or {}).get(AUTOUPDATE) == "false" or "aggregationRule" in wanted:
        return
    if kind.plural == "clusterroles":
        lost = not_covered(parse_rules(found.get("rules")), parse_rules(wanted["rules"]))
        if not lost:
            return
        found["rules"] = [*(found.get("rules") or ()), *(atom.written() for atom in lost)]
    else:
        subjects = found.get("subjects") or []
        missing = [subject for subject in wanted["subjects"] if subject not in subjects]
        if not missing:
            return
        found["subjects"] = [*subjects, *missing]
    replace(cluster, kind, found, ("", found["metadata"]["name"]), Options())


def _metadata(name: str, labels: Mapping[str, str] | None = None) -> dict[str, Any]:
    return {
        "name": name,
        "labels": {"kubernetes.io/bootstrapping": "rbac-defaults", **(labels or {})},
        "annotations": {AUTOUPDATE: "true"},
    }
