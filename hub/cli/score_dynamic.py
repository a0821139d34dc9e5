"""`quarterdeck score test` of DynamicScorers: the scorer is really asked, about each cluster once, as the hub does.

Secrets that it names, and its ScorerPolicy, are looked for in the same file. Data is Prometheus's own, or recorded.
"""

from __future__ import annotations

import asyncio
import base64
import math
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np

from hub.api.errors import InvalidObjectError, NotFoundError, UsageError
from hub.asking.access import Access
from hub.asking.answer import ScorerAnswer
from hub.asking.document import document_series
from hub.asking.http import ScorerHttp
from hub.asking.request import Series, by_cluster, read_series
from hub.asking.secrets import ScorerSecrets
from hub.asking.trouble import ScorerTrouble
from hub.client.interface import KubeApi
from hub.controllers.scorer_round import Asks, Assignment, ScorerRound
from hub.controllers.scorer_runner import read_configuration
from hub.fleet.changes import ClusterSeen, ScoresSeen
from hub.fleet.fleet import Fleet
from hub.fleet.shape import TaskShape
from hub.placement.scorer_targets import DynamicScore, column_name, parse_targets, route
from hub.scoring.combine import rank
from hub.scoring.dynamic.document import ScorerDocument
from hub.scoring.dynamic.plan import ScorerPlan, make_plan
from hub.scoring.dynamic.policy import parse_policy
from hub.scoring.dynamic.spec import parse_scorer
from hub.scoring.dynamic.values import ScorerValues
from hub.scoring.interface import ScoreRequest, WeightedScorer

Json = Mapping[str, Any]


def try_scorers(
    objects: Sequence[Json], fleet: Fleet, recorded: Any, now: float, access: Access
) -> list[dict[str, Any]]:
    """One result a DynamicScorer among `objects`, as `quarterdeck score test` shows it.

    Raises `InvalidObjectError` for what cannot be read, `ScorerTrouble` when its configuration cannot be had.
    """
    return [
        asyncio.run(_try(obj, objects, fleet, recorded, now, access))
        for obj in objects
        if obj.get("kind") == "DynamicScorer"
    ]


class _Secrets:
    """Secrets of a file, as an API server would give them."""

    def __init__(self, objects: Sequence[Json]) -> None:
        self._secrets = {obj["metadata"]["name"]: obj for obj in objects if obj.get("kind") == "Secret"}

    async def get(self, resource: Any, name: str, namespace: str | None = None) -> Any:
        found = self._secrets.get(name)
        if found is None:
            raise NotFoundError(404, {"message": f"Secret {name} is not in the file"})
        plain = {key: base64.b64encode(str(v).encode()).decode() for key, v in (found.get("stringData") or {}).items()}
        return {**found, "data": {**(found.get("data") or {}), **plain}}


class _Collected:
    def __init__(self) -> None:
        self.outcomes: dict[str, ScorerAnswer | ScorerTrouble] = {}

    def synced(self, document: ScorerDocument | None, trouble: ScorerTrouble | None) -> None:
        return

    def answered(self, cluster: str, plan: ScorerPlan, outcome: ScorerAnswer | ScorerTrouble) -> None:
        self.outcomes[cluster] = outcome


async def _try(
    obj: Json, objects: Sequence[Json], fleet: Fleet, recorded: Any, now: float, access: Access
) -> dict[str, Any]:
    name = obj["metadata"]["name"]
    policies = [o for o in objects if o.get("kind") == "ScorerPolicy" and o["metadata"]["name"] == name]
    wish = policies[0].get("spec") if policies else None
    try:
        spec, policy, targets = parse_scorer(obj.get("spec")), parse_policy(wish), parse_targets(wish)
    except InvalidObjectError as error:
        raise InvalidObjectError(f"DynamicScorer {name}: {error}") from error
    api = cast(KubeApi, _Secrets(objects))
    http, collected = ScorerHttp(access), _Collected()
    try:
        tls = await ScorerSecrets(api, "").certificates(policy.tls)
        plan = make_plan(spec, await read_configuration(http, spec, policy.timeout, tls), policy)
        data = _recorded(recorded, plan, now)
        if not len(fleet):
            # Nobody said which clusters there are: those that the data is of.
            fleet = fleet.apply(ClusterSeen({"metadata": {"name": cluster}}) for cluster in sorted(data or ()))
        if not len(fleet):
            raise UsageError(f"{name} is asked once a cluster: say which there are", field="--fleet")
        labels = {cluster: fleet.facts(cluster).labels for cluster in fleet.names}
        meant = tuple(cluster for cluster in fleet.names if targets.concerns(cluster, labels[cluster]))
        routes = {cluster: route(plan, targets, cluster, labels[cluster]) for cluster in meant}
        asks = Asks(
            api,
            str(obj["metadata"].get("namespace") or "default"),
            http,
            collected,
            lambda step, seconds, trouble: None,
            lambda: now,
            access,
            recorded=None if data is None else lambda cluster: data.get(cluster) or [[] for _ in plan.source.names],
        )
        if routes:
            round_ = ScorerRound(asks, Assignment(plan, routes), meant)
            await round_.ask(asyncio.Semaphore(8))
            if round_.broken:
                round_.give_up()
    finally:
        await http.close()
    return _result(plan, fleet, meant, collected.outcomes, now)


