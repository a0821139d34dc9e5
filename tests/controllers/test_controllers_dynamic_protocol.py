"""A: DynamicScorers end to end: a hub, agents, and scorers that speak the framework's protocol over real HTTP."""

from __future__ import annotations

import asyncio
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
from controllers_scene import Scene, until
from controllers_scorer import (
    FakePrometheus,
    Scorer,
    always,
    condition,
    policy_object,
    published,
    says,
    scorer_object,
    series,
)

from hub.api.resource import DYNAMIC_SCORERS, DYNAMIC_SCORING_CONFIGS, SCORER_POLICIES
from hub.cli.up.prometheus import prometheus_process

Json = dict[str, Any]


async def test_a_mode_full_scorer_is_asked_about_each_cluster_and_its_scores_are_published(
    scene: Scene, prometheus: FakePrometheus, scorer: Scorer
) -> None:
    prometheus.series = lambda query: [
        series([10, 20], cluster="ash", node="n1"),
        series([2.5, "NaN"], cluster="ash", node="n2"),
        series([40.0], cluster="elm", node="n1"),
    ]
    source = {
        "type": "Prometheus", "host": prometheus.url, "path": "/api/v1/query_range",
        "params": {"query": "avg by (cluster, node) (node_load1)", "range": 3600, "step": 30},
    }  # fmt: skip
    scorer.config["source"] = source
    scorer.answer = lambda request: {
        "results": [{"metric": one["metric"], "score": float(one["values"][0][1])} for one in request["data"]]
    }
    hub = await scene.hub()
    for name in ("ash", "elm"):
        await scene.agent(name)
    await scene.available("ash", "elm")
    body = scorer_object("load", scorer.url, scoreDimensionFormat="${scoreName}/${node}")
    await scene.api.create(DYNAMIC_SCORERS, body, "default")
    await until(lambda: published(scene, "elm", "my-score"))
    assert await published(scene, "ash", "my-score") == {"my_score/n1": 10, "my_score/n2": 2}
    assert await published(scene, "elm", "my-score") == {"my_score/n1": 40}
    ready = await says(scene, "load", "Ready", "ScoreAnswered")
    assert ready["observedGeneration"] == 1
    status = (await scene.api.get(DYNAMIC_SCORERS, "load", "default"))["status"]
    assert status["healthStatus"] == "Active"
    assert status["lastSyncedConfig"]["scoring"] == {"path": "/scoring", "params": {"name": "my_score", "interval": 1}}
    # One query for the whole fleet, in whole seconds; numbers as Prometheus gave them.
    path, parameters, _ = prometheus.asked[0]
    assert (path, parameters["query"], parameters["step"]) == ("/api/v1/query_range", source["params"]["query"], "30")
    assert int(parameters["end"]) - int(parameters["start"]) == 3600
    sent = {headers["X-Quarterdeck-Cluster"]: request for headers, request in scorer.asked[:2]}
    assert sent["elm"] == {"data": [series([40.0], cluster="elm", node="n1")]}
    assert all(headers["Content-Type"] == "application/json" for headers, _ in scorer.asked)
    hub.world.refresh()
    assert list(hub.world.fleet.scores("Dynamic/my_score", time.time())) == [6.25, 40.0]


async def test_a_mode_none_scorer_is_known_by_its_health_and_gets_an_empty_list(scene: Scene, scorer: Scorer) -> None:
    scorer.answer = always(81.5, app="app01", device="all")
    await scene.hub(scorers={"dynamic": {"sync": "100ms"}})
    await scene.agent("ash")
    await scene.available("ash")
    scoring = {"path": "/scoring", "params": {"name": "perf", "interval": 1}}
    body = scorer_object(
        "perf",
        scorer.url,
        mode="None",
        source={"type": "None"},
        scoring=scoring,
        scoreDimensionFormat="${app};${device}",
    )
    await scene.api.create(DYNAMIC_SCORERS, body, "default")
    # Halves go to the even neighbour.
    assert await until(lambda: published(scene, "ash", "perf")) == {"app01;all": 82}
    assert scorer.asked[0][1] == {"data": []}
    assert scorer.config_asked == 0
    assert scorer.health_asked > 0
    scorer.health_status = 503
    assert "healthz answers 503" in (await says(scene, "perf", "Synced", "ScorerInactive"))["message"]
    status = (await scene.api.get(DYNAMIC_SCORERS, "perf", "default"))["status"]
    assert status["healthStatus"] == "Inactive"
    assert "lastSyncedConfig" not in status
    # Who is not healthy is not asked.
    asked = len(scorer.asked)
    await asyncio.sleep(1.3)
    assert len(scorer.asked) <= asked + 1
    scorer.health_status = 200
    await says(scene, "perf", "Synced", "ScorerSynced")


