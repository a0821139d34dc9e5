"""`quarterdeck score assign FILE`: which application on which cluster, and how each cluster cuts up its devices.

The question is a file, the scores are AddOnPlacementScores of the hub or of a file. Nothing is applied.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from hub.api.errors import InvalidObjectError, UsageError
from hub.api.resource import ADDON_PLACEMENT_SCORES
from hub.api.timestamps import parse_time
from hub.asking.answer import LABELS
from hub.cli.output import Column, print_table
from hub.scoring.dynamic.published import dimension

_COLUMNS = (Column("APPLICATION"), Column("CLUSTER"), Column("PROFILE"), Column("SCORE"))
_PATH = click.Path(exists=True, dir_okay=False, path_type=Path)


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Profile(_Part):
    name: str = Field(min_length=1)
    kind: str = Field(min_length=1)
    amount: float = Field(gt=0, allow_inf_nan=False)


class _Cluster(_Part):
    name: str = Field(min_length=1)
    profiles: tuple[_Profile, ...] = Field(min_length=1)


class _ScoreNames(_Part):
    resource: str = Field(min_length=1)
    # How a score of an application on a profile is called: ${app} and ${device} are filled in.
    format: str = "${app};${device}"


class Question(_Part):
    """What is to be assigned. `scores`: which AddOnPlacementScore says how good it is where."""

    applications: tuple[_Profile, ...] = Field(min_length=1)
    clusters: tuple[_Cluster, ...] = Field(min_length=1)
    scores: _ScoreNames


@click.command(name="assign")
@click.argument("file", type=_PATH)
@click.option("--scores", "scored", type=_PATH, help="AddOnPlacementScores (YAML) instead of the hub's.")
@click.option("--time-limit", type=click.FloatRange(0.1, 3600), default=5.0, show_default=True, help="Seconds.")
@click.option("-o", "--output", type=click.Choice(["json"]), help="One document instead of a table.")
@click.pass_context
def command(ctx: click.Context, file: Path, scored: Path | None, time_limit: float, output: str | None) -> None:
    """Choose clusters for the applications of FILE, and a profile for each cluster, so that the scores add up most.

    \b
    applications: [{name: app01, kind: gpu, amount: 1}]
    clusters: [{name: east, profiles: [{name: 3g.48gb, kind: gpu, amount: 2}]}]
    scores: {resource: performance-score, format: "${app};${device}"}

    It only says what it would choose. An application without a score somewhere is not placed there, and left out with
    the reason where it is placed nowhere.
    """
    question = _read(file)
    if scored is not None:
        from hub.api.validation import load_objects

        objects: Sequence[Mapping[str, Any]] = load_objects(_text(scored), str(scored), recorded=True)
    else:
        objects = asyncio.run(_listed(ctx))
    document = _choose(question, _scores(question, objects, time.time()), time_limit)
    if output == "json":
        click.echo(json.dumps(document, indent=2, ensure_ascii=False))
        return
    print_table(
        _COLUMNS,
        [(one["application"], one["cluster"], one["profile"], f"{one['score']:g}") for one in document["placed"]],
    )
    for name, reason in document["leftOut"].items():
        click.echo(f"{click.style('left out:', fg='yellow')} {name}: {reason}")
    short = f", at most {document['gap']:.2%} short of the best" if document["gap"] else ""
    click.echo(f"\nthe scores add up to {document['total']:g}{short}; nothing is applied")


def _choose(question: Question, scores: Mapping[tuple[str, str, str], float], time_limit: float) -> dict[str, Any]:
    # Loaded for those who ask only: it takes longer than most commands.
    from hub.scoring.joint import Application, Profile, choose_together

    applications = [Application(app.name, app.kind, app.amount) for app in question.applications]
    clusters = {
        cluster.name: [Profile(profile.name, profile.kind, profile.amount) for profile in cluster.profiles]
        for cluster in question.clusters
    }
    if len(clusters) < len(question.clusters):
        raise InvalidObjectError("two clusters have one name", field="clusters")
    try:
        choice = choose_together(applications, clusters, scores, time_limit)
    except ValueError as error:
        raise InvalidObjectError(str(error), field="applications or profiles") from error
    return {
        "placed": [
            {"application": one.application, "cluster": one.cluster, "profile": one.profile, "score": one.score}
            for one in choice.placed
        ],
        "profiles": dict(choice.profiles),
        "leftOut": dict(choice.left_out),
        "total": choice.total,
        "gap": choice.gap,
    }


def _scores(question: Question, objects: Iterable[Mapping[str, Any]], now: float) -> dict[tuple[str, str, str], float]:
    """Of every application, cluster and profile that has one which counts still."""
    known: dict[str, dict[str, float]] = {}
    for obj in objects:
        status, meta = obj.get("status") or {}, obj["metadata"]
        if obj.get("kind") != "AddOnPlacementScore" or meta["name"] != question.scores.resource:
            continue
        until = status.get("validUntil")
        if until and parse_time(str(until)).timestamp() <= now:
            continue
        known[str(meta.get("namespace"))] = {
            str(score["name"]): float(score["value"]) for score in status.get("scores") or ()
        }
    found: dict[tuple[str, str, str], float] = {}
    for cluster in question.clusters:
        for profile in cluster.profiles:
            for app in question.applications:
                named = {"app": app.name, "device": profile.name}
                labels = [named.get(label, "") for label in LABELS]
                name = dimension(question.scores.format, question.scores.resource, cluster.name, labels)
                if name in known.get(cluster.name, {}):
                    found[app.name, cluster.name, profile.name] = known[cluster.name][name]
    return found


async def _listed(ctx: click.Context) -> list[Mapping[str, Any]]:
    from hub.cli.connection import connect

    async with connect(ctx) as api:
        return list((await api.list(ADDON_PLACEMENT_SCORES)).items)


def _read(file: Path) -> Question:
    import yaml

    try:
        return Question.model_validate(yaml.safe_load(_text(file)))
    except yaml.YAMLError as error:
        raise UsageError(f"{file} is not YAML: {' '.join(str(error).split())}", field="FILE") from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        raise InvalidObjectError(f"{file}: {first['msg']}", field=field) from error


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read {path}: {error}", field="FILE") from error
