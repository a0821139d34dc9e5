"""Score sources: what is fed to the fleet, what is said of a source, and that a bad source costs only itself."""

from __future__ import annotations

import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from controllers_web import Web, serving

from hub.api.errors import InvalidObjectError
from hub.asking.access import Access
from hub.cli.up.prometheus import prometheus_process
from hub.controllers.asking import Asking, SourceReport
from hub.controllers.source_clients import SourceClients
from hub.fleet.changes import FleetChange, ScoresGone, ScoresSeen
from hub.scoring.answer import read_vector
from hub.scoring.source import SourceQuery, parse_source

QUERY = SourceQuery("x", valid_for=60.0)
ANYWHERE = Access()
CLUSTERS = ("foundry", "harbour")


class Scores:
    """`Asking` with everything it says kept, and a clock and a Prometheus in the test's hands."""

    def __init__(
        self, url: str = "http://127.0.0.1:9", ask: Any = None, interval: float = 3600.0, access: Access = ANYWHERE
    ) -> None:
        self.fed: list[FleetChange] = []
        self.said: list[tuple[str, SourceReport]] = []
        self.now = 1000.0
        vectors = None if ask is None else lambda name, query: read_vector(ask(query), query.cluster_label)
        clients = SourceClients(url, access, clusters=lambda name: CLUSTERS, clock=lambda: self.now)
        self.scores = Asking(
            vectors or clients,
            feed=self.fed.append,
            report=lambda name, report: self.said.append((name, report)),
            interval=interval,
            clock=lambda: self.now,
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


def test_nonsense_about_one_cluster_leaves_its_last_value_until_that_ends() -> None:
    answers = [vector(a=1, b=2, c=3)]
    scores = Scores(ask=lambda query: answers[0])
    scores.scores.set_source("load", QUERY)
    scores.scores.refresh()
    scores.now += 20
    # Not a number, twice, and not there at all.
    answers[0] = [*vector(a=5, b=float("nan"), c=1), *vector(c=2)]
    scores.scores.refresh()
    assert scores.fed[-1] == ScoresSeen("load", {"a": 5.0, "b": 2.0, "c": 3.0}, 1080.0, {"b": 1060.0, "c": 1060.0})
    report = scores.said[-1][1]
    assert (report.clusters, report.reason) == (3, "ScoreIncomplete")
    assert report.message.startswith("load: b: ")
    assert "c has several series" in report.message
    scores.now += 41
    answers[0] = vector(a=6)
    scores.scores.refresh()
    assert scores.fed[-1] == ScoresSeen("load", {"a": 6.0}, 1121.0)
    assert scores.said[-1][1].clusters == 1
    # Another question has no past.
    scores.scores.set_source("load", SourceQuery("y", valid_for=60.0))
    answers[0] = vector(b=1)
    scores.scores.refresh()
    assert scores.fed[-1] == ScoresSeen("load", {"b": 1.0}, 1121.0)


def test_an_answer_without_series_is_said_and_feeds_nothing() -> None:
    scores = Scores(ask=lambda query: [])
    scores.scores.set_source("load", QUERY)
    scores.scores.refresh()
    assert scores.fed == []
    assert "nothing matches" in scores.said[0][1].message


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
        parse_source({"promQL": " "})
    assert parse_source({"promQL": "up", "validFor": "1m"}).query == SourceQuery("up", valid_for=60.0)


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


def test_a_source_that_hangs_holds_up_nobody_else_and_is_not_asked_twice_at_once() -> None:
    hang, asked = threading.Event(), dict[str, int]()

    def ask(query: SourceQuery) -> object:
        asked[query.promql] = asked.get(query.promql, 0) + 1
        if query.promql == "hangs":
            hang.wait(30)
        return vector(a=1)

    scores = Scores(ask=ask, interval=0.05)
    for name in ("hangs", *(f"good{i}" for i in range(9))):
        scores.scores.set_source(name, SourceQuery(name))
    scores.scores.start()
    try:
        deadline = time.monotonic() + 10
        while min((asked.get(f"good{i}", 0) for i in range(9)), default=0) < 4:
            assert time.monotonic() < deadline, asked
            time.sleep(0.02)
        assert asked["hangs"] == 1
    finally:
        hang.set()
        scores.scores.stop()


def test_a_source_that_fails_is_asked_ever_less_often_and_a_new_question_at_once() -> None:
    asked: list[tuple[float, str]] = []

    def ask(query: SourceQuery) -> object:
        asked.append((time.monotonic(), query.promql))
        raise ConnectionError("refused")

    scores = Scores(ask=ask, interval=0.05)
    scores.scores.set_source("load", SourceQuery("old"))
    scores.scores.start()
    try:
        time.sleep(1.0)
        attempts = len(asked)
        assert 2 <= attempts <= 8
        scores.scores.set_source("load", SourceQuery("new"))
        changed, deadline = time.monotonic(), time.monotonic() + 5
        while not any(promql == "new" for _, promql in asked) and time.monotonic() < deadline:
            time.sleep(0.01)
        first = next(at for at, promql in asked if promql == "new")
        assert first - changed < 0.5
    finally:
        scores.scores.stop()


def _spec(**spec: Any) -> SourceQuery:
    query = parse_source(spec).query
    assert query is not None
    return query


def _asked(query: SourceQuery, **options: Any) -> tuple[dict[str, float], SourceReport]:
    scores = Scores(**options)
    scores.scores.set_source("s", query)
    scores.scores.refresh()
    seen = [change for change in scores.fed if isinstance(change, ScoresSeen)]
    return dict(seen[-1].values) if seen else {}, scores.said[-1][1]


def test_a_json_document_gives_values(web: Web) -> None:
    body = b'{"data": [{"site": "harbour", "watts": {"now": 12.5}}, {"site": "foundry", "watts": {"now": null}}]}'
    web.answers = lambda path, asked: (200, {}, body)
    query = _spec(httpJson={"url": web.url, "items": "data", "cluster": "site", "value": "watts.now"})
    values, report = _asked(query)
    assert values == {"harbour": 12.5}
    assert (report.reason, report.clusters) == ("ScoreIncomplete", 1)
    assert "foundry: None is not a number" in report.message


def test_one_request_a_cluster_and_one_that_fails_costs_that_cluster(web: Web) -> None:
    web.answers = lambda path, asked: (200, {}, b'{"value": 7}') if path == "/harbour" else (500, {}, b"")
    values, report = _asked(_spec(httpJson={"url": web.url + "/${cluster}"}))
    assert values == {"harbour": 7.0}
    assert "foundry: 127.0.0.1 answers 500" in report.message


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ((302, {"Location": "http://elsewhere.example/"}, b""), "elsewhere.example/, which is not followed"),
        ((200, {}, b"<html>login</html>"), "the answer is not JSON"),
        ((200, {}, b'"words"'), "neither a list nor a map"),
        ((503, {}, b""), "127.0.0.1 answers 503"),
        ((200, {}, b"[]"), "the answer is empty"),
    ],
)
def test_a_document_that_is_none_is_said(web: Web, answer: Any, said: str) -> None:
    web.answers = lambda path, asked: answer
    values, report = _asked(_spec(httpJson={"url": web.url}))
    assert values == {}
    assert report.reason == "ScoreSourceFailed"
    assert said in report.message


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"<html>login</html>", "the answer is not JSON"),
        (b'{"status":"success"}', "not what was asked for"),
        (b'{"status":"success","data":{"resultType":"matrix","result":{}}}', "the answer is no vector but dict"),
        (b'{"data":{"result":[{"metric":{"cluster":"a"},"value":[1000,"NaN"]}]}}', "a: 'NaN' is not a number"),
        (b'{"data":{"result":[{"metric":{"cluster":"a"},"value":[1000,"+Inf"]}]}}', "a: '+Inf' is not a number"),
    ],
)
def test_a_prometheus_that_answers_200_with_nonsense_feeds_nothing(web: Web, body: bytes, said: str) -> None:
    web.answers = lambda path, asked: (200, {}, body)
    values, report = _asked(_spec(promQL="up"), url=web.url)
    assert values == {}
    assert said in report.message


