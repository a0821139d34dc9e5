"""Garbage collection: dependents go after their owners, owners wait for dependents where they were asked to.

It follows committed changes and stages its own in turn. What it needs is known from ownerReferences alone: a dependent
whose owners are all gone is deleted; owners that are being deleted in the foreground, or whose dependents are to be
orphaned, are let go when that is done. Owners of kinds that are not served are left to whoever serves them.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

from hub.api.errors import ApiError, StorageError
from hub.apiserver.collection import Collection
from hub.apiserver.history import Event
from hub.apiserver.kinds import ServedKind
from hub.apiserver.logical import LogicalCluster
from hub.apiserver.record import Key, Owner, Record
from hub.apiserver.remove import FOREGROUND, ORPHAN, DeleteOptions, delete, finish
from hub.apiserver.written import Options, stage

_log = logging.getLogger(__name__)

Place = tuple[Collection, Key]


class GarbageCollector:
    """Of one logical cluster. `scan` once at the start; `follow` after each commit."""

    def __init__(self, cluster: LogicalCluster) -> None:
        self._cluster = cluster
        self._dependents: dict[str, set[Place]] = {}

    def scan(self) -> None:
        """Takes up what is in the store, and what an earlier run did not finish."""
        due: list[Place] = []
        for collection in self._collections():
            for record in collection.records.values():
                self._link(collection, record, None)
                if record.owners or record.deleting:
                    due.append((collection, record.key))
        for collection, key in due:
            self._settle(collection, key)

    def follow(self, collection: Collection, events: Iterable[Event]) -> None:
        for event in events:
            record = event.record
            if event.type == "DELETED":
                self._link(collection, None, event.previous)
                self._owner_gone(record.uid)
                # An owner that waits for this one may be free now.
                for owner in record.owners:
                    self._settle_owner(record, owner)
                continue
            previous = event.previous
            if record.owners != (previous.owners if previous is not None else ()):
                self._link(collection, record, previous)
                self._settle(collection, record.key)
            if record.deleting:
                self._settle(collection, record.key)

    def _collections(self) -> list[Collection]:
        name = self._cluster.name
        return [collection for key, collection in self._cluster.store.collections.items() if key[0] == name]

    def _link(self, collection: Collection, record: Record | None, previous: Record | None) -> None:
        for owner in previous.owners if previous is not None else ():
            places = self._dependents.get(owner.uid)
            if previous is not None and places is not None:
                places.discard((collection, previous.key))
                if not places:
                    del self._dependents[owner.uid]
        for owner in record.owners if record is not None else ():
            if record is not None:
                self._dependents.setdefault(owner.uid, set()).add((collection, record.key))

    def _owner_gone(self, uid: str) -> None:
        for collection, key in sorted(self._dependents.get(uid, ()), key=lambda place: (place[0].id, place[1])):
            self._settle(collection, key)

    def _settle_owner(self, dependent: Record, owner: Owner) -> None:
        kind = self._kind_of(owner)
        if kind is None:
            return
        key = (dependent.namespace if kind.namespaced else "", owner.name)
        collection = self._cluster.collection(kind)
        record = collection.records.get(key)
        if record is not None and record.uid == owner.uid and record.deleting:
            self._settle(collection, key)

    def _settle(self, collection: Collection, key: Key) -> None:
        """Does what is due for one object, if anything."""
        record = collection.latest(key)
        kind = self._cluster.stored_kind(collection)
        if record is None or kind is None:
            return
        try:
            if record.deleting:
                self._let_go(collection, kind, record)
            elif record.owners and self._is_orphan(record):
                delete(self._cluster, kind, key, DeleteOptions("Background", {"uid": record.uid}))
        except (ApiError, StorageError) as error:
            _log.warning("garbage collection of %s %s: %s", collection.plural, "/".join(key), error)

    def _is_orphan(self, record: Record) -> bool:
        """Whether every owner is known to be gone."""
        for owner in record.owners:
            kind = self._kind_of(owner)
            if kind is None:
                return False
            holder = self._cluster.collection(kind).latest((record.namespace if kind.namespaced else "", owner.name))
            if holder is not None and holder.uid == owner.uid:
                return False
        return True

    def _let_go(self, collection: Collection, kind: ServedKind, record: Record) -> None:
        obj = record.load()
        finalizers = obj["metadata"].get("finalizers") or []
        if ORPHAN in finalizers:
            for place in self._dependents_of(record.uid):
                self._disown(*place, record.uid)
            self._drop_finalizer(collection, kind, record, ORPHAN)
        elif FOREGROUND in finalizers:
            waiting = False
            for dependents, key in self._dependents_of(record.uid):
                dependent = dependents.latest(key)
                dependent_kind = self._cluster.stored_kind(dependents)
                if dependent is None or dependent_kind is None:
                    continue
                mine = next((owner for owner in dependent.owners if owner.uid == record.uid), None)
                if mine is None:
                    continue
                others = [owner for owner in dependent.owners if owner.uid != record.uid]
                if others and not self._all_gone(dependent, others):
                    self._disown(dependents, key, record.uid)
                    continue
                if not dependent.deleting:
                    how = DeleteOptions("Foreground", {"uid": dependent.uid})
                    delete(self._cluster, dependent_kind, key, how)
                if dependents.latest(key) is not None and mine.blocking:
                    waiting = True
            if not waiting:
                self._drop_finalizer(collection, kind, record, FOREGROUND)

    def _all_gone(self, dependent: Record, owners: list[Owner]) -> bool:
        for owner in owners:
            kind = self._kind_of(owner)
            if kind is None:
                return False
            key = (dependent.namespace if kind.namespaced else "", owner.name)
            holder = self._cluster.collection(kind).latest(key)
            if holder is not None and holder.uid == owner.uid and not holder.deleting:
                return False
        return True

    def _dependents_of(self, uid: str) -> list[Place]:
        return sorted(self._dependents.get(uid, ()), key=lambda place: (place[0].id, place[1]))

    def _disown(self, collection: Collection, key: Key, uid: str) -> None:
        record, kind = collection.latest(key), self._cluster.stored_kind(collection)
        if record is None or kind is None:
            return
        obj = kind.from_storage(record.load())
        owners = [owner for owner in obj["metadata"].get("ownerReferences") or () if owner.get("uid") != uid]
        if owners:
            obj["metadata"]["ownerReferences"] = owners
        else:
            obj["metadata"].pop("ownerReferences", None)
        stage(self._cluster, kind, "MODIFIED", obj, record, Options(), verb="patch")

    def _drop_finalizer(self, collection: Collection, kind: ServedKind, record: Record, name: str) -> None:
        latest = collection.latest(record.key)
        if latest is None or latest.uid != record.uid:
            return
        obj = kind.from_storage(latest.load())
        metadata = obj["metadata"]
        left = [finalizer for finalizer in metadata.get("finalizers") or () if finalizer != name]
        if left:
            metadata["finalizers"] = left
            stage(self._cluster, kind, "MODIFIED", obj, latest, Options(), verb="patch")
        else:
            finish(self._cluster, kind, latest)

    def _kind_of(self, owner: Owner) -> ServedKind | None:
        group, _, _ = owner.api_version.rpartition("/")
        return self._cluster.registry.by_kind(group, owner.kind)
