"""Scorers that somebody else wrote and installed: found by entry point, so that a bad one costs itself only.

A distribution names a class, a factory or an instance in the group ``quarterdeck.scorers``; what comes out has `name`
and `score`, and may have `weight` (1 by default) and `lower_is_better`. Read once, when the hub starts; what a scorer
does wrong later is noticed where it is called (hub/scoring/combine.py).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from hub.api.errors import PluginError
from hub.scoring.interface import WeightedScorer

GROUP = "quarterdeck.scorers"


@dataclass(frozen=True, slots=True)
class Plugins:
    """`scorers` in the order of their entry points' names; `problems`: entry point → why it is not among them."""

    scorers: tuple[WeightedScorer, ...]
    problems: Mapping[str, str]


def discover(taken: Iterable[str] = (), found: Iterable[EntryPoint] | None = None) -> Plugins:
    """Loads the plugins; `taken` are names of scorers that exist already. Never raises for what a plugin does."""
    used = set(taken)
    scorers: list[WeightedScorer] = []
    problems: dict[str, str] = {}
    points = entry_points(group=GROUP) if found is None else found
    for point in sorted(points, key=lambda point: (point.name, point.value)):
        try:
            entry = _load(point)
            if entry.scorer.name in used:
                raise PluginError(f"there is a scorer {entry.scorer.name} already: give it another name")
        # An import or a constructor of somebody else's may raise anything.
        except Exception as error:
            text = str(error) if isinstance(error, PluginError) else f"{type(error).__name__}: {error}"
            problems[point.name] = f"{point.value}: {text}"
            continue
        used.add(entry.scorer.name)
        scorers.append(entry)
    return Plugins(tuple(scorers), problems)


def _load(point: EntryPoint) -> WeightedScorer:
    loaded: Any = point.load()
    scorer = loaded if hasattr(loaded, "score") and not isinstance(loaded, type) else loaded()
    name = getattr(scorer, "name", None)
    if not isinstance(name, str) or not name:
        raise PluginError("a scorer needs a name, a non-empty string")
    if not callable(getattr(scorer, "score", None)):
        raise PluginError("a scorer needs a method score(fleet, request)")
    weight = getattr(scorer, "weight", 1.0)
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not math.isfinite(weight):
        raise PluginError(f"weight {weight!r} is not a number")
    return WeightedScorer(scorer, float(weight))