def _result(
    plan: ScorerPlan,
    fleet: Fleet,
    meant: tuple[str, ...],
    outcomes: Mapping[str, ScorerAnswer | ScorerTrouble],
    now: float,
) -> dict[str, Any]:
    values, complaints = ScorerValues(), []
    for cluster in sorted(outcomes):
        outcome = outcomes[cluster]
        if isinstance(outcome, ScorerAnswer):
            values.take(cluster, plan, outcome, now)
            complaints += [f"{cluster}: {complaint}" for complaint in outcome.complaints]
        else:
            complaints.append(f"{cluster}: {outcome.reason.code}: {outcome.detail}")
    if values.clamped:
        complaints.append(f"{values.clamped} scores are outside of -100 to 100 and cut when they are published")
    column, _ = values.column()
    fleet = fleet.apply([ScoresSeen(column_name(plan.score), column, now + plan.valid_for)])
    shown = WeightedScorer(DynamicScore(plan, meant), plan.policy.weight or 1.0)
    ranking = rank(fleet, ScoreRequest(TaskShape(), 1, now), [shown], np.ones(len(fleet), np.bool_))
    scores = ranking.columns[0]

    def number(value: float) -> float | None:
        return None if math.isnan(value) else float(value)

    return {
        "source": column_name(plan.score),
        "asked": plan.host + plan.path,
        "normaliser": plan.policy.normaliser.kind if plan.policy.normaliser else "minMax",
        "direction": "lower" if plan.policy.lower else "higher",
        "weight": plan.policy.weight,
        "clusters": [
            {
                "cluster": fleet.names[position],
                "raw": number(scores.raw[position]),
                "normalised": number(scores.normalised[position]),
                "weighted": number(scores.weighted[position]),
                "rank": place + 1,
                "targeted": fleet.names[position] in meant,
            }
            for place, position in enumerate(ranking.order.tolist())
        ],
        "forecast": "",
        "complaints": complaints,
    }


def _recorded(recorded: Any, plan: ScorerPlan, now: float) -> dict[str, list[Series]] | None:
    """By cluster, a list of series a query. Recorded is one answer of Prometheus, a list of one a query, or the
    document."""
    names = plan.source.names
    if recorded is None or not names:
        return None
    if plan.source.kind == "HttpJson":
        listed, problems, problem = document_series(recorded, plan.source.fields, now, plan.valid_for)
        if problem or (problems and not listed):
            raise UsageError(problem or "; ".join(f"{name}: {problems[name]}" for name in problems), field="--data")
        return {cluster: [mine] for cluster, mine in listed.items()}
    answers = recorded if isinstance(recorded, list) else [recorded]
    if len(answers) != len(names):
        raise UsageError(f"holds {len(answers)} answers; {plan.score} asks for {len(names)}", field="--data")
    found: dict[str, list[Series]] = {}
    for position, answer in enumerate(answers):
        series = read_series(answer)
        if isinstance(series, str):
            raise UsageError(series, field="--data")
        split, nameless = by_cluster(series, plan.policy.cluster_label)
        if nameless and not split:
            raise UsageError(f"no series has label {plan.policy.cluster_label}", field="--data")
        for cluster, mine in split.items():
            found.setdefault(cluster, [[] for _ in answers])[position] = mine
    return found
