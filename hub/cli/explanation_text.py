"""An explanation's document as text for people: what `quarterdeck explain` and `plan --explain` print."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click

from hub.api.timestamps import format_duration
from hub.cli.layout import status_text
from hub.cli.output import Column, print_table, print_text
from hub.server.jobs import ENDED

Json = Mapping[str, Any]
# Of clusters that a filter removed so many are named in its line.
_NAMED = 5


def print_explanation(document: Json) -> None:
    for kind in ("job", "workload"):
        if kind in document:
            _print_job(document["key"], document[kind])
    if "placement" in document:
        _print_placement(document["placement"])


def _print_job(key: str, job: Json) -> None:
    kind = f"{job.get('kind', 'Workload')} {key}"
    click.echo(f"{click.style(kind, bold=True)}  {status_text(job['phase'])}")
    if job.get("message"):
        print_text(f"{job['reason']}: {job['message']}" if job.get("reason") else job["message"])
    tasks = job.get("tasks")
    if tasks:
        parts = [f"{tasks[name]} {name}" for name in ("waiting", "active", "succeeded", "failed") if tasks[name]]
        sent = tasks["total"] - sum(tasks[name] for name in ("waiting", "active", "succeeded", "failed"))
        if sent and job["phase"] not in ENDED:
            parts.insert(1 if tasks["waiting"] else 0, f"{sent} sent, not running yet")
        noun = "task" if tasks["total"] == 1 else "tasks"
        click.echo(f"{tasks['total']} {noun}: {', '.join(parts) or 'none has begun'}")
    if job.get("attempts"):
        _attempts(job["attempts"])
    if "verdict" in job:
        _decision(job)
    elif "oneMoreTask" in job:
        click.echo()
        print_text("Nothing of it waits to be placed. One more task of it, after everything that waits:")
        _decision(job["oneMoreTask"])


def _decision(found: Json) -> None:
    _verdict(found)
    if found["quota"]:
        _quota(found["quota"])
    if len(found["flavors"]) > 1 or any(line["flavors"] for line in found["flavors"]):
        _flavors(found["flavors"])
    if found.get("flavorVerdicts"):
        _flavor_verdicts(found)
    if found["clusters"]:
        _removed(found["filters"])
        _clusters(found["clusters"])
        _origins(found["scorers"])
        _elsewhere(found)
    for name, problem in found["problems"].items():
        click.echo(f"{click.style('problem:', fg='yellow')} {name}: {problem}")


def _verdict(found: Json) -> None:
    verdict = found["verdict"]
    _heading("decision")
    place = f"priority {found['priority']}"
    if found["position"]:
        place = f"{found['position']} of {found['waiting']} in order ({place})"
    queue = f"LocalQueue {found['localQueue']}"
    if found["clusterQueue"] and found["clusterQueue"] != found["localQueue"]:
        queue += f", ClusterQueue {found['clusterQueue']}"
    ahead = found["aheadInClusterQueue"]
    line = f"; {ahead or 'none'} ahead in the ClusterQueue" if found["position"] else ""
    print_text(f"{place}; {queue}{line}")
    for part in verdict["admitted"]:
        where = f"on {part['cluster']}" if part["cluster"] else "quota only"
        flavors = ", ".join(f"{name}={flavor}" for name, flavor in part["flavors"].items())
        paid = f", paid from {flavors}" if flavors else ""
        text = f"tasks {part['tasks']} {where}, {part['slots']} at once{paid}"
        print_text(text, head=click.style("starts", fg="green") + "  ")
    if verdict["reason"]:
        print_text(f"{verdict['reason']}: {verdict['message']}", head=click.style("waits", fg="yellow") + "  ")
    if found["smallestChange"]:
        print_text(f"would start if you: {found['smallestChange']}", head="  → ")
    elif verdict["advice"] and "quarterdeck explain" not in verdict["advice"]:
        print_text(verdict["advice"], head="  → ")


def _quota(lines: Sequence[Json]) -> None:
    _heading("quota, from the queue up")
    print_table(
        [
            Column("NODE", elastic=True),
            Column("FLAVOR", elastic=True, spare=1),
            Column("RESOURCE", elastic=True),
            Column("NOMINAL", right=True),
            Column("OWNS", right=True, spare=5),
            Column("LENDS", right=True, spare=4),
            Column("MAY BORROW", right=True, spare=3),
            Column("USED", right=True),
            Column("BORROWED", right=True, spare=6),
            Column("FREE", right=True),
        ],
        [
            (
                f"{line['kind']} {line['node']}",
                line["flavor"],
                line["resource"],
                _amount(line["resource"], line["nominal"]),
                _amount(line["resource"], line["subtree"]),
                _amount(line["resource"], line["lendable"]),
                _amount(line["resource"], line["borrowingLimit"])
                or ("no limit" if line["lendable"] is not None else None),
                _amount(line["resource"], line["used"]),
                _amount(line["resource"], line["borrowed"]),
                _amount(line["resource"], line["available"]),
            )
            for line in lines
        ],
    )


def _amount(resource: str, value: str | None) -> str | None:
    """The document's exact quantity as people read it."""
    from hub.api.errors import InvalidQuantityError
    from hub.api.quantity import Quantity
    from hub.queueing.amount import amount, readable

    try:
        return readable(resource, amount(resource, Quantity(value))) if value else value
    except InvalidQuantityError:
        # "unlimited"
        return value


