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
