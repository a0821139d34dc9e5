"""The agent's command line. Only what was written is judged here; files and addresses are tried by those who use them.

It imports nothing that takes time: a mistake is answered at once.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from hub.api.errors import InvalidObjectError, UsageError
from hub.api.timestamps import parse_duration

_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_LEVELS = ("debug", "info", "warning", "error")


@dataclass(frozen=True, slots=True)
class Options:
    """`site_file` given: an edge site. Else a Kubernetes cluster, by `kubeconfig` or as a pod of it."""

    cluster: str
    data: Path
    hub_kubeconfig: Path
    site_file: Path | None = None
    kubeconfig: Path | None = None
    labels: dict[str, str] = field(default_factory=dict)
    metrics_listen: str | None = None
    stop_tasks_on_exit: bool = False
    eviction_grace: float = 3600.0
    sources: Path | None = None
    log_level: str = "info"


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(message, hint=f"`{self.prog} --help` lists the options.")


def parse(arguments: Sequence[str]) -> Options:
    """Raises `UsageError`; `SystemExit` for --help and --version."""
    parser = _Parser(
        prog="quarterdeck-agent",
        description="Joins this machine or cluster to a Quarterdeck hub and carries out the work it is given.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--cluster", required=True, metavar="NAME", help="name of this cluster on the hub")
    add("--data", required=True, type=Path, metavar="DIR", help="directory of this agent, and of it alone")
    add(
        "--hub-kubeconfig", required=True, type=Path, metavar="FILE", help="where the hub is, and the credential for it"
    )
    add("--site-file", type=Path, metavar="FILE", help="be an edge site without Kubernetes, as this file declares it")
    add("--kubeconfig", type=Path, metavar="FILE", help="the Kubernetes cluster to join (default: the one it runs in)")
    add("--label", action="append", default=[], metavar="KEY=VALUE", help="label of a Kubernetes cluster on the hub")
    add("--metrics-listen", metavar="HOST:PORT", help="serve /metrics and /healthz here")
    add("--stop-tasks-on-exit", action="store_true", help="end this site's tasks when told to stop (edge sites only)")
    add("--eviction-grace", default="1h", metavar="TIME", help="how long to keep work that the hub lost (default 1h)")
    add("--sources", type=Path, metavar="FILE", help="whom and what scorers may have asked here (YAML)")
    add("--log-level", default="info", choices=_LEVELS, metavar="LEVEL", help=f"{', '.join(_LEVELS)} (default info)")
    add("--version", action="store_true", help="print the version and end")
    if "--version" in arguments:
        from importlib.metadata import version

        parser.exit(0, f"quarterdeck-agent {version('quarterdeck')}\n")
    found = parser.parse_args(list(arguments))
    if not _NAME.fullmatch(found.cluster):
        raise UsageError(
            f"{found.cluster!r} is not a cluster name: lower-case letters, digits and '-', at most 63",
            field="--cluster",
        )
    if found.site_file is not None:
        for option, value in (("--kubeconfig", found.kubeconfig), ("--label", found.label)):
            if value:
                raise UsageError(f"an edge site has none: drop it, or drop --site-file {found.site_file}", field=option)
    elif found.stop_tasks_on_exit:
        raise UsageError("a Kubernetes cluster's tasks do not end with its agent", field="--stop-tasks-on-exit")
    return Options(
        cluster=found.cluster,
        data=found.data,
        hub_kubeconfig=found.hub_kubeconfig,
        site_file=found.site_file,
        kubeconfig=found.kubeconfig,
        labels=_labels(found.label),
        metrics_listen=found.metrics_listen,
        stop_tasks_on_exit=found.stop_tasks_on_exit,
        eviction_grace=_seconds(found.eviction_grace),
        sources=found.sources,
        log_level=found.log_level,
    )


def _seconds(duration: str) -> float:
    try:
        return parse_duration(duration).total_seconds()
    except InvalidObjectError as error:
        raise UsageError(str(error), field="--eviction-grace") from error


def _labels(pairs: Sequence[str]) -> dict[str, str]:
    labels = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not key or not equals:
            raise UsageError(f"{pair!r} is not KEY=VALUE", field="--label")
        labels[key] = value
    return labels
