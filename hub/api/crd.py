"""CustomResourceDefinitions, made from the models and nothing else.

`python -m hub.api.crd manifests/crds` writes them; a test holds the files to the models. The schemas are structural as
apiextensions v1 demands: no references, no nulls, one type a node. Who installs them reads the files
(hub/api/installed.py). Nothing here talks to an API server.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from hub.api.column import Column
from hub.api.installed import file_name
from hub.api.kinds import KINDS, older_versions
from hub.api.meta import KubeObject

KUSTOMIZATION = "Kustomization"
_DROPPED = ("title", "examples", "propertyNames", "discriminator")


def schema_of(model: type[BaseModel]) -> dict[str, Any]:
    """The structural schema of `model`: self-contained, with defaults, bounds and extensions."""
    document = model.model_json_schema(by_alias=True, mode="validation")
    return _structural(document, document.get("$defs", {}))


def _structural(node: Mapping[str, Any], definitions: Mapping[str, Any]) -> dict[str, Any]:
    merged = _resolve(node, definitions)
    result: dict[str, Any] = {}
    for key, value in merged.items():
        if key in _DROPPED or key == "$defs" or (key == "default" and value is None):
            continue
        if key == "properties":
            result[key] = {name: _structural(child, definitions) for name, child in value.items()}
        elif key == "items":
            result[key] = _structural(value, definitions)
        elif key == "additionalProperties":
            # `true` is how a model says that it keeps unknown fields; servers prune those unless told otherwise.
            if isinstance(value, Mapping):
                result[key] = _structural(value, definitions)
        elif key == "const":
            result["enum"] = [value]
        elif key == "default":
            result[key] = _without_nulls(value)
        else:
            result[key] = value
    if result.get("x-kubernetes-int-or-string"):
        result["anyOf"] = [{"type": "integer"}, {"type": "string"}]
        result.pop("type", None)
    elif "type" not in result and not result.get("x-kubernetes-preserve-unknown-fields"):
        result["type"] = "object"
    return result


def _resolve(node: Mapping[str, Any], definitions: Mapping[str, Any]) -> dict[str, Any]:
    """Follows references and drops the null branch of optionals; what the outer node says wins, descriptions first."""
    outer = dict(node)
    inner: dict[str, Any] = {}
    if (reference := outer.pop("$ref", None)) is not None:
        inner = _resolve(definitions[str(reference).rsplit("/", 1)[-1]], definitions)
    elif "anyOf" in outer and not outer.get("x-kubernetes-int-or-string"):
        branches = [branch for branch in outer.pop("anyOf") if branch != {"type": "null"}]
        if len(branches) != 1:
            raise TypeError(f"a union of {len(branches)} types has no structural schema: {branches}")
        inner = _resolve(branches[0], definitions)
    return {**inner, **outer}


def _without_nulls(value: Any) -> Any:
    """A default as it is written: what is empty in it says nothing."""
    if isinstance(value, Mapping):
        members = {key: _without_nulls(member) for key, member in value.items()}
        return {key: member for key, member in members.items() if member not in (None, [], {})}
    return value


def crd(kind: type[KubeObject]) -> dict[str, Any]:
    """The CustomResourceDefinition of `kind`, its stored version first."""
    info = kind.info
    stored = info.resource
    names: dict[str, Any] = {
        "kind": stored.kind,
        "listKind": f"{stored.kind}List",
        "plural": stored.plural,
        "singular": stored.kind.lower(),
    }
    if info.short_names:
        names["shortNames"] = list(info.short_names)
    if info.categories:
        names["categories"] = list(info.categories)
    versions = [_version(kind, stored.version, storage=True)]
    versions += [_version(model, version, storage=False) for version, model in older_versions(kind).items()]
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{stored.plural}.{stored.group}"},
        "spec": {
            "group": stored.group,
            "names": names,
            "scope": "Namespaced" if stored.namespaced else "Cluster",
            "versions": versions,
        },
    }


def _version(kind: type[KubeObject], version: str, *, storage: bool) -> dict[str, Any]:
    schema = schema_of(kind)
    schema["properties"] = {
        "apiVersion": {"type": "string", "description": "Group and version of this object's schema."},
        "kind": {"type": "string", "description": "The kind of this object."},
        "metadata": {"type": "object"},
        **{name: part for name, part in schema["properties"].items() if name not in ("apiVersion", "kind", "metadata")},
    }
    schema["required"] = [name for name in schema.get("required", ()) if name not in ("apiVersion", "kind")]
    if not schema["required"]:
        del schema["required"]
    result: dict[str, Any] = {"name": version, "served": True, "storage": storage}
    if not storage:
        result["deprecated"] = True
    result["schema"] = {"openAPIV3Schema": schema}
    if kind.info.status_subresource:
        result["subresources"] = {"status": {}}
    if kind.info.columns:
        result["additionalPrinterColumns"] = [_column(column) for column in kind.info.columns]
    return result


def _column(column: Column) -> dict[str, Any]:
    result: dict[str, Any] = {"name": column.name, "type": column.type, "jsonPath": column.path}
    if column.description:
        result["description"] = column.description
    if column.wide:
        result["priority"] = 1
    return result


def file_of(definition: Mapping[str, Any]) -> str:
    return file_name(definition["spec"]["group"], definition["spec"]["names"]["plural"])


def render(definition: Mapping[str, Any]) -> str:
    """The file's text. The same models give the same text, byte for byte."""
    import yaml

    class Plain(yaml.SafeDumper):
        def ignore_aliases(self, data: Any) -> bool:
            return True

    body = yaml.dump(dict(definition), Dumper=Plain, sort_keys=False, allow_unicode=True, width=120)
    return f"# Generated by `python -m hub.api.crd manifests/crds`; edit hub/api instead.\n{body}"


