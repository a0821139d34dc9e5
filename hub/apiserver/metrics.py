"""What the server counts, in Prometheus' text format. Writes are counted when they are durable, and only if they
changed something: they are what a fleet pays for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping


class Metrics:
    def __init__(self) -> None:
        self.writes: Counter[tuple[str, str]] = Counter()
        self.requests: Counter[tuple[str, int]] = Counter()

    def count_write(self, verb: str, resource: str) -> None:
        """`verb` is create, update, patch or delete; `resource` such as ``fleetjobs`` or ``fleetjobs/status``."""
        self.writes[verb, resource] += 1

    def text(self, gauges: Mapping[str, tuple[str, float]], objects: Iterable[tuple[str, str, int]]) -> str:
        """`gauges`: name → (help, value). `objects`: (cluster, resource, how many)."""
        lines = [
            "# HELP quarterdeck_apiserver_writes_total Successful writes that changed something.",
            "# TYPE quarterdeck_apiserver_writes_total counter",
        ]
        for (verb, resource), count in sorted(self.writes.items()):
            lines.append(f'quarterdeck_apiserver_writes_total{{verb="{verb}",resource="{resource}"}} {count}')
        lines += [
            "# HELP quarterdeck_apiserver_requests_total Answered requests, watches when they begin.",
            "# TYPE quarterdeck_apiserver_requests_total counter",
        ]
        for (method, code), count in sorted(self.requests.items()):
            lines.append(f'quarterdeck_apiserver_requests_total{{method="{method}",code="{code}"}} {count}')
        lines += [
            "# HELP quarterdeck_apiserver_objects Objects in the store.",
            "# TYPE quarterdeck_apiserver_objects gauge",
        ]
        for cluster, resource, count in objects:
            lines.append(f'quarterdeck_apiserver_objects{{cluster="{cluster}",resource="{resource}"}} {count}')
        for name, (text, value) in gauges.items():
            lines += [f"# HELP {name} {text}", f"# TYPE {name} gauge", f"{name} {value:g}"]
        return "\n".join(lines) + "\n"
