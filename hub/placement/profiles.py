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
from hub.scoring.builtin import Carbon, FreeShare, FreeSlots, Price
from hub.scoring.interface import Scorer, WeightedScorer

PROFILES: Final[Mapping[str, Mapping[str, float]]] = {
    # As the hub is configured.
    "balanced": {},
    # Money decides; between equals what keeps GPUs usable.
    "cheapest": {"Price": 10.0, "FreeSlots": 1.0, "FreeShare": 0.5, "Fragmentation": 1.0, "Scarcity": 1.0},
    # Where most can start at once, whatever it costs and leaves.
    "fastest-start": {"FreeSlots": 6.0, "FreeShare": 3.0, "Price": 0.0, "Fragmentation": 0.5, "Scarcity": 0.5},
    # The least carbon for a kilowatt hour; an unknown one counts less than the worst.
    "greenest": {"Carbon": 10.0, "FreeSlots": 1.0, "FreeShare": 0.5, "Fragmentation": 1.0, "Scarcity": 1.0},
    # Fill what is in use, so that the rest stays whole or can be switched off.
    "pack": {"FreeShare": -4.0, "FreeSlots": 0.0, "Fragmentation": 2.0, "Scarcity": 2.0},
}
# What a profile may call up although the hub has it switched off.
_OWN: Final[tuple[Scorer, ...]] = (FreeSlots(), FreeShare(), Price(), Carbon())


def with_profile(rule: ClusterRule, annotations: Mapping[str, Any] | None) -> ClusterRule:
    """Raises `InvalidObjectError` for a profile that there is not."""
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
    found += [WeightedScorer(scorer, weights[scorer.name]) for scorer in _OWN if scorer.name in weights]
    return tuple(entry for entry in found if entry.weight)
