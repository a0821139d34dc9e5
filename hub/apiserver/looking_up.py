"""Other objects of the same logical cluster, for rules about what an object says of them (hub/admission/references.py).

What counts is the newest state, committed or about to be: of two writes that come together the second sees the first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hub.apiserver.collection import Collection
from hub.apiserver.logical import LogicalCluster

Object = dict[str, Any]


class ClusterLook:
    """Implements `hub.admission.references.Look`; objects come in the version in which they are stored."""

    def __init__(self, cluster: LogicalCluster) -> None:
        self._cluster = cluster

    def find(self, group: str, plural: str, namespace: str, name: str) -> Object | None:
        collection = self._collection(group, plural)
        record = collection.latest((namespace, name)) if collection is not None else None
        return None if record is None or record.deleting else record.load()

    def all(self, group: str, plural: str, namespace: str = "") -> Sequence[Object]:
        collection = self._collection(group, plural)
        return [] if collection is None else [record.load() for record in collection.select(namespace or None)]

    def _collection(self, group: str, plural: str) -> Collection | None:
        return self._cluster.store.collections.get((self._cluster.name, group, plural))
