"""One Placement as the hub knows it: what it asks for, what was decided, what the API holds of that. No I/O."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from hub.api import names
from hub.api.errors import InvalidObjectError
from hub.api.timestamps import parse_time
from hub.client.backoff import Backoff
from hub.placement.decide import PlacementOutcome
from hub.placement.request import PlacementRequest, is_left_alone, parse_request
from hub.placement.sheets import Sheet, read_sheet
from hub.placement.stability import Held

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class SeenSheet:
    """A PlacementDecision of the API. `labels` and `chosen` are those of ours that it carries."""

    sheet: Sheet
    uid: str
    version: int
    owner: str
    labels: tuple[str, ...]
    chosen: str


@dataclass(slots=True, eq=False)
class Entry:
    """`obj` None: decisions of a Placement that is not there. `problem`: why it cannot be read; `request` is then the
    last that could. `sheets` None: nothing was decided by this hub yet. `current`: its clusters in name order.
    """

    namespace: str
    name: str
    obj: Json | None = None
    request: PlacementRequest | None = None
    problem: str = ""
    # Which rule it has: equal rules, equal numbers.
    rule: int = -1
    seen: dict[str, SeenSheet] = field(default_factory=dict)
    sheets: tuple[Sheet, ...] | None = None
    outcome: PlacementOutcome | None = None
    # The generation that `outcome` is for, and when scores last changed it (epoch seconds).
    generation: int = -1
    scored_at: float = -math.inf
    said: str = ""
    current: tuple[str, ...] = ()
    since: dict[str, Held] = field(default_factory=dict)
    task: asyncio.Task[None] | None = None
    again: bool = False
    backoff: Backoff = field(default_factory=lambda: Backoff(0.05, 30.0))

    @property
    def key(self) -> str:
        return f"{self.namespace}/{self.name}"

    @property
    def uid(self) -> str:
        return "" if self.obj is None else str(self.obj["metadata"]["uid"])

    @property
    def wanted_generation(self) -> int:
        return 0 if self.obj is None else int(self.obj["metadata"].get("generation") or 0)

    @property
    def ours(self) -> bool:
        """Whether this hub decides: not for what leaves, nor where somebody else was asked to."""
        return self.obj is not None and not is_left_alone(self.obj)

    def own_sheets(self) -> list[Sheet]:
        """What the API holds of this very Placement, in the order of their numbers."""
        mine = [seen.sheet for seen in self.seen.values() if seen.owner in ("", self.uid)]
        return sorted(mine, key=lambda sheet: (len(sheet.name), sheet.name))

    def read(self, obj: Json) -> bool:
        """Takes the object as it is now; True when that can change what is decided or written."""
        before, self.obj = self.obj, obj
        if before is not None and _wish(before) == _wish(obj):
            return False
        if before is not None and before["metadata"]["uid"] != obj["metadata"]["uid"]:
            self.sheets, self.outcome, self.request, self.since = None, None, None, {}
            self.scored_at, self.said = -math.inf, ""
        try:
            self.request, self.problem = parse_request(obj), ""
        except InvalidObjectError as error:
            self.problem = str(error)
        return True

    def last_scored(self, now: float) -> float:
        """When a hub before this one wrote its scores last (epoch seconds); `now` when nobody knows."""
        text = ((self.obj or {}).get("status") or {}).get("lastScoreUpdateTime")
        try:
            return min(now, parse_time(text).timestamp()) if isinstance(text, str) else now
        except (InvalidObjectError, OverflowError):
            return now

    def remember(self) -> dict[str, Held]:
        """Since when its clusters are chosen, as a hub before this one wrote it down."""
        found: dict[str, Held] = {}
        for seen in self.seen.values():
            found.update(read_chosen(seen.chosen))
        return {cluster: held for cluster, held in found.items() if cluster in self.current}


def is_older(obj: Mapping[str, Any], known: Mapping[str, Any] | None) -> bool:
    """Whether something newer is known of the very same object."""
    if known is None or known["metadata"]["uid"] != obj["metadata"]["uid"]:
        return False
    return int(obj["metadata"]["resourceVersion"]) < int(known["metadata"]["resourceVersion"])


def _wish(obj: Mapping[str, Any]) -> tuple[Any, ...]:
    meta = obj["metadata"]
    return meta["uid"], meta.get("deletionTimestamp"), meta.get("annotations"), obj.get("spec")


def read_decision(obj: Mapping[str, Any]) -> SeenSheet:
    meta = obj["metadata"]
    labels = meta.get("labels") or {}
    owners = meta.get("ownerReferences") or ()
    return SeenSheet(
        read_sheet(obj),
        str(meta["uid"]),
        int(meta["resourceVersion"]),
        next((str(owner.get("uid")) for owner in owners if owner.get("kind") == "Placement"), ""),
        tuple(str(labels.get(key)) for key in (names.PLACEMENT, names.DECISION_GROUP_INDEX, names.DECISION_GROUP_NAME)),
        str((meta.get("annotations") or {}).get(names.CHOSEN) or ""),
    )


def write_chosen(since: Mapping[str, Held], clusters: Iterable[str]) -> str:
    """``{"cluster": [epoch seconds, whether it displaced another]}``"""
    known = {name: [int(since[name].since), int(since[name].moved)] for name in sorted(clusters) if name in since}
    return json.dumps(known, separators=(",", ":"))


def read_chosen(text: str) -> dict[str, Held]:
    """Never raises: what is not readable is not known."""
    try:
        return {str(name): Held(float(at), bool(moved)) for name, (at, moved) in json.loads(text).items()}
    except (ValueError, TypeError, AttributeError):
        return {}
