"""Which clusters a job may run on, as its author wrote it: a PlacementSpec parsed once, hashable.

Two jobs that say the same share one rule and so one filtered set of clusters. It only holds what was said; whether a
cluster matches is hub/placement/filters.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Requirement:
    """One line of a label or claim selector: `operator` is In, NotIn, Exists or DoesNotExist."""

    key: str
    operator: str
    values: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Predicate:
    """All of `labels`, `claims` (of the cluster) and `cel` (expressions over `managedCluster`) must hold."""

    labels: tuple[Requirement, ...] = ()
    claims: tuple[Requirement, ...] = ()
    cel: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ClusterToleration:
    """OCM's toleration of a cluster's taint; `seconds` None tolerates for ever, counted from the taint's timeAdded."""

    key: str = ""
    operator: str = "Equal"
    value: str = ""
    effect: str = ""
    seconds: int | None = None


@dataclass(frozen=True, slots=True)
class ScoreWeight:
    """A prioritizer: a built-in's name, or ``AddOn/RESOURCE/SCORE``; weight −10 … 10."""

    name: str
    weight: int


@dataclass(frozen=True, slots=True)
class SpreadConstraint:
    """Over the values of `key`, a label of the clusters or with `claim` a claim, the numbers of chosen clusters (of a
    job: of its tasks there) differ by at most `skew`: always if `hard`, else as far as clusters allow."""

    key: str
    claim: bool
    skew: int = 1
    hard: bool = False


@dataclass(frozen=True, slots=True)
class MissingScore:
    """What a cluster is worth whose score nobody knows. `kind` Worst: less than the worst that is known; Neutral: 0;
    Exclude: it is not chosen; LastKnown: what was known last for `max_age` seconds after it ended, then Worst."""

    kind: Literal["Worst", "Exclude", "Neutral", "LastKnown"] = "Worst"
    max_age: float = 0.0


WORST = MissingScore()


@dataclass(frozen=True, slots=True)
class ClusterRule:
    """`namespace`: whose bindings count; empty: every cluster may serve. `sets` empty: every set bound to it.

    One of `predicates` must hold (none: all clusters do). `weights` are added to the hub's own scorers, or with `exact`
    replace them (hub/placement/prioritizers.py). `limit`: at most so many clusters. `reference` is the
    Placement it came from, for messages. `chosen`: only these clusters, which that Placement has decided on.
    `profile`: named weights of the hub's own scorers (hub/placement/profiles.py). `data`: what its jobs read, and how
    many bytes of it (hub/scoring/locality.py).
    """

    namespace: str = ""
    sets: tuple[str, ...] = ()
    predicates: tuple[Predicate, ...] = ()
    tolerations: tuple[ClusterToleration, ...] = ()
    weights: tuple[ScoreWeight, ...] = ()
    exact: bool = False
    limit: int | None = None
    reference: str = ""
    spread: tuple[SpreadConstraint, ...] = ()
    missing: MissingScore = WORST
    chosen: tuple[str, ...] | None = None
    profile: str = ""
    data: tuple[tuple[str, int], ...] = ()
