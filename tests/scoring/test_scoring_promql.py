"""Answers of Prometheus that are right, and the many that are 200 and still nonsense."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.scoring.promql import read_vector


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
