"""How raw values become 0–100: each way by its formula, and what holds of all of them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.scoring.normalise import KINDS, Normaliser

NAN = math.nan


def scores(normaliser: Normaliser, *values: float, lower: bool = False) -> list[float]:
    return normaliser.scores(np.array(values), lower=lower).round(6).tolist()


@pytest.mark.parametrize(
    ("normaliser", "values", "expected"),
    [
        (Normaliser(), (2, 4, 3), (0, 100, 50)),
        (Normaliser(), (3, 3), (100, 100)),
        (Normaliser(low=0, high=10), (-5, 5, 20), (0, 50, 100)),
        (Normaliser(low=0), (2, 4), (50, 100)),
        (Normaliser(high=8), (0, 4, 9), (0, 50, 100)),
        (Normaliser(low=10), (2, 4), (100, 100)),
        (Normaliser("none"), (-3, 42, 180), (0, 42, 100)),
        (Normaliser("none", low=20, high=30), (10, 25, 90), (20, 25, 30)),
        (Normaliser("rank"), (10, 1000, 20), (0, 100, 50)),
        (Normaliser("rank"), (7, 7, 9), (25, 25, 100)),
        (Normaliser("rank"), (7,), (50,)),
        (Normaliser("zScore"), (5, 5), (50, 50)),
        (Normaliser("zScore"), (-1, 1), (50 - 50 / 3, 50 + 50 / 3)),
        (Normaliser("sigmoid", midpoint=100, scale=10), (100, 110, -9e9), (50, 100 / (1 + math.exp(-1)), 0)),
        (Normaliser("sigmoid"), (1, 1), (50, 50)),
        (Normaliser("sigmoid"), (1, 2, 3), (100 / (1 + math.exp(1.5**0.5)), 50, 100 / (1 + math.exp(-(1.5**0.5))))),
    ],
)
def test_formulas(normaliser: Normaliser, values: tuple[float, ...], expected: tuple[float, ...]) -> None:
    assert scores(normaliser, *values) == pytest.approx(expected, abs=1e-5)
    turned = [100 - value for value in expected]
    assert scores(normaliser, *values, lower=True) == pytest.approx(turned, abs=1e-5)


def test_unknown_stays_unknown_and_moves_nobody() -> None:
    for kind in KINDS:
        found = Normaliser(kind).scores(np.array([1.0, NAN, 3.0, 5.0]))
        alone = Normaliser(kind).scores(np.array([1.0, 3.0, 5.0]))
        assert math.isnan(found[1])
        assert np.array_equal(found[[0, 2, 3]], alone)
        assert np.isnan(Normaliser(kind).scores(np.array([NAN, NAN]))).all()
        assert Normaliser(kind).scores(np.zeros(0)).shape == (0,)


def test_huge_values_are_still_told_apart() -> None:
    values = np.array([1.7e308] * 8 + [-1.7e308])
    for kind in KINDS:
        found = Normaliser(kind).scores(values)
        assert found[0] > found[-1], kind


bounds = st.none() | st.floats(-1e300, 1e300)


@given(
    st.sampled_from(KINDS),
    bounds,
    bounds,
    st.lists(st.floats(allow_infinity=False), max_size=8),
    st.booleans(),
)
def test_always_from_0_to_100_and_never_against_the_order(
    kind: str, low: float | None, high: float | None, values: list[float], lower: bool
) -> None:
    if low is not None and high is not None and low > high:
        low, high = high, low
    found = Normaliser(kind, low, high).scores(np.array(values), lower=lower)
    known = ~np.isnan(np.array(values))
    assert (np.isnan(found) == ~known).all()
    assert ((found[known] >= 0) & (found[known] <= 100)).all()
    ordered = found[known][np.argsort(np.array(values)[known], kind="stable")]
    steps = np.diff(ordered)
    assert (steps <= 1e-9).all() if lower else (steps >= -1e-9).all()
