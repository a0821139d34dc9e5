"""`quarterdeck plan --mode kueue`: the same document as in mode fleet, decided cycle by cycle as Kueue decides.

Quota only: what a workload is given says nothing of clusters, and jobs of the hub itself ask as one pod set each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, Literal

from hub.api import names, resource
from hub.api.conditions import find_condition
from hub.api.errors import InvalidObjectError
from hub.api.quantity import Quantity
from hub.api.reasons import Reason
from hub.api.timestamps import parse_time
from hub.controllers.foreign_workload import mirrored
from hub.planner.course import waiting_again
from hub.planner.plan import HeldSlice
from hub.queueing.amount import quantity
from hub.queueing.kueue.assignment import PodSetAssignment
from hub.queueing.kueue.cycle import Scheduler
from hub.queueing.kueue.history import LocalKey, Past
from hub.queueing.kueue.jobs import holder, waiting_workload
from hub.queueing.kueue.roster import Roster
from hub.queueing.kueue.settings import Settings
from hub.queueing.kueue.verdict import Admitted, Outcome
from hub.queueing.kueue.workload import Held, Workload
from hub.queueing.objects import ClusterQueue, FlavorResource
from hub.queueing.quotas import Quotas
from hub.server.departures import Departure
from hub.server.explanation_document import explanation_document, find_job
from hub.server.kueue_explanation import conclude, grown, look, smallest_change
from hub.server.kueue_pods import PodDefaults
from hub.server.kueue_workloads import read_kueue_workload
from hub.server.placements import placement_documents
from hub.server.plan_document import SETTLE, by_name, job_row, moment_of, queue_rows
from hub.server.reading import ONLY_KUEUE, Objects, Source
from hub.server.reading import Json as Object
from hub.server.snapshot import Job, State

Json = dict[str, Any]

_MULTIKUEUE: Final = "kueue.x-k8s.io/multikueue"
_PROVISIONING: Final = "kueue.x-k8s.io/provisioning-request"
_DEACTIVATED: Final = "deactivated: spec.active is false"


class KueuePlan:
    """Everything that waits or holds, read and ready to be decided about.

    What is malformed is added to `objects.problems`; call `objects.check()` before anything is decided.
    """

    def __init__(self, objects: Objects, state: State, settings: Settings) -> None:
        self._objects, self._state = objects, state
        quotas = state.world.quotas
        waiting: list[Workload] = []
        held: list[Held] = []
        self._resting: set[str] = set()
        self._apart: list[Json] = []
        self._reserved: dict[str, str] = {}
        self.notes: set[str] = set()
        keys = {job.key for job in state.jobs.values()}
        pods = PodDefaults(objects.of("LimitRange"), objects.of("RuntimeClass"))
        for source in objects.sources(resource.WORKLOADS):
            obj = state.dated(source.obj, "Workload")
            if mirrored(obj, state.jobs, keys):
                continue
            try:
                found = read_kueue_workload(obj, quotas, settings, pods)
            except InvalidObjectError as error:
                objects.problem(source, error)
                continue
            if any(pods.get("topologyRequest") for pods in (obj.get("spec") or {}).get("podSets") or ()):
                self.notes.add(
                    f"Workload {meta_key(obj)}: topologyRequest: places within a cluster are not decided about"
                )
            if isinstance(found, Held):
                held.append(found)
            elif found is not None:
                waiting.append(found)
            elif (obj.get("spec") or {}).get("active") is False:
                self._note_deactivated(obj, quotas)
        for demand in state.demands():
            if demand.problem:
                queue = self._queue_of(quotas, demand.namespace, demand.queue)
                self._apart.append(_waits(demand.key, queue, Reason.INVALID_SPEC, demand.problem, parked=True))
            else:
                waiting.append(waiting_workload(demand))
        held += [self._holder(slices) for _, slices in sorted(state.job_slices().items())]
        self._roster = Roster(
            quotas,
            settings,
            waiting=waiting,
            held=held,
            inactive=inactive_queues(quotas, objects.of("AdmissionCheck")),
            usage=state.out_of_reach(),
            past=_past(objects),
            now=state.now,
        )
        self._scheduler = Scheduler(self._roster)

    def look(self, key: str) -> Json | None:
        """What an explanation says before anything is decided; None: nobody of that name waits or holds quota."""
        return look(self._scheduler, key)

    def document(self, cycles: int | Literal["settle"] = 1) -> Json:
        """Decides `cycles` times, one second apart, and says what happened."""
        objects, state, quotas = self._objects, self._state, self._state.world.quotas
        at = state.now
        done: list[Json] = []
        settled = False
        for number in range(1, (SETTLE if cycles == "settle" else cycles) + 1):
            due = state.due()
            self._wake()
            outcome = self._scheduler.cycle(state.now)
            gone = {entry.held.key for entry in outcome.preempted}
            leaving = [one for one in due if one.key not in gone]
            done.append(self._cycle(number, outcome, leaving))
            self._follow(outcome, leaving)
            state.now += 1.0
            settled = not outcome.moved and not leaving
            if settled and cycles == "settle":
                break
        state.now -= 1.0
        pending: dict[str, int] = {}
        for workload, _ in self._roster.waiting:
            queue = self._roster.verdicts[workload.key].queue
            pending[queue] = pending.get(queue, 0) + 1
        return {
            "kind": "Plan",
            "apiVersion": names.API_VERSION,
            "now": moment_of(at),
            "mode": "kueue",
            "cycles": done,
            "settled": settled,
            "queues": queue_rows(quotas, self._roster.usage(), pending),
            "placements": placement_documents(
                state.snapshot(), objects.of(resource.PLACEMENTS), objects.of(resource.PLACEMENT_DECISIONS)
            ),
            "jobs": [self._job(job) for job in sorted(state.jobs.values(), key=by_name)],
            "ignored": sorted(objects.ignored - ONLY_KUEUE),
        }

    def _follow(self, outcome: Outcome, leaving: Sequence[Departure]) -> None:
        """What the cycle comes to for those that are not on the roster, and for whoever has to go."""
        state = self._state
        for entry in outcome.preempted:
            self._reserved.pop(entry.held.key, None)
            state.departures.gone(entry.held.key)
        for admitted in outcome.admitted:
            key = admitted.workload.key
            self._reserved[key] = admitted.queue
            if key in state.foreign and not admitted.checks:
                state.departures.admitted(state.foreign[key], admitted.queue, state.now)
        back: dict[str, Workload | None] = {}
        state.depart(leaving)
        for one in leaving:
            held = self._roster.holder(one.key)
            if held is None:
                continue
            if one.key in state.foreign:
                back[one.key] = _waits_again(held.workload, one, state.now)
                if one.why.deactivated:
                    self._apart.append(_waits(one.key, one.queue, Reason.SUSPENDED, one.why.message, parked=True))
            else:
                back[one.key] = None
                self._resting.add(one.key)
            self._reserved.pop(one.key, None)
        self._roster.leave(back)

    def _wake(self) -> None:
        """Jobs of the hub that were sent away are in their queue again once their limits let them."""
        for key in sorted(self._resting):
            demand = self._state.demand_of(key)
            if demand is not None:
                self._resting.discard(key)
                self._roster.add(waiting_workload(demand))

    def _holder(self, slices: Sequence[HeldSlice]) -> Held:
        """As whom a job of the hub would have to go: the whole of it waits again then."""
        demand = self._state.demand_of(slices[0].key)
        for one in slices:
            demand = waiting_again(one, demand)
        assert demand is not None, "a holder holds something"
        return replace(holder(slices), workload=waiting_workload(demand))

    def _cycle(self, number: int, outcome: Outcome, leaving: Iterable[Departure]) -> Json:
        # Victims of this cycle are in their queue again for the next one.
        gone = {entry.held.key for entry in outcome.preempted}
        pending = self._apart + [
            self._pending(w.key, parked) for w, parked in self._roster.waiting if w.key not in gone
        ]
        pending += [self._held_back(job) for job in self._state.jobs.values() if job.entry.hold is not None]
        return {
            "cycle": number,
            "admitted": [self._admitted(entry) for entry in outcome.admitted],
            "preempted": [
                {
                    "workload": entry.held.key,
                    "reason": entry.why,
                    "clusterQueue": entry.held.cluster_queue,
                    "preemptor": entry.preemptor,
                }
                for entry in outcome.preempted
            ],
            "evicted": [one.document() for one in leaving],
            "pending": sorted(pending, key=lambda row: str(row["workload"])),
        }

    def _admitted(self, entry: Admitted) -> Json:
        row: Json = {
            "workload": entry.workload.key,
            "admission": {
                "clusterQueue": entry.queue,
                "podSetAssignments": [_assignment(part) for part in entry.pod_sets],
            },
        }
        if entry.replaces:
            row["replaces"] = entry.replaces
        if entry.checks:
            row["message"] = f"waits for admission checks {', '.join(entry.checks)}"
        return row

    def _pending(self, key: str, parked: bool) -> Json:
        verdict = self._roster.verdicts[key]
        return _waits(key, verdict.queue, verdict.reason, verdict.message, parked=parked)

    def _held_back(self, job: Job) -> Json:
        spec, hold = job.seen.spec, job.entry.hold
        assert spec is not None, "only of a job that can be read limits are known"
        assert hold is not None, "asked only of one that is held back"
        queue = self._queue_of(self._state.world.quotas, spec.namespace, spec.queue)
        return _waits(job.key, queue, hold.reason, hold.message, parked=True)

    def _note_deactivated(self, obj: Object, quotas: Quotas) -> None:
        queue = self._queue_of(quotas, obj["metadata"]["namespace"], (obj.get("spec") or {}).get("queueName"))
        self._apart.append(_waits(meta_key(obj), queue, Reason.SUSPENDED, _DEACTIVATED, parked=True))

    @staticmethod
    def _queue_of(quotas: Quotas, namespace: Any, local_queue: Any) -> str:
        local = quotas.local_queues.get((str(namespace), str(local_queue)))
        return local.cluster_queue if local is not None else ""

    def _job(self, job: Job) -> Json:
        """What is given quota here waits for nothing more of the queue, whatever its state says."""
        queue = self._reserved.get(job.key)
        row = job_row(job)
        if queue is None:
            return row
        return row | {"reason": Reason.QUOTA_RESERVED.code, "message": Reason.QUOTA_RESERVED.message(queue=queue)}


def explained_plan(
    plan: KueuePlan,
    objects: Objects,
    state: State,
    cycles: int | Literal["settle"],
    key: str,
    again: Callable[[Objects], Json],
) -> Json | None:
    """The plan's document with `explain` for one Workload, job or Placement; None: nothing is called so.

    `again`: the document for other objects, to find out what would have admitted it.
    """
    explained: Json = {"key": key}
    named = {meta_key(obj) for obj in objects.of(resource.PLACEMENTS)}
    if key in named and (other := explanation_document(objects, state, key)) is not None:
        explained |= {"placement": other["placement"]}
    job = find_job(state, key)
    name = job.key if job is not None else key
    found = plan.look(name)
    document = plan.document(cycles)
    if found is not None:
        found = conclude(found, name, document)
        if found["phase"] == "Pending":

            def decide(queue: str, quota: FlavorResource, more: int) -> Json:
                return again(_with_queue(objects, queue, quota, more))

            found["smallestChange"] = smallest_change(found, name, decide)
        explained["workload"] = found
    return document | {"explain": explained} if len(explained) > 1 else None


def _with_queue(objects: Objects, queue: str, quota: FlavorResource, more: int) -> Objects:
    def changed(source: Source) -> Source:
        return Source(grown(source.obj, quota, more), source.place)

    sources = [
        changed(source) if source.obj["metadata"]["name"] == queue else source
        for source in objects.sources(resource.CLUSTER_QUEUES)
    ]
    return replace(objects, by_kind=objects.by_kind | {resource.CLUSTER_QUEUES.kind: sources})


def _waits_again(workload: Workload, one: Departure, now: float) -> Workload | None:
    if one.why.deactivated:
        return None
    again = replace(workload, not_before=one.why.back_at, failed_checks=False)
    return replace(again, queued=now) if one.why.to_the_end else again


def _waits(key: str, queue: str, reason: Reason, message: str, *, parked: bool) -> Json:
    return {
        "workload": key,
        "clusterQueue": queue or None,
        "reason": reason.code,
        "message": message,
        "inadmissible": parked,
    }


def meta_key(obj: Object) -> str:
    return f"{obj['metadata']['namespace']}/{obj['metadata']['name']}"


def inactive_queues(quotas: Quotas, checks: list[Object]) -> dict[str, str]:
    """Why some ClusterQueues decide nothing. Here admission checks count as answered by whoever they name.

    A check without an Active condition has not been looked at, as in a file that somebody wrote, and counts as active.
    """
    known = {str(check["metadata"]["name"]): check for check in checks}
    inactive: dict[str, str] = {}
    for name, why in quotas.inactive.items():
        queue = quotas.queues.get(name)
        if queue is None or not queue.checks or why.code in ("Unknown", "FlavorNotFound"):
            inactive[name] = why.detail
    for name, queue in quotas.queues.items():
        if name in inactive or not queue.checks:
            continue
        detail = _unanswered(queue, known)
        if not detail and queue.stop != "None":
            detail = f"it is stopped (stopPolicy {queue.stop})"
        if detail:
            inactive[name] = detail
    return inactive


def _unanswered(queue: ClusterQueue, known: Mapping[str, Object]) -> str:
    controllers: list[str] = []
    for rule in queue.check_rules:
        check = known.get(rule.name)
        if check is None:
            return f"AdmissionCheck {rule.name} does not exist"
        active = find_condition((check.get("status") or {}).get("conditions"), "Active")
        if active is not None and active.get("status") != "True":
            return f"AdmissionCheck {rule.name} is not active"
        controller = str((check.get("spec") or {}).get("controllerName") or "")
        if controller == _MULTIKUEUE and rule.flavors:
            return f"AdmissionCheck {rule.name} of MultiKueue cannot be for some flavors only"
        controllers.append(controller)
    if controllers.count(_MULTIKUEUE) > 1:
        return "it has more than one admission check of MultiKueue"
    if _MULTIKUEUE in controllers and _PROVISIONING in controllers:
        return "admission checks of MultiKueue and of ProvisioningRequests do not go together"
    return ""


def _assignment(part: PodSetAssignment) -> Json:
    flavors = {r: part.flavors[r].flavor for r in sorted(part.flavors)}
    return {
        "name": part.pod_set.name,
        "flavors": flavors,
        "resourceUsage": {r: str(quantity(r, part.requests[r])) for r in flavors},
        "count": part.count,
    }


def _past(objects: Objects) -> dict[LocalKey, Past]:
    found: dict[LocalKey, Past] = {}
    for source in objects.sources(resource.LOCAL_QUEUES):
        obj, meta = source.obj, source.obj["metadata"]
        sharing = (obj.get("spec") or {}).get("fairSharing") or {}
        status = ((obj.get("status") or {}).get("fairSharing") or {}).get("admissionFairSharingStatus") or {}
        try:
            weight = Quantity(sharing["weight"]).nano / 1e9 if sharing.get("weight") is not None else 1.0
            consumed = {str(r): Quantity(v).nano / 1e9 for r, v in (status.get("consumedResources") or {}).items()}
            updated = parse_time(str(status["lastUpdate"])).timestamp() if status.get("lastUpdate") else 0.0
        except (InvalidObjectError, TypeError, ValueError) as error:
            objects.problem(source, InvalidObjectError(str(error), field="status.fairSharing"))
            continue
        found[str(meta.get("namespace") or "default"), str(meta["name"])] = Past(consumed, updated, weight)
    return found
