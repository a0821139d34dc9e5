"""Answers of Prometheus that are right, and the many that are 200 and still nonsense."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.asking.document import Fields
from hub.scoring.answer import read_document, read_single, read_vector


def series(cluster: str | None, value: Any) -> dict[str, Any]:
    return {"metric": {"cluster": cluster} if cluster is not None else {}, "value": [1767225600.0, value]}


def test_values_come_by_cluster() -> None:
    answer = read_vector([series("b", "2"), series("a", "1.5")], "cluster")
    assert (dict(answer.values), answer.complaints) == ({"a": 1.5, "b": 2.0}, ())


@pytest.mark.parametrize("value", ["NaN", "+Inf", "-Inf", "fast", None, {}])
def test_what_is_not_a_number_is_unknown_and_said(value: Any) -> None:
    answer = read_vector([series("a", value), series("b", "2")], "cluster")
    assert dict(answer.values) == {"b": 2.0}
    assert answer.complaints[0].startswith("a: ")


def test_a_cluster_with_several_series_is_unknown_whatever_their_order() -> None:
    doubled = [series("a", "1"), series("a", "2"), series("b", "3"), series("a", "4")]
    for answer in (read_vector(doubled, "cluster"), read_vector(doubled[::-1], "cluster")):
        assert dict(answer.values) == {"b": 3.0}
        assert answer.complaints == ("a has several series: aggregate by (cluster)",)


def test_series_without_the_label_are_counted() -> None:
    answer = read_vector([series(None, "1"), series("", "1")], "cluster")
    assert answer.complaints == ("2 series without label cluster: aggregate by (cluster)",)


json = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=12,
)


@given(json)
def test_garbage_never_raises(result: Any) -> None:
    assert read_vector(result, "cluster").values is not None


@pytest.mark.parametrize(
    ("aggregation", "expected"),
    [("avg", 3), ("max", 6), ("min", 1), ("sum", 12), ("median", 2.5), ("p95", 5.55)],
)
def test_several_series_of_a_cluster_are_aggregated_where_that_is_asked_for(aggregation: str, expected: float) -> None:
    vector = [series("a", value) for value in ("1", "2", "3", "6", "NaN")] + [series("b", "9")]
    answer = read_vector(vector, "cluster", aggregation)
    assert dict(answer.values) == pytest.approx({"a": expected, "b": 9})
    assert answer.complaints == ("a: 'NaN' is not a number",)


def test_a_series_that_is_no_number_beside_one_that_is_makes_the_cluster_unknown() -> None:
    answer = read_vector([series("a", "NaN"), series("a", "2")], "cluster")
    assert dict(answer.values) == {}


def test_a_sum_that_is_no_number_any_more_is_unknown() -> None:
    assert dict(read_vector([series("a", "1e308")] * 3, "cluster", "sum").values) == {}
    assert dict(read_vector([series("a", "1e308")] * 3, "cluster", "avg").values) == {"a": 1e308}


@pytest.mark.parametrize(("now", "said"), [(1767225600 + 3600, "1h behind"), (1767225600 - 3600, "1h ahead")])
def test_a_clock_an_hour_off_is_said_and_the_values_count(now: float, said: str) -> None:
    answer = read_vector([series("a", "1")], "cluster", now=now)
    assert dict(answer.values) == {"a": 1.0}
    assert said in answer.complaints[0]
    assert read_vector([series("a", "1")], "cluster", now=1767225600 + 30).complaints == ()


@pytest.mark.parametrize(
    ("result", "values", "said"),
    [
        ([1767225600.0, "4"], {"a": 4.0}, ""),
        ([{"metric": {"pod": "p"}, "value": [0, "5"]}], {"a": 5.0}, ""),
        ([series("b", "1"), series("c", "2")], {}, "a has 2 series: aggregate them"),
        ([], {}, ""),
        ({}, {}, "a: the answer is no vector but dict"),
    ],
)
def test_an_answer_about_one_cluster(result: Any, values: dict[str, float], said: str) -> None:
    answer = read_single(result, "a")
    assert dict(answer.values) == values
    assert " ".join(answer.complaints) == said


NOW = 1767225600.0
TIMED = Fields(time="at")


@pytest.mark.parametrize(
    ("at", "known", "said"),
    [
        (NOW - 10, True, ""),
        ("2025-12-31T23:59:50Z", True, ""),
        (NOW - 3600, False, "a: it is 1h old"),
        (NOW + 3600, False, "1h ahead of the hub's"),
        ("yesterday", False, "a: at 'yesterday' is not a time"),
        (None, False, "is not a time"),
    ],
)
def test_a_value_with_a_time_of_its_own_is_known_as_long_as_it_is_valid(at: Any, known: bool, said: str) -> None:
    answer = read_document([{"cluster": "a", "value": 1, "at": at}], TIMED, "", NOW, 300.0)
    assert dict(answer.values) == ({"a": 1.0} if known else {})
    assert said in " ".join(answer.complaints)


def test_documents_are_lists_or_maps_or_about_one_cluster() -> None:
    def read(document: Any, fields: Fields = Fields(), **options: Any) -> dict[str, float]:  # noqa: B008 - frozen
        return dict(read_document(document, fields, "", NOW, 300.0, **options).values)

    assert read({"a": 1, "b": "2.5", "c": True}) == {"a": 1.0, "b": 2.5}
    assert read({"a": {"value": 1}}) == {"a": 1.0}
    assert read({"r": {"s": [{"n": "a", "v": [3, 4]}]}}, Fields("r.s", "n", "v.1")) == {"a": 4.0}
    assert read([{"cluster": "a", "value": 1}, {"cluster": "a", "value": 1}]) == {}
    assert read([{"value": 1}, 7, None]) == {}
    assert read({"value": 8}, only="a") == {"a": 8.0}
    assert read(8, only="a") == {"a": 8.0}


@given(json, st.booleans())
def test_garbage_documents_never_raise(document: Any, one: bool) -> None:
    fields = Fields("a", "b", "c.0", "d")
    assert read_document(document, fields, "avg", NOW, 300.0, only="x" if one else "").values is not None
    assert read_single(document, "x", "sum", NOW).values is not None
