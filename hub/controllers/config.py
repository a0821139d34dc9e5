"""The hub's configuration file: what an operator may choose, checked by field before anything starts.

    autoAccept: {users: ["system:open-cluster-management:*"], labels: {region: eu}}
    leases: {grace: 1.0}
    prometheus: {url: "http://127.0.0.1:9090", interval: 15s}
    sources: {allow: ["*.example"], tokens: {"p.example": /run/secrets/p}, programs: {power: [/opt/power]}}
    scorers: {weights: {Price: 2, FreeShare: 0}}
    cycle: {debounce: 3ms, longest: 250ms}
    queue: {mode: fleet, notice: 30s}      # see hub/controllers/queue_config.py
    logs: {level: info, format: logfmt}

Everything has a default; an empty file is a valid one. A field that is not known is an error, because a misspelt
setting that is silently ignored is worse than a hub that does not start. Kueue's `Configuration` is taken as well.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import BaseModel, Field, ValidationError

from hub.api.errors import InvalidObjectError, UsageError
from hub.asking.access import Access
from hub.controllers.config_parts import Bytes, Command, Part, Seconds, Weight
from hub.controllers.queue_config import Queue, check, from_kueue, is_kueue_configuration
from hub.controllers.scorer_config import Dynamic
from hub.registration.acceptance import AcceptRule


class AutoAccept(Part):
    users: tuple[str, ...] = ()
    labels: dict[str, str] = Field(default_factory=dict)

    @property
    def rule(self) -> AcceptRule:
        return AcceptRule(self.users, tuple(sorted(self.labels.items())))


class Leases(Part):
    # A cluster is lost after leaseDurationSeconds × grace of silence.
    grace: float = Field(1.0, ge=0.5, le=100)


class Prometheus(Part):
    url: str = Field(pattern=r"^https?://\S+$")
    interval: Seconds = 15.0


class Sources(Part):
    # Hosts that ScoreSources and scorers may name, as patterns; the hub's own Prometheus is always allowed.
    allow: tuple[str, ...] = ("*",)
    # Host pattern → file with the bearer token for it; read at each request.
    tokens: dict[str, Path] = Field(default_factory=dict)
    # Name → command line of a program that a ScorerPolicy may name as its source; it starts with an absolute path.
    programs: dict[str, Command] = Field(default_factory=dict)

    @property
    def access(self) -> Access:
        return Access(self.allow, self.tokens, self.programs)


class Publish(Part):
    # Whether scores are written as AddOnPlacementScores.
    enabled: bool = True
    # How often they are looked at, and how many points one must have moved to be written.
    every: Seconds = Field(10.0, ge=0.05)
    deadband: int = Field(3, ge=1, le=100)
    # How long they count where nobody renews them: after a hub's end nobody trusts them longer.
    validFor: Seconds = Field(3600.0, ge=1)  # noqa: N815 - as it is written in the file


class Isolation(Part):
    # Address space of such a process, Python and numpy included.
    memory: Bytes = Field(512 << 20, ge=192 << 20)
    # How long loading the plugin may take; a hub with such plugins waits for them when it starts.
    startup: Seconds = Field(20.0, gt=0)


class Scorers(Part):
    # By scorer's name; 0 leaves it out. What is not named keeps the weight it comes with.
    weights: dict[str, Weight] = Field(default_factory=dict)
    # By entry point's name of a plugin: what its Config is filled with.
    settings: dict[str, dict[str, Any]] = Field(default_factory=dict)
    # How long one call of a plugin may take, and how long its last good values count after it failed.
    budget: Seconds = Field(0.25, gt=0)
    keep: Seconds = 300.0
    # Entry points' names of plugins that are not trusted: each gets a process of its own. "*": all of them.
    isolate: tuple[str, ...] = ()
    isolation: Isolation = Isolation()
    publish: Publish = Publish()
    dynamic: Dynamic = Dynamic()


class Cycle(Part):
    # How long after the first change a decision is made, so that what comes together is decided together.
    debounce: Seconds = 0.003
    # The longest pause between decisions of a hub that is busy deciding.
    longest: Seconds = 0.25


class Logs(Part):
    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["logfmt", "json"] = "logfmt"


class Leadership(Part):
    # Seconds; retry < renewDeadline < lease. A hub that dies is replaced after lease + retry at most, and the second
    # that a successor needs to know everything: within ten.
    lease: int = Field(6, ge=2)
    renewDeadline: float = Field(4.0, gt=0)  # noqa: N815 - as it is written in the file
    retry: float = Field(1.0, gt=0)


class HubConfig(Part):
    autoAccept: AutoAccept = AutoAccept()  # noqa: N815 - as it is written in the file
    leases: Leases = Leases()
    prometheus: Prometheus | None = None
    sources: Sources = Sources()
    scorers: Scorers = Scorers()
    cycle: Cycle = Cycle()
    queue: Queue = Queue()
    leadership: Leadership = Leadership()
    logs: Logs = Logs()
    # Writes on their way at once; each needs a connection, which costs some hundred kilobytes with TLS.
    writers: int = Field(24, ge=1, le=512)
    # Whether kopf watches over cluster sets, bindings and clusters that leave.
    lifecycle: bool = True


def parse_config(document: Any, source: str = "the configuration") -> HubConfig:
    """Raises `UsageError` that names the first wrong field, what was found and what is expected."""
    if is_kueue_configuration(document):
        document = {"queue": from_kueue(document)[0]}
    try:
        config = HubConfig.model_validate(document or {})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        said = str(first["msg"])
        if first["type"] == "extra_forbidden":
            said = f"there is no such setting; known here: {', '.join(_known(first['loc']))}"
        else:
            said = f"{said} (found {first['input']!r})"
        raise UsageError(f"{source}: {said}", field=field, hint="Correct the file and start the hub again.") from error
    timing = config.leadership
    if not timing.retry < timing.renewDeadline < timing.lease:
        raise UsageError(
            f"{source}: retry ({timing.retry:g}) < renewDeadline ({timing.renewDeadline:g}) < lease ({timing.lease}) "
            "must hold, or two hubs could lead at once",
            field="leadership",
        )
    try:
        check(config.queue)
    except InvalidObjectError as error:
        field = f"queue.{error.field}"
        raise UsageError(f"{source}: {str(error).removeprefix(f'{error.field}: ')}", field=field) from error
    return config


def load_config(path: Path | None) -> HubConfig:
    """The file's settings, or all defaults without one. Raises `UsageError`."""
    return HubConfig() if path is None else parse_config(read_document(path)[0], str(path))


def read_document(path: Path) -> tuple[dict[str, Any], tuple[str, ...]]:
    """(the file as a configuration of ours, what of Kueue's `Configuration` means nothing here). Raises `UsageError`
    where it cannot be read; whether it is right is `parse_config`'s."""
    import yaml

    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}", field="--config") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not YAML: {' '.join(str(error).split())}", field="--config") from error
    if is_kueue_configuration(document):
        queue, ignored = from_kueue(document)
        return {"queue": queue}, ignored
    return document or {}, ()


def _known(location: tuple[int | str, ...]) -> list[str]:
    model: Any = HubConfig
    for part in location[:-1]:
        field = model.model_fields.get(str(part))
        annotation: Any = field.annotation if field is not None else None
        annotation = next((part for part in get_args(annotation) if part is not type(None)), annotation)
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            return ["nothing"]
        model = annotation
    return sorted(model.model_fields)
