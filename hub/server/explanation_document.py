"""An explanation as one JSON document: of a job, a Workload or a Placement, with the history of a job's attempts.

Made of what the planner and the job's fold say; the command line prints it, and a page could.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

from hub.api.indexset import IndexSet
from hub.api.resource import PLACEMENT_DECISIONS, PLACEMENTS
from hub.api.timestamps import format_time, from_timestamp
from hub.jobs.attempt import Attempt
from hub.planner.explanation import Explanation, QuotaLine
from hub.planner.plan import Snapshot
from hub.planner.record import describe
from hub.queueing.amount import UNLIMITED, quantity
from hub.queueing.demand import Demand, TaskGroup
from hub.server.explained_filters import FOR_JOBS, filters
from hub.server.placement_explanation import placement_explanation
from hub.server.reading import Objects
from hub.server.score_origins import Origins
from hub.server.snapshot import Job, State

Json = dict[str, Any]


_UNNOTED = "the best cluster with room and quota at the time"


def find_job(state: State, key: str) -> Job | None:
    """By ``namespace/name`` of the job or of its Workload; a FleetJob before a plain Job of the same name."""
    jobs = sorted(state.jobs.values(), key=lambda job: job.seen.ref)
    return next((job for job in jobs if str(job.seen.ref) == key), None) or next(
        (job for job in jobs if job.key == key), None
    )


def explanation_document(objects: Objects, state: State, key: str) -> Json | None:
    """Everything of that name; None when nothing has it."""
    snapshot = state.snapshot()
    origins = Origins(objects, state.world.fleet, state.now, (entry.scorer for entry in state.scorers), state.scores)
    document: Json = {"key": key}
    job = find_job(state, key)
    if job is not None:
        document["job"] = _job(state, snapshot, job, origins)
    elif key in state.workloads:
        waiting = state.workloads[key]
        if waiting.demand is None:
            document["workload"] = {"phase": "Suspended", "message": "spec.active is false"}
        else:
            document["workload"] = {"phase": "Pending"} | decision_document(state.way.explain(snapshot, key), origins)
    for placement in objects.of(PLACEMENTS):
        meta = placement["metadata"]
        if f"{meta.get('namespace') or 'default'}/{meta['name']}" == key:
            decisions = objects.of(PLACEMENT_DECISIONS)
            document["placement"] = placement_explanation(snapshot, placement, decisions, origins)
    return document if len(document) > 1 else None


def _job(state: State, snapshot: Snapshot, job: Job, origins: Origins) -> Json:
    now = job.entry.state
    if now is None:
        return {"kind": job.seen.ref.kind, "phase": "Pending", "reason": "InvalidSpec", "message": job.trouble}
    found = state.way.explain(snapshot, job.key) if any(d.key == job.key for d in snapshot.demands) else None
    if found is not None:
        # The hub tells a job why it waits as soon as it has decided; so does this.
        now = state.told(job, found.refusal)
    document: Json = {
        "kind": job.seen.ref.kind,
        "phase": now.phase,
        "reason": now.reason.code,
        "message": now.message,
        "advice": now.reason.advice,
        "tasks": {
            "total": now.tasks,
            "waiting": sum(len(group.tasks) for group in now.waiting),
            "active": now.active,
            "succeeded": len(now.succeeded),
            "failed": len(now.failed),
        },
        "attempts": [_attempt(attempt, now.attempts) for attempt in now.attempts],
    }
    if found is not None:
        document |= decision_document(found, origins)
    elif not now.ended and job.seen.spec is not None:
        spec = job.seen.spec
        rule = state.world.rule_of(spec)
        if not isinstance(rule, str):
            # Nothing of it waits: how things stand for one more task of it, behind everyone who waits.
            last = max((demand.order for demand in snapshot.demands), default=(0, 0.0, "", ""))
            more = Demand(
                key=f"{job.key} (one more task)",
                uid=spec.uid,
                namespace=spec.namespace,
                queue=spec.queue,
                priority=-last[0],
                created=max(last[1], spec.created) + 1.0,
                shape=spec.shape,
                groups=(TaskGroup(IndexSet.span(1), 1),),
                slots=1,
                rule=rule,
                running=now.clusters,
                place=state.placing,
            )
            hypothetical = replace(snapshot, demands=(*snapshot.demands, more))
            document["oneMoreTask"] = decision_document(state.way.explain(hypothetical, more.key), origins)
    return document


def decision_document(found: Explanation, origins: Origins) -> Json:
    """What the next cycle would decide, and everything that it looked at."""
    weights = {score.scorer: score.weight for line in found.clusters for score in line.scores}
    document: Json = {
        "localQueue": found.local_queue,
        "clusterQueue": found.queue,
        "priority": found.priority,
        "position": found.position,
        "waiting": found.waiting,
        "aheadInClusterQueue": found.ahead,
        "verdict": _verdict(found),
        "smallestChange": found.change,
        "nextBest": None if found.next_best is None else dict(zip(("cluster", "margin"), found.next_best, strict=True)),
        "elsewhere": None if found.flip is None else {"cluster": found.flip.cluster, "change": found.flip.words},
        "quota": [_quota(line) for line in found.quota],
        "flavors": [
            {
                "flavors": dict(line.flavors),
                "needsPerTask": {name: str(quantity(name, amount)) for name, amount in line.needed},
                "affordableTasks": line.affordable,
                "everAffordable": line.possible,
                "roomForTasks": line.room,
                "capacityForTasks": line.capacity,
            }
            for line in found.flavors
        ],
        "filters": filters(FOR_JOBS, ((line.cluster, line.code, line.message) for line in found.clusters)),
        "scorers": [origins.of(name, weight) for name, weight in weights.items()],
        "clusters": [
            {
                "cluster": line.cluster,
                "reason": line.code,
                "message": line.message,
                "roomForTasks": line.room,
                "capacityForTasks": line.capacity,
                "rank": line.rank,
                "total": line.total,
                "scores": [asdict(score) for score in line.scores],
            }
            for line in found.clusters
        ],
        "problems": dict(found.problems),
    }
    return document


def _verdict(found: Explanation) -> Json:
    verdict: Json = {"admitted": [], "reason": "", "message": "", "advice": ""}
    if found.admission is not None:
        verdict["admitted"] = [
            {
                "cluster": part.cluster,
                "tasks": str(part.tasks),
                "slots": part.slots,
                "attempt": part.attempt,
                "flavors": dict(part.flavors),
            }
            for part in found.admission.slices
        ]
    if found.refusal is not None:
        facts = dict(found.refusal.facts)
        advice = found.refusal.reason.advice
        verdict |= {
            "reason": found.refusal.reason.code,
            "message": found.refusal.message,
            "advice": advice.format(**facts) if "{" in advice else advice,
        }
    return verdict


def _quota(line: QuotaLine) -> Json:
    def shown(amount: int | None) -> str | None:
        if amount is None:
            return None
        return "unlimited" if amount >= UNLIMITED else str(quantity(line.resource, amount))

    return {
        "node": line.node,
        "kind": line.kind,
        "flavor": line.flavor,
        "resource": line.resource,
        "nominal": shown(line.nominal),
        "subtree": shown(line.subtree),
        "lendable": shown(line.lendable),
        "borrowingLimit": shown(line.borrowing_limit),
        "used": shown(line.used),
        "borrowed": shown(line.borrowed),
        "available": shown(line.available),
    }


def _attempt(attempt: Attempt, known: tuple[Attempt, ...]) -> Json:
    return {
        "epoch": attempt.epoch,
        "attempt": attempt.attempt,
        "cluster": attempt.cluster,
        "why": _why(attempt, known),
        "clusterQueue": attempt.queue,
        "flavors": dict(attempt.flavors),
        "tasks": str(attempt.tasks),
        "slots": attempt.slots,
        "state": attempt.state,
        "succeeded": str(attempt.succeeded),
        "failed": str(attempt.failed),
        "stale": str(attempt.stale),
        "exitCodes": {str(code): str(tasks) for code, tasks in attempt.exit_codes},
        "startedAt": _time(attempt.started_at),
        "finishedAt": _time(attempt.finished_at),
        "reason": attempt.reason,
        "message": attempt.message,
    }


def _why(attempt: Attempt, known: tuple[Attempt, ...]) -> str:
    """What led to the slice, and the choice as it was noted then (a slice whose work is gone has no note any more)."""
    return "; ".join(filter(None, (_cause(attempt, known), describe(attempt.decision)))) or _UNNOTED


def _cause(attempt: Attempt, known: tuple[Attempt, ...]) -> str:
    earlier = [other for other in known if other.epoch < attempt.epoch and other.tasks & attempt.tasks]
    lost = sorted({o.cluster for o in earlier if o.state == "Lost" and o.tasks & attempt.tasks})
    failed = sorted({o.cluster for o in earlier if o.failed & attempt.tasks})
    if attempt.attempt > 1 and failed:
        if attempt.cluster in failed:
            return "retry where it failed before"
        return f"retry elsewhere after a failure on {', '.join(failed)}"
    if lost:
        return f"moved from {', '.join(lost)}, which was cut off"
    return ""


def _time(seconds: float | None) -> str | None:
    return None if seconds is None else format_time(from_timestamp(seconds))
