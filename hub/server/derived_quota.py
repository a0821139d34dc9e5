"""Quota that follows from clusters, as people read it: what counts, what is reported, what is written, and why.

How it comes about is hub/queueing/derived.py; how much of it stays in force for what runs is the hub's.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from hub.queueing.amount import readable
from hub.queueing.derived import Drift
from hub.server.view import Cell, Column, Section, Table


def derived_document(one: Drift) -> dict[str, Any]:
    """For programs; amounts as quantities."""
    return {
        "flavor": one.flavor,
        "resource": one.resource,
        "inForce": readable(one.resource, one.in_force),
        "reported": readable(one.resource, one.reported),
        "factor": float(one.factor),
        "clusterSet": one.cluster_set,
        "written": readable(one.resource, one.declared),
        "keptForRunning": one.kept,
    }


def derived_section(drift: Iterable[Drift]) -> Section | None:
    """None where no quota follows from clusters."""
    rows: list[tuple[Cell, ...]] = [
        (
            one.name,
            one.flavor,
            one.resource,
            readable(one.resource, one.in_force),
            readable(one.resource, one.reported),
            one.factor_text,
            one.cluster_set,
            readable(one.resource, one.declared),
            "kept for what runs: it shrinks as jobs end" if one.kept else "follows the clusters",
        )
        for one in drift
    ]
    if not rows:
        return None
    columns = (
        Column("COHORT / QUEUE", elastic=True),
        Column("FLAVOR", elastic=True),
        Column("RESOURCE", elastic=True),
        Column("IN FORCE", right=True),
        Column("REPORTED", right=True),
        Column("FACTOR", right=True, spare=2),
        Column("CLUSTERSET", elastic=True, spare=3),
        Column("WRITTEN", right=True, spare=4),
        Column("WHY", prose=True),
    )
    return Section("Quota from clusters", table=Table(columns, tuple(rows)))
