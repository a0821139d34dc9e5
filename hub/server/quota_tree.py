"""Who owns, uses, borrows and lends what: the cohorts and ClusterQueues as a tree, by the code that decides.

Amounts are summed over flavors, a resource at a time. Nobody decides whose quota a borrower has got, so what is *lent*
is a convention: what queues of a cohort use beyond their own is taken to come from what the others leave idle, in
proportion. Lines and bars are made here; how they fit a terminal is the printer's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from hub.api import names
from hub.queueing.amount import UNLIMITED, minus, plus, readable
from hub.queueing.derived import Drift
from hub.queueing.ledger import QuotaLedger
from hub.queueing.quotas import Quotas
from hub.queueing.shares import share
from hub.queueing.tree import QuotaTree
from hub.server.derived_quota import derived_document
from hub.server.snapshot import State
from hub.server.view import Cell, Column, Table

BAR: Final = 20
_FIRST: Final = (names.GPU, names.GPU_MILLI, "cpu", "memory")
_SHORT: Final = {names.GPU: "GPU", names.GPU_MILLI: "GPU", "cpu": "CPU", "memory": "MEMORY"}


@dataclass(frozen=True, slots=True)
class Holding:
    """Of one resource, over all flavors, in the planner's units. `own`: nominal quota (a cohort's with all below).

    `limit`: the most that it could ever use, borrowing included.
    """

    own: int
    used: int
    borrowed: int
    lent: int
    limit: int

    @property
    def idle(self) -> int:
        return max(0, minus(minus(self.own, self.used), self.lent)) if self.own < UNLIMITED else UNLIMITED


@dataclass(frozen=True, slots=True)
class Branch:
    """A cohort or a ClusterQueue with what is below it. `share`: the weighted dominant share, as status reports it;
    None at a root. `derived`: how quota that it takes from clusters came about."""

    kind: str
    name: str
    holdings: dict[str, Holding]
    share: int | None
    weight: str
    pending: int
    running: int
    status: str
    below: tuple[Branch, ...] = ()
    derived: tuple[Drift, ...] = ()

    def document(self) -> dict[str, Any]:
        """For programs: plain JSON, amounts as quantities."""
        return {
            "kind": self.kind,
            "name": self.name,
            "pending": self.pending,
            "running": self.running,
            "weightedShare": self.share,
            "weight": self.weight,
            "status": self.status,
            "resources": {
                resource: {
                    "guaranteed": readable(resource, held.own),
                    "used": readable(resource, held.used),
                    "borrowed": readable(resource, held.borrowed),
                    "lent": readable(resource, held.lent),
                    "atMost": readable(resource, held.limit),
                }
                for resource, held in sorted(self.holdings.items())
            },
            **({"derived": [derived_document(one) for one in self.derived]} if self.derived else {}),
            "below": [branch.document() for branch in self.below],
        }


def quota_tree(state: State) -> list[Branch]:
    """Every tree of quota, by its root's name; queues that belong to none are last."""
    state.world.refresh()
    quotas = state.world.quotas
    ledger = QuotaLedger(quotas, state.usage())
    pending, running = _counts(state)
    trees = {id(tree): tree for tree in quotas.trees.values()}
    roots = [
        _branch(_Reading(quotas, ledger, tree, pending, running, state.world.drift), 0)
        for tree in sorted(trees.values(), key=lambda tree: (tree.root.is_queue, tree.root.name))
    ]
    apart = sorted((set(quotas.queues) | set(quotas.inactive)) - set(quotas.trees))
    return roots + [
        Branch("ClusterQueue", name, {}, None, "", pending[name], running[name], _status(quotas, name))
        for name in apart
    ]


def find(branches: Iterable[Branch], name: str) -> Branch | None:
    """A cohort or ClusterQueue of that name, queues first."""
    found = [branch for branch in _walk(branches) if branch.name == name]
    return min(found, key=lambda branch: branch.kind != "ClusterQueue", default=None)


def branch_names(branches: Iterable[Branch]) -> list[str]:
    return sorted({branch.name for branch in _walk(branches)})


def drift_of(branches: Iterable[Branch]) -> list[Drift]:
    """What of these and all below them follows from clusters."""
    return [one for branch in _walk(branches) for one in branch.derived]


