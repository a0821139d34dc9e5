"""`make e2e`: the end-to-end tests on every Kubernetes of the matrix, or one line that says why not.

All tests on the newest, those that take long left out on the others. Exit code 0 where there are no binaries and no Go
to build them (with --require: 3), else pytest's.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

from e2e import versions
from e2e.building import SKIPPED, CannotBuildError, binaries

_TESTS = Path(__file__).parent / "tests"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m e2e.run", description="Run the end-to-end tests.")
    parser.add_argument("--kubernetes", help=f"one of {', '.join(versions.KUBERNETES)} alone (default: all)")
    parser.add_argument("--require", action="store_true", help=f"exit with {SKIPPED} where they cannot run")
    options, for_pytest = parser.parse_known_args()
    try:
        chosen = [versions.chosen(options.kubernetes)] if options.kubernetes else list(versions.KUBERNETES)
        for version in chosen:
            binaries(version)
    except CannotBuildError as error:
        print(f"e2e: skipped: {error}")
        return SKIPPED if options.require else 0
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for version in chosen:
        began = time.monotonic()
        print(f"e2e: Kubernetes {version}", flush=True)
        quick = () if version == versions.newest() else ("-m", "not slow")
        # One process: the tests share one set of control planes, and two cores are busy with these.
        command = [sys.executable, "-m", "pytest", str(_TESTS), *quick, *for_pytest]
        code = subprocess.run(command, env={**os.environ, "E2E_KUBERNETES": version}).returncode
        print(f"e2e: Kubernetes {version}: {'passed' if code == 0 else 'failed'} in {time.monotonic() - began:.0f} s")
        if code:
            return code
    return 0


if __name__ == "__main__":
    sys.exit(main())
