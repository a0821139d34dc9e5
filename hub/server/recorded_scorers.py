"""DynamicScorers of a fleet that nobody can ask: what files hold of them, and what they lack.

A scorer's answers are not in any object, but what the hub made of them is: its AddOnPlacementScores, rounded to whole
numbers, normalised where its ScorerPolicy says so. Those are its values here; what it says of its own configuration is
its status. Where one of both is missing it is unknown, and said.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Final

from hub.api import names
from hub.api.errors import InvalidObjectError
from hub.api.resource import (
    ADDON_PLACEMENT_SCORES,
    DYNAMIC_SCORERS,
    DYNAMIC_SCORING_CONFIGS,
    MANAGED_CLUSTERS,
    PLACEMENT_DECISIONS,
    SCORER_POLICIES,
)
from hub.api.timestamps import parse_time
from hub.fleet.changes import ScoresSeen
from hub.placement.scorer_targets import DynamicScore, column_name, parse_targets
from hub.scoring.answer import AGGREGATIONS
from hub.scoring.dynamic.document import read_document
from hub.scoring.dynamic.plan import ScorerPlan, make_plan
from hub.scoring.dynamic.policy import ADD_ON, WEIGHTED, parse_policy
from hub.scoring.dynamic.published import object_name
from hub.scoring.dynamic.spec import parse_scorer
from hub.scoring.interface import WeightedScorer
from hub.scoring.normalise import Normaliser
from hub.server.placements import chosen_by_placement
from hub.server.reading import Objects

Json = Mapping[str, Any]
CONFIG_NAME: Final = "dynamic-scoring-config"
_FOR_EVER: Final = float("inf")


@dataclass(slots=True)
class RecordedScorers:
    """`scorers`: what orders clusters, by name. `columns`: their values. `notes`: what is missing, in words."""

    scorers: list[WeightedScorer] = field(default_factory=list)
    columns: list[ScoresSeen] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def recorded_scorers(objects: Objects) -> RecordedScorers:
    """Of all DynamicScorers among `objects`; what cannot be read is a note, as it is a condition of a live hub's."""
    found = RecordedScorers()
    taken: dict[str, str] = {}
    for scorer in sorted(objects.of(DYNAMIC_SCORERS), key=_age):
        key = _key(scorer)
        try:
            plan = _plan(scorer, objects)
            if plan is None:
                found.notes.append(
                    f"DynamicScorer {key}: what its score is called says only the scorer itself, and there is no "
                    "status.lastSyncedConfig: it counts nothing here"
                )
                continue
            concerned = _concerned(scorer, plan, objects)
        except InvalidObjectError as error:
            found.notes.append(f"DynamicScorer {key}: {error}: it counts nothing here")
            continue
        if not plan.publishes or plan.policy.scored_by == ADD_ON:
            # A metric only, or what is published counts where a Placement names it.
            continue
        owner = taken.setdefault(plan.score, key)
        if owner != key:
            found.notes.append(f"DynamicScorer {key}: {owner} gives score {plan.score} already")
            continue
        _add(found, key, plan, concerned, objects)
    found.scorers.sort(key=lambda entry: entry.scorer.name)
    return found


def described_sources(objects: Objects) -> dict[str, str]:
    """What each dynamic score's data is asked for with, by the name of its column; empty where it needs none."""
    found: dict[str, str] = {}
    for scorer in sorted(objects.of(DYNAMIC_SCORERS), key=_age):
        with suppress(InvalidObjectError):
            plan = _plan(scorer, objects)
            if plan is not None:
                found.setdefault(column_name(plan.score), plan.source.described)
    return found


def _add(found: RecordedScorers, key: str, plan: ScorerPlan, concerned: tuple[str, ...], objects: Objects) -> None:
    values, ends = _values(key, plan, concerned, objects)
    if not values:
        found.notes.append(
            f"DynamicScorer {key}: no AddOnPlacementScore {object_name(plan.score)} of the input has its scores, and "
            "nobody asks it here: every cluster is unknown to it"
        )
    else:
        found.notes.append(f"DynamicScorer {key}: its scores are those that were published, in whole numbers")
    if plan.policy.normaliser is not None:
        # They were normalised before they were published, the better the higher.
        plan = replace(plan, policy=replace(plan.policy, normaliser=Normaliser("none"), lower=False))
    found.columns.append(ScoresSeen(column_name(plan.score), values, _FOR_EVER, ends))
    found.scorers.append(WeightedScorer(DynamicScore(plan, concerned), plan.policy.weight))


