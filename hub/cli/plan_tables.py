"""A plan's document as tables for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from hub.cli.explanation_text import print_explanation
from hub.cli.output import Column, print_table

Json = Mapping[str, Any]


def print_plan(document: Json) -> None:
    for cycle in document["cycles"]:
        _heading(f"cycle {cycle['cycle']} of {len(document['cycles'])}" if len(document["cycles"]) > 1 else "decided")
        if cycle["admitted"]:
            print_table(
                [
                    Column("ADMITTED"),
                    Column("CLUSTERQUEUE"),
                    Column("FLAVORS", elastic=True),
                    Column("CLUSTERS", elastic=True),
                ],
                [_admitted(entry) for entry in cycle["admitted"]],
            )
        else:
            click.echo("nothing is admitted")
        if cycle["preempted"]:
            click.echo()
            print_table(
                [Column("PREEMPTED"), Column("CLUSTERQUEUE"), Column("REASON"), Column("FOR", elastic=True)],
                [(e["workload"], e["clusterQueue"], e["reason"], e["preemptor"]) for e in cycle["preempted"]],
            )
        if cycle.get("resized"):
            click.echo()
            print_table(
                [
                    Column("RESIZED"),
                    Column("CLUSTERQUEUE"),
                    Column("CLUSTER"),
                    Column("SLOTS"),
                    Column("FOR", elastic=True),
                ],
                [
                    (e["workload"], e["clusterQueue"], e["cluster"], f"{e['from']} → {e['to']}", e["for"])
                    for e in cycle["resized"]
                ],
            )
        if cycle["pending"]:
            click.echo()
            print_table(
                [Column("WAITS"), Column("CLUSTERQUEUE"), Column("REASON"), Column("MESSAGE", prose=True)],
                [(e["workload"], e["clusterQueue"], e["reason"], e["message"]) for e in cycle["pending"]],
            )
        if cycle["evicted"]:
            click.echo()
            print_table(
                [Column("EVICTED"), Column("CLUSTERQUEUE"), Column("REASON"), Column("MESSAGE", prose=True)],
                [(e["workload"], e["clusterQueue"], e["reason"], e["message"]) for e in cycle["evicted"]],
            )
    if document["queues"]:
        _heading("queues")
        print_table(
            [
                Column("CLUSTERQUEUE"),
                Column("USED", elastic=True),
                Column("SHARE", right=True),
                Column("DOMINANT"),
                Column("PENDING", right=True),
            ],
            [
                (q["clusterQueue"], _usage(q["usage"]), q["weightedShare"], q["dominantResource"], q["pending"])
                for q in document["queues"]
            ],
        )
    if document["jobs"]:
        _heading("jobs")
        print_table(
            [Column("JOB"), Column("TASKS ON", elastic=True), Column("REASON"), Column("MESSAGE", prose=True)],
            [
                (
                    job["job"],
                    ", ".join(f"{part['cluster']} ({part['tasks']})" for part in job["clusters"]),
                    job["reason"],
                    job["message"],
                )
                for job in document["jobs"]
            ],
        )
    for placement in document["placements"]:
        _heading(f"placement {placement['placement']}")
        if placement["decisions"]:
            print_table(
                [Column("CLUSTER"), Column("SCORE", right=True), Column("GROUP")],
                [(d["clusterName"], d["score"], d["group"]) for d in placement["decisions"]],
            )
        for condition in placement["conditions"]:
            click.echo(f"{condition['type']}={condition['status']}  {condition['reason']}: {condition['message']}")
    if document["ignored"]:
        click.echo()
        click.echo(f"ignored: {', '.join(document['ignored'])}")
    if "explain" in document:
        print_explanation(document["explain"])


def _heading(text: str) -> None:
    click.echo()
    click.echo(click.style(text, bold=True))


def _admitted(entry: Json) -> tuple[object, ...]:
    given = entry["admission"]
    flavors = {
        f"{name}={flavor}": None for part in given["podSetAssignments"] for name, flavor in part["flavors"].items()
    }
    clusters = ", ".join(entry.get("clusters") or ()) or entry.get("message", "")
    return entry["workload"], given["clusterQueue"], ", ".join(flavors), clusters


def _usage(usage: Mapping[str, Mapping[str, str]]) -> str:
    parts = []
    for flavor, amounts in usage.items():
        used = ", ".join(f"{amount} {resource}" for resource, amount in amounts.items() if amount != "0")
        if used:
            parts.append(f"{flavor}: {used}")
    return "; ".join(parts) or "nothing"
