"""What a fleet file may say, and how a mistake in it is answered."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from hub.api.errors import UsageError
from hub.cli.demo import scene
from hub.cli.up.fleetfile import default_sites, read_fleet, remembered_sites


def _write(tmp_path: Path, document: object) -> Path:
    path = tmp_path / "fleet.yaml"
    path.write_text(document if isinstance(document, str) else yaml.safe_dump(document))
    return path


def test_the_demo_s_fleet_file_reads_back(tmp_path: Path) -> None:
    assert read_fleet(_write(tmp_path, scene.fleet_file())) == scene.SITES


@pytest.mark.parametrize(
    ("document", "says"),
    [
        ("kind: [", "is not YAML"),
        ({"kind": "Pod"}, "must say `kind: Fleet`"),
        ({"kind": "Fleet", "sites": []}, "at least one site"),
        ({"kind": "Fleet", "sites": [{"name": "a"}], "site": []}, "site: .* there is no such field"),
        ({"kind": "Fleet", "sites": [{"name": "Bad_Name"}]}, r"sites\[0\].name"),
        ({"kind": "Fleet", "sites": ["north"]}, r"sites\[0\].name"),
        ({"kind": "Fleet", "sites": [{"name": "a"}, {"name": "a"}]}, "is there twice"),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, document: object, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        read_fleet(_write(tmp_path, document))


def test_a_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "fleet.yaml").write_bytes(b"\x82\xff")
    with pytest.raises(UsageError, match="is not text in UTF-8"):
        read_fleet(tmp_path / "fleet.yaml")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        read_fleet(tmp_path / "none.yaml")


def test_one_site_is_this_machine_and_several_share_it() -> None:
    assert "nodes" not in default_sites(1)[0]
    assert [site["name"] for site in default_sites(3)] == ["site-1", "site-2", "site-3"]


def test_the_sites_of_last_time_are_remembered_if_they_can_be_read(tmp_path: Path) -> None:
    file = tmp_path / "sites.yaml"
    assert remembered_sites(file) is None
    file.write_text(yaml.safe_dump(scene.SITES))
    assert remembered_sites(file) == scene.SITES
    for damaged in ("[", "5", "[]", "- 5", "- name: 5"):
        file.write_text(damaged)
        assert remembered_sites(file) is None
