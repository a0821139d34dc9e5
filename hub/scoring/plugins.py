"""Scorers that somebody else wrote and installed: found by entry point, so that a bad one costs itself only.

A distribution names a class, a factory or an instance in the group ``quarterdeck.scorers``; what comes out has `name`
and `score`, and may have `weight` (1 by default) and what `hub.scoring.interface.Scorer` names. A class with a pydantic
model as its attribute `Config` is made with one, filled from the hub's settings. Read once, when the hub starts; what a
scorer does wrong later is noticed where it is called (hub/controllers/guard.py, hub/scoring/combine.py).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from pydantic import BaseModel, ValidationError

from hub.api.errors import PluginError
from hub.scoring.interface import WeightedScorer
from hub.scoring.reserving import Reserving, reserves

GROUP = "quarterdeck.scorers"


Load = Callable[[EntryPoint, Mapping[str, Any] | None], WeightedScorer]


@dataclass(frozen=True, slots=True)
class Plugins:
    """`scorers` in the order of their entry points' names, which are `points`; `problems`: entry point → why it is not
    among them. `sources`: entry point → what it names, of all that are installed."""

    scorers: tuple[WeightedScorer, ...]
    problems: Mapping[str, str]
    points: tuple[str, ...] = ()
    sources: Mapping[str, str] = field(default_factory=dict)


def discover(
    taken: Iterable[str] = (),
    found: Iterable[EntryPoint] | None = None,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    load: Load | None = None,
) -> Plugins:
    """Loads the plugins; `taken` are names of scorers that exist already, `settings` by entry point's name. `load`: how
    one is loaded; None: here.

    Never raises for what a plugin does; settings for plugins that are not there are among the problems.
    """
    used = set(taken)
    settings = settings or {}
    scorers: list[WeightedScorer] = []
    made: list[str] = []
    problems: dict[str, str] = {}
    points = list(entry_points(group=GROUP) if found is None else found)
    for name in sorted(set(settings) - {point.name for point in points}):
        known = ", ".join(sorted(point.name for point in points)) or "none is installed"
        problems[name] = f"settings for a scorer that is not installed; known: {known}"
    for point in sorted(points, key=lambda point: (point.name, point.value)):
        try:
            own = settings.get(point.name)
            entry = plugin(point.load(), own) if load is None else load(point, own)
            if entry.scorer.name in used:
                raise PluginError(f"there is a scorer {entry.scorer.name} already: give it another name")
        # An import or a constructor of somebody else's may raise anything.
        except Exception as error:
            text = str(error) if isinstance(error, PluginError) else f"{type(error).__name__}: {error}"
            problems[point.name] = f"{point.value}: {text}"
            continue
        used.add(entry.scorer.name)
        scorers.append(entry)
        made.append(point.name)
    return Plugins(tuple(scorers), problems, tuple(made), {point.name: point.value for point in points})


def make(loaded: Any, settings: Mapping[str, Any] | None = None) -> Any:
    """An instance of what an entry point names. Raises `PluginError` for settings that its `Config` refuses."""
    if hasattr(loaded, "score") and not isinstance(loaded, type):
        if settings:
            raise PluginError("it takes no settings: only a class with a Config does")
        return loaded
    config = getattr(loaded, "Config", None)
    if not (isinstance(config, type) and issubclass(config, BaseModel)):
        if settings:
            raise PluginError("it takes no settings: it has no Config")
        return loaded()
    try:
        return loaded(config.model_validate(settings or {}))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        raise PluginError(f"settings: {field}: {first['msg']} (found {first['input']!r})") from error


def plugin(loaded: Any, settings: Mapping[str, Any] | None = None) -> WeightedScorer:
    """What an entry point names, as the hub asks it. Raises `PluginError`, and whatever its code raises."""
    entry = weighted(make(loaded, settings))
    if not reserves(entry.scorer):
        return entry
    if make(loaded, settings) is entry.scorer:
        raise PluginError("one that reserves must be a class or a function that makes it: its ledger may begin anew")
    return WeightedScorer(Reserving(lambda: make(loaded, settings)), entry.weight)


def weighted(scorer: Any) -> WeightedScorer:
    """Raises `PluginError` for what is no scorer."""
    name = getattr(scorer, "name", None)
    if not isinstance(name, str) or not name:
        raise PluginError("a scorer needs a name, a non-empty string")
    if not callable(getattr(scorer, "score", None)):
        raise PluginError("a scorer needs a method score(fleet, request)")
    weight = getattr(scorer, "weight", 1.0)
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not math.isfinite(weight):
        raise PluginError(f"weight {weight!r} is not a number")
    return WeightedScorer(scorer, float(weight))
