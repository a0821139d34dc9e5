"""Fewer pods than wished, where a workload says that fewer would do: the most of them that can be had."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from hub.queueing.kueue.workload import PodSet

_Found = TypeVar("_Found")


def reducible(pod_sets: Sequence[PodSet]) -> bool:
    return any(pods.minimum is not None and pods.minimum < pods.count for pods in pod_sets)


def reduced(pod_sets: Sequence[PodSet], attempt: Callable[[list[int]], _Found | None]) -> _Found | None:
    """What `attempt` found for the smallest reduction that it takes; all pod sets shrink in proportion.

    A search by halves, so where more pods fit and fewer do not, it may find less than the best, as Kueue may.
    """
    deltas = [pods.count - (pods.count if pods.minimum is None else pods.minimum) for pods in pod_sets]
    total = sum(deltas)
    best: _Found | None = None
    low, high = 0, total + 1
    while low < high:
        middle = (low + high) // 2
        counts = [pods.count - delta * middle // total for pods, delta in zip(pod_sets, deltas, strict=True)]
        found = attempt(counts)
        if found is None:
            low = middle + 1
        else:
            best, high = found, middle
    return best
