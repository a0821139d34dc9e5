"""`quarterdeck scorer`: for people who write scorers. A package to start from, the contract, the time it takes."""

from __future__ import annotations

import asyncio
import importlib
import os
import sys
import time
from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hub.api.errors import PluginError, QuarterdeckError, UsageError
from hub.cli.output import Column, output_option, print_objects, print_table

if TYPE_CHECKING:
    from hub.scoring.contract import Finding

_SETTING = click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="NAME=VALUE",
    help="A setting for its Config (repeat it), in YAML.",
)


@click.group(name="scorer")
def command() -> None:
    """Write, check and measure a scorer of your own.

    \b
    quarterdeck scorer new quiet-hours        a package with tests
    quarterdeck scorer test quiet-hours       the contract (installed: by entry point)
    quarterdeck scorer test pkg.module:Class  the contract (not installed)
    quarterdeck scorer bench quiet-hours      how long it takes for 10 to 10,000 clusters
    quarterdeck scorer list                   how the hub's plugins do
    """


@command.command(name="new")
@click.argument("name")
@click.option("--directory", type=click.Path(file_okay=False, path_type=Path), help="Where (default: ./NAME).")
def new(name: str, directory: Path | None) -> None:
    """Make a package with a scorer called NAME, typed settings and tests that pass."""
    from hub.cli.scorer_package import write_package

    files = write_package(name, directory or Path(name))
    for path in files:
        click.echo(path)
    where = directory or Path(name)
    click.echo(f"\nNext:  cd {where} && pip install -e . pytest && python -m pytest && quarterdeck scorer test {name}")


@command.command(name="list")
@output_option
@click.pass_context
def plugins(ctx: click.Context, output: str | None) -> None:
    """List the plugins that the hub has, and how each does."""
    asyncio.run(_list(ctx, output))


async def _list(ctx: click.Context, output: str | None) -> None:
    from hub.api.conditions import find_condition
    from hub.api.resource import SCORER_PLUGINS
    from hub.cli.connection import connect

    async with connect(ctx) as api:
        found = sorted((await api.list(SCORER_PLUGINS)).items, key=lambda item: str(item["metadata"]["name"]))
    if output in ("json", "yaml", "name"):
        kind = {"apiVersion": SCORER_PLUGINS.api_version, "kind": SCORER_PLUGINS.kind}
        print_objects([kind | item for item in found], output)
        return
    if not found:
        click.echo("no scorer is installed beside the hub", err=True)
        click.echo("  → `quarterdeck scorer new NAME` makes one; the hub finds it when it starts.", err=True)
        return
    rows = []
    for item in found:
        status = item.get("status") or {}
        ready = find_condition(status.get("conditions"), "Ready") or {}
        rows.append(
            (
                str(item["metadata"]["name"]),
                str(status.get("scorer") or "–"),
                str(status.get("weight") or "–"),
                "process" if status.get("isolated") else "hub",
                str(status.get("clusters", "–")),
                str(ready.get("status") or "Unknown"),
                str(status.get("message") or ""),
            )
        )
    titles = ("NAME", "SCORER", "WEIGHT", "RUNS IN", "CLUSTERS", "READY", "MESSAGE")
    print_table(tuple(Column(title) for title in titles), rows)


@command.command(name="test")
@click.argument("scorer", metavar="NAME|MODULE:CLASS")
@_SETTING
@click.option("--budget", type=float, default=250.0, metavar="MS", help="For one call with 10,000 clusters.")
@click.option("--isolated", is_flag=True, help="Also in a process of its own, as `scorers.isolate` runs it.")
def test(scorer: str, settings: tuple[str, ...], budget: float, isolated: bool) -> None:
    """Hold a scorer to the contract; exit code 1 when it breaks it."""
    from hub.scoring.contract import check

    failed = 0
    findings = check(_maker(scorer, settings), budget=budget / 1000)
    if isolated:
        findings.append(_apart(scorer, settings))
    for finding in findings:
        failed += bool(finding.problem)
        mark = click.style("FAIL", fg="red") if finding.problem else click.style("ok  ", fg="green")
        click.echo(f"{mark}  {finding.check}" + (f"\n      {finding.problem}" if finding.problem else ""))
    if failed:
        raise click.exceptions.Exit(1)


