"""The versions of a fleet's clusters as vectors, by which columns know what to compute again (hub/fleet/columns.py)."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
from numpy.typing import NDArray

from hub.fleet.cluster import Cluster
from hub.fleet.roster import Roster

Ints = NDArray[np.int64]


class Versions:
    """In the order of positions: of everything that is held or fits, of the facts, of the objects, of the sites.

    A vector that did not change is the same array as before, so that snapshots are compared by identity first.
    """

    __slots__ = ("facts", "fits", "objects", "sites")

    def __init__(self, fits: Ints, facts: Ints, objects: Ints, sites: Ints) -> None:
        self.fits, self.facts, self.objects, self.sites = fits, facts, objects, sites

    @classmethod
    def of(cls, clusters: Collection[Cluster]) -> Versions:
        count = len(clusters)
        return cls(
            np.fromiter((cluster.version for cluster in clusters), np.int64, count),
            np.fromiter((cluster.facts_version for cluster in clusters), np.int64, count),
            np.fromiter((cluster.object_version for cluster in clusters), np.int64, count),
            np.fromiter((cluster.site_version for cluster in clusters), np.int64, count),
        )

    def after(self, changed: Mapping[int, Cluster], roster: Roster) -> Versions:
        """Of `roster`, whose versions these are, with other clusters at the positions in `changed`."""
        fits, facts, objects, sites = self.fits, self.facts, self.objects, self.sites
        for position, new in changed.items():
            old = roster[position]
            if new.version != old.version:
                if fits is self.fits:
                    fits = fits.copy()
                fits[position] = new.version
            if new.object_version != old.object_version:
                if objects is self.objects:
                    objects = objects.copy()
                objects[position] = new.object_version
            if new.facts_version != old.facts_version:
                if facts is self.facts:
                    facts = facts.copy()
                facts[position] = new.facts_version
            if new.site_version != old.site_version:
                if sites is self.sites:
                    sites = sites.copy()
                sites[position] = new.site_version
        return Versions(fits, facts, objects, sites)
