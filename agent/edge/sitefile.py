"""A site's entry of a fleet file: what the site is called, what hardware it declares, what runs there already.

Every mistake is answered with the field and what may stand there. A site that declares nodes is a declared one
(`simulated` wherever a person sees it); without nodes it is the machine it runs on (agent/edge/hardware.py). Nothing is
looked up here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Literal, cast

import yaml

from hub.api import names
from hub.api.errors import InvalidObjectError, UsageError
from hub.api.quantity import Quantity

Runtime = Literal["process", "simulated"]
_RUNTIMES: Final = ("process", "simulated")
_EFFECTS: Final = ("NoSchedule", "PreferNoSchedule", "NoExecute")
_NAME: Final = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_LABEL_KEY: Final = re.compile(r"([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_LABEL_VALUE: Final = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
_MAX_NODES: Final = 100_000
_MAX_GPUS: Final = 256
_SITE_FIELDS: Final = ("name", "runtime", "labels", "prices", "nodes", "busy", "images", "timeScale", "logs")
_NODE_FIELDS: Final = ("name", "count", "cpu", "memory", "gpu", "labels", "taints", "resources")


@dataclass(frozen=True, slots=True)
class Taint:
    key: str
    value: str
    effect: str


@dataclass(frozen=True, slots=True)
class Gpus:
    """GPUs of one node; `memory` is bytes of each, 0 unknown."""

    model: str
    count: int
    memory: int = 0


@dataclass(frozen=True, slots=True)
class NodeGroup:
    """`count` nodes that are alike; cpu in thousandths, memory in bytes, `resources` in whole units."""

    name: str
    count: int
    cpu: int
    memory: int
    gpus: Gpus | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    taints: tuple[Taint, ...] = ()
    resources: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Busy:
    """Something that runs on one node and is not ours; GPUs in thousandths of one."""

    cpu: int = 0
    memory: int = 0
    gpu_milli: int = 0
    # The group it must be in; empty: wherever it fits.
    group: str = ""


@dataclass(frozen=True, slots=True)
class Prices:
    """As they were written: they travel to the hub as quantities. `times` as in a ClusterCapacity."""

    gpu_hour: Mapping[str, str] = field(default_factory=dict)
    cpu_hour: str | None = None
    memory_gib_hour: str | None = None
    spot: Prices | None = None
    egress_gib: str | None = None
    times: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class SiteFile:
    """`groups` empty: the machine itself. `images`: pattern → ``host`` or the image a container runtime should run."""

    name: str
    runtime: Runtime = "process"
    labels: Mapping[str, str] = field(default_factory=dict)
    prices: Prices = Prices()
    groups: tuple[NodeGroup, ...] = ()
    busy: tuple[Busy, ...] = ()
    images: Mapping[str, str] = field(default_factory=dict)
    time_scale: float = 1.0
    # Bytes kept of one task's log.
    log_bytes: int = 64 << 20

    @property
    def declared(self) -> bool:
        """Whether its hardware stands in a file only."""
        return bool(self.groups) or self.runtime == "simulated"


def read_site_file(path: Path) -> SiteFile:
    """Raises `UsageError` when the file cannot be read, `InvalidObjectError` by field when it makes no sense."""
    try:
        document = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not text"
        raise UsageError(f"cannot read {path}: {why}", field="--site-file") from error
    except yaml.YAMLError as error:
        raise UsageError(f"{path} is not YAML: {' '.join(str(error).split())}", field="--site-file") from error
    return parse_site(document)


def parse_site(entry: Any) -> SiteFile:
    """One entry of a fleet file's `sites`. Raises `InvalidObjectError` naming the field and what it may be."""
    site = _map(entry, "site")
    _only(site, "", _SITE_FIELDS)
    name = site.get("name")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InvalidObjectError(
            f"{name!r} is not a cluster name: lower-case letters, digits and '-', at most 63", field="name"
        )
    runtime = site.get("runtime", "process")
    if runtime not in _RUNTIMES:
        raise InvalidObjectError(f"{runtime!r} is not a runtime: write {' or '.join(_RUNTIMES)}", field="runtime")
    if "timeScale" in site and runtime != "simulated":
        raise InvalidObjectError("only tasks of runtime simulated can go faster than time", field="timeScale")
    groups = _groups(site.get("nodes"), name)
    return SiteFile(
        name=name,
        runtime=cast(Runtime, runtime),
        labels=_labels(site.get("labels"), "labels"),
        prices=_prices(site.get("prices")),
        groups=groups,
        busy=tuple(_busy(site.get("busy"), groups)),
        images=_images(site.get("images")),
        time_scale=_scale(site.get("timeScale", 1)),
        log_bytes=_log_bytes(site.get("logs")),
    )


