"""What Kueue's admission webhooks refuse of quotas, queues and workloads, refused here where it is written.

For either served version. Only what an object itself tells; what other objects say is hub/admission/references.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from hub.admission.findings import FieldError, duplicate, too_many, wrong
from hub.admission.rule import Object, Review, Reviewed
from hub.api.errors import InvalidObjectError
from hub.api.quantity import Quantity

_GROUP: Final = "kueue.x-k8s.io"
_MAX_FLAVORS: Final = 256
_MAX_RESOURCES: Final = 256
_MAX_QUOTAS: Final = 512
_SMALLEST_WEIGHT: Final = Quantity("1n")


def cluster_queue(obj: Object, old: Object | None, now: str) -> Reviewed:
    spec = _part(obj, "spec")
    errors = list(_resource_groups(spec, parent=bool(spec.get("cohortName") or spec.get("cohort"))))
    fungibility = _part(spec, "flavorFungibility")
    both = {fungibility.get("whenCanBorrow"), fungibility.get("whenCanPreempt")} == {"TryNextFlavor"}
    if fungibility.get("preference") and not both:
        detail = "needs whenCanBorrow and whenCanPreempt to be TryNextFlavor"
        errors.append(wrong("spec.flavorFungibility.preference", fungibility["preference"], detail))
    return dict(obj), [*errors, *_weight(spec)]


def cohort(obj: Object, old: Object | None, now: str) -> Reviewed:
    spec = _part(obj, "spec")
    return dict(obj), [*_resource_groups(spec, parent=bool(spec.get("parentName"))), *_weight(spec)]


def local_queue(obj: Object, old: Object | None, now: str) -> Reviewed:
    return dict(obj), list(_weight(_part(obj, "spec")))


def resource_flavor(obj: Object, old: Object | None, now: str) -> Reviewed:
    spec = _part(obj, "spec")
    if spec.get("topologyName") and not spec.get("nodeLabels"):
        return dict(obj), [wrong("spec.topologyName", spec["topologyName"], "needs at least one of spec.nodeLabels")]
    return dict(obj), ()


def workload(obj: Object, old: Object | None, now: str) -> Reviewed:
    counts = [part.get("minCount") for part in _members(_part(obj, "spec"), "podSets")]
    partial = [index for index, count in enumerate(counts) if count is not None]
    return dict(obj), [
        wrong(f"spec.podSets[{index}].minCount", counts[index], "only one podSet may have it") for index in partial[1:]
    ]


def _resource_groups(spec: Object, *, parent: bool) -> Iterator[FieldError]:
    flavors: set[str] = set()
    resources: set[str] = set()
    for index, group in enumerate(_members(spec, "resourceGroups")):
        where = f"spec.resourceGroups[{index}]"
        covered = list(group.get("coveredResources") or ())
        for position, name in enumerate(covered):
            if name in resources:
                yield duplicate(f"{where}.coveredResources[{position}]", name)
            resources.add(name)
        quotas = 0
        for position, flavor in enumerate(_members(group, "flavors")):
            at = f"{where}.flavors[{position}]"
            if flavor.get("name") in flavors:
                yield duplicate(f"{at}.name", flavor.get("name"))
            flavors.add(str(flavor.get("name")))
            named = [quota.get("name") for quota in _members(flavor, "resources")]
            quotas += len(named)
            if named != covered:
                allowed = ", ".join(map(str, covered))
                yield wrong(f"{at}.resources", named, f"must be those of coveredResources, in that order: {allowed}")
            for number, quota in enumerate(_members(flavor, "resources")):
                yield from _quota(quota, f"{at}.resources[{number}]", parent=parent)
        if quotas > _MAX_QUOTAS:
            yield too_many(where, quotas, _MAX_QUOTAS)
    for count, most in ((len(flavors), _MAX_FLAVORS), (len(resources), _MAX_RESOURCES)):
        if count > most:
            yield too_many("spec.resourceGroups", count, most)


def _quota(quota: Object, where: str, *, parent: bool) -> Iterator[FieldError]:
    nominal = _amount(quota.get("nominalQuota"))
    for name in ("nominalQuota", "borrowingLimit", "lendingLimit"):
        value = quota.get(name)
        amount = _amount(value)
        if amount is not None and amount < Quantity(0):
            yield wrong(f"{where}.{name}", value, "must be greater than or equal to 0")
        elif value is not None and name != "nominalQuota" and not parent:
            yield wrong(f"{where}.{name}", value, "must be left out: there is no cohort to borrow from or lend to")
        elif name == "lendingLimit" and amount is not None and nominal is not None and amount > nominal:
            yield wrong(f"{where}.{name}", value, f"must be less than or equal to the nominalQuota, {nominal}")


def _weight(spec: Object) -> Iterator[FieldError]:
    value = _part(spec, "fairSharing").get("weight")
    amount = _amount(value)
    if amount is not None and amount != Quantity(0) and amount <= _SMALLEST_WEIGHT:
        yield wrong("spec.fairSharing.weight", value, "must be 0, or greater than 1n")


def _amount(value: Any) -> Quantity | None:
    try:
        return None if value is None else Quantity(value)
    except InvalidObjectError:
        return None


def _part(obj: Object, name: str) -> Mapping[str, Any]:
    part = obj.get(name)
    return part if isinstance(part, Mapping) else {}


def _members(obj: Object, name: str) -> Sequence[Mapping[str, Any]]:
    members = obj.get(name)
    return [member for member in members if isinstance(member, Mapping)] if isinstance(members, list) else []


RULES: Final[Mapping[tuple[str, str], Review]] = {
    (_GROUP, "clusterqueues"): cluster_queue,
    (_GROUP, "cohorts"): cohort,
    (_GROUP, "localqueues"): local_queue,
    (_GROUP, "resourceflavors"): resource_flavor,
    (_GROUP, "workloads"): workload,
}
