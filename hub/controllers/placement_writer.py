"""Writes what was decided for a Placement: its PlacementDecisions in an order that loses and doubles no cluster, then
its status, which so never says what is not there yet. What is equal is not written; what fails is written again.

One task a Placement, which compares what is wanted with what the API is known to hold until there is no difference.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

from hub.api import names
from hub.api.errors import NotFoundError
from hub.api.mergepatch import create_merge_patch
from hub.api.resource import PLACEMENT_DECISIONS, PLACEMENTS
from hub.api.timestamps import format_time, from_timestamp
from hub.client.interface import Object
from hub.controllers.events import Events, Subject
from hub.controllers.logs import logger
from hub.controllers.placement_entry import Entry, is_older, read_decision, write_chosen
from hub.controllers.writes import Create, Delete, MergePatch, Write, WriteKey, Writes
from hub.placement.sheets import Sheet, entries_of, growing_first, labels_of
from hub.placement.verdict import decided_status, misconfigured_status

Json = dict[str, Any]
_log = logger(__name__)
_ROUNDS: Final = 50
"""So many differences in a row are somebody who writes against us: wait a moment then."""
_LONGEST_EVENT: Final = 1000

Step = tuple[WriteKey, Write]


class PlacementWriter:
    """`now` is epoch seconds."""

    def __init__(self, writes: Writes, events: Events, now: Callable[[], float], leads: Callable[[], bool]) -> None:
        self._writes, self._events, self._now, self._leads = writes, events, now, leads
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def busy(self) -> int:
        """Placements that are being written."""
        return len(self._tasks)

    def settle(self, entry: Entry) -> None:
        """Brings the API to what `entry` says, now or after what is on its way for it."""
        if entry.task is not None and not entry.task.done():
            entry.again = True
            return
        if not self._leads() or (not self._steps(entry) and self._status(entry) is None):
            return
        entry.task = asyncio.get_running_loop().create_task(self._carry_out(entry))
        self._tasks.add(entry.task)
        entry.task.add_done_callback(self._tasks.discard)

    def stop(self) -> None:
        for task in self._tasks:
            task.cancel()

    async def _carry_out(self, entry: Entry) -> None:
        rounds = 0
        while self._leads():
            entry.again = False
            try:
                done = await self._round(entry)
            except Exception as error:
                pause = entry.backoff.next()
                _log.warning(
                    "a Placement's decisions could not be written; again soon",
                    placement=entry.key, why=str(error), pause=f"{pause:.2f}s",
                )  # fmt: skip
                await asyncio.sleep(pause)
                continue
            if done:
                entry.backoff.reset()
                if not entry.again:
                    return
            rounds += 1
            if rounds % _ROUNDS == 0:
                await asyncio.sleep(1.0)

    async def _round(self, entry: Entry) -> bool:
        """One phase of writes; True when nothing was left to write."""
        steps = self._steps(entry)
        if steps:
            results = await asyncio.gather(*(self._write(entry, *step) for step in steps), return_exceptions=True)
            for result in results:
                if isinstance(result, BaseException):
                    raise result
            return False
        status = self._status(entry)
        if status is None:
            return True
        key = WriteKey(PLACEMENTS, entry.namespace, entry.name, "status")
        uid = entry.uid
        answer = await self._send(key, MergePatch({"metadata": {"uid": uid}, "status": status}))
        if answer is not None and entry.uid == uid and not is_older(answer, entry.obj):
            entry.obj = answer
        return False

    # What is to be written.

    def _steps(self, entry: Entry) -> list[Step]:
        """The next writes that may go side by side."""
        if entry.sheets is None or not entry.ours:
            return []
        return (
            self._foreign(entry)
            or self._frames(entry)
            or self._contents(entry, growing_first(_held(entry), entry.sheets))
            or self._contents(entry, entry.sheets)
            or self._surplus(entry)
        )

    def _foreign(self, entry: Entry) -> list[Step]:
        """Decisions of an earlier Placement of this name, which nobody has cleaned up yet."""
        return [
            (_key(entry, name), Delete(seen.uid))
            for name, seen in entry.seen.items()
            if seen.owner not in ("", entry.uid)
        ]

    def _frames(self, entry: Entry) -> list[Step]:
        """Objects that are missing, and labels that differ."""
        assert entry.obj is not None
        steps: list[Step] = []
        for sheet in entry.sheets or ():
            seen = entry.seen.get(sheet.name)
            wanted = labels_of(entry.name, sheet)
            metadata: Json = {"labels": wanted}
            chosen = self._chosen(entry, sheet)
            if chosen:
                metadata["annotations"] = {names.CHOSEN: chosen}
            if seen is None:
                metadata |= {"name": sheet.name, "namespace": entry.namespace, "ownerReferences": [_owner(entry)]}
                kind = {"apiVersion": PLACEMENT_DECISIONS.api_version, "kind": PLACEMENT_DECISIONS.kind}
                steps.append((_key(entry, sheet.name), Create({**kind, "metadata": metadata})))
            elif seen.labels != tuple(wanted.values()) or not seen.owner or (chosen and seen.chosen != chosen):
                if not seen.owner:
                    metadata["ownerReferences"] = [_owner(entry)]
                steps.append((_key(entry, sheet.name), MergePatch({"metadata": {"uid": seen.uid, **metadata}})))
        return steps

    def _chosen(self, entry: Entry, sheet: Sheet) -> str:
        request = entry.request
        if request is None or not request.remembers:
            return ""
        return write_chosen(entry.since, sheet.clusters)

    def _contents(self, entry: Entry, sheets: tuple[Sheet, ...] | list[Sheet]) -> list[Step]:
        steps: list[Step] = []
        for sheet in sheets:
            seen = entry.seen.get(sheet.name)
            if seen is not None and (seen.sheet.entries != sheet.entries or not seen.sheet.written):
                patch = {"metadata": {"uid": seen.uid}, "status": {"decisions": entries_of(sheet)}}
                steps.append((_key(entry, sheet.name, "status"), MergePatch(patch)))
        return steps

    def _surplus(self, entry: Entry) -> list[Step]:
        wanted = {sheet.name for sheet in entry.sheets or ()}
        return [(_key(entry, name), Delete(seen.uid)) for name, seen in entry.seen.items() if name not in wanted]

    def _status(self, entry: Entry) -> Json | None:
        """A merge patch of the Placement's status; None: it says what it should."""
        if entry.obj is None or not entry.ours:
            return None
        before, now = entry.obj.get("status") or {}, format_time(from_timestamp(self._now()))
        generation = entry.wanted_generation
        if entry.problem:
            wanted = misconfigured_status(before, entry.problem, generation=generation, now=now)
        elif entry.outcome is None or entry.sheets is None or entry.request is None:
            return None
        else:
            scored = format_time(from_timestamp(entry.scored_at)) if entry.request.by_score else None
            wanted = decided_status(
                before, entry.outcome, entry.sheets, generation=entry.generation, now=now, scored=scored
            )
        return create_merge_patch(before, wanted)

    # How it is written.

    async def _write(self, entry: Entry, key: WriteKey, write: Write) -> None:
        try:
            answer = await self._send(key, write)
        except NotFoundError:
            entry.seen.pop(key.name, None)
            return
        if answer is None:
            entry.seen.pop(key.name, None)
            self._say(entry, "DecisionDelete", "DecisionDeleted", f"Decision {key.name} is deleted")
            return
        seen, known = read_decision(answer), entry.seen.get(key.name)
        if known is None or known.uid != seen.uid or known.version < seen.version:
            entry.seen[key.name] = seen
        if isinstance(write, Create):
            self._say(entry, "DecisionCreate", "DecisionCreated", f"Decision {key.name} is created")
        elif key.subresource:
            self._say(entry, "DecisionUpdate", "DecisionUpdated", f"Decision {key.name} is updated")
            self._say_scores(entry)

    async def _send(self, key: WriteKey, write: Write) -> Object | None:
        """What the API answered. Raises what it raised, and CancelledError when this hub leads no longer."""
        done: asyncio.Future[Object | None] = asyncio.get_running_loop().create_future()

        def answered(answer: Object | None) -> None:
            if not done.done():
                done.set_result(answer)

        def failed(_key: WriteKey, error: Exception) -> None:
            if not done.done():
                done.set_exception(error)

        self._writes.submit(key, lambda: write, on_done=answered, on_error=failed)
        return await done

    def _say(self, entry: Entry, reason: str, action: str, what: str) -> None:
        note = f"{what} with placement {entry.name} in namespace {entry.namespace}"
        self._events.say(Subject("Placement", entry.namespace, entry.name, entry.uid), reason, note, action)

    def _say_scores(self, entry: Entry) -> None:
        if entry.outcome is None:
            return
        scores = sorted((decision.cluster, decision.score) for decision in entry.outcome.decisions)
        note = " ".join(f"{cluster}:{score}" for cluster, score in scores)
        if note == entry.said:
            return
        entry.said = note
        if len(note) > _LONGEST_EVENT:
            note = note[:_LONGEST_EVENT] + "......"
        self._events.say(
            Subject("Placement", entry.namespace, entry.name, entry.uid), "ScoreUpdate", note, "ScoreUpdated"
        )


def _held(entry: Entry) -> dict[str, Sheet]:
    return {name: seen.sheet for name, seen in entry.seen.items()}


def _key(entry: Entry, name: str, subresource: str | None = None) -> WriteKey:
    return WriteKey(PLACEMENT_DECISIONS, entry.namespace, name, subresource)


def _owner(entry: Entry) -> Json:
    return {
        "apiVersion": PLACEMENTS.api_version,
        "kind": PLACEMENTS.kind,
        "name": entry.name,
        "uid": entry.uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }
