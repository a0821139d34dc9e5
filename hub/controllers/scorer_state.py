"""What the hub knows of one DynamicScorer, and what its status says of it. No I/O, and no decision of what is asked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hub.api.conditions import with_condition
from hub.api.reasons import Reason
from hub.api.timestamps import format_duration, format_time, from_timestamp
from hub.asking.trouble import ScorerTrouble
from hub.placement.scorer_targets import ScorerTargets
from hub.scoring.dynamic.document import ScorerDocument, synced_config
from hub.scoring.dynamic.plan import ScorerPlan
from hub.scoring.dynamic.policy import ADD_ON, AGENT, ScorerPolicy
from hub.scoring.dynamic.spec import ScorerSpec
from hub.scoring.dynamic.values import ScorerValues

Json = dict[str, Any]
Key = tuple[str, str]
"""Namespace and name."""


@dataclass(slots=True)
class ScorerState:
    """`problem`: why it cannot be asked at all. `unreadable`: why its object cannot be read, when an earlier one of it
    is asked meanwhile. `sync_trouble` and `troubles` (by cluster): what failed last.

    `healthy` None: its configuration has not been looked at yet. `concerned`: the clusters it is about.
    """

    obj: Json
    spec: ScorerSpec | None = None
    policy: ScorerPolicy = field(default_factory=ScorerPolicy)
    targets: ScorerTargets = field(default_factory=ScorerTargets)
    problem: tuple[Reason, str] | None = None
    unreadable: str = ""
    document: ScorerDocument | None = None
    healthy: bool | None = None
    sync_trouble: ScorerTrouble | None = None
    plan: ScorerPlan | None = None
    concerned: tuple[str, ...] = ()
    values: ScorerValues = field(default_factory=ScorerValues)
    troubles: dict[str, ScorerTrouble] = field(default_factory=dict)
    unpublished: str = ""
    synced_at: float | None = None

    @property
    def scored_by(self) -> str:
        """Who asks it; empty while nobody knows what."""
        return self.plan.policy.scored_by if self.plan is not None else ""

    @property
    def name(self) -> str:
        meta = self.obj["metadata"]
        return f"{meta['namespace']}/{meta['name']}"

    def signature(self, now: float) -> tuple[Any, ...]:
        """What a status says, but for times: the same signature is not worth another write."""
        return (
            self.obj["metadata"].get("generation"),
            self.problem,
            self.unreadable,
            self.document,
            self.healthy,
            None if self.sync_trouble is None else (self.sync_trouble.reason, self.sync_trouble.detail),
            len(self.values.fresh(now)),
            sorted((name, trouble.reason.code) for name, trouble in self.troubles.items()),
            sorted(self.values.ended(now)),
            self.unpublished,
            self.scored_by,
            len(self.concerned),
        )

    def status(self, now: float) -> Json:
        """The whole status; conditions keep the times at which they became what they are."""
        fresh = self.values.fresh(now)
        health = {None: "Unknown", True: "Active", False: "Inactive"}[self.healthy]
        status: Json = {"healthStatus": health, "clusters": len(fresh)}
        if self.document is not None and self.spec is not None and self.spec.full:
            status["lastSyncedConfig"] = synced_config(self.document)
        if self.synced_at is not None:
            status["lastSyncTime"] = format_time(from_timestamp(self.synced_at))
        last = self.values.last()
        if last is not None:
            status["lastScoreTime"] = format_time(from_timestamp(last))
        conditions = (self.obj.get("status") or {}).get("conditions")
        for kind, (state, reason, message) in self._conditions(fresh, now).items():
            conditions = with_condition(
                conditions,
                kind,
                state,
                reason.code,
                message,
                now=format_time(from_timestamp(now)),
                generation=self.obj["metadata"].get("generation"),
            )
        status["conditions"] = conditions
        return status

    def _conditions(self, fresh: list[str], now: float) -> dict[str, tuple[str, Reason, str]]:
        found = {"Synced": self._synced(), "Ready": self._ready(fresh)}
        worst = worst_of(self.troubles)
        answered = Reason.SCORE_ANSWERED.message(source=self.name, clusters=len(fresh))
        if worst is None:
            state = "True" if fresh else "Unknown"
            found["Answering"] = (state, Reason.SCORE_ANSWERED if fresh else Reason.SCORER_WAITS, answered)
        else:
            found["Answering"] = ("False", worst[0], worst[0].message(source=self.name, detail=worst[1]))
        ended = self.values.ended(now)
        if ended:
            ages = [f"{cluster}: score expired {format_duration(age)} ago" for cluster, age in list(ended.items())[:3]]
            more = f"; and {len(ended) - 3} more" if len(ended) > 3 else ""
            found["Fresh"] = (
                "False",
                Reason.SCORE_EXPIRED,
                Reason.SCORE_EXPIRED.message(detail="; ".join(ages) + more),
            )
        else:
            found["Fresh"] = ("True", Reason.SCORE_ANSWERED, answered)
        if self.unpublished:
            message = Reason.SCORE_NAME_TAKEN.message(source=self.name, detail=self.unpublished)
            found["Published"] = ("False", Reason.SCORE_NAME_TAKEN, message)
        else:
            found["Published"] = ("True", Reason.SCORE_ANSWERED, answered)
        return found

    def _synced(self) -> tuple[str, Reason, str]:
        if self.sync_trouble is not None:
            reason = self.sync_trouble.reason
            return "False", reason, reason.message(source=self.name, detail=self.sync_trouble.detail)
        if self.healthy is None:
            return "Unknown", Reason.SCORER_WAITS, _waits(self.name, "it has not been asked yet")
        said = "its configuration is read" if self.spec is not None and self.spec.full else "/healthz answers"
        return "True", Reason.SCORER_SYNCED, Reason.SCORER_SYNCED.message(source=self.name, detail=said)

    def _ready(self, fresh: list[str]) -> tuple[str, Reason, str]:
        if self.unreadable:
            reason = Reason.SCORER_SPEC_INVALID
            return "False", reason, reason.message(source=self.name, detail=self.unreadable)
        if self.problem is not None:
            reason, detail = self.problem
            return "False", reason, reason.message(source=self.name, detail=detail)
        if self.scored_by == ADD_ON:
            detail = f"the add-ons of {len(self.concerned)} clusters are told to ask it"
            return "True", Reason.SCORER_ACCEPTED, Reason.SCORER_ACCEPTED.message(detail=detail)
        if fresh:
            return (
                "True",
                Reason.SCORE_ANSWERED,
                Reason.SCORE_ANSWERED.message(source=self.name, clusters=len(fresh)),
            )
        if self.sync_trouble is not None:
            reason = self.sync_trouble.reason
            return "False", reason, reason.message(source=self.name, detail=self.sync_trouble.detail)
        worst = worst_of(self.troubles)
        if worst is not None:
            return "False", worst[0], worst[0].message(source=self.name, detail=worst[1])
        if self.healthy and not self.concerned:
            reason = Reason.SCORER_NO_CLUSTERS
            return "False", reason, reason.message(source=self.name, detail="there is no cluster that it is about")
        waits = "it has given no score yet"
        if self.scored_by == AGENT:
            waits = f"the agents of {len(self.concerned)} clusters are told to ask it, and none has answered yet"
        return "False", Reason.SCORER_WAITS, _waits(self.name, waits)


def worst_of(troubles: Mapping[str, ScorerTrouble]) -> tuple[Reason, str] | None:
    """The reason that most clusters have, the first by code of several, and which clusters."""
    if not troubles:
        return None
    counts = Counter(trouble.reason.code for trouble in troubles.values())
    code = min(counts, key=lambda each: (-counts[each], each))
    mine = [(name, trouble) for name, trouble in sorted(troubles.items()) if trouble.reason.code == code]
    said = "; ".join(f"{name}: {trouble.detail}" for name, trouble in mine[:3])
    if len(troubles) > 3:
        said += f"; and {len(troubles) - min(3, len(mine))} more"
    return mine[0][1].reason, said[:2000]


def _waits(name: str, detail: str) -> str:
    return Reason.SCORER_WAITS.message(source=name, detail=detail)
