"""Clusters by position: what is read back, what is shared, what the vectors of versions say."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hub.fleet.cluster import Cluster
from hub.fleet.roster import Roster
from hub.fleet.versions import Versions

_SIZES = st.integers(0, 200)


@given(_SIZES, st.data())
def test_a_roster_reads_as_the_list_it_was_made_of_and_stays_as_it_was(size: int, data: st.DataObject) -> None:
    clusters = [Cluster(f"c{number:03d}") for number in range(size)]
    places = data.draw(st.sets(st.integers(0, size - 1)) if size else st.just(set()))
    changed = {place: Cluster(f"new{place}") for place in places}
    old = Roster(clusters)
    new = old.with_changed(changed)
    assert list(old) == clusters
    assert len(old) == size
    assert [old[place] for place in range(size)] == clusters
    assert list(new) == [changed.get(place, cluster) for place, cluster in enumerate(clusters)]


def test_what_did_not_change_is_shared() -> None:
    old = Roster(Cluster(f"c{number}") for number in range(300))
    new = old.with_changed({70: Cluster("other"), 71: Cluster("another")})
    assert [before is after for before, after in zip(old._runs, new._runs, strict=True)] == [True, False, *[True] * 3]


def test_vectors_of_versions_are_new_only_where_a_version_is() -> None:
    clusters = [Cluster(f"c{number}") for number in range(3)]
    roster = Roster(clusters)
    versions = Versions.of(clusters)
    held, failed = clusters[1]._held_otherwise(), clusters[2].with_facts_problem("unreadable")
    after = versions.after({1: held, 2: failed}, roster)
    assert after.fits.tolist() == [clusters[0].version, held.version, clusters[2].version]
    assert versions.fits.tolist() == [cluster.version for cluster in clusters]
    assert after.facts is versions.facts
    assert after.objects is versions.objects
    assert after.sites is versions.sites
