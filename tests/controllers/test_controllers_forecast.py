"""A source that is forecast: asked of a real Prometheus with days behind it, and said in the source's status."""

from __future__ import annotations

import math
import shutil
import socket
import subprocess
import time
from typing import Any

import pytest
import requests
from controllers_scene import Scene, until

from hub.api import names
from hub.api.conditions import find_condition
from hub.api.resource import SCORE_SOURCES
from hub.asking.access import Access
from hub.controllers.source_clients import SourceClients
from hub.scoring.answer import LAST
from hub.scoring.source import parse_source

HOUR = 3600.0
needs_prometheus = pytest.mark.skipif(
    shutil.which("prometheus") is None or shutil.which("promtool") is None, reason="no prometheus and promtool on PATH"
)


def load(cluster: str, hour: int) -> float:
    phase = {"ash": 0.0, "elm": math.pi}[cluster]
    return 50 + 40 * math.sin(2 * math.pi * hour / 24 + phase)


@pytest.fixture(scope="module")
def days(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A Prometheus that knows the last four days of two clusters."""
    where = tmp_path_factory.mktemp("prometheus")
    first = int(time.time() // HOUR) - 4 * 24
    # Samples closer together than a query looks back.
    lines = ["# TYPE load gauge"]
    for cluster in ("ash", "elm"):
        for quarter in range(4 * 24 * 15 + 1):
            at = first * HOUR + quarter * 240
            lines.append(f'load{{cluster="{cluster}"}} {load(cluster, int(at // HOUR))} {at}')
    (where / "history.om").write_text("\n".join([*lines, "# EOF", ""]))
    made = subprocess.run(
        ["promtool", "tsdb", "create-blocks-from", "openmetrics", str(where / "history.om"), str(where / "data")],
        capture_output=True, text=True, timeout=100,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    (where / "prometheus.yml").write_text("scrape_configs: []\n")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    with (where / "log").open("w") as log:
        process = subprocess.Popen(
            [
                "prometheus", f"--config.file={where / 'prometheus.yml'}", f"--storage.tsdb.path={where / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}", "--storage.tsdb.retention.time=30d",
            ],
            stdout=log, stderr=log,
        )  # fmt: skip
    try:
        deadline = time.monotonic() + 30
        while True:
            try:
                if requests.get(f"{url}/-/ready", timeout=1).status_code == 200:
                    break
            except requests.RequestException:
                pass
            assert time.monotonic() < deadline, (where / "log").read_text()
            assert process.poll() is None, (where / "log").read_text()
            time.sleep(0.1)
        yield url
    finally:
        process.terminate()
        process.wait(20)


@needs_prometheus
@pytest.mark.prometheus
@pytest.mark.parametrize("promql", ["load", 'load{cluster="${cluster}"}'])
def test_what_was_is_read_and_the_next_hours_are_foreseen(days: str, promql: str) -> None:
    query = parse_source({"promQL": promql, "forecast": {"horizon": "6h", "history": "90h"}}).query
    assert query is not None
    clients = SourceClients(days, Access(), clusters=lambda name: ("ash", "elm"))
    answer = clients("s", query)
    hour = int(time.time() // HOUR) + 6
    assert answer.complaints == ()
    assert answer.values == pytest.approx({name: load(name, hour) for name in ("ash", "elm")}, abs=1.0)
    assert answer.quality is not None
    assert answer.quality.method != LAST
    assert answer.quality.error is not None
    assert answer.quality.last_error is not None
    assert answer.quality.error < answer.quality.last_error / 10


@needs_prometheus
@pytest.mark.prometheus
async def test_how_well_it_does_is_in_the_sources_status(days: str, scene: Scene) -> None:
    await scene.hub(prometheus={"url": days, "interval": "1s"})
    body = {
        "apiVersion": names.API_VERSION,
        "kind": "ScoreSource",
        "metadata": {"name": "load"},
        "spec": {"promQL": "load", "forecast": {"horizon": "6h", "history": "90h", "method": "seasonalNaive"}},
    }
    await scene.api.create(SCORE_SOURCES, body)

    async def said() -> Any:
        return ((await scene.api.get(SCORE_SOURCES, "load")).get("status") or {}).get("forecast")

    found = await until(said, 15)
    assert (found["method"], found["tries"] > 20) == ("seasonalNaive", True)
    assert float(found["error"]) < float(found["lastValueError"])
    ready = find_condition((await scene.api.get(SCORE_SOURCES, "load"))["status"]["conditions"], "Ready")
    assert ready is not None
    assert ready["status"] == "True"
    assert "forecast 6h ahead by seasonalNaive: off by" in ready["message"]
