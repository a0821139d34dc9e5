"""Writes to the hub's API, by its own count: successful ones that changed something, by verb and resource."""

from __future__ import annotations

import re
import ssl
import urllib.request
from collections import Counter

from hub.apiserver.certificates import authority
from hub.cli.up.local_fleet import LocalFleet


def count_writes(fleet: LocalFleet) -> Counter[str]:
    """`{"create fleetjobs": 12, …}` since the API server started."""
    token = re.search(r"token: (\S+)", fleet.kubeconfig.read_text())
    request = urllib.request.Request(f"{fleet.url}/metrics", headers={"Authorization": f"Bearer {token and token[1]}"})
    trusted = ssl.create_default_context(cadata=authority(fleet.paths.api).decode())
    with urllib.request.urlopen(request, timeout=10, context=trusted) as answer:
        text = answer.read().decode()
    counts: Counter[str] = Counter()
    for labels, value in re.findall(r"^quarterdeck_apiserver_writes_total\{(.*?)\} (\S+)$", text, re.MULTILINE):
        facts = dict(re.findall(r'(\w+)="(.*?)"', labels))
        counts[f"{facts['verb']} {facts['resource']}"] += int(float(value))
    return counts


def per_job(writes: Counter[str], jobs: int) -> float:
    """Events and Leases apart: they are not a job's."""
    return sum(n for what, n in writes.items() if not what.endswith((" events", " leases"))) / jobs
