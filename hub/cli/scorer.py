"""`quarterdeck scorer`: for people who write scorers. A package to start from, the contract, the time it takes."""

from __future__ import annotations

import importlib
import os
import sys
import time
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import click

from hub.api.errors import PluginError, QuarterdeckError, UsageError
from hub.cli.output import Column, print_table

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
    click.echo(f"\nNext:  cd {where} && pip install -e . && pytest && quarterdeck scorer test {name}")


@command.command(name="test")
@click.argument("scorer", metavar="NAME|MODULE:CLASS")
@_SETTING
@click.option("--budget", type=float, default=250.0, metavar="MS", help="For one call with 10,000 clusters.")
def test(scorer: str, settings: tuple[str, ...], budget: float) -> None:
    """Hold a scorer to the contract; exit code 1 when it breaks it."""
    from hub.scoring.contract import check

    failed = 0
    for finding in check(_maker(scorer, settings), budget=budget / 1000):
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
    from hub.scoring.sample import sample_fleet

    try:
        made = _maker(scorer, settings)()
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