async def test_a_no_data_is_an_empty_list_and_never_null(
    scene: Scene, prometheus: FakePrometheus, scorer: Scorer
) -> None:
    source = {"type": "Prometheus", "host": prometheus.url, "params": {"query": "x;y", "range": 60, "step": 15}}
    scorer.config["source"] = source
    await scene.hub()
    await scene.agent("ash")
    await scene.available("ash")
    await scene.api.create(DYNAMIC_SCORERS, scorer_object("load", scorer.url), "default")
    await until(lambda: scorer.asked)
    assert scorer.asked[0][1] == {"data": []}
    assert [parameters["query"] for _, parameters, _ in prometheus.asked[:2]] == ["x", "y"]
    assert "no results" in (await says(scene, "load", "Answering", "ScorerNoResults"))["message"]


_ANSWERS = {
    "ScorerRequestRefused": lambda request: (422, b'{"detail": "data is null"}'),
    "ScorerFailed": lambda request: (500, b"Internal Server Error"),
    "ScorerAnswerNotJSON": lambda request: (200, b"<html>login</html>"),
    "ScorerAnswerUnusable": lambda request: {"scores": []},
    "ScoreNotANumber": always(None, node="n1"),
}


async def test_a_each_way_to_fail_has_a_reason_and_a_metric_of_its_own_and_gives_no_score(scene: Scene) -> None:
    hub = await scene.hub()
    await scene.agent("ash")
    await scene.available("ash")
    scorers = {}
    try:
        for reason, answer in {**_ANSWERS, "ScorerTimeout": always(1.0), "ScorerUnreachable": always(1.0)}.items():
            name = reason.lower()
            scorers[reason] = scorer = await Scorer(name).start()
            scorer.answer = answer
            if reason == "ScorerTimeout":
                scorer.hang = 60
                await scene.api.create(SCORER_POLICIES, policy_object(name, timeout="300ms"), "default")
            elif reason == "ScorerUnreachable":
                with socket.socket() as nobody:
                    nobody.bind(("127.0.0.1", 0))
                    scorer.config["scoring"]["host"] = f"http://127.0.0.1:{nobody.getsockname()[1]}"
            await scene.api.create(DYNAMIC_SCORERS, scorer_object(name, scorer.url), "default")
        for reason in scorers:
            name = reason.lower()
            ready = await says(scene, name, "Ready", reason)
            assert (ready["status"], ready["observedGeneration"]) == ("False", 1)
            assert "ash: " in ready["message"]
            assert (await condition(scene, name, "Answering"))["reason"] == reason
            assert await published(scene, "ash", name) is None
            count = hub.metrics.registry.get_sample_value(
                "quarterdeck_dynamic_scorer_failures_total", {"scorer": f"default/{name}", "reason": reason}
            )
            assert count is not None
            assert count >= 1
            failed = {"score_name": name, "status": "failure"}
            assert (hub.metrics.registry.get_sample_value("dynamic_scoring_requests_total", failed) or 0) >= 1
        hub.world.refresh()
        for reason in scorers:
            assert all(value != value for value in hub.world.fleet.scores(f"Dynamic/{reason.lower()}", time.time()))
    finally:
        for scorer in scorers.values():
            await scorer.stop()


async def test_b_a_configuration_that_cannot_be_read_is_said_and_the_last_one_that_could_is_used(
    scene: Scene, scorer: Scorer
) -> None:
    scorer.answer = always(7)
    await scene.hub(scorers={"dynamic": {"sync": "100ms"}})
    await scene.agent("ash")
    await scene.available("ash")
    await scene.api.create(DYNAMIC_SCORERS, scorer_object("load", scorer.url), "default")
    await until(lambda: published(scene, "ash", "my-score"))
    good = scorer.config
    scorer.config = {"name": "x", "scoring": {"path": "/scoring", "params": {"name": "my_score", "interval": "soon"}}}
    said = await says(scene, "load", "Synced", "ScorerConfigInvalid")
    assert "scoring.params.interval" in said["message"]
    scorer.config = b"<html>"
    await says(scene, "load", "Synced", "ScorerAnswerNotJSON")
    scorer.config = None
    assert "answers 404" in (await says(scene, "load", "Synced", "ScorerInactive"))["message"]
    status = (await scene.api.get(DYNAMIC_SCORERS, "load", "default"))["status"]
    assert status["lastSyncedConfig"]["scoring"]["params"] == {"name": "my_score", "interval": 1}
    # As the framework has it, the status of an answer does not matter where it is a configuration.
    scorer.config, scorer.config_status = good, 500
    await says(scene, "load", "Synced", "ScorerSynced")


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"location": None}, "spec.location"),
        ({"scoreDestination": None}, "spec.scoreDestination"),
        ({"configURL": "nowhere"}, "spec.configURL"),
    ],
)
async def test_what_the_framework_passes_over_in_silence_is_said(scene: Scene, spec: Json, said: str) -> None:
    await scene.hub()
    body = scorer_object("odd", "http://127.0.0.1:9", **{k: v for k, v in spec.items() if v})
    body["spec"] = {key: value for key, value in body["spec"].items() if key not in spec or spec[key]}
    await scene.api.create(DYNAMIC_SCORERS, body, "default")
    assert said in (await says(scene, "odd", "Ready", "ScorerSpecInvalid"))["message"]


