"""What each DynamicScorer is asked, about whom, and what orders clusters by it, as it follows from what is known.

Nothing is asked here, and no time passes: `look` after any news, and everything that stays equal stays the same object,
so that others keep what they made of it.
"""

from __future__ import annotations

from collections.abc import Mapping

from hub.api.errors import InvalidObjectError
from hub.api.reasons import Reason
from hub.controllers.scorer_roster import ScorerRoster
from hub.controllers.scorer_state import Key, ScorerState
from hub.controllers.world import World
from hub.fleet.changes import ScoresGone
from hub.placement.scorer_targets import DynamicScore, column_name
from hub.scoring.dynamic.plan import make_plan
from hub.scoring.dynamic.policy import ADD_ON
from hub.scoring.interface import WeightedScorer


class ScorerPlanning:
    """`scorers` are what orders clusters now, by name."""

    def __init__(self, states: Mapping[Key, ScorerState], roster: ScorerRoster, world: World) -> None:
        self._states, self._roster, self._world = states, roster, world
        self.scorers: Mapping[str, WeightedScorer] = {}
        # Whose column each is, by score.
        self._columns: Mapping[str, Key] = {}

    def look(self) -> tuple[set[Key], bool]:
        """Of which scorers the plan, the clusters or the trouble is another; and whether what orders clusters is."""
        columns: dict[str, Key] = {}
        scorers: dict[str, WeightedScorer] = {}
        moved: set[Key] = set()
        # The oldest has its name, whatever order they are seen in.
        for key in sorted(self._states, key=self._age):
            state = self._states[key]
            before = (state.plan, state.concerned, state.problem)
            state.policy, state.targets = self._roster.policy_of(key)
            self._replan(key, state, columns)
            plan = state.plan if state.problem is None else None
            if before[0] is not None and (plan is None or plan.score != before[0].score):
                state.values.keep(())
            state.concerned = self._roster.concerned(key, state) if plan is not None else ()
            state.values.keep(state.concerned)
            for cluster in state.troubles.keys() - set(state.concerned):
                del state.troubles[cluster]
            same = before == (state.plan, state.concerned, state.problem)
            if not same:
                moved.add(key)
            if plan is not None and plan.publishes and plan.policy.scored_by != ADD_ON:
                name = column_name(plan.score)
                old = self.scorers.get(name)
                entry = WeightedScorer(DynamicScore(plan, state.concerned), plan.policy.weight)
                scorers[name] = old if same and old is not None and self._columns.get(plan.score) == key else entry
        for score in self._columns.keys() - columns.keys():
            self._world.note(ScoresGone(column_name(score)))
        news = scorers != self.scorers or columns != self._columns
        self._columns, self.scorers = columns, scorers
        return moved, news

    def _replan(self, key: Key, state: ScorerState, columns: dict[str, Key]) -> None:
        if state.spec is None:
            return
        state.problem = None
        if state.spec.full and state.document is None:
            # What the object says alone may be another score than the scorer gives.
            state.plan = None
            return
        try:
            plan = make_plan(state.spec, state.document, state.policy)
        except InvalidObjectError as error:
            state.problem = (Reason.SCORER_SPEC_INVALID, str(error))
            return
        state.plan = state.plan if plan == state.plan else plan
        owner = columns.setdefault(plan.score, key)
        if owner != key:
            detail = f"{self._states[owner].name} gives score {plan.score} already"
            state.problem = (Reason.SCORE_NAME_TAKEN, detail)

    def _age(self, key: Key) -> tuple[str, Key]:
        return str(self._states[key].obj["metadata"].get("creationTimestamp") or ""), key