def _plan(scorer: Json, objects: Objects) -> ScorerPlan | None:
    """None: the scorer's own configuration would say what its score is called. Raises `InvalidObjectError`."""
    spec = parse_scorer(scorer.get("spec"))
    synced = (scorer.get("status") or {}).get("lastSyncedConfig")
    document = read_document(synced) if spec.full and synced else None
    if spec.full and document is None:
        return None
    policy = _policy(scorer, objects)
    return make_plan(spec, document, parse_policy(policy.get("spec") if policy is not None else None))


def _concerned(scorer: Json, plan: ScorerPlan, objects: Objects) -> tuple[str, ...]:
    """Raises `InvalidObjectError`."""
    policy = _policy(scorer, objects)
    targets = parse_targets(policy.get("spec") if policy is not None else None)
    masked = {
        str(mask.get("clusterName"))
        for config in objects.of(DYNAMIC_SCORING_CONFIGS)
        if config["metadata"]["name"] == CONFIG_NAME
        for mask in (config.get("spec") or {}).get("masks") or ()
        if mask.get("scoreName") == plan.score
    }
    chosen: Iterable[str] | None = None
    if targets.placement:
        namespace = str(scorer["metadata"].get("namespace") or "default")
        decided = chosen_by_placement(objects.of(PLACEMENT_DECISIONS))
        chosen = set(decided.get(f"{namespace}/{targets.placement}", ()))
    clusters = {str(c["metadata"]["name"]): c["metadata"].get("labels") or {} for c in objects.of(MANAGED_CLUSTERS)}
    return tuple(
        sorted(
            name
            for name, labels in clusters.items()
            if name not in masked and (chosen is None or name in chosen) and targets.concerns(name, labels)
        )
    )


def _values(
    key: str, plan: ScorerPlan, concerned: tuple[str, ...], objects: Objects
) -> tuple[dict[str, float], dict[str, float]]:
    """By cluster, and until when each counts; of AddOnPlacementScores that are the scorer's, or nobody's by mark."""
    title, values, ends = object_name(plan.score), dict[str, float](), dict[str, float]()
    for obj in objects.of(ADDON_PLACEMENT_SCORES):
        meta, status = obj["metadata"], obj.get("status") or {}
        cluster = str(meta.get("namespace"))
        owner = (meta.get("annotations") or {}).get(names.SCORER) or key
        if meta["name"] != title or owner != key or cluster not in concerned:
            continue
        value = _value(plan, status.get("scores") or ())
        if math.isnan(value):
            continue
        values[cluster] = value
        if status.get("validUntil"):
            ends[cluster] = parse_time(str(status["validUntil"])).timestamp()
    return values, ends


def _value(plan: ScorerPlan, scores: Iterable[Json]) -> float:
    """The cluster's own score where it is published, else what its single results make."""
    found = {str(entry["name"]): float(entry["value"]) for entry in scores if entry.get("name") and "value" in entry}
    if plan.score in found or not found:
        return found.get(plan.score, math.nan)
    aggregate = plan.policy.aggregate
    return float(AGGREGATIONS[aggregate if aggregate and aggregate != WEIGHTED else "avg"](list(found.values())))


def _policy(scorer: Json, objects: Objects) -> Json | None:
    return next((policy for policy in objects.of(SCORER_POLICIES) if _key(policy) == _key(scorer)), None)


def _age(scorer: Json) -> tuple[str, str]:
    return str(scorer["metadata"].get("creationTimestamp") or ""), _key(scorer)


def _key(obj: Json) -> str:
    meta = obj["metadata"]
    return f"{meta.get('namespace') or 'default'}/{meta['name']}"
