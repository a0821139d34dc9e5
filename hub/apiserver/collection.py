"""All objects of one kind in one logical cluster: what is committed, what is on its way, and in what order it is read.

Only committed objects are read; what is on its way is seen by whoever writes next, so that two writes to one object in
one batch follow each other. Indexes by label are made when selectors ask often enough for the same key.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Mapping
from typing import Final

from hub.apiserver.history import MAX_BYTES, Event, History
from hub.apiserver.record import Key, Record

_INDEX_FROM_SIZE: Final = 256
_INDEX_AFTER_ASKED: Final = 3
_MAX_INDEXES: Final = 8

Index = dict[str, dict[Key, Record]]


class Collection:
    """`group` and `plural` are those of the storage version; `version` that of the last committed change; `history` is
    how many bytes of changes are kept."""

    def __init__(self, id: int, cluster: str, group: str, plural: str, version: int, history: int = MAX_BYTES) -> None:
        self.id = id
        self.cluster = cluster
        self.group = group
        self.plural = plural
        self.version = version
        self.records: dict[Key, Record] = {}
        self.pending: dict[Key, Event] = {}
        self.history = History(version, max_bytes=history)
        self._names: dict[str, list[str]] = {}
        self._indexes: dict[str, Index] = {}
        self._asked: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self.records)

    def latest(self, key: Key) -> Record | None:
        """The newest version, committed or not: for whoever writes next."""
        event = self.pending.get(key) if self.pending else None
        if event is not None:
            return None if event.type == "DELETED" else event.record
        return self.records.get(key)

    def put(self, record: Record) -> None:
        """Takes in an object that the disk has, without an event: at the start."""
        self.records[record.key] = record
        self._names.setdefault(record.namespace, []).append(record.name)

    def sort(self) -> None:
        for names in self._names.values():
            names.sort()

    def apply(self, event: Event) -> None:
        """A committed change."""
        record = event.record
        key = record.key
        if self.pending.get(key) is event:
            del self.pending[key]
        previous = self.records.get(key)
        if event.type == "DELETED":
            self._remove(key)
        else:
            self.records[key] = record
            if previous is None:
                names = self._names.setdefault(key[0], [])
                if not names or key[1] > names[-1]:
                    names.append(key[1])
                else:
                    insort(names, key[1])
        for label, index in self._indexes.items():
            _move(index, label, previous, None if event.type == "DELETED" else record)
        self.version = event.version
        self.history.append(event)

    def namespaces(self) -> list[str]:
        return sorted(self._names)

    def select(self, namespace: str | None = None) -> list[Record]:
        """Everything, or what is in `namespace`, in the order of keys."""
        records = self.records
        if namespace is not None:
            return [records[namespace, name] for name in self._names.get(namespace, ())]
        return [records[space, name] for space in sorted(self._names) for name in self._names[space]]

    def labelled(self, label: str, value: str, namespace: str | None = None) -> list[Record] | None:
        """What carries `label` with `value`, in the order of keys; None where looking at all is as cheap."""
        index = self._indexes.get(label)
        if index is None:
            index = self._maybe_index(label)
        if index is None:
            return None
        found = index.get(value, {})
        return [found[key] for key in sorted(found) if namespace is None or key[0] == namespace]

    def _maybe_index(self, label: str) -> Index | None:
        if len(self.records) < _INDEX_FROM_SIZE or len(self._indexes) >= _MAX_INDEXES:
            return None
        if len(self._asked) > 64:
            self._asked.clear()
        asked = self._asked[label] = self._asked.get(label, 0) + 1
        if asked < _INDEX_AFTER_ASKED:
            return None
        index = self._indexes[label] = {}
        for record in self.records.values():
            _move(index, label, None, record)
        return index

    def _remove(self, key: Key) -> None:
        if self.records.pop(key, None) is None:
            return
        names = self._names[key[0]]
        del names[bisect_left(names, key[1])]
        if not names:
            del self._names[key[0]]


def _move(index: Index, label: str, previous: Record | None, record: Record | None) -> None:
    before = _value(previous, label)
    after = _value(record, label)
    if previous is not None and before is not None and before != after:
        bucket = index[before]
        del bucket[previous.key]
        if not bucket:
            del index[before]
    if record is not None and after is not None:
        index.setdefault(after, {})[record.key] = record


def _value(record: Record | None, label: str) -> str | None:
    labels: Mapping[str, str] = record.labels if record is not None else {}
    return labels.get(label)