def _need(resource: str, value: str) -> str:
    from hub.api.names import GPU_MILLI

    return f"{_amount(resource, value)}" + ("" if resource == GPU_MILLI else f" {resource}")


def _flavor_verdicts(found: Json) -> None:
    _heading("flavors, in the order they are tried")
    print_table(
        [
            Column("POD SETS", elastic=True, spare=1),
            Column("FLAVOR", elastic=True),
            Column("VERDICT"),
            Column("NEEDS", elastic=True),
            Column("FREE", elastic=True),
            Column("WHY", elastic=True),
        ],
        [
            (
                ",".join(line["podSets"]),
                line["flavor"],
                line["verdict"],
                ", ".join(_need(need["resource"], need["needs"]) for need in line["needs"]),
                ", ".join(_need(need["resource"], need["available"]) for need in line["needs"]),
                line["message"],
            )
            for line in found["flavorVerdicts"]
        ],
    )
    if found["wouldPreempt"]:
        print_text(f"would preempt {', '.join(found['wouldPreempt'])}")


def _flavors(lines: Sequence[Json]) -> None:
    _heading("flavors, in the order they are tried")
    print_table(
        [
            Column("FLAVORS", elastic=True),
            Column("NEEDS A TASK", elastic=True),
            Column("QUOTA FOR", right=True),
            Column("ROOM FOR", right=True),
            Column("ROOM EVER", right=True),
        ],
        [
            (
                ", ".join(f"{name}={flavor}" for name, flavor in line["flavors"].items()),
                ", ".join(_need(name, amount) for name, amount in line["needsPerTask"].items()),
                line["affordableTasks"] if line["everAffordable"] else "never",
                line["roomForTasks"],
                line["capacityForTasks"],
            )
            for line in lines
        ],
    )


def _clusters(lines: Sequence[Json]) -> None:
    _heading("clusters")
    scorers = list(dict.fromkeys(score["scorer"] for line in lines for score in line["scores"]))
    weights = {score["scorer"]: score["weight"] for line in lines for score in line["scores"]}
    order = sorted(lines, key=lambda line: (line["rank"] or len(lines) + 1, line["cluster"]))
    print_table(
        [
            Column("#", right=True),
            Column("CLUSTER"),
            Column("ROOM", right=True),
            Column("EVER", right=True, spare=2),
            Column("TOTAL", right=True),
            *(Column(f"{name} ×{weights[name]:g}", right=True, spare=1) for name in scorers),
            Column("WHY NOT", prose=True),
        ],
        [
            (
                line["rank"] or None,
                line["cluster"],
                _number(line["roomForTasks"]),
                _number(line["capacityForTasks"]),
                _number(line["total"]),
                *(_score(line, name) for name in scorers),
                line["message"],
            )
            for line in order
        ],
    )


def _removed(steps: Sequence[Json]) -> None:
    """Filter by filter, how many clusters it removed; which and why is beside each cluster."""
    active = [step for step in steps if step["removed"]]
    if not active:
        return
    _heading("filters")
    for step in active:
        names = ", ".join(entry["cluster"] for entry in step["removed"][:_NAMED])
        more = len(step["removed"]) - _NAMED
        text = f"removed {len(step['removed'])}: {names}" + (f" and {more} more" if more > 0 else "")
        print_text(text, head=f"{step['filter']}  ")


