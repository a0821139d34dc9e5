"""What agents were answered by the scorers that they ask, read out of their ClusterScorings as if the hub had asked.

An agent may have been cut off: its answers say how old they were when it wrote them, by a clock of its own that may be
wrong. How long ago it wrote is measured by the hub's: against the quickest message that ever came of that agent, so
that an hour of difference between the two clocks is no hour of age, and the delay of a late message is.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from hub.api.errors import InvalidObjectError
from hub.api.reasons import Reason
from hub.api.timestamps import parse_time
from hub.asking.answer import ScorerAnswer, read_answer
from hub.asking.trouble import ScorerTrouble
from hub.controllers.scorer_roster import ScorerRoster
from hub.controllers.scorer_state import Key, ScorerState
from hub.scoring.dynamic.plan import ScorerPlan
from hub.scoring.dynamic.policy import AGENT

Json = dict[str, Any]
Answered = Callable[[Key, str, ScorerPlan, ScorerAnswer | ScorerTrouble, float], None]
"""Whose scorer, which cluster, what was asked, what came of it, and when that was (the hub's clock, epoch seconds)."""


class ScorerReports:
    """`seen` is told of every ClusterScoring; `again` when what is asked is another. `now`: epoch seconds."""

    def __init__(
        self, states: Mapping[Key, ScorerState], roster: ScorerRoster, answered: Answered, now: Callable[[], float]
    ) -> None:
        self._states, self._roster, self._answered, self._now = states, roster, answered, now
        # Of each cluster its last status, and when it was written by the hub's clock.
        self._last: dict[str, tuple[Json, float]] = {}
        # When it was written by the agent's clock, and by how much that is behind the hub's at most.
        self._sent: dict[str, tuple[float, float | None]] = {}
        # What of each scorer and cluster was heard already: question, answer, reason of trouble.
        self._heard: dict[tuple[Key, str], tuple[str, str, str]] = {}

    def seen(self, obj: Json, *, gone: bool) -> None:
        cluster = str(obj["metadata"]["namespace"])
        if obj["metadata"]["name"] != cluster:
            return
        if gone:
            self._last.pop(cluster, None)
            self._sent.pop(cluster, None)
            return
        status = obj.get("status") or {}
        try:
            sent = parse_time(str(status.get("sentTime"))).timestamp()
        except InvalidObjectError:
            return
        before = self._sent.get(cluster)
        if before is not None and before[0] == sent:
            return
        now = self._now()
        self._last[cluster] = (status, now - self._late(cluster, sent, now))
        self._read(cluster)

    def again(self, scorers: Collection[Key]) -> None:
        """What these are asked, or about whom, is another: what was told of them before may count now."""
        names = {f"{namespace}/{name}" for namespace, name in scorers}
        for cluster in sorted(self._last) if names else ():
            self._read(cluster, names)

    def forget(self, key: Key) -> None:
        for known in [known for known in self._heard if known[0] == key]:
            del self._heard[known]

    def _late(self, cluster: str, sent: float, now: float) -> float:
        """How long the message took."""
        apart = now - sent
        before = self._sent.get(cluster)
        if before is None:
            # Nothing to compare with: as if the clocks were equal, and no later than at this moment.
            self._sent[cluster] = (sent, None)
            return max(0.0, apart)
        least = before[1]
        if least is None or sent < before[0] or apart < least:
            least = apart
        self._sent[cluster] = (sent, least)
        return apart - least

    def _read(self, cluster: str, only: Collection[str] | None = None) -> None:
        status, at = self._last[cluster]
        expected: dict[str, str] | None = None
        for entry in status.get("scorers") or ():
            if only is not None and entry.get("scorer") not in only:
                continue
            namespace, _, name = str(entry.get("scorer")).partition("/")
            key = (namespace, name)
            state = self._states.get(key)
            if state is None or state.plan is None or state.scored_by != AGENT or cluster not in state.concerned:
                continue
            if expected is None:
                expected = {order["scorer"]: order["digest"] for order in self._roster.ordered(cluster)}
            if entry.get("digest") == expected.get(f"{namespace}/{name}"):
                self._take(key, state.plan, cluster, entry, at, missing=state.values.get(cluster) is None)

    def _take(self, key: Key, plan: ScorerPlan, cluster: str, entry: Json, at: float, *, missing: bool) -> None:
        digest, answer, reason = (str(entry.get(name) or "") for name in ("digest", "answer", "reason"))
        heard = self._heard.get((key, cluster))
        self._heard[key, cluster] = (digest, answer, reason)
        if heard is None or heard[0] != digest:
            heard = (digest, "", "")
        if answer and (heard[1] != answer or (missing and not reason)):
            age = float(entry.get("ageSeconds") or 0.0)
            self._answered(key, cluster, plan, _answer(entry), at - age)
        if reason and heard[2] != reason:
            trouble = ScorerTrouble(_reason(entry.get("reason")), str(entry.get("message") or ""))
            self._answered(key, cluster, plan, trouble, at)


def _answer(entry: Json) -> ScorerAnswer | ScorerTrouble:
    try:
        found = read_answer({"results": entry.get("results")})
    except ScorerTrouble as error:
        return error
    dropped = int(entry.get("dropped") or 0)
    complaints = tuple(str(complaint) for complaint in entry.get("complaints") or ())
    return ScorerAnswer(found.results, (*complaints, *found.complaints), dropped + found.dropped)


def _reason(code: Any) -> Reason:
    """Of an agent that is newer than the hub: that the scorer failed is known all the same."""
    return next((reason for reason in Reason if reason.code == code and reason.scope == "Score"), Reason.SCORER_FAILED)
