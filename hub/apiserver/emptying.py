"""What must be empty before it can go: namespaces, and CRDs with objects.

It follows committed changes: once something of the two is being deleted, what is in it is deleted, and when the last
of that is gone, so is the thing itself.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

from hub.api.errors import ApiError, StorageError
from hub.apiserver.collection import Collection
from hub.apiserver.history import Event
from hub.apiserver.installing import CRDS
from hub.apiserver.logical import LogicalCluster
from hub.apiserver.record import Record
from hub.apiserver.remove import CRD_FINALIZER, DeleteOptions, delete, finish
from hub.apiserver.written import Options, stage

_log = logging.getLogger(__name__)


class Emptier:
    """Of one logical cluster. `scan` once at the start; `follow` after each commit."""

    def __init__(self, cluster: LogicalCluster) -> None:
        self._cluster = cluster
        self._namespaces: set[str] = set()
        # (group, plural) of kinds whose CRD is being deleted → the CRD's name.
        self._kinds: dict[tuple[str, str], str] = {}

    def scan(self) -> None:
        for record in self._cluster.namespaces.select():
            self._look_at_namespace(record)
        for record in self._cluster.crds.select():
            self._look_at_crd(record)

    def follow(self, collection: Collection, events: Iterable[Event]) -> None:
        key = (collection.group, collection.plural)
        if key == ("", "namespaces"):
            for event in events:
                if event.type == "DELETED":
                    self._namespaces.discard(event.record.name)
                elif event.record.deleting:
                    self._look_at_namespace(event.record)
        elif key == CRDS:
            for event in events:
                if event.type != "DELETED" and event.record.deleting:
                    self._look_at_crd(event.record)
        if self._kinds and key in self._kinds and not collection.records:
            self._finish_crd(key)
        if self._namespaces:
            touched = {event.record.namespace for event in events if event.type == "DELETED"}
            for namespace in sorted(touched & self._namespaces):
                self._finish_namespace(namespace)

    def _look_at_namespace(self, record: Record) -> None:
        if not record.deleting or record.name in self._namespaces:
            return
        self._namespaces.add(record.name)
        for collection in self._collections():
            self._delete(collection, record.name)
        self._finish_namespace(record.name)

    def _look_at_crd(self, record: Record) -> None:
        if not record.deleting:
            return
        spec = record.load()["spec"]
        key = (spec["group"], spec["names"]["plural"])
        if key in self._kinds:
            return
        self._kinds[key] = record.name
        collection = self._cluster.store.collection(self._cluster.name, *key)
        self._delete(collection, None)
        if not collection.records:
            self._finish_crd(key)

    def _collections(self) -> list[Collection]:
        name = self._cluster.name
        return [collection for key, collection in self._cluster.store.collections.items() if key[0] == name]

    def _delete(self, collection: Collection, namespace: str | None) -> None:
        kind = self._cluster.stored_kind(collection)
        if kind is None or (namespace is not None and not kind.namespaced):
            return
        for record in collection.select(namespace):
            current = collection.latest(record.key)
            if current is None or current.deleting:
                continue
            try:
                delete(self._cluster, kind, record.key, DeleteOptions("Background"))
            except (ApiError, StorageError) as error:
                _log.warning("emptying %s: %s", namespace or collection.plural, error)

    def _finish_namespace(self, name: str) -> None:
        namespaces = self._cluster.namespaces
        record = namespaces.latest(("", name))
        kind = self._cluster.stored_kind(namespaces)
        if record is None or kind is None or not record.deleting:
            return
        # What is of no served kind cannot be deleted by anyone, so it does not hold its namespace.
        for collection in self._collections():
            if self._cluster.stored_kind(collection) is not None and collection.select(name):
                return
        obj = record.load()
        if obj["metadata"].get("finalizers"):
            obj["spec"] = {**(obj.get("spec") or {}), "finalizers": []}
            stage(self._cluster, kind, "MODIFIED", obj, record, Options(), verb="update")
        else:
            finish(self._cluster, kind, record)

    def _finish_crd(self, key: tuple[str, str]) -> None:
        name = self._kinds.pop(key)
        record = self._cluster.crds.latest(("", name))
        kind = self._cluster.stored_kind(self._cluster.crds)
        if record is None or kind is None or not record.deleting:
            return
        obj = record.load()
        left = [entry for entry in obj["metadata"].get("finalizers") or () if entry != CRD_FINALIZER]
        if left:
            obj["metadata"]["finalizers"] = left
            stage(self._cluster, kind, "MODIFIED", obj, record, Options(), verb="update")
        else:
            finish(self._cluster, kind, record)
