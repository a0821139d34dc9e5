"""What a refresh of many PromQL sources costs: a real Prometheus, the production clients, and columns in a fleet.

A thousand clusters with twenty series each are scraped from a page that this process serves; then every source is
asked once, as at an interval's end when all fall due together. CPU is this process's own: Prometheus pays for itself.
"""

from __future__ import annotations

import queue
import random
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import orjson

from bench.placement import _cluster
from bench.report import Figure
from hub.controllers.asking import Asking, SourceReport
from hub.controllers.source_clients import Access, SourceClients
from hub.fleet.changes import ClusterSeen, FleetChange, ScoresSeen
from hub.fleet.fleet import Fleet
from hub.scoring.source import SourceQuery, parse_source

_CLUSTERS, _SOURCES, _ROUNDS = 1_000, 20, 5
_PATIENCE = 60.0
_CONFIG = """\
global: {scrape_interval: 1s, scrape_timeout: 1s}
scrape_configs:
- {job_name: fleet, honor_labels: true, sample_limit: 0, static_configs: [{targets: ["127.0.0.1:%d"]}]}
"""


def run() -> list[Figure]:
    binary = shutil.which("prometheus")
    if binary is None:
        print("no prometheus on PATH: nothing measured here")
        return []
    page = ThreadingHTTPServer(("127.0.0.1", 0), _Metrics)
    Thread(target=page.serve_forever, daemon=True).start()
    try:
        with tempfile.TemporaryDirectory() as directory:
            return _beside_prometheus(binary, Path(directory), page.server_address[1])
    finally:
        page.shutdown()
        page.server_close()


def _beside_prometheus(binary: str, directory: Path, scraped: int) -> list[Figure]:
    port = _free_port()
    (directory / "prometheus.yml").write_text(_CONFIG % scraped)
    command = [
        binary,
        f"--config.file={directory / 'prometheus.yml'}",
        f"--storage.tsdb.path={directory / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=error",
    ]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        url = f"http://127.0.0.1:{port}"
        _wait_for_series(url)
        return _measure(url)
    finally:
        server.terminate()
        server.wait(10)


def _measure(url: str) -> list[Figure]:
    generator = random.Random(7)
    fleet = Fleet.empty().apply([ClusterSeen(_cluster(_name(n), generator)) for n in range(_CLUSTERS)])
    clients = SourceClients(url, Access(), clusters=lambda name: fleet.names)
    walls, cpus = [], []
    for _ in range(_ROUNDS):
        wall, cpu, fleet = _refresh(clients, fleet)
        walls.append(wall)
        cpus.append(cpu)
    what = f"{_SOURCES} PromQL sources × {_CLUSTERS:,} clusters, a refresh"
    return [
        Figure(f"{what}: wall", statistics.median(walls), 0.5, "s"),
        Figure(f"{what}: the hub's CPU", statistics.median(cpus) * 1e3, 150.0, "ms"),
    ]


def _refresh(clients: SourceClients, fleet: Fleet) -> tuple[float, float, Fleet]:
    """All sources due at once, their answers folded into the fleet: seconds of wall, seconds of CPU, the fleet."""
    news: queue.SimpleQueue[FleetChange] = queue.SimpleQueue()
    reports: queue.SimpleQueue[SourceReport] = queue.SimpleQueue()
    asking = Asking(clients, feed=news.put, report=lambda _, report: reports.put(report), interval=3600.0)
    for number in range(_SOURCES):
        asking.set_source(f"source-{number}", _source(number))
    started, cpu = time.perf_counter(), time.process_time()
    asking.start()
    changes = []
    for _ in range(_SOURCES):
        change = news.get(timeout=_PATIENCE)
        assert isinstance(change, ScoresSeen)
        assert len(change.values) == _CLUSTERS, f"{change.source} has {len(change.values)} clusters"
        changes.append(change)
    fleet = fleet.apply(changes)
    for change in changes:
        fleet.scores(change.source, time.time())
    wall, cpu = time.perf_counter() - started, time.process_time() - cpu
    asking.stop()
    return wall, cpu, fleet


def _source(number: int) -> SourceQuery:
    query = parse_source({"promQL": f"avg by (cluster) (bench_metric_{number})", "validFor": "1m"}).query
    assert query is not None
    return query


def _name(number: int) -> str:
    return f"cluster-{number:04d}"


class _Metrics(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        generator = random.Random(1)
        lines = [
            f'bench_metric_{metric}{{cluster="{_name(n)}"}} {generator.random():.6f}'
            for metric in range(_SOURCES)
            for n in range(_CLUSTERS)
        ]
        body = ("\n".join(lines) + "\n").encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


def _wait_for_series(url: str) -> None:
    query = urllib.parse.quote('count({__name__=~"bench_metric_.*"})')
    end = time.monotonic() + _PATIENCE
    while time.monotonic() < end:
        try:
            with urllib.request.urlopen(f"{url}/api/v1/query?query={query}", timeout=5) as answer:
                result = orjson.loads(answer.read())["data"]["result"]
            if result and float(result[0]["value"][1]) == _CLUSTERS * _SOURCES:
                return
        except OSError:
            pass
        time.sleep(0.2)
    sys.exit("prometheus did not scrape the bench's page in time")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
