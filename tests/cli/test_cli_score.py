"""`quarterdeck score test`: what a ScoreSource would say, from recorded answers and from a real Prometheus."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from hub.cli.main import main
from hub.cli.up.prometheus import prometheus_process


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    return int(ended.value.code or 0)


@pytest.fixture
def write(tmp_path: Path) -> Any:
    def written(name: str, content: Any) -> Path:
        path = tmp_path / name
        path.write_text(json.dumps(content) if name.endswith("json") else yaml.safe_dump_all(content))
        return path

    return written


def source(name: str = "busy", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "fleet.quarterdeck.dev/v1alpha1",
        "kind": "ScoreSource",
        "metadata": {"name": name},
        "spec": spec,
    }


def cluster(name: str, **labels: str) -> dict[str, Any]:
    return {
        "apiVersion": "cluster.open-cluster-management.io/v1",
        "kind": "ManagedCluster",
        "metadata": {"name": name, "labels": labels},
    }


def vector(**values: str) -> dict[str, Any]:
    result = [{"metric": {"cluster": name}, "value": [1767225600, value]} for name, value in values.items()]
    return {"status": "success", "data": {"resultType": "vector", "result": result}}


def test_recorded_answers_are_shown_raw_normalised_and_ranked(write: Any, capsys: pytest.CaptureFixture[str]) -> None:
    file = write("s.yaml", [source(promQL="x", direction="lower", weight=2, normaliser={"min": "0", "max": "100"})])
    data = write("d.json", vector(harbour="10", foundry="90", mill="NaN"))
    fleet = write("f.yaml", [cluster("harbour"), cluster("foundry"), cluster("mill"), cluster("quarry")])
    assert run("score", "test", file, "--data", data, "--fleet", fleet) == 0
    printed = capsys.readouterr()
    lines = [line.split() for line in printed.out.splitlines()]
    assert ["harbour", "10", "90", "180", "1"] in lines
    assert ["foundry", "90", "10", "20", "2"] in lines
    assert ["quarry", "unknown", "-", "-2", "4"] in lines
    assert "mill: 'NaN' is not a number" in printed.err


def test_the_document_says_the_same_and_targets_are_marked(write: Any, capsys: pytest.CaptureFixture[str]) -> None:
    file = write("s.yaml", [source(promQL="x", clusterSelector={"matchLabels": {"gpu": "yes"}})])
    fleet = write("f.yaml", [cluster("a", gpu="yes"), cluster("b", gpu="yes"), cluster("c")])
    data = write("d.json", vector(a="1", b="3", elsewhere="2"))
    assert run("score", "test", file, "--data", data, "--fleet", fleet, "-o", "json") == 0
    (result,) = json.loads(capsys.readouterr().out)
    rows = {row["cluster"]: row for row in result["clusters"]}
    assert (rows["b"]["normalised"], rows["b"]["rank"]) == (100, 1)
    assert rows["c"] == {"cluster": "c", "raw": None, "normalised": 50, "weighted": 50, "rank": 2, "targeted": False}
    assert "not in the fleet: elsewhere" in result["complaints"][-1]


def test_documents_matrices_and_answers_by_cluster(write: Any, capsys: pytest.CaptureFixture[str]) -> None:
    def raw(spec: dict[str, Any], data: Any) -> dict[str, float]:
        file = write("s.yaml", [source(**spec)])
        assert run("score", "test", file, "--data", write("d.json", data), "-o", "json") == 0
        (result,) = json.loads(capsys.readouterr().out)
        return {row["cluster"]: row["raw"] for row in result["clusters"]}

    assert raw({"httpJson": {"url": "http://x/", "items": "sites"}}, {"sites": {"a": 1}}) == {"a": 1}
    matrix = {"data": [{"metric": {"cluster": "a"}, "values": [[1, "5"], [2, "6"]]}]}
    assert raw({"promQL": "x"}, matrix) == {"a": 6}
    assert raw({"promQL": "x{c='${cluster}'}"}, {"a": [1, "7"], "b": vector(q="8")}) == {"a": 7, "b": 8}


def test_what_needs_no_answer_is_shown_too(write: Any, capsys: pytest.CaptureFixture[str]) -> None:
    both = [source("fixed", static={"values": {"a": "1", "b": "2"}}), source("said", report="label/rack")]
    fleet = write("f.yaml", [cluster("a", rack="4"), cluster("b")])
    assert run("score", "test", write("s.yaml", both), "--fleet", fleet, "-o", "json") == 0
    fixed, said = json.loads(capsys.readouterr().out)
    assert [row["raw"] for row in fixed["clusters"]] == [2, 1]
    assert [row["raw"] for row in said["clusters"]] == [4, None]


@pytest.mark.parametrize(
    ("spec", "options", "code", "said"),
    [
        ({"promQL": "x"}, [], 2, "--prometheus"),
        ({"promQL": "x", "report": "free/cpu"}, [], 2, "write exactly one of"),
        ({"promQL": "x", "normaliser": {"type": "log"}}, [], 2, "normaliser.type"),
        ({"promQL": "x"}, ["--prometheus", "http://127.0.0.1:9"], 1, "nobody answers"),
        ({"promQL": "x{c='${cluster}'}"}, ["--prometheus", "http://127.0.0.1:9"], 2, "say which there are"),
        ({"report": "free/cpu"}, [], 1, ""),
    ],
)
def test_mistakes_are_said(
    write: Any, capsys: pytest.CaptureFixture[str], spec: dict[str, Any], options: list[str], code: int, said: str
) -> None:
    assert run("score", "test", write("s.yaml", [source(**spec)]), *options) == code
    assert said in capsys.readouterr().err


def test_an_answer_without_values_fails(write: Any, capsys: pytest.CaptureFixture[str]) -> None:
    file = write("s.yaml", [source(promQL="x")])
    assert run("score", "test", file, "--data", write("d.json", vector(a="NaN"))) == 1
    assert "a: 'NaN' is not a number" in capsys.readouterr().err


class _Site(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.end_headers()
        self.wfile.write(b'busy{gpu="0"} 10\nbusy{gpu="1"} 30\n')

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def site() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Site)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


@pytest.mark.prometheus
@pytest.mark.slow
@pytest.mark.skipif(shutil.which("prometheus") is None, reason="no prometheus on PATH")
def test_a_live_prometheus_is_asked(write: Any, tmp_path: Path, site: str, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    binary = shutil.which("prometheus")
    assert binary is not None
    spec = prometheus_process(binary, tmp_path / "prometheus", port, {"harbour": site}, tmp_path / "log")
    process = subprocess.Popen(spec.argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        file = write("s.yaml", [source(promQL="busy", aggregation="max", normaliser={"type": "none"})])
        deadline = time.monotonic() + 40
        while run("score", "test", file, "--prometheus", f"http://127.0.0.1:{port}", "-o", "json") != 0:
            assert time.monotonic() < deadline
            capsys.readouterr()
            time.sleep(0.3)
        (result,) = json.loads(capsys.readouterr().out)
        assert result["clusters"][0] | {"weighted": 0} == {
            "cluster": "harbour", "raw": 30, "normalised": 30, "weighted": 0, "rank": 1, "targeted": True,
        }  # fmt: skip
    finally:
        process.terminate()
        process.wait(10)


class _Scorer(BaseHTTPRequestHandler):
    """A scorer of the Dynamic Scoring Framework's protocol: the last value of each series is its score."""

    def do_GET(self) -> None:
        params = {"query": "x", "range": 60, "step": 15}
        self._answer(
            {
                "name": "n", "description": "",
                "source": {"type": "Prometheus", "host": "http://127.0.0.1:9", "params": params},
                "scoring": {"path": "/s", "params": {"name": "load", "interval": 30}},
            }
        )  # fmt: skip

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.seen.append(self.headers.get("Authorization"))  # type: ignore[attr-defined]
        last = [{"metric": one["metric"], "score": float(one["values"][-1][1])} for one in request["data"]]
        self._answer({"results": last})

    def _answer(self, document: Any) -> None:
        body = json.dumps(document).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def scorer() -> Iterator[Any]:
    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), _Scorer)
    server.seen = []
    server.url = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def dynamic(url: str, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "dynamic-scoring.open-cluster-management.io/v1alpha1",
        "kind": "DynamicScorer",
        "metadata": {"name": "load", "namespace": "default"},
        "spec": {
            "description": "", "configURL": f"{url}/config", "configSyncMode": "Full", "location": "External",
            "scoreDestination": "AddOnPlacementScore", **spec,
        },
    }  # fmt: skip


