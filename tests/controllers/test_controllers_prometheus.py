"""PromQL scores: what is fed to the fleet, what is said of a source, and that a bad source costs only itself."""

from __future__ import annotations

import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from hub.api.errors import InvalidObjectError
from hub.cli.up.prometheus import prometheus_process
from hub.controllers.prometheus import PromQLScores, SourceQuery, SourceReport
from hub.fleet.changes import FleetChange, ScoresGone, ScoresSeen

QUERY = SourceQuery("x", valid_for=60.0)


class Scores:
    """PromQLScores with everything it says kept, and a clock and a Prometheus in the test's hands."""

    def __init__(self, url: str = "http://127.0.0.1:9", ask: Any = None, interval: float = 3600.0) -> None:
        self.fed: list[FleetChange] = []
        self.said: list[tuple[str, SourceReport]] = []
        self.now = 1000.0
        self.scores = PromQLScores(
            url,
            feed=self.fed.append,
            report=lambda name, report: self.said.append((name, report)),
            interval=interval,
            clock=lambda: self.now,
            ask=ask,
        )


def vector(**values: float) -> list[dict[str, Any]]:
    return [{"metric": {"cluster": cluster}, "value": [0, str(value)]} for cluster, value in values.items()]


def test_values_are_fed_with_the_time_until_which_they_count() -> None:
    scores = Scores(ask=lambda query: vector(a=1, b=2))
    scores.scores.set_source("load", QUERY)
    scores.scores.refresh()
    assert scores.fed == [ScoresSeen("load", {"a": 1.0, "b": 2.0}, 1060.0)]
    assert scores.said == [("load", SourceReport(2, 1000.0))]


def test_a_source_that_fails_keeps_its_values_until_they_are_stale_and_the_others_go_on() -> None:
    answers: dict[str, Any] = {"good": vector(a=1), "bad": vector(a=1)}

    def ask(query: SourceQuery) -> object:
        if isinstance(answers[query.promql], Exception):
            raise answers[query.promql]
        return answers[query.promql]

    scores = Scores(ask=ask)
    for name in answers:
        scores.scores.set_source(name, SourceQuery(name, valid_for=60.0))
    scores.scores.refresh()
    answers["bad"] = ConnectionError("refused")
    scores.now += 30
    scores.scores.refresh()
    assert scores.said[2][1].reason == "ScoreSourceFailed"
    assert scores.said[2][1].clusters == 1
    assert scores.said[3][1].reason == ""
    scores.now += 31
    scores.scores.refresh()
    name, report = scores.said[4]
    assert (name, report.reason, report.clusters, report.at) == ("bad", "ScoreStale", 0, 1000.0)
    assert "1m1s old" in report.message


def test_an_answer_without_series_is_said_and_feeds_nothing() -> None:
    scores = Scores(ask=lambda query: [])
    scores.scores.set_source("load", QUERY)
    scores.scores.refresh()
    assert scores.fed == []
    assert "no series matches" in scores.said[0][1].message


def test_a_source_removed_while_it_is_asked_says_nothing_more() -> None:
    def ask(query: SourceQuery) -> object:
        scores.scores.remove_source("load")
        return vector(a=1)

    scores = Scores(ask=ask)
    scores.scores.set_source("load", QUERY)
    scores.scores.refresh()
    assert scores.fed == [ScoresGone("load")]
    assert scores.said == []


def test_a_spec_that_cannot_work_names_its_field() -> None:
    with pytest.raises(InvalidObjectError, match=r"spec\.promQL"):
        SourceQuery.parse({"promQL": " "})
    assert SourceQuery.parse({"promQL": "up", "validFor": "1m"}) == SourceQuery("up", valid_for=60.0)


def test_a_hanging_prometheus_does_not_hold_up_the_stop() -> None:
    hang = threading.Event()
    scores = Scores(ask=lambda query: hang.wait(30))
    scores.scores.set_source("load", QUERY)
    scores.scores.start()
    time.sleep(0.05)
    started = time.monotonic()
    scores.scores.stop()
    hang.set()
    assert time.monotonic() - started < 2


def test_nobody_at_the_address_is_said_in_words() -> None:
    scores = Scores()
    scores.scores.set_source("load", SourceQuery("up", timeout=2.0))
    scores.scores.refresh()
    assert "nobody answers" in scores.said[0][1].message


class _Site(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = b"# TYPE DCGM_FI_DEV_GPU_UTIL gauge\n" + self.server.text.encode()  # type: ignore[attr-defined]
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def sites() -> Iterator[dict[str, str]]:
    servers = {}
    for name, busy in (("harbour", 10), ("foundry", 90)):
        server = HTTPServer(("127.0.0.1", 0), _Site)
        server.text = f'DCGM_FI_DEV_GPU_UTIL{{gpu="0"}} {busy}\nDCGM_FI_DEV_GPU_UTIL{{gpu="1"}} {busy}\n'  # type: ignore[attr-defined]
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers[name] = server
    yield {name: f"127.0.0.1:{server.server_address[1]}" for name, server in servers.items()}
    for server in servers.values():
        server.shutdown()
        server.server_close()


@pytest.mark.prometheus
@pytest.mark.slow
@pytest.mark.skipif(shutil.which("prometheus") is None, reason="no prometheus on PATH")
def test_a_real_prometheus_scrapes_the_sites_and_answers_for_the_whole_fleet(
    tmp_path: Path, sites: dict[str, str]
) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    binary = shutil.which("prometheus")
    assert binary is not None
    spec = prometheus_process(binary, tmp_path / "prometheus", port, sites, tmp_path / "log")
    process = subprocess.Popen(spec.argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        scores = Scores(f"http://127.0.0.1:{port}")
        scores.scores.set_source("gpu", SourceQuery("avg by (cluster) (DCGM_FI_DEV_GPU_UTIL)"))
        scores.scores.set_source("typo", SourceQuery("avg by cluster) ("))
        deadline = time.monotonic() + 40
        while not any(isinstance(change, ScoresSeen) for change in scores.fed) and time.monotonic() < deadline:
            time.sleep(0.3)
            scores.scores.refresh()
        seen = [change for change in scores.fed if isinstance(change, ScoresSeen)]
        while len(seen) < 1 or len(seen[-1].values) < 2:
            assert time.monotonic() < deadline, scores.said[-2:]
            time.sleep(0.3)
            scores.scores.refresh()
            seen = [change for change in scores.fed if isinstance(change, ScoresSeen)]
        assert dict(seen[-1].values) == {"foundry": 90.0, "harbour": 10.0}
        typo = [report for name, report in scores.said if name == "typo"][-1]
        assert typo.reason == "ScoreSourceFailed"
        assert "parse error" in typo.message
    finally:
        process.terminate()
        process.wait(10)
