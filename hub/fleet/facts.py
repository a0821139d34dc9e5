"""What decisions read of a ManagedCluster: labels, claims, taints, acceptance, availability, totals.

Objects come from API servers and from files, so everything is checked here, once. An object whose parts have the wrong
type is refused as a whole; a quantity that cannot be read costs the totals only. Nothing here judges a cluster.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from hub.api.errors import InvalidObjectError
from hub.api.timestamps import parse_time
from hub.fleet.amounts import MAX_CLAIM, MAX_KEY, entries, mapping, short, texts, unordered_totals

AVAILABLE = "ManagedClusterConditionAvailable"


# Neither is changed once made; they are not frozen because they are made at every event, and that costs three times as
# much of those.
@dataclass(slots=True, unsafe_hash=True)
class Taint:
    """A taint of a cluster; `added` is epoch seconds, None when nobody wrote it down."""

    key: str
    value: str
    effect: str
    added: float | None = None

    def __str__(self) -> str:
        return f"{self.key}={self.value}:{self.effect}" if self.value else f"{self.key}:{self.effect}"


@dataclass(slots=True)
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
    # Nearly always dicts; the tests against the abstract class cost more than all else here.
    metadata = obj.get("metadata") if type(obj) is dict or isinstance(obj, Mapping) else None
    name = metadata.get("name") if type(metadata) is dict or isinstance(metadata, Mapping) else None
    return name if isinstance(name, str) else ""


def read_cluster(obj: Mapping[str, Any], last: ClusterFacts | None, name: str = "") -> tuple[ClusterFacts, str]:
    """Facts, and what could not be read of the totals (those of `last` stay then).

    Most events of a cluster move a condition and nothing else, so parts that read as before are taken from `last`.
    Raises `InvalidObjectError` naming the field when the object is not shaped like a ManagedCluster at all.
    """
    metadata, spec, status = obj.get("metadata"), obj.get("spec"), obj.get("status")
    if not (type(metadata) is type(spec) is type(status) is dict):
        metadata, spec = mapping(metadata, "metadata"), mapping(spec, "spec")
        status = mapping(status, "status")
    available = None
    for condition in entries(status.get("conditions"), "status.conditions"):
        if condition.get("type") == AVAILABLE:
            available = condition
            break
    was = {} if last is None else last.object
    was_spec, was_status = was.get("spec") or {}, was.get("status") or {}
    labels, claims, taints = metadata.get("labels"), status.get("clusterClaims"), spec.get("taints")
    offered, size = status.get("allocatable"), status.get("capacity")
    problem = ""
    if (
        last is not None
        and last.sound
        and offered == was_status.get("allocatable")
        and size == was_status.get("capacity")
    ):
        allocatable, capacity = last.totals, last.size
    else:
        allocatable, capacity, problem = _totals(offered, size, last)
    facts = ClusterFacts(
        name or cluster_name(obj),
        last.labels if last is not None and labels == last.labels else texts(labels, "metadata.labels"),
        last.claims if last is not None and claims == was_status.get("clusterClaims") else _claims(claims),
        last.taints if last is not None and taints == was_spec.get("taints") else _taints(taints),
        spec.get("hubAcceptsClient") is True,
        available is not None and available.get("status") == "True",
        bool(metadata.get("deletionTimestamp")),
        _moment(available.get("lastTransitionTime")) if available is not None else None,
        allocatable,
        capacity,
        not problem,
        obj,
    )
    return facts, problem


def _totals(offered: Any, size: Any, last: ClusterFacts | None) -> tuple[Mapping[str, int], Mapping[str, int], str]:
    try:
        return unordered_totals(offered, "status.allocatable"), unordered_totals(size, "status.capacity"), ""
    except InvalidObjectError as error:
        return ({}, {}, str(error)) if last is None else (last.totals, last.size, str(error))


def _claims(claims: Any) -> dict[str, str]:
    found: dict[str, str] = {}
    for claim in entries(claims, "status.clusterClaims"):
        name, value = str(claim.get("name")), str(claim.get("value"))
        if len(value) > MAX_CLAIM or len(name) > MAX_KEY:
            short(value, MAX_CLAIM, f"status.clusterClaims[{short(name, MAX_KEY, 'status.clusterClaims')}]")
        found[name] = value
    return found if len(found) < 2 else dict(sorted(found.items()))


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
