"""What a scorer's answer says. Pure: a decoded document in, results and complaints out.

One result that cannot be used costs itself only; null, NaN and infinity are no scores, and never 0.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from hub.api.reasons import Reason
from hub.asking.trouble import ScorerTrouble

LABELS: Final = ("node", "device", "namespace", "app", "pod", "container", "meta")
"""What of a result's labels counts, in the order of the framework's metric."""
LONGEST_LABEL: Final = 256
MOST_RESULTS: Final = 20_000


@dataclass(frozen=True, slots=True)
class Result:
    """`labels` in the order of `LABELS`, empty where there is none. `weight`: what it counts in a weighted mean."""

    labels: tuple[str, ...]
    score: float
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class ScorerAnswer:
    """`results`: one for each set of labels, in the scorer's order; of several for one set the last.

    `complaints` in words, each naming what it is about; `dropped`: how many results could not be used.
    """

    results: tuple[Result, ...]
    complaints: tuple[str, ...] = ()
    dropped: int = 0


def read_answer(document: object) -> ScorerAnswer:
    """Keys that are not known are ignored. Raises `ScorerTrouble` when nothing of it can be used."""
    listed = document.get("results") if isinstance(document, Mapping) else None
    if not isinstance(listed, list):
        found = "no results" if isinstance(document, Mapping) else type(document).__name__
        raise ScorerTrouble(Reason.SCORER_ANSWER_UNUSABLE, f"the answer has {found}: expected a list of results")
    results: dict[tuple[str, ...], Result] = {}
    complaints: list[str] = []
    dropped = 0
    for position, entry in enumerate(listed[:MOST_RESULTS]):
        result = _read_result(entry)
        if isinstance(result, Result):
            results.pop(result.labels, None)
            results[result.labels] = result
            continue
        dropped += 1
        if len(complaints) < 3:
            complaints.append(f"results[{position}] {result}")
    if len(listed) > MOST_RESULTS:
        dropped += len(listed) - MOST_RESULTS
        complaints.append(f"{len(listed):,} results: only the first {MOST_RESULTS:,} are read")
    if dropped and not results:
        raise ScorerTrouble(Reason.SCORE_NOT_A_NUMBER, "; ".join(complaints))
    if not results:
        raise ScorerTrouble(Reason.SCORER_NO_RESULTS, "the answer has no results")
    return ScorerAnswer(tuple(results.values()), tuple(complaints), dropped)


def _read_result(entry: object) -> Result | str:
    if not isinstance(entry, Mapping):
        return f"is no object but {type(entry).__name__}"
    score = entry.get("score")
    number = _finite(score)
    if number is None:
        return f"has score {_shown(score)}, which is no number"
    metric = entry.get("metric")
    labels = metric if isinstance(metric, Mapping) else {}
    weight = _finite(entry.get("weight"))
    return Result(
        tuple(_label(labels.get(name)) for name in LABELS),
        number,
        weight if weight is not None and weight >= 0 else 1.0,
    )


def _label(value: object) -> str:
    if isinstance(value, str):
        return value
    return "" if value is None or isinstance(value, Mapping | list) else str(value)


def _finite(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _shown(value: object) -> str:
    return "null" if value is None else repr(value)[:40]