def _origins(scorers: Sequence[Json]) -> None:
    if not scorers:
        return
    _heading("scores")
    print_table(
        [
            Column("SCORER"),
            Column("WEIGHT", right=True),
            Column("AGE", right=True),
            Column("SOURCE", prose=True),
            Column("QUERY", elastic=True, spare=1),
            Column("PROBLEM", prose=True),
        ],
        [
            (
                origin["scorer"],
                f"{origin['weight']:g}",
                None if origin["age"] is None else format_duration(origin["age"]),
                origin["source"],
                origin["query"] or None,
                origin["problem"] or None,
            )
            for origin in scorers
        ],
    )


def _elsewhere(found: Json) -> None:
    best, flip = found["nextBest"], found["elsewhere"]
    if best is not None:
        click.echo()
        print_text(f"next best: {best['cluster']}, {best['margin']:.4g} points behind the last that got tasks")
    if flip is not None:
        print_text(f"{flip['cluster']} would get tasks with: {flip['change']}", head="  → ")


def _score(line: Json, name: str) -> str:
    """raw → normalised → weighted"""
    score = next((score for score in line.get("scores", ()) if score["scorer"] == name), None)
    if score is None:
        return ""
    if score["raw"] is None:
        return f"unknown → {score['weighted']:.3g}"
    return f"{score['raw']:.4g} → {score['normalised']:.3g} → {score['weighted']:.3g}"


def _number(value: float | None) -> str | None:
    return None if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def _attempts(attempts: Sequence[Json]) -> None:
    _heading("slices, in the order they were decided")
    print_table(
        [
            Column("EPOCH", right=True),
            Column("ATTEMPT", right=True, spare=2),
            Column("CLUSTER"),
            Column("TASKS", elastic=True),
            Column("STATE"),
            Column("SUCCEEDED", elastic=True, spare=1),
            Column("FAILED", elastic=True),
            Column("EXIT CODES", elastic=True),
            Column("WHY THERE", prose=True),
            Column("MESSAGE", prose=True),
        ],
        [
            (
                a["epoch"],
                a["attempt"],
                a["cluster"],
                a["tasks"],
                a["state"],
                a["succeeded"],
                a["failed"],
                ", ".join(f"{code}: {tasks}" for code, tasks in a["exitCodes"].items()),
                a["why"],
                a["message"],
            )
            for a in attempts
        ],
    )


def _print_placement(placement: Json) -> None:
    _heading(f"Placement {placement['placement']}")
    click.echo(f"{placement['reason']}: {placement['message']}")
    found = placement["considered"]
    wanted = "all that match" if found["wanted"] is None else f"{found['wanted']} wanted"
    click.echo(
        f"{found['clusters']} clusters, {found['passing']} pass every filter, {found['chosen']} chosen, {wanted}"
    )
    if "changesIn" in placement:
        click.echo(f"time alone could change this in {placement['changesIn']}")
    _removed(placement["filters"])
    lines = placement["clusters"]
    _heading("clusters")
    scorers = list(dict.fromkeys(score["scorer"] for line in lines for score in line.get("scores", ())))
    weights = {score["scorer"]: score["weight"] for line in lines for score in line.get("scores", ())}
    order = sorted(lines, key=lambda line: (line["rank"] or len(lines) + 1, line["cluster"]))
    print_table(
        [
            Column("#", right=True),
            Column("CLUSTER"),
            Column("TOTAL", right=True),
            *(Column(f"{name} ×{weights[name]:g}", right=True, spare=1) for name in scorers),
            Column("WHY NOT", prose=True),
            Column("CHOSEN WITH", prose=True),
        ],
        [
            (
                line["rank"] or None,
                line["cluster"],
                line.get("total"),
                *(_score(line, name) for name in scorers),
                line["message"],
                line.get("wouldBeChosenWith"),
            )
            for line in order
        ],
    )
    _origins(placement["scorers"])
    best, flip = placement.get("nextBest"), placement.get("smallestChange")
    if best is not None:
        click.echo()
        print_text(f"next best: {best['cluster']}, {best['margin']} points behind the last chosen")
    if flip is not None:
        print_text(f"{flip['cluster']} would be chosen with: {flip['change']}", head="  → ")


def _heading(text: str) -> None:
    click.echo()
    click.echo(click.style(text, bold=True))
