"""What an object says of other objects: what names nothing is a warning, and what could never be right is refused.

Names may come before what they name, in any order, as everywhere in Kubernetes: so an absent queue or class is told to
whoever writes, and the object is taken. Refused is only what no later object could mend: a circle of cohorts. Pure:
the other objects are looked up through `Look`, in the versions that are stored, and may be a moment old.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, Protocol

from hub.admission.findings import FieldError, wrong
from hub.admission.rule import Object
from hub.api.names import CLUSTER_SET

_CLUSTER: Final = "cluster.open-cluster-management.io"
_KUEUE: Final = "kueue.x-k8s.io"
_FLEET: Final = "fleet.quarterdeck.dev"
_LONGEST: Final = 200


class Look(Protocol):
    def find(self, group: str, plural: str, namespace: str, name: str) -> Object | None:
        """None: there is none. `namespace` is empty for kinds that have none."""
        ...

    def all(self, group: str, plural: str, namespace: str = "") -> Sequence[Object]:
        """Every object of a kind, or those of one namespace."""
        ...


Found = tuple[list[FieldError], list[str]]
"""(what is refused, what is warned of)"""


def review(group: str, plural: str, obj: Object, old: Object | None, look: Look) -> Found:
    """Nothing for kinds that speak of no others. `obj` has passed its schema."""
    rule = _RULES.get((group, plural))
    if rule is None or (old is not None and old.get("spec") == obj.get("spec") and _set_of(old) == _set_of(obj)):
        return [], []
    errors: list[FieldError] = []
    warnings: list[str] = []
    for found in rule(obj, look):
        if isinstance(found, FieldError):
            errors.append(found)
        else:
            warnings.append(found)
    return errors, warnings


_Finding = FieldError | str
_Rule = Callable[[Object, Look], Iterator[_Finding]]


def _fleet_job(obj: Object, look: Look) -> Iterator[_Finding]:
    spec = _part(obj, "spec")
    namespace = str(obj["metadata"].get("namespace") or "")
    queue = str(spec.get("queueName") or "default")
    local = look.find(_KUEUE, "localqueues", namespace, queue)
    if local is None:
        known = sorted(str(one["metadata"]["name"]) for one in look.all(_KUEUE, "localqueues", namespace))
        there = f"; there are: {', '.join(known[:10])}" if known else "; there is none in this namespace"
        yield f"spec.queueName: there is no LocalQueue {queue} in namespace {namespace}: the job waits for it{there}"
    else:
        yield from _cluster_queue_of(local, look, f"spec.queueName: LocalQueue {queue}")
    name = spec.get("priorityClassName")
    if name and look.find(_KUEUE, "workloadpriorityclasses", "", str(name)) is None:
        yield f"spec.priorityClassName: there is no WorkloadPriorityClass {name}: the job waits until there is"
    reference = _part(spec, "placementRef").get("name")
    if reference and look.find(_CLUSTER, "placements", namespace, str(reference)) is None:
        where = f"spec.placementRef.name: there is no Placement {reference} in namespace {namespace}"
        yield f"{where}: the job waits for it"


def _local_queue(obj: Object, look: Look) -> Iterator[_Finding]:
    yield from _cluster_queue_of(obj, look, "spec.clusterQueue")


def _cluster_queue_of(local: Object, look: Look, where: str) -> Iterator[str]:
    name = str(_part(local, "spec").get("clusterQueue") or "")
    if name and look.find(_KUEUE, "clusterqueues", "", name) is None:
        yield f"{where}: there is no ClusterQueue {name}: nothing is admitted until there is"


def _cluster_queue(obj: Object, look: Look) -> Iterator[_Finding]:
    spec = _part(obj, "spec")
    yield from _flavors(spec, look)
    for index, check in enumerate(_members(_part(spec, "admissionChecksStrategy"), "admissionChecks")):
        name = str(check.get("name") or "")
        if look.find(_KUEUE, "admissionchecks", "", name) is None:
            where = f"spec.admissionChecksStrategy.admissionChecks[{index}].name"
            yield f"{where}: there is no AdmissionCheck {name}: the queue is inactive until there is"


def _cohort(obj: Object, look: Look) -> Iterator[_Finding]:
    spec = _part(obj, "spec")
    yield from _flavors(spec, look)
    name, parent = str(obj["metadata"].get("name") or ""), str(spec.get("parentName") or "")
    if circle := _circle(name, parent, look):
        said = " > ".join(circle)
        yield wrong(
            "spec.parentName", parent, f"its cohorts would go round in a circle, and no queue in it would admit: {said}"
        )


def _circle(name: str, parent: str, look: Look) -> list[str]:
    way = [name]
    while parent and len(way) <= _LONGEST:
        way.append(parent)
        if parent == name:
            return way
        found = look.find(_KUEUE, "cohorts", "", parent)
        parent = str(_part(found or {}, "spec").get("parentName") or "")
    return []


def _flavors(spec: Object, look: Look) -> Iterator[str]:
    for group, part in enumerate(_members(spec, "resourceGroups")):
        for index, flavor in enumerate(_members(part, "flavors")):
            name = str(flavor.get("name") or "")
            if look.find(_KUEUE, "resourceflavors", "", name) is None:
                where = f"spec.resourceGroups[{group}].flavors[{index}].name"
                yield f"{where}: there is no ResourceFlavor {name}: the queue is inactive until there is"


def _binding(obj: Object, look: Look) -> Iterator[_Finding]:
    name = str(_part(obj, "spec").get("clusterSet") or "")
    if name and look.find(_CLUSTER, "managedclustersets", "", name) is None:
        yield f"spec.clusterSet: there is no ManagedClusterSet {name}: nothing is bound until there is"


def _managed_cluster(obj: Object, look: Look) -> Iterator[_Finding]:
    name = _set_of(obj)
    if name and look.find(_CLUSTER, "managedclustersets", "", name) is None:
        yield f"metadata.labels[{CLUSTER_SET}]: there is no ManagedClusterSet {name}: no Placement chooses this cluster"


def _placement(obj: Object, look: Look) -> Iterator[_Finding]:
    namespace = str(obj["metadata"].get("namespace") or "")
    bound = {
        str(_part(one, "spec").get("clusterSet")) for one in look.all(_CLUSTER, "managedclustersetbindings", namespace)
    }
    if not bound:
        yield f"namespace {namespace} has no ManagedClusterSetBinding: the placement chooses nothing until it has one"
        return
    for index, name in enumerate(_part(obj, "spec").get("clusterSets") or ()):
        if name not in bound:
            where = f"spec.clusterSets[{index}]: ManagedClusterSet {name} is not bound to namespace {namespace}"
            yield f"{where}: it counts as empty"


def _set_of(obj: Object) -> str:
    return str((obj["metadata"].get("labels") or {}).get(CLUSTER_SET) or "")


def _part(obj: Object, name: str) -> Mapping[str, Any]:
    part = obj.get(name)
    return part if isinstance(part, Mapping) else {}


def _members(obj: Object, name: str) -> Sequence[Mapping[str, Any]]:
    members = obj.get(name)
    return [member for member in members if isinstance(member, Mapping)] if isinstance(members, list | tuple) else []


_RULES: Final[Mapping[tuple[str, str], _Rule]] = {
    (_FLEET, "fleetjobs"): _fleet_job,
    (_KUEUE, "localqueues"): _local_queue,
    (_KUEUE, "clusterqueues"): _cluster_queue,
    (_KUEUE, "cohorts"): _cohort,
    (_CLUSTER, "managedclusters"): _managed_cluster,
    (_CLUSTER, "managedclustersetbindings"): _binding,
    (_CLUSTER, "placements"): _placement,
}
REVIEWED: Final = tuple(_RULES)
