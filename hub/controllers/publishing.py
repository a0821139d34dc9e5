"""The hub's scores where OCM's users and other schedulers look: one AddOnPlacementScore a cluster, all scores in it.

Written only when a score moved by more than the deadband, came or went, or when its validity is half over; then all of
a cluster's scores in one write. A fleet that stays as it is costs one write a cluster and half-validity. What is
unknown is left out, because OCM would read any number that stands for it as one.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from hub.api import names
from hub.api.conditions import find_condition, with_condition
from hub.api.errors import InvalidObjectError
from hub.api.mergepatch import create_merge_patch
from hub.api.reasons import Reason
from hub.api.resource import ADDON_PLACEMENT_SCORES
from hub.api.timestamps import format_time, from_timestamp, parse_time
from hub.controllers.config import Publish
from hub.controllers.scores import Scores
from hub.controllers.world import World
from hub.controllers.writes import Create, MergePatch, Write, WriteKey, Writes
from hub.fleet.shape import TaskShape
from hub.scoring.combine import rank
from hub.scoring.interface import ScoreRequest

Json = dict[str, Any]
_NONE: Final = np.iinfo(np.int64).min
"""Stands for a score that is not there, in the numbers that are compared."""
CONDITION: Final = "ScorersReady"


@dataclass(frozen=True, slots=True)
class Published:
    """Of one score: for what part of the accepted clusters it is written, and since when (seconds) the oldest is."""

    coverage: float
    age: float


class Publishing:
    """`run()` until cancelled. `seen` is told of every AddOnPlacementScore; those of others are not its business.
    `observe`: told how long (seconds) each look took."""

    def __init__(
        self,
        scores: Scores,
        world: World,
        writes: Writes,
        config: Publish,
        now: Callable[[], float],
        observe: Callable[[float], None] = lambda seconds: None,
    ) -> None:
        self._scores, self._world, self._writes = scores, world, writes
        self._config, self._now, self._observe = config, now, observe
        self._objects: dict[str, Json] = {}
        # What each cluster should be told now, by score.
        self._wanted: dict[str, dict[str, int]] = {}
        self._condition = ("True", Reason.SCORE_ANSWERED.code, "")

    def standing(self) -> dict[str, Published]:
        """What the API's objects say of each score now."""
        accepted = max(1, int(np.count_nonzero(self._world.fleet.accepted)))
        found: dict[str, Published] = {}
        for obj in self._objects.values():
            status = obj.get("status") or {}
            age = max(0.0, self._config.validFor - self._left(status))
            for title in _told(status):
                before = found.get(title, Published(0.0, 0.0))
                found[title] = Published(min(1.0, before.coverage + 1 / accepted), max(before.age, age))
        return found

    def seen(self, obj: Json, *, gone: bool) -> None:
        meta = obj["metadata"]
        if meta["name"] != names.HUB_SCORES:
            return
        if gone:
            self._objects.pop(meta["namespace"], None)
        else:
            self._objects[meta["namespace"]] = obj

    async def run(self) -> None:
        while self._config.enabled:
            await asyncio.sleep(self._config.every)
            started = time.perf_counter()
            self.look()
            self._observe(time.perf_counter() - started)

    def look(self) -> int:
        """Submits what has to be written; returns for how many clusters."""
        self._world.refresh()
        fleet = self._world.fleet
        entries = self._scores.published()
        if not entries and not self._objects:
            return 0
        everyone = np.ones(len(fleet.names), np.bool_)
        ranking = rank(fleet, ScoreRequest(TaskShape(), 1, self._now()), entries, everyone)
        titles = tuple(entry.scorer.name for entry in entries)
        values = _rounded(ranking.normalised)
        # A cluster that a source is not about is told nothing of it.
        for row in range(len(titles)):
            values[row, np.isnan(ranking.raw[row])] = _NONE
        self._condition = self._state(ranking.problems)
        written = 0
        # The others have no namespace yet.
        accepted = fleet.accepted.tolist()
        for position, cluster in enumerate(fleet.names):
            if not accepted[position]:
                continue
            column = values[:, position].tolist()
            wanted = {title: value for title, value in zip(titles, column, strict=True) if value != _NONE}
            if self._differs(cluster, wanted):
                self._wanted[cluster] = wanted
                self._submit(cluster)
                written += 1
        return written

    def _state(self, problems: Mapping[str, str]) -> tuple[str, str, str]:
        if not problems:
            return "True", Reason.SCORE_ANSWERED.code, ""
        said = "; ".join(f"{name}: {problems[name]}" for name in sorted(problems))
        return "False", Reason.SCORE_PLUGIN_FAILED.code, said[:1000]

    def _differs(self, cluster: str, wanted: Mapping[str, int]) -> bool:
        status = (self._objects.get(cluster) or {}).get("status") or {}
        told = _told(status)
        if told.keys() != wanted.keys():
            return True
        if not wanted:
            return False
        if any(abs(told[title] - value) >= self._config.deadband for title, value in wanted.items()):
            return True
        condition = find_condition(status.get("conditions"), CONDITION)
        if condition is None or condition.get("status") != self._condition[0]:
            return True
        return self._left(status) < self._config.validFor / 2

    def _left(self, status: Mapping[str, Any]) -> float:
        try:
            return parse_time(str(status.get("validUntil"))).timestamp() - self._now()
        except InvalidObjectError:
            return 0.0

    def _submit(self, cluster: str) -> None:
        key = WriteKey(ADDON_PLACEMENT_SCORES, cluster, names.HUB_SCORES)
        status = key._replace(subresource="status")
        if cluster in self._objects:
            self._writes.submit(status, lambda: self._status(cluster, None))
            return
        # Created first: a status that comes with a creation is dropped by every API server.
        self._writes.submit(
            key,
            lambda: None if cluster in self._objects else Create(_new(cluster)),
            on_done=lambda made: self._writes.submit(status, lambda: self._status(cluster, made)),
        )

    def _status(self, cluster: str, made: Json | None) -> Write | None:
        known = self._objects.get(cluster) or made
        wanted = self._wanted.get(cluster)
        if known is None or wanted is None:
            return None
        before = known.get("status") or {}
        now = self._now()
        state, reason, message = self._condition
        status = {
            "scores": [{"name": title, "value": wanted[title]} for title in sorted(wanted)],
            "validUntil": format_time(from_timestamp(now + self._config.validFor)),
            "conditions": with_condition(
                before.get("conditions"), CONDITION, state, reason, message, now=format_time(from_timestamp(now))
            ),
        }
        patch = create_merge_patch(before, status)
        return None if patch is None else MergePatch({"metadata": {"uid": known["metadata"]["uid"]}, "status": patch})


def _rounded(normalised: NDArray[np.float64]) -> NDArray[np.int64]:
    """Half to even, and never out of the range in which OCM accepts a score."""
    known = ~np.isnan(normalised)
    rounded = np.full(normalised.shape, _NONE, np.int64)
    rounded[known] = np.clip(np.rint(normalised[known]), -100, 100).astype(np.int64)
    return rounded


def _told(status: Mapping[str, Any]) -> dict[str, int]:
    return {
        str(score["name"]): int(score["value"])
        for score in status.get("scores") or ()
        if isinstance(score, Mapping) and isinstance(score.get("value"), int) and score.get("name")
    }


def _new(cluster: str) -> Json:
    return {
        "apiVersion": ADDON_PLACEMENT_SCORES.api_version,
        "kind": ADDON_PLACEMENT_SCORES.kind,
        "metadata": {"name": names.HUB_SCORES, "namespace": cluster},
    }
