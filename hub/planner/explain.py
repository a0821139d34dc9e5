"""Why a job is where it is, or waits: the same cycle, stopped at the job's turn, and everything it could see then.

No second opinion: the numbers are those of the ledger, the fleet and the scorers that decide. What would have to change
is found by deciding again (hub/planner/whatif.py).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from hub.api.errors import UsageError
from hub.api.reasons import Reason
from hub.placement.filters import avoided, avoids, verdicts
from hub.planner.cycle import Cycle
from hub.planner.explanation import ClusterLine, Explanation, FlavorLine, QuotaLine, ScoreLine
from hub.planner.flips import nearest_flip
from hub.planner.places import Option, Wish, shape_at
from hub.planner.plan import Snapshot
from hub.planner.refusals import flavor_names, uneven
from hub.planner.spreading import held_back
from hub.planner.whatif import smallest_change
from hub.queueing.amount import minus
from hub.queueing.demand import Demand
from hub.queueing.ledger import QuotaLedger
from hub.queueing.objects import ClusterQueue, FlavorResource
from hub.queueing.quotas import Denial, Quotas
from hub.scoring.combine import Ranking


def explain(snapshot: Snapshot, key: str) -> Explanation:
    """Of the job `key` (``namespace/name``), which must ask for something. Raises `UsageError` if none does."""
    cycle = Cycle(snapshot)
    ordered = cycle.ordered
    position = next((number for number, demand in enumerate(ordered) if demand.key == key), None)
    if position is None:
        raise UsageError(f"{key} waits for nothing", hint="Only jobs with tasks to place are decided about.")
    demand, before = ordered[position], ordered[:position]
    cycle.run(until=key)
    queue = cycle.route(demand)
    name = queue.name if isinstance(queue, ClusterQueue) else dict(queue.facts).get("queue", "")
    ahead = 0
    quota: tuple[QuotaLine, ...] = ()
    flavors: tuple[FlavorLine, ...] = ()
    clusters: tuple[ClusterLine, ...] = ()
    ranking: Ranking | None = None
    problems = {**snapshot.fleet.problems, **snapshot.quotas.problems, **snapshot.sets.problems}
    if isinstance(queue, ClusterQueue):
        ahead = sum(_same_queue(cycle, earlier, queue) for earlier in before)
        wish = _wish(demand, queue)
        options = cycle.options(queue, demand)
        options = () if isinstance(options, Denial) else options
        wanted = dict.fromkeys(key for option in options for key, _ in option.choice.requests)
        quota = tuple(quota_lines(snapshot.quotas, cycle.ledger, queue.name, wanted))
        flavors = tuple(_flavor(cycle, wish, option) for option in options)
        if demand.place:
            clusters, ranking = _clusters(cycle, wish, options)
            problems |= dict(ranking.problems) if ranking is not None else {}
    cycle.run()
    decided = cycle.plan()
    admission = next((entry for entry in decided.admissions if entry.key == key), None)
    refusal = next((entry for entry in decided.refusals if entry.key == key), None)
    change = smallest_change(snapshot, demand, refusal) if refusal is not None else None
    next_best, flip = None, None
    if admission is not None and demand.place:
        chosen = {part.cluster for part in admission.slices}
        next_best = _next_best(ranking, chosen)
        flip = nearest_flip(snapshot, demand, chosen, ranking, _others(clusters, chosen))
    return Explanation(
        key=key,
        local_queue=demand.queue,
        queue=str(name),
        priority=demand.priority,
        position=position + 1,
        waiting=len(ordered),
        ahead=ahead,
        admission=admission,
        refusal=refusal,
        change="" if change is None else change.words,
        quota=quota,
        flavors=flavors,
        clusters=clusters,
        problems=tuple(sorted(problems.items())),
        next_best=next_best,
        flip=flip,
    )


def _next_best(ranking: Ranking | None, chosen: Collection[str]) -> tuple[str, float] | None:
    if ranking is None:
        return None
    last = next((name for name in reversed(ranking.ordered) if name in chosen), None)
    best = next((name for name in ranking.ordered if name not in chosen), None)
    if last is None or best is None:
        return None
    totals = dict(zip(ranking.names, ranking.total.tolist(), strict=True))
    return best, totals[last] - totals[best]


def _others(clusters: Iterable[ClusterLine], chosen: Collection[str]) -> list[str]:
    """Who might be chosen instead: by rank, then those without room, then those that a filter removes."""
    left = [line for line in clusters if line.cluster not in chosen]
    return [
        line.cluster
        for line in sorted(left, key=lambda line: (not line.rank, line.rank, line.room is None, line.cluster))
    ]


def _same_queue(cycle: Cycle, demand: Demand, queue: ClusterQueue) -> bool:
    found = cycle.route(demand)
    return isinstance(found, ClusterQueue) and found.name == queue.name


def _wish(demand: Demand, queue: ClusterQueue) -> Wish:
    """As the cycle asks first: of the tasks that were tried most often, all at once for a gang."""
    avoid = max(demand.groups, key=lambda group: (group.attempt, group.avoid)).avoid
    together = 1
    if demand.gang:
        avoid = tuple(sorted({name for group in demand.groups for name in group.avoid}))
        together = max(1, min(demand.slots, demand.waiting))
    return Wish(demand, queue, avoid, together, demand.running, demand.placed)


def quota_lines(
    quotas: Quotas, ledger: QuotaLedger, queue: str, wanted: Iterable[FlavorResource]
) -> Iterable[QuotaLine]:
    """From the queue up its cohorts, of each flavor and resource that is wanted."""
    tree = quotas.trees[queue]
    for flavor, resource in wanted:
        key = (flavor, resource)
        for number in tree.paths[tree.position[queue]]:
            node = tree.nodes[number]
            used = ledger.usage_at(tree, number).get(key, 0)
            subtree = node.subtree.get(key, 0)
            owned = node.nominal.get(key, 0) if node.is_queue else subtree
            yield QuotaLine(
                node=node.name,
                kind="ClusterQueue" if node.is_queue else "Cohort",
                flavor=flavor,
                resource=resource,
                nominal=node.nominal.get(key, 0),
                subtree=subtree,
                lendable=None if node.parent < 0 else max(0, minus(subtree, node.local.get(key, 0))),
                borrowing_limit=node.limits.get(key),
                used=used,
                borrowed=max(0, minus(used, owned)) if node.parent >= 0 else 0,
                available=ledger.available_at(tree, number, key),
            )


def _flavor(cycle: Cycle, wish: Wish, option: Option) -> FlavorLine:
    room = capacity = None
    if wish.demand.place:
        among = cycle.places.candidates(wish, (option,))
        room = int(cycle.places.room(option)[among].sum())
        capacity = int(option.capacity[among].sum())
    most = cycle.ledger.affordable(wish.queue.name, option.choice.requests, max(wish.demand.slots, 1))
    return FlavorLine(
        flavors=option.choice.flavors,
        needed=tuple((resource, each) for (_, resource), each in option.choice.requests),
        affordable=most,
        possible=cycle.ledger.possible(wish.queue.name, option.choice.requests, wish.together),
        room=room,
        capacity=capacity,
    )


def _clusters(cycle: Cycle, wish: Wish, options: Sequence[Option]) -> tuple[tuple[ClusterLine, ...], Ranking | None]:
    """Every cluster in name order, by the first flavors that have room, and how those with room are ranked, which is
    against each other, as the cycle does it. Full ones are scored for people, against all that may be asked."""
    places, demand = cycle.places, wish.demand
    snapshot = cycle.snapshot
    against = verdicts(places.fleet, snapshot.sets, demand.rule, snapshot.now, demand.running)
    possible = [o for o in options if cycle.ledger.possible(wish.queue.name, o.choice.requests, wish.together)]
    among = places.candidates(wish, possible)
    rooms = [places.room(option) for option in options]
    shown = 0
    for number, option in enumerate(options):
        pays = cycle.ledger.affordable(wish.queue.name, option.choice.requests, wish.together) >= wish.together
        if pays and (among & (rooms[number] >= wish.together)).any():
            shown = number
            break
    ranking: Ranking | None = None
    everyone: Ranking | None = None
    ranks: dict[int, int] = {}
    if options:
        fits = among & (rooms[shown] >= wish.together)
        everyone = places.ranking(demand.rule, options[shown], demand.slots, among)
        ranking = places.ranking(demand.rule, options[shown], demand.slots, fits)
        ranks = {cluster: number for number, cluster in enumerate(ranking.order.tolist(), 1)}
    lines = []
    workers = places.workers(wish.queue.name)
    for cluster, name in enumerate(places.names):
        verdict = against[name]
        code = message = ""
        room = capacity = None
        if verdict is not None:
            code, message = verdict[0].code, verdict[0].message(**verdict[1])
        elif workers is not None and not workers[cluster]:
            code, message = _said(Reason.NOT_A_WORKER, queue=wish.queue.name)
        elif options:
            room, capacity = int(rooms[shown][cluster]), int(options[shown].capacity[cluster])
            code, message = _fit(cycle, wish, options[shown], cluster, bool(among[cluster]), room)
            if not code and among[cluster]:
                code, message = _preference(cycle, wish, cluster, among)
        by = (ranking if cluster in ranks else everyone) if among[cluster] else None
        lines.append(
            ClusterLine(
                cluster=name,
                code=code,
                message=message,
                room=room,
                capacity=capacity,
                rank=ranks.get(cluster, 0),
                total=float(by.total[cluster]) if by is not None else None,
                scores=_scores(by, cluster) if by is not None else (),
            )
        )
    return tuple(lines), ranking


def _fit(cycle: Cycle, wish: Wish, option: Option, cluster: int, asked: bool, room: int) -> tuple[str, str]:
    name, wanted = cycle.places.names[cluster], wish.together
    if not asked and name in wish.avoid:
        tasks = next((str(group.tasks) for group in wish.demand.groups if name in group.avoid), "")
        return _said(Reason.EXCLUDED_AFTER_FAILURE, tasks=tasks)
    kept_out = cycle.places.filtered(wish.demand.rule, wish.demand.shape)[1].get(cluster)
    if not asked and kept_out is not None:
        return _said(Reason.FILTERED_BY_SCORER, scorer=kept_out)
    if not asked:
        limit, clusters = wish.demand.rule.limit, ", ".join(wish.held)
        return _said(Reason.CLUSTER_LIMIT_REACHED, limit=limit, clusters=clusters)
    shape = shape_at(option, cluster)
    if shape is None:
        return _said(Reason.FLAVOR_MISMATCH, flavor=flavor_names(option))
    if room >= wanted:
        return "", ""
    free = int(cycle.places.fit(option)[cluster])
    allowed, by = cycle.places.limit(option)
    if free >= wanted and allowed is not None and allowed[cluster] < wanted:
        return _said(Reason.LIMITED_BY_SCORER, room=free, scorer=by[cluster], allowed=int(allowed[cluster]))
    verdict = cycle.places.fleet.explain_fit(name, shape)
    if verdict.reason is not None:
        return verdict.reason.code, verdict.message
    if option.capacity[cluster] < wanted:
        return _said(Reason.TOO_SMALL_TOGETHER, capacity=int(option.capacity[cluster]), wanted=wanted)
    return _said(Reason.NO_ROOM_TOGETHER, room=room, wanted=wanted)


def _preference(cycle: Cycle, wish: Wish, cluster: int, among: NDArray[np.bool_]) -> tuple[str, str]:
    """What keeps tasks from a cluster that has room for them: for now, or while there are others."""
    rule, fleet, name = wish.demand.rule, cycle.places.fleet, cycle.places.names[cluster]
    if rule.spread and wish.together == 1:
        constraint = held_back(fleet, rule.spread, among.nonzero()[0].tolist(), [cluster], wish.placed)
        if constraint is not None:
            return _said(Reason.SPREAD_UNEVEN, **uneven(constraint, name))
    if avoided(fleet, rule)[cluster]:
        taint = next(taint for taint in fleet.facts(name).taints if avoids(taint, rule.tolerations))
        return _said(Reason.CLUSTER_AVOIDED, taint=str(taint))
    return "", ""


def _said(reason: Reason, **facts: object) -> tuple[str, str]:
    return reason.code, reason.message(**facts)


def _scores(ranking: Ranking, cluster: int) -> tuple[ScoreLine, ...]:
    return tuple(
        ScoreLine(
            scorer=column.name,
            weight=column.weight,
            raw=_known(column.raw[cluster]),
            normalised=_known(column.normalised[cluster]),
            weighted=float(column.weighted[cluster]),
        )
        for column in ranking.columns
    )


def _known(value: np.float64) -> float | None:
    return None if math.isnan(value) else float(value)
