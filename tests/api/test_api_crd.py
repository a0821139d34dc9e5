from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hub.api import resource
from hub.api.crd import KUSTOMIZATION, crd, file_of, kustomization, render, schema_of, write
from hub.api.fleetjob import FleetJob
from hub.api.installed import installed_crds
from hub.api.kinds import KINDS
from hub.api.meta import KubeObject

CRDS = Path(__file__).parents[2] / "manifests" / "crds"
# What apiextensions v1 takes in a structural schema.
KEYWORDS = {
    "type", "description", "properties", "items", "required", "default", "enum", "format", "pattern", "minimum",
    "maximum", "minLength", "maxLength", "maxItems", "minItems", "minProperties", "maxProperties", "nullable",
    "additionalProperties", "anyOf",
    "x-kubernetes-int-or-string", "x-kubernetes-list-type", "x-kubernetes-list-map-keys", "x-kubernetes-map-type",
    "x-kubernetes-preserve-unknown-fields", "x-kubernetes-embedded-resource", "x-kubernetes-validations",
}  # fmt: skip


def nodes(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, schema
    for name, child in schema.get("properties", {}).items():
        yield from nodes(child, f"{path}.{name}")
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            yield from nodes(schema[key], f"{path}[]")


def schemas() -> list[Any]:
    return [
        pytest.param(version["schema"]["openAPIV3Schema"], id=f"{definition['metadata']['name']}-{version['name']}")
        for definition in map(crd, KINDS)
        for version in definition["spec"]["versions"]
    ]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_the_written_files_are_what_the_models_say(kind):
    definition = crd(kind)
    path = CRDS / file_of(definition)
    assert path.read_text(encoding="utf-8") == render(definition), "run `python -m hub.api.crd manifests/crds`"


def test_nothing_else_is_in_the_folder():
    definitions = [crd(kind) for kind in KINDS]
    assert {path.name for path in CRDS.iterdir()} == {KUSTOMIZATION, *map(file_of, definitions)}
    assert (CRDS / KUSTOMIZATION).read_text() == kustomization(definitions)


@pytest.mark.parametrize("schema", schemas())
def test_schemas_are_structural(schema):
    for path, node in nodes(schema):
        assert set(node) <= KEYWORDS, path
        if node.get("x-kubernetes-int-or-string"):
            assert "type" not in node, path
            assert node["anyOf"] == [{"type": "integer"}, {"type": "string"}], path
        elif not ("type" not in node and node.get("x-kubernetes-preserve-unknown-fields")):
            assert node["type"] in {"object", "array", "string", "integer", "number", "boolean"}, path
            assert "anyOf" not in node, path
        if node.get("type") == "array":
            assert "items" in node, path
        assert not ("properties" in node and "additionalProperties" in node), path
        if "pattern" in node:
            re.compile(node["pattern"])
            # RE2, which real API servers use, has none of these.
            assert not re.search(r"\(\?[=!<]|\\[1-9]", node["pattern"]), path
        assert None not in node.get("enum", ()), path


@pytest.mark.parametrize("schema", schemas())
def test_list_map_keys_can_tell_members_apart(schema):
    for path, node in nodes(schema):
        if node.get("x-kubernetes-list-type") != "map":
            continue
        items = node["items"]
        for key in node["x-kubernetes-list-map-keys"]:
            assert key in items["properties"], path
            # apiextensions wants a key to be required or to have a default.
            assert key in items.get("required", ()) or "default" in items["properties"][key], f"{path}: {key}"


@pytest.mark.parametrize("schema", schemas())
def test_every_printer_column_and_required_field_exists(schema):
    for path, node in nodes(schema):
        for name in node.get("required", ()):
            assert name in node["properties"], f"{path}.{name}"


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_columns_lead_to_fields(kind: type[KubeObject]):
    schema = schema_of(kind)
    for column in kind.info.columns:
        node: dict[str, Any] = schema
        for step in re.findall(r"\.([A-Za-z]+)", column.path.split("[?")[0]):
            if step == "metadata" or "properties" not in node:
                break
            assert step in node["properties"], column.path
            node = node["properties"][step]


def test_every_resource_of_ours_has_a_kind():
    served = {kind.info.resource for kind in KINDS}
    custom = {
        value
        for value in vars(resource).values()
        if isinstance(value, resource.Resource)
        and value.group.endswith(("open-cluster-management.io", "kueue.x-k8s.io", "quarterdeck.dev"))
    }
    assert served == custom


def test_defaults_and_bounds_people_rely_on():
    spec = schema_of(FleetJob)["properties"]["spec"]
    fields = spec["properties"]
    assert spec["required"] == ["template"]
    assert fields["tasks"] == {**fields["tasks"], "default": 1, "minimum": 1, "maximum": 100000, "format": "int32"}
    assert fields["queueName"]["default"] == "default"
    assert fields["retry"]["default"] == {"limitPerTask": 1, "elsewhere": True}
    assert fields["suspend"]["default"] is False
    assert fields["gpu"]["properties"]["count"]["minimum"] == 0
    assert "default" not in fields["parallelism"]
    assert "rule" in spec["x-kubernetes-validations"][0]


def test_every_field_of_a_fleet_job_spec_is_explained_with_an_example():
    spec = schema_of(FleetJob)["properties"]["spec"]
    ours = dict(spec["properties"])
    for part in ("gpu", "retry", "placementRef"):
        ours |= {f"{part}.{name}": node for name, node in spec["properties"][part]["properties"].items()}
    for name, node in ours.items():
        assert "Example: " in node.get("description", ""), name


def test_installed_crds_are_complete_and_the_callers_own():
    first = installed_crds()
    assert len(first) == len(KINDS)
    first[0]["spec"].clear()
    assert installed_crds()[0]["spec"]["group"]


def test_writing_removes_what_is_gone(tmp_path):
    (tmp_path / "old.yaml").write_text("x")
    written = write(tmp_path)
    # Beside one of each kind, what kustomize reads.
    assert len(written) == len(KINDS) + 1
    assert sorted(tmp_path.iterdir()) == sorted(written)


def test_the_command_writes_them(tmp_path):
    result = subprocess.run(
        [sys.executable, "-m", "hub.api.crd", str(tmp_path)], capture_output=True, text=True, timeout=60, check=False
    )
    assert result.returncode == 0, result.stderr
    assert len(list(tmp_path.iterdir())) == len(KINDS) + 1
