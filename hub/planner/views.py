"""What is used of quota and room now, once those who were told to go are gone, and when what is promised falls due.

Three questions that one job must pass: does it fit with everything that is there; would it take what somebody else's
victims are making free; would it still be there when a job that others may not delay is to start. Each is a View;
what is admitted must fit in all that concern it, and is charged to them. Who is promised what is decided elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np

from hub.planner.places import Counts, Option, Places, kept_name
from hub.planner.plan import HeldSlice
from hub.planner.split import WAVES
from hub.queueing.fleet.claim import Option as Amounts
from hub.queueing.ledger import QuotaLedger

NOW = -math.inf


class View:
    """`due`: from when on (epoch seconds) the view must hold; what ends before need not fit in it."""

    __slots__ = ("due", "ledger", "places", "released")

    def __init__(self, ledger: QuotaLedger, places: Places, due: float = NOW) -> None:
        self.ledger, self.places, self.due = ledger, places, due
        # Slots that are left of slices that are to go, by work.
        self.released: dict[str, int] = {}

    def apart(self, due: float = NOW) -> View:
        other = View(self.ledger.apart(), self.places.apart(), due)
        other.released = dict(self.released)
        return other

    def release(self, held: HeldSlice, kept: int = 0) -> None:
        """As if the slice were gone but for `kept` of its slots. What is gone stays so."""
        before = self.released.get(held.work)
        if before is not None and before <= kept:
            return
        self.released[held.work] = kept
        self.ledger.remove(held.queue, held.amounts if before is None else part(held, before))
        self.places.release((held.work,) if before is None else (kept_name(held.work),))
        if kept:
            self.ledger.add(held.queue, part(held, kept))
            if held.place and held.cluster in self.places.fleet:
                self.places.keep(held.work, held.cluster, held.shape, kept)

    def charge(self, queue: str, requests: Amounts, slots: int, cluster: int, option: Option) -> None:
        self.ledger.add(queue, ((resource, each * slots) for resource, each in requests))
        if cluster >= 0:
            self.places.charge(cluster, option, slots)


class Views:
    """`now`; `later`, made when somebody is on the way out; `shadows`, one for each promise."""

    def __init__(self, now: View, leaving: Iterable[HeldSlice]) -> None:
        self.now = now
        self.shadows: list[View] = []
        self._later: View | None = None
        for held in leaving:
            self.later().release(held, held.stays)

    @property
    def waits(self) -> bool:
        """Whether anybody is on the way out."""
        return self._later is not None

    def later(self) -> View:
        if self._later is None:
            self._later = self.now.apart()
        return self._later

    def for_run(self, now: float, lasts: float | None) -> tuple[list[View], int]:
        """What somebody who starts now must fit in, and how many tasks a slot he may run one after the other.

        `lasts`: seconds of one task; None: unknown. Who is gone in time need not fit in what is due later.
        """
        views, waves = [self.now], WAVES
        if self._later is not None:
            views.append(self._later)
        for view in self.shadows:
            if lasts is not None and now + lasts <= view.due:
                waves = min(waves, int((view.due - now) // lasts) if lasts > 0 else WAVES)
            else:
                views.append(view)
        return views, waves

    def then(self) -> list[View]:
        """What must be kept by who waits until those on their way out are gone."""
        return ([self._later] if self._later is not None else []) + self.shadows

    def release(self, held: HeldSlice, kept: int = 0) -> None:
        """A new victim: it is there now, and will not be."""
        self.later().release(held, kept)
        for view in self.shadows:
            view.release(held, kept)

    def promise(self, due: float) -> View:
        """A new view, as what will be once all that is on the way out is gone."""
        view = (self._later or self.now).apart(due)
        self.shadows.append(view)
        return view


def affordable(views: Sequence[View], queue: str, requests: Amounts, wanted: int) -> int:
    for view in views:
        if wanted <= 0:
            break
        wanted = view.ledger.affordable(queue, requests, wanted)
    return wanted


def room(views: Sequence[View], option: Option) -> Counts:
    least = views[0].places.room(option)
    for view in views[1:]:
        least = np.minimum(least, view.places.room(option))
    return least


def part(held: HeldSlice, slots: int) -> Amounts:
    """What so many of its slots take."""
    return tuple((key, value * slots // held.slots) for key, value in held.amounts) if held.slots else ()
