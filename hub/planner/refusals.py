"""Why tasks still wait, in one sentence with numbers: the reason that helps most. Pure.

Asked after a job took what it could, so something is short. What never changes by waiting comes first; then, where
quota is there but no room, the room; else the quota.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, Final

from hub.api.reasons import Reason
from hub.placement.rule import SpreadConstraint
from hub.planner.places import Option, Places, Wish, shape_at
from hub.planner.spreading import held_back
from hub.queueing.amount import readable
from hub.queueing.ledger import QuotaLedger
from hub.queueing.objects import pool
from hub.queueing.quotas import Denial

# A message names so many clusters, and counts the rest; of clusters that are too small, so many are looked into.
SHOWN: Final = 3
EXPLAINED: Final = 16


def shortage(places: Places, ledger: QuotaLedger, wish: Wish, options: tuple[Option, ...] | Denial) -> Denial:
    """The one reason for which not another task of `wish` can start now."""
    if isinstance(options, Denial):
        return options
    if not wish.demand.place:
        fitting = [o for o in options if _pays(ledger, wish, o)]
        return _no_quota(ledger, wish, fitting[0]) if fitting else _never_paid(ledger, wish, options[0])
    if not places.names:
        return Denial(Reason.NO_CLUSTERS, ())
    among = places.candidates(wish, [o for o in options if _pays(ledger, wish, o)])
    placeable = [o for o in options if (among & (o.capacity >= wish.together)).any()]
    fitting = [o for o in placeable if _pays(ledger, wish, o)]
    for option in fitting:
        if ledger.affordable(wish.queue.name, option.choice.requests, wish.together) >= wish.together:
            held = _uneven(places, wish, option)
            if held is not None:
                return held
            return Denial(Reason.WAITING_FOR_CAPACITY, (_shape(wish), ("detail", _full(places, wish, option))))
    if fitting:
        return _no_quota(ledger, wish, fitting[0])
    if placeable:
        return _never_paid(ledger, wish, placeable[0])
    return Denial(Reason.NO_CLUSTER_FITS, (_shape(wish), ("detail", _nowhere(places, wish, options))))


def _uneven(places: Places, wish: Wish, option: Option) -> Denial | None:
    """Where there is room, but only where the job's own rule allows no more of it yet."""
    rule = wish.demand.rule
    if not any(constraint.hard for constraint in rule.spread):
        return None
    among = places.candidates(wish, (option,))
    fitting = (among & (places.room(option) >= wish.together)).nonzero()[0].tolist()
    if not fitting:
        return None
    constraint = held_back(places.fleet, rule.spread, among.nonzero()[0].tolist(), fitting, wish.placed)
    if constraint is None:
        return None
    clusters = _listed([places.names[cluster] for cluster in fitting[:SHOWN]], len(fitting))
    return Denial(Reason.SPREAD_UNEVEN, tuple(uneven(constraint, clusters).items()))


def uneven(constraint: SpreadConstraint, clusters: str) -> dict[str, Any]:
    """The facts of `Reason.SPREAD_UNEVEN`."""
    kind = "claim" if constraint.claim else "label"
    return {"key": f"{kind} {constraint.key}", "skew": constraint.skew, "clusters": clusters}


def _pays(ledger: QuotaLedger, wish: Wish, option: Option) -> bool:
    return ledger.possible(wish.queue.name, option.choice.requests, wish.together)


def _no_quota(ledger: QuotaLedger, wish: Wish, option: Option) -> Denial:
    queue = wish.queue.name
    (flavor, resource), needed, available = min(
        ((key, each * wish.together, ledger.available(queue, key)) for key, each in option.choice.requests),
        # The resource that is shortest for its need; of equals, the first.
        key=lambda entry: entry[2] / entry[1],
    )
    return Denial(
        Reason.WAITING_FOR_QUOTA,
        (
            ("needed", readable(resource, needed)),
            ("resource", resource),
            ("flavor", flavor),
            ("available", readable(resource, available)),
            ("queue", queue),
            ("where", pool(queue, wish.queue.cohort)),
        ),
    )


