"""What a number will be, from what it was: seasonal naive or a regression, whichever did better on its own past.

A forecast is only worth something if it beats the last value, so every look tries the methods on times whose outcome is
known, and says how far off each was on average. With `auto` the one that was least off answers, and that may be the
last value. Pure: samples in, values and errors out; which samples are asked for is hub/controllers/source_clients.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from hub.scoring.answer import LAST, Answer, Quality, merged

Floats = NDArray[np.float64]
Method = Literal["auto", "seasonalNaive", "regression"]
METHODS: Final[tuple[Method, ...]] = ("auto", "seasonalNaive", "regression")
MOST_POINTS: Final = 2_000
"""Samples of one series. Prometheus itself would give 11,000, for a thousand clusters that is too much to read."""
_ORIGINS: Final = 48
"""So many times in the past each method is tried."""
_LEAST: Final = 8
"""Points that a regression needs at least."""
_GAP: Final = 3
"""Steps without a sample over which the neighbours are joined by a line; more is unknown."""
_KNOWN: Final = 0.5
_HARMONICS: Final = 2


@dataclass(frozen=True, slots=True)
class ForecastSpec:
    """Seconds all. `horizon`: how far ahead. `history`: how far back. `step`: between two samples. `season`: after
    which it repeats itself."""

    horizon: float
    history: float = 7 * 86_400.0
    step: float = 3_600.0
    season: float = 86_400.0
    method: Method = "auto"

    @property
    def points(self) -> int:
        return int(self.history // self.step) + 1

    @property
    def ahead(self) -> int:
        """Steps that the horizon is, at least one."""
        return max(1, round(self.horizon / self.step))

    @property
    def period(self) -> int:
        return max(1, round(self.season / self.step))


def forecast_matrix(values: Floats, spec: ForecastSpec) -> tuple[Floats, Quality]:
    """`values`: a row a series, a column a step, the newest last, no NaN. What each is `spec.ahead` steps on, within
    the range of its past and half of that beyond, and never below 0 where it never was."""
    candidates: list[str] = [LAST]
    if spec.method != "regression":
        candidates.append("seasonalNaive")
    if spec.method != "seasonalNaive":
        candidates.append("regression")
    errors: dict[str, float] = {}
    tries = 0
    count = values.shape[1]
    window = _window(count, spec)
    for name in candidates:
        found = _backtest(name, values, spec, window)
        if found is not None:
            errors[name], tries = found
    usable = [name for name in candidates if _least(name, spec) <= count]
    chosen = LAST
    if spec.method != "auto":
        chosen = spec.method if spec.method in usable else LAST
    elif errors:
        # Of equals the plainest.
        chosen = min((name for name in candidates if name in errors), key=lambda name: errors[name])
    predicted = _predict(chosen, values, count, spec, window)
    low, high = values.min(axis=1), values.max(axis=1)
    reach = (high - low) / 2
    predicted = np.clip(predicted, np.where(low >= 0, np.maximum(low - reach, 0.0), low - reach), high + reach)
    return predicted, Quality(chosen, errors.get(chosen), errors.get(LAST), tries)


def read_matrix(
    result: object, cluster_label: str, spec: ForecastSpec, now: float, *, only: str = ""
) -> tuple[Answer, Quality | None]:
    """A range vector (`data.result` of /api/v1/query_range) as forecasts by cluster. `only`: it is about this cluster.

    A cluster with several series, with too many gaps, or whose newest sample is old, is unknown, and named.
    """
    if not isinstance(result, Sequence) or isinstance(result, str | bytes):
        return Answer({}, (f"the answer is no matrix but {type(result).__name__}",)), None
    found: dict[str, Floats] = {}
    complaints: list[str] = []
    unlabelled = 0
    for series in result:
        labels = series.get("metric") if isinstance(series, Mapping) else None
        cluster = only or (labels.get(cluster_label) if isinstance(labels, Mapping) else None)
        if not isinstance(cluster, str) or not cluster:
            unlabelled += 1
            continue
        if cluster in found:
            complaints.append(f"{cluster} has several series: aggregate by ({cluster_label})")
            found[cluster] = np.full(spec.points, np.nan)
            continue
        found[cluster] = _on_grid(series.get("values"), spec, now)
    if unlabelled:
        complaints.append(f"{unlabelled} series without label {cluster_label}: aggregate by ({cluster_label})")
    rows: dict[str, Floats] = {}
    for cluster, grid in sorted(found.items()):
        row, problem = _joined(grid)
        if problem and not any(text.startswith(f"{cluster} has several") for text in complaints):
            complaints.append(f"{cluster}: {problem}")
        elif not problem:
            rows[cluster] = row
    if not rows:
        return Answer({}, tuple(sorted(set(complaints)))), None
    # Series that began later are forecast with those of the same age: none is filled up with what it never was.
    values: dict[str, float] = {}
    qualities: list[tuple[Quality, int]] = []
    for length in sorted({len(row) for row in rows.values()}):
        names = [cluster for cluster, row in rows.items() if len(row) == length]
        predicted, quality = forecast_matrix(np.array([rows[name] for name in names]), spec)
        values |= dict(zip(names, predicted.tolist(), strict=True))
        qualities.append((quality, len(names)))
    return Answer(dict(sorted(values.items())), tuple(sorted(set(complaints)))), merged(qualities)


def _on_grid(samples: Any, spec: ForecastSpec, now: float) -> Floats:
    """The newest sample of each step up to `now`; NaN where there is none."""
    grid = np.full(spec.points, np.nan)
    if not isinstance(samples, list | tuple):
        return grid
    for sample in samples:
        try:
            at, value = float(sample[0]), float(sample[1])
        except (TypeError, ValueError, IndexError, KeyError, OverflowError):
            continue
        back = (now - at) / spec.step
        if not (np.isfinite(value) and np.isfinite(back)):
            continue
        position = spec.points - 1 - round(back)
        if 0 <= position < spec.points:
            grid[position] = value
    return grid


def _joined(grid: Floats) -> tuple[Floats, str]:
    """From its first sample on, gaps filled; and why not, in words."""
    known = np.flatnonzero(~np.isnan(grid))
    if not known.size:
        return grid, "no sample is a number"
    if len(grid) - 1 - known[-1] > _GAP:
        return grid, f"its newest sample is {len(grid) - 1 - int(known[-1])} steps old"
    row = grid[known[0] :]
    part = known.size / len(row)
    if part < _KNOWN:
        return grid, f"it has samples for {part:.0%} of its time only"
    inner = known - known[0]
    return np.interp(np.arange(len(row)), inner, row[inner]), ""


def _least(name: str, spec: ForecastSpec) -> int:
    """Columns that a method needs to say anything."""
    if name == LAST:
        return 1
    if name == "regression":
        return _LEAST
    return (
        max(spec.period, spec.ahead) + 1 if spec.ahead <= spec.period else -(-spec.ahead // spec.period) * spec.period
    )


def _window(count: int, spec: ForecastSpec) -> int:
    """Points that a regression looks at: three seasons where they are there, or all but what it is tried on."""
    tried = min(_ORIGINS, count // 3) + spec.ahead
    return int(max(_LEAST, min(3 * spec.period + 1, count - tried)))


def _backtest(name: str, values: Floats, spec: ForecastSpec, window: int) -> tuple[float, int] | None:
    """(mean absolute error, tries), None where the past is too short: the same times for every method."""
    count, ahead = values.shape[1], spec.ahead
    last = count - ahead
    first = max(_LEAST, _least("seasonalNaive", spec) if spec.method != "regression" else 0, min(window, last))
    first = max(first, last - _ORIGINS + 1)
    if _least(name, spec) > first or first > last:
        return None
    misses = [
        np.abs(_predict(name, values, origin, spec, min(window, origin)) - values[:, origin + ahead - 1])
        for origin in range(first, last + 1)
    ]
    return float(np.mean(misses)), len(misses)


def _predict(name: str, values: Floats, origin: int, spec: ForecastSpec, window: int) -> Floats:
    """From the first `origin` columns, for `spec.ahead` steps after the last of them."""
    if name == "seasonalNaive":
        back = -(-spec.ahead // spec.period) * spec.period
        found: Floats = values[:, origin - 1 + spec.ahead - back]
        return found
    if name == "regression":
        window = max(_LEAST, min(window, origin))
        weights = _weights(window, spec.period, spec.ahead)
        predicted: Floats = values[:, origin - window : origin] @ weights
        return predicted
    latest: Floats = values[:, origin - 1]
    return latest


@lru_cache(maxsize=64)
def _weights(window: int, period: int, ahead: int) -> Floats:
    """What the least-squares line through `window` points says `ahead` steps later, as a sum over the points. With two
    seasons in it the line is one plus the first harmonics of the season."""
    from scipy.linalg import pinv

    at = np.arange(1 - window, 1, dtype=np.float64)

    def columns(times: Floats) -> Floats:
        parts = [np.ones_like(times), times / window]
        if window >= 2 * period and period > 2 * _HARMONICS:
            for harmonic in range(1, _HARMONICS + 1):
                angle = 2 * np.pi * harmonic * times / period
                parts += [np.sin(angle), np.cos(angle)]
        return np.stack(parts, axis=1)

    weights: Floats = (columns(np.array([float(ahead)])) @ pinv(columns(at)))[0]
    weights.flags.writeable = False
    return weights
