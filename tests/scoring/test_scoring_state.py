"""What a hub's scorers know, sent and read again: whoever has it ranks as the hub does, plugins included."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.api.errors import InvalidObjectError
from hub.controllers.guard import Guarded
from hub.controllers.score_state import score_state
from hub.fleet.changes import CapacitySeen, ClusterSeen, ScoresSeen
from hub.fleet.fleet import Fleet
from hub.fleet.shape import TaskShape, Toleration
from hub.placement.score_sources import source_scorer
from hub.scoring.builtin import default_scorers
from hub.scoring.combine import admit, rank
from hub.scoring.interface import ScoreRequest, WeightedScorer
from hub.scoring.mix import ShapeMix, Typical
from hub.scoring.normalise import Normaliser
from hub.scoring.state import (
    Answer,
    Column,
    PluginState,
    ScoreState,
    Standing,
    from_document,
    ranked_by,
    read_shapes,
    shape_documents,
    to_document,
)

TASK = TaskShape((("cpu", 1000), ("nvidia.com/gpu", 1)))
NAMES = ("a", "b", "c")


class Plugin:
    """A plugin with everything that one can have."""

    name = "plugin"
    lower_is_better = True
    normaliser = Normaliser("rank")

    def score(self, fleet: Fleet, request: ScoreRequest) -> Any:
        return np.array([3.0, math.nan, 1.0]) * request.shape.request("cpu")

    def concerns(self, fleet: Fleet) -> Any:
        return np.array([True, True, False])

    def filter(self, fleet: Fleet, request: ScoreRequest) -> Any:
        return np.array([True, True, request.shape.request("cpu") < 2000])


class Hub:
    """As much of a hub's scores as there is to be asked."""

    def __init__(self, *entries: WeightedScorer, mix: ShapeMix) -> None:
        self.entries, self.typical = entries, mix.typical
        self.reports: dict[str, Any] = {}
        self.others = None

    def scorers(self) -> tuple[WeightedScorer, ...]:
        return self.entries


def fleet() -> Fleet:
    changes: list[Any] = []
    for number, name in enumerate(NAMES):
        group = {"name": "n", "count": 1 + number, "allocatable": {"cpu": "8"},
                 "gpu": {"model": "A100", "memory": "80Gi", "count": 2}}  # fmt: skip
        changes += [
            ClusterSeen({"metadata": {"name": name}, "spec": {"hubAcceptsClient": True}}),
            CapacitySeen({"metadata": {"name": name, "namespace": name}, "status": {"nodeGroups": [group]}}),
        ]
    return Fleet.empty().apply(changes)


@pytest.mark.parametrize("cpu", [1000, 2000])
def test_who_is_told_ranks_as_the_hub_does(cpu: int) -> None:
    source = {"metadata": {"name": "load"}, "spec": {"promQL": "load", "direction": "lower", "weight": 3}}
    mix = ShapeMix((Typical(TASK, 1.0),))
    plugin = Guarded(Plugin())
    hub = Hub(*default_scorers(mix), WeightedScorer(plugin, 2.5), source_scorer(source), mix=mix)
    values = {"a": 0.1234567890123, "b": 9.0, "c": 2.0}
    theirs = fleet().apply([ScoresSeen("load", values, 1000.0, {"b": 50.0})])
    shape = TaskShape((("cpu", cpu), ("nvidia.com/gpu", 1)))
    told = score_state(hub, theirs, 100.0, [shape])  # type: ignore[arg-type]  # that much of it is looked at
    state = from_document(json.loads(json.dumps(to_document(told))))
    assert state == told
    ours = fleet().apply(
        ScoresSeen(name, column.values, column.valid_until or math.inf, column.until)
        for name, column in state.columns.items()
    )
    request, everyone = ScoreRequest(shape, 1, state.now), np.ones(3, np.bool_)
    scorers = ranked_by(state, [source_scorer(source)])
    assert [(e.scorer.name, e.weight) for e in scorers] == [(e.scorer.name, e.weight) for e in hub.scorers()]
    there, here = rank(theirs, request, hub.scorers(), everyone), rank(ours, request, scorers, everyone)
    np.testing.assert_array_equal(here.total, there.total)
    np.testing.assert_array_equal(here.raw, there.raw)
    assert here.ordered == there.ordered
    assert admit(ours, request, scorers)[1] == admit(theirs, request, hub.scorers())[1]
    assert state.standing["plugin"].at is not None


