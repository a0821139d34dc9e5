"""`quarterdeck score explain CLUSTER`: every score of one cluster, from raw value to what it adds, and its source."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
from typing import Any

import click
import numpy as np

from hub.api.errors import QuarterdeckError, UsageError
from hub.api.timestamps import format_duration
from hub.cli.output import Column, print_table, print_text
from hub.fleet.shape import TaskShape
from hub.scoring.combine import rank
from hub.scoring.interface import ScoreRequest

_COLUMNS = (
    Column("SCORER"), Column("RAW"), Column("NORMALISED"), Column("WEIGHT"), Column("WEIGHTED"), Column("RANK"),
    Column("AGE"), Column("SOURCE"), Column("QUERY"),
)  # fmt: skip


@click.command(name="explain")
@click.argument("cluster")
@click.option("-o", "--output", type=click.Choice(["json"]), help="One document instead of a table.")
@click.pass_context
def command(ctx: click.Context, cluster: str, output: str | None) -> None:
    """Show every score of CLUSTER: raw value, normalised, weighted, its rank among all, how old it is and whence.

    The scores are those for a task that asks for nothing; `quarterdeck explain JOB` is about what a job asks for.
    """
    asyncio.run(_explain(ctx, cluster, output))


async def _explain(ctx: click.Context, cluster: str, output: str | None) -> None:
    from hub.cli.connection import connect
    from hub.cli.hub_view import hub_scores
    from hub.cli.plan_input import Settings, list_objects, quiet
    from hub.server.score_origins import Origins

    async with connect(ctx) as api:
        sources = await list_objects(api)
        try:
            scores = await hub_scores(api, [TaskShape()])
        except (QuarterdeckError, OSError, TimeoutError) as error:
            raise UsageError(f"the hub does not say its scores: {error or type(error).__name__}") from error
    with quiet():
        objects, state = Settings.read(None, "1", None, None).knowing(scores).state(sources, live=True)
        state.world.refresh()
    fleet = state.world.fleet
    if cluster not in fleet.names:
        raise UsageError(f"there is no cluster {cluster}", hint=f"There are: {', '.join(fleet.names) or 'none'}.")
    ranking = rank(fleet, ScoreRequest(TaskShape(), 1, state.now), state.scorers, np.ones(len(fleet), np.bool_))
    origins = Origins(objects, fleet, state.now, (entry.scorer for entry in state.scorers), scores)
    at = fleet.names.index(cluster)
    rows = []
    for column in ranking.columns:
        origin = origins.of(column.name, column.weight)
        # As they add up: what is unknown is behind all that is known.
        better = int(np.count_nonzero(column.weighted > column.weighted[at]))
        rows.append(
            {
                "scorer": column.name,
                "raw": _number(column.raw[at]),
                "normalised": _number(column.normalised[at]),
                "weight": column.weight,
                "weighted": _number(column.weighted[at]),
                "rank": better + 1,
                "of": len(fleet),
                "age": origin["age"],
                "source": origin["source"],
                "query": origin["query"],
                "problem": ranking.problems.get(column.name) or origin["problem"],
            }
        )
    place = list(ranking.ordered).index(cluster) + 1
    document = {
        "cluster": cluster,
        "total": _number(ranking.total[at]),
        "rank": place,
        "of": len(fleet),
        "scores": rows,
    }
    if output == "json":
        import json

        click.echo(json.dumps(document, indent=2, ensure_ascii=False))
    else:
        _show(document)


def _show(document: Mapping[str, Any]) -> None:
    total = "unknown" if document["total"] is None else f"{document['total']:.6g}"
    print_text(f"{document['cluster']}: no. {document['rank']} of {document['of']}, total {total}\n")
    print_table(
        _COLUMNS,
        [
            (
                row["scorer"],
                _text(row["raw"], "unknown"),
                _text(row["normalised"], "-"),
                f"{row['weight']:g}",
                _text(row["weighted"], "-"),
                f"{row['rank']}/{row['of']}",
                "-" if row["age"] is None else format_duration(row["age"]),
                row["source"],
                row["query"] or "-",
            )
            for row in document["scores"]
        ],
    )
    for row in document["scores"]:
        if row["problem"]:
            click.echo(f"{click.style('warning:', fg='yellow')} {row['scorer']}: {row['problem']}", err=True)


def _text(value: float | None, missing: str) -> str:
    return missing if value is None else f"{value:.6g}"


def _number(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
