"""Placements that say the same decide together: one evaluation of the fleet, and a few steps for each of them.

What one Placement adds to its class is which clusters it has chosen already: Steady prefers these, and Balance does not
count its own. So a class ranks the fleet once as for a Placement that has chosen nothing, and each member moves its own
clusters within that order. The outcome is that of `decide_placement`, exactly; what is not as simple is left to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

from hub.fleet.fleet import Fleet
from hub.placement.candidates import Candidates, Ints, Nobody, find_candidates, weights_of
from hub.placement.decide import Decision, PlacementOutcome, best, choose, outcome_of
from hub.placement.filters import only_if_chosen
from hub.placement.rule import ClusterRule
from hub.placement.rules import BALANCE, STEADY
from hub.placement.sets import ClusterSets
from hub.placement.stability import RESTLESS, Held, Stability

_NOTHING: Mapping[str, Held] = MappingProxyType({})
# More chosen clusters than this are no few steps any more.
_FEW = 64


class PlacementClass:
    """All Placements of one rule over one fleet at one moment. `tally`: how often each cluster is in the decisions of
    all Placements, those of the class included; `retally` when these change."""

    def __init__(self, fleet: Fleet, sets: ClusterSets, rule: ClusterRule, now: float, tally: Ints) -> None:
        self.found: Candidates | Nobody = find_candidates(fleet, sets, rule, now)
        weights = weights_of(rule)
        self.balances = BALANCE in weights
        self._fleet, self._sets, self._rule, self._now = fleet, sets, rule, now
        self._balance, self._steady = weights.get(BALANCE, 0), weights.get(STEADY, 0)
        self._sensitive = only_if_chosen(fleet)
        self.retally(tally)

    def same_candidates(self, other: PlacementClass) -> bool:
        """Whether the same clusters could be chosen, whatever their scores."""
        found, before = self.found, other.found
        if not isinstance(found, Candidates) or not isinstance(before, Candidates):
            return found == before
        avoid = found.avoid is before.avoid or (
            found.avoid is not None and before.avoid is not None and np.array_equal(found.avoid, before.avoid)
        )
        if not avoid:
            return False
        names, others = self._fleet.names, other._fleet.names
        if names is others:
            return np.array_equal(found.passing, before.passing)
        return [names[at] for at in found.passing.tolist()] == [others[at] for at in before.passing.tolist()]

    def same_scores(self, other: PlacementClass) -> bool:
        """Of classes with the same candidates."""
        if not isinstance(self.found, Candidates) or not isinstance(other.found, Candidates):
            return True
        return np.array_equal(self.found.base, other.found.base)

    def retally(self, tally: Ints) -> None:
        self._tally = tally
        self._ranked = False
        self._known: dict[tuple[str, ...], PlacementOutcome] = {}

    def decide(
        self,
        current: tuple[str, ...],
        *,
        now: float | None = None,
        stability: Stability = RESTLESS,
        since: Mapping[str, Held] = _NOTHING,
        scores: bool = True,
    ) -> PlacementOutcome:
        """Of the member that has chosen `current`, in name order, at `now`: before `found.until`, and the class's own
        moment when it is not said. Where its scores do not matter (`scores` False) and
        it takes whatever passes, the scores may be those of another member."""
        if not scores and self.takes_all:
            current, since, stability = (), _NOTHING, RESTLESS
        at = self._now if now is None else now
        calm = stability.hysteresis == 0 and stability.moves is None and not self._dwells(stability, since, at)
        if calm and (known := self._known.get(current)) is not None:
            return known
        outcome = self._in_few_steps(current) if calm else None
        if outcome is None:
            outcome = self._alone(current, stability, since, at)
        if calm:
            self._known[current] = outcome
        return outcome

    @property
    def takes_all(self) -> bool:
        """Whether its members choose all that pass, whatever the scores and whatever is chosen."""
        return self._rule.limit is None and not self._rule.spread and self._sensitive is None

    @staticmethod
    def _dwells(stability: Stability, since: Mapping[str, Held], now: float) -> bool:
        return any(now < held.since + stability.dwell for held in since.values())

    def _alone(
        self, current: tuple[str, ...], stability: Stability, since: Mapping[str, Held], now: float
    ) -> PlacementOutcome:
        found = self.found
        positions = [self._fleet.position(name) for name in current if name in self._fleet]
        if self._sensitive is not None and self._sensitive[positions].any():
            found = find_candidates(self._fleet, self._sets, self._rule, now, current)
        counts = self._tally.copy()
        counts[positions] -= 1
        return choose(
            self._fleet, self._rule, found, now,
            current=current, counts=counts, stability=stability, since=since,
        )  # fmt: skip

    def _in_few_steps(self, current: tuple[str, ...]) -> PlacementOutcome | None:
        rule, found, fleet = self._rule, self.found, self._fleet
        if isinstance(found, Nobody):
            return PlacementOutcome((), False, found.reason, found.message, until=found.until)
        limit = rule.limit
        if limit is None or limit + len(current) > _FEW or rule.spread or found.avoid is not None:
            return None
        if not self._ranked:
            self._rank(found)
        own = {fleet.position(name) for name in current if name in fleet}
        if self._crowded <= own or (self._sensitive is not None and self._sensitive[list(own)].any()):
            return None
        at = self._at
        places = [(position, at[position]) for position in own]
        merged = [(-(self._own_score(found, position, place)), position) for position, place in places if place >= 0]
        here = len(merged)
        taken = 0
        for entry in self._best:
            if taken == limit:
                break
            if entry[1] not in own:
                merged.append(entry)
                taken += 1
        merged.sort()
        chosen = merged[:limit]
        names = fleet.names
        decisions = tuple(Decision(names[position], -less) for less, position in chosen)
        displaced: tuple[str, ...] = ()
        if here:
            kept = {position for _, position in chosen}
            displaced = tuple(names[p] for p, place in sorted(places) if place >= 0 and p not in kept)
        return outcome_of(rule, decisions, displaced, {}, found.until)

    def _rank(self, found: Candidates) -> None:
        self._ranked = True
        passing, tally = found.passing, self._tally
        self._most = int(tally.max()) if len(tally) else 0
        # Without them the largest count among the others is another one.
        self._crowded = set(np.flatnonzero(tally == self._most).tolist()) if self._balance and self._most else {-1}
        total = found.base
        if self._balance:
            if self._most:
                total = (
                    total + 2 * np.trunc(100.0 * (0.5 - tally[passing] / self._most)).astype(np.int64) * self._balance
                )
            else:
                total = total + 100 * self._balance
        order = best(total, min(len(total), _FEW))
        self._best = list(zip((-total[order]).tolist(), passing[order].tolist(), strict=True))
        at = np.full(len(self._fleet.names), -1)
        at[passing] = np.arange(len(passing))
        self._at = at

    def _own_score(self, found: Candidates, position: int, place: int) -> int:
        score = int(found.base[place]) + 100 * self._steady
        if self._balance:
            count = int(self._tally[position]) - 1
            score += self._balance * (2 * int(100.0 * (0.5 - count / self._most)) if self._most else 100)
        return score