def _groups(value: Any, site: str) -> tuple[NodeGroup, ...]:
    groups: list[NodeGroup] = []
    total = 0
    for position, entry in enumerate(_list(value, "nodes")):
        where = f"nodes[{position}]"
        node = _map(entry, where)
        _only(node, where, _NODE_FIELDS)
        name = node.get("name", f"{site}-{position + 1}")
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise InvalidObjectError(
                f"{name!r} is not a name: lower-case letters, digits and '-'", field=f"{where}.name"
            )
        if any(group.name == name for group in groups):
            raise InvalidObjectError(f"{name} is there twice", field=f"{where}.name")
        count = _whole(node.get("count", 1), f"{where}.count", 0, _MAX_NODES)
        total += count
        if total > _MAX_NODES:
            raise InvalidObjectError(f"more than {_MAX_NODES:,} nodes in one site", field=f"{where}.count")
        for required in ("cpu", "memory"):
            if required not in node:
                raise InvalidObjectError("required: what one node has", field=f"{where}.{required}")
        groups.append(
            NodeGroup(
                name=name,
                count=count,
                cpu=_quantity(node["cpu"], f"{where}.cpu").milli(),
                memory=_quantity(node["memory"], f"{where}.memory").ceil(),
                gpus=_gpus(node.get("gpu"), f"{where}.gpu"),
                labels=_labels(node.get("labels"), f"{where}.labels"),
                taints=tuple(_taints(node.get("taints"), f"{where}.taints")),
                resources={
                    str(key): _quantity(amount, f"{where}.resources.{key}").ceil()
                    for key, amount in _map(node.get("resources", {}), f"{where}.resources").items()
                },
            )
        )
        taken = {"cpu", "memory", names.GPU, names.GPU_MILLI} & set(groups[-1].resources)
        if taken:
            raise InvalidObjectError(
                "has a field of its own: cpu, memory or gpu of the node", field=f"{where}.resources.{min(taken)}"
            )
    return tuple(groups)


def _gpus(value: Any, where: str) -> Gpus | None:
    if value is None:
        return None
    gpu = _map(value, where)
    _only(gpu, where, ("model", "count", "memory"))
    model = gpu.get("model")
    if not isinstance(model, str) or not model or not _LABEL_VALUE.fullmatch(model):
        raise InvalidObjectError(
            f"{model!r} is not a GPU model: write its name as jobs ask for it, such as A100", field=f"{where}.model"
        )
    count = _whole(gpu.get("count", 1), f"{where}.count", 1, _MAX_GPUS)
    memory = _quantity(gpu["memory"], f"{where}.memory").ceil() if "memory" in gpu else 0
    return Gpus(model, count, memory)


def _busy(value: Any, groups: tuple[NodeGroup, ...]) -> Iterable[Busy]:
    for position, entry in enumerate(_list(value, "busy")):
        where = f"busy[{position}]"
        busy = _map(entry, where)
        _only(busy, where, ("count", "cpu", "memory", "gpus", "node"))
        node = busy.get("node", "")
        if node and node not in {group.name for group in groups}:
            known = ", ".join(group.name for group in groups) or "none is declared"
            raise InvalidObjectError(f"{node!r} is not the name of a node entry: {known}", field=f"{where}.node")
        if not {"cpu", "memory", "gpus"} & set(busy):
            raise InvalidObjectError("says nothing: write cpu, memory or gpus", field=where)
        one = Busy(
            cpu=_quantity(busy.get("cpu", 0), f"{where}.cpu").milli(),
            memory=_quantity(busy.get("memory", 0), f"{where}.memory").ceil(),
            gpu_milli=_quantity(busy.get("gpus", 0), f"{where}.gpus").milli(),
            group=str(node),
        )
        if one.gpu_milli > 1000 and one.gpu_milli % 1000:
            raise InvalidObjectError(
                "a share is of one GPU: write a whole number, or a fraction below 1", field=f"{where}.gpus"
            )
        for _ in range(_whole(busy.get("count", 1), f"{where}.count", 1, _MAX_NODES)):
            yield one


def _taints(value: Any, where: str) -> Iterable[Taint]:
    for position, entry in enumerate(_list(value, where)):
        field_ = f"{where}[{position}]"
        taint = _map(entry, field_)
        _only(taint, field_, ("key", "value", "effect"))
        key, effect = taint.get("key"), taint.get("effect")
        if not isinstance(key, str) or not _LABEL_KEY.fullmatch(key):
            raise InvalidObjectError(f"{key!r} is not a taint's key", field=f"{field_}.key")
        if effect not in _EFFECTS:
            raise InvalidObjectError(f"{effect!r}: write {', '.join(_EFFECTS)}", field=f"{field_}.effect")
        yield Taint(key, str(taint.get("value") or ""), effect)


def _labels(value: Any, where: str) -> dict[str, str]:
    labels: dict[str, str] = {}
    for key, member in _map({} if value is None else value, where).items():
        if not isinstance(key, str) or not _LABEL_KEY.fullmatch(key):
            raise InvalidObjectError(f"{key!r} is not a label's key", field=where)
        if isinstance(member, bool) or not isinstance(member, str | int | float):
            raise InvalidObjectError(f"{member!r} is not a label's value: write a string", field=f"{where}.{key}")
        if not _LABEL_VALUE.fullmatch(str(member)):
            raise InvalidObjectError(
                f"{member!r} is not a label's value: letters, digits, '-', '_' and '.', at most 63",
                field=f"{where}.{key}",
            )
        labels[key] = str(member)
    return labels


