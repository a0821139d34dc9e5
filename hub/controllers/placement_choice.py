"""What Placements have chosen: an outcome becomes the sheets that are to be written, and the count of all choices.

When a Placement is decided is hub/controllers/placements.py; what is written, hub/controllers/placement_writer.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from hub.controllers.placement_entry import Entry
from hub.controllers.tally import Tally
from hub.fleet.fleet import Fleet
from hub.placement.decide import PlacementOutcome
from hub.placement.groups import cut
from hub.placement.request import PlacementRequest
from hub.placement.sheets import lay_out, standing
from hub.placement.stability import Held


class Choices:
    """`tally` counts what all have chosen. `on_decided` hears of a Placement's clusters when they change."""

    def __init__(self, tally: Tally, on_decided: Callable[[str, str, tuple[str, ...]], None]) -> None:
        self._tally, self._on_decided = tally, on_decided

    def take(
        self, entry: Entry, request: PlacementRequest, outcome: PlacementOutcome, fleet: Fleet, now: float
    ) -> None:
        """The outcome becomes what is to be written. `now` is epoch seconds."""
        new = outcome.clusters
        if new == entry.current and entry.sheets is not None and not request.by_score and not request.groups:
            entry.outcome, entry.generation = outcome, entry.wanted_generation
            return
        before, scored = entry.sheets or tuple(entry.own_sheets()), None
        if request.by_score:
            scored = {decision.cluster: decision.score for decision in outcome.decisions}
        sheets = lay_out(request.name, cut(fleet, request, new, standing(before)), scored, before)
        entry.outcome, entry.generation = outcome, entry.wanted_generation
        if sheets != before:
            entry.scored_at = now
        elif entry.scored_at == -math.inf:
            entry.scored_at = entry.last_scored(now)
        entry.sheets = sheets
        if new != entry.current:
            self._moved(entry, new, outcome, now)

    def _moved(self, entry: Entry, new: tuple[str, ...], outcome: PlacementOutcome, now: float) -> None:
        old = set(entry.current)
        newcomers = [cluster for cluster in new if cluster not in old]
        moves = len(outcome.displaced)
        kept = {cluster: held for cluster, held in entry.since.items() if cluster in new and cluster in old}
        came = dict.fromkeys(newcomers, Held(now))
        came.update(dict.fromkeys(newcomers[:moves], Held(now, True)))
        entry.since = kept | came
        self._choose(entry, new)

    def _choose(self, entry: Entry, clusters: tuple[str, ...]) -> None:
        self._tally.change(entry.current, clusters)
        entry.current = clusters
        self._on_decided(entry.namespace, entry.name, clusters)

    def settle(self, entry: Entry) -> None:
        """Of what this hub has not decided, the API says what is chosen."""
        if entry.sheets is not None and entry.ours:
            return
        if entry.obj is None:
            clusters = {cluster for seen in entry.seen.values() for cluster in seen.sheet.clusters}
        else:
            clusters = {cluster for sheet in entry.own_sheets() for cluster in sheet.clusters}
        chosen = tuple(sorted(clusters))
        if chosen != entry.current:
            self._choose(entry, chosen)
