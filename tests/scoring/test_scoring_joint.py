"""M: applications, clusters and how devices are cut up, chosen together."""

from __future__ import annotations

import itertools
import random
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.scoring.joint import Application, JointChoice, Placed, Profile, Scores, choose_together

BIG, SMALL = Profile("3g.48gb", "gpu", 2), Profile("2g.24gb", "gpu", 3)


def check(choice: JointChoice, apps: list[Application], clusters: dict[str, list[Profile]], scores: Scores) -> None:
    """It keeps every promise of the program, whatever it chose."""
    asked = {app.name: app for app in apps}
    assert len({one.application for one in choice.placed}) == len(choice.placed)
    assert {one.application for one in choice.placed} | set(choice.left_out) == set(asked)
    assert not {one.application for one in choice.placed} & set(choice.left_out)
    used: dict[tuple[str, str], float] = {}
    for one in choice.placed:
        assert choice.profiles[one.cluster] == one.profile
        assert one.score == scores[one.application, one.cluster, one.profile]
        key = (one.cluster, one.profile)
        used[key] = used.get(key, 0) + asked[one.application].amount
    for (cluster, name), amount in used.items():
        (profile,) = (profile for profile in clusters[cluster] if profile.name == name)
        assert amount <= profile.amount
    assert choice.total == pytest.approx(sum(one.score for one in choice.placed))


def best(apps: list[Application], clusters: dict[str, list[Profile]], scores: Scores) -> float:
    """By trying everything."""
    most = 0.0
    for cut in itertools.product(*clusters.values()):
        chosen = dict(zip(clusters, cut, strict=True))
        for places in itertools.product([None, *clusters], repeat=len(apps)):
            used: dict[str, float] = {}
            total, allowed = 0.0, True
            for app, place in zip(apps, places, strict=True):
                if place is None:
                    continue
                profile = chosen[place]
                used[place] = used.get(place, 0) + app.amount
                score = scores.get((app.name, place, profile.name))
                if score is None or profile.kind != app.kind or used[place] > profile.amount:
                    allowed = False
                    break
                total += score
            if allowed:
                most = max(most, total)
    return most


def test_m_a_cluster_is_cut_up_for_what_it_is_worth() -> None:
    apps = [Application(f"app{i}", "gpu", 1) for i in range(3)]
    clusters = {"ash": [BIG, SMALL]}
    scores = {(app.name, "ash", profile.name): score for app in apps for profile, score in ((BIG, 50.0), (SMALL, 40.0))}
    choice = choose_together(apps, clusters, scores)
    # Three at 40 are worth more than two at 50.
    assert choice.profiles == {"ash": "2g.24gb"}
    assert choice.placed == tuple(Placed(f"app{i}", "ash", "2g.24gb", 40.0) for i in range(3))
    assert (choice.total, choice.gap, choice.left_out) == (120.0, 0.0, {})


@pytest.mark.parametrize(
    ("app", "reason"),
    [
        (Application("a", "fpga", 1), "no cluster offers fpga"),
        (Application("a", "gpu", 9), "needs 9 gpu; no profile offers more than 3"),
        (Application("unscored", "gpu", 1), "has no score on ash with 2g.24gb, ash with 3g.48gb"),
        (Application("bad", "gpu", 1), "no score of it is above 0"),
        (Application("late", "gpu", 3), "others add more to the sum"),
    ],
)
def test_m_what_is_left_out_is_told_why_and_is_no_key_error(app: Application, reason: str) -> None:
    scores = {("good", "ash", ""): 90.0, ("bad", "ash", ""): -5.0, ("late", "ash", ""): 10.0, ("a", "ash", ""): 1.0}
    choice = choose_together([app, Application("good", "gpu", 2)], {"ash": [BIG, SMALL]}, scores)
    assert choice.left_out == {app.name: reason}
    assert [one.application for one in choice.placed] == ["good"]


def test_nothing_to_place_is_no_error() -> None:
    assert choose_together([], {}, {}) == JointChoice((), {}, {}, 0.0, 0.0)
    with pytest.raises(ValueError, match="one name"):
        choose_together([Application("a", "gpu", 1)] * 2, {}, {})


@given(
    st.lists(st.sampled_from([1, 2]), min_size=1, max_size=4),
    st.lists(st.lists(st.integers(1, 4), min_size=1, max_size=2), min_size=1, max_size=2),
    st.randoms(use_true_random=False),
)
@settings(max_examples=40, deadline=None)
def test_m_no_other_choice_is_better(requests: list[int], offers: list[list[int]], chance: random.Random) -> None:
    apps = [Application(f"a{i}", "gpu", amount) for i, amount in enumerate(requests)]
    clusters = {
        f"c{i}": [Profile(f"p{j}", "gpu", amount) for j, amount in enumerate(amounts)]
        for i, amounts in enumerate(offers)
    }
    scores: dict[tuple[str, str, str], float] = {}
    for app, (cluster, profiles) in itertools.product(apps, clusters.items()):
        for profile in profiles:
            if chance.random() < 0.8:
                scores[app.name, cluster, profile.name] = float(chance.randint(-20, 100))
    choice = choose_together(apps, clusters, scores)
    check(choice, apps, clusters, scores)
    assert choice.total >= best(apps, clusters, scores) * (1 - 2e-3) - 1e-6
    again = choose_together(list(reversed(apps)), dict(reversed(clusters.items())), scores)
    assert again == choice


@pytest.mark.slow
def test_m_twenty_clusters_ten_profiles_and_fifty_applications() -> None:
    chance = random.Random(7)
    clusters = {
        f"c{i:02}": [Profile(f"p{j}", "gpu", chance.choice([1, 2, 4, 7, 8])) for j in range(10)] for i in range(20)
    }
    apps = [Application(f"a{i:02}", "gpu", chance.choice([1, 1, 2, 3])) for i in range(50)]
    scores = {
        (app.name, cluster, profile.name): chance.uniform(-10, 100)
        for app in apps
        for cluster, profiles in clusters.items()
        for profile in profiles
    }
    began = time.process_time()
    choice = choose_together(apps, clusters, scores, time_limit=20)
    took = time.process_time() - began
    check(choice, apps, clusters, scores)
    assert choice.gap < 0.01
    # 1 to 4 seconds of CPU; the bound leaves room for a machine that is busy.
    assert took < 15
