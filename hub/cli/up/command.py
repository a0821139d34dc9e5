"""`quarterdeck up`.

A hub and its sites on this machine until Ctrl-C; started again on the same data it goes on where it was.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from pathlib import Path

import click

from hub.api.errors import UsageError


@click.command(name="up")
@click.option(
    "--fleet", "fleet_file", type=click.Path(path_type=Path), metavar="FILE", help="The sites and their hardware."
)
@click.option(
    "--clusters", type=click.IntRange(1, 200), default=None, help="How many sites share this machine (default 1)."
)
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    default=Path("~/.quarterdeck"),
    show_default=True,
    metavar="DIR",
    help="Where everything is kept.",
)
@click.option(
    "--port",
    type=click.IntRange(1, 65535),
    default=None,
    help="The API's port on loopback (default: a free one, then kept).",
)
@click.option(
    "--no-prometheus", is_flag=True, help="Score from the agents' own reports even where a prometheus is on PATH."
)
def command(fleet_file: Path | None, clusters: int | None, data: Path, port: int | None, no_prometheus: bool) -> None:
    """Start a hub and its sites on this machine; Ctrl-C stops everything in order."""
    from hub.cli.up.fleetfile import default_sites, read_fleet

    if fleet_file is not None and clusters is not None:
        raise UsageError("give --fleet or --clusters, not both: a fleet file says how many sites there are")
    sites = read_fleet(fleet_file) if fleet_file is not None else default_sites(clusters or 1)
    asyncio.run(_up(sites, data, port, with_prometheus=not no_prometheus))


async def _up(sites: list[dict[str, object]], data: Path, port: int | None, *, with_prometheus: bool) -> None:
    from hub.cli.up.datadir import DataDirectory
    from hub.cli.up.local_fleet import LocalFleet, remember_last
    from hub.cli.up.prometheus import prometheus_binary

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    with DataDirectory(data) as paths:
        fleet = LocalFleet(paths, sites, click.echo, port=port, with_prometheus=with_prometheus)

        def on_signal() -> None:
            if stop.is_set():
                fleet.processes.kill()
            stop.set()

        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, on_signal)
        click.echo(f"starting a hub and {len(sites)} site{'s' if len(sites) != 1 else ''} in {paths.root} …")
        starting = asyncio.ensure_future(fleet.__aenter__())
        stopped = asyncio.ensure_future(stop.wait())
        await asyncio.wait({starting, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            starting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await starting
            return
        starting.result()
        try:
            remember_last(paths)
            _say_what_runs(fleet, has_prometheus=prometheus_binary() is not None)
            await stop.wait()
            click.echo("\nstopping: sites, then the hub, then its API … (Ctrl-C again kills)")
        finally:
            await fleet.stop()
        click.echo("stopped; `quarterdeck up` goes on where this was.")


def _say_what_runs(fleet: object, *, has_prometheus: bool) -> None:
    from hub.cli.up.local_fleet import LocalFleet

    assert isinstance(fleet, LocalFleet)
    click.echo(f"  api         {fleet.url}")
    click.echo(f"  kubeconfig  {fleet.kubeconfig}")
    declared = [str(site["name"]) for site in fleet.sites if site.get("nodes")]
    click.echo(f"  sites       {', '.join(fleet.site_names)}" + (" (declared hardware: simulated)" if declared else ""))
    if fleet.prometheus_url:
        click.echo(f"  prometheus  {fleet.prometheus_url}")
    elif not has_prometheus:
        click.echo("  prometheus  none on PATH: scores come from the agents' own reports")
    click.echo("\nready. In another terminal:")
    click.echo("  quarterdeck run -- hostname")
    click.echo("  quarterdeck get clusters")
    click.echo(f"  kubectl --kubeconfig {fleet.kubeconfig} get fleetjobs -A")
