"""Keeps ClusterQueues and ResourceFlavors from vanishing while something holds quota of them, by Kueue's finalizer.

Each gets the finalizer when it is first seen. When somebody deletes it, it stays until nothing is left that was given
quota of it; meanwhile a queue takes no jobs (hub/queueing/quotas.py says Terminating) and a flavor is given as before,
until no ClusterQueue names it. What holds quota is counted elsewhere (holdings.py, foreign.py). LocalQueues and Cohorts
hold nothing and go at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from hub.api import names
from hub.api.resource import CLUSTER_QUEUES, RESOURCE_FLAVORS, Resource
from hub.controllers.foreign import Foreign
from hub.controllers.holdings import Holdings
from hub.controllers.logs import logger
from hub.controllers.world import World
from hub.controllers.writes import MergePatch, Write, WriteKey, Writes
from hub.queueing.quotas import Quotas

Json = dict[str, Any]
_log = logger(__name__)
_KINDS: Final = (CLUSTER_QUEUES, RESOURCE_FLAVORS)


class InUse:
    """`look()` once a turn, and after taking the lead `take_over()`. `objects` gives both kinds as seen, by name."""

    def __init__(
        self,
        world: World,
        holdings: Holdings,
        foreign: Foreign,
        writes: Writes,
        objects: Callable[[Resource], Mapping[str, Json]],
    ) -> None:
        self._world, self._holdings, self._foreign = world, holdings, foreign
        self._writes, self._objects = writes, objects
        self._quotas: Quotas | None = None
        self._leaving: set[tuple[Resource, str]] = set()

    def take_over(self) -> None:
        """What was submitted while another led was not sent."""
        self._quotas = None

    def look(self) -> None:
        """All of them where a queue or flavor changed since, otherwise those that are being deleted."""
        if self._quotas is not self._world.quotas:
            self._quotas = self._world.quotas
            self._leaving.clear()
            for resource in _KINDS:
                for name, obj in self._objects(resource).items():
                    if _leaves(obj):
                        self._leaving.add((resource, name))
                    elif not _is_held(obj):
                        self._submit(resource, name)
        for resource, name in sorted(self._leaving, key=lambda one: (one[0].kind, one[1])):
            if not self._used(resource, name):
                self._submit(resource, name)

    def _used(self, resource: Resource, name: str) -> bool:
        if resource is CLUSTER_QUEUES:
            return any(usage.get(name) for usage in self._usages()) or any(
                one.queue == name for slices in (self._holdings.slices, self._foreign.slices) for one in slices
            )
        if any(name in group.flavors for queue in self._world.quotas.queues.values() for group in queue.groups):
            return True
        return any(flavor == name for usage in self._usages() for used in usage.values() for flavor, _ in used)

    def _usages(self) -> Iterable[Mapping[str, Mapping[tuple[str, str], int]]]:
        return self._holdings.usage, self._foreign.usage

    def _submit(self, resource: Resource, name: str) -> None:
        self._writes.submit(WriteKey(resource, None, name), lambda: self._write(resource, name))

    def _write(self, resource: Resource, name: str) -> Write | None:
        obj = self._objects(resource).get(name)
        if obj is None:
            return None
        meta = obj["metadata"]
        held = list(meta.get("finalizers") or ())
        if not _leaves(obj):
            wanted = held if _is_held(obj) else [*held, names.IN_USE_FINALIZER]
        elif self._used(resource, name):
            return None
        else:
            wanted = [one for one in held if one != names.IN_USE_FINALIZER]
        if wanted == held:
            return None
        if _leaves(obj):
            _log.info("nothing uses it any more, it is let go", kind=resource.kind, name=name)
        # The list is replaced as a whole: it must be the one that was seen.
        version = {"uid": meta["uid"], "resourceVersion": meta["resourceVersion"]}
        return MergePatch({"metadata": {**version, "finalizers": wanted or None}})


def _leaves(obj: Mapping[str, Any]) -> bool:
    return bool(obj["metadata"].get("deletionTimestamp"))


def _is_held(obj: Mapping[str, Any]) -> bool:
    return names.IN_USE_FINALIZER in (obj["metadata"].get("finalizers") or ())
