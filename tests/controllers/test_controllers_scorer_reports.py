"""C, J: how old an agent's answer is, by two clocks that need not agree, and what of a report is news."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from hub.api.timestamps import format_micro_time, from_timestamp
from hub.asking.answer import ScorerAnswer
from hub.asking.trouble import ScorerTrouble
from hub.controllers.scorer_reports import ScorerReports
from hub.controllers.scorer_roster import ScorerRoster
from hub.controllers.scorer_state import Key, ScorerState
from hub.scoring.dynamic.plan import make_plan
from hub.scoring.dynamic.policy import parse_policy
from hub.scoring.dynamic.spec import parse_scorer

Json = dict[str, Any]
KEY = ("default", "cool")
HOUR = 3600.0


class Desk:
    """Reports as they arrive at `now`; `heard`: when each answer was given, or why there is none."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0
        spec = {
            "configURL": "http://s.example/config", "configSyncMode": "None", "location": "External",
            "scoreDestination": "AddOnPlacementScore", "scoring": {"params": {"name": "cool", "interval": 10}},
        }  # fmt: skip
        plan = make_plan(parse_scorer(spec), None, parse_policy({"scoredBy": "Agent"}))
        self.state = ScorerState({"metadata": {"namespace": "default", "name": "cool"}}, plan=plan, concerned=("ash",))
        self.heard: list[float | str] = []
        roster = SimpleNamespace(ordered=lambda cluster: [{"scorer": "default/cool", "digest": "d"}])
        self.reports = ScorerReports({KEY: self.state}, cast(ScorerRoster, roster), self._answered, lambda: self.now)

    def _answered(self, key: Key, cluster: str, plan: Any, outcome: ScorerAnswer | ScorerTrouble, at: float) -> None:
        assert (key, cluster) == (KEY, "ash")
        if isinstance(outcome, ScorerAnswer):
            self.state.values.take(cluster, plan, outcome, at)
            self.heard.append(round(at - self.now, 3))
        else:
            self.heard.append(outcome.reason.code)

    def arrives(self, answer: str, *, sent_ago: float = 0.0, ahead: float = 0.0, age: float = 1.0, **more: Any) -> None:
        """`sent_ago`: how long it took; `ahead`: how wrong the agent's clock is."""
        sent = format_micro_time(from_timestamp(self.now - sent_ago + ahead))
        entry = {"scorer": "default/cool", "digest": "d", "answer": answer, "ageSeconds": age}
        entry |= {"results": [{"metric": {}, "score": 5}], **more}
        meta = {"namespace": "ash", "name": "ash"}
        self.reports.seen({"metadata": meta, "status": {"sentTime": sent, "scorers": [entry]}}, gone=False)


@pytest.mark.parametrize("ahead", [0.0, HOUR, -HOUR])
def test_c_an_answer_is_as_old_as_its_agent_says_whatever_its_clock_says(ahead: float) -> None:
    desk = Desk()
    for number in range(3):
        desk.arrives(f"a-{number}", ahead=ahead, age=2.5)
        desk.now += 10
    assert desk.heard[1:] == [-2.5, -2.5]
    # Of the first it is not known yet; never is it taken for newer than it is.
    assert desk.heard[0] == (-2.5 if ahead >= 0 else -2.5 - HOUR)


def test_c_what_a_hub_finds_when_it_starts_is_as_old_as_it_is() -> None:
    desk = Desk()
    desk.arrives("a-1", sent_ago=100.0)
    assert desk.heard == [-101.0]


@pytest.mark.parametrize("ahead", [0.0, HOUR, -HOUR])
def test_c_a_message_that_was_held_up_is_older_by_that(ahead: float) -> None:
    desk = Desk()
    for number in range(3):
        desk.arrives(f"a-{number}", ahead=ahead)
        desk.now += 10
    desk.now += 600
    desk.arrives("a-9", sent_ago=600.0, ahead=ahead)
    assert desk.heard[-1] == -601.0


def test_c_a_clock_that_is_put_back_ages_nothing_for_long() -> None:
    desk = Desk()
    for ahead in (0.0, 0.0, -HOUR, -HOUR):
        desk.now += 10
        desk.arrives(f"a-{desk.now}", ahead=ahead)
    assert desk.heard[-2:] == [-1.0, -1.0]


def test_j_an_answer_counts_once_however_often_it_is_told() -> None:
    desk = Desk()
    for age in (1.0, 4.0, 7.0):
        desk.arrives("a-1", age=age)
        desk.now += 3
    assert desk.heard == [-1.0]
    # Unless what was made of it is gone meanwhile: the cluster was not meant for a while.
    desk.state.values.keep(())
    desk.reports.again([KEY])
    assert len(desk.heard) == 2
    desk.reports.again([KEY])
    assert len(desk.heard) == 2


def test_j_trouble_is_heard_when_it_changes_and_the_results_beside_it_are_not_news() -> None:
    desk = Desk()
    desk.arrives("a-1")
    for reason in ("ScorerFailed", "ScorerFailed", "ScorerTimeout", "FromANewerAgent"):
        desk.now += 1
        desk.arrives("a-1", reason=reason, message="m")
    assert desk.heard == [-1.0, "ScorerFailed", "ScorerTimeout", "ScorerFailed"]
    desk.now += 1
    desk.arrives("a-2")
    assert desk.heard[-1] == -1.0


def test_b_an_answer_to_another_question_is_not_heard() -> None:
    desk = Desk()
    desk.arrives("a-1", digest="of before")
    desk.now += 1
    desk.arrives("a-2", scorer="default/unknown")
    assert desk.heard == []
    desk.state.concerned = ()
    desk.now += 1
    desk.arrives("a-3")
    assert desk.heard == []
    # It is kept, for when the cluster is meant again.
    desk.state.concerned = ("ash",)
    desk.reports.again([KEY])
    assert len(desk.heard) == 1
