"""The charts render what the kustomizations render, in every overlay; only the names of settings may differ."""

from __future__ import annotations

import copy
import re
from typing import Any

import pytest
from manifests_rendered import Objects, kustomized, templated

Json = dict[str, Any]
VALUES = {"base": (), "overlays/ha": ("ha",), "overlays/edge": ("edge",), "overlays/dev": ("dev",)}
_HASHED = re.compile(r"^(quarterdeck-hub-settings)-[a-z0-9]{10}$")


def plain(objects: Objects) -> Objects:
    """Without the hash behind the name of the settings, wherever it stands."""
    result: Objects = {}
    for (kind, namespace, name), obj in copy.deepcopy(objects).items():
        if kind == "ConfigMap":
            name = obj["metadata"]["name"] = _HASHED.sub(r"\1", name)
            obj["data"] = {key: _loaded(text) for key, text in obj["data"].items()}
        if kind == "Deployment":
            for volume in obj["spec"]["template"]["spec"]["volumes"]:
                if "configMap" in volume:
                    volume["configMap"]["name"] = _HASHED.sub(r"\1", volume["configMap"]["name"])
        result[kind, namespace, name] = obj
    return result


def _loaded(text: str) -> Any:
    import yaml

    return yaml.safe_load(text)


@pytest.mark.parametrize("overlay", VALUES)
def test_the_hubs_chart_renders_what_kustomize_does(overlay: str) -> None:
    values = [part for name in VALUES[overlay] for part in ("-f", f"charts/quarterdeck-hub/values-{name}.yaml")]
    wanted = kustomized(f"hub/{overlay}") | kustomized("admission") | kustomized("visibility") | kustomized("defaults")
    same(templated("quarterdeck-hub", *values), wanted)


@pytest.mark.parametrize("overlay", VALUES)
def test_the_agents_chart_renders_what_kustomize_does(overlay: str) -> None:
    values = [part for name in VALUES[overlay] for part in ("-f", f"charts/quarterdeck-agent/values-{name}.yaml")]
    same(templated("quarterdeck-agent", *values), kustomized(f"agent/{overlay}"))


def same(chart: Objects, kustomization: Objects) -> None:
    found, wanted = plain(chart), plain(kustomization)
    assert set(found) == set(wanted)
    for key, obj in wanted.items():
        assert found[key] == obj, key


def test_values_arrive() -> None:
    digest = "sha256:" + "1" * 64
    chosen = {
        "image.repository": "registry.example/hub",
        "image.digest": digest,
        "replicas": "3",
        "nodeSelector.disk": "ssd",
        "settings.writers": "5",
        "webhooks": "false",
        "defaults": "false",
    }
    objects = templated("quarterdeck-hub", *(part for pair in chosen.items() for part in ("--set", "=".join(pair))))
    deployment = objects["Deployment", "quarterdeck-system", "quarterdeck-hub"]["spec"]
    assert deployment["replicas"] == 3
    assert deployment["template"]["spec"]["nodeSelector"] == {"disk": "ssd"}
    assert deployment["template"]["spec"]["containers"][0]["image"] == f"registry.example/hub@{digest}"
    (settings,) = (obj for (kind, _, _), obj in objects.items() if kind == "ConfigMap")
    assert _loaded(settings["data"]["hub.yaml"]) == {"writers": 5}
    kinds = {kind for kind, _, _ in objects}
    assert "ValidatingWebhookConfiguration" not in kinds
    assert "ClusterQueue" not in kinds
    assert "ValidatingAdmissionPolicy" in kinds


def test_a_cluster_is_named_once() -> None:
    objects = templated("quarterdeck-agent", "--set", "cluster=barn", "--set", "hubSecret=other")
    assert objects["ConfigMap", "quarterdeck-agent", "quarterdeck-agent"]["data"] == {"cluster": "barn"}
    pod = objects["Deployment", "quarterdeck-agent", "quarterdeck-agent"]["spec"]["template"]["spec"]
    assert pod["volumes"][0]["secret"]["secretName"] == "other"


def test_an_image_without_a_digest_is_refused() -> None:
    with pytest.raises(AssertionError, match="images are named by digest"):
        templated("quarterdeck-hub", "--set", "image.digest=")
