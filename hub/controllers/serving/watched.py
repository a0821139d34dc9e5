"""Other objects as this hub's informers have them, for rules about what an object says of others. From any thread."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from hub.admission.rule import Object
from hub.api.resource import (
    ADMISSION_CHECKS,
    CLUSTER_QUEUES,
    COHORTS,
    LOCAL_QUEUES,
    MANAGED_CLUSTER_SET_BINDINGS,
    MANAGED_CLUSTER_SETS,
    PLACEMENTS,
    RESOURCE_FLAVORS,
    WORKLOAD_PRIORITY_CLASSES,
    Resource,
)

_KEPT: Final = (
    ADMISSION_CHECKS,
    CLUSTER_QUEUES,
    COHORTS,
    LOCAL_QUEUES,
    MANAGED_CLUSTER_SET_BINDINGS,
    MANAGED_CLUSTER_SETS,
    PLACEMENTS,
    RESOURCE_FLAVORS,
    WORKLOAD_PRIORITY_CLASSES,
)


class WatchedLook:
    """Implements `hub.admission.references.Look` for the kinds that rules ask about. `store` gives one by key."""

    def __init__(self, store: Callable[[Resource], Mapping[str, Any]]) -> None:
        self._stores = {(resource.group, resource.plural): store(resource) for resource in _KEPT}

    def find(self, group: str, plural: str, namespace: str, name: str) -> Object | None:
        found: Object | None = self._stores[group, plural].get(f"{namespace}/{name}" if namespace else name)
        return None if found is None or found["metadata"].get("deletionTimestamp") else found

    def all(self, group: str, plural: str, namespace: str = "") -> Sequence[Object]:
        # Copied in one step: the loop's thread writes meanwhile.
        every = list(self._stores[group, plural].values())
        return [obj for obj in every if not namespace or obj["metadata"].get("namespace") == namespace]
