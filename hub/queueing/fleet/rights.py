"""Whether a queue's owner lets one job take from another: Kueue's preemption policies, for one pair at a time.

It knows nothing of entitlement: that the victim has less right to its quota than the preemptor is decided before; here
it is only said whether the owners allow to act on it, and by which of Kueue's reasons.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hub.queueing.fleet.claim import Option
from hub.queueing.kueue.preemption import Why
from hub.queueing.kueue.settings import FINAL, Strategy
from hub.queueing.objects import ClusterQueue, FlavorResource
from hub.queueing.tree import QuotaTree
from hub.queueing.usage import TreeUsage


@dataclass(frozen=True, slots=True)
class Party:
    """One of the two. `amounts`: what the preemptor asks for, or all that the victim would give back."""

    position: int
    priority: int
    created: float
    amounts: Option


def right(
    usage: TreeUsage,
    queues: Sequence[ClusterQueue | None],
    preemptor: Party,
    victim: Party,
    needed: frozenset[FlavorResource],
    strategies: Sequence[Strategy],
) -> Why | None:
    """None: not allowed now. `usage` is without the preemptor's request, with the victim. `needed`: what it lacks."""
    owner = queues[preemptor.position]
    assert owner is not None, "preemptors are in queues, never in cohorts"
    policy = owner.preemption
    if victim.position == preemptor.position:
        return "InClusterQueue" if _passes(policy.within, preemptor, victim) else None
    if not _passes(policy.reclaim, preemptor, victim):
        return None
    mine, theirs = parting(usage.tree, preemptor.position, victim.position)
    if any(usage.within(node, needed) for node in below(usage.tree, victim.position, theirs)):
        return None
    if strategies:
        return _fair(usage, preemptor, victim, needed, strategies, mine, theirs)
    if all(_holds(usage, preemptor.position, mine, key, value) for key, value in preemptor.amounts if key in needed):
        return "InCohortReclamation"
    if not policy.borrow or victim.priority >= preemptor.priority:
        return None
    too_high = policy.threshold is not None and victim.priority > policy.threshold
    return None if too_high else "InCohortReclaimWhileBorrowing"


def could(queue: ClusterQueue, same: bool) -> bool:
    """Whether jobs of the queue may ever take from others of the same queue, or of its cohort."""
    return (queue.preemption.within if same else queue.preemption.reclaim) != "Never"


def may_take(queue: ClusterQueue) -> bool:
    """Whether its jobs may ever take from anyone."""
    return could(queue, same=True) or could(queue, same=False)


def parting(tree: QuotaTree, one: int, other: int) -> tuple[int, int]:
    """The last nodes on the ways down to two queues that are not the same."""
    left, right = tree.paths[one], tree.paths[other]
    together = 0
    while together < min(len(left), len(right)) and left[-1 - together] == right[-1 - together]:
        together += 1
    return left[-1 - together], right[-1 - together]


def below(tree: QuotaTree, position: int, last: int) -> tuple[int, ...]:
    """From a queue up to `last`, both included."""
    path = tree.paths[position]
    return path[: path.index(last) + 1]


def _passes(policy: str, preemptor: Party, victim: Party) -> bool:
    if policy == "Never":
        return False
    if policy == "Any" or victim.priority < preemptor.priority:
        return True
    newer = policy == "LowerOrNewerEqualPriority" and victim.created > preemptor.created
    return newer and victim.priority == preemptor.priority


def _holds(usage: TreeUsage, position: int, last: int, key: FlavorResource, value: int) -> bool:
    """Whether the own quota of a node from the queue up to `last` is enough for what those below it do not hold."""
    for node in below(usage.tree, position, last):
        if not usage.borrows(node, key, value):
            return True
        value -= usage.unlent(node, key)
    return False


def _fair(
    usage: TreeUsage,
    preemptor: Party,
    victim: Party,
    needed: frozenset[FlavorResource],
    strategies: Sequence[Strategy],
    mine: int,
    theirs: int,
) -> Why | None:
    usage.add(preemptor.position, preemptor.amounts)
    try:
        if usage.within(preemptor.position, needed):
            return "InCohortReclamation"
        share, before = usage.share(mine), usage.share(theirs)
        usage.remove(victim.position, victim.amounts)
        after = usage.share(theirs)
        usage.add(victim.position, victim.amounts)
    finally:
        usage.remove(preemptor.position, preemptor.amounts)
    allowed = any(share <= after if strategy == FINAL else share < before for strategy in strategies)
    return "InCohortFairSharing" if allowed else None
