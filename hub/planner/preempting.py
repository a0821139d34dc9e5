"""Preemptions as the plan says them: a slice, Kueue's word for why, and a sentence for the people whose job it was."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from hub.api.reasons import Reason
from hub.planner.places import Wish
from hub.planner.plan import Preemption
from hub.planner.victims import Victim
from hub.queueing.quotas import Denial

# A message names so many jobs, and counts the rest.
_SHOWN: Final = 3
SHRINKS: Final = "ElasticShrink"
"""Why an elastic job gives slots back: none of Kueue's reasons for a preemption, for it is none."""


def preemption(victim: Victim, wish: Wish) -> Preemption:
    held = victim.held
    if victim.why is None:
        return shrunk_for(victim, wish.demand.key)
    return Preemption(
        key=held.key,
        uid=held.uid,
        work=held.work,
        epoch=held.epoch,
        cluster=held.cluster,
        queue=held.queue,
        preemptor=wish.demand.key,
        reason=victim.why,
        message=_sentence(victim, wish),
    )


def too_large(victim: Victim, most: int) -> Preemption:
    """An elastic job gives back what is beyond its own maximum."""
    found = shrunk_for(victim, "")
    return replace(found, message=f"its maximum is {most} now")


def shrunk_for(victim: Victim, key: str) -> Preemption:
    """An elastic job gives back what another job is entitled to."""
    held = victim.held
    return Preemption(
        key=held.key,
        uid=held.uid,
        work=held.work,
        epoch=held.epoch,
        cluster=held.cluster,
        queue=held.queue,
        preemptor=key,
        reason=SHRINKS,
        message=_given(victim, key),
        shrinks=True,
        kept=victim.kept,
    )


def waits_for(keys: Sequence[str]) -> Denial:
    """Of a job whose place and quota others are leaving."""
    return Denial(Reason.WAITING_FOR_PREEMPTED, (("victims", _listed(keys)),))


def kept_for(keys: Sequence[str]) -> Denial:
    """Of a job that would fit, were what it needs not promised to these."""
    return Denial(Reason.KEPT_FOR_OTHERS, (("jobs", _listed(keys)),))


def _listed(keys: Sequence[str]) -> str:
    return ", ".join(keys[:_SHOWN]) + (f" and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else "")


def _given(victim: Victim, key: str) -> str:
    held = victim.held
    given, least = held.slots - victim.kept, held.bounds[0] if held.bounds is not None else 1
    slots = "1 slot goes" if given == 1 else f"{given} slots go"
    return f"{slots} to {key}, which is entitled to what elastic jobs have above their minimum (here {least})"


def _sentence(victim: Victim, wish: Wish) -> str:
    held, demand, queue = victim.held, wish.demand, wish.queue.name
    assert victim.why is not None, "who only gives back is told otherwise"
    why = {
        "InClusterQueue": f"{demand.key} goes before it in ClusterQueue {queue} (priority {demand.priority}; "
        f"its own {held.priority})",
        "InCohortReclamation": f"ClusterQueue {queue} takes back what it owns for {demand.key}; "
        f"ClusterQueue {held.queue} had borrowed it",
        "InCohortFairSharing": f"ClusterQueue {queue} has less than its fair share and ClusterQueue {held.queue} "
        f"borrows more; {demand.key} is next",
        "InCohortReclaimWhileBorrowing": f"{demand.key} of ClusterQueue {queue} (priority {demand.priority}) may "
        f"borrow before it (priority {held.priority})",
    }[victim.why]
    return f"{why}; {victim.kept} of its {held.slots} slots are kept for it" if victim.kept else why
