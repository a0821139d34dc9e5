"""Fleet, sets, Placements, scores and quotas of some objects, read into a World as the running hub reads its own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from hub.api import resource
from hub.api.errors import InvalidObjectError
from hub.api.timestamps import parse_time
from hub.controllers.world import World
from hub.fleet.changes import ScoresSeen
from hub.queueing.quotas import quota_kinds
from hub.scoring.state import ScoreState
from hub.server.placements import chosen_by_placement
from hub.server.reading import Json, Objects
from hub.server.recorded_scorers import recorded_scorers

_FOR_EVER: Final = float("inf")


def read_world(world: World, objects: Objects, known: ScoreState | None) -> list[str]:
    """What has no effect, in words. `known`: what a hub's scorers know; None: only what objects say.

    What is malformed is added to `objects.problems`.
    """
    notes: list[str] = []
    for kind in sorted(quota_kinds()):
        for obj in objects.of(kind):
            world.quota_seen(dict(obj))
    for cluster in objects.of(resource.MANAGED_CLUSTERS):
        world.cluster_seen(dict(cluster))
    for capacity in objects.of(resource.CLUSTER_CAPACITIES):
        world.capacity_seen(dict(capacity))
    for cluster_set in objects.of(resource.MANAGED_CLUSTER_SETS):
        world.set_changed(str(cluster_set["metadata"]["name"]), dict(cluster_set))
    for binding in objects.of(resource.MANAGED_CLUSTER_SET_BINDINGS):
        meta = binding["metadata"]
        world.binding_changed(f"{meta.get('namespace')}/{meta['name']}", dict(binding))
    for placement in objects.of(resource.PLACEMENTS):
        meta = placement["metadata"]
        world.placement_changed(str(meta.get("namespace") or "default"), str(meta["name"]), dict(placement))
    for key, clusters in sorted(chosen_by_placement(objects.of(resource.PLACEMENT_DECISIONS)).items()):
        namespace, _, name = key.partition("/")
        world.placement_decided(namespace, name, tuple(sorted(set(clusters))))
    # What is past its validity stays, for Placements that prefer an old score to none.
    scores = objects.of(resource.ADDON_PLACEMENT_SCORES)
    columns, ends = addon_columns(scores, -_FOR_EVER), addon_ends(scores)
    for name in sorted(columns):
        addon = name.split("/")[1]
        until = {cluster: ends[cluster, addon] for cluster in columns[name] if (cluster, addon) in ends}
        world.note(ScoresSeen(name, columns[name], _FOR_EVER, until))
    if known is None:
        recorded = recorded_scorers(objects)
        for seen in recorded.columns:
            world.note(seen)
        notes = list(recorded.notes)
    for name, column in known.columns.items() if known is not None else ():
        end = _FOR_EVER if column.valid_until is None else column.valid_until
        world.note(ScoresSeen(name, column.values, end, column.until))
    world.refresh()
    for kind in sorted(quota_kinds()):
        for source in objects.sources(kind):
            detail = world.quotas.unreadable(kind, source.obj)
            if detail is not None:
                objects.problem(source, InvalidObjectError(detail))
    return notes


def addon_columns(scores: Iterable[Json], now: float) -> dict[str, dict[str, float]]:
    """AddOnPlacementScores as columns ``AddOn/RESOURCE/SCORE`` by cluster; what is past `validUntil` is left out."""
    columns: dict[str, dict[str, float]] = {}
    for obj in scores:
        meta, status = obj["metadata"], obj.get("status") or {}
        until = status.get("validUntil")
        if until and parse_time(str(until)).timestamp() <= now:
            continue
        for entry in status.get("scores") or ():
            if isinstance(entry, Mapping) and entry.get("name") and isinstance(entry.get("value"), int | float):
                column = columns.setdefault(f"AddOn/{meta['name']}/{entry['name']}", {})
                column[str(meta.get("namespace"))] = float(entry["value"])
    return columns


def addon_ends(scores: Iterable[Json]) -> dict[tuple[str, str], float]:
    """Until when (epoch seconds) the scores of (cluster, resource) count, where they say it."""
    found: dict[tuple[str, str], float] = {}
    for obj in scores:
        meta, until = obj["metadata"], (obj.get("status") or {}).get("validUntil")
        if until:
            found[str(meta.get("namespace")), str(meta["name"])] = parse_time(str(until)).timestamp()
    return found