def tree_table(branches: Sequence[Branch]) -> Table:
    """One line a node and resource that matters; the bar is drawn against the larger of what is owned and used."""
    lines = list(_lines(branches))
    rows: list[tuple[Cell, ...]] = []
    for prefix, branch in lines:
        label = f"{prefix}{branch.name}"
        shown = [resource for resource in _ordered(branch.holdings) if _matters(branch.holdings, resource)]
        for number, resource in enumerate(shown or [""]):
            held = branch.holdings.get(resource, Holding(0, 0, 0, 0, 0))
            first = number == 0
            rows.append(
                (
                    label if first else _continued(prefix, branch),
                    _SHORT.get(resource, resource),
                    bar(held),
                    readable(resource, held.used) if resource else None,
                    readable(resource, held.own) if resource else None,
                    readable(resource, held.borrowed) if held.borrowed else None,
                    readable(resource, held.lent) if held.lent else None,
                    _share(branch) if first else None,
                    branch.pending if first else None,
                    branch.running if first else None,
                    (branch.status or None) if first else None,
                )
            )
    columns = (
        Column("COHORT / QUEUE", elastic=True),
        Column("", spare=1),
        Column("█ own ▓ borrowed ░ lent", spare=3),
        Column("USED", right=True),
        Column("OWN", right=True),
        Column("BORROWED", right=True),
        Column("LENT", right=True),
        Column("SHARE", right=True, spare=2),
        Column("PENDING", right=True),
        Column("RUNNING", right=True, spare=4),
        Column("STATUS", elastic=True, spare=5),
    )
    return Table(columns, tuple(rows))


