"""What is really asked of a scorer: its DynamicScorer, its own configuration and its policy, made one.

In mode Full whatever the scorer's configuration says goes before the object; in mode None the configuration of an
earlier time counts for nothing. Pure; the same three give an equal plan, so that a change of the plan is a change of
what is asked.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from hub.api.errors import InvalidObjectError
from hub.asking.question import NamedQuery, SecretKey
from hub.asking.request import QUERY_RANGE
from hub.scoring.dynamic.data import SourcePlan
from hub.scoring.dynamic.document import ScorerDocument
from hub.scoring.dynamic.policy import ScorerPolicy
from hub.scoring.dynamic.spec import NOTHING, PROMETHEUS, ScorerSpec, SourcePart

MOST_POINTS: Final = 11_000
"""More samples a series Prometheus does not give."""


@dataclass(frozen=True, slots=True)
class ScorerPlan:
    """`interval`, `valid_for` and `timeout` in seconds. `host` and `path`: the scoring endpoint."""

    score: str
    host: str
    path: str
    interval: float
    valid_for: float
    source: SourcePlan
    protocol: int
    token: SecretKey | None
    dimension_format: str
    publishes: bool
    policy: ScorerPolicy

    @property
    def timeout(self) -> float:
        return self.policy.timeout


def make_plan(spec: ScorerSpec, document: ScorerDocument | None, policy: ScorerPolicy) -> ScorerPlan:
    """`document` is not looked at in mode None. Raises `InvalidObjectError` naming what nobody says."""
    said = document if spec.full else None
    scoring = said.scoring if said is not None else None
    name = (scoring.name if scoring else "") or spec.scoring.name
    interval = (scoring.interval if scoring else 0) or spec.scoring.interval
    if not name:
        raise InvalidObjectError("nobody says how the score is called", field="spec.scoring.params.name")
    if interval < 1:
        raise InvalidObjectError("nobody says how often to ask", field="spec.scoring.params.interval")
    return ScorerPlan(
        score=name,
        host=(scoring.host if scoring else "") or spec.scoring.host or spec.origin,
        path=(scoring.path if scoring else "") or spec.scoring.path,
        interval=float(interval),
        valid_for=policy.valid_for or 2.0 * interval,
        source=_source(spec, said, policy),
        protocol=policy.protocol or (said.protocol if said is not None else 1),
        token=spec.scoring_token,
        dimension_format=spec.dimension_format,
        publishes=spec.publishes,
        policy=policy,
    )


def _source(spec: ScorerSpec, said: ScorerDocument | None, policy: ScorerPolicy) -> SourcePlan:
    if policy.data is not None:
        return replace(policy.data, token=spec.source_token)
    own, theirs = spec.source, said.source if said is not None else SourcePart()
    query = theirs.query or own.query
    queries = policy.queries or split_queries(query)
    kind = theirs.type or own.type or (PROMETHEUS if queries else NOTHING)
    if kind == NOTHING:
        return SourcePlan()
    if not queries:
        raise InvalidObjectError("nobody says what to ask Prometheus", field="spec.source.params.query")
    host = theirs.host or own.host
    if not host:
        raise InvalidObjectError("nobody says where Prometheus is", field="spec.source.host")
    range_, step = theirs.range or own.range, theirs.step or own.step
    if any(not query.instant for query in queries):
        if step < 1 or range_ < 1:
            raise InvalidObjectError("range and step must be at least a second", field="spec.source.params")
        if range_ // step >= MOST_POINTS:
            raise InvalidObjectError(
                f"{range_} s in steps of {step} s are more than the {MOST_POINTS:,} samples that Prometheus gives",
                field="spec.source.params.step",
            )
    path = theirs.path or own.path or QUERY_RANGE
    return SourcePlan("Prometheus", host, path, queries, range_, step, spec.source_token)


def split_queries(query: str) -> tuple[NamedQuery, ...]:
    """The framework joins several by semicolons; they have no names."""
    return tuple(NamedQuery("", part) for part in query.split(";") if part.strip())