def test_a_plugin_that_fails_is_as_unknown_to_others() -> None:
    class Broken:
        name = "broken"

        def score(self, fleet: Fleet, request: ScoreRequest) -> Any:
            raise ValueError("no")

    hub = Hub(WeightedScorer(Guarded(Broken()), 1.0), mix=ShapeMix())
    told = score_state(hub, fleet(), 100.0, [TASK])  # type: ignore[arg-type]  # that much of it is looked at
    scorers = ranked_by(from_document(to_document(told)), [])
    ranking = rank(fleet(), ScoreRequest(TASK, 1, 100.0), scorers, np.ones(3, np.bool_))
    assert np.isnan(ranking.raw).all()
    assert "ValueError: no" in ranking.problems["broken"]
    # Nor was it asked about another shape.
    other = ScoreRequest(TaskShape((("cpu", 1),)), 1, 100.0)
    assert np.isnan(scorers[0].scorer.score(fleet(), other)).all()


texts = st.text(max_size=5)
floats = st.floats(allow_nan=False, allow_infinity=False)
shapes = st.builds(
    TaskShape,
    requests=st.dictionaries(texts, st.integers(0, 2**62)).map(lambda d: tuple(sorted(d.items()))),
    gpu_share=st.integers(0, 1000),
    gpu_models=st.lists(texts, max_size=2).map(tuple),
    node_selector=st.dictionaries(texts, texts, max_size=2).map(lambda d: tuple(sorted(d.items()))),
    tolerations=st.lists(st.builds(Toleration, key=texts, value=texts), max_size=2).map(tuple),
)
states = st.builds(
    ScoreState,
    now=floats,
    weights=st.lists(st.tuples(texts, floats), max_size=3).map(tuple),
    typical=st.lists(st.builds(Typical, shape=shapes, part=floats), max_size=2).map(tuple),
    columns=st.dictionaries(
        texts, st.builds(Column, st.dictionaries(texts, floats), st.none() | floats, st.dictionaries(texts, floats)),
        max_size=2,
    ),
    standing=st.dictionaries(texts, st.builds(Standing, st.none() | floats, texts), max_size=2),
    plugins=st.dictionaries(
        texts,
        st.builds(
            PluginState, st.booleans(), st.none() | st.just(Normaliser("rank")),
            st.none() | st.lists(texts).map(tuple),
            st.lists(st.builds(Answer, shapes, st.dictionaries(texts, floats), st.lists(texts).map(tuple)), max_size=2)
            .map(tuple),
        ),
        max_size=2,
    ),
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(states)
def test_a_state_goes_over_the_wire_and_comes_back(state: ScoreState) -> None:
    assert from_document(json.loads(json.dumps(to_document(state)))) == state


@given(st.lists(shapes, max_size=3))
def test_shapes_go_over_the_wire_and_come_back(listed: list[TaskShape]) -> None:
    back = read_shapes(json.loads(json.dumps(shape_documents(listed))))
    assert back == listed
    assert [hash(shape) for shape in back] == [hash(shape) for shape in listed]


@pytest.mark.parametrize(
    "document", [None, {}, [], {"now": "soon"}, {"now": 1, "columns": {"x": {"values": {"a": "much"}}}}]
)
def test_what_is_no_state_is_said(document: Any) -> None:
    with pytest.raises(InvalidObjectError, match="this is no state of a hub's scorers"):
        from_document(document)
    with pytest.raises(InvalidObjectError, match="this is no list of shapes"):
        read_shapes(["x"])
