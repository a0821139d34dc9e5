"""What decisions read of a ManagedCluster: labels, claims, taints, acceptance, availability, totals.

Objects come from API servers and from files, so everything is checked here, once. An object whose parts have the wrong
type is refused as a whole; a quantity that cannot be read costs the totals only. Nothing here judges a cluster.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from hub.api.conditions import find_condition
from hub.api.errors import InvalidObjectError
from hub.api.timestamps import parse_time
from hub.fleet.amounts import MAX_CLAIM, MAX_KEY, entries, mapping, short, texts, totals

AVAILABLE = "ManagedClusterConditionAvailable"


@dataclass(frozen=True, slots=True)
class Taint:
    """A taint of a cluster; `added` is epoch seconds, None when nobody wrote it down."""

    key: str
    value: str
    effect: str
    added: float | None = None

    def __str__(self) -> str:
        return f"{self.key}={self.value}:{self.effect}" if self.value else f"{self.key}:{self.effect}"


@dataclass(frozen=True, slots=True)
class ClusterFacts:
    """`totals` and `size` are the cluster's allocatable and capacity sums in `amount_of` units (cpu in thousandths).

    `since`: epoch seconds at which its availability last changed. `object` is the ManagedCluster itself, for
    expressions that may read any field; two clusters that differ in nothing else are equal.
    """

    name: str
    labels: Mapping[str, str]
    claims: Mapping[str, str]
    taints: tuple[Taint, ...]
    accepted: bool
    available: bool
    deleting: bool
    since: float | None
    totals: Mapping[str, int]
    size: Mapping[str, int]
    # Whether the totals are those of `object`, not of an earlier one.
    sound: bool = field(compare=False, repr=False)
    object: Mapping[str, Any] = field(compare=False, repr=False)


def cluster_name(obj: Any) -> str:
    """``metadata.name`` where there is one, else the empty string."""
    metadata = obj.get("metadata") if isinstance(obj, Mapping) else None
    name = metadata.get("name") if isinstance(metadata, Mapping) else None
    return name if isinstance(name, str) else ""


def read_cluster(obj: Mapping[str, Any], last: ClusterFacts | None) -> tuple[ClusterFacts, str]:
    """Facts, and what could not be read of the totals (those of `last` stay then).

    Most events of a cluster move a condition and nothing else, so parts that read as before are taken from `last`.
    Raises `InvalidObjectError` naming the field when the object is not shaped like a ManagedCluster at all.
    """
    metadata = mapping(obj.get("metadata"), "metadata")
    spec = mapping(obj.get("spec"), "spec")
    status = mapping(obj.get("status"), "status")
    available = find_condition(entries(status.get("conditions"), "status.conditions"), AVAILABLE)
    was = {} if last is None else last.object
    was_spec, was_status = was.get("spec") or {}, was.get("status") or {}
    labels, claims, taints = metadata.get("labels"), status.get("clusterClaims"), spec.get("taints")
    allocatable, capacity, problem = _totals(status, was_status, last)
    facts = ClusterFacts(
        name=cluster_name(obj),
        labels=last.labels if last is not None and labels == last.labels else texts(labels, "metadata.labels"),
        claims=last.claims if last is not None and claims == was_status.get("clusterClaims") else _claims(claims),
        taints=last.taints if last is not None and taints == was_spec.get("taints") else _taints(taints),
        accepted=spec.get("hubAcceptsClient") is True,
        available=available is not None and available.get("status") == "True",
        deleting=bool(metadata.get("deletionTimestamp")),
        since=_moment(available.get("lastTransitionTime")) if available is not None else None,
        totals=allocatable,
        size=capacity,
        sound=not problem,
        object=obj,
    )
    return facts, problem


def _totals(
    status: Mapping[str, Any], was: Mapping[str, Any], last: ClusterFacts | None
) -> tuple[Mapping[str, int], Mapping[str, int], str]:
    known: tuple[Mapping[str, int], Mapping[str, int]] = ({}, {}) if last is None else (last.totals, last.size)
    offered, size = status.get("allocatable"), status.get("capacity")
    if last is not None and last.sound and offered == was.get("allocatable") and size == was.get("capacity"):
        return *known, ""
    try:
        return totals(offered, "status.allocatable"), totals(size, "status.capacity"), ""
    except InvalidObjectError as error:
        return *known, str(error)


def _claims(claims: Any) -> dict[str, str]:
    listed = entries(claims, "status.clusterClaims")
    found = sorted((str(claim.get("name")), str(claim.get("value"))) for claim in listed)
    for name, value in found:
        short(name, MAX_KEY, "status.clusterClaims")
        short(value, MAX_CLAIM, f"status.clusterClaims[{name}]")
    return dict(found)


def _taints(taints: Any) -> tuple[Taint, ...]:
    return tuple(
        Taint(
            str(taint.get("key") or ""),
            str(taint.get("value") or ""),
            str(taint.get("effect") or ""),
            _moment(taint.get("timeAdded")),
        )
        for taint in entries(taints, "spec.taints")
    )


def _moment(text: Any) -> float | None:
    """Epoch seconds; a time that cannot be read is unknown, not a reason to lose the cluster."""
    return _epoch(text) if isinstance(text, str) else None


@lru_cache(maxsize=8192)
def _epoch(text: str) -> float | None:
    try:
        return parse_time(text).timestamp()
    except (InvalidObjectError, OverflowError):
        return None
