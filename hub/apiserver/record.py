"""One version of one object, as the store holds it: its JSON and the few facts that are asked of many objects at once.

The bytes are what clients get and what the disk has, so reading costs no encoding; whoever changes an object decodes
them anew, which is cheaper than copying a dict. A record never changes. Besides the bytes it is small: what many
objects say alike, and all versions of one, is in memory once.
"""

from __future__ import annotations

from collections.abc import Mapping
from sys import intern
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import orjson

Key = tuple[str, str]
"""(namespace, name); the namespace is empty for what has none."""

_NO_LABELS: Final[Mapping[str, str]] = MappingProxyType({})


class Owner(NamedTuple):
    """One ownerReference, as far as garbage collection looks at it."""

    api_version: str
    kind: str
    name: str
    uid: str
    blocking: bool


class Record:
    """`id` is the object's row, the same through all its versions; `version` its resourceVersion."""

    __slots__ = ("api_version", "deleting", "id", "key", "labels", "owners", "raw", "uid", "version")

    def __init__(self, id: int, obj: Mapping[str, Any], raw: bytes, previous: Record | None = None) -> None:
        metadata = obj["metadata"]
        self.id = id
        self.raw = raw
        # As which version it is kept: a CRD's storage version may have changed since it was written.
        self.api_version: str = intern(obj["apiVersion"])
        self.key: Key = (_once(metadata.get("namespace") or ""), metadata["name"])
        self.uid: str = metadata["uid"]
        self.version = int(metadata["resourceVersion"])
        labels = metadata.get("labels")
        self.labels: Mapping[str, str] = (
            dict(zip(labels, map(_once, labels.values()), strict=True)) if labels else _NO_LABELS
        )
        self.deleting = "deletionTimestamp" in metadata
        owners = metadata.get("ownerReferences")
        self.owners: tuple[Owner, ...] = tuple(map(_owner, owners)) if owners else ()
        if previous is not None:
            self._share(previous)

    def _share(self, previous: Record) -> None:
        if self.key == previous.key:
            self.key = previous.key
        if self.uid == previous.uid:
            self.uid = previous.uid
        if self.labels == previous.labels:
            self.labels = previous.labels
        if self.owners == previous.owners:
            self.owners = previous.owners

    @property
    def namespace(self) -> str:
        return self.key[0]

    @property
    def name(self) -> str:
        return self.key[1]

    def load(self) -> dict[str, Any]:
        """The object; the caller's to change."""
        obj: dict[str, Any] = orjson.loads(self.raw)
        return obj


def _once(text: str) -> str:
    # Not all that got into a store of old is text.
    return intern(text) if type(text) is str else text


def _owner(reference: Mapping[str, Any]) -> Owner:
    return Owner(
        intern(str(reference.get("apiVersion", ""))),
        intern(str(reference.get("kind", ""))),
        intern(str(reference.get("name", ""))),
        intern(str(reference.get("uid", ""))),
        bool(reference.get("blockOwnerDeletion")),
    )
