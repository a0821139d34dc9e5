"""What is noted of a choice is what was decided, and it is read back in words."""

from __future__ import annotations

import json

import numpy as np
import pytest

from hub.fleet.changes import CapacitySeen, Charge, ClusterSeen
from hub.fleet.fleet import Fleet
from hub.fleet.shape import TaskShape
from hub.planner.record import Choice, choice_of, describe
from hub.scoring.builtin import default_scorers
from hub.scoring.combine import rank
from hub.scoring.interface import ScoreRequest


def fleet_of(**cpus: int) -> Fleet:
    fleet = Fleet.empty()
    for name, cpu in cpus.items():
        group = {"name": "g", "count": 1, "allocatable": {"cpu": str(cpu)}}
        status = {"prices": {"cpuHour": "0.1"}, "nodeGroups": [group]}
        cluster = {"metadata": {"name": name}, "spec": {"hubAcceptsClient": True}}
        fleet = fleet.apply([ClusterSeen(cluster), CapacitySeen({"metadata": {"name": name}, "status": status})])
    return fleet


def test_the_note_is_the_ranking_that_decided() -> None:
    shape = TaskShape((("cpu", 1000),))
    fleet = fleet_of(ash=8, elm=4, fir=2).apply([Charge("w", "ash", shape, 1)])
    ranking = rank(fleet, ScoreRequest(shape, 1, 0.0), default_scorers(), np.array([True, True, False]))
    order = ranking.order.tolist()
    best = choice_of(order, 0, ranking, fleet.names)
    assert (best.place, best.of, best.fleet) == (1, 2, 3)
    assert best.total == pytest.approx(sum(score for _, score in best.scores), abs=0.2)
    assert best.runner_up is not None
    assert best.runner_up[0] == fleet.names[order[1]]
    assert best.runner_up[1] <= best.total
    assert choice_of(order, 1, ranking, fleet.names).runner_up is None
    assert json.loads(best.text())["scores"] == dict(best.scores)


def test_a_choice_is_told_in_words() -> None:
    assert describe(Choice(1, 1, 5).text()) == "the only one of 5 clusters with room"
    noted = Choice(2, 3, 9, 250.0, (("FreeSlots", 200.0), ("Price", 50.0)), ("elm", -4.0))
    assert describe(noted.text()) == "no. 2 of 3 with room: 250 (FreeSlots 200, Price 50); next elm -4"


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"place": "x"}', '{"place": 1}'])
def test_a_note_that_cannot_be_read_says_nothing(text: str) -> None:
    assert describe(text) == ""
