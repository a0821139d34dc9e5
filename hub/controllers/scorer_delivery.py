"""The framework's own agents, told what to ask: one ManifestWork a cluster, written when what it says changes.

Only for scorers that a ScorerPolicy leaves to the add-on; where there never was one, nothing is written. An agent that
has nothing to ask any more is told so by an empty list, because one whose ConfigMap vanishes goes on with the last.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Any, Final

from hub.api import names
from hub.api.errors import AlreadyExistsError, QuarterdeckError
from hub.api.resource import MANIFEST_WORKS
from hub.client.interface import KubeApi
from hub.controllers.logs import logger
from hub.controllers.scorer_roster import ScorerRoster
from hub.controllers.scorer_state import Key, ScorerState
from hub.controllers.writes import Create, MergePatch, Write, WriteKey, Writes
from hub.scoring.dynamic.policy import ADD_ON
from hub.scoring.dynamic.summary import WORK, config_map, work_of

Json = dict[str, Any]
_log = logger(__name__)
_LOOK_EVERY: Final = 60.0
"""Seconds after which is looked whether what was written is still there."""
_AGAIN: Final = 2.0


class ScorerDelivery:
    """`wake` after any change; `start` and `stop` with the lead."""

    def __init__(self, api: KubeApi, states: Mapping[Key, ScorerState], roster: ScorerRoster, writes: Writes) -> None:
        self._api, self._states, self._roster, self._writes = api, states, roster, writes
        self._news = asyncio.Event()
        self._works: dict[str, Json] = {}
        # Where the name is taken by a work that is not ours.
        self._taken: set[str] = set()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._news.set()
        self._task = asyncio.get_running_loop().create_task(self._run(), name="agents' scoring")

    def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            self._task = None

    def wake(self) -> None:
        self._news.set()

    async def _run(self) -> None:
        """What is there is listed once, so that what an earlier hub wrote is known; then by news."""
        loop, listed = asyncio.get_running_loop(), -_LOOK_EVERY
        while True:
            self._news.clear()
            used = bool(self._works) or any(state.scored_by == ADD_ON for state in self._states.values())
            if loop.time() - listed >= _LOOK_EVERY and (used or listed < 0):
                try:
                    await self._list()
                    listed = loop.time()
                except QuarterdeckError as error:
                    _log.warning("what agents are told to ask cannot be read", why=str(error))
                    await asyncio.sleep(_AGAIN)
                    continue
            if used or self._works:
                self.look()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_EVERY):
                    await self._news.wait()

    async def _list(self) -> None:
        found = await self._api.list(MANIFEST_WORKS, label_selector=names.SCORING_CONFIG)
        self._works = {str(obj["metadata"]["namespace"]): obj for obj in found.items}
        self._taken.clear()

    def look(self) -> None:
        """Submits what has to be written."""
        if self._roster.unknown(ADD_ON):
            # A hub that has just started takes nothing from anybody before it knows what is to be asked.
            return
        for cluster in self._roster.clusters:
            told = self._roster.told(cluster)
            if (not told and cluster not in self._works) or cluster in self._taken:
                continue
            manifest = config_map(told)
            if _manifests(self._works.get(cluster)) != [manifest]:
                key = WriteKey(MANIFEST_WORKS, cluster, WORK)
                self._writes.submit(
                    key,
                    lambda cluster=cluster, manifest=manifest: self._write(cluster, manifest),  # type: ignore[misc]
                    on_done=self._written,
                    on_error=self._refused,
                )

    def _write(self, cluster: str, manifest: Json) -> Write | None:
        known = self._works.get(cluster)
        if known is None:
            return Create(work_of(cluster, manifest))
        if _manifests(known) == [manifest]:
            return None
        meta = {"uid": known["metadata"]["uid"]}
        return MergePatch({"metadata": meta, "spec": {"workload": {"manifests": [manifest]}}})

    def _written(self, answer: Json | None) -> None:
        if answer is not None:
            self._works[str(answer["metadata"]["namespace"])] = answer

    def _refused(self, key: WriteKey, error: Exception) -> None:
        if isinstance(error, AlreadyExistsError) and key.namespace:
            _log.warning("agents are told by somebody else what to ask", cluster=key.namespace, work=key.name)
            self._taken.add(key.namespace)


def _manifests(work: Json | None) -> list[Any]:
    spec = (work or {}).get("spec") or {}
    return list((spec.get("workload") or {}).get("manifests") or ())
