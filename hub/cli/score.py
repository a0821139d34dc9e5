"""`quarterdeck score`: a ScoreSource tried before it counts, against a live Prometheus or recorded answers.

The code that asks, reads and spreads values is the hub's own; only where the answer comes from differs here.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np

from hub.api.errors import InvalidObjectError, QuarterdeckError, UsageError
from hub.api.timestamps import parse_time
from hub.asking.access import Access
from hub.cli.output import Column, print_table
from hub.cli.score_assign import command as assign
from hub.cli.score_explain import command as explain
from hub.controllers.asking import cause
from hub.controllers.config import load_config
from hub.controllers.source_clients import SourceClients
from hub.controllers.world import World
from hub.fleet.changes import ClusterSeen, ScoresSeen
from hub.fleet.fleet import Fleet
from hub.fleet.shape import TaskShape
from hub.placement.score_sources import SourceScorer, source_scorer
from hub.scoring.answer import Answer, read_document, read_single, read_vector, together
from hub.scoring.combine import rank
from hub.scoring.forecast import read_matrix
from hub.scoring.interface import ScoreRequest, WeightedScorer
from hub.scoring.source import SourceQuery

_COLUMNS = (Column("CLUSTER"), Column("RAW"), Column("NORMALISED"), Column("WEIGHTED"), Column("RANK"))
_PATH = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.group(name="score")
def command() -> None:
    """Scores of clusters: try a ScoreSource or a DynamicScorer before it counts."""


command.add_command(explain)
command.add_command(assign)


@command.command(name="test")
@click.argument("file", type=_PATH)
@click.option("--prometheus", metavar="URL", default="", help="The Prometheus to ask.")
@click.option("--data", type=_PATH, help="A recorded answer (JSON) instead: Prometheus's, or the document itself.")
@click.option(
    "--fleet", type=_PATH, help="ManagedClusters and ClusterCapacities, or a Fleet, for targets and reports (YAML)."
)
@click.option("--now", "moment", metavar="RFC3339", help="The clock (default: now).")
@click.option("--config", type=_PATH, help="The hub's configuration: whom and what sources may ask there (YAML).")
@click.option("-o", "--output", type=click.Choice(["json"]), help="One document instead of tables.")
def test(
    file: Path,
    prometheus: str,
    data: Path | None,
    fleet: Path | None,
    moment: str | None,
    config: Path | None,
    output: str | None,
) -> None:
    """Show raw value, normalised score and rank of every cluster, for each ScoreSource and DynamicScorer in FILE.

    \b
    quarterdeck score test busy.yaml --prometheus http://127.0.0.1:9090
    quarterdeck score test busy.yaml --data answer.json --fleet fleet.yaml

    A DynamicScorer is asked once about each cluster; its ScorerPolicy and Secrets are those in FILE.
    Exit code 1 when a source has no value at all.
    """
    from hub.api.validation import load_objects

    if prometheus and data is not None:
        raise UsageError("give it a Prometheus or recorded data, not both", field="--data")
    now = parse_time(moment).timestamp() if moment else time.time()
    objects = load_objects(_text(file), str(file))
    sources = [obj for obj in objects if obj.get("kind") == "ScoreSource"]
    if not any(obj.get("kind") in ("ScoreSource", "DynamicScorer") for obj in objects):
        raise UsageError(f"{file} holds no ScoreSource and no DynamicScorer", field="FILE")
    known = _fleet(fleet)
    recorded = _recorded(data) if data is not None else None
    access = load_config(config).sources.access
    results = []
    for source in sources:
        try:
            entry = source_scorer(source)
        except InvalidObjectError as error:
            raise InvalidObjectError(f"{file}: ScoreSource {source['metadata']['name']}: {error}") from error
        results.append(_try(entry, known, prometheus, recorded, now, access))
    if len(sources) < len(objects):
        from hub.cli.score_dynamic import try_scorers

        results += try_scorers(objects, known, recorded, now, access)
    if output == "json":
        click.echo(json.dumps(results, indent=2, ensure_ascii=False))
    else:
        _show(results)
    if not all(any(row["raw"] is not None for row in result["clusters"]) for result in results):
        raise click.exceptions.Exit(1)


def _try(
    entry: WeightedScorer, fleet: Fleet, prometheus: str, recorded: Any, now: float, access: Access
) -> dict[str, Any]:
    scorer = entry.scorer
    assert isinstance(scorer, SourceScorer)
    query = scorer.spec.query
    answer = Answer({})
    asked = scorer.spec.report or "static values"
    if query is not None:
        asked = query.promql or query.url
        answer = _answer(scorer, query, fleet, prometheus, recorded, now, access)
        if not len(fleet):
            # Nobody said which clusters there are: those that are in the answer.
            fleet = fleet.apply(ClusterSeen({"metadata": {"name": name}}) for name in answer.values)
        fleet = fleet.apply([ScoresSeen(scorer.name, answer.values, now + query.valid_for)])
    elif scorer.spec.static is not None and not len(fleet):
        fleet = fleet.apply(ClusterSeen({"metadata": {"name": name}}) for name in scorer.spec.static.values)
    # A weight of 0 shows a score without counting it: here it is shown.
    shown = entry if entry.weight else WeightedScorer(scorer, 1.0)
    ranking = rank(fleet, ScoreRequest(TaskShape(), 1, now), [shown], np.ones(len(fleet), np.bool_))
    column = ranking.columns[0]
    strangers = sorted(set(answer.values) - set(fleet.names))
    complaints = [*answer.complaints]
    if strangers:
        complaints.append(f"values for clusters that are not in the fleet: {', '.join(strangers[:5])}")
    about = scorer.concerns(fleet)
    rows = [
        {
            "cluster": fleet.names[position],
            "raw": _number(column.raw[position]),
            "normalised": _number(column.normalised[position]),
            "weighted": _number(column.weighted[position]),
            "rank": place + 1,
            "targeted": about is None or bool(about[position]),
        }
        for place, position in enumerate(ranking.order.tolist())
    ]
    return {
        "source": scorer.name,
        "asked": asked,
        "normaliser": scorer.normaliser.kind,
        "direction": "lower" if scorer.lower_is_better else "higher",
        "weight": entry.weight,
        "clusters": rows,
        "complaints": complaints,
        "forecast": answer.quality.text(query.forecast.horizon)
        if answer.quality is not None and query is not None and query.forecast is not None
        else "",
    }


def _answer(
    scorer: SourceScorer,
    query: SourceQuery,
    fleet: Fleet,
    prometheus: str,
    recorded: Any,
    now: float,
    access: Access,
) -> Answer:
    about = scorer.concerns(fleet)
    targets = fleet.names if about is None else tuple(n for n, t in zip(fleet.names, about, strict=True) if t)
    if query.per_cluster and not targets and not (recorded is not None and isinstance(recorded, Mapping)):
        raise UsageError(f"{scorer.name} asks once a cluster: say which there are", field="--fleet")
    if recorded is not None:
        return _read(query, recorded, now)
    if query.promql and not (prometheus or query.url):
        raise UsageError(f"{scorer.name} asks a Prometheus", field="--prometheus", hint="Or give it --data FILE.")
    clients = SourceClients(prometheus, access, clusters=lambda _: targets)
    try:
        return clients(scorer.name, query)
    except Exception as error:
        raise QuarterdeckError(f"{scorer.name}: {cause(error)}") from error


def _read(query: SourceQuery, recorded: Any, now: float) -> Answer:
    """One answer for the whole fleet; of a source that asks once a cluster, a map of answers by cluster."""
    if query.per_cluster:
        if not isinstance(recorded, Mapping):
            raise UsageError("must be a map from cluster to answer: the source asks once a cluster", field="--data")
        return together(_read_one(query, answer, str(name), now) for name, answer in recorded.items())
    return _read_one(query, recorded, "", now)


def _read_one(query: SourceQuery, recorded: Any, cluster: str, now: float) -> Answer:
    if query.forecast is not None:
        answer, quality = read_matrix(_matrix(recorded), query.cluster_label, query.forecast, now, only=cluster)
        return replace(answer, quality=quality)
    if query.promql:
        result = _result(recorded)
        if cluster:
            return read_single(result, cluster, query.aggregation)
        return read_vector(result, query.cluster_label, query.aggregation)
    assert query.fields is not None
    return read_document(recorded, query.fields, query.aggregation, now, query.valid_for, only=cluster)


def _result(recorded: Any) -> Any:
    """Prometheus's whole answer, its `data`, its `result`; of a matrix the last sample of each series."""
    recorded = _matrix(recorded)
    if not isinstance(recorded, list):
        return recorded
    return [
        {**series, "value": series["values"][-1]}
        if isinstance(series, Mapping) and isinstance(series.get("values"), list) and series["values"]
        else series
        for series in recorded
    ]