def test_a_clock_that_is_an_hour_off_is_named_and_the_values_count(web: Web) -> None:
    body = b'{"data":{"result":[{"metric":{"cluster":"a"},"value":[4600,"2"]}]}}'
    web.answers = lambda path, asked: (200, {}, body)
    values, report = _asked(_spec(promQL="up"), url=web.url)
    assert values == {"a": 2.0}
    assert "its clock is 1h ahead of the hub's" in report.message


def test_hosts_that_are_not_allowed_are_not_asked(web: Web) -> None:
    values, report = _asked(_spec(httpJson={"url": web.url}), access=Access(("*.example",)))
    assert values == {}
    assert "may not ask 127.0.0.1" in report.message
    assert web.seen == []


def test_a_token_is_read_at_every_request_and_goes_to_its_host_only(web: Web, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("first\n")
    web.answers = lambda path, asked: (200, {}, b'{"a": 1}')
    scores = Scores(access=Access(tokens={"127.0.*": token, "localhost": tmp_path / "absent"}))
    scores.scores.set_source("s", _spec(httpJson={"url": web.url}))
    scores.scores.refresh()
    token.write_text("second")
    scores.scores.refresh()
    assert [headers.get("Authorization") for _, headers in web.seen] == ["Bearer first", "Bearer second"]
    scores.scores.set_source("s", _spec(httpJson={"url": web.url.replace("127.0.0.1", "localhost")}))
    scores.scores.refresh()
    assert "cannot read the token for localhost" in scores.said[-1][1].message


def test_without_a_prometheus_a_query_says_what_to_set() -> None:
    for promql in ("up", "up{cluster='${cluster}'}"):
        _, report = _asked(_spec(promQL=promql), url="")
        assert "set prometheus.url" in report.message


@pytest.fixture
def sites() -> Iterator[dict[str, str]]:
    with ExitStack() as stack:
        targets = {}
        for name, busy in (("harbour", 10), ("foundry", 90)):
            site = stack.enter_context(serving())
            values = "".join(f'DCGM_FI_DEV_GPU_UTIL{{gpu="{gpu}"}} {busy}\n' for gpu in (0, 1))
            text = f"# TYPE DCGM_FI_DEV_GPU_UTIL gauge\n{values}".encode()
            site.answers = lambda path, asked, text=text: (200, {"Content-Type": "text/plain; version=0.0.4"}, text)
            targets[name] = site.url.removeprefix("http://")
        yield targets


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
        scores.scores.set_source("each", SourceQuery('max(DCGM_FI_DEV_GPU_UTIL{cluster="${cluster}"})'))
        scores.scores.set_source("typo", SourceQuery("avg by cluster) ("))
        deadline = time.monotonic() + 40
        while not any(isinstance(change, ScoresSeen) for change in scores.fed) and time.monotonic() < deadline:
            time.sleep(0.3)
            scores.scores.refresh()
        seen = [change for change in scores.fed if isinstance(change, ScoresSeen) and change.source == "gpu"]
        while len(seen) < 1 or len(seen[-1].values) < 2:
            assert time.monotonic() < deadline, scores.said[-2:]
            time.sleep(0.3)
            scores.scores.refresh()
            seen = [change for change in scores.fed if isinstance(change, ScoresSeen) and change.source == "gpu"]
        # It was asked just before, when one of them may not have been scraped yet.
        scores.scores.refresh()
        each = [change for change in scores.fed if isinstance(change, ScoresSeen) and change.source == "each"]
        assert dict(each[-1].values) == {"foundry": 90.0, "harbour": 10.0}
        assert dict(seen[-1].values) == {"foundry": 90.0, "harbour": 10.0}
        typo = [report for name, report in scores.said if name == "typo"][-1]
        assert typo.reason == "ScoreSourceFailed"
        assert "parse error" in typo.message
    finally:
        process.terminate()
        process.wait(10)
