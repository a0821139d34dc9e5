"""`quarterdeck backup` and `quarterdeck restore`: the embedded API's objects, keys and tokens in one file.

Both work on the directory, not over the API: a backup is for when the API is no longer there.
"""

from __future__ import annotations

from pathlib import Path

import click

_DIRECTORY = click.Path(path_type=Path, file_okay=False)


@click.command(name="backup")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--data", type=_DIRECTORY, metavar="DIR", help="Of `up` or of the API (default: as `up`).")
def command(file: Path, data: Path | None) -> None:
    """Write all that the API holds to FILE, while it runs or not.

    \b
      quarterdeck backup fleet.tar.gz                  of the hub that `quarterdeck up` runs here
      quarterdeck backup --data /var/lib/qd day.tar.gz

    FILE has the API's keys and tokens, too: keep it as you keep those.
    """
    from hub.apiserver.backup import back_up, store_directory
    from hub.cli.connection import home

    made = back_up(store_directory((data or home()).expanduser()), file.expanduser())
    click.echo(f"{file}: {made.objects} objects as of resourceVersion {made.version}, {made.size / 2**20:.1f} MiB")
