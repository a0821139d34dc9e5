"""Which filter removed which clusters: the verdicts of an explanation, gathered filter by filter in their order."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from hub.api.reasons import Reason

Json = dict[str, Any]
Pipeline = Sequence[tuple[str, frozenset[str]]]
Line = tuple[str, str, str]
"""Cluster, code of the reason, message."""


def _pipeline(*filters: tuple[str, tuple[Reason, ...]]) -> Pipeline:
    return tuple((name, frozenset(reason.code for reason in reasons)) for name, reasons in filters)


_ACCEPTANCE = ("Acceptance", (Reason.CLUSTER_LEAVING, Reason.CLUSTER_NOT_ACCEPTED))
_SETS = ("ManagedClusterSet", (Reason.CLUSTER_NOT_BOUND,))
_PREDICATE = ("Predicate", (Reason.SELECTOR_MISMATCH,))
_TAINTS = ("TaintToleration", (Reason.CLUSTER_TAINTED,))
_SPREAD = ("Spread", (Reason.SPREAD_UNEVEN,))
REST: Final = "Fit"
"""What has no filter of its own is about room and nodes."""

FOR_PLACEMENTS: Final = _pipeline(
    _ACCEPTANCE, _SETS, _PREDICATE, _TAINTS, ("MissingScore", (Reason.SCORE_UNKNOWN,)), _SPREAD
)
FOR_JOBS: Final = _pipeline(
    _ACCEPTANCE,
    ("Availability", (Reason.CLUSTER_UNREACHABLE,)),
    _SETS,
    _PREDICATE,
    _TAINTS,
    ("ScorerFilter", (Reason.FILTERED_BY_SCORER,)),
    ("RetryElsewhere", (Reason.EXCLUDED_AFTER_FAILURE,)),
    ("ClusterLimit", (Reason.CLUSTER_LIMIT_REACHED,)),
    _SPREAD,
)
_PREFERENCES: Final = frozenset({Reason.CLUSTER_AVOIDED.code})


def filters(pipeline: Pipeline, lines: Iterable[Line]) -> list[Json]:
    """Every filter in its order with the clusters it removed and why; one that removed none is there, too."""
    removed: dict[str, list[Json]] = {name: [] for name, _ in pipeline}
    by = {code: name for name, codes in pipeline for code in codes}
    for cluster, code, message in lines:
        if code and code not in _PREFERENCES:
            removed.setdefault(by.get(code, REST), []).append({"cluster": cluster, "reason": code, "message": message})
    return [{"filter": name, "removed": clusters} for name, clusters in removed.items()]
