"""`quarterdeck plan` as one document: cycles of decisions, and what they leave behind.

Every list has a total order and every number comes from the values that decided, so the same input gives the same
bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, Final, Literal

from hub.api import names
from hub.api.reasons import Reason
from hub.api.resource import PLACEMENT_DECISIONS, PLACEMENTS
from hub.api.timestamps import format_micro_time, format_time, from_timestamp
from hub.controllers.foreign_workload import UNPLACED, admission, job_admission
from hub.planner.cycle import in_order, plan
from hub.planner.plan import Admission, Plan, Refusal, Snapshot
from hub.queueing.amount import quantity
from hub.queueing.demand import Demand
from hub.queueing.ledger import QuotaLedger, Usage
from hub.queueing.objects import ClusterQueue, FlavorResource
from hub.queueing.quotas import Quotas
from hub.queueing.shares import share
from hub.server.departures import Departure
from hub.server.placements import placement_documents
from hub.server.reading import Objects
from hub.server.snapshot import Job, State

Json = dict[str, Any]
SETTLE: Final = 1000
"""`settle` gives up after so many cycles."""

# Waiting alone changes nothing about these.
_PERMANENT: Final = frozenset(
    {
        Reason.EXCEEDS_MAX_QUOTA,
        Reason.NO_MATCHING_FLAVOR,
        Reason.QUEUE_NOT_FOUND,
        Reason.QUEUE_INACTIVE,
        Reason.NAMESPACE_MISMATCH,
        Reason.NO_CLUSTERS,
        Reason.NO_CLUSTER_FITS,
        Reason.INVALID_SPEC,
        Reason.SUSPENDED,
    }
)


def plan_document(objects: Objects, state: State, cycles: int | Literal["settle"] = 1) -> Json:
    """Decides `cycles` times, one second apart, and says what happened. `state` is afterwards as decided."""
    at = state.now
    done: list[Json] = []
    settled = False
    for number in range(1, (SETTLE if cycles == "settle" else cycles) + 1):
        due = state.due()
        snapshot = state.snapshot()
        decided = _decide(state, snapshot)
        preempted = {entry.key for entry in decided.preemptions}
        leaving = [one for one in due if one.key not in preempted]
        done.append(_cycle(number, state, snapshot, decided, leaving))
        state.carry_out(decided)
        state.depart(leaving)
        state.now += 1.0
        settled = not (decided.admissions or decided.preemptions or decided.growths or leaving)
        if settled and cycles == "settle":
            break
    state.now -= 1.0
    final = state.snapshot()
    return {
        "kind": "Plan",
        "apiVersion": names.API_VERSION,
        "now": moment_of(at),
        "mode": "fleet",
        "cycles": done,
        "settled": settled,
        "queues": _queues(final),
        "placements": placement_documents(final, objects.of(PLACEMENTS), objects.of(PLACEMENT_DECISIONS)),
        "jobs": [
            job_row(job) for job in sorted(state.jobs.values(), key=lambda job: (str(job.seen.ref), job.seen.ref.kind))
        ],
        "ignored": sorted(objects.ignored),
    }


def _decide(state: State, snapshot: Snapshot) -> Plan:
    """As the live hub: one at a time, and nothing at all, where what is admitted has to be up first."""
    ready = state.rules.ready
    if ready is None or not ready.block:
        return plan(snapshot)
    decided = state.way.outlook(snapshot)
    if len(decided.admissions) < 2:
        return decided
    first, *rest = decided.admissions
    why = (("detail", first.key),)
    told = {refusal.key for refusal in decided.refusals}
    more = (Refusal(one.key, Reason.WAITING_FOR_PODS_READY, why) for one in rest if one.key not in told)
    return replace(decided, admissions=(first,), refusals=(*decided.refusals, *more))


def _cycle(number: int, state: State, snapshot: Snapshot, decided: Plan, leaving: Iterable[Departure]) -> Json:
    demands = {demand.key: demand for demand in snapshot.demands}
    pending = [_pending(state, snapshot, demands[refusal.key], refusal) for refusal in decided.refusals]
    pending += [
        _pending(state, snapshot, None, Refusal(key, Reason.SUSPENDED))
        for key in sorted(state.workloads)
        if state.workloads[key].demand is None
    ]
    pending += [
        _pending(state, snapshot, waiting.demand, backing_off(key, at - state.now))
        for key, (at, waiting) in sorted(state.resting.items())
    ]
    pending += [
        _pending(state, snapshot, None, job.entry.hold)
        for job in sorted(state.jobs.values(), key=by_name)
        if job.entry.hold is not None
    ]
    resized = _resized(snapshot, decided)
    return {
        **({"resized": resized} if resized else {}),
        "cycle": number,
        "admitted": [_admitted(state, snapshot, demands[entry.key], entry) for entry in decided.admissions],
        "preempted": [
            {
                "workload": entry.key,
                "reason": entry.reason,
                "clusterQueue": entry.queue,
                "preemptor": entry.preemptor,
                "cluster": entry.cluster,
                "message": entry.message,
            }
            for entry in decided.preemptions
            if not entry.shrinks
        ],
        "evicted": [one.document() for one in leaving],
        "pending": pending,
    }


def _resized(snapshot: Snapshot, decided: Plan) -> list[Json]:
    """Slices of elastic jobs that were made smaller (0: they go) or larger."""
    before = {held.work: held.slots for held in snapshot.held}
    less = (
        (e.key, e.queue, e.cluster, e.work, e.kept, e.preemptor, e.message) for e in decided.preemptions if e.shrinks
    )
    why = Reason.ELASTIC_GROW.message()
    more = ((e.key, e.queue, e.cluster, e.work, e.slots, "", why) for e in decided.growths)
    return [
        {
            "workload": key, "clusterQueue": queue, "cluster": cluster, "from": before[work], "to": slots,
            "for": preemptor, "message": message,
        }
        for key, queue, cluster, work, slots, preemptor, message in (*less, *more)
    ]  # fmt: skip


def backing_off(key: str, seconds: float) -> Refusal:
    return Refusal(key, Reason.PENDING_EVALUATION, (("detail", f"backs off for another {seconds:.0f} s"),))


def _admitted(state: State, snapshot: Snapshot, demand: Demand, entry: Admission) -> Json:
    queue = snapshot.quotas.queues[entry.queue]
    waiting = state.workloads.get(entry.key)
    if waiting is not None:
        given = admission(queue, waiting.pod_sets, entry.slices)
    else:
        given = job_admission(queue, demand.shape, entry.slices)
    document: Json = {"workload": entry.key, "admission": given}
    if state.placing:
        document["clusters"] = sorted({part.cluster for part in entry.slices if part.cluster})
        if not demand.place:
            document["message"] = UNPLACED
    return document


def _pending(state: State, snapshot: Snapshot, demand: Demand | None, refusal: Refusal) -> Json:
    queue = None
    if demand is not None:
        local = snapshot.quotas.local_queues.get((demand.namespace, demand.queue))
        queue = local.cluster_queue if local is not None else None
    message = refusal.message
    if demand is not None and state.placing and not demand.place:
        message += f" ({UNPLACED})"
    return {
        "workload": refusal.key,
        "clusterQueue": queue,
        "reason": refusal.reason.code,
        "message": message,
        "inadmissible": refusal.reason in _PERMANENT,
    }


def _queues(snapshot: Snapshot) -> list[Json]:
    pending: dict[str, int] = {}
    for demand in in_order(snapshot.demands):
        local = snapshot.quotas.local_queues.get((demand.namespace, demand.queue))
        if local is not None:
            pending[local.cluster_queue] = pending.get(local.cluster_queue, 0) + 1
    return queue_rows(snapshot.quotas, snapshot.usage, pending)


def queue_rows(quotas: Quotas, usage: Usage, pending: Mapping[str, int]) -> list[Json]:
    """Every ClusterQueue with what it uses and how much more than its own that is; `pending` by name."""
    ledger = QuotaLedger(quotas, usage)
    return [
        _queue(quotas, usage.get(name, {}), ledger, quotas.queues[name], pending.get(name, 0))
        for name in sorted(quotas.queues)
    ]


def _queue(
    quotas: Quotas, used: Mapping[FlavorResource, int], ledger: QuotaLedger, queue: ClusterQueue, pending: int
) -> Json:
    usage: dict[str, dict[str, str]] = {}
    held = dict.fromkeys(queue.quotas, 0) | dict(used)
    for (flavor, resource), amount in sorted(held.items()):
        usage.setdefault(flavor, {})[resource] = str(quantity(resource, amount))
    weighted, dominant = 0, ""
    tree = quotas.trees.get(queue.name)
    if tree is not None:
        found = share(ledger, tree, tree.position[queue.name])
        weighted, dominant = found.weighted, found.resource
    return {
        "clusterQueue": queue.name,
        "usage": usage,
        "weightedShare": weighted,
        "dominantResource": dominant,
        "pending": pending,
    }


def job_row(job: Job) -> Json:
    ref, state = job.seen.ref, job.entry.state
    document: Json = {"job": f"{ref.namespace}/{ref.name}", "clusters": []}
    if state is None:
        return document | {"reason": Reason.INVALID_SPEC.code, "message": job.trouble}
    tasks: dict[str, int] = {}
    for attempt in state.live:
        if attempt.cluster:
            tasks[attempt.cluster] = tasks.get(attempt.cluster, 0) + len(attempt.open_tasks)
    document["clusters"] = [{"cluster": name, "tasks": tasks[name]} for name in sorted(tasks)]
    return document | {"reason": state.reason.code, "message": state.message}


def by_name(job: Job) -> tuple[str, str]:
    return str(job.seen.ref), job.seen.ref.kind


def moment_of(seconds: float) -> str:
    moment = from_timestamp(seconds)
    return format_micro_time(moment) if moment.microsecond else format_time(moment)