async def test_d_a_score_out_of_range_is_cut_and_counted_and_costs_no_other(scene: Scene, scorer: Scorer) -> None:
    scorer.answer = lambda request: {
        "results": [
            {"metric": {"node": "n1"}, "score": 312.7},
            {"metric": {"node": "n2"}, "score": 0.97},
            {"metric": {"node": "n3"}, "score": None},
            {"metric": {"node": "n4"}, "score": -4000},
        ]
    }
    hub = await scene.hub()
    await scene.agent("ash")
    await scene.available("ash")
    await scene.api.create(
        DYNAMIC_SCORERS, scorer_object("watts", scorer.url, scoreDimensionFormat="${node}"), "default"
    )
    assert await until(lambda: published(scene, "ash", "my-score")) == {"n1": 100, "n2": 1, "n4": -100}
    read = hub.metrics.registry.get_sample_value
    assert (read("quarterdeck_dynamic_scorer_clamped_total", {"scorer": "default/watts"}) or 0) >= 2
    assert (read("quarterdeck_dynamic_scorer_dropped_total", {"scorer": "default/watts"}) or 0) >= 1
    # It is ready, and says what it could not use.
    assert (await says(scene, "watts", "Ready", "ScoreAnswered"))["status"] == "True"
    assert "results[2] has score null" in (await says(scene, "watts", "Answering", "ScoreNotANumber"))["message"]
    # The framework's own metric has the scores as the scorer gave them; ours by what they are called.
    labels = {f"ds_{name}": "" for name in ("device", "namespace", "app", "pod", "container", "meta")}
    labels |= {"ds_cluster": "ash", "ds_node": "n1", "ds_score_name": "my_score"}
    assert read("dynamic_score", labels) == 312.7
    assert read("fleet_score", {"cluster": "ash", "score": "my_score", "dimension": "n2"}) == 0.97
    assert (read("fleet_score_age_seconds", {"cluster": "ash", "score": "my_score"}) or 0) < 10


async def test_d_with_a_normaliser_raw_watts_are_published_as_scores(scene: Scene, scorer: Scorer) -> None:
    watts = {"ash": 900.0, "elm": 300.0}
    cluster_of = lambda: scorer.clusters_asked()[-1]  # noqa: E731
    scorer.answer = lambda request: {"results": [{"metric": {}, "score": watts[cluster_of()]}]}
    await scene.hub()
    for name in watts:
        await scene.agent(name)
    await scene.available(*watts)
    policy = policy_object("watts", direction="lower", normaliser={"min": "0", "max": "1000"})
    await scene.api.create(SCORER_POLICIES, policy, "default")
    await scene.api.create(DYNAMIC_SCORERS, scorer_object("watts", scorer.url), "default")
    assert await until(lambda: published(scene, "ash", "my-score")) == {"my_score": 10}
    assert await until(lambda: published(scene, "elm", "my-score")) == {"my_score": 70}


async def test_e_a_policy_rolls_the_results_of_a_cluster_up(scene: Scene, scorer: Scorer) -> None:
    scorer.answer = lambda request: {
        "results": [{"metric": {"node": "n1", "pod": str(i)}, "score": score} for i, score in enumerate((10, 30, 50))]
    }
    hub = await scene.hub()
    await scene.agent("ash")
    await scene.available("ash")
    body = scorer_object("load", scorer.url, scoreDimensionFormat="${node}")
    await scene.api.create(DYNAMIC_SCORERS, body, "default")
    # As the framework promises, and its agent does not do: of several for one name the last.
    assert await until(lambda: published(scene, "ash", "my-score")) == {"n1": 50}
    await scene.api.create(SCORER_POLICIES, policy_object("load", aggregate="max", weight=0), "default")

    async def rolled() -> bool:
        return await published(scene, "ash", "my-score") == {"n1": 50, "my_score": 50}

    await until(rolled)
    hub.world.refresh()
    assert list(hub.world.fleet.scores("Dynamic/my_score", time.time())) == [50.0]
    # A weight of 0: it is asked and published, and orders nothing.
    assert not any(entry.scorer.name == "Dynamic/my_score" for entry in hub.scores.scorers())


