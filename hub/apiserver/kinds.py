"""What one API server serves: kinds as values, and the immutable registry that finds them.

Built-in kinds come from hub/apiserver/builtin.py, the others from CustomResourceDefinitions. A server that installs a
CRD swaps its registry for a new one, so whoever holds a registry sees one consistent world; discovery and OpenAPI
documents can be kept by it. Nothing here stores or changes objects.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final

import orjson

from hub.api import conversion
from hub.api.column import AGE, Column
from hub.api.resource import Resource
from hub.apiserver import crds
from hub.apiserver.builtin_rules import Review
from hub.apiserver.declared_conversion import ANNOTATION, Conversion, declared
from hub.apiserver.metadata import admit_metadata
from hub.apiserver.schema import Admission, Schema, compile_schema

Object = Mapping[str, Any]
Cells = Callable[[Object, float], Sequence[Any]]
Convert = Callable[[Object], dict[str, Any]]

STORED_VERBS: Final = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")
NAME: Final = Column("NAME", ".metadata.name", description="Name of the object.")


@dataclass(frozen=True, slots=True)
class Scale:
    """Where a kind keeps what its scale subresource shows; paths such as ``.spec.replicas``."""

    spec_path: str
    status_path: str
    selector_path: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class ServedKind:
    """One served version of one kind.

    `storage` says as what its objects are kept: another version of the same kind, or (Events) another group. Columns
    come after NAME, unless `cells` is given: it computes all cells, NAME included, from an object and the time (seconds
    since the epoch), for what no path can say. `openapi` is the schema as published, with strategic-merge keys on
    built-in kinds. `review` is what a built-in kind's schema cannot say.
    """

    resource: Resource
    storage: Resource
    singular: str
    list_kind: str
    openapi: Mapping[str, Any]
    schema: Schema | None = None
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    columns: tuple[Column, ...] = (AGE,)
    cells: Cells | None = None
    subresources: frozenset[str] = frozenset()
    scale: Scale | None = None
    is_crd: bool = False
    # Without a stored form (access reviews): only created, and answered at once.
    virtual: bool = False
    # Whether metadata.generation counts changes; the simplest built-in kinds have none.
    generation: bool = True
    # Paths besides metadata.name and metadata.namespace that field selectors may name.
    selectable: frozenset[str] = frozenset()
    # What clients of a deprecated version are told in a Warning header.
    warning: str = ""
    review: Review | None = field(default=None, repr=False)
    into_storage: Convert | None = field(default=None, repr=False)
    out_of_storage: Convert | None = field(default=None, repr=False)

    @property
    def group(self) -> str:
        return self.resource.group

    @property
    def version(self) -> str:
        return self.resource.version

    @property
    def kind(self) -> str:
        return self.resource.kind

    @property
    def plural(self) -> str:
        return self.resource.plural

    @property
    def namespaced(self) -> bool:
        return self.resource.namespaced

    @property
    def api_version(self) -> str:
        return self.resource.api_version

    @property
    def verbs(self) -> tuple[str, ...]:
        return ("create",) if self.virtual else STORED_VERBS

    @property
    def storage_key(self) -> tuple[str, str]:
        """(group, plural) under which objects of every version of this kind are kept."""
        return self.storage.group, self.storage.plural

    @property
    def has_status(self) -> bool:
        return "status" in self.subresources

    def admit(self, obj: Object, old: Object | None = None) -> Admission:
        """`obj` as it is kept in place of `old` (None: it is created), with all that is wrong with it.

        Everything about an object that needs no other object: metadata, schema, CEL rules, rules of built-in kinds.
        Both are in this version. Never raises, changes neither.
        """
        metadata, errors, unknown = admit_metadata(obj, self.group, self.plural)
        obj = {**obj, "metadata": metadata}
        if self.schema is not None:
            # What a review looks at has to be sound, unchanged or not.
            admission = self.schema.admit(obj, old if self.review is None else None)
            obj, unknown = admission.obj, [*unknown, *admission.unknown]
            errors = [*errors, *admission.errors]
        if self.review is not None and not errors:
            obj, found = self.review(obj, old)
            errors = list(found)
        return Admission(dict(obj), tuple(errors), tuple(unknown))

    def to_storage(self, obj: Object) -> dict[str, Any]:
        """`obj`, spelled in this version, as it is kept. A new dict at the top; what did not change is shared."""
        if self.into_storage is not None:
            return self.into_storage(obj)
        return conversion.convert(obj, self.storage.api_version)

    def from_storage(self, obj: Object) -> dict[str, Any]:
        """A kept object as this version spells it. A new dict at the top; what did not change is shared."""
        if self.out_of_storage is not None:
            return self.out_of_storage(obj)
        return conversion.convert(obj, self.api_version)


_VERSION = re.compile(r"v([1-9][0-9]*)(?:(alpha|beta)([1-9][0-9]*))?")


def version_order(version: str) -> tuple[int, int, int, str]:
    """Sorts versions as Kubernetes prefers them: v2, v1, v1beta2, v1beta1, v1alpha1, then anything else by name."""
    match = _VERSION.fullmatch(version)
    if match is None:
        return 3, 0, 0, version
    major, stage, minor = match.groups()
    return {None: 0, "beta": 1, "alpha": 2}[stage], -int(major), -int(minor or 0), ""


class Registry:
    """Every kind that is served, found by path or by kind. Immutable: another set of kinds is another registry."""

    __slots__ = ("__weakref__", "_by_kind", "_by_path", "_groups", "kinds")

    def __init__(self, kinds: Iterable[ServedKind] = ()) -> None:
        self.kinds: tuple[ServedKind, ...] = tuple(kinds)
        self._by_path = {(kind.group, kind.version, kind.plural): kind for kind in self.kinds}
        self._by_kind: dict[tuple[str, str], list[ServedKind]] = {}
        self._groups: dict[str, dict[str, list[ServedKind]]] = {}
        for kind in sorted(self.kinds, key=lambda kind: version_order(kind.version)):
            self._by_kind.setdefault((kind.group, kind.kind), []).append(kind)
        for kind in sorted(self.kinds, key=lambda kind: (kind.is_crd, kind.group if kind.is_crd else "")):
            self._groups.setdefault(kind.group, {}).setdefault(kind.version, []).append(kind)

    def __iter__(self) -> Iterator[ServedKind]:
        return iter(self.kinds)

    def __len__(self) -> int:
        return len(self.kinds)

    def find(self, group: str, version: str, plural: str) -> ServedKind | None:
        """The kind behind a path such as ``/apis/GROUP/VERSION/PLURAL``."""
        return self._by_path.get((group, version, plural))

    def by_kind(self, group: str, kind: str, version: str | None = None) -> ServedKind | None:
        """The kind of that name, in its preferred version unless `version` is given."""
        for candidate in self._by_kind.get((group, kind), ()):
            if version is None or candidate.version == version:
                return candidate
        return None

    def of(self, resource: Resource) -> ServedKind | None:
        return self._by_path.get((resource.group, resource.version, resource.plural))

    def versions_of(self, group: str, plural: str) -> tuple[ServedKind, ...]:
        """Every served version of one kind."""
        return tuple(kind for kind in self.kinds if kind.group == group and kind.plural == plural)

    def groups(self) -> Mapping[str, Mapping[str, Sequence[ServedKind]]]:
        """group → version → kinds: built-in groups in their order, then the others by name; versions best first."""
        return {
            group: {version: versions[version] for version in sorted(versions, key=version_order)}
            for group, versions in self._groups.items()
        }

    def adding(self, kinds: Iterable[ServedKind]) -> Registry:
        """A registry with these too; kinds of the same group and plural are replaced, all their versions."""
        new = tuple(kinds)
        replaced = {(kind.group, kind.plural) for kind in new}
        return Registry((*(kind for kind in self.kinds if (kind.group, kind.plural) not in replaced), *new))

    def without(self, group: str, plural: str) -> Registry:
        return Registry(kind for kind in self.kinds if (kind.group, kind.plural) != (group, plural))


def served_from_crd(crd: Object) -> tuple[ServedKind, ...]:
    """The served versions of a CustomResourceDefinition, compiled; the same spec is compiled once a process.

    Raises `InvalidObjectError` by field for one that cannot be served as written.
    """
    crds.check(crd)
    text = (crd["metadata"].get("annotations") or {}).get(ANNOTATION)
    metadata = {"name": crd["metadata"]["name"], "annotations": {ANNOTATION: text} if text else None}
    return _served(orjson.dumps({"metadata": metadata, "spec": crd["spec"]}))


@lru_cache(maxsize=256)
def _served(text: bytes) -> tuple[ServedKind, ...]:
    crd = crds.with_defaults(orjson.loads(text))
    spec = crd["spec"]
    names, group = spec["names"], spec["group"]
    namespaced = spec["scope"] == "Namespaced"
    stored = next(version["name"] for version in spec["versions"] if version["storage"])
    storage = Resource(group, stored, names["kind"], names["plural"], namespaced)
    moves = declared(crd)
    served = []
    for position, version in enumerate(spec["versions"]):
        converted = Conversion(f"{group}/{version['name']}", storage.api_version, moves.get(version["name"], ()))
        where = f"spec.versions[{position}].schema.openAPIV3Schema"
        # A version that is not served still has to be sound.
        schema = compile_schema(version["schema"]["openAPIV3Schema"], where=where, root=True)
        if not version["served"]:
            continue
        subresources = version.get("subresources") or {}
        scale = subresources.get("scale")
        columns = version.get("additionalPrinterColumns")
        served.append(
            ServedKind(
                resource=Resource(group, version["name"], names["kind"], names["plural"], namespaced),
                storage=storage,
                singular=names["singular"],
                list_kind=names["listKind"],
                openapi=version["schema"]["openAPIV3Schema"],
                schema=schema,
                short_names=tuple(names.get("shortNames") or ()),
                categories=tuple(names.get("categories") or ()),
                columns=(AGE,) if not columns else tuple(map(_column, columns)),
                subresources=frozenset(subresources),
                scale=scale
                and Scale(scale["specReplicasPath"], scale["statusReplicasPath"], scale.get("labelSelectorPath") or ""),
                is_crd=True,
                selectable=frozenset(
                    entry["jsonPath"].removeprefix(".") for entry in version.get("selectableFields") or ()
                ),
                warning=_warning(group, names["kind"], version),
                into_storage=converted.into_storage if converted.moves else None,
                out_of_storage=converted.out_of_storage if converted.moves else None,
            )
        )
    return tuple(served)


def _column(column: Object) -> Column:
    return Column(
        column["name"],
        column["jsonPath"],
        column["type"],
        wide=(column.get("priority") or 0) > 0,
        description=column.get("description") or "",
    )


def _warning(group: str, kind: str, version: Object) -> str:
    if not version.get("deprecated"):
        return ""
    return version.get("deprecationWarning") or f"{group}/{version['name']} {kind} is deprecated"
