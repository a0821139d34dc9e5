"""Forecasts of made-up pasts whose future is known, and of answers that are none."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.scoring.answer import LAST, Quality
from hub.scoring.forecast import ForecastSpec, forecast_matrix, read_matrix

HOUR, DAY = 3600.0, 86400.0
NOW = 1_767_225_600.0
SPEC = ForecastSpec(2 * HOUR)


def past(function: Any, points: int = SPEC.points) -> np.ndarray[Any, Any]:
    """One row: `function(t)` for steps up to now, which is t = 0."""
    return np.array([[function(step) for step in range(1 - points, 1)]], np.float64)


def test_a_day_that_repeats_itself_is_foreseen() -> None:
    def wave(step: int) -> float:
        return 50 + 40 * math.sin(2 * math.pi * step / 24) + (7 if step % 24 in (3, 4) else 0)

    predicted, quality = forecast_matrix(past(wave), SPEC)
    assert predicted[0] == pytest.approx(wave(2))
    assert (quality.method, quality.tries) == ("seasonalNaive", 48)
    assert quality.error == pytest.approx(0, abs=1e-9)
    assert quality.last_error is not None
    assert quality.last_error > 5


def test_a_trend_with_a_season_is_what_regression_is_for() -> None:
    def growing(step: int) -> float:
        return 1000 + 5 * step + 30 * math.cos(2 * math.pi * step / 24)

    predicted, quality = forecast_matrix(past(growing), SPEC)
    assert quality.method == "regression"
    assert predicted[0] == pytest.approx(growing(2), rel=1e-6)
    assert quality.error == pytest.approx(0, abs=1e-6)


def test_where_nothing_repeats_itself_the_last_value_wins() -> None:
    random = np.random.default_rng(7)
    walk = np.cumsum(random.normal(0, 1, (40, SPEC.points)), axis=1) + 500
    predicted, quality = forecast_matrix(walk, SPEC)
    assert quality.method == LAST
    assert predicted.tolist() == walk[:, -1].tolist()
    assert quality.error == quality.last_error


@pytest.mark.parametrize("method", ["seasonalNaive", "regression"])
def test_a_method_that_is_asked_for_answers_and_says_how_it_did(method: Any) -> None:
    random = np.random.default_rng(7)
    walk = np.cumsum(random.normal(0, 1, (40, SPEC.points)), axis=1) + 500
    _, quality = forecast_matrix(walk, ForecastSpec(2 * HOUR, method=method))
    assert quality.method == method
    assert quality.error is not None
    assert quality.last_error is not None
    assert quality.error > quality.last_error
    text = quality.text(2 * HOUR)
    assert text.startswith(f"forecast 2h ahead by {method}: off by ")
    assert "the last value by" in text


def test_the_error_is_that_of_the_past_that_was_tried() -> None:
    """By hand: four points, one ahead, the last value: |2−1|, |4−2| on the two that are left after the first eight."""
    row = np.array([[1.0] * 8 + [1.0, 2.0, 4.0]])
    _, quality = forecast_matrix(row, ForecastSpec(HOUR, season=4 * HOUR))
    errors = {quality.method: quality.error, LAST: quality.last_error}
    assert errors[LAST] == pytest.approx((0 + 1 + 2) / 3)


def test_too_short_a_past_is_the_last_value_and_says_so() -> None:
    predicted, quality = forecast_matrix(np.array([[3.0, 4.0]]), SPEC)
    assert (predicted.tolist(), quality) == ([4.0], Quality(LAST, None, None, 0))
    assert "too little past" in quality.text(HOUR)


def test_a_forecast_stays_in_reach_of_what_was() -> None:
    steep = ForecastSpec(100 * HOUR, method="regression")
    predicted, _ = forecast_matrix(past(lambda step: 200.0 + step), steep)
    assert predicted[0] == pytest.approx(200 + 168 / 2)
    falling, _ = forecast_matrix(past(lambda step: float(-step)), steep)
    assert falling[0] == 0.0


def test_further_ahead_than_a_season_it_looks_two_back() -> None:
    spec = ForecastSpec(30 * HOUR, method="seasonalNaive")
    predicted, quality = forecast_matrix(past(lambda step: float(step % 24)), spec)
    assert predicted[0] == float(30 % 24)
    assert quality.error == 0


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 5),
    st.integers(1, 60),
    st.floats(1, 100),
    st.sampled_from(["auto", "seasonalNaive", "regression"]),
    st.integers(0, 2**32 - 1),
)
def test_whatever_the_past_the_forecast_is_a_number(
    rows: int, points: int, ahead: float, method: Any, seed: int
) -> None:
    values = np.random.default_rng(seed).normal(0, 1e6, (rows, points))
    spec = ForecastSpec(ahead * HOUR, method=method)
    predicted, quality = forecast_matrix(values, spec)
    assert predicted.shape == (rows,)
    assert np.isfinite(predicted).all()
    assert quality.error is None or (math.isfinite(quality.error) and quality.error >= 0)
    again, _ = forecast_matrix(values, spec)
    assert np.array_equal(predicted, again)


def series(cluster: str | None, values: Any) -> dict[str, Any]:
    return {"metric": {} if cluster is None else {"cluster": cluster}, "values": values}


def samples(function: Any, points: int = SPEC.points, until: int = 0) -> list[Any]:
    return [[NOW + step * HOUR, str(function(step))] for step in range(1 - points, until + 1)]


def test_a_matrix_is_read_cluster_by_cluster_and_what_cannot_be_used_is_named() -> None:
    def wave(step: int) -> float:
        return 50 + 40 * math.sin(2 * math.pi * step / 24)

    gappy = [sample for number, sample in enumerate(samples(wave)) if number % 5]
    answer, quality = read_matrix(
        [
            series("ash", samples(wave)),
            series("elm", gappy),
            series("late", samples(wave, 20)),
            series("odd", [[NOW, "NaN"], ["x"], None, [NOW, "+Inf"]]),
            series("old", samples(wave, 100, -10)),
            series("rare", samples(wave)[::3]),
            series("twice", samples(wave)),
            series("twice", samples(wave)),
            series(None, samples(wave)),
        ],
        "cluster",
        SPEC,
        NOW,
    )
    assert sorted(answer.values) == ["ash", "elm", "late"]
    assert answer.values["ash"] == pytest.approx(wave(2))
    assert answer.values["elm"] == pytest.approx(wave(2), abs=2)
    assert answer.complaints == (
        "1 series without label cluster: aggregate by (cluster)",
        "odd: no sample is a number",
        "old: its newest sample is 10 steps old",
        "rare: it has samples for 34% of its time only",
        "twice has several series: aggregate by (cluster)",
    )
    assert quality is not None
    assert quality.error is not None


@pytest.mark.parametrize("result", ["words", None, 7, {"a": 1}])
def test_what_is_no_matrix_is_said(result: Any) -> None:
    answer, quality = read_matrix(result, "cluster", SPEC, NOW)
    assert answer.values == {}
    assert "no matrix" in answer.complaints[0]
    assert quality is None


def test_an_answer_about_one_cluster_needs_no_label() -> None:
    answer, _ = read_matrix([series(None, samples(lambda step: 5.0))], "cluster", SPEC, NOW, only="ash")
    assert answer.values == {"ash": 5.0}
