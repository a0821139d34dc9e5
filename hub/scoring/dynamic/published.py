"""What of a cluster's results is told to others: named scores, one score of the whole cluster, whole numbers.

An AddOnPlacementScore holds whole numbers from -100 to 100; one that is not makes an API server refuse all of them, so
they are cut, and counted. Halves go to the even neighbour: cutting off decimals would make 0.97 nothing.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from hub.asking.answer import LABELS, LONGEST_LABEL, Result
from hub.scoring.answer import AGGREGATIONS
from hub.scoring.dynamic.policy import WEIGHTED

LOWEST: Final = -100
HIGHEST: Final = 100
MOST_NAMES: Final = 4_000
"""So many scores fit an object with names of 256 characters."""
_PLACEHOLDER = re.compile(r"\$\{(scoreName|cluster|" + "|".join(LABELS) + r")\}")


@dataclass(frozen=True, slots=True)
class Rounded:
    """`clamped`: whether the score was outside of what can be published."""

    value: int
    clamped: bool


def object_name(score: str) -> str:
    """The AddOnPlacementScore in which a score is published, as the framework makes it of the score's name.

    Where what the framework makes is no name that an API server takes (``a..b``), the dots that are in the way go.
    """
    name = re.sub(r"-+", "-", re.sub(r"[^a-z0-9.-]", "-", score.lower()))
    name = re.sub(r"[-.]*\.[-.]*", ".", name).strip("-.")
    return name[:253].rstrip("-.") or "score"


def dimension(form: str, score: str, cluster: str, labels: Sequence[str]) -> str:
    """What a result is published as; placeholders are filled in once, so that a label cannot hold another."""
    values = {"scoreName": score, "cluster": cluster, **dict(zip(LABELS, labels, strict=True))}
    return _PLACEHOLDER.sub(lambda match: values[match[1]], form)


def named(form: str, score: str, cluster: str, results: Iterable[Result], aggregate: str = "") -> dict[str, float]:
    """Scores by the name they are published under, names in order; a result without a name is not published.

    Results that share a name: with `aggregate` what that makes of them, else the last. With `aggregate` the score of
    the whole cluster is there too, under the score's own name.
    """
    groups: dict[str, list[Result]] = {}
    everything = list(results)
    for result in everything:
        name = dimension(form, score, cluster, result.labels)
        if name:
            groups.setdefault(name, []).append(result)
    found = {name: roll_up(group, aggregate) if aggregate else group[-1].score for name, group in groups.items()}
    found = {name: found[name] for name in sorted(found)[:MOST_NAMES]}
    if aggregate and everything:
        found[score] = roll_up(everything, aggregate)
    return {name: value for name, value in sorted(found.items()) if not math.isnan(value)}


def roll_up(results: Sequence[Result], aggregate: str) -> float:
    """One score of several; NaN where there is none. `aggregate` empty is avg."""
    if not results:
        return math.nan
    if aggregate == WEIGHTED:
        whole = math.fsum(result.weight for result in results)
        if not whole > 0:
            return math.nan
        return math.fsum(result.score * (result.weight / whole) for result in results)
    try:
        return float(AGGREGATIONS[aggregate or "avg"]([result.score for result in results]))
    except OverflowError:
        return math.nan


def whole_score(value: float) -> Rounded:
    """`value` (finite) as it can be published: the nearest whole number, halves to the even one, from -100 to 100."""
    rounded = round(value)
    return Rounded(min(max(rounded, LOWEST), HIGHEST), not LOWEST <= rounded <= HIGHEST)


def gauge_labels(cluster: str, score: str, result: Result) -> tuple[str, ...]:
    """Label values of the framework's metric: ds_cluster, those of `LABELS`, ds_score_name."""
    return (cluster, *(value[:LONGEST_LABEL] for value in result.labels), score)


def by_gauge(cluster: str, score: str, results: Iterable[Result]) -> Mapping[tuple[str, ...], float]:
    """The framework's metric of one cluster. Labels that are equal once they are cut: the last counts."""
    return {gauge_labels(cluster, score, result): result.score for result in results}
