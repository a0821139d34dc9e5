"""What the owner of a ClusterQueue lets its jobs do to others, and how they choose a flavor. Values, read once.

Names and defaults are Kueue's. Deciding by them is hub/queueing/kueue.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from hub.api import kueue

Within = Literal["Never", "LowerPriority", "LowerOrNewerEqualPriority"]
Reclaim = Literal["Never", "LowerPriority", "Any"]


@dataclass(frozen=True, slots=True)
class Preemption:
    """`within`: whom of the own queue, `reclaim`: whom of the cohort.

    `borrow`: of the cohort also when the preemptor would borrow, but then only what has a lower priority than it and
    not more than `threshold`.
    """

    within: Within = "Never"
    reclaim: Reclaim = "Never"
    borrow: bool = False
    threshold: int | None = None


@dataclass(frozen=True, slots=True)
class Fungibility:
    """`borrowing_stops`, `preempting_stops`: a flavor that fits so ends the search for a better one.

    `avoid_borrowing`: of two flavors that both need something, the one that borrows less, not the one that preempts
    less.
    """

    borrowing_stops: bool = True
    preempting_stops: bool = False
    avoid_borrowing: bool = False


@dataclass(frozen=True, slots=True)
class CheckRule:
    """An admission check, and the flavors that it is asked for; none: all."""

    name: str
    flavors: tuple[str, ...] = ()


def read_preemption(spec: kueue.Preemption) -> Preemption:
    borrow = spec.borrowWithinCohort
    return Preemption(
        within=spec.withinClusterQueue,
        reclaim=spec.reclaimWithinCohort,
        borrow=borrow is not None and borrow.policy != "Never",
        threshold=borrow.maxPriorityThreshold if borrow is not None else None,
    )


def read_fungibility(spec: kueue.FlavorFungibility) -> Fungibility:
    return Fungibility(
        borrowing_stops=spec.whenCanBorrow == "MayStopSearch",
        preempting_stops=spec.whenCanPreempt == "MayStopSearch",
        avoid_borrowing=spec.preference == "PreemptionOverBorrowing",
    )


def read_checks(spec: kueue.AdmissionChecksStrategy | None) -> tuple[CheckRule, ...]:
    rules = spec.admissionChecks if spec is not None else ()
    return tuple(sorted((CheckRule(r.name, tuple(sorted(r.onFlavors))) for r in rules), key=lambda rule: rule.name))
