"""`quarterdeck up`.

A hub and its sites on this machine until Ctrl-C; started again on the same data it goes on where it was.
"""

from __future__ import annotations

import asyncio
import contextlib
import shlex
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hub.api.errors import UsageError
from hub.cli.invocation import command_line

if TYPE_CHECKING:
    from hub.cli.up.local_fleet import LocalFleet


@click.command(name="up")
@click.option(
    "--fleet", "fleet_file", type=click.Path(path_type=Path), metavar="FILE", help="The sites and their hardware."
)
@click.option(
    "--clusters",
    type=click.IntRange(1, 200),
    default=None,
    metavar="N",
    help="So many sites that share this machine (default: the sites of last time, else one).",
)
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    default=None,
    metavar="DIR",
    help="Where everything is kept (default: $QUARTERDECK_HOME, else ~/.quarterdeck).",
)
@click.option(
    "--port",
    type=click.IntRange(1, 65535),
    default=None,
    metavar="PORT",
    help="The API's port on loopback (default: a free one, then kept).",
)
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    default=None,
    metavar="FILE",
    help="The hub's settings: weights of scores, a Prometheus of your own, logs.",
)
@click.option(
    "--no-prometheus", is_flag=True, help="Score from the agents' own reports even where a prometheus is on PATH."
)
def command(
    fleet_file: Path | None,
    clusters: int | None,
    data: Path | None,
    port: int | None,
    config: Path | None,
    no_prometheus: bool,
) -> None:
    """Start a hub and its sites on this machine; Ctrl-C stops everything in order."""
    from hub.cli.connection import home
    from hub.cli.up.datadir import Paths
    from hub.cli.up.fleetfile import default_sites, read_fleet, remembered_sites
    from hub.cli.up.local_fleet import LocalFleet

    if fleet_file is not None and clusters is not None:
        raise UsageError("give --fleet or --clusters, not both: a fleet file says how many sites there are")
    directory = (data if data is not None else home()).expanduser().absolute()
    again = f"{command_line()} up" + (f" --data {shlex.quote(str(data))}" if data is not None else "")
    again += f" --config {shlex.quote(str(config))}" if config is not None else ""
    if fleet_file is not None:
        sites = read_fleet(fleet_file)
    elif clusters is not None:
        sites = default_sites(clusters)
    else:
        sites = remembered_sites(Paths(directory).sites) or default_sites(1)
    settings = _settings(config)
    asks_prometheus = not no_prometheus and "prometheus" not in settings
    fleet = partial(LocalFleet, sites=sites, port=port, with_prometheus=asks_prometheus, hub_config=settings)
    sys.exit(asyncio.run(_up(directory, again, fleet)))


def _settings(path: Path | None) -> dict[str, Any]:
    """What the file says, known to be right. Raises `UsageError`."""
    if path is None:
        return {}
    from hub.controllers.config import parse_config, read_document

    document, remarks = read_document(path)
    parse_config(document, str(path))
    if ignored := [remark.field for remark in remarks if remark.process]:
        click.echo(f"  {path}: about Kueue's own process, and without a meaning here: {', '.join(ignored)}")
    for remark in remarks:
        if not remark.process:
            click.echo(f"  {path}: {remark.field}: {remark.said}")
    return dict(document)


async def _up(data: Path, again: str, make: Callable[..., LocalFleet]) -> int:
    """130 when it was interrupted before it was ready; 0 when it ran and was told to stop."""
    from hub.cli.up.datadir import DataDirectory
    from hub.cli.up.local_fleet import remember_last

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    with DataDirectory(data) as paths:
        fleet = make(paths, notice=click.echo)

        def on_signal() -> None:
            if stop.is_set():
                fleet.processes.kill()
            else:
                click.echo("\nstopping: sites, then the hub, then its API … (Ctrl-C again kills)")
            stop.set()

        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, on_signal)
        click.echo(
            f"starting a hub and {len(fleet.sites)} site{'s' if len(fleet.sites) != 1 else ''} in {paths.root} …"
        )
        starting = asyncio.ensure_future(fleet.__aenter__())
        stopped = asyncio.ensure_future(stop.wait())
        await asyncio.wait({starting, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            starting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await starting
            click.echo("stopped before it was ready.")
            return 130
        starting.result()
        try:
            remember_last(paths)
            _say_what_runs(fleet, await fleet.left_behind())
            await stop.wait()
        finally:
            await fleet.stop()
        click.echo(f"stopped; `{again}` goes on where this was.")
        return 0


def _say_what_runs(fleet: LocalFleet, left_behind: list[str]) -> None:
    from hub.cli.up.prometheus import prometheus_binary

    click.echo(f"  api         {fleet.url}")
    click.echo(f"  kubeconfig  {fleet.kubeconfig}")
    declared = any(site.get("nodes") for site in fleet.sites)
    click.echo(f"  sites       {', '.join(fleet.site_names)}" + (" (declared hardware: simulated)" if declared else ""))
    if left_behind:
        names = " ".join(left_behind)
        click.echo(f"              not started: {names} (`{command_line()} clusters remove {names}` forgets them)")
    if own := fleet.hub_config.get("prometheus"):
        click.echo(f"  prometheus  {own['url']} (yours)")
    elif fleet.prometheus_url:
        click.echo(f"  prometheus  {fleet.prometheus_url}")
    elif fleet.with_prometheus and prometheus_binary() is None:
        click.echo("  prometheus  none on PATH: scores come from the agents' own reports")
    else:
        click.echo("  prometheus  not started, as you asked: scores come from the agents' own reports")
    click.echo(f"  metrics     {fleet.hub_metrics_url}")
    click.echo("\nready. In another terminal:")
    click.echo(f"  {command_line()} run -- hostname")
    click.echo(f"  {command_line()} get clusters")
    click.echo(f"  kubectl --kubeconfig {shlex.quote(str(fleet.kubeconfig))} get fleetjobs -A")
