"""Who makes way first: elastic jobs that have more than they are entitled to, down to their minimum and no further.

Nobody is evicted for that, so no policy is asked: that it may be made smaller is what an elastic job says of itself.
Who is entitled and finds neither quota nor room is helped by as few of such slots as do; only where they are not enough
are others sent away (hub/planner/victims.py), and then beside them. The views are left as they were.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from hub.planner.claims import Claims, Holder
from hub.planner.places import Mask, Option, Wish
from hub.planner.plan import HeldSlice, Snapshot
from hub.planner.victims import Victim, Victims
from hub.planner.views import View, affordable, room
from hub.queueing.tree import QuotaTree

# So many clusters where it would do are compared.
COMPARED: Final = 8


@dataclass(frozen=True, slots=True)
class Need:
    """What somebody who is entitled lacks: `together` slots of `queue` on one of the clusters `among` (None: no place
    is asked for)."""

    queue: str
    together: int
    among: Mask | None


@dataclass(frozen=True, slots=True)
class _Candidate:
    held: HeldSlice
    holder: Holder

    @property
    def rank(self) -> tuple[int, float, str, int, str]:
        """Lowest priority, newest job; then its name, its newest slice."""
        held = self.held
        return held.priority, -held.created, held.key, -held.epoch, held.work


@dataclass(slots=True)
class _Chosen:
    """`gives`: slots, by work, in the order in which they were thought of."""

    candidates: dict[str, _Candidate]
    gives: dict[str, int]

    def seen_in(self, view: View) -> View:
        after = view.apart()
        for work, given in self.gives.items():
            held = self.candidates[work].held
            after.release(held, held.stays - given)
        return after

    def victims(self) -> list[Victim]:
        return [
            Victim(self.candidates[work].held, None, self.candidates[work].held.stays - given, shrinks=True)
            for work, given in self.gives.items()
        ]


class Shrinking:
    """Of one cycle."""

    def __init__(self, snapshot: Snapshot, claims: Claims, victims: Victims) -> None:
        self._snapshot, self._claims, self._victims = snapshot, claims, victims
        # Whose size is being changed since before this cycle: one thing after the other.
        self._busy = {held.work for held in snapshot.held if held.kept is not None}

    def find(self, wish: Wish, options: Sequence[Option], view: View, among: Mask | None) -> list[Victim]:
        """Who has to give back, or to go, so that `wish.together` tasks fit in `view`; nobody: it cannot be had so."""
        need = Need(wish.queue.name, wish.together, among)
        candidates = self._candidates()
        if not candidates:
            return self._others(wish, options, view, among)
        found = self.alone(need, options, view)
        if found:
            return found
        chosen = self._all(need, options, view, candidates)
        # Who gives back has no more to lose beside that.
        giving = {chosen.candidates[work].held.key for work in chosen.gives}
        spared = frozenset(held.work for held in self._snapshot.held if held.key in giving)
        others = self._victims.find(wish, options, chosen.seen_in(view), among, spared)
        if not others:
            return self._others(wish, options, view, among)
        gone = view.apart()
        for victim in others:
            gone.release(victim.held, victim.kept)
        self._spare(chosen, gone, lambda after: _starts(need, options, after))
        return chosen.victims() + others

    def alone(self, need: Need, options: Sequence[Option], view: View) -> list[Victim]:
        """The same by nothing but slots that elastic jobs give back."""
        candidates = self._candidates()
        for option in options if candidates else ():
            found = self._best(need, option, view, candidates)
            if found is not None:
                return found.victims()
        return []

    def _others(self, wish: Wish, options: Sequence[Option], view: View, among: Mask | None) -> list[Victim]:
        """Whom policies allow to be sent away; a slice that can be made smaller is not replaced by a smaller one."""
        return [
            replace(victim, why=None, shrinks=True) if victim.kept and victim.held.bounds is not None else victim
            for victim in self._victims.find(wish, options, view, among)
        ]

    def _candidates(self) -> list[_Candidate]:
        found = [
            _Candidate(held, holder)
            for holder in self._claims.elastic
            if _spared(holder) > 0
            for held in holder.staying
            if held.work not in self._busy and held.amounts
        ]
        found.sort(key=lambda candidate: candidate.rank)
        return found

    def _best(self, need: Need, option: Option, view: View, candidates: Sequence[_Candidate]) -> _Chosen | None:
        targets = self._targets(need, option, view, candidates)
        tried: list[tuple[tuple[int, int, int], _Chosen]] = []
        for number, target in enumerate(targets):
            chosen = self._try(need, option, view, candidates, target)
            if chosen is None:
                continue
            dearest = max(chosen.candidates[work].held.priority for work in chosen.gives)
            tried.append(((dearest, sum(chosen.gives.values()), number), chosen))
            if len(tried) >= COMPARED:
                break
        return min(tried, key=lambda entry: entry[0])[1] if tried else None

    def _targets(self, need: Need, option: Option, view: View, candidates: Sequence[_Candidate]) -> list[int]:
        """Clusters where room has to be made; −1: there is room, or none is asked for."""
        if need.among is None:
            return [-1]
        able = need.among & (option.capacity >= need.together)
        if (able & (view.places.room(option) >= need.together)).any():
            return [-1]
        fleet = view.places.fleet
        where = (fleet.position(c.held.cluster) for c in candidates if c.held.cluster in fleet)
        return [position for position in dict.fromkeys(where) if able[position]]

    def _try(
        self, need: Need, option: Option, view: View, candidates: Sequence[_Candidate], target: int
    ) -> _Chosen | None:
        def enough(after: View) -> bool:
            return _pays(need, option, after) and (target < 0 or _roomy(need, option, after, target))

        tree = self._snapshot.quotas.trees[need.queue]
        after = view.apart()
        chosen = _Chosen({}, {})
        if target >= 0:
            name = view.places.names[target]
            here = [candidate for candidate in candidates if candidate.held.cluster == name]
            self._gather(chosen, after, here, lambda: _roomy(need, option, after, target))
        wanted = {key for key, _ in option.choice.requests}
        paying = [c for c in candidates if _frees(c.held, tree, wanted)]
        self._gather(chosen, after, paying, lambda: _pays(need, option, after))
        if not chosen.gives or not enough(after):
            return None
        self._spare(chosen, view, enough)
        return chosen if chosen.gives else None

    def _all(self, need: Need, options: Sequence[Option], view: View, candidates: Sequence[_Candidate]) -> _Chosen:
        """Everything that could be of any help."""
        tree = self._snapshot.quotas.trees[need.queue]
        wanted = {key for option in options for key, _ in option.choice.requests}
        fleet = view.places.fleet
        helpful = [
            candidate
            for candidate in candidates
            if _frees(candidate.held, tree, wanted)
            or (
                need.among is not None
                and candidate.held.cluster in fleet
                and need.among[fleet.position(candidate.held.cluster)]
            )
        ]
        chosen = _Chosen({}, {})
        self._gather(chosen, view.apart(), helpful, lambda: False)
        return chosen

    def _gather(
        self, chosen: _Chosen, after: View, candidates: Sequence[_Candidate], enough: Callable[[], bool]
    ) -> None:
        """All that one after the other can give, until there is enough; `after` is changed with it."""
        for candidate in candidates:
            if enough():
                return
            held = candidate.held
            if held.work in chosen.gives:
                continue
            taken = sum(
                given for work, given in chosen.gives.items() if chosen.candidates[work].holder is candidate.holder
            )
            given = min(_spared(candidate.holder) - taken, held.stays)
            if given > 0:
                chosen.candidates[held.work] = candidate
                chosen.gives[held.work] = given
                after.release(held, held.stays - given)

    @staticmethod
    def _spare(chosen: _Chosen, view: View, enough: Callable[[View], bool]) -> None:
        """Of each, the dearest first, as few slots as do."""
        for work in sorted(chosen.gives, key=lambda work: chosen.candidates[work].rank, reverse=True):
            low, high = 0, chosen.gives[work]
            while low < high:
                middle = (low + high) // 2
                chosen.gives[work] = middle
                if enough(chosen.seen_in(view)):
                    high = middle
                else:
                    low = middle + 1
            chosen.gives[work] = low
            if not low:
                del chosen.gives[work]


def _spared(holder: Holder) -> int:
    """Slots that an elastic job may be asked for: what it is not entitled to, as far as its minimum stays."""
    return min(holder.surplus, holder.slots - holder.claim.count)


def _frees(held: HeldSlice, tree: QuotaTree, wanted: set[tuple[str, str]]) -> bool:
    return held.queue in tree.position and any(key in wanted for key, _ in held.amounts)


def _pays(need: Need, option: Option, view: View) -> bool:
    return affordable([view], need.queue, option.choice.requests, need.together) >= need.together


def _roomy(need: Need, option: Option, view: View, cluster: int) -> bool:
    return int(view.places.room(option)[cluster]) >= need.together


def _starts(need: Need, options: Sequence[Option], view: View) -> bool:
    return any(
        _pays(need, option, view)
        and (need.among is None or bool((need.among & (room([view], option) >= need.together)).any()))
        for option in options
    )