def _never_paid(ledger: QuotaLedger, wish: Wish, option: Option) -> Denial:
    queue = wish.queue.name
    (flavor, resource), needed, limit = min(
        ((key, each * wish.together, ledger.potential(queue, key)) for key, each in option.choice.requests),
        key=lambda entry: entry[2] / entry[1],
    )
    return Denial(
        Reason.EXCEEDS_MAX_QUOTA,
        (
            ("needed", readable(resource, needed)),
            ("resource", resource),
            ("queue", queue),
            ("limit", readable(resource, limit)),
            ("flavor", flavor),
        ),
    )


def _shape(wish: Wish) -> tuple[str, str]:
    text = str(wish.demand.shape)
    if wish.together == 1:
        return "shape", text
    domain = wish.demand.shape.domain
    where = f"nodes of one cluster with one {domain}" if domain else "one cluster"
    return "shape", f"{wish.together} tasks at once on {where}, each {text}"


def _full(places: Places, wish: Wish, option: Option) -> str:
    """Clusters that could run it, the largest first, with how much of each is free."""
    among = places.candidates(wish, (option,)) & (option.capacity >= wish.together)
    room = places.room(option)
    order = sorted(among.nonzero()[0], key=lambda c: (-int(option.capacity[c]), places.names[c]))
    allowed, by = places.limit(option)
    parts = [f"{places.names[c]} has room for {int(room[c])} of {int(option.capacity[c])}" for c in order[:SHOWN]]
    if allowed is not None:
        free = places.fit(option)
        parts = [
            f"{places.names[c]} {limited(int(free[c]), by[int(c)], int(allowed[c]))}" if allowed[c] < free[c] else part
            for c, part in zip(order, parts, strict=False)
        ]
    return _listed(parts, len(order))


def _nowhere(places: Places, wish: Wish, options: Sequence[Option]) -> str:
    """What keeps clusters from it, the commonest first."""
    count: Counter[str] = Counter()
    example: dict[str, str] = {}
    for name, sentence in _obstacles(places, wish, options):
        count[sentence] += 1
        example.setdefault(sentence, name)
    order = sorted(count, key=lambda text: (-count[text], text))
    parts = [
        f"{example[text]}: {text}" if count[text] == 1 else f"{count[text]} clusters: {text}" for text in order[:SHOWN]
    ]
    return _listed(parts, len(order))


def _obstacles(places: Places, wish: Wish, options: Sequence[Option]) -> Iterator[tuple[str, str]]:
    """(cluster, why not a task of `wish` could ever run there, whatever it is paid from)."""
    explained = 0
    for cluster, (name, refused) in enumerate(places.verdicts(wish.demand.rule, wish.demand.running).items()):
        if refused:
            yield name, refused
            continue
        workers = places.workers(wish.queue.name)
        if workers is not None and not workers[cluster]:
            yield name, Reason.NOT_A_WORKER.message(queue=wish.queue.name)
            continue
        kept_out = places.filtered(wish.demand.rule, wish.demand.shape)[1].get(cluster)
        if kept_out is not None:
            yield name, Reason.FILTERED_BY_SCORER.message(scorer=kept_out)
            continue
        option = max(options, key=lambda o: int(o.capacity[cluster]))
        most = int(option.capacity[cluster])
        shape = shape_at(option, cluster)
        if most >= wish.together:
            continue
        if shape is None:
            yield name, Reason.FLAVOR_MISMATCH.message(flavor=flavor_names(option))
        elif most:
            yield name, Reason.TOO_SMALL_TOGETHER.message(capacity=most, wanted=wish.together)
        elif explained < EXPLAINED:
            explained += 1
            yield name, places.fleet.explain_fit(name, shape).message
        else:
            yield name, "no node that could ever hold a task"


def limited(room: int, scorer: str, allowed: int) -> str:
    return Reason.LIMITED_BY_SCORER.message(room=room, scorer=scorer, allowed=allowed)


def flavor_names(option: Option) -> str:
    return ", ".join(sorted({flavor for _, flavor in option.choice.flavors}))


def _listed(parts: Sequence[str], count: int) -> str:
    return "; ".join(parts) + (f"; and {count - len(parts)} more" if count > len(parts) else "")
