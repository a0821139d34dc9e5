"""Which objects of a collection a request is about: a namespace, labels, fields.

How selectors are written is selectors.py's business.
"""

from __future__ import annotations

from hub.api.errors import InvalidObjectError
from hub.apiserver.collection import Collection
from hub.apiserver.kinds import ServedKind
from hub.apiserver.record import Record
from hub.apiserver.selectors import parse_field_selector, parse_label_selector
from hub.apiserver.status import bad_request


class Selection:
    """`namespace` None means all of them. `everything` is True where only the namespace narrows it."""

    __slots__ = ("_fields", "_kind", "_labels", "everything", "key", "namespace")

    def __init__(self, kind: ServedKind, namespace: str | None, labels: str = "", fields: str = "") -> None:
        """Raises `RefusedError` (400) for selectors that cannot be read or name fields that cannot be selected by."""
        self._kind = kind
        try:
            self._labels = parse_label_selector(labels)
            self._fields = parse_field_selector(fields, kind.selectable)
        except InvalidObjectError as error:
            raise bad_request(f"{error} {error.hint}".strip()) from error
        if namespace is None and kind.namespaced:
            namespace = self._fields.namespace
        self.namespace = namespace
        self.everything = self._labels.everything and self._fields.everything
        # Fields are looked for in the version of the request.
        self.key = (namespace, labels, fields, kind if fields else None)

    def matches(self, record: Record) -> bool:
        """Labels and fields only: the namespace is the caller's to look at."""
        if not self._labels.matches(record.labels):
            return False
        fields = self._fields
        if fields.everything:
            return True
        if fields.of_metadata:
            return fields.matches({"metadata": {"name": record.name, "namespace": record.namespace}})
        return fields.matches(self._kind.from_storage(record.load()))

    def of(self, collection: Collection) -> list[Record]:
        """What matches, in the order of keys."""
        if self.everything:
            return collection.select(self.namespace)
        return [record for record in self._candidates(collection) if self.matches(record)]

    def _candidates(self, collection: Collection) -> list[Record]:
        name = self._fields.name
        if name is not None:
            spaces = collection.namespaces() if self.namespace is None else [self.namespace]
            return [record for space in spaces if (record := collection.records.get((space, name))) is not None]
        for label, value in self._labels.equalities().items():
            found = collection.labelled(label, value, self.namespace)
            if found is not None:
                return found
        return collection.select(self.namespace)
