"""Why a workload is admitted or waits, in mode kueue: its place in its queue, the quota path up the cohort tree, every
flavor with its verdict, and the smallest change of quota that would admit it.

Looked at before the first cycle, concluded with what the cycles decided. The decision itself is hub/queueing/kueue.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from hub.api.quantity import Quantity
from hub.api.reasons import Reason
from hub.queueing.amount import UNLIMITED, amount, minus, plus, quantity, readable
from hub.queueing.kueue.assignment import Considered, Mode
from hub.queueing.kueue.cycle import Scheduler
from hub.queueing.kueue.standing import Standing
from hub.queueing.kueue.workload import Workload
from hub.queueing.objects import ClusterQueue, FlavorResource

Json = dict[str, Any]
# How many quotas are raised, one by one, to see whether that would do; each is a plan of its own.
_TRIES: Final = 4
_WORDS: Final = {
    Mode.FIT: "Fits",
    Mode.RECLAIM: "Reclaims",
    Mode.PREEMPT: "Preempts",
    Mode.NO_CANDIDATES: "NobodyToPreempt",
    Mode.NO_FIT: "NoFit",
}


def look(scheduler: Scheduler, key: str) -> Json | None:
    """What is known of a workload that waits or holds quota before anything is decided; None: there is none."""
    roster = scheduler.roster
    holder = roster.holder(key)
    if holder is not None:
        wanted = dict.fromkeys(flavor_resource for flavor_resource, _ in holder.amounts)
        return _document(scheduler, holder.workload, holder.cluster_queue, wanted, {"phase": "QuotaReserved"})
    found = next(((w, parked) for w, parked in roster.waiting if w.key == key), None)
    if found is None:
        return None
    workload = found[0]
    queue = roster.verdicts[key].queue
    if queue not in roster.places:
        return _document(scheduler, workload, queue, {}, {"phase": "Pending"})
    _, victims, notes = scheduler.considered(queue, workload)
    wanted = dict.fromkeys((note.flavor, name) for note in notes if note.refused is None for name, _ in note.needs)
    document = _document(scheduler, workload, queue, wanted, {"phase": "Pending"})
    standing, position = roster.places[queue][0].standing, roster.places[queue][1]
    document["flavorVerdicts"] = [_flavor(standing, position, queue, note) for note in notes]
    document["flavorVerdicts"] += _untried(roster.quotas.queues[queue], notes)
    document["wouldPreempt"] = sorted(victim.held.key for victim in victims)
    return document


def conclude(found: Json, key: str, plan: Mapping[str, Any]) -> Json:
    """With the last word of the plan's cycles."""
    for cycle in plan["cycles"]:
        for row in cycle["admitted"]:
            if row["workload"] == key:
                parts = row["admission"]["podSetAssignments"]
                verdict = {"admitted": [_part(part) for part in parts], "reason": "", "message": "", "advice": ""}
                return found | {"phase": "QuotaReserved", "verdict": verdict}
    rows = [row for row in plan["cycles"][-1]["pending"] if row["workload"] == key]
    taken = [r for cycle in plan["cycles"] for r in cycle["preempted"] if r["workload"] == key]
    verdict = {"admitted": [], "reason": "", "message": "", "advice": ""}
    if taken and not rows:
        verdict |= {"reason": taken[-1]["reason"], "message": f"preempted for {taken[-1]['preemptor']}"}
    elif rows:
        reason = next((one for one in Reason if one.code == rows[0]["reason"]), None)
        verdict |= {"reason": rows[0]["reason"], "message": rows[0]["message"], "advice": _advice(reason)}
    return found | {"verdict": verdict}


def smallest_change(found: Json, key: str, decide: Callable[[str, FlavorResource, int], Json]) -> str:
    """The least that a nominal quota of its ClusterQueue has to grow for it to be admitted in as many cycles.

    `decide`: the plan with a ClusterQueue's quota of a flavor and resource grown by an amount. Empty: none of the few
    that are tried would do.
    """
    lacking: list[tuple[float, str, str, int]] = []
    for line in found.get("flavorVerdicts") or ():
        short = [(n["resource"], n["short"]) for n in line.get("needs") or () if n["short"] > 0]
        if len(short) == 1:
            resource, more = short[0]
            need = next(n["amount"] for n in line["needs"] if n["resource"] == resource)
            lacking.append((more / max(need, 1), line["flavor"], resource, more))
    # Where others are admitted before it, what it lacks alone is not enough.
    tries = [(*one, one[3] * times) for times in (1, 2) for one in sorted(set(lacking))[:_TRIES]]
    for _, flavor, resource, _, more in tries:
        queue = str(found["clusterQueue"])
        plan = decide(queue, (flavor, resource), more)
        if any(row["workload"] == key for cycle in plan["cycles"] for row in cycle["admitted"]):
            by = readable(resource, more, up=True)
            return f"raise nominalQuota of {resource} of flavor {flavor} in ClusterQueue {queue} by {by}"
    return ""


