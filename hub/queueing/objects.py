"""Kueue's objects as the queue reads them: one immutable value each, checked once.

Reading one raises `InvalidObjectError` by field; what a broken object means for the others is decided in
hub/queueing/quotas.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pydantic import ValidationError

from hub.api import core, kueue
from hub.api.conversion import V1BETA1, to_v1beta2
from hub.api.errors import InvalidObjectError
from hub.api.meta import KubeObject
from hub.api.quantity import Quantity
from hub.fleet.shape import Toleration
from hub.placement.rule import Requirement
from hub.placement.selectors import parse_label_selector
from hub.queueing.amount import amount
from hub.queueing.kueue.transforms import ALL, Counted
from hub.queueing.nominal import NominalFrom, read_nominal_from
from hub.queueing.policies import (
    CheckRule,
    Fungibility,
    Preemption,
    read_checks,
    read_fungibility,
    read_preemption,
)

FlavorResource = tuple[str, str]
"""(flavor, resource)"""

_ONE = Quantity(1)
_PREEMPTION, _FUNGIBILITY = Preemption(), Fungibility()
_Kind = TypeVar("_Kind", bound=KubeObject)


@dataclass(frozen=True, slots=True)
class Flavor:
    """`labels` are of nodes or of whole clusters; `taints` must be tolerated by the job or by `tolerations`."""

    name: str
    labels: tuple[tuple[str, str], ...] = ()
    taints: tuple[tuple[str, str, str], ...] = ()
    tolerations: tuple[Toleration, ...] = ()


@dataclass(frozen=True, slots=True)
class PodPriority:
    """A PriorityClass of pods. `default`: of all pods that name none."""

    value: int
    default: bool


@dataclass(frozen=True, slots=True)
class Quota:
    """Amounts; a limit of None is no limit."""

    nominal: int
    borrowing_limit: int | None = None
    lending_limit: int | None = None


@dataclass(frozen=True, slots=True)
class ResourceGroup:
    """Resources that come from the same flavor, and the flavors in the order in which they are tried."""

    resources: tuple[str, ...]
    flavors: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ClusterQueue:
    """`namespaces` None: takes jobs of no namespace. `checks`: names of the admission checks that it asks for.

    `by_usage`: what its LocalQueues used before orders their jobs. `nominal_from`: where its nominal quota comes from,
    if not from itself. `terminating`: it was deleted, and is only there until nothing uses it. `counts`: what resources
    count as, where the hub's configuration says more of that than the queue.
    """

    name: str
    cohort: str = ""
    groups: tuple[ResourceGroup, ...] = ()
    quotas: Mapping[FlavorResource, Quota] = field(default_factory=dict)
    strict: bool = False
    namespaces: tuple[Requirement, ...] | None = None
    stop: str = "None"
    checks: tuple[str, ...] = ()
    weight: Quantity = _ONE
    preemption: Preemption = _PREEMPTION
    fungibility: Fungibility = _FUNGIBILITY
    check_rules: tuple[CheckRule, ...] = ()
    by_usage: bool = False
    nominal_from: NominalFrom | None = None
    terminating: bool = False
    counts: Counted = ALL

    def group_of(self, resource: str) -> ResourceGroup | None:
        return next((group for group in self.groups if resource in group.resources), None)


@dataclass(frozen=True, slots=True)
class Cohort:
    """`parent` empty: a root."""

    name: str
    parent: str = ""
    quotas: Mapping[FlavorResource, Quota] = field(default_factory=dict)
    weight: Quantity = _ONE
    nominal_from: NominalFrom | None = None


def pool(queue: str, cohort: str) -> str:
    """What a queue may take from, in words."""
    return f"ClusterQueue {queue} and its cohort {cohort}" if cohort else f"ClusterQueue {queue}"


@dataclass(frozen=True, slots=True)
class LocalQueue:
    """`weight`: of its past usage among the LocalQueues of its ClusterQueue."""

    namespace: str
    name: str
    cluster_queue: str
    stop: str = "None"
    weight: Quantity = _ONE


def read_flavor(obj: Mapping[str, Any]) -> Flavor:
    spec = model_of(kueue.ResourceFlavor, obj).spec
    return Flavor(
        name=name_of(obj),
        labels=tuple(sorted(spec.nodeLabels.items())),
        taints=tuple(sorted((t.key, t.value or "", t.effect) for t in spec.nodeTaints)),
        tolerations=tuple(sorted({_toleration(t) for t in spec.tolerations})),
    )


def read_cluster_queue(obj: Mapping[str, Any]) -> ClusterQueue:
    spec = model_of(kueue.ClusterQueue, obj).spec or kueue.ClusterQueueSpec.model_validate({})
    checks = read_checks(spec.admissionChecksStrategy)
    scope = spec.admissionScope
    groups, quotas = _groups(spec.resourceGroups, borrows=bool(spec.cohortName), whose="a ClusterQueue without cohort")
    return ClusterQueue(
        name=name_of(obj),
        cohort=spec.cohortName or "",
        groups=groups,
        quotas=quotas,
        strict=spec.queueingStrategy == "StrictFIFO",
        namespaces=None
        if spec.namespaceSelector is None
        else parse_label_selector(spec.namespaceSelector.to_object(), "spec.namespaceSelector"),
        stop=spec.stopPolicy,
        checks=tuple(check.name for check in checks),
        weight=_weight(spec.fairSharing),
        preemption=read_preemption(spec.preemption),
        fungibility=read_fungibility(spec.flavorFungibility),
        check_rules=checks,
        by_usage=scope is not None and scope.admissionMode == "UsageBasedAdmissionFairSharing",
        nominal_from=read_nominal_from(obj),
        terminating=bool((obj.get("metadata") or {}).get("deletionTimestamp")),
    )


def read_cohort(obj: Mapping[str, Any]) -> Cohort:
    spec = model_of(kueue.Cohort, obj).spec or kueue.CohortSpec.model_validate({})
    _, quotas = _groups(spec.resourceGroups, borrows=bool(spec.parentName), whose="a Cohort without parent")
    return Cohort(name_of(obj), spec.parentName or "", quotas, _weight(spec.fairSharing), read_nominal_from(obj))


def read_local_queue(obj: Mapping[str, Any]) -> LocalQueue:
    spec = model_of(kueue.LocalQueue, obj).spec
    if spec is None or not spec.clusterQueue:
        raise InvalidObjectError("is required", field="spec.clusterQueue")
    weight = spec.fairSharing.weight if spec.fairSharing is not None else _ONE
    return LocalQueue(namespace_of(obj), name_of(obj), spec.clusterQueue, spec.stopPolicy, weight)


def read_priority(obj: Mapping[str, Any]) -> int:
    value = obj.get("value")
    if isinstance(value, bool) or not isinstance(value, int) or not -(2**31) <= value < 2**31:
        raise InvalidObjectError(f"found {value!r}; expected an integer of 32 bits", field="value")
    return value


def read_pod_priority(obj: Mapping[str, Any]) -> PodPriority:
    return PodPriority(read_priority(obj), obj.get("globalDefault") is True)


def read_namespace(obj: Mapping[str, Any]) -> Mapping[str, str]:
    """Its labels, with the one that Kubernetes gives every namespace."""
    labels = (obj.get("metadata") or {}).get("labels") or {}
    if not isinstance(labels, Mapping):
        raise InvalidObjectError(f"found {labels!r}; expected a mapping", field="metadata.labels")
    return {str(key): str(value) for key, value in labels.items()} | namespace_labels(name_of(obj))


def namespace_labels(name: str) -> dict[str, str]:
    return {"kubernetes.io/metadata.name": name}


def name_of(obj: Mapping[str, Any]) -> str:
    return str((obj.get("metadata") or {}).get("name") or "")


def namespace_of(obj: Mapping[str, Any]) -> str:
    return str((obj.get("metadata") or {}).get("namespace") or "default")


def model_of(kind: type[_Kind], obj: Mapping[str, Any]) -> _Kind:
    """As v1beta2. Raises `InvalidObjectError` by field."""
    stored = to_v1beta2(obj) if obj.get("apiVersion") == V1BETA1 else obj
    try:
        return kind.model_validate(stored)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        path = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in first["loc"]).lstrip(".")
        raise InvalidObjectError(str(first["msg"]), field=path) from error


def _groups(
    groups: Sequence[kueue.ResourceGroup], *, borrows: bool, whose: str
) -> tuple[tuple[ResourceGroup, ...], dict[FlavorResource, Quota]]:
    read: list[ResourceGroup] = []
    quotas: dict[FlavorResource, Quota] = {}
    for number, group in enumerate(groups):
        place = f"spec.resourceGroups[{number}]"
        resources = tuple(group.coveredResources)
        flavors = tuple(flavor.name for flavor in group.flavors)
        for earlier in read:
            for what, mine, theirs in (
                ("resource", resources, earlier.resources),
                ("flavor", flavors, earlier.flavors),
            ):
                if double := sorted(set(mine) & set(theirs)):
                    raise InvalidObjectError(f"{what} {double[0]} is in two resource groups", field=place)
        if len(set(flavors)) < len(flavors) or len(set(resources)) < len(resources):
            raise InvalidObjectError("names a flavor or a resource twice", field=place)
        for index, flavor in enumerate(group.flavors):
            if sorted(r.name for r in flavor.resources) != sorted(resources):
                raise InvalidObjectError(
                    f"flavor {flavor.name} must list exactly the covered resources: {', '.join(resources)}",
                    field=f"{place}.flavors[{index}].resources",
                )
            for resource in flavor.resources:
                where = f"{place}.flavors[{index}].resources[{resource.name}]"
                quotas[flavor.name, resource.name] = _quota(resource, where, borrows, whose)
        read.append(ResourceGroup(resources, flavors))
    return tuple(read), quotas


def _quota(resource: kueue.ResourceQuota, place: str, borrows: bool, whose: str) -> Quota:
    for name in ("nominalQuota", "borrowingLimit", "lendingLimit"):
        value: Quantity | None = getattr(resource, name)
        if value is None:
            continue
        if value.nano < 0:
            raise InvalidObjectError(f"{value} is negative", field=f"{place}.{name}")
        if name != "nominalQuota" and not borrows:
            raise InvalidObjectError(f"{whose} neither borrows nor lends: leave it out", field=f"{place}.{name}")
    if resource.lendingLimit is not None and resource.lendingLimit > resource.nominalQuota:
        raise InvalidObjectError(
            f"{resource.lendingLimit} is more than the nominal quota {resource.nominalQuota}",
            field=f"{place}.lendingLimit",
        )
    limits = [
        None if limit is None else amount(resource.name, limit)
        for limit in (resource.borrowingLimit, resource.lendingLimit)
    ]
    return Quota(amount(resource.name, resource.nominalQuota), limits[0], limits[1])


def _weight(sharing: kueue.FairSharing | None) -> Quantity:
    weight = sharing.weight if sharing is not None else _ONE
    # Kueue's bound: a weight that small would overflow every share.
    if weight.nano < 0 or weight.nano == 1:
        raise InvalidObjectError(f"found {weight}; expected 0 or more than 1n", field="spec.fairSharing.weight")
    return weight


def _toleration(value: core.Toleration) -> Toleration:
    return Toleration(value.key or "", value.operator or "Equal", value.value or "", value.effect or "")
