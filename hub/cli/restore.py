"""`quarterdeck restore`: what `quarterdeck backup` wrote, put where an API can be started on it."""

from __future__ import annotations

import time
from pathlib import Path

import click


@click.command(name="restore")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@click.option(
    "--data",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Where the API is to find it; for `up`, its directory with /api added.",
)
def command(file: Path, data: Path) -> None:
    """Put a backup into DIR, which must not have a store.

    \b
      quarterdeck restore fleet.tar.gz --data fleet/api && quarterdeck up --data fleet

    Certificates and tokens are those of the backup, so kubeconfigs stay right where the address does. Clients list
    anew; what was written after the backup is gone.
    """
    from hub.apiserver.backup import restore

    found = restore(file.expanduser(), data.expanduser())
    taken = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(found.taken))
    click.echo(f"{data}: {found.objects} objects, as they were at {taken}")
