"""Where a job's data is: what would have to be fetched before it runs, and what its leaving another site costs.

A job names its data by annotation; clusters say what they have by a label or a claim, all of it or a part. Nothing is
moved here, and nobody is told to move it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from hub.api import names
from hub.api.errors import InvalidObjectError
from hub.api.quantity import Quantity
from hub.fleet.facts import ClusterFacts
from hub.fleet.fleet import Fleet
from hub.fleet.site import Site
from hub.scoring.interface import ScoreRequest

Floats = NDArray[np.float64]
DataSets = tuple[tuple[str, int], ...]
_GIB: Final = float(1 << 30)
_MOST: Final = 64
_LARGEST: Final = 1 << 62


class DataLocality:
    """GiB of the job's data that the cluster does not have. A job that names none prefers nobody."""

    name = "DataLocality"
    lower_is_better = True

    def score(self, fleet: Fleet, request: ScoreRequest) -> Floats:
        total = np.zeros(len(fleet.names))
        for dataset, size in request.data:
            total += (1.0 - _share(fleet, dataset)) * (size / _GIB)
        return total


class Egress:
    """Money for fetching it: the GiB that are missing, at the lowest ``egressGiB`` among those that have them.

    What no cluster has comes from outside the fleet, at the same price wherever it goes: it counts 0. Where those that
    have it state no price, what it costs the others is unknown.
    """

    name = "Egress"
    lower_is_better = True

    def score(self, fleet: Fleet, request: ScoreRequest) -> Floats:
        total = np.zeros(len(fleet.names))
        if not request.data:
            return total
        prices = fleet.site_column("egress price", _egress, np.float64)
        for dataset, size in request.data:
            share = _share(fleet, dataset)
            holders = share > 0
            if not holders.any():
                continue
            known = prices[holders & ~np.isnan(prices)]
            price = float(known.min()) if known.size else math.nan
            missing = (1.0 - share) * (size / _GIB)
            total += np.where(missing > 0, missing * price, 0.0)
        return total


def read_data(annotations: Mapping[str, Any] | None) -> DataSets:
    """``genomes=40Gi, weights=800Mi`` as sorted (name, bytes); nothing without the annotation.

    Raises `InvalidObjectError` naming the annotation.
    """
    text = (annotations or {}).get(names.DATA)
    if text is None:
        return ()
    where = f"metadata.annotations[{names.DATA}]"
    found: dict[str, int] = {}
    for part in filter(None, (part.strip() for part in str(text).split(","))):
        name, equals, size = (piece.strip() for piece in part.partition("="))
        try:
            amount = Quantity(size).ceil() if equals and name else -1
        except InvalidObjectError as error:
            raise InvalidObjectError(f"{part!r}: {error}", field=where) from error
        if not 0 <= amount <= _LARGEST:
            raise InvalidObjectError(f"{part!r}: write NAME=SIZE, such as genomes=40Gi", field=where)
        found[name] = found.get(name, 0) + amount
    if len(found) > _MOST:
        raise InvalidObjectError(f"names {len(found)} sets of data; at most {_MOST}", field=where)
    return tuple(sorted(found.items()))


def _share(fleet: Fleet, dataset: str) -> Floats:
    """What part of a data set each cluster has, 0–1."""
    found: Floats = fleet.facts_column(("data", dataset), _share_of(dataset), np.float64)
    return found


def _share_of(dataset: str) -> Callable[[ClusterFacts], float]:
    label, claim = f"{names.DATA_LABEL}/{dataset}", f"data.{dataset}"

    def share(facts: ClusterFacts) -> float:
        text = facts.labels.get(label, facts.claims.get(claim, ""))
        if text.lower() == "true":
            return 1.0
        try:
            value = float(text)
        except ValueError:
            return 0.0
        # What cannot be a part is none: a cluster that says nonsense has to fetch it.
        return value if 0 <= value <= 1 else 0.0

    return share


def _egress(site: Site | None) -> float:
    price = site.prices.egress_gib if site is not None else None
    return math.nan if price is None else price