def _matrix(recorded: Any) -> Any:
    while isinstance(recorded, Mapping) and ("data" in recorded or "result" in recorded):
        recorded = recorded["data"] if "data" in recorded else recorded["result"]
    return recorded


def _fleet(path: Path | None) -> Fleet:
    from hub.api.validation import load_objects

    world = World()
    if path is not None and _is_fleet(path):
        from hub.cli.up.fleetfile import read_fleet

        for site in read_fleet(path):
            labels = {str(key): str(value) for key, value in (site.get("labels") or {}).items()}
            world.cluster_seen({"metadata": {"name": site["name"], "labels": labels}})
        path = None
    for obj in load_objects(_text(path), str(path), recorded=True) if path is not None else ():
        if obj.get("kind") == "ManagedCluster":
            world.cluster_seen(obj)
        elif obj.get("kind") == "ClusterCapacity":
            world.capacity_seen(obj)
    world.refresh()
    return world.fleet


def _is_fleet(path: Path) -> bool:
    """Whether it is what `quarterdeck up --fleet` takes."""
    import yaml

    try:
        document = yaml.safe_load(_text(path))
    except yaml.YAMLError:
        return False
    return isinstance(document, Mapping) and document.get("kind") == "Fleet"


def _recorded(path: Path) -> Any:
    try:
        return json.loads(_text(path))
    except ValueError as error:
        raise UsageError(f"{path} is not JSON: {error}", field="--data") from error


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read {path}: {error}", field="FILE") from error


def _show(results: list[dict[str, Any]]) -> None:
    for number, result in enumerate(results):
        if number:
            click.echo()
        click.echo(
            f"{click.style(result['source'], bold=True)}  {result['asked']}\n"
            f"{result['normaliser']}, {result['direction']} is better, weight {result['weight']:g}\n"
        )
        print_table(
            _COLUMNS,
            [
                (
                    row["cluster"],
                    "not targeted" if not row["targeted"] else _text_of(row["raw"], "unknown"),
                    _text_of(row["normalised"], "-"),
                    _text_of(row["weighted"], "-"),
                    row["rank"],
                )
                for row in result["clusters"]
            ],
        )
        if result["forecast"]:
            click.echo(f"\n{result['forecast']}")
        for complaint in result["complaints"]:
            click.echo(f"{click.style('warning:', fg='yellow')} {complaint}", err=True)


def _text_of(value: float | None, missing: str) -> str:
    return missing if value is None else f"{value:.6g}"


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
