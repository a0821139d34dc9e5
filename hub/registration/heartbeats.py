"""Which clusters are silent, by the hub's monotonic clock alone.

A renewal counts when the hub sees that the Lease has changed; what time the agent wrote into it does not matter, so no
agent's clock can keep a dead cluster alive or kill a living one. Time in which the hub itself heard nothing is nobody's
silence: `restart` gives everyone a full new period. No clock is read here.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class Heartbeats:
    """Times are seconds of one monotonic clock; `grace` is how many lease durations a cluster may be silent for."""

    grace: float = 1.0
    _marks: dict[str, object] = field(default_factory=dict)
    _heard: dict[str, float] = field(default_factory=dict)

    def renewed(self, cluster: str, mark: object, at: float) -> bool:
        """The Lease of `cluster` looks like `mark` now. True when that is news: it was renewed since last seen."""
        if cluster in self._marks and self._marks[cluster] == mark:
            return False
        first = cluster not in self._marks
        self._marks[cluster] = mark
        if first:
            # What was written before we looked says nothing about when; `expect` may have begun earlier.
            self._heard.setdefault(cluster, at)
            return False
        self._heard[cluster] = at
        return True

    def expect(self, cluster: str, at: float) -> None:
        """From now on the cluster is listened for, if it was not already."""
        self._heard.setdefault(cluster, at)

    def forget(self, cluster: str) -> None:
        self._marks.pop(cluster, None)
        self._heard.pop(cluster, None)

    def restart(self, at: float) -> None:
        """Everyone has a full period from `at` on."""
        for cluster in self._heard:
            self._heard[cluster] = at

    def silence(self, cluster: str, at: float) -> float:
        """Seconds since it was last heard; 0 for a cluster nobody listens for."""
        return at - self._heard.get(cluster, at)

    def deadline(self, cluster: str, lease_seconds: float) -> float:
        """When it is lost unless it is heard before; infinity for a cluster nobody listens for."""
        heard = self._heard.get(cluster)
        return float("inf") if heard is None else heard + lease_seconds * self.grace
