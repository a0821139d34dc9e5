"""Prices of a site's entry: read by field, sent as the API takes them, and the same to the hub."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from agent.edge.description import Description
from agent.edge.images import Images
from agent.edge.nodes import Nodes
from agent.edge.sitefile import parse_site
from hub.api.errors import InvalidObjectError
from hub.api.fleet import ClusterCapacity
from hub.fleet.prices import PriceTime, Rates
from hub.fleet.site import read_site

ENTRY = """
name: harbour
prices:
  gpuHour: {A100: "2.10"}
  cpuHour: 0.04
  egressGiB: "0.09"
  spot: {gpuHour: {A100: "0.7"}, memoryGiBHour: "0.001"}
  times:
  - {begin: 22:00, end: 06:00, factor: 0.6, utcOffset: "+02:00"}
  - {begin: "00:00", end: 24:00, days: [Sat], factor: "0.8"}
nodes:
- {name: g, count: 1, cpu: 8, memory: 8Gi, gpu: {model: A100, count: 1}}
"""


def capacity(entry: str) -> dict[str, Any]:
    site = parse_site(yaml.safe_load(entry))
    status = Description(site, Nodes(site.groups), Images({})).capacity()
    return {"metadata": {"name": site.name, "namespace": site.name}, "status": status}


def test_what_is_written_reaches_the_hub_as_it_is() -> None:
    sent = capacity(ENTRY)
    # The API would take it.
    ClusterCapacity.model_validate({"apiVersion": "fleet.quarterdeck.dev/v1alpha1", "kind": "ClusterCapacity", **sent})
    prices = read_site(sent).prices
    assert (prices.gpu_hour, prices.cpu_hour, prices.memory_gib_hour) == ({"A100": 2.1}, 0.04, None)
    assert prices.spot == Rates({"A100": 0.7}, None, 0.001)
    assert prices.egress_gib == 0.09
    assert prices.times == (
        PriceTime(20 * 60, 4 * 60, tuple(range(7)), 0.6),
        PriceTime(0, 0, (5,), 0.8),
    )


@pytest.mark.parametrize(
    ("prices", "field"),
    [
        ({"spot": {"egressGiB": "1"}}, "prices.spot.egressGiB"),
        ({"spot": {"cpuHour": "cheap"}}, "prices.spot.cpuHour"),
        ({"egressGiB": "much"}, "prices.egressGiB"),
        ({"times": [{"begin": "22:00", "end": "06:00"}]}, "prices.times[0].factor"),
        ({"times": [{"begin": "22:07", "end": "06:00", "factor": 1}]}, "prices.times[0].begin"),
        ({"times": [{"begin": 22, "end": "06:00", "factor": 1, "zone": "CET"}]}, "prices.times[0].zone"),
        ({"times": [{"begin": "22:00", "end": "06:00", "factor": 1, "days": ["Mo"]}]}, "prices.times[0].days"),
    ],
)
def test_what_is_no_price_is_said_by_field(prices: Any, field: str) -> None:
    with pytest.raises(InvalidObjectError) as caught:
        parse_site({"name": "a", "prices": prices})
    assert caught.value.field is not None
    assert caught.value.field.startswith(field)
