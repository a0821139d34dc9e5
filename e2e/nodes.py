"""What the members' nodes are: plain Node objects that kwok keeps alive, with the GPUs of machines that people have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

FAKE: Final = "kwok.x-k8s.io/node"


@dataclass(frozen=True, slots=True)
class NodeShape:
    """`count` equal nodes. `gpu` is the product label that NVIDIA's feature discovery would set; `gpu_mib` of one."""

    name: str
    count: int = 1
    cpu: int = 32
    memory: str = "128Gi"
    gpu: str = ""
    gpus: int = 0
    gpu_mib: int = 0
    labels: Mapping[str, str] = field(default_factory=dict)


# Three members that differ in what matters to placement: old and new GPUs, few large and many small, none at all.
ASH: Final = (
    NodeShape("ash-a100", 2, cpu=64, memory="512Gi", gpu="NVIDIA-A100-SXM4-80GB", gpus=8, gpu_mib=81920),
    NodeShape("ash-cpu", 1, cpu=32, memory="128Gi"),
)
ELM: Final = (
    NodeShape("elm-h100", 1, cpu=96, memory="1Ti", gpu="NVIDIA-H100-80GB-HBM3", gpus=8, gpu_mib=81559),
    NodeShape("elm-t4", 2, cpu=16, memory="64Gi", gpu="Tesla-T4", gpus=4, gpu_mib=15360),
)
OAK: Final = (NodeShape("oak-l4", 3, cpu=24, memory="96Gi", gpu="NVIDIA-L4", gpus=2, gpu_mib=23034),)
MEMBERS: Final[Mapping[str, Sequence[NodeShape]]] = {"ash": ASH, "elm": ELM, "oak": OAK}


def nodes(shapes: Sequence[NodeShape]) -> list[dict[str, Any]]:
    """One Node object each, named SHAPE-0, SHAPE-1, …"""
    return [_node(shape, f"{shape.name}-{index}") for shape in shapes for index in range(shape.count)]


def _node(shape: NodeShape, name: str) -> dict[str, Any]:
    labels = {
        "kubernetes.io/hostname": name,
        "kubernetes.io/arch": "amd64",
        "kubernetes.io/os": "linux",
        "node.kubernetes.io/instance-type": shape.name,
        **shape.labels,
    }
    has = {"cpu": str(shape.cpu), "memory": shape.memory, "pods": "500"}
    if shape.gpus:
        labels |= {"nvidia.com/gpu.product": shape.gpu, "nvidia.com/gpu.memory": str(shape.gpu_mib)}
        labels |= {"nvidia.com/gpu.count": str(shape.gpus)}
        has["nvidia.com/gpu"] = str(shape.gpus)
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": labels, "annotations": {FAKE: "fake"}},
        "status": {"capacity": has, "allocatable": has},
    }
