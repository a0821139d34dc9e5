"""Named weights, for people who know what they want and not which scorers give it.

A job picks one by the annotation ``fleet.quarterdeck.dev/profile``; a Placement does for the jobs that refer to it.
A profile weighs the hub's own scorers; ScoreSources and plugins keep their weights, and what the rule itself weighs
(prioritizerPolicy) goes before the profile.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, Final

from hub.api import names
from hub.api.errors import InvalidObjectError
from hub.placement.rule import ClusterRule
from hub.scoring.builtin import default_scorers
from hub.scoring.interface import Scorer, WeightedScorer
from hub.scoring.locality import read_data

PROFILES: Final[Mapping[str, Mapping[str, float]]] = {
    # As the hub is configured.
    "balanced": {},
    # Money decides, that for fetching data too; between equals what keeps GPUs usable.
    "cheapest": {
        "Price": 10.0, "Egress": 3.0, "FreeSlots": 1.0, "FreeShare": 0.5, "Fragmentation": 1.0, "Scarcity": 1.0,
    },
    # Where most can start at once and has lately, whatever it costs and leaves.
    "fastest-start": {
        "FreeSlots": 6.0, "FreeShare": 3.0, "StartDelay": 3.0, "DataLocality": 3.0, "FailureRate": 1.0, "Price": 0.0,
        "Fragmentation": 0.5, "Scarcity": 0.5,
    },
    # The least carbon for the task, an unknown one below the worst; where nobody states any, the least power.
    "greenest": {
        "Carbon": 10.0, "Energy": 2.0, "FreeSlots": 1.0, "FreeShare": 0.5, "Fragmentation": 1.0, "Scarcity": 1.0,
    },
    # Fill what is in use, so that the rest stays whole or can be switched off.
    "pack": {"FreeShare": -4.0, "FreeSlots": 0.0, "Fragmentation": 2.0, "Scarcity": 2.0},
}  # fmt: skip
# What a profile may call up although the hub has it switched off; packing needs to know what is typical.
_OWN: Final[Mapping[str, Scorer]] = {entry.scorer.name: entry.scorer for entry in default_scorers()}


def with_profile(rule: ClusterRule, annotations: Mapping[str, Any] | None) -> ClusterRule:
    """`rule` with the profile and the data that `annotations` name.

    Raises `InvalidObjectError` for a profile that there is not, and for data that cannot be read.
    """
    data = read_data(annotations)
    if data:
        rule = replace(rule, data=data)
    name = (annotations or {}).get(names.PROFILE)
    if name is None:
        return rule
    if name not in PROFILES:
        raise InvalidObjectError(
            f"there is no profile {name!r}: write {', '.join(PROFILES)}",
            field=f"metadata.annotations[{names.PROFILE}]",
        )
    return replace(rule, profile=str(name))


def profiled(profile: str, scorers: Iterable[WeightedScorer]) -> tuple[WeightedScorer, ...]:
    """`scorers` with the profile's weights; what it weighs and the hub has not is added where it needs nothing else."""
    weights = dict(PROFILES.get(profile, {}))
    found = [WeightedScorer(e.scorer, weights.pop(e.scorer.name, e.weight)) for e in scorers]
    found += [WeightedScorer(_OWN[name], weight) for name, weight in weights.items() if name in _OWN]
    return tuple(entry for entry in found if entry.weight)
