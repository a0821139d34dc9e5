"""How many scores become one order of clusters, with everything kept that an explanation needs.

Each scorer's values are spread over 0 (the worst candidate) to 100 (the best) and weighted; clusters are ordered by the
sum, then by name. Rules that keep this honest:

- Unknown is not zero: where a scorer knows nothing of a cluster, it counts one point below the worst that is known.
- Where all known values are equal the scorer prefers none of them: each gets 100, so that unknown is still below.
- Where low is better (a price; a negative weight) the scale is turned round first, so unknown stays last there, too.
- A scorer with a normaliser of its own (hub/scoring/normalise.py) is spread by that instead.
- A cluster that a scorer is not about gets the mean of those it is about: nothing for it and nothing against it.
- A scorer that raises or answers nonsense costs itself only: it is unknown everywhere, and `problems` says why.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hub.fleet.fleet import Fleet
from hub.scoring.interface import ScoreRequest, WeightedScorer, concerns, lower_is_better, normaliser_of
from hub.scoring.normalise import Normaliser

UNKNOWN = -1.0
_PLAIN = Normaliser()


@dataclass(frozen=True, slots=True)
class ScoreColumn:
    """What one scorer said, in the order of the fleet's names; NaN is unknown or no candidate.

    `normalised` is 0–100; `weighted` is what it adds to the total.
    """

    name: str
    weight: float
    raw: NDArray[np.float64]
    normalised: NDArray[np.float64]
    weighted: NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Ranking:
    """`order`: positions of the candidates, best first. `total`: NaN where no candidate. `problems`: scorer → what.

    `scorers` are those that counted; `raw` has a row for each of them, `normalised` and `weighted` a row for each and a
    column for each of `chosen`, the candidates.
    """

    names: tuple[str, ...]
    order: NDArray[np.intp]
    total: NDArray[np.float64]
    problems: Mapping[str, str]
    scorers: tuple[WeightedScorer, ...]
    chosen: NDArray[np.intp]
    raw: NDArray[np.float64]
    normalised: NDArray[np.float64]
    weighted: NDArray[np.float64]

    @property
    def ordered(self) -> tuple[str, ...]:
        """The candidates' names, best first."""
        return tuple(self.names[position] for position in self.order.tolist())

    @property
    def columns(self) -> tuple[ScoreColumn, ...]:
        """Scorer by scorer, for who wants to know why; deciding needs the total only."""
        return tuple(
            ScoreColumn(
                entry.scorer.name,
                entry.weight,
                self.raw[row],
                self._spread_out(self.normalised[row]),
                self._spread_out(self.weighted[row]),
            )
            for row, entry in enumerate(self.scorers)
        )

    def _spread_out(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        column = np.full(len(self.names), np.nan)
        column[self.chosen] = values
        return column


def rank(
    fleet: Fleet, request: ScoreRequest, scorers: Sequence[WeightedScorer], candidates: NDArray[np.bool_]
) -> Ranking:
    """Orders `candidates` (a mask in the order of `fleet.names`). The order is total: equal sums go by name."""
    chosen = candidates.nonzero()[0]
    counting = tuple(entry for entry in scorers if entry.weight)
    problems: dict[str, str] = {}
    raw = np.empty((len(counting), len(fleet.names)))
    for row, entry in enumerate(counting):
        _ask(entry, fleet, request, raw[row], problems)
    values = raw if len(chosen) == len(fleet.names) else raw[:, chosen]
    normalised, weighted = _normalise(counting, values)
    for row, entry in enumerate(counting):
        special, about = normaliser_of(entry.scorer), _about(entry, fleet, problems)
        if (special is None or special.plain) and about is None:
            continue
        mask = None
        if about is not None:
            mask = about[chosen]
            raw[row, ~about] = np.nan
            values[row, ~mask] = np.nan
        normalised[row], weighted[row] = _normalise_one(entry, special or _PLAIN, values[row], mask)
    # The same sum, row by row, whatever else is in the matrix: never a matter of blocks.
    sums = np.zeros(len(chosen))
    for row in weighted:
        sums += row
    total = np.full(len(fleet.names), np.nan)
    total[chosen] = sums
    # A stable sort over positions, which are in name order.
    order = chosen[np.negative(sums).argsort(kind="stable")]
    return Ranking(fleet.names, order, total, problems, counting, chosen, raw, normalised, weighted)


def admit(
    fleet: Fleet, request: ScoreRequest, scorers: Sequence[WeightedScorer]
) -> tuple[NDArray[np.bool_] | None, dict[int, str]]:
    """Which clusters the scorers' filters let through (None: there is no filter), and who keeps out each other one.

    A filter that raises or answers nonsense keeps out nobody: it costs itself only.
    """
    mask: NDArray[np.bool_] | None = None
    by: dict[int, str] = {}
    for entry in scorers:
        admits = getattr(entry.scorer, "filter", None)
        if admits is None:
            continue
        if mask is None:
            mask = np.ones(len(fleet.names), np.bool_)
        try:
            answer = np.asarray(admits(fleet, request))
        # Somebody else's code, as in `_ask`.
        except Exception:
            continue
        if answer.shape != mask.shape or answer.dtype != np.bool_:
            continue
        for position in (mask & ~answer).nonzero()[0].tolist():
            by[position] = entry.scorer.name
        mask = mask & answer
    return mask, by


def most(
    fleet: Fleet, request: ScoreRequest, scorers: Sequence[WeightedScorer]
) -> tuple[NDArray[np.int64] | None, dict[int, str]]:
    """How many tasks more the scorers let each cluster have (None: none of them limits it), and which of them allows
    least. A limit that cannot be asked, or is nonsense, limits nobody: it costs itself only."""
    least: NDArray[np.int64] | None = None
    by: dict[int, str] = {}
    for entry in scorers:
        limit = getattr(entry.scorer, "limit", None)
        if limit is None:
            continue
        try:
            answer = np.asarray(limit(fleet, request))
        # Somebody else's code, as in `_ask`.
        except Exception:
            continue
        if answer.shape != (len(fleet.names),) or answer.dtype != np.int64:
            continue
        if least is None:
            least = np.full(len(fleet.names), np.iinfo(np.int64).max)
        answer = np.maximum(answer, 0)
        for position in (answer < least).nonzero()[0].tolist():
            by[position] = entry.scorer.name
        least = np.minimum(least, answer)
    return least, by


def _ask(
    entry: WeightedScorer,
    fleet: Fleet,
    request: ScoreRequest,
    into: NDArray[np.float64],
    problems: dict[str, str],
) -> None:
    name = entry.scorer.name
    try:
        answer = np.asarray(entry.scorer.score(fleet, request), dtype=np.float64)
    # Whatever somebody else's code raises must not stop the others.
    except Exception as error:
        into.fill(np.nan)
        problems[name] = f"{type(error).__name__}: {error}"
        return
    if answer.shape != into.shape:
        into.fill(np.nan)
        problems[name] = f"answered shape {answer.shape}, expected {into.shape}"
        return
    into[:] = answer
    # What still answers from what it knew says so itself.
    said = getattr(entry.scorer, "problem", "")
    if said:
        problems[name] = str(said)
    broken = np.isinf(into)
    if broken.any():
        into[broken] = np.nan
        problems[name] = f"answered an infinite value for {fleet.names[int(broken.nonzero()[0][0])]}"


def _about(entry: WeightedScorer, fleet: Fleet, problems: dict[str, str]) -> NDArray[np.bool_] | None:
    try:
        about = concerns(entry.scorer, fleet)
    # Somebody else's code, as in `_ask`.
    except Exception as error:
        problems[entry.scorer.name] = f"{type(error).__name__}: {error}"
        return None
    if about is not None and (about.shape != (len(fleet.names),) or about.dtype != np.bool_):
        problems[entry.scorer.name] = f"is about {about.dtype} {about.shape}, expected a mask of ({len(fleet.names)},)"
        return None
    return about


def _normalise(
    entries: Sequence[WeightedScorer], values: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Of one row a scorer: 0–100 (NaN unknown), and what each value adds to the total."""
    if not values.size:
        return values, values
    unknown = np.isnan(values)
    partly = bool(unknown.any())
    low = (np.where(unknown, np.inf, values) if partly else values).min(axis=1)
    high = (np.where(unknown, -np.inf, values) if partly else values).max(axis=1)
    # Halved, so that the distance of two huge values is still a number.
    spread = high / 2 - low / 2
    flat = ~(spread > 0)
    if flat.any():
        spread[flat] = np.inf
        low[flat] = 0.0
    normalised = (values / 2 - (low / 2)[:, None]) / spread[:, None] * 100.0
    weights = np.empty((len(entries), 1))
    for row, entry in enumerate(entries):
        weights[row] = abs(entry.weight)
        if flat[row]:
            normalised[row] = np.where(unknown[row], np.nan, 100.0)
        elif (entry.weight < 0) != lower_is_better(entry.scorer):
            normalised[row] = 100.0 - normalised[row]
    return normalised, (np.where(unknown, UNKNOWN, normalised) if partly else normalised) * weights


def _normalise_one(
    entry: WeightedScorer, normaliser: Normaliser, values: NDArray[np.float64], about: NDArray[np.bool_] | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """As `_normalise` for a scorer that says how its values are spread, or which clusters it is about."""
    turned = (entry.weight < 0) != lower_is_better(entry.scorer)
    normalised = normaliser.scores(values, lower=turned)
    unknown = np.isnan(normalised)
    if about is not None and not unknown.all():
        normalised[~about] = normalised[~unknown].mean()
        unknown &= about
    return normalised, np.where(unknown, UNKNOWN, normalised) * abs(entry.weight)
