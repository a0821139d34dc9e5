"""What imports what, where it costs: the agent stays small, the command line starts quickly, a wheel is complete."""

from __future__ import annotations

import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# Modules of the extras, as they are imported.
HEAVY = (
    "numpy",
    "scipy",
    "networkx",
    "kopf",
    "rich",
    "structlog",
    "click",
    "prometheus_client",
    "prometheus_api_client",
)

# What Python itself takes for "not installed".
_BLOCK = "import sys\nsys.modules.update(dict.fromkeys({blocked!r}))\n"


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)


def test_the_agent_runs_without_anything_of_the_hubs_extra() -> None:
    optional = (*HEAVY, "cel_expr_python", "uvloop")
    code = (
        _BLOCK.format(blocked=optional)
        + "import agent.main, agent.edge.site, agent.kubernetes, hub.apiserver.server\n"
        + "import agent.scoring.room, agent.scoring.pacing, agent.scoring.report, agent.scoring.orders, hub.asking.ask"
    )
    done = python(code)
    assert done.returncode == 0, done.stderr


def test_who_serves_or_asks_an_api_needs_no_models() -> None:
    code = (
        "import sys\nimport agent.main, agent.assembly, agent.edge.site, agent.kubernetes, hub.apiserver.server\n"
        "sys.exit(', '.join(name for name in sys.modules if name.startswith('pydantic')))"
    )
    done = python(code)
    assert done.stderr.strip() == ""


def test_the_agents_dependencies_are_the_base_list() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    base = {line.split(">")[0].strip() for line in project["dependencies"]}
    assert base == {"aiohttp", "httptools", "kubernetes", "orjson", "pydantic", "pyyaml", "yarl"}


def test_help_imports_nothing_that_takes_time() -> None:
    code = (
        "import sys\nsys.argv = ['quarterdeck', '--help']\nfrom hub.cli.main import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "print(sorted({name.partition('.')[0] for name in sys.modules}), file=sys.stderr)"
    )
    done = python(code)
    assert "Commands:" in done.stdout
    loaded = done.stderr
    for module in ("numpy", "pydantic", "aiohttp", "yaml", "kopf", "rich", "kubernetes"):
        assert f"'{module}'" not in loaded


@pytest.mark.slow
def test_a_wheel_holds_all_that_runs(tmp_path: Path) -> None:
    built = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
    )
    if "No module named hatchling" in built.stderr:
        pytest.skip("hatchling is not in this environment")
    assert built.returncode == 0, built.stderr
    (wheel,) = tmp_path.glob("*.whl")
    held = set(zipfile.ZipFile(wheel).namelist())
    assert "hub/api/crds/fleet.quarterdeck.dev_fleetjobs.yaml" in held
    sources = {str(path.relative_to(ROOT)) for room in ("hub", "agent") for path in (ROOT / room).rglob("*.py")}
    assert sources <= held
