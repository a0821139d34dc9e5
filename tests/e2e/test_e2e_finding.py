"""Where binaries are looked for, which fit, and that what is committed builds what e2e/versions.py names."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from e2e import building, versions
from e2e.finding import NAMES, cached, find, fits, ldflags, version_of
from e2e.pin import KUBERNETES_TOOLS, MODULES, go_mod, module_of


def program(folder: Path, name: str, says: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\necho '{says}'\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def nothing(tmp_path: Path) -> dict[str, str]:
    """An environment in which nothing is found."""
    (tmp_path / "empty").mkdir()
    return {"PATH": str(tmp_path / "empty"), "XDG_CACHE_HOME": str(tmp_path / "cache")}


def test_the_order_is_the_variable_of_one_then_the_folder_then_path_then_the_cache(
    tmp_path: Path, nothing: dict[str, str]
) -> None:
    built = cached("1.37.2", nothing)
    for name in NAMES:
        program(built, name, "Kubernetes v1.37.2")
    found, unfit = find("1.37.2", nothing)
    assert not found.missing
    assert not unfit
    assert set(found.paths.values()) == {built / name for name in NAMES}

    on_path = program(tmp_path / "bin", "etcd", "etcd Version: 3.6.1")
    environment = nothing | {"PATH": str(tmp_path / "bin")}
    assert find("1.37.2", environment)[0].paths["etcd"] == on_path

    in_folder = program(tmp_path / "assets", "etcd", "etcd Version: 3.6.1")
    environment["KUBEBUILDER_ASSETS"] = str(tmp_path / "assets")
    assert find("1.37.2", environment)[0].paths["etcd"] == in_folder

    named = program(tmp_path / "own", "my-etcd", "etcd Version: 3.5.9")
    environment["TEST_ASSET_ETCD"] = str(named)
    assert find("1.37.2", environment)[0].paths["etcd"] == named


def test_what_does_not_fit_is_told_and_not_used(tmp_path: Path, nothing: dict[str, str]) -> None:
    program(tmp_path / "assets", "kube-apiserver", "Kubernetes v1.31.0")
    found, unfit = find("1.37.2", nothing | {"KUBEBUILDER_ASSETS": str(tmp_path / "assets")})
    assert found.missing == NAMES
    (line,) = unfit
    assert "1.31.0" in line
    assert "KUBEBUILDER_ASSETS" in line


@pytest.mark.parametrize(
    ("name", "version", "fitting"),
    [
        ("kube-apiserver", "1.37.0", True),
        ("kube-apiserver", "1.36.9", False),
        ("kubectl", "1.36.1", True),
        ("kubectl", "1.38.0", True),
        ("kubectl", "1.32.4", False),
        ("etcd", "3.4.30", False),
        ("etcd", "3.7.0", True),
        ("kwok", "0.6.9", False),
        ("kwok", "0.8.0", True),
    ],
)
def test_which_versions_fit(name: str, version: str, fitting: bool) -> None:
    assert fits(name, version, "1.37.2") == fitting


def test_a_program_that_cannot_run_or_says_nothing_has_no_version(tmp_path: Path) -> None:
    assert version_of("etcd", program(tmp_path, "silent", "hello")) == ""
    assert version_of("etcd", tmp_path / "nowhere") == ""


@pytest.mark.parametrize("version", versions.KUBERNETES)
def test_the_committed_modules_are_those_of_the_matrix(version: str) -> None:
    module = (module_of(version) / "go.mod").read_text()
    for required in (f"k8s.io/kubernetes v{version}", f"sigs.k8s.io/kwok v{versions.KWOK}"):
        assert re.search(rf"^\s*{re.escape(required)}\b", module, re.MULTILINE), f"make e2e-pin: {required}"
    staging = "v0." + version.split(".", 1)[1]
    replaced = re.findall(r"^\t(k8s\.io/\S+) => (\S+) (\S+)$", module, re.MULTILINE)
    assert len(replaced) > 30
    assert all(name == target and pinned == staging for name, target, pinned in replaced)
    for tool in KUBERNETES_TOOLS:
        assert f"k8s.io/kubernetes/cmd/{tool}\n" in module
    assert (module_of(version) / "go.sum").stat().st_size > 10_000
    assert f"gitVersion=v{version}" in ldflags(version)


def test_every_folder_of_modules_is_one_of_the_matrix() -> None:
    folders = {path.parent for path in MODULES.glob("v*/go.mod")}
    assert {folder.name for folder in folders} == {module_of(version).name for version in versions.KUBERNETES}


def test_a_go_mod_that_names_no_staging_modules_is_not_taken_for_one() -> None:
    with pytest.raises(ValueError, match="staging"):
        go_mod("1.37.2", "module k8s.io/kubernetes\n\ngo 1.26.0\n")


def test_versions_are_chosen_in_full_or_by_their_minor() -> None:
    newest = versions.newest()
    assert versions.chosen(newest) == versions.chosen(f"v{newest}") == versions.chosen(versions.minor(newest)) == newest
    with pytest.raises(ValueError, match="there is"):
        versions.chosen("1.1")


def test_without_go_it_is_one_line_and_no_failure(tmp_path: Path, nothing: dict[str, str]) -> None:
    environment = nothing | {"PYTHONPATH": str(Path(building.__file__).parent.parent), "HOME": str(tmp_path)}
    for module, code in (("e2e.building", 0), ("e2e.run", 0)):
        done = subprocess.run([sys.executable, "-m", module], env=environment, capture_output=True, text=True)
        said = (done.stdout + done.stderr).strip()
        assert done.returncode == code, said
        assert len(said.splitlines()) == 1
        assert said.startswith("e2e: skipped: no etcd for Kubernetes")
        assert "KUBEBUILDER_ASSETS" in said
        required = subprocess.run([sys.executable, "-m", module, "--require"], env=environment, capture_output=True)
        assert required.returncode == building.SKIPPED
