"""A fleet that travelled is the same one: what it says, what fits, what is held where; and only differences travel."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.fleet import cluster
from hub.fleet.changes import CapacitySeen, Charge, ClusterGone, ClusterSeen, Release, ScoresGone, ScoresSeen
from hub.fleet.fleet import Fleet
from hub.fleet.shape import TaskShape
from hub.fleet.transfer import Receiver, Sender

GPU = TaskShape((("cpu", 1000), ("nvidia.com/gpu", 1)))
CPU = TaskShape((("cpu", 2000),))
SHARE = TaskShape((("cpu", 500),), gpu_share=300)


@pytest.fixture(autouse=True)
def _versions() -> Iterator[None]:
    """A receiver lives in a process of its own: here its versions must not become everybody's."""
    before = cluster._versions
    yield
    cluster._versions = before


def seen(name: str, label: str = "x") -> ClusterSeen:
    return ClusterSeen({"metadata": {"name": name, "labels": {"l": label}}, "spec": {"hubAcceptsClient": True}})


def capacity(name: str, count: int = 2, price: str = "1") -> CapacitySeen:
    group = {"name": "g", "count": count, "allocatable": {"cpu": "8"}, "gpu": {"model": "A100", "count": 2}}
    status = {"nodeGroups": [group], "prices": {"cpuHour": price}}
    return CapacitySeen({"metadata": {"name": name, "namespace": name}, "status": status})


def same(one: Fleet, other: Fleet) -> bool:
    assert one.names == other.names
    for shape in (GPU, CPU, SHARE):
        assert one.fit(shape).tolist() == other.fit(shape).tolist()
        assert one.capacity(shape).tolist() == other.capacity(shape).tolist()
    for resource in ("cpu", "nvidia.com/gpu"):
        assert np.array_equal(one.free(resource), other.free(resource), equal_nan=True)
    for name in one.names:
        assert one.facts(name) == other.facts(name)
        assert one.site(name) == other.site(name)
        assert {k: (h.shape, h.count) for k, h in one.held(name).items()} == {
            k: (h.shape, h.count) for k, h in other.held(name).items()
        }
    for source in one.score_sources:
        assert np.array_equal(one.scores(source, 0.0), other.scores(source, 0.0), equal_nan=True)
    listed = {key: where for key, where in one.charges.items() if where in one}
    assert dict(other.charges) == listed
    return one.score_sources == other.score_sources and one.digest == other.digest


change = st.one_of(
    st.builds(seen, st.sampled_from("abc"), st.sampled_from("xyz")),
    st.builds(capacity, st.sampled_from("abc"), st.integers(1, 3), st.sampled_from(["1", "2"])),
    st.builds(ClusterGone, st.sampled_from("abc")),
    st.builds(
        Charge, st.sampled_from(["k1", "k2", "k3"]), st.sampled_from("abc"), st.sampled_from([GPU, CPU, SHARE]),
        st.integers(0, 5),
    ),
    st.builds(Release, st.sampled_from(["k1", "k2", "k3"])),
    st.builds(ScoresSeen, st.sampled_from(["s", "t"]), st.just({"a": 1.0, "b": 2.0}), st.just(9.0)),
    st.builds(ScoresGone, st.sampled_from(["s", "t"])),
)  # fmt: skip


@settings(max_examples=80, deadline=None)
@given(st.lists(st.lists(change, max_size=4), max_size=12))
def test_whatever_happens_it_is_the_same_fleet(steps: list[list[Any]]) -> None:
    fleet = Fleet.empty().apply([seen("a"), capacity("a"), seen("b")])
    sender, receiver = Sender(), Receiver()
    for changes in steps:
        fleet = fleet.apply(changes)
        data = sender.pack(fleet)
        if data:
            there = receiver.take(data)
            # What hangs on clusters that left is not sent: nobody there can ask about it.
            if all(where in fleet for where in fleet.charges.values()) and not fleet._hidden:
                assert same(fleet, there)
            else:
                assert fleet.names == there.names
        assert sender.pack(fleet) == b""


def test_only_what_differs_travels() -> None:
    fleet = Fleet.empty().apply(
        itertools.chain.from_iterable((seen(f"c{n:03}"), capacity(f"c{n:03}", 3)) for n in range(200))
    )
    sender, receiver = Sender(), Receiver()
    everything = sender.pack(fleet)
    receiver.take(everything)
    after = fleet.apply([Charge("k", "c007", GPU, 2)])
    little = sender.pack(after)
    assert len(little) < len(everything) / 40
    assert same(after, receiver.take(little))
    # Back to what was before: a decision that was thrown away.
    assert same(fleet, receiver.take(sender.pack(fleet)))


def test_a_sender_that_remembers_too_much_begins_anew() -> None:
    sender, receiver = Sender(), Receiver()
    fleet = Fleet.empty().apply([seen("a"), capacity("a")])
    for number in range(600):
        fleet = fleet.apply([capacity("a", 1 + number % 3, str(number))])
        there = receiver.take(sender.pack(fleet))
    assert same(fleet, there)
    assert len(sender._known) < 300
    assert len(receiver._parts) < 300
