"""How many tasks of a job each cluster takes where its rule spreads them over topologies.

Tasks are dealt one after the other, each to the best cluster with room that breaks no hard constraint and as few soft
ones as possible; what the job has running counts. Topologies are those of all clusters that the job may use, full ones
too: one that takes no more holds the others back if the constraint is hard, as it does for pods of a Deployment.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence

from hub.fleet.fleet import Fleet
from hub.placement.rule import SpreadConstraint
from hub.placement.spread import NOWHERE, breaks, topologies_of

Placed = Iterable[tuple[str, int]]


def spread_slots(
    fleet: Fleet,
    constraints: Sequence[SpreadConstraint],
    candidates: Iterable[int],
    order: Sequence[int],
    room: Mapping[int, int],
    wanted: int,
    placed: Placed,
    *,
    clusters: int | None = None,
    held: Iterable[int] = (),
) -> dict[int, int]:
    """Cluster (position in `fleet.names`) → tasks, in the order in which they were first taken.

    `order`: clusters with `room` for at least one, best first. `candidates`: all that the job may use. `placed`: tasks
    that clusters hold already. At most `clusters` different ones, `held` included; None: as many as it takes.
    """
    columns = [topologies_of(fleet, constraint) for constraint in constraints]
    counts = _counts(fleet, columns, candidates, placed)
    # Of clusters with the same topologies only the best with room is ever looked at.
    classes: dict[tuple[str, ...], deque[int]] = {}
    for position in order:
        classes.setdefault(tuple(column[position] for column in columns), deque()).append(position)
    rank = {position: at for at, position in enumerate(order)}
    used = set(held)
    taken: dict[int, int] = {}
    while wanted > 0 and classes:
        least = [min(known.values(), default=0) for known in counts]
        best: tuple[int, int] | None = None
        where: tuple[str, ...] | None = None
        for key in list(classes):
            first = _first(classes[key], used, clusters)
            if first is None:
                del classes[key]
                continue
            broken = breaks(constraints, key, counts, least)
            if broken is not None and (best is None or (broken, rank[first]) < best):
                best, where = (broken, rank[first]), key
        if where is None:
            break
        position = classes[where][0]
        taken[position] = taken.get(position, 0) + 1
        used.add(position)
        wanted -= 1
        for topology, known in zip(where, counts, strict=True):
            if topology != NOWHERE:
                known[topology] += 1
        if taken[position] >= room[position]:
            classes[where].popleft()
    return taken


def held_back(
    fleet: Fleet,
    constraints: Sequence[SpreadConstraint],
    candidates: Iterable[int],
    fitting: Iterable[int],
    placed: Placed,
) -> SpreadConstraint | None:
    """The hard constraint that keeps one more task from every cluster of `fitting`; None: it can start somewhere."""
    columns = [topologies_of(fleet, constraint) for constraint in constraints]
    counts = _counts(fleet, columns, candidates, placed)
    least = [min(known.values(), default=0) for known in counts]
    blame: SpreadConstraint | None = None
    for position in fitting:
        where = tuple(column[position] for column in columns)
        if breaks(constraints, where, counts, least) is not None:
            return None
        for number, constraint in enumerate(constraints):
            alone = breaks([constraint], where[number : number + 1], counts[number : number + 1], least[number:])
            if alone is None:
                blame = blame or constraint
    return blame


def _counts(
    fleet: Fleet, columns: Sequence[Sequence[str]], candidates: Iterable[int], placed: Placed
) -> list[Counter[str]]:
    among = list(candidates)
    counts = [Counter({column[at]: 0 for at in among if column[at] != NOWHERE}) for column in columns]
    for name, tasks in placed:
        if name not in fleet:
            continue
        for column, known in zip(columns, counts, strict=True):
            topology = column[fleet.position(name)]
            if topology != NOWHERE:
                known[topology] += tasks
    return counts


def _first(waiting: deque[int], used: set[int], clusters: int | None) -> int | None:
    """The best of them that may be used; the others are dropped for good: a limit that is reached stays reached."""
    while waiting:
        if clusters is None or len(used) < clusters or waiting[0] in used:
            return waiting[0]
        waiting.popleft()
    return None
