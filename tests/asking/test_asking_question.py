"""What is asked, on its way from the hub to an agent; documents, pushed metrics, and who may be asked. Pure."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.scoring.sourcesfile import read_sources
from hub.api.clusterscoring import ClusterScoring
from hub.api.errors import InvalidObjectError, UsageError
from hub.asking.access import Access, SourceError
from hub.asking.document import Fields, document_series
from hub.asking.otlp import MOST_POINTS, Sample, read_metrics
from hub.asking.question import NamedQuery, Question, SecretKey, SourceQuestion, Tls, from_wire, to_wire
from hub.scoring.dynamic.data import read_data
from hub.scoring.dynamic.policy import parse_policy

Json = dict[str, Any]
words = st.text(st.characters(codec="ascii", categories=("L", "N")), min_size=1, max_size=8)
keys = st.none() | st.builds(SecretKey, words, words)
queries = st.builds(NamedQuery, st.just("") | words, words, st.booleans())
sources = st.one_of(
    st.just(SourceQuestion()),
    st.builds(
        SourceQuestion, st.just("Prometheus"), words, keys, st.lists(queries, min_size=1, max_size=3).map(tuple),
        st.integers(1, 9999), st.integers(1, 99),
    ),
    st.builds(
        SourceQuestion, st.just("HttpJson"), words, keys, fields=st.builds(Fields, words, words, words, words),
        single=st.booleans(), max_age=st.floats(1, 1e6),
    ),
    st.builds(SourceQuestion, st.just("Static"), value=st.none() | st.floats(-1e9, 1e9)),
    st.builds(SourceQuestion, st.just("Program"), program=words),
)  # fmt: skip
questions = st.builds(
    Question, words, words, sources, keys, st.none() | st.builds(Tls, keys, st.just("") | words),
    st.floats(0.1, 100), st.sampled_from((1, 2)),
)  # fmt: skip


@given(questions)
def test_an_agent_reads_what_the_hub_wrote_and_the_kind_allows_it(question: Question) -> None:
    wire = json.loads(json.dumps(to_wire(question)))
    assert from_wire(wire) == question
    assert from_wire(wire).digest == question.digest
    entry = {"scorer": "default/x", "digest": question.digest, **wire, "intervalSeconds": 1, "validSeconds": 2}
    body = {
        "apiVersion": "fleet.quarterdeck.dev/v1alpha1",
        "kind": "ClusterScoring",
        "metadata": {"name": "ash", "namespace": "ash"},
        "spec": {"scorers": [entry]},
    }
    ClusterScoring.model_validate(body)


@given(questions, questions)
def test_questions_that_differ_have_another_digest(one: Question, other: Question) -> None:
    assert (one.digest == other.digest) == (one == other)


@pytest.mark.parametrize(
    "entry", [{}, {"score": "x"}, {"score": "x", "url": "u", "source": {"type": "Pushed"}}, {"score": "x", "source": 5}]
)
def test_what_no_hub_has_written_is_refused(entry: Json) -> None:
    with pytest.raises(InvalidObjectError):
        from_wire(entry)


# Documents.


def test_h_each_member_is_a_series_of_its_cluster_with_its_texts_as_labels() -> None:
    document = {"a": [{"c": "ash", "v": "1.5", "pod": "p", "n": 3}, {"c": "ash", "v": 2}, {"v": 9}, "text"]}
    series, problems, problem = document_series(document, Fields("a", "c", "v"), 100.0, 10.0)
    assert series == {
        "ash": [
            {"metric": {"cluster": "ash", "pod": "p"}, "values": [[100.0, "1.5"]]},
            {"metric": {"cluster": "ash"}, "values": [[100.0, "2.0"]]},
        ]
    }
    assert (problems, problem) == ({}, "")
    by_map, problems, _ = document_series({"ash": 1, "elm": {"value": "x"}}, Fields(), 1.0, 1.0)
    assert list(by_map) == ["ash"]
    assert problems == {"elm": "'x' is not a number"}


@pytest.mark.parametrize(
    ("document", "said"),
    [
        (5, "neither a list nor a map"),
        ({"a": "text"}, "neither a list nor a map"),
        ({"a": [{"v": 1}, {"v": 2}]}, "2 members without c"),
    ],
)
def test_h_a_document_that_says_nothing_is_said(document: Any, said: str) -> None:
    assert said in document_series(document, Fields("a", "c", "v"), 1.0, 1.0)[2]


def test_h_a_document_about_one_cluster_needs_no_names() -> None:
    fields = Fields("a", "c", "v")
    assert len(document_series({"a": [{"v": 1}, {"v": 2}]}, fields, 1.0, 1.0, "ash")[0]["ash"]) == 2
    assert document_series({"a": {"v": 1}}, fields, 1.0, 1.0, "ash")[0]["ash"][0]["values"] == [[1.0, "1.0"]]


@pytest.mark.parametrize(
    ("at", "said"), [(90.0, ""), (80.0, "20s old"), (170.0, "ahead of"), ("soon", "is not a time")]
)
def test_h_a_member_counts_by_its_own_time(at: Any, said: str) -> None:
    series, problems, _ = document_series([{"cluster": "ash", "value": 1, "t": at}], Fields(time="t"), 100.0, 15.0)
    assert bool(series) == (not said)
    assert said in problems.get("ash", "")
    if series:
        assert series["ash"][0]["values"][0][0] == at


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=20,
)


@given(json_values, st.sampled_from(("", "ash")))
def test_h_whatever_a_document_holds_what_is_sent_is_finite(document: Any, only: str) -> None:
    series, _, _ = document_series(document, Fields("", "cluster", "value", "t"), 5.0, 5.0, only)
    for one in (one for listed in series.values() for one in listed):
        assert math.isfinite(float(one["values"][0][1]))


# What a policy may say.


@pytest.mark.parametrize(
    ("source", "field"),
    [
        ({}, "spec.source"),
        ({"exec": {"program": "a"}, "static": {}}, "spec.source"),
        ({"httpJson": {"url": "file:///etc/passwd"}}, "spec.source.httpJson.url"),
        ({"exec": {}}, "spec.source.exec.program"),
        ({"otlp": {"metrics": []}}, "spec.source.otlp.metrics"),
        ({"otlp": {"metrics": ["a", "a"]}}, "spec.source.otlp.metrics"),
        ({"otlp": {"metrics": ["a"], "range": 99999}}, "spec.source.otlp.range"),
        ({"static": {"values": {"ash": "much"}}}, "spec.source.static.values.ash"),
    ],
)
def test_h_a_source_that_cannot_work_names_its_field(source: Json, field: str) -> None:
    with pytest.raises(InvalidObjectError) as error:
        read_data(source)
    assert error.value.field == field


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"source": {"static": {}}, "queries": [{"name": "a", "promql": "b"}]}, "spec.queries"),
        ({"source": {"otlp": {"metrics": ["a"]}}, "scoredBy": "Agent"}, "spec.source.otlp"),
        ({"source": {"static": {}}, "scoredBy": "AddOn"}, "spec.source"),
        ({"scoredBy": "Nobody"}, "spec.scoredBy"),
    ],
)
def test_h_what_does_not_go_together_is_refused(spec: Json, field: str) -> None:
    with pytest.raises(InvalidObjectError) as error:
        parse_policy(spec)
    assert error.value.field == field


# Pushed metrics.


def request(*metrics: Json, cluster: str = "ash", **attributes: str) -> Json:
    listed = [{"key": key.replace("_", "."), "value": {"stringValue": value}} for key, value in attributes.items()]
    if cluster:
        listed.append({"key": "k8s.cluster.name", "value": {"stringValue": cluster}})
    return {"resourceMetrics": [{"resource": {"attributes": listed}, "scopeMetrics": [{"metrics": list(metrics)}]}]}


def test_h_each_kind_of_metric_is_samples() -> None:
    at = {"timeUnixNano": "1700000000500000000"}
    found = read_metrics(
        request(
            {"name": "g", "gauge": {"dataPoints": [{**at, "asInt": "7"}, {**at, "asDouble": "NaN"}]}},
            {"name": "s", "sum": {"dataPoints": [{**at, "asDouble": 1.5}]}},
            {"name": "h", "histogram": {"dataPoints": [{**at, "count": "4", "sum": 10.0}, {**at, "count": "2"}]}},
            {"name": "q", "summary": {"dataPoints": [{**at, "count": 3, "sum": 6}]}},
            k8s_pod_name="p1",
        )
    )
    assert [(sample.metric, sample.value, sample.at) for sample in found.samples] == [
        (name, value, 1700000000.5) for name, value in (
            ("g", 7.0), ("s", 1.5), ("h_count", 4.0), ("h_sum", 10.0), ("h_count", 2.0), ("q_count", 3.0),
            ("q_sum", 6.0),
        )
    ]  # fmt: skip
    assert found.samples[0].labels == (("k8s_cluster_name", "ash"), ("k8s_pod_name", "p1"), ("pod", "p1"))
    assert (found.rejected, found.complaint) == (1, "g: 'NaN' is not a number")


def test_h_a_sample_of_no_cluster_is_rejected_unless_the_sender_says_whose_it_is() -> None:
    metric = {"name": "g", "gauge": {"dataPoints": [{"asDouble": 1}]}}
    assert read_metrics(request(metric, cluster="")).rejected == 1
    assert read_metrics(request(metric, cluster=""), "elm").samples == [Sample("elm", "g", (), 0.0, 1.0)]


def test_h_a_request_without_end_is_cut() -> None:
    points = [{"asDouble": 1}] * (MOST_POINTS + 3)
    found = read_metrics(request({"name": "g", "gauge": {"dataPoints": points}}))
    assert (len(found.samples), found.rejected) == (MOST_POINTS, 3)


@given(json_values)
def test_h_whatever_is_pushed_breaks_nothing(document: Any) -> None:
    for wrapped in (document, {"resourceMetrics": document}, request({"name": "g", "gauge": {"dataPoints": document}})):
        if isinstance(wrapped, dict):
            assert all(math.isfinite(sample.value) for sample in read_metrics(wrapped).samples)
        else:
            with pytest.raises(InvalidObjectError):
                read_metrics(wrapped)


# Who may be asked.


def test_i_only_what_the_configuration_has_is_asked_and_run(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("first\n")
    access = Access(("*.example",), {"p.example": token}, {"power": ["/opt/power"]})
    access.check("https://p.example:9090/x")
    with pytest.raises(SourceError, match=r"may not ask 169\.254\.169\.254"):
        access.check("http://169.254.169.254/latest")
    assert access.token("https://p.example/") == "first"
    token.write_text("second")
    assert access.token("https://p.example/") == "second"
    assert access.token("https://q.example/") == ""
    assert access.command("power") == ["/opt/power"]
    with pytest.raises(SourceError, match="may not run /bin/sh"):
        access.command("/bin/sh")
    with pytest.raises(SourceError, match="has none"):
        Access().command("power")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("allow: everything", "allow must be a list"),
        ("programs: {power: /opt/power}", "programs.power must be a list of words"),
        ("programs: {power: [power]}", "the first an absolute path"),
        ("programs: {power: []}", "programs.power"),
        ("tokens: [a]", "tokens must be a map"),
        ("hosts: [a]", "there is no hosts; known here: allow, tokens, programs"),
        ("- a", "expected a map"),
        ("a: [", "is not YAML"),
    ],
)
def test_i_the_agents_own_limits_are_read_strictly(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "sources.yaml"
    path.write_text(text)
    with pytest.raises(UsageError, match="(?s).*" + said.replace("[", r"\[")) as error:
        read_sources(path)
    assert error.value.field == "--sources"


def test_i_without_a_file_hosts_are_free_and_no_program_is(tmp_path: Path) -> None:
    assert read_sources(None) == Access()
    path = tmp_path / "sources.yaml"
    path.write_text('allow: ["*.svc"]\ntokens: {a.svc: /t}\nprograms: {power: [/opt/power, --json]}\n')
    assert read_sources(path) == Access(("*.svc",), {"a.svc": Path("/t")}, {"power": ["/opt/power", "--json"]})
    with pytest.raises(UsageError, match="cannot read"):
        read_sources(tmp_path / "absent")
