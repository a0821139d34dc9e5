"""What a hub's plugin allows, as somebody else decides by it: less what he placed, and never more than was said."""

from __future__ import annotations

from typing import Any

import pytest

from hub.fleet.changes import Charge, ClusterSeen
from hub.fleet.fleet import Fleet
from hub.fleet.shape import TaskShape
from hub.scoring.interface import ScoreRequest
from hub.scoring.state import Answer, PluginState, Recorded, ScoreState, from_document, to_document

SMALL, LARGE, OTHER = (TaskShape((("cpu", cpu),)) for cpu in (1000, 4000, 2000))
FLEET = Fleet.empty().apply(ClusterSeen({"metadata": {"name": name}}) for name in ("a", "b", "c"))
STATE = PluginState(answers=(Answer(SMALL, {}, limits={"a": 4, "b": 9}), Answer(LARGE, {}, limits={"a": 1, "b": 2})))
ANY = 2**63 - 1


def allowed(state: PluginState, fleet: Fleet, shape: TaskShape) -> list[int]:
    recorded: Any = Recorded("power", state)
    found: list[int] = recorded.limit(fleet, ScoreRequest(shape, 1, 0.0)).tolist()
    return found


@pytest.mark.parametrize(("shape", "expected"), [(SMALL, [4, 9, ANY]), (LARGE, [1, 2, ANY]), (OTHER, [1, 2, ANY])])
def test_what_was_said_of_a_shape_counts_and_the_least_of_all_for_another(shape: TaskShape, expected: Any) -> None:
    assert allowed(STATE, FLEET, shape) == expected


def test_what_this_decision_has_placed_is_off_and_what_ran_before_is_in_it_already() -> None:
    fleet = FLEET.apply([Charge("cycle/1", "a", SMALL, 3), Charge("a-work", "b", SMALL, 5)])
    assert allowed(STATE, fleet, SMALL) == [1, 9, ANY]
    assert allowed(STATE, fleet.apply([Charge("cycle/2", "a", SMALL, 7)]), SMALL) == [0, 9, ANY]


def test_it_travels_and_a_plugin_that_limits_nothing_has_no_limit() -> None:
    state = ScoreState(1.0, plugins={"power": STATE})
    assert from_document(to_document(state)) == state
    assert not hasattr(Recorded("plain", PluginState(answers=(Answer(SMALL, {}),))), "limit")
