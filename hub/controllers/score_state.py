"""What the hub's scorers know now, for who wants to rank clusters as it does (hub/scoring/state.py).

Plugins are asked for the shapes that are named, as a decision would ask them: on the hub's loop, each within its
budget, so only a few shapes are, and no more once it has taken long.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Final

from hub.controllers.guard import Guarded
from hub.controllers.scores import Scores
from hub.fleet.fleet import Fleet
from hub.fleet.shape import TaskShape
from hub.placement.filters import ADDON
from hub.placement.score_sources import SourceScorer
from hub.scoring.builtin import default_scorers
from hub.scoring.combine import admit, most
from hub.scoring.interface import Scorer, ScoreRequest, WeightedScorer, concerns, lower_is_better, normaliser_of
from hub.scoring.mix import ShapeMix, Typical
from hub.scoring.state import Answer, Column, PluginState, ScoreState, Standing, known_values

MOST_SHAPES: Final = 8
_LONGEST: Final = 0.5


def score_state(scores: Scores, fleet: Fleet, now: float, shapes: Sequence[TaskShape] = ()) -> ScoreState:
    """`now` is epoch seconds."""
    entries, ages = scores.scorers(), scores.others.ages() if scores.others is not None else {}
    typical = scores.typical
    own = {entry.scorer.name for entry in default_scorers(_ANY_MIX)}
    plugins: dict[str, PluginState] = {}
    # What counts nothing by itself may be weighed by a profile, or read by another scorer. AddOns' are objects.
    columns = {
        name: Column(
            known_values(fleet.names, fleet.scores(name, -math.inf)),
            until if math.isfinite(until) else None,
            dict(fleet.score_ends(name)),
        )
        for name, until in fleet.score_sources.items()
        if not name.startswith(ADDON)
    }
    standing = {
        name: Standing(report.at, report.message if report.reason else "") for name, report in scores.reports.items()
    }
    started = time.perf_counter()
    for entry in entries:
        scorer, name = entry.scorer, entry.scorer.name
        if name not in own and not isinstance(scorer, SourceScorer):
            plugins[name] = _plugin(scorer, fleet, now, shapes[:MOST_SHAPES], started)
            age = scorer.age() if isinstance(scorer, Guarded) else ages.get(name)
            standing[name] = Standing(None if age is None else now - age, str(getattr(scorer, "problem", "")))
    weights = tuple((entry.scorer.name, float(entry.weight)) for entry in entries)
    return ScoreState(now, weights, typical, columns, standing, plugins)


def _plugin(scorer: Scorer, fleet: Fleet, now: float, shapes: Sequence[TaskShape], started: float) -> PluginState:
    answers: list[Answer] = []
    about = None
    try:
        for shape in shapes:
            if time.perf_counter() - started > _LONGEST:
                break
            request = ScoreRequest(shape, 1, now)
            _, kept_out = admit(fleet, request, [WeightedScorer(scorer, 1.0)])
            values = known_values(fleet.names, scorer.score(fleet, request))
            allowed, _ = most(fleet, request, [WeightedScorer(scorer, 1.0)])
            limits = {} if allowed is None else dict(zip(fleet.names, allowed.tolist(), strict=True))
            answers.append(Answer(shape, values, tuple(fleet.names[at] for at in sorted(kept_out)), limits))
        mask = concerns(scorer, fleet)
        about = None if mask is None else tuple(n for n, meant in zip(fleet.names, mask.tolist(), strict=True) if meant)
    # Whatever it raises: then it is as unknown here as it is to a decision.
    except Exception:
        pass
    return PluginState(lower_is_better(scorer), normaliser_of(scorer), about, tuple(answers))


_ANY_MIX: Final = ShapeMix((Typical(TaskShape(), 1.0),))