async def test_g_masks_and_names_that_are_taken(scene: Scene, scorer: Scorer) -> None:
    scorer.answer = always(5)
    hub = await scene.hub()
    for name in ("ash", "elm"):
        await scene.agent(name)
    await scene.available("ash", "elm")
    await scene.api.create(DYNAMIC_SCORERS, scorer_object("one", scorer.url), "default")
    await until(lambda: published(scene, "elm", "my-score"))
    await scene.api.create(DYNAMIC_SCORERS, scorer_object("two", scorer.url), "default")
    assert "default/one gives score my_score" in (await says(scene, "two", "Ready", "ScoreNameTaken"))["message"]

    def config(name: str) -> Json:
        return {
            "apiVersion": DYNAMIC_SCORING_CONFIGS.api_version,
            "kind": "DynamicScoringConfig",
            "metadata": {"name": name, "namespace": "default"},
            "spec": {"masks": [{"clusterName": "elm", "scoreName": "my_score"}]},
        }

    async def in_effect(name: str, status: str) -> bool:
        found = (await scene.api.get(DYNAMIC_SCORING_CONFIGS, name, "default")).get("status") or {}
        return any(c["type"] == "InEffect" and c["status"] == status for c in found.get("conditions") or ())

    await scene.api.create(DYNAMIC_SCORING_CONFIGS, config("another"), "default")
    await until(lambda: in_effect("another", "False"))
    assert await published(scene, "elm", "my-score")
    await scene.api.create(DYNAMIC_SCORING_CONFIGS, config("dynamic-scoring-config"), "default")
    await until(lambda: in_effect("dynamic-scoring-config", "True"))

    async def gone() -> bool:
        return await published(scene, "elm", "my-score") is None

    # What is masked is not asked about, and what was published of it goes.
    await until(gone)
    hub.world.refresh()
    values = list(hub.world.fleet.scores("Dynamic/my_score", time.time()))
    assert values[0] == 5.0
    assert values[1] != values[1]
    asked = len(scorer.asked)
    await until(lambda: len(scorer.asked) > asked + 1)
    assert "elm" not in scorer.clusters_asked()[asked:]
    # The one whose name was taken takes it over.
    await scene.api.delete(DYNAMIC_SCORERS, "one", "default")
    await says(scene, "two", "Ready", "ScoreAnswered")
    assert await published(scene, "ash", "my-score") == {"my_score": 5}
    await scene.api.delete(DYNAMIC_SCORERS, "two", "default")

    async def none() -> bool:
        return await published(scene, "ash", "my-score") is None

    await until(none)


class _Site(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = b"# TYPE node_load1 gauge\n" + self.server.text.encode()  # type: ignore[attr-defined]
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def real_prometheus(tmp_path: Path) -> Iterator[str]:
    binary = shutil.which("prometheus")
    assert binary is not None
    servers = {}
    for name, load in (("ash", 20), ("elm", 70)):
        server = HTTPServer(("127.0.0.1", 0), _Site)
        server.text = f'node_load1{{node="n1"}} {load}\nnode_load1{{node="n2"}} {load + 10}\n'  # type: ignore[attr-defined]
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers[name] = server
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    sites = {name: f"127.0.0.1:{server.server_address[1]}" for name, server in servers.items()}
    spec = prometheus_process(binary, tmp_path / "prometheus", port, sites, tmp_path / "log")
    process = subprocess.Popen(spec.argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    yield f"http://127.0.0.1:{port}"
    process.terminate()
    process.wait(10)
    for server in servers.values():
        server.shutdown()
        server.server_close()


@pytest.mark.prometheus
@pytest.mark.slow
@pytest.mark.skipif(shutil.which("prometheus") is None, reason="no prometheus on PATH")
async def test_a_with_a_real_prometheus(scene: Scene, scorer: Scorer, real_prometheus: str) -> None:
    params = {"query": "avg by (cluster, node) (node_load1)", "range": 60, "step": 1}
    scorer.config["source"] = {
        "type": "Prometheus", "host": real_prometheus, "path": "/api/v1/query_range", "params": params,
    }  # fmt: skip
    await scene.hub()
    for name in ("ash", "elm"):
        await scene.agent(name)
    await scene.available("ash", "elm")
    body = scorer_object("load", scorer.url, scoreDimensionFormat="${node}")
    await scene.api.create(DYNAMIC_SCORERS, body, "default")
    assert await until(lambda: published(scene, "ash", "my-score"), 40) == {"n1": 20, "n2": 30}
    assert await until(lambda: published(scene, "elm", "my-score"), 40) == {"n1": 70, "n2": 80}
    sent = next(request for headers, request in reversed(scorer.asked) if headers["X-Quarterdeck-Cluster"] == "ash")
    at, value = sent["data"][0]["values"][0]
    assert isinstance(at, int | float)
    assert value == "20"
