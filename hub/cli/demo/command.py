"""`quarterdeck demo`: the whole loop on this machine, over real files, with everything a person wants to see of it."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import click

from hub.api.errors import UsageError

_MARK = ".quarterdeck-demo"


@click.command(name="demo")
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    default=None,
    metavar="DIR",
    help="Where the demo keeps its hub; made anew each time (default: `demo` in $QUARTERDECK_HOME or ~/.quarterdeck).",
)
@click.option("--seed", default=2026, show_default=True, help="Seed of the generated FASTA files.")
def command(data: Path | None, seed: int) -> None:
    """Start a hub and three edge sites, run an array job over 60 files, show what happens, stop everything."""
    from hub.cli.connection import home

    directory = (data if data is not None else home() / "demo").expanduser().absolute()
    refuse_foreign(directory)
    sys.exit(asyncio.run(_demo(directory, seed)))


def refuse_foreign(directory: Path) -> None:
    """What is in the way of a demo is removed, so it must be a demo's. Raises `UsageError`."""
    if (directory / _MARK).is_file() or not directory.is_dir() or not any(directory.iterdir()):
        return
    raise UsageError(
        f"{directory} holds something that is no demo, and a demo starts with an empty directory",
        field="--data",
        hint="Give a directory that is empty or not there yet.",
    )


async def _demo(data: Path, seed: int) -> int:
    import yaml

    from hub.cli.demo import scene, tenants
    from hub.cli.demo.fasta import TRUNCATED, write_samples
    from hub.cli.demo.screen import Screen
    from hub.cli.demo.summary import print_summary
    from hub.cli.up.datadir import DataDirectory
    from hub.cli.up.local_fleet import LocalFleet
    from hub.client.session import Session

    began = time.monotonic()
    with DataDirectory(data) as paths:
        (data / _MARK).touch()
        for stale in ("api", "sites", "logs", "samples", "prometheus", "port"):
            target = data / stale
            shutil.rmtree(target, ignore_errors=True) if target.is_dir() else target.unlink(missing_ok=True)
        size = write_samples(data / "samples", seed=seed)
        (data / "fleet.yaml").write_text(yaml.safe_dump(scene.fleet_file(), sort_keys=False))
        click.echo(f"60 FASTA files ({size / 1e6:.1f} MB), {len(TRUNCATED)} of them cut short, in {data / 'samples'}")
        click.echo("starting a hub and three edge sites (their hardware is declared: simulated) …")
        notices: list[str] = []
        async with (
            LocalFleet(paths, scene.SITES, notices.append, hub_config={"queue": {"notice": tenants.NOTICE}}) as fleet,
            Session.from_kubeconfig(fleet.kubeconfig) as api,
        ):
            click.echo(f"all joined after {time.monotonic() - began:.1f} s")
            if not fleet.prometheus_url:
                click.echo("no prometheus on PATH: scores come from the agents' own reports")
            screen = Screen(api, notices)
            sharing = asyncio.create_task(tenants.play(api, screen.say))
            try:
                job, first_running = await screen.follow(scene.job(data / "samples"))
                results, errors = await _collect(api, job)
                story = await sharing
            finally:
                sharing.cancel()
        as_it_should = print_summary(job, results, errors, first_running, time.monotonic() - began, data, story)
    return 0 if as_it_should else 1


async def _collect(api: Any, job: dict[str, Any]) -> tuple[list[dict[str, Any]], dict[int, str]]:
    """What the tasks printed: a JSON line of each that succeeded, the last line of each that failed."""
    from hub.api.indexset import IndexSet
    from hub.cli.jobs import attempts_of
    from hub.cli.task_logs import read_logs, sources

    tasks = job["status"]["tasks"]
    results, errors = [], {}
    attempts = await attempts_of(api, job)
    for wanted in (IndexSet.parse(tasks.get("succeededIndexes", "")), IndexSet.parse(tasks.get("failedIndexes", ""))):
        for source in sources(job, attempts, wanted) if wanted else ():
            async for line in read_logs(api, job, source, click.echo, tail=1, follow=False):
                if line.text.startswith("{"):
                    results.append(json.loads(line.text))
                else:
                    errors[line.task] = line.text
    return results, errors