_RATES: Final = ("gpuHour", "cpuHour", "memoryGiBHour")


def _prices(value: Any) -> Prices:
    prices = _map({} if value is None else value, "prices")
    _only(prices, "prices", (*_RATES, "spot", "egressGiB", "times"))
    spot = None
    if prices.get("spot") is not None:
        inner = _map(prices["spot"], "prices.spot")
        _only(inner, "prices.spot", _RATES)
        spot = _rates(inner, "prices.spot")
    egress = prices.get("egressGiB")
    return replace(
        _rates(prices, "prices"),
        spot=spot,
        egress_gib=None if egress is None else str(_quantity(egress, "prices.egressGiB")),
        times=tuple(
            _price_time(entry, f"prices.times[{position}]")
            for position, entry in enumerate(_list(prices.get("times"), "prices.times"))
        ),
    )


def _rates(prices: Mapping[str, Any], where: str) -> Prices:
    gpu = _map(prices.get("gpuHour", {}), f"{where}.gpuHour")
    single = {
        key: str(_quantity(prices[key], f"{where}.{key}")) for key in ("cpuHour", "memoryGiBHour") if key in prices
    }
    return Prices(
        {str(model): str(_quantity(price, f"{where}.gpuHour.{model}")) for model, price in gpu.items()},
        single.get("cpuHour"),
        single.get("memoryGiBHour"),
    )


def _price_time(value: Any, where: str) -> Mapping[str, Any]:
    entry = _map(value, where)
    _only(entry, where, ("begin", "end", "days", "utcOffset", "factor"))
    # YAML 1.1 reads 22:00 without quotes as 1,320.
    clocks = {key: _clock_text(entry.get(key)) for key in ("begin", "end")}
    found = {**entry, **clocks, "factor": str(_quantity(entry.get("factor"), f"{where}.factor"))}
    # Imported where it is needed: most sites state no times, and their agents stay small.
    from pydantic import ValidationError

    from hub.api.fleet import PriceTime

    try:
        PriceTime.model_validate(found)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise InvalidObjectError(
            f"{first['msg']} (found {first['input']!r})",
            field=f"{where}.{'.'.join(str(part) for part in first['loc'])}",
        ) from error
    return found


def _clock_text(value: Any) -> Any:
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 24 * 60:
        return f"{value // 60:02d}:{value % 60:02d}"
    return value


def _images(value: Any) -> dict[str, str]:
    images: dict[str, str] = {}
    for pattern, target in _map({} if value is None else value, "images").items():
        if not isinstance(pattern, str) or not pattern:
            raise InvalidObjectError(f"{pattern!r} is not an image pattern, such as python:*", field="images")
        if not isinstance(target, str) or not target.strip():
            raise InvalidObjectError(
                f"{target!r}: write host, or the image that podman or docker should run", field=f"images.{pattern}"
            )
        images[pattern] = target.strip()
    return images


def _scale(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1e9:
        raise InvalidObjectError(f"{value!r} is not a factor above 0, such as 10000", field="timeScale")
    return float(value)


def _log_bytes(value: Any) -> int:
    logs = _map({} if value is None else value, "logs")
    _only(logs, "logs", ("maxSize",))
    size = _quantity(logs.get("maxSize", "64Mi"), "logs.maxSize").ceil()
    if size < 1 << 16:
        raise InvalidObjectError(f"{logs['maxSize']!r} is too little: 64Ki at least", field="logs.maxSize")
    return size


def _quantity(value: Any, where: str) -> Quantity:
    try:
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise InvalidObjectError(f"{value!r} is not a quantity: write a number such as 4, 500m or 16Gi")
        quantity = Quantity(value)
    except InvalidObjectError as error:
        raise InvalidObjectError(str(error), field=where) from error
    if not 0 <= quantity.nano <= (1 << 56) * 10**9:
        raise InvalidObjectError(f"{value!r} is not what a machine has: from 0 to 64Pi", field=where)
    return quantity


def _whole(value: Any, where: str, least: int, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise InvalidObjectError(f"{value!r} is not a whole number from {least} to {most:,}", field=where)
    return value


def _map(value: Any, where: str) -> Mapping[Any, Any]:
    if not isinstance(value, Mapping):
        raise InvalidObjectError(f"{value!r} is not a map", field=where)
    return value


def _list(value: Any, where: str) -> list[Any]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise InvalidObjectError(f"{value!r} is not a list", field=where)
    return value


def _only(value: Mapping[Any, Any], where: str, known: tuple[str, ...]) -> None:
    unknown = next((key for key in value if key not in known), None)
    if unknown is not None:
        field_ = f"{where}.{unknown}" if where else str(unknown)
        raise InvalidObjectError(f"there is no such field; known are {', '.join(known)}", field=field_)
