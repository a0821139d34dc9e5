"""What a DynamicScorer, its configuration and its policy mean; what is sent, what answers say, who is due."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.api.errors import InvalidObjectError
from hub.asking.answer import Result, ScorerAnswer, read_answer
from hub.asking.pace import SLOWEST, due, pause, sync_pause
from hub.asking.question import NamedQuery, SecretKey, SourceQuestion
from hub.asking.request import body, by_cluster, query_url, read_series
from hub.asking.trouble import ScorerTrouble
from hub.placement.scorer_targets import ScorerTargets, question, route
from hub.scoring.dynamic.document import read_document, synced_config
from hub.scoring.dynamic.plan import ScorerPlan, make_plan
from hub.scoring.dynamic.policy import ScorerPolicy, Settling, parse_policy
from hub.scoring.dynamic.published import HIGHEST, LOWEST, dimension, named, object_name, roll_up, whole_score
from hub.scoring.dynamic.settling import Settled, settle
from hub.scoring.dynamic.spec import parse_scorer
from hub.scoring.dynamic.values import ScorerValues

SPEC: dict[str, Any] = {
    "description": "d", "configURL": "http://s.example:8000/config", "configSyncMode": "Full",
    "location": "External", "scoreDestination": "AddOnPlacementScore",
    "source": {
        "type": "Prometheus", "host": "http://p.example:9090", "path": "/api/v1/query_range",
        "params": {"query": "a;b", "range": 600, "step": 60},
        "auth": {"tokenSecretRef": {"name": "source", "key": "token"}},
    },
    "scoring": {
        "path": "/spec", "params": {"name": "from_spec", "interval": 20},
        "auth": {"tokenSecretRef": {"name": "scoring", "key": "token"}},
    },
}  # fmt: skip
DOCUMENT: dict[str, Any] = {
    "name": "s", "description": "its own",
    "source": {
        "type": "Prometheus", "host": "http://q.example", "path": "/x/api/v1/query_range",
        "params": {"query": "c", "range": 3600, "step": 30},
    },
    "scoring": {"path": "/scoring", "params": {"name": "its_own", "interval": 30.0}, "newer": True},
}  # fmt: skip
LABELS = ("n1", "gpu0", "ns", "app", "pod", "c", "m")


def plan(spec: dict[str, Any] | None = None, document: Any = DOCUMENT, **policy: Any) -> ScorerPlan:
    read = None if document is None else read_document(document)
    return make_plan(parse_scorer({**SPEC, **(spec or {})}), read, parse_policy(policy))


# What is asked.


def test_in_mode_full_what_the_scorer_says_goes_first_and_in_mode_none_it_counts_nothing() -> None:
    full = plan()
    assert (full.score, full.host, full.path, full.interval) == ("its_own", "http://s.example:8000", "/scoring", 30)
    assert (full.source.host, full.source.queries) == ("http://q.example", (NamedQuery("", "c"),))
    assert full.source.token == SecretKey("source", "token")
    assert full.token == SecretKey("scoring", "token")
    none = plan({"configSyncMode": "None"})
    assert (none.score, none.path, none.interval) == ("from_spec", "/spec", 20)
    assert [query.promql for query in none.source.queries] == ["a", "b"]


def test_what_the_scorer_leaves_out_is_taken_from_the_object() -> None:
    said = {**DOCUMENT, "source": {"type": "Prometheus"}, "scoring": {"params": {"name": "its_own", "interval": 0}}}
    found = plan({"scoring": {**SPEC["scoring"], "host": "http://other.example/"}}, said)
    assert (found.host, found.path, found.interval) == ("http://other.example", "/spec", 20)
    assert (found.source.host, found.source.range) == ("http://p.example:9090", 600)


def test_a_scorer_that_needs_no_data_asks_nobody_for_any() -> None:
    found = plan(document={**DOCUMENT, "source": {"type": "None"}})
    assert found.source.queries == ()


def test_c_scores_count_two_intervals_unless_a_policy_says_otherwise() -> None:
    assert plan().valid_for == 60
    assert plan(validFor="10m").valid_for == 600


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"configURL": "s.example/config"}, "spec.configURL"),
        ({"configSyncMode": "Half"}, "spec.configSyncMode"),
        ({"location": None}, "spec.location"),
        ({"scoreDestination": ""}, "spec.scoreDestination"),
        ({"source": {"type": "Graphite"}}, "spec.source.type"),
        ({"source": {"host": "prometheus:9090"}}, "spec.source.host"),
        ({"source": {"path": "/a b"}}, "spec.source.path"),
        ({"scoring": {"path": "x\r\nHost: evil"}}, "spec.scoring.path"),
        ({"source": {"params": {"query": "x", "range": True, "step": 1}}}, "spec.source.params.range"),
        ({"source": {"params": {"query": "x", "range": -1, "step": 1}}}, "spec.source.params.range"),
        ({"source": {"params": {"query": "x", "range": math.inf, "step": 1}}}, "spec.source.params.range"),
        ({"scoring": {"auth": {"tokenSecretRef": {"name": "x"}}}}, "spec.scoring.auth.tokenSecretRef"),
    ],
)
def test_a_spec_that_cannot_work_names_its_field(spec: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidObjectError) as caught:
        parse_scorer({**SPEC, **spec})
    assert caught.value.field == field


def test_spellings_of_the_frameworks_own_samples_are_read() -> None:
    assert parse_scorer({**SPEC, "source": {"type": "prometheus"}}).source.type == "Prometheus"
    assert parse_scorer({**SPEC, "scoreDestination": "AddonPlacementScore"}).publishes
    assert not parse_scorer({**SPEC, "scoreDestination": "None"}).publishes


@pytest.mark.parametrize(
    ("document", "field"),
    [
        ([], "the configuration"),
        ({"scoring": {"params": {"interval": 3}}}, "scoring.params.name"),
        ({"scoring": {"params": {"name": "x", "interval": "30"}}}, "scoring.params.interval"),
        ({"scoring": "x"}, "scoring"),
        ({"source": {"host": 3}, "scoring": {"params": {"name": "x", "interval": 3}}}, "source.host"),
    ],
)
def test_a_configuration_that_cannot_be_read_names_its_key(document: Any, field: str) -> None:
    with pytest.raises(InvalidObjectError) as caught:
        read_document(document)
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"scoring": {}}, "spec.scoring.params.name"),
        ({"scoring": {"params": {"name": "x"}}}, "spec.scoring.params.interval"),
        ({"source": {"type": "Prometheus", "host": "http://p"}}, "spec.source.params.query"),
        ({"source": {"params": {"query": "x", "range": 60, "step": 60}}}, "spec.source.host"),
        ({"source": {"host": "http://p", "params": {"query": "x", "range": 60, "step": 0}}}, "spec.source.params"),
        (
            {"source": {"host": "http://p", "params": {"query": "x", "range": 11000, "step": 1}}},
            "spec.source.params.step",
        ),
    ],
)
def test_what_nobody_says_is_named(spec: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidObjectError) as caught:
        plan({**spec, "configSyncMode": "None"})
    assert caught.value.field == field


def test_the_synced_configuration_has_every_field_that_the_frameworks_schema_requires() -> None:
    synced = synced_config(read_document({**DOCUMENT, "source": {"type": "None"}}))
    assert synced["source"] == {"type": "None", "path": "", "params": {"query": "", "range": 0, "step": 0}}
    assert synced["scoring"] == {"path": "/scoring", "params": {"name": "its_own", "interval": 30}}


@pytest.mark.parametrize(
    ("policy", "field"),
    [
        ({"weight": 11}, "spec.weight"),
        ({"aggregate": "mode"}, "spec.aggregate"),
        ({"smoothing": "0"}, "spec.smoothing"),
        ({"scoreDeadband": "-1"}, "spec.scoreDeadband"),
        ({"minHold": "soon"}, "spec.minHold"),
        ({"protocol": 3}, "spec.protocol"),
        ({"queries": [{"name": "a", "promql": "x"}, {"name": "a", "promql": "y"}]}, "spec.queries[1].name"),
        ({"queries": [{"name": "a", "promql": "x", "mode": "now"}]}, "spec.queries[0].mode"),
        ({"normaliser": {"type": "log"}}, "spec.normaliser.type"),
    ],
)
def test_a_policy_that_cannot_work_names_its_field(policy: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidObjectError) as caught:
        parse_policy(policy)
    assert caught.value.field == field


# What is sent.


def test_a_query_is_as_the_framework_sends_it() -> None:
    made = plan()
    source = question(made, route(made, ScorerTargets(), "ash", {}), "ash").source
    url = query_url(source, NamedQuery("", 'x{c="ash"}'), 1718600000.9)
    parts = urlsplit(url)
    assert f"{parts.scheme}://{parts.netloc}{parts.path}" == "http://q.example/x/api/v1/query_range"
    assert parse_qs(parts.query) == {
        "query": ['x{c="ash"}'], "start": ["1718596400"], "end": ["1718600000"], "step": ["30"],
    }  # fmt: skip
    instant = query_url(source, NamedQuery("now", "y", instant=True), 5.0)
    assert instant == "http://q.example/x/api/v1/query?query=y&time=5"


def test_a_a_request_is_all_series_in_order_and_numbers_stay_text() -> None:
    first, second = {"metric": {"a": "1"}, "values": [[1718600000, "1.10"]]}, {"metric": {}, "values": []}
    asked = SourceQuestion("Prometheus", queries=(NamedQuery("", "a"), NamedQuery("", "b")))
    assert body([[first], [second]], asked.names, 1, "ash") == orjson.dumps({"data": [first, second]})
    assert body([], (), 1, "ash") == b'{"data":[]}'
    longer = orjson.loads(body([[first], []], ("load", asked.names[1]), 2, "ash"))
    assert longer == {"data": [first], "named": {"load": [first], "1": []}, "cluster": "ash"}


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ({"status": "success", "data": {"result": []}}, []),
        ({"status": "success", "data": {"result": None}}, []),
        (
            {"status": "success", "data": {"result": [{"metric": {"a": "b"}, "value": [1, "2"]}]}},
            [{"metric": {"a": "b"}, "values": [[1, "2"]]}],
        ),
        ({"status": "error", "error": "parse error"}, "Prometheus refuses: parse error"),
        ({"status": "success", "data": {"resultType": "scalar", "result": [1, "2"]}}, "no matrix but scalar"),
        ({"status": "success", "data": {"result": [{"metric": {}}]}}, "without labels or values"),
        ("words", "not Prometheus's"),
    ],
)
def test_prometheuss_answer_is_series_or_what_is_wrong_with_it(document: Any, expected: Any) -> None:
    found = read_series(document)
    assert (expected in found) if isinstance(expected, str) else found == expected


def test_one_answer_is_taken_apart_by_cluster() -> None:
    series = [{"metric": {"cluster": "ash"}, "values": []}, {"metric": {}, "values": []}]
    assert by_cluster(series, "cluster") == ({"ash": [series[0]]}, 1)


# What answers say.


def test_d_one_result_that_is_no_number_costs_itself_only() -> None:
    found = read_answer(
        {
            "results": [
                {"metric": {"node": "n1", "other": "x"}, "score": 12},
                {"metric": {"node": "n2"}, "score": None},
                {"metric": {"node": "n3"}, "score": "high"},
                {"metric": {"node": "n4"}, "score": True},
                "words",
                {"score": 1.5, "weight": 3},
            ],
            "model": "extra",
        }
    )
    assert [(result.labels[0], result.score, result.weight) for result in found.results] == [
        ("n1", 12.0, 1.0), ("", 1.5, 3.0),
    ]  # fmt: skip
    assert found.dropped == 4
    assert "results[1] has score null" in found.complaints[0]


def test_e_of_results_with_the_same_labels_the_last_counts() -> None:
    same = {"metric": {"node": "n1"}}
    found = read_answer({"results": [{**same, "score": 1}, {"metric": {}, "score": 5}, {**same, "score": 2}]})
    assert [result.score for result in found.results] == [5.0, 2.0]


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        ({"results": [{"metric": {}, "score": None}]}, "ScoreNotANumber"),
        ({"results": []}, "ScorerNoResults"),
        ({"scores": []}, "ScorerAnswerUnusable"),
        ({"results": {}}, "ScorerAnswerUnusable"),
        ([], "ScorerAnswerUnusable"),
        (None, "ScorerAnswerUnusable"),
    ],
)
def test_an_answer_without_a_score_is_never_one(document: Any, reason: str) -> None:
    with pytest.raises(ScorerTrouble) as caught:
        read_answer(document)
    assert caught.value.reason.code == reason


_KEYS = st.sampled_from(["results", "metric", "score", "weight", "node"])
_LEAVES = st.none() | st.booleans() | st.floats() | st.text(max_size=5)
_DOCUMENTS = st.recursive(
    _LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_KEYS, inner, max_size=4), max_leaves=20
)


@given(_DOCUMENTS)
def test_whatever_a_scorer_answers_its_scores_are_finite_or_it_is_in_trouble(document: Any) -> None:
    try:
        found = read_answer(document)
    except ScorerTrouble:
        return
    assert found.results
    assert all(math.isfinite(result.score) and result.weight >= 0 for result in found.results)


# What is published.


@pytest.mark.parametrize(
    ("score", "name"),
    [
        ("sample_my_score", "sample-my-score"),
        ("LLM  Forecast!!", "llm-forecast"),
        ("a..b", "a.b"),
        ("-.x.-", "x"),
        ("…", "score"),
        ("x" * 300, "x" * 253),
    ],
)
def test_a_scores_name_becomes_an_objects_name(score: str, name: str) -> None:
    assert object_name(score) == name


@given(st.text())
def test_every_scores_name_becomes_a_name_that_an_api_server_takes(score: str) -> None:
    from hub.apiserver.metadata import name_problem

    assert name_problem(object_name(score), "cluster.open-cluster-management.io", "addonplacementscores") in ("", None)


def test_a_dimension_is_filled_in_once() -> None:
    form = "${scoreName}/${cluster}/${node};${meta};${other}"
    assert dimension(form, "s", "ash", ("${pod}", *LABELS[1:])) == "s/ash/${pod};m;${other}"


def test_e_without_a_policy_the_last_result_of_a_name_is_published_and_with_one_what_it_makes_of_them() -> None:
    results = [
        Result(("n1", *[""] * 6), 10.0),
        Result(("n1", "", "", "", "p", "", ""), 20.0, 3.0),
        Result(("n2", *[""] * 6), 90.0),
    ]
    assert named("${node}", "s", "ash", results) == {"n1": 20.0, "n2": 90.0}
    assert named("${node}", "s", "ash", results, "max") == {"n1": 20.0, "n2": 90.0, "s": 90.0}
    assert named("${node}", "s", "ash", results, "weighted") == {"n1": 17.5, "n2": 90.0, "s": 32.0}
    assert named("${app}", "s", "ash", results) == {}


@pytest.mark.parametrize(
    ("aggregate", "value"),
    [("", 2.5), ("avg", 2.5), ("max", 4.0), ("min", 1.0), ("sum", 10.0), ("median", 2.5), ("p95", 3.85)],
)
def test_e_a_cluster_has_one_score(aggregate: str, value: float) -> None:
    results = [Result(LABELS, float(score)) for score in (4, 1, 3, 2)]
    assert roll_up(results, aggregate) == pytest.approx(value)


@given(
    st.lists(st.floats(-1e300, 1e300), min_size=1, max_size=6), st.sampled_from(["avg", "median", "weighted", "p95"])
)
def test_the_score_of_a_cluster_lies_between_its_results(scores: list[float], aggregate: str) -> None:
    value = roll_up([Result(LABELS, score) for score in scores], aggregate)
    slack = max(abs(score) for score in scores) * 1e-9
    assert min(scores) - slack <= value <= max(scores) + slack


@pytest.mark.parametrize(
    ("score", "value", "clamped"),
    [(0.97, 1, False), (0.5, 0, False), (1.5, 2, False), (2.5, 2, False), (-0.5, 0, False), (100.4, 100, False),
     (100.6, 100, True), (1e9, 100, True), (-101, -100, True), (12.3, 12, False)],
)  # fmt: skip
def test_d_scores_are_rounded_to_even_and_cut(score: float, value: int, clamped: bool) -> None:
    found = whole_score(score)
    assert (found.value, found.clamped) == (value, clamped)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_d_whatever_is_published_an_api_server_takes(score: float) -> None:
    assert LOWEST <= whole_score(score).value <= HIGHEST


# What holds still.


def test_f_noise_does_not_show_and_a_real_change_shows_within_two_looks() -> None:
    rule = Settling(part=0.5, deadband=5.0)
    state: Settled | None = None
    moves = 0
    for tick in range(100):
        before = state
        state = settle(state, 50 + (-3, 3, 1, -2, 0)[tick % 5], float(tick), rule)
        moves += before is not None and before.shown != state.shown
    assert moves == 0
    assert state is not None
    for tick in (100, 101):
        state = settle(state, 90.0, float(tick), rule)
    assert state.shown >= 75


def test_a_score_that_moved_stays_for_a_while() -> None:
    rule = Settling(hold=10.0)
    state = settle(settle(None, 1.0, 0.0, rule), 9.0, 5.0, rule)
    assert state.shown == 1.0
    state = settle(state, 9.0, 10.0, rule)
    assert (state.shown, state.moved) == (9.0, 10.0)


def test_c_values_end_and_say_for_how_long() -> None:
    values, found = ScorerValues(), plan(document={**DOCUMENT, "source": {"type": "None"}})
    answer = ScorerAnswer((Result(LABELS, 130.0),))
    assert values.take("ash", found, answer, 1000.0)
    assert not values.take("ash", found, answer, 1030.0)
    assert values.clamped == 2
    assert values.column() == ({"ash": 130.0}, {"ash": 1090.0})
    assert values.next_end(1030.0) == 1090.0
    assert values.fresh(1089.0) == ["ash"]
    assert values.fresh(1090.0) == []
    assert values.ended(1102.0) == {"ash": 12.0}
    # What has ended is nothing to be compared with.
    moved = replace(found, policy=ScorerPolicy(settling=Settling(deadband=50.0)))
    values.take("ash", moved, ScorerAnswer((Result(LABELS, 100.0),)), 1102.0)
    assert values.column()[0] == {"ash": 100.0}
    assert values.none("ash")
    assert values.column() == ({}, {})


# Who is due.


def test_a_new_cluster_is_due_at_once_and_the_others_keep_their_pace() -> None:
    asked = {"ash": 10.0, "elm": 12.0}
    assert due(["elm", "oak", "ash"], asked, 5.0, 13.0) == (["oak"], 0.0)
    assert due(["elm", "ash"], asked, 5.0, 13.0) == ([], 2.0)
    assert due(["elm", "ash"], asked, 5.0, 15.0) == (["ash"], 0.0)
    assert due(["elm", "ash"], asked, 5.0, 100.0, not_before=103.0) == ([], 3.0)
    assert due([], asked, 5.0, 13.0) == ([], None)


@given(st.floats(1, 1e4), st.integers(1, 200))
def test_a_scorer_that_fails_is_asked_less_often_but_never_less_than_its_interval_or_a_minute(
    interval: float, failures: int
) -> None:
    found = pause(failures, interval)
    assert interval <= found <= max(interval, SLOWEST)
    assert pause(failures + 1, interval) >= found


def test_a_configuration_that_failed_is_looked_at_again_soon() -> None:
    assert [sync_pause(failures, 30.0) for failures in (0, 1, 2, 3, 9, 99)] == [30.0, 1.0, 2.0, 4.0, 30.0, 30.0]
