"""Which changes of a job's state are worth an Event and a line in the log: admissions, retries, losses, ends."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from hub.api.reasons import Reason
from hub.controllers.events import Events, Subject
from hub.controllers.logs import logger
from hub.controllers.table import JobEntry
from hub.jobs.attempt import Attempt, Eviction, Resize
from hub.jobs.state import JobState
from hub.jobs.verdict import retry_note
from hub.planner.plan import HeldSlice

_log = logger(__name__)
_MOST_EPOCHS = 1 << 16


class Telling:
    """`job_state` after each computation; what was said of a job is forgotten when the job is."""

    def __init__(self, events: Events, entry_of: Callable[[str], JobEntry | None] = lambda uid: None) -> None:
        self._events, self._entry_of = events, entry_of
        # By uid the phase and, as bits, the epochs of slices that are live and of those that are over.
        self._known: dict[str, tuple[str, int, int]] = {}

    def forget(self, uid: str) -> None:
        self._known.pop(uid, None)

    def job_state(self, entry: JobEntry) -> None:
        state, seen = entry.state, entry.seen
        if state is None or seen is None:
            return
        phase = state.phase
        # What is only reserved is told of when it is sent.
        live = _bits(attempt for attempt in state.attempts if attempt.live and not attempt.reserved)
        over = _bits(attempt for attempt in state.attempts if not attempt.live)
        before = self._known.get(entry.uid)
        self._known[entry.uid] = (phase, live, over)
        if before is None:
            # Seen for the first time: what is in its status was said by whoever wrote that.
            memory = seen.memory
            before = (
                memory.phase or "",
                _bits(attempt for attempt in memory.attempts if attempt.live),
                _bits(attempt for attempt in memory.attempts if not attempt.live),
            )
        if live & ~(before[1] | before[2]):
            self._admitted(entry, state, live & ~(before[1] | before[2]))
        if over & ~before[2]:
            self._attempts_over(entry, state, over & ~before[2])
        if state.ended and phase != before[0] and not seen.memory.ended:
            self._ended(entry, state)

    def told_to_go(self, entry: JobEntry, attempt: Attempt, eviction: Eviction) -> None:
        """A slice that must go: of the job, and of its Workload with Kueue's word for it."""
        note = f"tasks {_short(str(attempt.open_tasks))} on {attempt.cluster}: {eviction.message}"
        self._events.say(entry.ref, eviction.cause, note, "Evict", "Warning")
        workload = entry.workload
        if workload is not None:
            about = Subject("Workload", workload.namespace, workload.name, workload.uid)
            if eviction.cause == Reason.PREEMPTED.code:
                self._events.say(about, eviction.cause, eviction.message, "Preempt", "Normal")
            else:
                self._events.say(about, f"EvictedDueTo{eviction.cause}", eviction.message, "Evict", "Normal")

    def resized(self, entry: JobEntry, attempt: Attempt, resize: Resize) -> None:
        """A slice of an elastic job has another size from now on."""
        reason = Reason.ELASTIC_GROW if resize.slots > resize.before else Reason.ELASTIC_SHRINK
        sizes = f"from {resize.before} to {resize.slots} slots on {attempt.cluster}"
        self._events.say(entry.ref, reason.code, f"{sizes}: {resize.message}", "Resize")

    def idle(self, part: HeldSlice, sentence: str) -> None:
        """A slice whose GPUs nobody uses: a warning, before anything is done about it."""
        entry = self._entry_of(part.uid)
        if entry is not None:
            self._events.say(entry.ref, Reason.IDLE.code, sentence, "Watch", "Warning")
        _log.warning("a slice does not use its GPUs", job=part.key, cluster=part.cluster, work=part.work, why=sentence)

    def _admitted(self, entry: JobEntry, state: JobState, epochs: int) -> None:
        attempts = [attempt for attempt in state.attempts if epochs >> attempt.epoch & 1]
        clusters = ", ".join(sorted({attempt.cluster for attempt in attempts}))
        note = Reason.ADMITTED.message(queue=attempts[-1].queue, clusters=clusters)
        self._events.say(entry.ref, Reason.ADMITTED.code, note, "Admit")
        for attempt in attempts:
            _log.info(
                "admitted", job=str(entry.ref), cluster=attempt.cluster, epoch=attempt.epoch, attempt=attempt.attempt,
                tasks=_short(str(attempt.tasks)), queue=attempt.queue,
            )  # fmt: skip

    def _attempts_over(self, entry: JobEntry, state: JobState, epochs: int) -> None:
        spec = entry.seen.spec if entry.seen is not None else None
        for attempt in state.attempts:
            if not epochs >> attempt.epoch & 1 or attempt.state == "Succeeded":
                continue
            _log.info(
                "attempt ended", job=str(entry.ref), cluster=attempt.cluster, epoch=attempt.epoch,
                attempt=attempt.attempt, state=attempt.state, failed=_short(str(attempt.failed)), why=attempt.message,
            )  # fmt: skip
            if attempt.state == "Lost":
                self._events.say(entry.ref, Reason.CLUSTER_LOST.code, attempt.message, "Lose", "Warning")
            elif (
                attempt.state == "Failed"
                and not state.ended
                and spec is not None
                and (note := retry_note(spec, attempt, state.failed))
            ):
                self._events.say(entry.ref, Reason.RETRYING.code, note, "Retry", "Warning")

    def _ended(self, entry: JobEntry, state: JobState) -> None:
        well = state.phase == "Succeeded"
        self._events.say(entry.ref, state.reason.code, state.message, "Finish", "Normal" if well else "Warning")
        _log.info("ended", job=str(entry.ref), phase=state.phase, reason=state.reason.code, message=state.message)


def _bits(attempts: Iterable[Attempt]) -> int:
    """Their epochs. Sets of numbers would be most of what is kept of a job here.

    No job has so many slices; who writes such a number into a work is not to cost a bit for each.
    """
    found = 0
    for attempt in attempts:
        if attempt.epoch < _MOST_EPOCHS:
            found |= 1 << attempt.epoch
    return found


def _short(tasks: str) -> str:
    return tasks if len(tasks) <= 60 else tasks[:59] + "…"
