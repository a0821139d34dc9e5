"""What one job got so far in a cycle, over all of its turns, and what becomes of it: slices, or why it waits.

Slots are taken turn by turn; tasks are dealt over them at the end, so that the split does not depend on how many turns
it took.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from hub.api.reasons import Reason
from hub.planner.places import Option
from hub.planner.plan import Admission, Slice
from hub.planner.split import WAVES, deal, shares
from hub.queueing.demand import Demand, TaskGroup
from hub.queueing.objects import ClusterQueue
from hub.queueing.quotas import Denial


@dataclass(frozen=True, slots=True)
class Take:
    """`slots` of one cluster (its position; −1: no place was asked for). `waves`: so many tasks a slot at most."""

    cluster: int
    slots: int
    option: Option
    decision: str = ""
    waves: int = WAVES


@dataclass(slots=True, eq=False)
class Part:
    """Tasks that wait for the same attempt, and the slots that they got, or are promised once others are gone."""

    group: TaskGroup
    takes: list[Take] = field(default_factory=list)
    promised: int = 0

    @property
    def slots(self) -> int:
        return sum(take.slots for take in self.takes)

    @property
    def wanted(self) -> int:
        return len(self.group.tasks) - self.slots - self.promised

    @property
    def dealt(self) -> bool:
        """Whether every task has a slot to run on, if not at once."""
        return not self.promised and sum(take.slots * take.waves for take in self.takes) >= len(self.group.tasks)

    def add(self, takes: Sequence[Take]) -> None:
        for take in takes:
            for number, known in enumerate(self.takes):
                if (known.cluster, known.waves) == (take.cluster, take.waves) and known.option is take.option:
                    self.takes[number] = replace(known, slots=known.slots + take.slots)
                    break
            else:
                self.takes.append(take)


class Progress:
    """`held`: clusters that the job has, or has got. `denial`: why it got no more."""

    __slots__ = ("demand", "denial", "held", "parts", "placed", "queue")

    def __init__(self, demand: Demand, queue: ClusterQueue | None) -> None:
        self.demand, self.queue = demand, queue
        groups = demand.groups if len(demand.groups) == 1 else sorted(demand.groups, key=_group_order)
        self.parts = [Part(group) for group in groups]
        self.held = demand.running
        # Tasks by cluster, where the rule spreads them.
        self.placed = demand.placed
        self.denial: Denial | None = None

    @property
    def slots(self) -> int:
        return sum(part.slots for part in self.parts)

    @property
    def promised(self) -> int:
        return sum(part.promised for part in self.parts)

    def note(self, takes: Sequence[Take], names: Sequence[str]) -> None:
        for take in takes:
            if take.cluster >= 0 and names[take.cluster] not in self.held:
                self.held += (names[take.cluster],)
            if take.cluster >= 0 and self.demand.rule.spread:
                self.placed += ((names[take.cluster], take.slots),)

    def _counts(self, part: Part) -> list[int]:
        """How many tasks each of the part's takes gets; a gang is in one place, whole."""
        if self.demand.gang or not part.takes:
            return [len(part.group.tasks)] * len(part.takes)
        slots = [take.slots for take in part.takes]
        counts = shares(len(part.group.tasks), [*slots, part.promised] if part.promised else slots)[: len(slots)]
        return [min(count, take.slots * take.waves) for count, take in zip(counts, part.takes, strict=True)]

    def outcome(self, names: Sequence[str]) -> tuple[Admission | None, Denial | None]:
        """What the job is given, and why that is not all; no denial: nothing of it waits any more."""
        whole = self._whole(names)
        if whole is not None:
            return whole, None
        slices: list[Slice] = []
        left = False
        for part in self.parts:
            counts = self._counts(part)
            for tasks, take in zip(deal(part.group.tasks, counts), part.takes, strict=True):
                name = names[take.cluster] if take.cluster >= 0 else ""
                choice = take.option.choice
                slices.append(
                    Slice(
                        name, tasks, part.group.attempt, take.slots, choice.flavors, take.decision, take.option.domain,
                        choice.parts,
                    )
                )  # fmt: skip
            left = left or sum(counts) < len(part.group.tasks)
        assert self.queue is not None or not slices, "only a queue gives anything"
        admission = None
        if slices and self.queue is not None:
            admission = Admission(self.demand.key, self.queue.name, tuple(slices))
        if not left:
            return admission, None
        if self.denial is not None:
            return admission, self.denial
        active = self.demand.active + self.slots
        return admission, Denial(Reason.PARALLELISM_REACHED, (("active", active),))

    def _whole(self, names: Sequence[str]) -> Admission | None:
        """All that it asks for, where that is tasks of one kind in one place with a slot each; None: it is not so."""
        if len(self.parts) != 1 or self.queue is None:
            return None
        part = self.parts[0]
        tasks = part.group.tasks
        if len(part.takes) != 1 or part.promised or part.takes[0].slots != len(tasks):
            return None
        take = part.takes[0]
        choice = take.option.choice
        name = names[take.cluster] if take.cluster >= 0 else ""
        one = Slice(
            name, tasks, part.group.attempt, take.slots, choice.flavors, take.decision, take.option.domain, choice.parts
        )
        return Admission(self.demand.key, self.queue.name, (one,))


def _group_order(group: TaskGroup) -> tuple[int, tuple[str, ...], tuple[tuple[int, int], ...]]:
    """Retries first, so that what fails for good is known early."""
    return (-group.attempt, group.avoid, group.tasks.ranges)