def matrix(**values: str) -> dict[str, Any]:
    result = [{"metric": {"cluster": name}, "values": [[1767225600, value]]} for name, value in values.items()]
    return {"status": "success", "data": {"resultType": "matrix", "result": result}}


def test_a_dynamic_scorer_is_asked_with_recorded_data(
    scorer: Any, write: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    policy = {
        "apiVersion": "fleet.quarterdeck.dev/v1alpha1", "kind": "ScorerPolicy",
        "metadata": {"name": "load", "namespace": "default"},
        "spec": {"direction": "lower", "normaliser": {"min": "0", "max": "200"}, "clusters": {"deny": ["oak"]}},
    }  # fmt: skip
    secret = {
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "api", "namespace": "default"},
        "stringData": {"token": "t"},
    }  # fmt: skip
    auth = {"auth": {"tokenSecretRef": {"name": "api", "key": "token"}}}
    file = write("load.yaml", [dynamic(scorer.url, scoring=auth), policy, secret])
    fleet = write("fleet.yaml", [cluster("ash"), cluster("elm"), cluster("oak"), cluster("fir")])
    data = write("data.json", matrix(ash="50", elm="150", oak="1"))
    assert run("score", "test", file, "--data", data, "--fleet", fleet, "-o", "json") == 0
    (result,) = json.loads(capsys.readouterr().out)
    rows = {row["cluster"]: (row["raw"], row["normalised"], row["targeted"]) for row in result["clusters"]}
    assert rows == {
        "ash": (50, 75, True), "elm": (150, 25, True), "oak": (None, 50, False), "fir": (None, None, True),
    }  # fmt: skip
    assert result["complaints"] == ["fir: ScorerNoResults: the answer has no results"]
    assert scorer.seen == ["Bearer t"] * 3


