"""Real control planes until Ctrl-C, for people and for programs that are not Python: `python -m e2e.up`.

Prints one line of JSON once all is ready: the kubeconfigs, the tools, the pids.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import threading
from contextlib import ExitStack
from types import FrameType

from e2e import versions
from e2e.building import SKIPPED, CannotBuildError
from e2e.nodes import MEMBERS
from e2e.planes import Planes, control_plane, fleet


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m e2e.up", description="Start real control planes; Ctrl-C ends them."
    )
    parser.add_argument("--kubernetes", default=versions.newest(), help=f"one of {', '.join(versions.KUBERNETES)}")
    parser.add_argument("--members", type=int, default=len(MEMBERS), help=f"0 to {len(MEMBERS)}; 0: one cluster alone")
    parser.add_argument("--fsync", action="store_true", help="etcd as in production")
    options = parser.parse_args()
    if not 0 <= options.members <= len(MEMBERS):
        parser.error(f"--members: 0 to {len(MEMBERS)}")
    done = threading.Event()

    def stop(_number: int, _frame: FrameType | None) -> None:
        # Raised, not noted: it has to end a start that hangs as well.
        done.set()
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)
    try:
        with ExitStack() as stack:
            ready = _start(options, stack)
            print(json.dumps(ready), flush=True)
            print("ready; Ctrl-C ends it", file=sys.stderr, flush=True)
            done.wait()
    except KeyboardInterrupt:
        return 0
    except CannotBuildError as error:
        print(f"e2e: skipped: {error}", file=sys.stderr)
        return SKIPPED
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _start(options: argparse.Namespace, stack: ExitStack) -> dict[str, object]:
    if options.members == 0:
        cluster = stack.enter_context(control_plane(version=options.kubernetes, fsync=options.fsync, say=_say))
        return {"kubeconfig": str(cluster.kubeconfig), "url": cluster.url, "pids": cluster.processes.pids()}
    chosen = dict(list(MEMBERS.items())[: options.members])
    planes = stack.enter_context(fleet(chosen, version=options.kubernetes, fsync=options.fsync, say=_say))
    return _said(planes)


def _said(planes: Planes) -> dict[str, object]:
    return {
        "hub": str(planes.hub.kubeconfig),
        "members": {name: str(member.kubeconfig) for name, member in planes.members.items()},
        "binaries": {name: str(path) for name, path in planes.binaries.paths.items()},
        "seconds": round(planes.seconds, 1),
        "pids": planes.processes.pids(),
    }


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
