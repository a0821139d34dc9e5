"""What is said of plugins where people look: a ScorerPlugin object for each that is installed, with condition Ready.

Written when something changed: a plugin that fails, is left alone, answers again, knows other clusters. One that cannot
be loaded has an object too, and says why. Objects of plugins that are not installed any more are deleted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from hub.api.conditions import with_condition
from hub.api.errors import NotFoundError
from hub.api.mergepatch import create_merge_patch
from hub.api.reasons import Reason
from hub.api.resource import SCORER_PLUGINS
from hub.api.timestamps import format_time, from_timestamp
from hub.client.interface import KubeApi
from hub.controllers.guard import Guarded
from hub.controllers.writes import Create, Delete, MergePatch, Write, WriteKey, Writes

Json = dict[str, Any]
_EVERY: Final = 2.0


@dataclass(frozen=True, slots=True)
class Installed:
    """`name` is the entry point's, `source` what it names. `plugin` None: it cannot be used, and `problem` says why."""

    name: str
    source: str
    isolated: bool = False
    weight: float = 0.0
    plugin: Guarded | None = None
    problem: str = ""


class PluginStatus:
    """`installed()` is asked at every look; `leads` says whether this hub may write. `run()` until cancelled."""

    def __init__(
        self,
        api: KubeApi,
        writes: Writes,
        installed: Callable[[], tuple[Installed, ...]],
        *,
        leads: Callable[[], bool],
        now: Callable[[], float],
    ) -> None:
        self._api, self._writes, self._installed = api, writes, installed
        self._leads, self._now = leads, now
        self._objects: dict[str, Json] = {}
        # None: what is there is not known, because another hub may have written it.
        self._listed = False
        self._said: dict[str, tuple[Any, ...]] = {}

    async def run(self) -> None:
        while True:
            if not self._leads():
                self._listed = False
            elif self._listed or await self._list():
                self.look()
            await asyncio.sleep(_EVERY)

    def look(self) -> None:
        """Submits what has to be written."""
        installed = {one.name: one for one in self._installed()}
        for gone in self._objects.keys() - installed.keys():
            uid = self._objects.pop(gone)["metadata"]["uid"]
            self._said.pop(gone, None)
            self._writes.submit(WriteKey(SCORER_PLUGINS, None, gone), lambda uid=uid: Delete(uid))  # type: ignore[misc]
        for name, one in installed.items():
            facts = _facts(one)
            if self._said.get(name) != facts:
                self._said[name] = facts
                self._submit(one)

    async def _list(self) -> bool:
        try:
            listing = await self._api.list(SCORER_PLUGINS)
        except NotFoundError:
            # An API without our newer kinds: there is nobody to tell.
            return False
        self._objects = {item["metadata"]["name"]: item for item in listing.items}
        self._said = {}
        self._listed = True
        return True

    def _submit(self, one: Installed) -> None:
        key = WriteKey(SCORER_PLUGINS, None, one.name)
        status = key._replace(subresource="status")
        if one.name in self._objects:
            self._writes.submit(status, lambda: self._status(one), on_done=self._written, on_error=self._failed)
            return
        # Created first: a status that comes with a creation is dropped by every API server.
        body = {
            "apiVersion": SCORER_PLUGINS.api_version,
            "kind": SCORER_PLUGINS.kind,
            "metadata": {"name": one.name},
        }

        def made(answer: Json | None) -> None:
            self._written(answer)
            self._writes.submit(status, lambda: self._status(one), on_done=self._written, on_error=self._failed)

        self._writes.submit(key, lambda: Create(body), on_done=made, on_error=self._failed)

    def _written(self, answer: Json | None) -> None:
        if answer is not None:
            self._objects[answer["metadata"]["name"]] = answer

    def _failed(self, key: WriteKey, error: Exception) -> None:
        """Somebody deleted or made it meanwhile: what is there is looked up again."""
        self._listed = False

    def _status(self, one: Installed) -> Write | None:
        known = self._objects.get(one.name)
        if known is None:
            return None
        now = self._now()
        before: Mapping[str, Any] = known.get("status") or {}
        ready, reason, message, clusters = _facts(one)[:4]
        status: Json = {"source": one.source, "isolated": one.isolated, "weight": f"{one.weight:g}"}
        if one.plugin is not None:
            status |= {"scorer": one.plugin.name, "clusters": clusters}
            age = one.plugin.age()
            if age is not None:
                status["lastAnswerTime"] = format_time(from_timestamp(now - age))
        if reason:
            status |= {"reason": reason, "message": message}
        said = message or Reason.SCORE_ANSWERED.message(source=one.name, clusters=clusters)
        status["conditions"] = with_condition(
            before.get("conditions"),
            "Ready",
            "True" if ready else "False",
            reason or Reason.SCORE_ANSWERED.code,
            said,
            now=format_time(from_timestamp(now)),
        )
        patch = create_merge_patch(before, status)
        return None if patch is None else MergePatch({"metadata": {"uid": known["metadata"]["uid"]}, "status": patch})


def _facts(one: Installed) -> tuple[Any, ...]:
    """(ready, reason, message, clusters …): what makes it worth another write."""
    plugin = one.plugin
    if plugin is None:
        message = Reason.SCORE_PLUGIN_FAILED.message(plugin=one.name, detail=one.problem)[:1000]
        return False, Reason.SCORE_PLUGIN_FAILED.code, message, 0, one.isolated, one.weight
    problem = plugin.problem[:1000]
    reason = Reason.SCORE_PLUGIN_FAILED.code if problem else ""
    return not problem, reason, problem, plugin.known, one.isolated, one.weight
