"""A scorer's filter in the whole decision: it keeps clusters out, and says so where nothing is left."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from fleet_objects import demand, fleet, open_queue, site, snapshot

from hub.fleet.fleet import Fleet
from hub.planner.cycle import plan
from hub.planner.explain import explain
from hub.scoring.interface import ScoreRequest, WeightedScorer


class Only:
    name = "only"

    def __init__(self, *allowed: str) -> None:
        self.allowed = allowed

    def score(self, fleet: Fleet, request: ScoreRequest) -> Any:
        return np.zeros(len(fleet))

    def filter(self, fleet: Fleet, request: ScoreRequest) -> Any:
        return np.array([name in self.allowed for name in fleet.names])


@pytest.mark.parametrize("gang", [False, True])
def test_a_filter_keeps_clusters_out_of_every_decision(gang: bool) -> None:
    asked = snapshot(fleet(site("a", cpu=9), site("b", cpu=9)), open_queue(), demand(tasks=2, gang=gang))
    decided = plan(replace(asked, scorers=(WeightedScorer(Only("b"), 1.0),)))
    assert [part.cluster for admission in decided.admissions for part in admission.slices] == ["b"]
    nobody = plan(replace(asked, scorers=(WeightedScorer(Only(), 1.0),)))
    assert nobody.admissions == ()
    assert "scorer only leaves it out" in nobody.refusals[0].message


def test_an_explanation_names_the_scorer_that_leaves_a_cluster_out() -> None:
    asked = snapshot(fleet(site("a"), site("b")), open_queue(), demand())
    asked = replace(asked, scorers=(WeightedScorer(Only("b"), 1.0),))
    lines = {line.cluster: line for line in explain(asked, demand().key).clusters}
    assert (lines["a"].code, lines["a"].message) == ("FilteredByScorer", "scorer only leaves it out")
    assert (lines["b"].code, lines["b"].rank) == ("", 1)