def bar(held: Holding, width: int = BAR) -> str:
    """`width` cells for what is owned (more where more is used): used of the own, borrowed, lent, idle."""
    if held.own >= UNLIMITED:
        return "unlimited"
    whole = max(held.own, held.used)
    if not whole:
        return ""
    own = min(held.used - held.borrowed, held.own)
    parts = (("█", own), ("▓", held.borrowed), ("░", held.lent))
    text = ""
    before = 0
    for sign, amount in parts:
        before += amount
        text += sign * (min(width, -(-before * width // whole)) - len(text))
    return text + "·" * (width - len(text))


@dataclass(frozen=True, slots=True)
class _Reading:
    quotas: Quotas
    ledger: QuotaLedger
    tree: QuotaTree
    pending: Counter[str]
    running: Counter[str]
    drift: tuple[Drift, ...]


def _branch(reading: _Reading, position: int) -> Branch:
    tree = reading.tree
    node = tree.nodes[position]
    below = tuple(
        _branch(reading, child)
        for child in sorted(tree.children[position], key=lambda at: (tree.nodes[at].is_queue, tree.nodes[at].name))
    )
    holdings = _holdings(reading, position)
    if below:
        below = _with_lent(below)
    return Branch(
        kind="ClusterQueue" if node.is_queue else "Cohort",
        name=node.name,
        holdings=holdings,
        share=None if node.parent < 0 else share(reading.ledger, tree, position).weighted,
        weight=str(node.weight),
        pending=reading.pending[node.name] if node.is_queue else sum(branch.pending for branch in below),
        running=reading.running[node.name] if node.is_queue else sum(branch.running for branch in below),
        status=_status(reading.quotas, node.name) if node.is_queue else "",
        below=below,
        derived=tuple(
            one
            for one in reading.drift
            if (one.kind, one.name) == ("ClusterQueue" if node.is_queue else "Cohort", node.name)
        ),
    )


def _holdings(reading: _Reading, position: int) -> dict[str, Holding]:
    tree = reading.tree
    used_here, owned = _used_below(reading, position), _owned(tree, position)
    own: dict[str, int] = {}
    limit: dict[str, int] = {}
    borrowed: Counter[str] = Counter()
    for key in sorted(set(owned) | set(used_here)):
        resource = key[1]
        mine = owned.get(key, 0)
        own[resource] = plus(own.get(resource, 0), mine)
        limit[resource] = plus(limit.get(resource, 0), tree.potential(position, key))
        borrowed[resource] += max(0, minus(used_here.get(key, 0), mine))
    used: Counter[str] = Counter()
    for (_, resource), amount in used_here.items():
        used[resource] += amount
    return {name: Holding(own[name], used[name], borrowed[name], 0, limit[name]) for name in own}


def _owned(tree: QuotaTree, position: int) -> dict[tuple[str, str], int]:
    """Nominal quota of a node with all below it."""
    total = dict(tree.nodes[position].nominal)
    for child in tree.children[position]:
        for key, amount in _owned(tree, child).items():
            total[key] = plus(total.get(key, 0), amount)
    return total


def _used_below(reading: _Reading, position: int) -> dict[tuple[str, str], int]:
    """What all queues at or below a node use; unlike a cohort's own usage, which leaves out what is never lent."""
    tree = reading.tree
    if tree.nodes[position].is_queue:
        return dict(reading.ledger.usage_at(tree, position))
    total: dict[tuple[str, str], int] = {}
    for child in tree.children[position]:
        for key, amount in _used_below(reading, child).items():
            total[key] = total.get(key, 0) + amount
    return total


def _with_lent(below: tuple[Branch, ...]) -> tuple[Branch, ...]:
    resources = sorted({resource for branch in below for resource in branch.holdings})
    lent: list[dict[str, int]] = [{} for _ in below]
    for resource in resources:
        borrowed = sum(branch.holdings[resource].borrowed for branch in below if resource in branch.holdings)
        idle = [branch.holdings[resource].idle if resource in branch.holdings else 0 for branch in below]
        for number, part in enumerate(_proportion(borrowed, idle)):
            lent[number][resource] = part
    return tuple(_lending(branch, mine) for branch, mine in zip(below, lent, strict=True))


def _lending(branch: Branch, lent: dict[str, int]) -> Branch:
    holdings = {name: replace(held, lent=lent.get(name, 0)) for name, held in branch.holdings.items()}
    return replace(branch, holdings=holdings)


def _proportion(amount: int, idle: list[int]) -> list[int]:
    """`amount`, at most all that is idle, dealt in proportion to `idle` in whole units; largest remainders first."""
    total = sum(idle)
    given = min(amount, total)
    if not given:
        return [0] * len(idle)
    exact = [divmod(given * each, total) for each in idle]
    parts = [whole for whole, _ in exact]
    for number in sorted(range(len(idle)), key=lambda n: (-exact[n][1], n))[: given - sum(parts)]:
        parts[number] += 1
    return parts


def _counts(state: State) -> tuple[Counter[str], Counter[str]]:
    """Waiting and running jobs and Workloads, by ClusterQueue."""
    pending: Counter[str] = Counter()
    running: Counter[str] = Counter()
    local = state.world.quotas.local_queues
    for job in state.jobs.values():
        found = job.entry.state
        if job.seen.spec is None or found is None or found.ended:
            continue
        queue = local.get((job.seen.ref.namespace, job.seen.spec.queue))
        if queue is None:
            continue
        running[queue.cluster_queue] += bool(found.live)
        pending[queue.cluster_queue] += bool(found.waiting) and found.phase != "Pending"
    for waiting in state.workloads.values():
        if waiting.demand is not None:
            queue = local.get((waiting.demand.namespace, waiting.demand.queue))
            if queue is not None:
                pending[queue.cluster_queue] += 1
    return pending, running


def _status(quotas: Quotas, name: str) -> str:
    why = quotas.inactive.get(name)
    return "" if why is None else f"takes no jobs: {why.detail}"


def _walk(branches: Iterable[Branch]) -> Iterable[Branch]:
    for branch in branches:
        yield branch
        yield from _walk(branch.below)


def _lines(branches: Sequence[Branch], indent: str = "", *, top: bool = True) -> Iterable[tuple[str, Branch]]:
    for number, branch in enumerate(branches):
        last = number == len(branches) - 1
        yield ("" if top else indent + ("└─ " if last else "├─ "), branch)
        yield from _lines(branch.below, "" if top else indent + ("   " if last else "│  "), top=False)


def _continued(prefix: str, branch: Branch) -> str:
    """What stands before the further lines of a node: the tree goes on past them."""
    kept = prefix.replace("├─ ", "│  ").replace("└─ ", "   ")
    return (kept + ("│" if branch.below else "")).rstrip() or " "


def _share(branch: Branch) -> Cell:
    if branch.share is None:
        return None
    return "∞" if branch.share >= UNLIMITED else branch.share


def _ordered(holdings: Iterable[str]) -> list[str]:
    return sorted(holdings, key=lambda name: (_FIRST.index(name) if name in _FIRST else len(_FIRST), name))


def _matters(holdings: Mapping[str, Holding], resource: str) -> bool:
    """What is in use, and what people think of first; parts of GPUs only where whole ones have no quota."""
    held = holdings[resource]
    if held.used:
        return True
    whole = holdings.get(names.GPU)
    if resource == names.GPU_MILLI and whole is not None and whole.own:
        return False
    return bool(held.own) and resource in _FIRST
