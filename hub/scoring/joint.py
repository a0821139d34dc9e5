"""Several applications, the clusters they run on, and how each cluster cuts up its devices, chosen together.

A cluster can be set to one of several profiles (such as a way to slice its GPUs); each offers so much of one kind of
resource. An application asks for some of a kind, and has a score on each cluster and profile. Chosen is what makes the
sum of scores largest: at most one cluster an application, at most one profile a cluster, no profile overfull. That is
the mixed-integer program (x, y, z) of the Dynamic Scoring Framework's optimiser; x follows from z and is left out.
Solved exactly by HiGHS through scipy, or as well as the time allows, with the gap said. Pure: nothing is applied.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, linprog, milp
from scipy.sparse import csr_array

_GAP: Final = 2e-3
"""By this part of it the sum may be short of the best; the last hundredths take longer than all before them."""
_FIRST: Final = 600
"""Pairs among which a first answer is looked for."""
_WHOLE: Final = 1e-9


@dataclass(frozen=True, slots=True)
class Profile:
    """`amount` of `kind` on one cluster when it is set to this."""

    name: str
    kind: str
    amount: float


@dataclass(frozen=True, slots=True)
class Application:
    name: str
    kind: str
    amount: float


@dataclass(frozen=True, slots=True)
class Placed:
    application: str
    cluster: str
    profile: str
    score: float


@dataclass(frozen=True, slots=True)
class JointChoice:
    """`left_out`: why each application that is placed nowhere is not. `gap`: by what part of the sum of scores it may
    be short of the best there is; 0: it is the best. All in order of names."""

    placed: tuple[Placed, ...]
    profiles: Mapping[str, str]
    left_out: Mapping[str, str]
    total: float
    gap: float


Scores = Mapping[tuple[str, str, str], float]
"""By application, cluster and profile, the last empty where a score is for any; higher is better."""


def choose_together(
    applications: Sequence[Application],
    clusters: Mapping[str, Sequence[Profile]],
    scores: Scores,
    time_limit: float = 5.0,
) -> JointChoice:
    """A pair without a score is not chosen: unknown is no 0. `time_limit`: seconds.

    Names are told apart, and ties decided, in the order of names. Raises `ValueError` for two of one name.
    """
    apps = sorted(applications, key=lambda app: app.name)
    offered = sorted(
        ((cluster, profile) for cluster, profiles in clusters.items() for profile in profiles),
        key=lambda entry: (entry[0], entry[1].name),
    )
    names = [(cluster, profile.name) for cluster, profile in offered]
    if len({app.name for app in apps}) < len(apps) or len(set(names)) < len(names):
        raise ValueError("two applications, or two profiles of a cluster, have one name")
    pairs: list[tuple[int, int, float]] = []
    reasons: dict[str, str] = {}
    for a, app in enumerate(apps):
        found, reasons[app.name] = _candidates(app, offered, scores)
        pairs += [(a, p, score) for p, score in found]
    # What counts nothing, or less, is better left out: no variable is needed for it.
    if not pairs:
        return JointChoice((), {}, reasons, 0.0, 0.0)
    chosen, total, gap = _solve(apps, offered, pairs, time_limit)
    placed = tuple(
        Placed(apps[a].name, offered[p][0], offered[p][1].name, score)
        for (a, p, score), taken in zip(pairs, chosen, strict=True)
        if taken
    )
    there = {one.application for one in placed}
    left_out = {app.name: reasons[app.name] or "others add more to the sum" for app in apps if app.name not in there}
    return JointChoice(placed, {one.cluster: one.profile for one in placed}, left_out, total, gap)


def _candidates(
    app: Application, offered: Sequence[tuple[str, Profile]], scores: Scores
) -> tuple[list[tuple[int, float]], str]:
    """Where it could be, with its score there; or why nowhere."""
    found, unscored = [], []
    kinds = [(p, cluster, profile) for p, (cluster, profile) in enumerate(offered) if profile.kind == app.kind]
    roomy = [entry for entry in kinds if entry[2].amount >= app.amount]
    for p, cluster, profile in roomy:
        score = scores.get((app.name, cluster, profile.name), scores.get((app.name, cluster, "")))
        if score is None:
            unscored.append(f"{cluster} with {profile.name}")
        elif score > 0:
            found.append((p, float(score)))
    if found:
        return found, ""
    if not kinds:
        return [], f"no cluster offers {app.kind}"
    if not roomy:
        most = max(profile.amount for _, _, profile in kinds)
        return [], f"needs {app.amount:g} {app.kind}; no profile offers more than {most:g}"
    if unscored:
        more = f" and {len(unscored) - 3} more" if len(unscored) > 3 else ""
        return [], f"has no score on {', '.join(unscored[:3])}{more}"
    return [], "no score of it is above 0"


def _solve(
    apps: Sequence[Application],
    offered: Sequence[tuple[str, Profile]],
    pairs: Sequence[tuple[int, int, float]],
    time_limit: float,
) -> tuple[list[bool], float, float]:
    """Which pairs are taken; their sum; by what part it may be short.

    First without wholeness, which is quick and says what each pair would cost to be taken. A first answer from the
    cheapest pairs then rules out all that cost more than it is short of that; among the rest is the best answer.
    """
    program = _Program(apps, offered, pairs)
    bound, costs = program.relaxed()
    until = time.monotonic() + time_limit
    cheapest = np.sort(costs)[min(len(pairs), _FIRST) - 1]
    taken, total, best = program.whole(costs <= cheapest, until)
    if bound - total > _GAP * bound and bool((costs > cheapest).any()):
        again, better, best = program.whole(costs <= bound - total, until)
        if better > total:
            taken, total = again, better
        bound = min(bound, max(best, total))
    elif not bool((costs > cheapest).any()):
        bound = min(bound, max(best, total))
    gap = (bound - total) / bound
    return taken.tolist(), total, 0.0 if gap < _WHOLE else gap


class _Program:
    """Variables: one a profile (it is set), then one a pair (it is placed)."""

    def __init__(
        self,
        apps: Sequence[Application],
        offered: Sequence[tuple[str, Profile]],
        pairs: Sequence[tuple[int, int, float]],
    ) -> None:
        self._count, self._scores = len(offered), np.array([score for _, _, score in pairs])
        cluster_of = {name: i for i, name in enumerate(sorted({cluster for cluster, _ in offered}))}
        first_app = len(cluster_of)
        first_full = first_app + len(apps)
        first_pair = first_full + len(offered)
        entries: list[tuple[int, int, float]] = []
        for p, (cluster, profile) in enumerate(offered):
            entries += [(cluster_of[cluster], p, 1.0), (first_full + p, p, -profile.amount)]
        for number, (a, p, _) in enumerate(pairs):
            column = self._count + number
            entries += [(first_app + a, column, 1.0), (first_full + p, column, apps[a].amount)]
            # Follows for whole numbers, and brings the answer without them much nearer.
            entries += [(first_pair + number, column, 1.0), (first_pair + number, p, -1.0)]
        rows, columns, values = zip(*entries, strict=True)
        shape = (first_pair + len(pairs), self._count + len(pairs))
        self._matrix = csr_array((values, (rows, columns)), shape=shape)
        self._upper = np.concatenate([np.ones(first_full), np.zeros(len(offered) + len(pairs))])

    def relaxed(self) -> tuple[float, NDArray[np.float64]]:
        """More than any whole answer gives, and by how much less each pair's taking leaves of it."""
        answer: Any = linprog(
            np.concatenate([np.zeros(self._count), -self._scores]),
            A_ub=self._matrix,
            b_ub=self._upper,
            bounds=(0, 1),
            method="highs-ds",
        )
        costs = answer.lower.marginals + answer.upper.marginals
        return -float(answer.fun), np.maximum(costs[self._count :], 0.0)

    def whole(self, kept: NDArray[np.bool_], until: float) -> tuple[NDArray[np.bool_], float, float]:
        """A good choice of the `kept` pairs; its sum; more than that none of them gives."""
        columns = np.concatenate([np.ones(self._count, np.bool_), kept]).nonzero()[0]
        answer: Any = milp(
            np.concatenate([np.zeros(self._count), -self._scores[kept]]),
            constraints=LinearConstraint(self._matrix[:, columns], -np.inf, self._upper),
            integrality=np.ones(len(columns)),
            bounds=Bounds(0, 1),
            options={"time_limit": max(0.05, until - time.monotonic()), "mip_rel_gap": _GAP},
        )
        taken = np.zeros(len(self._scores), np.bool_)
        # Nothing was found in time: to place nobody is always allowed.
        if answer.x is not None:
            taken[kept] = answer.x[self._count :] > 0.5
        most = math.inf if answer.mip_dual_bound is None else -float(answer.mip_dual_bound)
        return taken, float(self._scores[taken].sum()), most
