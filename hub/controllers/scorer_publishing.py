"""Dynamic scores where OCM's users and schedulers look: an AddOnPlacementScore a score and cluster, as the framework's
own agent writes them, in each cluster's namespace.

Written when a score is another one, and renewed when half of its validity is over; validUntil is always set, so that
nobody trusts a score for longer than it counts here. An object that this hub has not made is left alone. What a scorer
or a cluster leaves behind is deleted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from hub.api import names
from hub.api.conditions import with_condition
from hub.api.errors import InvalidObjectError
from hub.api.mergepatch import create_merge_patch
from hub.api.reasons import Reason
from hub.api.resource import ADDON_PLACEMENT_SCORES
from hub.api.timestamps import format_time, from_timestamp, parse_time
from hub.controllers.scorer_state import Key, ScorerState
from hub.controllers.writes import Create, Delete, MergePatch, Write, WriteKey, Writes
from hub.scoring.dynamic.policy import ADD_ON
from hub.scoring.dynamic.published import object_name, whole_score

Json = dict[str, Any]
_TOGETHER: Final = 0.25
CONDITION: Final = "ScorerReady"


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What one object should say: `until` in epoch seconds."""

    owner: str
    score: str
    scores: Mapping[str, int]
    until: float


class ScorerPublishing:
    """`wake` after any change. `seen` is told of every AddOnPlacementScore. `now`: epoch seconds. `sent`: told of each
    write, the score and how many seconds it took. `taken`: of each scorer when its name is another's, or is free."""

    def __init__(
        self,
        states: Mapping[Key, ScorerState],
        writes: Writes,
        now: Callable[[], float],
        sent: Callable[[str, float], None],
        taken: Callable[[Key], None],
    ) -> None:
        self._states, self._writes, self._now, self._sent, self._taken = states, writes, now, sent, taken
        # Of every AddOnPlacementScore: whose it is, empty where it is not ours; ours as they are.
        self._owners: dict[Key, str] = {}
        self._objects: dict[Key, Json] = {}
        self._wanted: dict[Key, _Wanted] = {}
        # What is on its way, and not sent yet.
        self._pending: set[Key] = set()
        self._dirty: set[Key] = set()
        self._everything = True
        self._timer: asyncio.TimerHandle | None = None
        self._running = False

    def start(self) -> None:
        self._pending.clear()
        self._running = True
        self.wake()

    def stop(self) -> None:
        self._running = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def seen(self, obj: Json, *, gone: bool) -> None:
        meta = obj["metadata"]
        key = (str(meta["namespace"]), str(meta["name"]))
        if gone:
            was = self._owners.pop(key, None)
            self._objects.pop(key, None)
            if was is not None:
                self.wake()
            return
        owner = str((meta.get("annotations") or {}).get(names.SCORER) or "")
        self._owners[key] = owner
        if owner:
            self._objects[key] = obj
        else:
            self._objects.pop(key, None)

    def wake(self, scorers: Collection[Key] | None = None) -> None:
        """`scorers`: whose scores are others; None: whose they are, or who they are of, may have changed as well."""
        if scorers is None:
            self._everything = True
        else:
            self._dirty.update(scorers)
        if self._running and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_TOGETHER, self.look)

    def look(self) -> None:
        """Submits what has to be written."""
        self._timer = None
        now = self._now()
        everything, self._everything = self._everything, False
        dirty, self._dirty = self._dirty, set()
        wanted: dict[Key, _Wanted] = {}
        for scorer, state in self._states.items():
            if not everything and scorer not in dirty:
                continue
            plan = state.plan
            if plan is None or state.problem is not None or not plan.publishes or plan.policy.scored_by == ADD_ON:
                continue
            title, theirs = object_name(plan.score), []
            for cluster, scores in self._numbers(state, now).items():
                key = (cluster, title)
                if self._owners.get(key) == "":
                    theirs.append(cluster)
                    continue
                kept = state.values.get(cluster)
                wanted[key] = _Wanted(state.name, plan.score, scores, kept.until if kept is not None else now)
            unpublished = _foreign(title, theirs)
            if unpublished != state.unpublished:
                state.unpublished = unpublished
                self._taken(scorer)
        self._wanted = wanted if everything else self._wanted | wanted
        for key in wanted:
            if self._differs(key, now):
                self._submit(key)
        for key, obj in list(self._objects.items()) if everything else ():
            if key not in wanted and not self._concerned(key, self._owners.get(key, "")):
                self._remove(key, obj)

    def _numbers(self, state: ScorerState, now: float) -> dict[str, dict[str, int]]:
        """What each cluster with scores that count is told; with a normaliser each score over all clusters that have
        it, so that the relative ones are the same for everybody."""
        assert state.plan is not None
        policy = state.plan.policy
        raw = {name: kept.named for name in state.values.fresh(now) if (kept := state.values.get(name)) is not None}
        if policy.normaliser is None:
            return {
                cluster: {score: whole_score(value).value for score, value in scores.items()}
                for cluster, scores in raw.items()
            }
        found: dict[str, dict[str, int]] = {cluster: {} for cluster in raw}
        for score in sorted({score for scores in raw.values() for score in scores}):
            clusters = [cluster for cluster in raw if score in raw[cluster]]
            values = np.array([raw[cluster][score] for cluster in clusters], np.float64)
            normalised = policy.normaliser.scores(values, lower=policy.lower)
            for cluster, value in zip(clusters, normalised.tolist(), strict=True):
                found[cluster][score] = whole_score(value).value
        return found

    def _differs(self, key: Key, now: float) -> bool:
        obj, wanted = self._objects.get(key), self._wanted[key]
        if obj is None or self._owners.get(key) != wanted.owner:
            return True
        status = obj.get("status") or {}
        if _told(status) != wanted.scores:
            return True
        return _until(status) - now < (wanted.until - now) / 2

    def _concerned(self, key: Key, owner: str) -> bool:
        """Whether what is published there is somebody's still, though it may have ended."""
        cluster, title = key
        for state in self._states.values():
            if state.name == owner:
                plan = state.plan
                if state.spec is None or (plan is None and state.problem is None):
                    # Nobody knows yet what it is about.
                    return True
                mine = plan is not None and plan.publishes and plan.policy.scored_by != ADD_ON
                if plan is None or not mine or object_name(plan.score) != title:
                    return False
                return cluster in state.concerned and (state.problem is None or state.problem[0] is not _TAKEN)
        return False

    def _submit(self, key: Key) -> None:
        """Once until it is sent; what is sent is what is wanted then."""
        if key in self._pending:
            return
        self._pending.add(key)
        whole = WriteKey(ADDON_PLACEMENT_SCORES, key[0], key[1])
        if key in self._objects:
            if self._owners.get(key) != self._wanted[key].owner:
                self._writes.submit(whole, lambda: self._owned(key))
            self._submit_status(key)
            return
        # Created first: a status that comes with a creation is dropped by every API server.
        self._writes.submit(
            whole,
            lambda: self._new(key),
            on_done=lambda made: self._made(key, made),
            on_error=lambda _, error: self._pending.discard(key),
        )

    def _made(self, key: Key, made: Json | None) -> None:
        if made is not None:
            self.seen(made, gone=False)
            self._submit_status(key)

    def _submit_status(self, key: Key) -> None:
        began, score = asyncio.get_running_loop().time(), self._wanted[key].score if key in self._wanted else ""

        def done(answer: Json | None) -> None:
            if answer is not None:
                self.seen(answer, gone=False)
                self._sent(score, asyncio.get_running_loop().time() - began)

        status = WriteKey(ADDON_PLACEMENT_SCORES, key[0], key[1], "status")
        self._writes.submit(
            status,
            lambda: self._status(key),
            on_done=done,
            on_error=lambda _, error: self._pending.discard(key),
        )

    def _owned(self, key: Key) -> Write | None:
        """What one scorer has left another one goes on with."""
        wanted = self._wanted.get(key)
        if wanted is None or key not in self._objects:
            return None
        uid = self._objects[key]["metadata"]["uid"]
        return MergePatch({"metadata": {"uid": uid, "annotations": {names.SCORER: wanted.owner}}})

    def _new(self, key: Key) -> Write | None:
        wanted = self._wanted.get(key)
        if wanted is None or key in self._owners:
            self._pending.discard(key)
            return None
        return Create(
            {
                "apiVersion": ADDON_PLACEMENT_SCORES.api_version,
                "kind": ADDON_PLACEMENT_SCORES.kind,
                "metadata": {"name": key[1], "namespace": key[0], "annotations": {names.SCORER: wanted.owner}},
            }
        )

    def _status(self, key: Key) -> Write | None:
        self._pending.discard(key)
        known, wanted = self._objects.get(key), self._wanted.get(key)
        if known is None or wanted is None:
            return None
        scores = wanted.scores
        before, now = known.get("status") or {}, format_time(from_timestamp(self._now()))
        message = Reason.SCORER_ACCEPTED.message(detail=f"given by {wanted.owner}")
        status = {
            "scores": [{"name": name, "value": scores[name]} for name in sorted(scores)],
            "validUntil": format_time(from_timestamp(wanted.until)),
            "conditions": with_condition(
                before.get("conditions"),
                CONDITION,
                "True",
                Reason.SCORER_ACCEPTED.code,
                message,
                now=now,
                generation=known["metadata"].get("generation"),
            ),
        }
        patch = create_merge_patch(before, status)
        meta: Json = {"uid": known["metadata"]["uid"]}
        return None if patch is None else MergePatch({"metadata": meta, "status": patch})

    def _remove(self, key: Key, obj: Json) -> None:
        uid = str(obj["metadata"]["uid"])

        def still() -> Write | None:
            return None if self._concerned(key, self._owners.get(key, "")) else Delete(uid)

        self._writes.submit(WriteKey(ADDON_PLACEMENT_SCORES, *key), still)


_TAKEN: Final = Reason.SCORE_NAME_TAKEN


def _foreign(title: str, clusters: list[str]) -> str:
    if not clusters:
        return ""
    shown = ", ".join(clusters[:3]) + (f" and {len(clusters) - 3} more" if len(clusters) > 3 else "")
    return f"AddOnPlacementScore {title} of {shown} is not the hub's"


def _told(status: Mapping[str, Any]) -> dict[str, int]:
    return {
        str(score["name"]): int(score["value"])
        for score in status.get("scores") or ()
        if isinstance(score, Mapping) and isinstance(score.get("value"), int) and score.get("name")
    }


def _until(status: Mapping[str, Any]) -> float:
    try:
        return parse_time(str(status.get("validUntil"))).timestamp()
    except InvalidObjectError:
        return 0.0
