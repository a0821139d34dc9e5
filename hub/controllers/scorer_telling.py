"""What scorers and the objects around them say of themselves, written when it is something else than before."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final

from hub.api.conditions import find_condition, with_condition
from hub.api.mergepatch import create_merge_patch
from hub.api.reasons import Reason
from hub.api.resource import DYNAMIC_SCORERS, Resource
from hub.api.timestamps import format_time, from_timestamp
from hub.controllers.scorer_state import Key, ScorerState
from hub.controllers.writes import MergePatch, Write, WriteKey, Writes

Json = dict[str, Any]
_AGAIN: Final = 300.0
"""Seconds between two writes of a status that only say that it still answers."""


class ScorerTelling:
    """`now`: epoch seconds."""

    def __init__(self, writes: Writes, now: Callable[[], float]) -> None:
        self._writes, self._now = writes, now
        # What each scorer's status said last, but for times, and when.
        self._said: dict[Key, tuple[Any, float]] = {}

    def start(self) -> None:
        """Somebody else may have written meanwhile."""
        self._said.clear()

    def forget(self, key: Key) -> None:
        self._said.pop(key, None)

    def scorer(self, key: Key, state: ScorerState) -> None:
        """The status of a DynamicScorer."""
        now = self._now()
        said, at = self._said.get(key, (None, -math.inf))
        signature = state.signature(now)
        if said == signature and now - at < _AGAIN:
            return
        self._said[key] = (signature, now)

        def status() -> Write | None:
            # Not what it was when it was asked for: between the two more may have changed, and changed back.
            moment = self._now()
            if key in self._said:
                self._said[key] = (state.signature(moment), moment)
            return status_patch(state.obj, state.status(moment))

        self._writes.submit(WriteKey(DYNAMIC_SCORERS, *key, "status"), status, delay=0.3)

    def say(self, resource: Resource, obj: Json, kind: str, holds: bool, reason: Reason, detail: str) -> None:
        """The only condition of an object that has no more to say than that."""
        meta = obj["metadata"]
        status, generation = "True" if holds else "False", meta.get("generation")
        message = reason.message(source=f"{meta['namespace']}/{meta['name']}", detail=detail)
        before = (obj.get("status") or {}).get("conditions")
        known = find_condition(before, kind) or {}
        if (known.get("status"), known.get("message"), known.get("observedGeneration")) == (
            status,
            message,
            generation,
        ):
            return
        now = format_time(from_timestamp(self._now()))
        conditions = with_condition(before, kind, status, reason.code, message, now=now, generation=generation)
        write = status_patch(obj, {"conditions": conditions})
        key = WriteKey(resource, meta["namespace"], meta["name"], "status")
        self._writes.submit(key, lambda: write, delay=0.1)


def status_patch(obj: Json, status: Json) -> MergePatch | None:
    """What makes `status` of what the object says now; None: it says so."""
    patch = create_merge_patch(obj.get("status") or {}, status)
    return None if patch is None else MergePatch({"metadata": {"uid": obj["metadata"]["uid"]}, "status": patch})
