"""What a write needs besides its verb, by what is written: nobody grants what they do not have, nobody joins a set or
approves a certificate who may not.

Called once an object is as it would be stored. The server's own writes (`options.user` None) are not asked. Kubernetes
has these checks in its handlers, Open Cluster Management in its webhooks; the messages are theirs where clients read
them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from hub.api.names import CLUSTER_SET
from hub.apiserver.auth import User
from hub.apiserver.authorizer import GROUP, Authorizer
from hub.apiserver.kinds import ServedKind
from hub.apiserver.logical import LogicalCluster
from hub.apiserver.permissions import EVERYTHING, Rule, not_covered, parse_rules
from hub.apiserver.status import forbidden, not_found
from hub.apiserver.written import Object, Options

_CLUSTERS: Final = "cluster.open-cluster-management.io"
_REGISTER: Final = "register.open-cluster-management.io"
_WORK: Final = "work.open-cluster-management.io"
_CERTIFICATES: Final = "certificates.k8s.io"
_AGENTS: Final = "system:open-cluster-management:managed-clusters"
_AGENT_NAME: Final = "system:open-cluster-management:"


class _Ask:
    """One write, and who writes."""

    def __init__(
        self, authorizer: Authorizer, user: User, kind: ServedKind, obj: Object, old: Object | None, subresource: str
    ) -> None:
        self.authorizer, self.user, self.kind, self.obj, self.old = authorizer, user, kind, obj, old
        self.subresource = subresource
        self.namespace = str(obj["metadata"].get("namespace") or "")
        self.name = str(obj["metadata"].get("name") or "")

    def may(self, verb: str, group: str, resource: str, name: str, namespace: str = "") -> bool:
        return self.authorizer.allows(self.user, verb, group, resource, namespace=namespace, name=name)

    def refuse(self, why: str) -> Exception:
        return forbidden(self.kind.group, self.kind.plural, self.name, why)

    def must(self, verb: str, group: str, resource: str, name: str, what: str, namespace: str = "") -> None:
        if not self.may(verb, group, resource, name, namespace):
            raise self.refuse(f'user "{self.user.name}" is not allowed to {what}')


def guard(
    cluster: LogicalCluster, kind: ServedKind, obj: Object, old: Object | None, options: Options, subresource: str
) -> None:
    """Raises `ForbiddenError` where `options.user` lacks what this write needs; `NotFoundError` for the role."""
    user, authorizer = options.user, cluster.authorizer
    if user is None or authorizer is None:
        return
    check = _GUARDS.get(kind.storage_key)
    if check is not None:
        check(_Ask(authorizer, user, kind, obj, old, subresource))


def _role(ask: _Ask) -> None:
    old = ask.old or {}
    same_sources = ask.obj.get("aggregationRule") == old.get("aggregationRule")
    if ask.obj.get("rules") == old.get("rules") and same_sources:
        return
    if ask.may("escalate", GROUP, ask.kind.plural, ask.name, ask.namespace):
        return
    # Whatever will carry those labels one day.
    if ask.obj.get("aggregationRule") and not same_sources and _missing(ask, EVERYTHING):
        raise ask.refuse("must have cluster-admin privileges to use the aggregationRule")
    _must_hold(ask, parse_rules(ask.obj.get("rules")))


def _binding(ask: _Ask) -> None:
    old = ask.old or {}
    if all(ask.obj.get(part) == old.get(part) for part in ("subjects", "roleRef")):
        return
    reference = ask.obj.get("roleRef") or {}
    own = reference.get("kind") == "Role"
    plural, name = "roles" if own else "clusterroles", str(reference.get("name") or "")
    if ask.may("bind", GROUP, plural, name, ask.namespace):
        return
    rules = ask.authorizer.role((ask.namespace if own else "", name))
    if rules is None:
        raise not_found(GROUP, ask.kind.plural, name)
    _must_hold(ask, rules)


def _missing(ask: _Ask, wanted: Iterable[Rule]) -> list[Rule]:
    return not_covered(ask.authorizer.rules(ask.user, ask.namespace), wanted)


def _must_hold(ask: _Ask, wanted: Iterable[Rule]) -> None:
    missing = _missing(ask, wanted)
    if missing:
        groups = " ".join(f'"{group}"' for group in ask.user.groups)
        said = "\n".join(map(str, missing))
        raise ask.refuse(
            f'user "{ask.user.name}" (groups=[{groups}]) is attempting to grant RBAC permissions not currently held:\n'
            f"{said}"
        )


def _certificate(ask: _Ask) -> None:
    signer = str((ask.obj.get("spec") or {}).get("signerName") or "")
    if ask.subresource == "approval":
        _signer(ask, "approve", signer)
    elif ask.subresource == "status":
        before, after = ((part or {}).get("status") or {} for part in (ask.old, ask.obj))
        if before.get("certificate") != after.get("certificate"):
            _signer(ask, "sign", signer)


def _signer(ask: _Ask, verb: str, signer: str) -> None:
    domain = signer.partition("/")[0]
    if not any(ask.may(verb, _CERTIFICATES, "signers", name) for name in (signer, f"{domain}/*")):
        what = f'user not permitted to {verb} requests with signerName "{signer}"'
        raise ask.refuse(what)


def _managed_cluster(ask: _Ask) -> None:
    if ask.subresource:
        return
    agent = ask.user.name.removeprefix(_AGENT_NAME).partition(":")[0]
    if ask.old is None and _AGENTS in ask.user.groups and agent != ask.name:
        raise ask.refuse(f'user "{ask.user.name}" is the agent of another cluster')
    accepted = [bool(((part or {}).get("spec") or {}).get("hubAcceptsClient")) for part in (ask.old, ask.obj)]
    if accepted == [False, True]:
        ask.must("update", _REGISTER, "managedclusters/accept", ask.name, "accept the cluster")
    before, after = (_label(part, CLUSTER_SET) for part in (ask.old, ask.obj))
    if ask.old is None and after == "default":
        # What admission gives to everybody.
        return
    if before != after:
        for name in filter(None, (before, after)):
            ask.must(
                "create",
                _CLUSTERS,
                "managedclustersets/join",
                name,
                f"put a cluster into the set {name}, or take it out",
            )


def _set_binding(ask: _Ask) -> None:
    before, after = (((part or {}).get("spec") or {}).get("clusterSet") for part in (ask.old, ask.obj))
    if after and before != after:
        ask.must("create", _CLUSTERS, "managedclustersets/bind", str(after), f"bind the set {after}")


def _manifest_work(ask: _Ask) -> None:
    before, after = (_executor(part) for part in (ask.old, ask.obj))
    if after and before != after:
        what = f"execute manifests as {after}"
        ask.must("execute-as", _WORK, "manifestworks", after, what, ask.namespace)


def _executor(obj: Object | None) -> str:
    subject = (((obj or {}).get("spec") or {}).get("executor") or {}).get("subject") or {}
    account = subject.get("serviceAccount") or {}
    return f"system:serviceaccount:{account.get('namespace')}:{account.get('name')}" if account else ""


def _label(obj: Mapping[str, Any] | None, key: str) -> str:
    return str(((obj or {}).get("metadata", {}).get("labels") or {}).get(key) or "")


_GUARDS: Final[Mapping[tuple[str, str], Callable[[_Ask], None]]] = {
    (GROUP, "roles"): _role,
    (GROUP, "clusterroles"): _role,
    (GROUP, "rolebindings"): _binding,
    (GROUP, "clusterrolebindings"): _binding,
    (_CERTIFICATES, "certificatesigningrequests"): _certificate,
    (_CLUSTERS, "managedclusters"): _managed_cluster,
    (_CLUSTERS, "managedclustersetbindings"): _set_binding,
    (_WORK, "manifestworks"): _manifest_work,
}
