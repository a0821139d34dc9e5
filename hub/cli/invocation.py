"""How to call this program from where a person is: what is printed as a command can be typed as it is."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path


def command_line() -> str:
    """What to type to call the program that runs now: its name where it is on PATH, its path elsewhere."""
    name, path = Path(sys.argv[0]).name, Path(sys.argv[0]).absolute()
    if name not in ("quarterdeck", "qd"):
        return "quarterdeck"
    found = shutil.which(name)
    return name if found is not None and Path(found).absolute() == path else shlex.quote(shown_path(path))


def shown_path(path: Path) -> str:
    """From here where it is below here."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)
