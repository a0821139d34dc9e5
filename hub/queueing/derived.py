"""Quota that derives itself: nominal quota from what the clusters of a set report, instead of numbers typed twice.

A ClusterQueue or Cohort with the annotation of hub/queueing/nominal.py owns, of every flavor and resource that it
lists, a part of what the nodes of the set's clusters have of it; what is written as its nominalQuota is only shown
beside it. Borrowing and lending limits stay as written. Pure; how much of a ClusterQueue's quota stays in force for
what runs when the clusters report less is the caller's to know.

A cluster that is silent still counts: quota that came and went with a network would cost jobs that run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from hub.api import names
from hub.fleet.facts import ClusterFacts
from hub.fleet.fleet import Fleet
from hub.fleet.site import NodeGroup, Site
from hub.placement.sets import ClusterSets
from hub.queueing.amount import UNLIMITED, readable
from hub.queueing.objects import ClusterQueue, Cohort, FlavorResource, Quota
from hub.queueing.quotas import ObjectKey, Quotas

InForce = Callable[[str, str, FlavorResource, int], int]
"""Of an owner (kind, name), what counts of a flavor and resource where so much is derived."""


@dataclass(frozen=True, slots=True)
class Drift:
    """Of one flavor and resource `declared` is what is written, `reported` what the clusters have, `derived` the part
    of that which `factor` makes, `in_force` what counts; in the units of hub/queueing/amount.py."""

    kind: str
    name: str
    flavor: str
    resource: str
    declared: int
    reported: int
    factor: Fraction
    derived: int
    in_force: int
    cluster_set: str

    @property
    def kept(self) -> bool:
        """Whether more counts than follows from the clusters, because it is in use."""
        return self.in_force > self.derived

    @property
    def words(self) -> str:
        """For people."""
        now, written = readable(self.resource, self.in_force), readable(self.resource, self.declared)
        return (
            f"{self.kind} {self.name}: its nominal quota of {self.resource} in flavor {self.flavor} is {now}, "
            f"from cluster set {self.cluster_set} (written: {written}){self.why}"
        )

    @property
    def numbers(self) -> str:
        """``h100 nvidia.com/gpu: 9 in force, 0.9 of the 10 that the clusters report``."""
        now, reported = readable(self.resource, self.in_force), readable(self.resource, self.reported)
        part = f"{self.factor_text} of the {reported}" if self.factor != 1 else f"the {reported}"
        said = f"as {part} that the clusters report" if not self.kept else ""
        return f"{self.flavor} {self.resource}: {now} in force{', ' + said if said else ''}{self.why}"

    @property
    def why(self) -> str:
        """Why it is not what the clusters say; empty: it is."""
        if not self.kept:
            return ""
        less, reported = readable(self.resource, self.derived), readable(self.resource, self.reported)
        part = f", {less} with factor {self.factor_text}" if self.factor != 1 else ""
        return f"; the clusters report {reported}{part}, and more runs: it shrinks as jobs end"

    @property
    def factor_text(self) -> str:
        return f"{float(self.factor):g}"


def derives(quotas: Quotas) -> bool:
    """Whether any quota depends on the fleet."""
    owners: tuple[ClusterQueue | Cohort, ...] = (*quotas.queues.values(), *quotas.cohorts.values())
    return any(owner.nominal_from is not None for owner in owners)


def _as_derived(kind: str, name: str, key: FlavorResource, derived: int) -> int:
    return derived


def derive(
    quotas: Quotas, fleet: Fleet, sets: ClusterSets, in_force: InForce = _as_derived
) -> tuple[Quotas, tuple[Drift, ...]]:
    """`quotas` as written → as they count, and how each derived one came about.

    A set that does not exist gives nothing, and is a problem of the object.
    """
    changed: dict[ObjectKey, ClusterQueue | Cohort] = {}
    drift: list[Drift] = []
    problems: dict[str, str] = {}
    members: dict[str, tuple[str, ...] | None] = {}
    known: dict[tuple[str, str, str], int] = {}
    kinds: tuple[tuple[str, Mapping[str, ClusterQueue | Cohort]], ...] = (
        ("ClusterQueue", quotas.queues),
        ("Cohort", quotas.cohorts),
    )
    for kind, owners in kinds:
        for name, owner in owners.items():
            source = owner.nominal_from
            if source is None:
                continue
            if source.cluster_set not in members:
                members[source.cluster_set] = _members(fleet, sets, source.cluster_set)
            clusters = members[source.cluster_set]
            if clusters is None:
                problems[f"{kind}/{name}"] = f"cluster set {source.cluster_set}, its quota's source, does not exist"
                clusters = ()
            fresh: dict[FlavorResource, Quota] = {}
            for (flavor, resource), quota in owner.quotas.items():
                if not source.covers(flavor):
                    continue
                key = (source.cluster_set, flavor, resource)
                if key not in known:
                    labels = quotas.flavors[flavor].labels if flavor in quotas.flavors else ()
                    known[key] = allocatable(fleet, clusters, labels, resource)
                derived = min(int(known[key] * source.factor), UNLIMITED)
                counts = in_force(kind, name, (flavor, resource), derived)
                reported, part, of = known[key], source.factor, source.cluster_set
                drift.append(Drift(kind, name, flavor, resource, quota.nominal, reported, part, derived, counts, of))
                if counts != quota.nominal:
                    fresh[flavor, resource] = replace(quota, nominal=counts)
            if fresh:
                changed[kind, "", name] = replace(owner, quotas={**owner.quotas, **fresh})
    return quotas.with_values(changed, problems), tuple(drift)


def _members(fleet: Fleet, sets: ClusterSets, name: str) -> tuple[str, ...] | None:
    found = sets.sets.get(name)
    if found is None:
        return None
    facts = ((cluster, fleet.facts(cluster)) for cluster in fleet.names)
    return tuple(cluster for cluster, fact in facts if fact.accepted and not fact.deleting and found.holds(fact))


def allocatable(fleet: Fleet, clusters: Sequence[str], labels: Sequence[tuple[str, str]], resource: str) -> int:
    """What nodes with these labels (their own or their cluster's) have of `resource`; rounded down."""
    total = Fraction(0)
    for name in clusters:
        site = fleet.site(name)
        if site is not None:
            total += _of_cluster(site, fleet.facts(name), labels, resource)
    return min(int(total), UNLIMITED)


def _of_cluster(site: Site, facts: ClusterFacts, labels: Sequence[tuple[str, str]], resource: str) -> Fraction:
    wanted: list[tuple[str, str]] = []
    for key, value in labels:
        found = facts.labels.get(key)
        if found is None:
            wanted.append((key, value))
        elif found != value:
            return Fraction(0)
    return sum((_of_group(group, resource) for group in site.groups if _has(group, wanted)), Fraction(0))


def _has(group: NodeGroup, labels: Sequence[tuple[str, str]]) -> bool:
    return all(
        group.labels.get(key) == value or (key == names.GPU_PRODUCT and value in group.models) for key, value in labels
    )


def _of_group(group: NodeGroup, resource: str) -> Fraction:
    if resource in (names.GPU, names.GPU_MILLI):
        each = Fraction(group.physical_gpus) * (1000 if resource == names.GPU_MILLI else 1)
    else:
        each = Fraction(group.allocatable.get(resource, 0))
    return each * group.count
