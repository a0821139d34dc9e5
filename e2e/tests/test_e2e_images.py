"""The images' build stages, step by step without a daemon: what they make starts, and has the versions that are locked.

Another root stands for the image's: `/opt/quarterdeck` and the working directory are folders of the test. It needs the
package index that pip is set up for.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).resolve().parents[2]
STARTS: Final = {"hub": ("-m", "hub.controllers", "--help"), "agent": ("-m", "agent.main", "--help")}


def build_stage(path: Path) -> list[tuple[str, str]]:
    text = re.sub(r"^\s*#.*\n", "", path.read_text(), flags=re.MULTILINE)
    text = re.sub(r"\\\n\s*", " ", text)
    found = [(word, rest) for word, _, rest in (line.partition(" ") for line in text.splitlines() if line.strip())]
    begin, end = (index for index, (word, _) in enumerate(found) if word == "FROM")
    return found[begin + 1 : end]


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("image", STARTS)
def test_the_build_stage_makes_something_that_starts(image: str, tmp_path: Path) -> None:
    source, made = tmp_path / "src", tmp_path / "opt"
    source.mkdir()
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    environment.pop("PYTHONPATH", None)
    for word, rest in build_stage(ROOT / "images" / image / "Dockerfile"):
        if word == "COPY":
            *sources, target = rest.split()
            for name in sources:
                into = source / target / (Path(name).name if target.endswith("/") else "")
                if (ROOT / name).is_dir():
                    shutil.copytree(ROOT / name, source / target, ignore=shutil.ignore_patterns("__pycache__"))
                else:
                    shutil.copy(ROOT / name, into)
        elif word == "RUN":
            command = rest.replace("/opt/quarterdeck", str(made))
            done = subprocess.run(
                ["sh", "-c", command], cwd=source, env=environment, capture_output=True, text=True, timeout=500
            )
            if "Could not find a version" in done.stderr or "No matching distribution" in done.stderr:
                pytest.skip(f"pip reaches no index from here: {done.stderr.strip().splitlines()[-1]}")
            assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        else:
            assert word in ("ENV", "WORKDIR"), word
    python = made / "bin" / "python"
    bare = {"PATH": f"{made / 'bin'}:/usr/bin:/bin", "HOME": str(tmp_path)}
    started = subprocess.run([python, *STARTS[image]], cwd=tmp_path, env=bare, capture_output=True, text=True)
    assert started.returncode == 0, started.stderr
    assert "usage:" in started.stdout
    listing = "import importlib.metadata as m; print(*(f'{d.name}=={d.version}' for d in m.distributions()), sep='\\n')"
    installed = subprocess.run([python, "-c", listing], env=bare, capture_output=True, text=True, check=True).stdout
    locked = set(re.findall(r"^([\w.-]+==[^\s;]+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE))
    names = {_plain(line) for line in locked}
    for line in installed.splitlines():
        if not line.startswith(("quarterdeck==", "pip==", "setuptools==")):
            assert _plain(line) in names, f"{line} is not what is locked"
    assert ("numpy==" in installed) == (image == "hub")


def _plain(pinned: str) -> str:
    name, _, version = pinned.partition("==")
    return f"{re.sub(r'[-_.]+', '-', name).lower()}=={version}"
