"""Lists, whole or page by page. All pages of one list show the same moment, however much is written meanwhile.

A snapshot is a list of references to records, and holds those that were replaced since. So it goes with the last page,
after a few minutes, or when there are too many; a client that comes back later starts anew (410).
"""

from __future__ import annotations

import base64
import binascii
import time
from bisect import bisect_right
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

import orjson

from hub.apiserver.collection import Collection
from hub.apiserver.record import Record
from hub.apiserver.selection import Selection
from hub.apiserver.status import bad_request, expired

_SNAPSHOTS: Final = 64
_SNAPSHOT_SECONDS: Final = 300.0
_MAX_KEPT: Final = 2_000_000


@dataclass(frozen=True, slots=True)
class Page:
    """`continue_` is empty on the last page; `remaining` how many come after it."""

    records: list[Record]
    version: int
    continue_: str = ""
    remaining: int | None = None


@dataclass(slots=True)
class _Snapshot:
    records: list[Record]
    until: float
    readers: int = 0


class Pages:
    """Of one server."""

    def __init__(self) -> None:
        self._snapshots: OrderedDict[tuple[int, int, object], _Snapshot] = OrderedDict()

    def first(self, collection: Collection, selection: Selection, version: int, limit: int) -> Page:
        """`limit` 0 means all."""
        records = selection.of(collection)
        if not limit or len(records) <= limit:
            return Page(records, version)
        key = (version, collection.id, selection.key)
        snapshot = self._snapshots.setdefault(key, _Snapshot(records, 0.0))
        snapshot.until = time.monotonic() + _SNAPSHOT_SECONDS
        snapshot.readers += 1
        self._snapshots.move_to_end(key)
        self.forget()
        return _page(snapshot.records, 0, version, limit)

    def next(self, collection: Collection, selection: Selection, token: str, limit: int) -> Page:
        """Raises `RefusedError` (400) for what is no token of ours, `GoneError` when its snapshot is gone."""
        version, namespace, name = _decode(token)
        key = (version, collection.id, selection.key)
        snapshot = self._snapshots.get(key)
        if snapshot is None or snapshot.until < time.monotonic():
            raise expired(
                "The provided continue parameter is too old to display a consistent list result. You must start a new "
                "list without the continue parameter."
            )
        start = bisect_right(snapshot.records, (namespace, name), key=lambda record: record.key)
        page = _page(snapshot.records, start, version, limit)
        if not page.continue_:
            snapshot.readers -= 1
            if snapshot.readers <= 0:
                del self._snapshots[key]
        return page

    def forget(self) -> None:
        """Drops what nobody will come back for."""
        now = time.monotonic()
        for key in [key for key, snapshot in self._snapshots.items() if snapshot.until < now]:
            del self._snapshots[key]
        kept = sum(len(snapshot.records) for snapshot in self._snapshots.values())
        while len(self._snapshots) > 1 and (len(self._snapshots) > _SNAPSHOTS or kept > _MAX_KEPT):
            _, oldest = self._snapshots.popitem(last=False)
            kept -= len(oldest.records)


def _page(records: list[Record], start: int, version: int, limit: int) -> Page:
    end = len(records) if not limit else min(len(records), start + limit)
    if end >= len(records):
        return Page(records[start:], version)
    last = records[end - 1]
    text = orjson.dumps([version, *last.key])
    return Page(records[start:end], version, base64.urlsafe_b64encode(text).decode(), len(records) - end)


def _decode(token: str) -> tuple[int, str, str]:
    try:
        version, namespace, name = orjson.loads(base64.urlsafe_b64decode(token))
        return int(version), str(namespace), str(name)
    except (binascii.Error, ValueError, TypeError) as error:
        raise bad_request("continue key is not valid") from error
