"""Who has borrowed what a job waits for, and when that may be back: for people, beside the reason itself.

Nobody decides whose quota a borrower has got, so what is told is what each queue of the tree uses beyond its own, with
how long its jobs say that they take. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from hub.api.reasons import Reason
from hub.api.timestamps import format_duration, format_time, from_timestamp
from hub.planner.plan import Refusal, Snapshot
from hub.queueing.amount import minus, quantity, readable
from hub.queueing.ledger import QuotaLedger
from hub.queueing.objects import FlavorResource

_MOST: Final = 3


@dataclass(frozen=True, slots=True)
class Loan:
    """ClusterQueue `queue` uses `amount` beyond its own of `key`. `until` (epoch seconds): when that much of it has
    ended by what its jobs say; None: they do not say enough."""

    queue: str
    key: FlavorResource
    amount: int
    until: float | None

    def document(self) -> dict[str, Any]:
        found: dict[str, Any] = {
            "clusterQueue": self.queue, "flavor": self.key[0], "resource": self.key[1],
            "amount": str(quantity(self.key[1], self.amount)),
        }  # fmt: skip
        return found | ({} if self.until is None else {"until": format_time(from_timestamp(self.until))})


def loans_of(snapshot: Snapshot, refusal: Refusal | None) -> list[Loan]:
    """Of what the refused job waits for, where it is quota that it waits for."""
    if refusal is None or refusal.reason is not Reason.WAITING_FOR_QUOTA:
        return []
    facts = dict(refusal.facts)
    return loans(snapshot, str(facts["queue"]), (str(facts["flavor"]), str(facts["resource"])))


def loans(snapshot: Snapshot, queue: str, key: FlavorResource) -> list[Loan]:
    """Of all queues in the tree of `queue`, those that borrow most first."""
    tree = snapshot.quotas.trees.get(queue)
    if tree is None:
        return []
    ledger = QuotaLedger(snapshot.quotas, snapshot.usage)
    found = []
    for name, position in tree.position.items():
        more = max(0, minus(ledger.used(name, key), tree.nodes[position].nominal.get(key, 0)))
        if more and name != queue:
            found.append(Loan(name, key, more, _until(snapshot, name, key, more)))
    return sorted(found, key=lambda loan: (-loan.amount, loan.queue))


def said(found: list[Loan], now: float) -> str:
    """``2 lent to vision (likely back in 9m), 1 to speech (its jobs do not say until when)``; empty: nothing is."""
    parts = []
    for number, loan in enumerate(found[:_MOST]):
        amount = readable(loan.key[1], loan.amount)
        if loan.until is None:
            until = "its jobs do not say until when"
        elif loan.until <= now:
            until = "back any moment"
        else:
            until = f"likely back in {format_duration(max(1, round(loan.until - now)))}"
        parts.append(f"{amount} {'lent ' if not number else ''}to {loan.queue} ({until})")
    more = len(found) - _MOST
    return ", ".join(parts) + (f", and to {more} more" if more > 0 else "")


def _until(snapshot: Snapshot, queue: str, key: FlavorResource, wanted: int) -> float | None:
    """When slices of the queue that end first have given so much back."""
    ends = []
    for held in snapshot.held:
        amount = dict(held.amounts).get(key, 0) if held.queue == queue else 0
        if amount and held.leaving:
            ends.append((snapshot.now, amount))
        elif amount and held.expected is not None:
            began = held.started if held.started is not None else held.admitted
            ends.append((max(snapshot.now, began + held.expected), amount))
    for at, amount in sorted(ends):
        wanted -= amount
        if wanted <= 0:
            return at
    return None
