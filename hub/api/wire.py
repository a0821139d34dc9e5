"""What passes between an API server and whoever asks it, over HTTP or in one process: plain values, no behaviour."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

Object = dict[str, Any]
PatchType = Literal["merge", "json", "strategic", "apply"]
EventType = Literal["ADDED", "MODIFIED", "DELETED", "BOOKMARK"]


@dataclass(frozen=True, slots=True)
class Listing:
    items: list[Object]
    resource_version: str


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a listing; the list is only good until the next page is asked for. `fresh`: what came before it is
    void, because the listing began anew."""

    items: list[Object]
    resource_version: str
    fresh: bool


@dataclass(frozen=True, slots=True)
class WatchEvent:
    type: EventType
    object: Object
