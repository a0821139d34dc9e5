"""A Prometheus beside the hub, where one is on PATH.

Which targets it scrapes and how it is started. Scores need it; nothing else does.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import yaml

from hub.cli.up.processes import ProcessSpec


def prometheus_binary() -> str | None:
    return shutil.which("prometheus")


def prometheus_process(
    binary: str, directory: Path, port: int, targets: Mapping[str, str], log: Path, *, hub: str = ""
) -> ProcessSpec:
    """`targets`: cluster → host:port of the site's metrics, whose series get the label `cluster`. `hub`: of its own."""
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    config = {
        "global": {"scrape_interval": "2s", "scrape_timeout": "2s"},
        "scrape_configs": [
            {
                "job_name": "sites",
                "honor_labels": True,
                "static_configs": [
                    {"targets": [address], "labels": {"cluster": cluster}}
                    for cluster, address in sorted(targets.items())
                ],
            },
            *([{"job_name": "hub", "static_configs": [{"targets": [hub]}]}] if hub else []),
        ],
    }
    (directory / "prometheus.yml").write_text(yaml.safe_dump(config, sort_keys=False))
    return ProcessSpec(
        name="prometheus",
        argv=(
            binary,
            f"--config.file={directory / 'prometheus.yml'}",
            f"--storage.tsdb.path={directory / 'data'}",
            "--storage.tsdb.retention.time=2d",
            f"--web.listen-address=127.0.0.1:{port}",
            "--log.level=warn",
        ),
        log=log,
        grace=5.0,
    )
