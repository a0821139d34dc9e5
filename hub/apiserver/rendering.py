"""How a client wants to see objects: as they are, in another version, as metadata only, or as a table.

A rendering turns records into the JSON of one object or of a list. It is chosen once a request and shared by all who
ask for the same; which one is hub/apiserver/negotiation.py's business.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Any, Final, Protocol

import orjson

from hub.apiserver.kinds import ServedKind
from hub.apiserver.record import Record
from hub.apiserver.tables import Include, table, table_rows

INITIAL_EVENTS_END: Final = "k8s.io/initial-events-end"


class Rendering(Protocol):
    @property
    def key(self) -> object:
        """Equal for renderings that give the same bytes."""
        ...

    def one(self, record: Record) -> bytes: ...

    def many(self, records: Sequence[Record], version: int, continue_: str = "", remaining: int | None = None) -> bytes:
        """A list as of `version`."""
        ...

    def bookmark(self, version: int, *, initial: bool = False) -> bytes: ...


def _list_metadata(version: int, continue_: str, remaining: int | None) -> dict[str, Any]:
    metadata: dict[str, Any] = {"resourceVersion": str(version)}
    if continue_:
        metadata["continue"] = continue_
        if remaining is not None:
            metadata["remainingItemCount"] = remaining
    return metadata


def _bookmark_metadata(version: int, initial: bool) -> dict[str, Any]:
    metadata: dict[str, Any] = {"resourceVersion": str(version), "creationTimestamp": None}
    if initial:
        metadata["annotations"] = {INITIAL_EVENTS_END: "true"}
    return metadata


def _joined(kind: str, api_version: str, metadata: dict[str, Any], items: Iterable[bytes]) -> bytes:
    head = orjson.dumps({"kind": kind, "apiVersion": api_version, "metadata": metadata})
    return b'%b,"items":[%b]}' % (head[:-1], b",".join(items))


class Plain:
    """Objects as this version spells them; without any work where that is how they are kept."""

    def __init__(self, kind: ServedKind) -> None:
        self._kind = kind
        self._api_version = kind.api_version
        self.key = ("plain", kind)

    def one(self, record: Record) -> bytes:
        if record.api_version == self._api_version:
            return record.raw
        return orjson.dumps(self._kind.from_storage(record.load()))

    def many(self, records: Sequence[Record], version: int, continue_: str = "", remaining: int | None = None) -> bytes:
        kind = self._kind
        metadata = _list_metadata(version, continue_, remaining)
        return _joined(kind.list_kind, kind.api_version, metadata, map(self.one, records))

    def bookmark(self, version: int, *, initial: bool = False) -> bytes:
        kind = self._kind
        metadata = _bookmark_metadata(version, initial)
        return orjson.dumps({"kind": kind.kind, "apiVersion": kind.api_version, "metadata": metadata})


class MetadataOnly:
    """PartialObjectMetadata: what garbage collectors and other generic clients ask for."""

    def __init__(self, kind: ServedKind, version: str = "v1") -> None:
        self._api_version = f"meta.k8s.io/{version}"
        self.key = ("metadata", version, kind.storage)

    def one(self, record: Record) -> bytes:
        return orjson.dumps(self._partial(record.load()["metadata"]))

    def many(self, records: Sequence[Record], version: int, continue_: str = "", remaining: int | None = None) -> bytes:
        metadata = _list_metadata(version, continue_, remaining)
        return _joined("PartialObjectMetadataList", self._api_version, metadata, map(self.one, records))

    def bookmark(self, version: int, *, initial: bool = False) -> bytes:
        return orjson.dumps(self._partial(_bookmark_metadata(version, initial)))

    def _partial(self, metadata: dict[str, Any]) -> dict[str, Any]:
        return {"kind": "PartialObjectMetadata", "apiVersion": self._api_version, "metadata": metadata}


class AsTable:
    """The table of `kubectl get`. `include` says what of the object each row carries."""

    def __init__(self, kind: ServedKind, version: str = "v1", include: Include = "Metadata") -> None:
        self._kind = kind
        self._include = include
        self._version = version
        self.key = ("table", version, include, kind)

    def one(self, record: Record) -> bytes:
        return self._table([record], {"resourceVersion": str(record.version)})

    def many(self, records: Sequence[Record], version: int, continue_: str = "", remaining: int | None = None) -> bytes:
        return self._table(records, _list_metadata(version, continue_, remaining))

    def bookmark(self, version: int, *, initial: bool = False) -> bytes:
        return self._table([], _bookmark_metadata(version, initial))

    def _table(self, records: Sequence[Record], metadata: dict[str, Any]) -> bytes:
        objects = [self._kind.from_storage(record.load()) for record in records]
        rows = table_rows(self._kind, objects, include=self._include, now=time.time())
        return orjson.dumps(table(self._kind, rows, metadata, version=self._version))
