"""Workloads that nobody made for a job of this hub: somebody else runs them, the quota is decided here.

They wait and hold beside the hub's own jobs, by the same rules. What is decided is written into their status in Kueue's
words, and counts from that moment. Whoever runs one says Finished when it ends, PodsReady when its pods are up, and
gives its quota back when it was evicted; of one without an owner, or that never started, the hub does that itself, for
nobody else would. They are given quota, not a cluster.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from hub.api.conditions import condition_is
from hub.api.errors import InvalidObjectError
from hub.api.mergepatch import create_merge_patch
from hub.api.reasons import Reason
from hub.api.resource import WORKLOADS
from hub.api.timestamps import format_time, from_timestamp
from hub.client.interface import Object
from hub.controllers.foreign_holders import ForeignHolders
from hub.controllers.foreign_limits import ForeignLimits
from hub.controllers.foreign_status import Verdict, doubted, preemptions_in, status_after, time_over
from hub.controllers.foreign_workload import Holding, Waiting, admission, read_workload
from hub.controllers.logs import logger
from hub.controllers.world import World
from hub.controllers.writes import MergePatch, Write, WriteKey, Writes
from hub.jobs.admission_checks import read_checks, stale
from hub.jobs.limits import PodsReady
from hub.planner.plan import Admission, HeldSlice, Preemption, Refusal
from hub.queueing.demand import Demand
from hub.queueing.ledger import Usage
from hub.queueing.objects import FlavorResource
from hub.queueing.quotas import Quotas

Json = dict[str, Any]
_log = logger(__name__)
_TOLD: Final = 1.0
"""Seconds before a new reason to wait is written: most change again at once."""
# Rather a moment late than just too early to see that it has passed.
_LATE: Final = 0.001
_LONGEST: Final = 3600.0


@dataclass(slots=True, eq=False)
class _Entry:
    """`verdict`: what was decided and not seen in the object yet. `spoiled`: what it asked for when no decision about
    it was possible, or the API refused it. `stuck`: nothing more is done about it before its object changes. `doubts`:
    what is written of its amounts and does not count."""

    obj: Json
    read: Waiting | Holding | None = None
    problem: str = ""
    verdict: Verdict | None = None
    refusal: Refusal | None = None
    spoiled: Demand | None = None
    stuck: bool = False
    doubts: tuple[str, ...] = ()
    timer: asyncio.TimerHandle | None = None


class Foreign:
    """`on_change` is called when a decision could differ. `now`: epoch seconds."""

    def __init__(
        self,
        world: World,
        writes: Writes,
        *,
        now: Callable[[], float],
        on_change: Callable[[], None],
        ready: PodsReady | None = None,
    ) -> None:
        """`ready`: how long their pods may take to be ready; None: as long as they want."""
        self._limits = ForeignLimits(ready)
        # By uid; and which it is, by key.
        self.demands: dict[str, Demand] = {}
        self._waiting: dict[str, str] = {}
        self._holders = ForeignHolders()
        self._world, self._writes, self._now, self._on_change = world, writes, now, on_change
        self._entries: dict[str, _Entry] = {}
        self._quotas: Quotas | None = None
        # Of who waits for what, and who holds what.
        self._changes = 0
        # Who is admitted and not all up, by uid.
        self._unready: dict[str, str] = {}

    @property
    def slices(self) -> tuple[HeldSlice, ...]:
        return self._holders.slices

    @property
    def usage(self) -> Usage:
        return self._holders.usage

    def unready(self) -> Iterable[str]:
        """Keys of those that are admitted and whose pods are not all up."""
        return self._unready.values()

    def counts(self) -> Iterable[tuple[str, str, bool, dict[FlavorResource, int], bool]]:
        """(namespace, LocalQueue, whether it holds quota, what, whether admission checks keep it from starting) of each
        that is active and has not finished."""
        for entry in self._entries.values():
            read, spec = entry.read, entry.obj.get("spec") or {}
            queue = str(spec.get("queueName") or "")
            if isinstance(read, Holding):
                yield _namespace(entry.obj), queue, True, dict(read.amounts), not _admitted(self._effective(entry))
            elif read is not None and read.demand is not None:
                yield _namespace(entry.obj), queue, False, {}, False

    # What is seen.

    def seen(self, obj: Json) -> None:
        uid = str(obj["metadata"]["uid"])
        entry = self._entries.get(uid)
        if entry is None:
            entry = self._entries[uid] = _Entry(obj)
        elif _version(obj) < _version(entry.obj):
            return
        ran = time_over(entry.obj, obj, self._now())
        entry.obj, entry.stuck = obj, False
        if entry.verdict is not None and entry.verdict.shows(obj.get("status") or {}):
            entry.verdict = None
        if ran is not None and entry.verdict is None:
            self._decided(entry, Verdict("past", count=ran))
        was_unready = uid in self._unready
        before = self._changes
        self._look(uid, entry)
        if was_unready and uid not in self._unready and self._limits.blocks:
            self._changes += 1
        if self._changes != before:
            self._on_change()

    def gone(self, obj: Json) -> None:
        uid = str(obj["metadata"]["uid"])
        entry = self._entries.pop(uid, None)
        if entry is not None:
            if entry.timer is not None:
                entry.timer.cancel()
            self._unready.pop(uid, None)
            self._changes += self._holders.hold(uid, None, 0)
            self._wait(uid, None)
            self._on_change()

    def take_over(self) -> None:
        """What was decided here before somebody else led is not known to have been written."""
        for uid, entry in list(self._entries.items()):
            entry.verdict = entry.refusal = None
            self._look(uid, entry)

    def refresh(self) -> None:
        """Once a turn: what depends on quotas is read again where they changed."""
        if self._quotas is self._world.quotas:
            return
        self._quotas = self._world.quotas
        for uid, entry in list(self._entries.items()):
            self._look(uid, entry)

    def _look(self, uid: str, entry: _Entry) -> None:
        """Everything that follows from the object and from what was decided since."""
        obj = self._effective(entry)
        try:
            by_eviction = self._limits.by_eviction
            entry.read = read_workload(obj, self._world.quotas, place=False, by_eviction=by_eviction)
            entry.problem = ""
        except InvalidObjectError as error:
            entry.read, entry.problem = None, str(error)
        if entry.problem and not condition_is((obj.get("status") or {}).get("conditions"), "Finished"):
            self._refuse(entry, Refusal(_key(obj), Reason.INVALID_SPEC, (("detail", entry.problem),)))
        held = entry.read if isinstance(entry.read, Holding) else None
        self._changes += self._holders.hold(uid, held, preemptions_in(obj.get("status") or {}))
        self._doubt(entry, held.doubts if held is not None else ())
        if held is not None and not held.leaving and self._limits.unready(obj):
            self._unready[uid] = _key(obj)
        else:
            self._unready.pop(uid, None)
        waiting = self._demand(entry) if isinstance(entry.read, Waiting) else None
        if waiting == entry.spoiled or obj["metadata"].get("deletionTimestamp"):
            waiting = None
        self._wait(uid, waiting)
        self._keep_going(entry)

    def _doubt(self, entry: _Entry, doubts: tuple[str, ...]) -> None:
        """Somebody wrote amounts into its admission that cannot be: what its pods ask for counts, and it says so."""
        if doubts == entry.doubts:
            return
        entry.doubts = doubts
        if doubts:
            _log.warning("amounts of a Workload do not count as written", workload=_key(entry.obj), why=doubts[0])
        self._submit(entry)

    def _demand(self, entry: _Entry) -> Demand | None:
        """What it asks for now: nothing while it backs off, or while answers are there about quota that it had."""
        read, status = entry.read, entry.obj.get("status") or {}
        assert isinstance(read, Waiting), "asked of what waits"
        if read.demand is None or stale(read_checks(status)):
            return None
        if read.again_at is None or read.again_at <= self._now():
            return read.demand
        at = format_time(from_timestamp(read.again_at))
        count = (status.get("requeueState") or {}).get("count")
        refusal = Refusal(read.key, Reason.CHECK_RETRY, (("at", at),))
        if count:
            refusal = Refusal(read.key, Reason.BACKING_OFF, (("count", count), ("at", at)))
        self._refuse(entry, refusal)
        return None

    def _wait(self, uid: str, demand: Demand | None) -> None:
        before = self.demands.get(uid)
        if before == demand:
            return
        self._changes += 1
        if before is not None:
            del self.demands[uid], self._waiting[before.key]
        if demand is not None:
            self.demands[uid], self._waiting[demand.key] = demand, uid

    def _keep_going(self, entry: _Entry) -> None:
        """What must become of it whoever else waits."""
        if entry.timer is not None:
            entry.timer.cancel()
            entry.timer = None
        if entry.verdict is not None or entry.stuck or entry.read is None:
            return
        now = self._now()
        step = self._limits.step(entry.obj, entry.read, self._world.quotas, now)
        if step.verdict is not None:
            self._decided(entry, step.verdict)
        elif step.deactivate:
            self._deactivate(entry)
        elif step.wake_at is not None:
            delay = min(max(step.wake_at - now, 0.0) + _LATE, _LONGEST)
            entry.timer = asyncio.get_running_loop().call_later(delay, self._rings, entry)

    def _rings(self, entry: _Entry) -> None:
        uid = str(entry.obj["metadata"]["uid"])
        entry.timer = None
        if self._entries.get(uid) is entry:
            before = self._changes
            self._look(uid, entry)
            if self._changes != before:
                self._on_change()

    def _deactivate(self, entry: _Entry) -> None:
        """Its status says why already; what is left to do about it follows when this is seen."""
        meta = entry.obj["metadata"]
        patch = MergePatch({"metadata": {"uid": meta["uid"]}, "spec": {"active": False}})
        key = WriteKey(WORKLOADS, _namespace(entry.obj), str(meta["name"]))
        self._writes.submit(
            key,
            lambda: patch if (entry.obj.get("spec") or {}).get("active") is not False else None,
            on_done=self._answered,
            on_error=lambda _key, error: self._refused(entry, error),
        )

    # What is decided.

    def admit(self, decided: Admission) -> bool:
        """False when it is about none of these."""
        uid = self._waiting.get(decided.key)
        if uid is None:
            return False
        entry = self._entries[uid]
        assert isinstance(entry.read, Waiting), "only what waits is admitted"
        queue = self._world.quotas.queues[decided.queue]
        assigned = admission(queue, entry.read.pod_sets, decided.slices)
        entry.refusal = None
        flavors = {flavor for part in assigned["podSetAssignments"] for flavor in part["flavors"].values()}
        asked, checks = self._world.quotas.asks(queue.name, flavors), self._world.quotas.checks
        ours = next((name for name in asked if name in checks and checks[name].ours), "")
        self._decided(entry, Verdict.admitted(assigned, asked, ours))
        return True

    def preempt(self, decided: Preemption) -> bool:
        """False when it is about none of these."""
        entry = self._entries.get(decided.uid)
        if entry is None:
            return False
        if isinstance(entry.read, Holding) and not entry.read.leaving:
            self._decided(entry, Verdict.evicted(Reason.PREEMPTED.code, decided.message, decided.reason))
        return True

    def told(self, refusals: Mapping[str, Refusal]) -> None:
        """Why each that waits does, by its key."""
        for key, refusal in refusals.items():
            uid = self._waiting.get(key)
            if uid is not None:
                self._refuse(self._entries[uid], refusal)

    def refusals(self) -> dict[str, Refusal]:
        """What was said last of those that wait, by their keys."""
        found = {demand.key: self._entries[uid].refusal for uid, demand in self.demands.items()}
        return {key: refusal for key, refusal in found.items() if refusal is not None}

    def spoils(self, demand: Demand) -> bool:
        """No decision about it is possible as it is: it waits until it changes. False when it is none of these."""
        entry = self._entries.get(demand.uid)
        if entry is None:
            return False
        self._wait(demand.uid, None)
        entry.spoiled = demand
        _log.error("no decision about a Workload is possible; it waits until it changes", workload=_key(entry.obj))
        return True

    def _refuse(self, entry: _Entry, refusal: Refusal) -> None:
        before, entry.refusal = entry.refusal, refusal
        if before is None or before.reason is not refusal.reason:
            self._submit(entry, delay=_TOLD)

    def _decided(self, entry: _Entry, verdict: Verdict) -> None:
        entry.verdict = verdict
        self._submit(entry)
        self._look(str(entry.obj["metadata"]["uid"]), entry)

    def _submit(self, entry: _Entry, *, delay: float = 0.0) -> None:
        meta = entry.obj["metadata"]
        key = WriteKey(WORKLOADS, _namespace(entry.obj), str(meta["name"]), "status")
        self._writes.submit(
            key,
            lambda: self._write(entry),
            delay=delay,
            on_done=self._answered,
            on_error=lambda _key, error: self._refused(entry, error),
        )

    def _write(self, entry: _Entry) -> Write | None:
        meta = entry.obj["metadata"]
        if self._entries.get(str(meta["uid"])) is not entry:
            return None
        before = entry.obj.get("status") or {}
        patch = create_merge_patch(before, self._status(entry))
        if patch is None:
            return None
        # Conditions are replaced as a whole, and whoever runs it changes them, too.
        seen = {"uid": meta["uid"], "resourceVersion": str(meta["resourceVersion"])}
        return MergePatch({"metadata": seen, "status": patch})

    def _refused(self, entry: _Entry, error: Exception) -> None:
        """What was decided does not count; the same would be refused again until the object changes."""
        uid = str(entry.obj["metadata"]["uid"])
        if self._entries.get(uid) is not entry:
            return
        _log.warning("the status of a Workload cannot be written", workload=_key(entry.obj), why=str(error))
        decided, entry.verdict, entry.stuck = entry.verdict, None, True
        if decided is not None and decided.kind == "admit" and isinstance(entry.read, Holding):
            entry.spoiled = entry.read.waiting.demand
        self._look(uid, entry)
        self._on_change()

    def _answered(self, answer: Object | None) -> None:
        if answer is not None:
            self.seen(dict(answer))

    def _effective(self, entry: _Entry) -> Json:
        return entry.obj if entry.verdict is None else {**entry.obj, "status": self._status(entry)}

    def _status(self, entry: _Entry) -> Json:
        obj = entry.obj
        waits = entry.refusal if entry.verdict is None else None
        at = format_time(from_timestamp(self._now()))
        after = status_after(obj.get("status") or {}, entry.verdict, waits, at, obj["metadata"].get("generation"))
        return doubted(after, entry.doubts, at)


def _admitted(obj: Mapping[str, Any]) -> bool:
    return condition_is((obj.get("status") or {}).get("conditions"), "Admitted")


def _namespace(obj: Mapping[str, Any]) -> str:
    return str(obj["metadata"].get("namespace") or "default")


def _key(obj: Mapping[str, Any]) -> str:
    return f"{_namespace(obj)}/{obj['metadata']['name']}"


def _version(obj: Mapping[str, Any]) -> int:
    text = str(obj["metadata"].get("resourceVersion") or "0")
    return int(text) if text.isdecimal() else 0