def kustomization(definitions: Sequence[Mapping[str, Any]]) -> str:
    """All of them as a kustomize base, named so that nobody takes it for a definition.

    A real API server converts by a webhook or not at all. Without one, versions that spell fields differently would
    lose what the stored version has no word for, so they are not served there.
    """
    import yaml

    spelled = {
        kind.info.resource.kind for kind in KINDS if any(model is not kind for model in older_versions(kind).values())
    }
    patches = []
    for definition in definitions:
        if definition["spec"]["names"]["kind"] not in spelled:
            continue
        older = [index for index, version in enumerate(definition["spec"]["versions"]) if not version["storage"]]
        operations = [{"op": "replace", "path": f"/spec/versions/{index}/served", "value": False} for index in older]
        patches.append(
            {
                "target": {"kind": "CustomResourceDefinition", "name": definition["metadata"]["name"]},
                "patch": yaml.safe_dump(operations, sort_keys=False),
            }
        )
    document = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": sorted(map(file_of, definitions)),
        "labels": [{"pairs": {"app.kubernetes.io/part-of": "quarterdeck"}}],
        "patches": patches,
    }
    body = yaml.safe_dump(document, sort_keys=False, width=120)
    return f"# Generated by `python -m hub.api.crd manifests/crds`.\n{body}"


def write(directory: Path) -> list[Path]:
    """Writes one file a kind and removes generated files of kinds that are gone. Returns what was written."""
    directory.mkdir(parents=True, exist_ok=True)
    definitions = [crd(kind) for kind in KINDS]
    wanted = {file_of(definition): render(definition) for definition in definitions}
    wanted[KUSTOMIZATION] = kustomization(definitions)
    for stale in sorted(directory.glob("*.yaml")):
        if stale.name not in wanted:
            stale.unlink()
    for name, text in wanted.items():
        (directory / name).write_text(text, encoding="utf-8")
    return [directory / name for name in wanted]


def main(arguments: list[str]) -> int:
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m hub.api.crd DIRECTORY\n")
        return 2
    for path in write(Path(arguments[0])):
        sys.stdout.write(f"{path}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
