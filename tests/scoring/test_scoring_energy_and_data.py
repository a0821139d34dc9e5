"""Watts, carbon, data that is elsewhere, and what the hub remembers of clusters: by hand, on small fleets."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.api import names
from hub.api.errors import InvalidObjectError
from hub.fleet.changes import CapacitySeen, ClusterSeen, ScoresSeen
from hub.fleet.fleet import Fleet
from hub.fleet.shape import TaskShape
from hub.scoring.builtin import default_scorers
from hub.scoring.contract import check
from hub.scoring.energy import CARBON_SOURCE, Carbon, Energy, board_watts
from hub.scoring.experience import (
    PRIOR,
    Experience,
    Observation,
    failed_part,
    failure_rate,
    rounded,
    start_delay,
)
from hub.scoring.interface import ScoreRequest
from hub.scoring.locality import DataLocality, Egress, read_data

NAN = math.nan
GI = 1 << 30
GPU = TaskShape((("cpu", 4000), (names.GPU, 2)))


def fleet(**sites: dict[str, Any]) -> Fleet:
    """By name: labels, claims, model, prices; `silent` has reported nothing."""
    changes: list[Any] = []
    for name, said in sites.items():
        claims = [{"name": key, "value": value} for key, value in said.get("claims", {}).items()]
        metadata = {"name": name, "labels": said.get("labels", {})}
        changes.append(ClusterSeen({"metadata": metadata, "status": {"clusterClaims": claims}}))
        if said.get("silent"):
            continue
        group: dict[str, Any] = {"name": "g", "count": 2, "allocatable": {"cpu": "16"}}
        if "model" in said:
            group["gpu"] = {"model": said["model"], "count": 4}
        status = {"nodeGroups": [group], "prices": said.get("prices", {})}
        changes.append(CapacitySeen({"metadata": {"name": name}, "status": status}))
    return Fleet.empty().apply(changes)


def says(scorer: Any, of: Fleet, shape: TaskShape = GPU, data: str = "") -> list[float]:
    request = ScoreRequest(shape, 1, 0.0, read_data({names.DATA: data}))
    return [round(value, 6) for value in scorer.score(of, request).tolist()]


def same(found: list[float], expected: list[float]) -> bool:
    return bool(np.allclose(found, expected, equal_nan=True))


@pytest.mark.parametrize(
    ("model", "watts"),
    [("A100", 400), ("NVIDIA-A100-SXM4-80GB", 400), ("Tesla-T4", 70), ("nvidia l40s", 350), ("G3", 300), ("", 300)],
)
def test_a_board_is_known_by_its_usual_name(model: str, watts: float) -> None:
    assert board_watts(model) == watts


def test_watts_are_boards_and_cpus_times_the_building() -> None:
    of = fleet(
        a={"model": "A100"},
        b={"model": "T4", "claims": {"pue": "1.5"}},
        c={"model": "T4", "claims": {"watts-per-gpu": "60", "watts-per-cpu": "2", "pue": "nonsense"}},
        cpu={},
        silent={"silent": True},
    )
    assert same(says(Energy(), of), [2 * 400 + 4 * 5, (2 * 70 + 20) * 1.5, 2 * 60 + 4 * 2, NAN, NAN])
    assert same(says(Energy(), of, TaskShape((("cpu", 500),))), [2.5, 3.75, 1.0, 2.5, NAN])
    # It is there to run, whatever it asks for.
    assert same(says(Energy(), of, TaskShape()), [5, 7.5, 2, 5, NAN])
    wants = TaskShape(GPU.requests, gpu_models=("T4",))
    assert same(says(Energy(), of, wants), [NAN, 240, 128, NAN, NAN])


def test_carbon_is_watts_times_what_a_kilowatt_hour_emits_as_a_live_source_or_the_claim_says() -> None:
    of = fleet(
        a={"claims": {"gco2-per-kwh": "400"}},
        b={"claims": {"gco2-per-kwh": "-1"}},
        c={"claims": {"gco2-per-kwh": "50"}},
    )
    one = TaskShape((("cpu", 1000),))
    assert same(says(Carbon(), of, one), [2.0, NAN, 0.25])
    live = of.apply([ScoresSeen(CARBON_SOURCE, {"a": 100.0, "b": 200.0}, 10.0)])
    assert same(says(Carbon(), live, one), [0.5, 1.0, 0.25])
    over = of.apply([ScoresSeen(CARBON_SOURCE, {"a": 100.0, "b": 200.0}, -1.0)])
    assert same(says(Carbon(), over, one), [2.0, NAN, 0.25])


def holders() -> Fleet:
    label = f"{names.DATA_LABEL}/genomes"
    return fleet(
        all={"labels": {label: "true"}, "prices": {"egressGiB": "0.1"}},
        claimed={"claims": {"data.genomes": "0.75"}, "prices": {"egressGiB": "0.02"}},
        none={},
        odd={"labels": {label: "seven"}},
    )


def test_what_is_not_there_has_to_be_fetched_from_where_it_leaves_cheapest() -> None:
    of = holders()
    assert same(says(DataLocality(), of, data="genomes=40Gi"), [0, 10, 40, 40])
    assert same(says(Egress(), of, data="genomes=40Gi"), [0, 0.2, 0.8, 0.8])
    # What nobody has costs everybody the same.
    assert same(says(DataLocality(), of, data="genomes=40Gi, weights=2Gi"), [2, 12, 42, 42])
    assert same(says(Egress(), of, data="weights=2Gi"), [0, 0, 0, 0])


def test_where_no_price_is_stated_only_those_that_fetch_are_unknown() -> None:
    of = fleet(have={"labels": {f"{names.DATA_LABEL}/x": "true"}}, lack={})
    assert same(says(Egress(), of, data="x=1Gi"), [0, NAN])


@pytest.mark.parametrize("scorer", [DataLocality(), Egress()])
def test_a_job_that_names_no_data_prefers_nobody(scorer: Any) -> None:
    assert says(scorer, holders()) == [0.0] * 4


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("genomes=40Gi", (("genomes", 40 * GI),)),
        (" b = 1Ki ,, a=2 ", (("a", 2), ("b", 1024))),
        ("a=1,a=2", (("a", 3),)),
        ("", ()),
    ],
)
def test_data_is_read_from_its_annotation(text: str, found: Any) -> None:
    assert read_data({names.DATA: text}) == found
    assert read_data(None) == ()


@pytest.mark.parametrize("text", ["genomes", "=3", "a=-1", "a=much", "a=", ",".join(f"d{n}=1" for n in range(65))])
def test_data_that_cannot_be_read_names_the_annotation(text: str) -> None:
    with pytest.raises(InvalidObjectError) as caught:
        read_data({names.DATA: text})
    assert caught.value.field == f"metadata.annotations[{names.DATA}]"


# What the hub remembers.


def test_a_first_failure_decides_nothing_and_many_do() -> None:
    seen = Experience()
    for number in range(30):
        seen.tell(f"good/{number}", Observation("good", 0.0, 0.0))
    assert seen.tell("bad/1", Observation("bad", 1.0, 0.0))
    assert not seen.tell("bad/1", Observation("bad", 1.0, 0.0))
    once = seen.means(0.0)
    mean = 1 / 31
    assert once == {"bad": round((1 + PRIOR * mean) / (1 + PRIOR), 4), "good": round(PRIOR * mean / 33, 4)}
    for number in range(2, 30):
        seen.tell(f"bad/{number}", Observation("bad", 1.0, 0.0))
    assert seen.means(0.0)["bad"] > 0.9


def test_what_was_long_ago_counts_less_and_then_not_at_all() -> None:
    seen = Experience(half_life=100.0, prior=1.0)
    seen.tell("1", Observation("a", 1.0, 0.0))
    seen.tell("2", Observation("a", 0.0, 100.0))
    seen.tell("3", Observation("b", 0.0, 100.0))
    # Weights at 100: ½, 1, 1; the fleet's mean is 0.2.
    assert seen.means(100.0) == {"a": round((0.5 + 0.2) / 2.5, 4), "b": round(0.2 / 2, 4)}
    assert seen.means(1e6) == {}
    assert len(seen) == 0


def test_the_newest_slices_of_a_cluster_are_remembered() -> None:
    seen = Experience(kept=2)
    assert [seen.tell(f"{at}", Observation("a", float(at > 2), at)) for at in (2.0, 1.0, 3.0, 0.0, 4.0)] == [
        True, True, True, False, True,
    ]  # fmt: skip
    assert len(seen) == 2
    assert seen.means(4.0) == {"a": 1.0}
    # The same slice, as it was seen later.
    assert seen.tell("4.0", Observation("a", 0.0, 4.0))
    assert seen.means(4.0)["a"] < 0.6


@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 1), st.floats(0, 1e5)), max_size=30), st.randoms())
def test_the_order_in_which_it_was_told_changes_nothing(told: list[tuple[str, float, float]], random: Any) -> None:
    entries = [(f"{number}", Observation(*entry)) for number, entry in enumerate(told)]
    first, second = Experience(), Experience()
    for key, entry in entries:
        first.tell(key, entry)
    random.shuffle(entries)
    for key, entry in entries:
        second.tell(key, entry)
    means = first.means(1e5)
    assert means == second.means(1e5)
    assert all(0 <= value <= 1 for value in means.values())


@pytest.mark.parametrize(
    ("succeeded", "failed", "lost", "part"),
    [(3, 1, False, 0.25), (0, 0, False, None), (5, 0, True, 1.0), (0, 2, False, 1.0)],
)
def test_what_a_slice_says_of_its_cluster(succeeded: int, failed: int, lost: bool, part: float | None) -> None:
    assert failed_part(succeeded, failed, lost=lost) == part


def test_a_cluster_that_was_never_tried_counts_as_the_mean_of_the_others() -> None:
    of = fleet(a={}, b={}, c={})
    assert same(says(failure_rate(), of), [NAN, NAN, NAN])
    told = of.apply([ScoresSeen("FailureRate", {"a": 0.2, "b": 0.4}, 10.0), ScoresSeen("StartDelay", {"a": 9.0}, 10.0)])
    assert same(says(failure_rate(), told), [0.2, 0.4, 0.3])
    assert same(says(start_delay(), told), [9, 9, 9])


def test_what_hardly_moved_is_not_new() -> None:
    assert rounded({"a": 0.1249, "b": 0.126}, 0.01) == {"a": 0.12, "b": 0.13}


@pytest.mark.parametrize("entry", default_scorers(), ids=lambda entry: entry.scorer.name)
def test_every_built_in_scorer_keeps_the_contract(entry: Any) -> None:
    assert [found for found in check(lambda: entry.scorer) if found.problem] == []