def grown(queue: Mapping[str, Any], key: FlavorResource, more: int) -> Json:
    """A ClusterQueue object with more nominal quota of one flavor and resource."""
    flavor, resource = key

    def quota(entry: Mapping[str, Any]) -> Json:
        if entry.get("name") != resource:
            return dict(entry)
        has = amount(resource, Quantity(entry.get("nominalQuota") or 0))
        return {**entry, "nominalQuota": str(quantity(resource, plus(has, more)))}

    def flavors(group: Mapping[str, Any]) -> list[Json]:
        return [
            {**f, "resources": [quota(entry) for entry in f.get("resources") or ()]}
            if f.get("name") == flavor
            else dict(f)
            for f in group.get("flavors") or ()
        ]

    spec = queue.get("spec") or {}
    groups = [{**group, "flavors": flavors(group)} for group in spec.get("resourceGroups") or ()]
    return {**queue, "spec": {**spec, "resourceGroups": groups}}


def _document(
    scheduler: Scheduler, workload: Workload, queue: str, wanted: Iterable[FlavorResource], more: Json
) -> Json:
    roster = scheduler.roster
    heaviness = roster.heaviness(queue) if queue in roster.places else None

    def rank(one: Workload) -> tuple[Any, ...]:
        return (heaviness((one.namespace, one.queue)) if heaviness else 0.0, *one.order)

    line = [w for w, _ in roster.waiting if roster.verdicts[w.key].queue == queue]
    ahead = sum(1 for other in line if rank(other) < rank(workload))
    return more | {
        "localQueue": f"{workload.namespace}/{workload.queue}",
        "clusterQueue": queue,
        "priority": workload.priority,
        "position": ahead + 1 if more["phase"] == "Pending" else 0,
        "waiting": len(line),
        "aheadInClusterQueue": ahead,
        "smallestChange": "",
        "nextBest": None,
        "elsewhere": None,
        "quota": list(_quota_lines(scheduler, queue, wanted)),
        "flavors": [],
        "flavorVerdicts": [],
        "wouldPreempt": [],
        "filters": [],
        "scorers": [],
        "clusters": [],
        "problems": {},
    }


def _quota_lines(scheduler: Scheduler, queue: str, wanted: Iterable[FlavorResource]) -> Iterator[Json]:
    """From the queue up: what each node owns, lends, may borrow, uses, and has left for this queue."""
    place = scheduler.roster.places.get(queue)
    if place is None:
        return
    usage = place[0].standing.usage
    tree = usage.tree
    for flavor, resource in wanted:
        key = (flavor, resource)
        for number in tree.paths[place[1]]:
            node = tree.nodes[number]
            used, subtree = usage.used[number].get(key, 0), node.subtree.get(key, 0)
            owned = node.nominal.get(key, 0) if node.is_queue else subtree
            root = node.parent < 0
            yield {
                "node": node.name,
                "kind": "ClusterQueue" if node.is_queue else "Cohort",
                "flavor": flavor,
                "resource": resource,
                "nominal": _shown(resource, node.nominal.get(key, 0)),
                "subtree": _shown(resource, subtree),
                "lendable": None if root else _shown(resource, max(0, minus(subtree, node.local.get(key, 0)))),
                "borrowingLimit": _shown(resource, node.limits.get(key)),
                "used": _shown(resource, used),
                "borrowed": _shown(resource, 0 if root else max(0, minus(used, owned))),
                "available": _shown(resource, usage.available(number, key)),
            }


def _flavor(standing: Standing, position: int, queue: str, note: Considered) -> Json:
    usage, tree = standing.usage, standing.tree
    row: Json = {"podSets": list(note.pod_sets), "flavor": note.flavor, "verdict": _WORDS[note.mode], "needs": []}
    if note.refused is not None:
        return row | {"verdict": "NoMatch", "borrowsFrom": None, "message": note.refused.message(queue)}
    words = []
    for resource, needed in note.needs:
        key = (note.flavor, resource)
        free, most = usage.available(position, key), tree.potential(position, key)
        short = max(0, minus(needed, usage.slack(position, key)))
        row["needs"].append({
            "resource": resource, "amount": needed, "short": short,
            "needs": _shown(resource, needed), "available": _shown(resource, free), "atMost": _shown(resource, most),
        })  # fmt: skip
        if needed > most:
            words.append(
                f"{readable(resource, needed)} {resource} is more than the {readable(resource, most)} it may have"
            )
        elif short:
            words.append(f"lacks {readable(resource, short, up=True)} {resource}")
    above = [tree.nodes[n].name for n in tree.paths[position][1:] if tree.heights[n] == note.reach]
    borrowed = above[0] if note.reach and above else None
    if borrowed and note.mode is not Mode.NO_FIT:
        words.append(f"borrows in cohort {borrowed}")
    return row | {"borrowsFrom": borrowed, "message": "; ".join(words)}


def _untried(queue: ClusterQueue, notes: Sequence[Considered]) -> Iterator[Json]:
    """Flavors after the one that was good enough."""
    seen = {note.flavor for note in notes}
    for group in queue.groups:
        if not seen.intersection(group.flavors):
            continue
        for name in group.flavors:
            if name not in seen:
                yield {
                    "podSets": [], "flavor": name, "verdict": "NotTried", "needs": [], "borrowsFrom": None,
                    "message": "a flavor before it was good enough",
                }  # fmt: skip


def _part(part: Mapping[str, Any]) -> Json:
    count = part["count"]
    return {
        "cluster": "", "tasks": f"{count} of {part['name']}", "slots": count, "attempt": 1, "flavors": part["flavors"],
    }  # fmt: skip


def _advice(reason: Reason | None) -> str:
    return "" if reason is None or "{" in reason.advice else reason.advice


def _shown(resource: str, value: int | None) -> str | None:
    if value is None:
        return None
    return "unlimited" if value >= UNLIMITED else str(quantity(resource, value))
