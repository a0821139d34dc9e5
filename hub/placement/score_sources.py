"""A ScoreSource as one of the scorers that order clusters: its values, its normaliser, and the clusters it is about.

Here and not in hub/scoring, because what it is about is a label selector. Values that are asked for arrive as the
fleet's columns (hub/controllers/asking.py); what is written in the object or reported by the clusters is read here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hub.fleet.facts import ClusterFacts
from hub.fleet.fleet import Fleet
from hub.fleet.site import Site
from hub.placement.rule import Requirement
from hub.placement.selectors import matches, parse_label_selector
from hub.scoring.interface import ScoreRequest, WeightedScorer
from hub.scoring.normalise import Normaliser
from hub.scoring.source import SourceSpec, parse_source, resource_of

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]


class SourceScorer:
    """What a ScoreSource says; unknown where it says nothing."""

    def __init__(self, name: str, spec: SourceSpec, target: tuple[Requirement, ...]) -> None:
        self.name = name
        self.spec = spec
        self.lower_is_better = spec.lower
        self.normaliser: Normaliser = spec.normaliser
        self._target = target

    def concerns(self, fleet: Fleet) -> Mask | None:
        """Which clusters it is about; None: all."""
        if not self._target:
            return None
        mask: Mask = fleet.facts_column(("target", self._target), _wanted(self._target), np.bool_)
        return mask

    def score(self, fleet: Fleet, request: ScoreRequest) -> Floats:
        if self.spec.static is not None:
            values, default = self.spec.static.values, self.spec.static.default
            missing = math.nan if default is None else default
            return np.fromiter((values.get(name, missing) for name in fleet.names), np.float64, len(fleet.names))
        if self.spec.report:
            return _reported(fleet, self.spec.report)
        return fleet.scores(self.name, request.now)


def source_scorer(source: Mapping[str, Any]) -> WeightedScorer:
    """Raises `InvalidObjectError` by field for what can never work."""
    raw = source.get("spec") or {}
    spec = parse_source(raw)
    target = parse_label_selector(raw.get("clusterSelector"), "spec.clusterSelector")
    return WeightedScorer(SourceScorer(str(source["metadata"]["name"]), spec, target), spec.weight)


def _wanted(target: tuple[Requirement, ...]) -> Callable[[ClusterFacts], bool]:
    return lambda facts: matches(target, facts.labels)


def _reported(fleet: Fleet, report: str) -> Floats:
    kind, _, what = report.partition("/")
    if kind == "free":
        return fleet.free(resource_of(what))
    if kind == "allocatable":
        return fleet.allocatable(resource_of(what))
    if kind == "freeShare":
        offered = fleet.allocatable(resource_of(what))
        return fleet.free(resource_of(what)) / np.where(offered > 0, offered, np.nan)
    if kind == "gpus":
        return fleet.gpus_free(what)
    if kind == "claim":
        claims: Floats = fleet.facts_column(("claim", what), lambda facts: _number(facts.claims.get(what)), np.float64)
        return claims
    if kind == "label":
        labels: Floats = fleet.facts_column(("label", what), lambda facts: _number(facts.labels.get(what)), np.float64)
        return labels
    prices: Floats = fleet.site_column(("report price", what), lambda site: _price(site, what), np.float64)
    return prices


def _number(text: str | None) -> float:
    try:
        value = float(text) if text is not None else math.nan
    except ValueError:
        return math.nan
    return value if math.isfinite(value) else math.nan


def _price(site: Site | None, what: str) -> float:
    if site is None:
        return math.nan
    if what == "cpu":
        found = site.prices.cpu_hour
    elif what == "memory":
        found = site.prices.memory_gib_hour
    else:
        found = site.prices.gpu_hour.get(what.removeprefix("gpu/"))
    return math.nan if found is None else found
