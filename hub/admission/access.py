"""What a change asks for besides the right to write the object: OCM's accept, join and bind, and what agents may touch.

Pure: a change in, the accesses that it needs out; whether its user has them is for the server to say. On a real control
plane the same is said by manifests/admission/policies.yaml, inside the API server, so that it holds while no hub runs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from hub.admission.rule import Object
from hub.api.names import CLUSTER_SET

_CLUSTER: Final = "cluster.open-cluster-management.io"
_WORK: Final = "work.open-cluster-management.io"
AGENTS: Final = "system:open-cluster-management:"
"""Beginning of the group of a cluster's agents: the cluster's name follows."""


@dataclass(frozen=True, slots=True)
class Access:
    """`resource` is a plural, with its subresource after a slash."""

    verb: str
    group: str
    resource: str
    name: str


def needed(group: str, plural: str, obj: Object, old: Object | None) -> Iterator[Access]:
    """What the user who writes `obj` in place of `old` (None: it is created) must be allowed as well."""
    if (group, plural) == (_CLUSTER, "managedclusters"):
        if _accepted(obj) != _accepted(old):
            yield Access("update", _CLUSTER, "managedclusters/accept", str(obj["metadata"].get("name") or ""))
        for name in (_set_of(obj), _set_of(old)):
            # The set that every cluster without one is put into is no decision of anybody's.
            if name and _set_of(obj) != _set_of(old) and name != "default":
                yield Access("create", _CLUSTER, "managedclustersets/join", name)
    elif (group, plural) == (_CLUSTER, "managedclustersetbindings") and old is None:
        name = str(_part(obj, "spec").get("clusterSet") or "")
        yield Access("create", _CLUSTER, "managedclustersets/bind", name)


def untouchable(group: str, plural: str, groups: tuple[str, ...], obj: Object, old: Object | None) -> str:
    """The field that this user, an agent, may not change; empty: none, or the user is no agent."""
    if old is None or not any(one.startswith(AGENTS) for one in groups):
        return ""
    if (group, plural) in ((_CLUSTER, "managedclusters"), (_WORK, "manifestworks")):
        return "spec" if obj.get("spec") != old.get("spec") else ""
    return ""


def _accepted(obj: Object | None) -> bool:
    return _part(obj or {}, "spec").get("hubAcceptsClient") is True


def _set_of(obj: Object | None) -> str:
    return str(_part(_part(obj or {}, "metadata"), "labels").get(CLUSTER_SET) or "")


def _part(obj: Object, name: str) -> Mapping[str, Any]:
    part = obj.get(name)
    return part if isinstance(part, Mapping) else {}
