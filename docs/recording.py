"""Records `quarterdeck demo` in a real terminal as docs/demo.svg: what the README shows is what a person sees.

python -m docs.recording        needs tmux on PATH
"""

from __future__ import annotations

import io
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.text import Text

_WIDTH, _HEIGHT = 104, 60
_SVG = Path(__file__).parent / "demo.svg"


def record() -> str:
    """The terminal's last screen, with its colours as ANSI sequences."""
    with tempfile.TemporaryDirectory(prefix="quarterdeck-recording-") as directory:
        session = f"recording-{Path(directory).name}"
        done = Path(directory) / "done"
        command = (
            f"cd {directory} && QUARTERDECK_HOME={directory} {sys.executable} -m hub.cli demo --data .demo; "
            f"touch {done}; sleep 60"
        )
        size = ("-x", str(_WIDTH), "-y", str(_HEIGHT))
        subprocess.run(["tmux", "new-session", "-d", "-s", session, *size, command], check=True)
        try:
            deadline = time.monotonic() + 120
            while not done.exists():
                if time.monotonic() > deadline:
                    sys.exit("the demo did not end within two minutes")
                time.sleep(0.2)
            captured = subprocess.run(
                ["tmux", "capture-pane", "-e", "-p", "-t", session], check=True, capture_output=True, text=True
            )
            return captured.stdout.rstrip().replace(directory, "~")
        finally:
            subprocess.run(["tmux", "kill-session", "-t", session], check=False)


def main() -> None:
    console = Console(record=True, width=_WIDTH, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    console.print(Text.from_ansi("$ make demo\n" + record()))
    svg = console.export_svg(title="quarterdeck demo", unique_id="demo")
    # The default look fetches a font from the network; any monospace font does.
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL).replace(
        "Fira Code", "ui-monospace, Menlo, Consolas"
    )
    _SVG.write_text(svg)
    print(f"{_SVG}: {len(svg):,} bytes")


if __name__ == "__main__":
    main()
