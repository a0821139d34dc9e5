"""What can happen to a fleet: the only ways in which a snapshot becomes the next one. Plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hub.fleet.shape import TaskShape


@dataclass(frozen=True, slots=True)
class ClusterSeen:
    """A ManagedCluster as it is now."""

    cluster: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class CapacitySeen:
    """A ClusterCapacity as it is now; named as its cluster."""

    capacity: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ClusterGone:
    name: str


@dataclass(frozen=True, slots=True)
class CapacityGone:
    name: str


@dataclass(frozen=True, slots=True)
class ScoresSeen:
    """One source's values by cluster: replaces all it said before. `valid_until` (epoch seconds) makes them unknown.

    `until`: the same of single clusters, whose values may count less long than the source's as a whole.
    """

    source: str
    values: Mapping[str, float]
    valid_until: float
    until: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ScoresGone:
    source: str


@dataclass(frozen=True, slots=True)
class Charge:
    """`count` tasks of `shape` are held on `cluster` by `key` (a ManifestWork's name); replaces what `key` held."""

    key: str
    cluster: str
    shape: TaskShape
    count: int


@dataclass(frozen=True, slots=True)
class Release:
    key: str


FleetChange = ClusterSeen | CapacitySeen | ClusterGone | CapacityGone | ScoresSeen | ScoresGone | Charge | Release
