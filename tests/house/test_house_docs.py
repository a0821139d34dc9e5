"""The pages say what is so: the reference is what the code says, examples are accepted, links lead somewhere."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from hub.api.validation import load_objects
from hub.cli.main import cli
from hub.cli.up.fleetfile import read_fleet

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "docs" / "scorers").glob("*.md"))]


def _blocks(language: str) -> Iterator[tuple[str, str]]:
    for page in PAGES:
        for number, block in enumerate(re.findall(rf"```{language}\n(.*?)```", page.read_text(), re.DOTALL), 1):
            yield f"{page.relative_to(ROOT)} no. {number}", block


def test_the_reference_is_what_the_code_says() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "docs.generate", "--check"], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, f"{done.stdout}{done.stderr}run `python -m docs.generate`"


def test_every_object_on_a_page_is_accepted(tmp_path: Path) -> None:
    seen = set()
    for place, block in _blocks("yaml"):
        documents = [document for document in yaml.safe_load_all(block) if document]
        kinds = {str(document.get("kind")) for document in documents}
        seen |= kinds
        if kinds == {"Fleet"}:
            (tmp_path / "fleet.yaml").write_text(block)
            assert read_fleet(tmp_path / "fleet.yaml"), place
        elif "None" not in kinds:
            assert load_objects(block, place)
    assert {"Fleet", "FleetJob", "Job", "ClusterQueue", "ScoreSource"} <= seen


def test_every_setting_of_the_hub_on_a_page_is_one() -> None:
    from hub.controllers.config import parse_config

    found = 0
    for place, block in _blocks("yaml"):
        document = yaml.safe_load(block) if "\n---" not in block else None
        if isinstance(document, dict) and "kind" not in document:
            parse_config(document, place)
            found += 1
    assert found


def test_every_command_on_a_page_is_one() -> None:
    import click

    ctx = click.Context(cli)
    found = 0
    for page in PAGES:
        for words in re.findall(r"(?:^ +|`)(?:\$ )?quarterdeck((?: [^\s`#|…]+)+)", page.read_text(), re.MULTILINE):
            arguments = [word for word in words.split() if not word.startswith("-")]
            named = next((word for word in arguments if word in cli.list_commands(ctx)), None)
            assert named is not None, f"{page.name}: quarterdeck{words}"
            command = cli.get_command(ctx, named)
            assert command is not None
            if isinstance(command, click.Group):
                member = next((word for word in arguments if word in command.commands), None)
                assert member is not None or words.split() == [named], f"{page.name}: quarterdeck{words}"
                command = command.commands[member] if member is not None else command
            flags = {flag for param in (*command.params, *cli.params) for flag in (*param.opts, *param.secondary_opts)}
            flags |= {"--help"}
            for word in words.split():
                if word == "--":
                    break
                if word.startswith("-"):
                    assert word.partition("=")[0] in flags, f"{page.name}: quarterdeck{words}"
            found += 1
    assert found > 30


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text()):
        if not target.startswith(("http:", "https:")):
            assert (page.parent / target).exists(), target
