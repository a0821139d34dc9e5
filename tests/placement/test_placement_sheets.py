"""Groups and the objects that carry decisions: OCM's from scratch, and whoever can stay where it is, stays."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from placement_fleet import cluster, placement

from hub.api.errors import InvalidObjectError
from hub.fleet.fleet import Fleet
from hub.placement.groups import cut
from hub.placement.request import PlacementRequest, parse_request
from hub.placement.sheets import (
    FULL,
    Sheet,
    entries_of,
    groups_of,
    growing_first,
    labels_of,
    lay_out,
    read_sheet,
    standing,
    status_groups,
)

NAMES = [f"c{number:02}" for number in range(24)]
FLEET = Fleet.empty().apply([cluster(name, ring="ab"[number % 2]) for number, name in enumerate(NAMES)])


def asked(per_group: int | str | None = None, *groups: str) -> PlacementRequest:
    strategy: dict[str, Any] = {
        "decisionGroups": [
            {"groupName": group, "groupClusterSelector": {"labelSelector": {"matchLabels": {"ring": group}}}}
            for group in groups
        ]
    }
    if per_group is not None:
        strategy["clustersPerDecisionGroup"] = per_group
    return parse_request(placement(decisionStrategy={"groupStrategy": strategy}))


def sizes(request: PlacementRequest, chosen: list[str]) -> list[tuple[str, int]]:
    return [(group.name, len(group.clusters)) for group in cut(FLEET, request, chosen)]


@pytest.mark.parametrize(
    ("request_", "count", "expected"),
    [
        (asked(), 5, [("", 5)]),
        (asked(), 0, [("", 0)]),
        (asked(2), 5, [("", 2), ("", 2), ("", 1)]),
        # A quarter of ten is three, rounded up.
        (asked("25%"), 10, [("", 3), ("", 3), ("", 3), ("", 1)]),
        (asked("1%"), 3, [("", 1), ("", 1), ("", 1)]),
        (asked(99), 3, [("", 3)]),
        (asked(None, "b"), 5, [("b", 2), ("", 3)]),
        (asked(2, "b", "a"), 6, [("b", 2), ("b", 1), ("a", 2), ("a", 1)]),
        (asked(None, "none"), 2, [("", 2)]),
    ],
)
def test_groups_from_scratch_are_those_of_ocm(
    request_: PlacementRequest, count: int, expected: list[tuple[str, int]]
) -> None:
    assert sizes(request_, NAMES[:count]) == expected


def test_a_large_placement_is_cut_into_sheets_of_a_hundred() -> None:
    names = [f"n{number:03}" for number in range(250)]
    sheets = lay_out("p", cut(FLEET, asked(), names), None)
    assert [(s.name, len(s.entries), s.index) for s in sheets] == [
        ("p-decision-1", 100, 0), ("p-decision-2", 100, 0), ("p-decision-3", 50, 0),
    ]  # fmt: skip
    assert [c for s in sheets for c in s.clusters] == names
    assert status_groups(sheets) == [
        {
            "decisionGroupIndex": 0, "decisionGroupName": "", "clusterCount": 250,
            "decisions": ["p-decision-1", "p-decision-2", "p-decision-3"],
        }
    ]  # fmt: skip


def test_with_scores_the_best_come_first() -> None:
    scores = {"c01": 5, "c02": 9, "c03": 5}
    (sheet,) = lay_out("p", cut(FLEET, asked(), scores), scores)
    assert sheet.entries == (("c02", 9), ("c01", 5), ("c03", 5))
    assert entries_of(sheet)[0] == {"clusterName": "c02", "reason": "", "score": 9}


SELECTIONS = st.sets(st.sampled_from(NAMES))
REQUESTS = st.builds(
    asked,
    st.sampled_from([None, 1, 3, 7, "10%", "34%", "100%"]),
    st.sampled_from(["a", "b", "none"]),
)


@settings(max_examples=200, deadline=None)
@given(REQUESTS, st.lists(SELECTIONS, min_size=1, max_size=5))
def test_every_cluster_is_in_one_sheet_of_its_group_and_groups_are_as_many_as_from_scratch(
    request_: PlacementRequest, history: list[set[str]]
) -> None:
    sheets: tuple[Sheet, ...] = ()
    for chosen in history:
        sheets = lay_out("p", cut(FLEET, request_, chosen, standing(sheets)), None, sheets)
        fresh = lay_out("p", cut(FLEET, request_, chosen), None)
        held = [name for sheet in sheets for name in sheet.clusters]
        assert sorted(held) == sorted(chosen)
        assert len({sheet.name for sheet in sheets}) == len(sheets)
        assert [s.index for s in sheets] == sorted(s.index for s in sheets)
        assert [(g["decisionGroupIndex"], g["decisionGroupName"]) for g in status_groups(sheets)] == [
            (g["decisionGroupIndex"], g["decisionGroupName"]) for g in status_groups(fresh)
        ]
        size = request_.group_size(len(chosen))
        assert all(group["clusterCount"] <= max(size, 0) for group in status_groups(sheets))
        assert {c: key[0] for c, key in groups_of(sheets).items()} == {c: key[0] for c, key in groups_of(fresh).items()}


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sets(st.integers(0, 399)), min_size=2, max_size=4))
def test_without_groups_nobody_ever_moves(history: list[set[int]]) -> None:
    sheets: tuple[Sheet, ...] = ()
    for chosen in history:
        before = sheets
        sheets = lay_out("p", cut(FLEET, asked(), [f"n{n:03}" for n in chosen], standing(before)), None, before)
        was = {name: sheet.name for sheet in before for name in sheet.clusters}
        now = {name: sheet.name for sheet in sheets for name in sheet.clusters}
        assert all(now[name] == was[name] for name in now.keys() & was.keys())
        assert max(len(sheet.entries) for sheet in sheets) <= FULL
        # So there is nothing that would have to be written in two steps.
        assert growing_first({sheet.name: sheet for sheet in before}, sheets) == []


@settings(max_examples=200, deadline=None)
@given(REQUESTS, SELECTIONS, SELECTIONS)
def test_on_the_way_nobody_who_stays_is_ever_absent(
    request_: PlacementRequest, first: set[str], second: set[str]
) -> None:
    before = lay_out("p", cut(FLEET, request_, first), None)
    after = lay_out("p", cut(FLEET, request_, second, standing(before)), None, before)
    now = {sheet.name: sheet for sheet in before}
    stays = first & second
    for sheet in growing_first(now, after):
        now[sheet.name] = sheet
        assert stays <= {name for held in now.values() for name in held.clusters}
    for sheet in after:
        now[sheet.name] = sheet
        assert stays <= {name for held in now.values() for name in held.clusters}
    # Only now what is not needed any more goes.
    assert {name for sheet in after for name in sheet.clusters} == second


def test_a_sheet_goes_to_the_api_and_comes_back() -> None:
    sheet = Sheet("p-decision-2", "canary", 3, (("a", None), ("b", 7)))
    obj = {
        "metadata": {"name": sheet.name, "labels": labels_of("p", sheet)},
        "status": {"decisions": entries_of(sheet)},
    }
    assert read_sheet(obj) == sheet
    made = read_sheet({"metadata": {"name": "x", "labels": {}}})
    assert (made.entries, made.written, made.index) == ((), False, -1)


@pytest.mark.parametrize(
    ("strategy", "field", "words"),
    [
        ({"clustersPerDecisionGroup": "half"}, "clustersPerDecisionGroup", "neither a number nor a percentage"),
        ({"clustersPerDecisionGroup": "101%"}, "clustersPerDecisionGroup", "neither a number nor a percentage"),
        ({"clustersPerDecisionGroup": True}, "clustersPerDecisionGroup", "neither a number nor a percentage"),
        ({"decisionGroups": [{"groupClusterSelector": {}}]}, "decisionGroups[0].groupName", "not a group's name"),
        ({"decisionGroups": [{"groupName": "a"}, {"groupName": "a"}]}, "decisionGroups[1].groupName", "already"),
    ],
)
def test_strategies_that_cannot_be_read(strategy: dict[str, Any], field: str, words: str) -> None:
    with pytest.raises(InvalidObjectError, match=words) as caught:
        parse_request(placement(decisionStrategy={"groupStrategy": strategy}))
    assert caught.value.field == f"spec.decisionStrategy.groupStrategy.{field}"
