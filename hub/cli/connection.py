"""Which hub a command talks to, and the namespace it means."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Any

import click

from hub.api.errors import UsageError
from hub.cli.invocation import command_line
from hub.client.session import Session


def kubeconfig_path(ctx: click.Context) -> Path:
    """The first of: --kubeconfig, $QUARTERDECK_KUBECONFIG, the last `quarterdeck up`, $KUBECONFIG, ~/.kube/config.

    Raises `UsageError` when none of them is there.
    """
    explicit = ctx.find_root().obj.get("kubeconfig") or os.environ.get("QUARTERDECK_KUBECONFIG")
    if explicit:
        path = Path(explicit).expanduser()
        if not path.is_file():
            raise UsageError(f"there is no kubeconfig at {path}", field="--kubeconfig")
        return path
    candidates, last = [], None
    if (home() / "current").is_file():
        last = Path((home() / "current").read_text().strip())
        candidates.append(last)
    candidates += [Path(part).expanduser() for part in os.environ.get("KUBECONFIG", "").split(os.pathsep) if part]
    candidates.append(Path("~/.kube/config").expanduser())
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    raise UsageError(
        "no hub to talk to: no kubeconfig found" + (f" (that of the last `up` was {last})" if last else ""),
        hint="Start a hub with `quarterdeck up`, or name its kubeconfig with --kubeconfig FILE.",
    )


def home() -> Path:
    """$QUARTERDECK_HOME, else ~/.quarterdeck: where `up` keeps everything unless told, and which hub was the last."""
    return Path(os.environ.get("QUARTERDECK_HOME") or "~/.quarterdeck").expanduser()


def how_to_start(ctx: click.Context) -> str:
    """What to do when nobody answers, where the hub is one of `quarterdeck up`; empty where that is not known."""
    try:
        directory = kubeconfig_path(ctx).absolute().parent
    except UsageError:
        return ""
    if not (directory / "hub.yaml").is_file():
        return ""
    where = "" if directory == home().absolute() else f" --data {shlex.quote(str(directory))}"
    return f"Its hub is not running. Start it again: `{command_line()} up{where}`"


def connect(ctx: click.Context) -> Session:
    return Session.from_kubeconfig(kubeconfig_path(ctx))


def namespace(ctx: click.Context) -> str:
    """The one given with -n, else the kubeconfig context's, else `default`."""
    given = ctx.find_root().obj.get("namespace")
    if given:
        return str(given)
    import yaml

    config: dict[str, Any] = yaml.safe_load(kubeconfig_path(ctx).read_text()) or {}
    for context in config.get("contexts") or []:
        if context.get("name") == config.get("current-context"):
            return str((context.get("context") or {}).get("namespace") or "default")
    return "default"