def test_a_dynamic_scorer_that_cannot_be_had_is_said(
    scorer: Any, write: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    fleet = write("fleet.yaml", [cluster("ash")])
    # Its Prometheus is not there.
    file = write("load.yaml", [dynamic(scorer.url)])
    assert run("score", "test", file, "--fleet", fleet) == 1
    assert "ash: ScoreSourceFailed: 127.0.0.1:9 cannot be reached" in capsys.readouterr().err
    assert run("score", "test", file) != 0
    assert "say which there are" in capsys.readouterr().err
    file = write("load.yaml", [dynamic("http://127.0.0.1:9")])
    assert run("score", "test", file, "--fleet", fleet) != 0
    assert "127.0.0.1:9 cannot be reached" in capsys.readouterr().err
    file = write("load.yaml", [dynamic(scorer.url, location="External", scoring={"path": "no"})])
    assert run("score", "test", file, "--fleet", fleet) != 0
    assert "spec.scoring.path" in capsys.readouterr().err


def sourced(scorer: Any, **source_: Any) -> list[dict[str, Any]]:
    """A scorer whose data comes from elsewhere than Prometheus."""
    policy = {
        "apiVersion": "fleet.quarterdeck.dev/v1alpha1", "kind": "ScorerPolicy",
        "metadata": {"name": "load", "namespace": "default"}, "spec": {"source": source_},
    }  # fmt: skip
    return [dynamic(scorer.url), policy]


def test_h_other_sources_of_a_dynamic_scorer_are_tried_too(
    scorer: Any, write: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def raw(*options: object) -> dict[str, float]:
        run("score", "test", file, *options, "--fleet", fleet, "-o", "json")
        (result,) = json.loads(capsys.readouterr().out)
        said.extend(result["complaints"])
        return {row["cluster"]: row["raw"] for row in result["clusters"]}

    said: list[str] = []
    fleet = write("fleet.yaml", [cluster("ash"), cluster("elm")])
    file = write("load.yaml", sourced(scorer, static={"values": {"ash": "7"}, "default": "3"}))
    assert raw() == {"ash": 7, "elm": 3}
    # The document as it was recorded.
    document = {"url": "http://127.0.0.1:9/x", "items": "sites", "cluster": "name", "value": "load"}
    file = write("load.yaml", sourced(scorer, httpJson=document))
    data = write("data.json", {"sites": [{"name": "ash", "load": 4}, {"name": "elm", "load": 5}]})
    assert raw("--data", data) == {"ash": 4, "elm": 5}
    # A program only where the configuration has it.
    program = tmp_path / "power"
    program.write_text("#!/bin/sh\necho 11\n")
    program.chmod(0o755)
    file = write("load.yaml", sourced(scorer, exec={"program": "power"}))
    said.clear()
    assert raw() == {"ash": None, "elm": None}
    assert said[0] == "ash: ScorerNotAllowed: may not run power: sources.programs in the configuration has none"
    config = write("hub.yaml", [{"sources": {"programs": {"power": [str(program)]}}}])
    assert raw("--config", config) == {"ash": 11, "elm": 11}
    # What may not be asked is not asked from here either.
    config = write("hub.yaml", [{"sources": {"allow": ["*.example"]}}])
    assert run("score", "test", file, "--config", config, "--fleet", fleet) != 0
    assert "may not ask 127.0.0.1" in capsys.readouterr().err
