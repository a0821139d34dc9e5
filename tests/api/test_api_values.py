"""The values everything else speaks in: quantities, index sets, times, paths, conditions, reasons, names."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.api import jsonpath, names
from hub.api.conditions import condition_is, with_condition
from hub.api.errors import InvalidIndexSetError, InvalidObjectError, InvalidQuantityError, api_error
from hub.api.indexset import IndexSet
from hub.api.quantity import NANO, Quantity
from hub.api.reasons import Reason
from hub.api.timestamps import format_duration, format_time, parse_duration, parse_time

index_sets = st.sets(st.integers(0, 60), max_size=30).map(IndexSet.of)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2", 2),
        ("500m", Fraction(1, 2)),
        ("1.5", Fraction(3, 2)),
        ("16Gi", 16 * 2**30),
        ("1G", 10**9),
        ("1e3", 1000),
        ("1E", 10**18),
        (".5", Fraction(1, 2)),
        ("-3", -3),
        ("100n", Fraction(100, 10**9)),
        (7, 7),
        (0.1, Fraction(1, 10)),
    ],
)
def test_a_quantity_is_exactly_what_is_written(text: str | int | float, value: Fraction | int) -> None:
    assert Quantity(text).nano == value * NANO


@pytest.mark.parametrize("text", ["", "a", "1 Gi", "1gi", "0x10", "NaN", "inf", float("nan"), float("inf"), True, "١"])
def test_what_is_no_quantity_is_refused(text: object) -> None:
    with pytest.raises(InvalidQuantityError, match="is not a quantity"):
        Quantity(text)  # type: ignore[arg-type]


def test_finer_than_nano_is_rounded_up() -> None:
    assert Quantity("0.1n").nano == 1


@given(st.integers(-(10**24), 10**24))
def test_the_canonical_form_says_the_same_again(nano: int) -> None:
    assert Quantity(str(Quantity.from_nano(nano))) == Quantity.from_nano(nano)


@given(st.lists(st.integers(-(10**18), 10**18), max_size=8))
def test_sums_never_drift(parts: list[int]) -> None:
    total = Quantity(0)
    for part in parts:
        total = total + Quantity.from_nano(part)
    assert total.nano == sum(parts)


def test_rounding_up_counts_as_kueue_counts() -> None:
    assert (Quantity("1500u").milli(), Quantity("1.2").ceil(), Quantity("2Gi").ceil()) == (2, 2, 2**31)


@given(index_sets)
def test_an_index_set_is_spelled_and_read_back(indexes: IndexSet) -> None:
    assert IndexSet.parse(str(indexes)) == indexes


@given(index_sets, index_sets)
def test_index_sets_are_sets(one: IndexSet, two: IndexSet) -> None:
    a, b = set(one), set(two)
    assert set(one | two) == a | b
    assert set(one & two) == a & b
    assert set(one - two) == a - b
    assert len(one) == len(a)
    assert all(i in one for i in a)
    assert not any(i in one for i in b - a)


@given(index_sets, st.integers(0, 40))
def test_taking_gives_the_smallest(indexes: IndexSet, count: int) -> None:
    assert list(indexes.take(count)) == sorted(indexes)[:count]


@given(index_sets, index_sets)
def test_positions_are_translated_back_to_members(members: IndexSet, positions: IndexSet) -> None:
    listed = sorted(members)
    assert set(members.at(positions)) == {listed[i] for i in positions if i < len(listed)}


@pytest.mark.parametrize("text", ["a", "3-1", "-1", "1-", "1,,x", "5000000", "1..3"])
def test_what_is_no_index_set_is_refused(text: str) -> None:
    with pytest.raises(InvalidIndexSetError):
        IndexSet.parse(text)


def test_times_need_a_zone_and_keep_their_moment() -> None:
    assert parse_time("2026-01-31T13:00:00+01:00") == datetime(2026, 1, 31, 12, tzinfo=UTC)
    assert format_time(datetime(2026, 1, 31, 12, tzinfo=UTC)) == "2026-01-31T12:00:00Z"
    for text in ("2026-01-31T12:00:00", "yesterday", ""):
        with pytest.raises(InvalidObjectError, match="time"):
            parse_time(text)


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("1h30m", 5400), ("250ms", 0.25), ("1.5h", 5400), ("10us", 1e-5)]
)
def test_durations_are_gos(text: str, seconds: float) -> None:
    assert parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "5", "1d", "1h 30m", "-5s", "s"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(InvalidObjectError, match="duration"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.85, "850ms"), (12, "12s"), (200, "3m20s"), (7500, "2h5m"), (356400, "4d3h"), (60, "1m")]
)
def test_ages_are_short(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@pytest.mark.parametrize(
    ("path", "found"),
    [
        (".a.b", [1]),
        ("{.a.b}", [1]),
        ("$.a['x.y']", [2]),
        (".list[0].n", [1]),
        (".list[-1].n", [3]),
        (".list[0:2].n", [1, 2]),
        (".list[*].n", [1, 2, 3]),
        ('.list[?(@.t=="b")].n', [2]),
        (".list[?(@.n>=2)].n", [2, 3]),
        (".list[?(@.t)].n", [1, 2]),
        (".nowhere.b", []),
        (".a[0]", []),
    ],
)
def test_paths_find(path: str, found: list[int]) -> None:
    obj = {"a": {"b": 1, "x.y": 2}, "list": [{"n": 1, "t": "a"}, {"n": 2, "t": "b"}, {"n": 3}]}
    assert jsonpath.compile(path).find(obj) == found


@pytest.mark.parametrize("path", ["..a", "{.a", ".list[?(@.n=~1)]", ".list[", ".list[?(@.n==x)]"])
def test_paths_that_cannot_be_read_are_refused(path: str) -> None:
    with pytest.raises(InvalidObjectError):
        jsonpath.compile(path)


def test_a_transition_is_a_change_of_status_only() -> None:
    first = with_condition([], "Ready", "True", "Ok", "fine", now="t1")
    second = with_condition(first, "Ready", "True", "StillOk", "fine too", now="t2", generation=3)
    third = with_condition(second, "Ready", "False", "Broken", "no", now="t3")
    assert [c[0]["lastTransitionTime"] for c in (first, second, third)] == ["t1", "t1", "t3"]
    assert (second[0]["reason"], second[0]["observedGeneration"]) == ("StillOk", 3)
    assert condition_is(third, "Ready", "False")
    assert not condition_is(None, "Ready")


@pytest.mark.parametrize("reason", list(Reason), ids=lambda reason: reason.name)
def test_every_reason_says_its_sentence_with_its_facts(reason: Reason) -> None:
    message = reason.message(**{fact: f"<{fact}>" for fact in reason.facts})
    assert all(f"<{fact}>" in message for fact in reason.facts)
    assert reason.code.isalnum()
    assert reason.code[0].isupper()


def test_reason_codes_are_told_apart_within_their_scope() -> None:
    codes = [(reason.scope, reason.code) for reason in Reason]
    assert len(set(codes)) == len(codes)


def test_a_work_name_is_a_label_whatever_the_job_is_called() -> None:
    name = names.work_name("x" * 38 + ".-." + "y" * 200, "0123456789abcdef-rest", 123456)
    assert len(name) <= 63
    assert name == "x" * 38 + "-01234567-123456"


@pytest.mark.parametrize(
    ("code", "reason", "expected"),
    [
        (404, "", "NotFoundError"),
        (409, "AlreadyExists", "AlreadyExistsError"),
        (409, "Conflict", "ConflictError"),
        (410, "", "GoneError"),
        (422, "", "RefusedError"),
        (401, "", "UnauthorizedError"),
        (503, "", "OverloadedError"),
        (429, "", "OverloadedError"),
        (418, "", "ApiError"),
    ],
)
def test_answers_have_their_place_in_the_tree(code: int, reason: str, expected: str) -> None:
    assert type(api_error(code, {"reason": reason})).__name__ == expected