@command.command(name="bench")
@click.argument("scorer", metavar="NAME|MODULE:CLASS")
@_SETTING
def bench(scorer: str, settings: tuple[str, ...]) -> None:
    """CPU time of one call, by number of clusters; the first call pays for columns that are not there yet."""
    from hub.scoring.contract import NOW, SHAPES
    from hub.scoring.interface import ScoreRequest
    from hub.scoring.reserving import ready_made
    from hub.scoring.sample import sample_fleet

    try:
        made = ready_made(_maker(scorer, settings))
    except PluginError as error:
        raise QuarterdeckError(f"{scorer}: {error}") from error
    request = ScoreRequest(SHAPES["a GPU task"], 1, NOW)
    rows = []
    for count in (10, 100, 1_000, 10_000):
        fleet = sample_fleet(count)
        first = _cpu(lambda: made.score(fleet, request))  # noqa: B023 - called at once
        times = sorted(_cpu(lambda: made.score(fleet, request)) for _ in range(9))  # noqa: B023 - as above
        rows.append((f"{count:,}", f"{first * 1000:.2f} ms", f"{times[4] * 1000:.3f} ms", f"{times[-1] * 1000:.3f} ms"))
    print_table((Column("CLUSTERS"), Column("FIRST"), Column("MEDIAN"), Column("SLOWEST")), rows)


def _apart(target: str, settings: tuple[str, ...]) -> Finding:
    """Whether it says the same in a process of its own, where it has no network, no files to write, little memory."""
    import numpy as np

    from hub.controllers.isolated import Bounds, Isolated
    from hub.scoring.contract import NOW, SHAPES, Finding
    from hub.scoring.interface import ScoreRequest
    from hub.scoring.plugins import GROUP
    from hub.scoring.reserving import ready_made
    from hub.scoring.sample import sample_fleet

    title = "in a process of its own it says the same"
    points = {point.name: point for point in entry_points(group=GROUP)}
    point = EntryPoint(target, target, GROUP) if ":" in target else points[target]
    apart = Isolated(point, _settings(settings), Bounds(budget=10.0))
    try:
        apart.ready()
        here, fleet = ready_made(_maker(target, settings)), sample_fleet(60)
        for what, shape in SHAPES.items():
            request = ScoreRequest(shape, 1, NOW)
            one, other = np.asarray(here.score(fleet, request), np.float64), apart.score(fleet, request)
            if not np.array_equal(one, other, equal_nan=True):
                return Finding(title, f"{what}: it says something else")
    except PluginError as error:
        return Finding(title, str(error))
    finally:
        apart.close()
    return Finding(title, "")


def _cpu(call: Callable[[], object]) -> float:
    started = time.process_time()
    call()
    return time.process_time() - started


def _maker(target: str, settings: tuple[str, ...]) -> Callable[[], Any]:
    from hub.scoring.plugins import GROUP, make, weighted

    values = _settings(settings)
    loaded: Any
    if ":" in target:
        module, _, attribute = target.partition(":")
        sys.path.insert(0, os.getcwd())
        try:
            loaded = importlib.import_module(module)
            for part in attribute.split("."):
                loaded = getattr(loaded, part)
        except (ImportError, AttributeError) as error:
            raise UsageError(f"cannot load {target}: {error}", field="SCORER") from error
    else:
        points = {point.name: point for point in entry_points(group=GROUP)}
        if target not in points:
            known = ", ".join(sorted(points)) or "none is installed"
            raise UsageError(
                f"no scorer {target} is installed; known: {known}",
                field="SCORER",
                hint="Install its package (`pip install -e .`), or name it MODULE:CLASS.",
            )
        loaded = points[target].load()
    return lambda: weighted(make(loaded, values)).scorer


def _settings(pairs: tuple[str, ...]) -> dict[str, Any]:
    import yaml

    found: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise UsageError(f"{pair!r} is not NAME=VALUE", field="--set")
        found[name] = yaml.safe_load(value)
    return found
