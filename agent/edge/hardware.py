"""What the machine itself has, where a site declares no nodes: CPUs, memory, GPUs by nvidia-smi. Only looks."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent.edge.sitefile import Gpus, NodeGroup

_log = logging.getLogger("agent.edge.hardware")
_SMI_SECONDS: Final = 10.0
_FIELDS: Final = (
    "index,uuid,name,memory.total,memory.used,memory.free,utilization.gpu,temperature.gpu,power.draw,pci.bus_id"
)


@dataclass(frozen=True, slots=True)
class GpuReading:
    """One GPU as nvidia-smi tells it; memory in MiB, None for what it does not tell."""

    index: int
    uuid: str
    name: str
    memory_total: float
    memory_used: float
    memory_free: float
    utilization: float | None
    temperature: float | None
    power: float | None
    bus: str


def alike(gpus: list[GpuReading]) -> list[GpuReading]:
    """Those of the first one's model: a node has GPUs of one model."""
    return [gpu for gpu in gpus if model_name(gpu.name) == model_name(gpus[0].name)]


def this_machine(gpus: list[GpuReading], data: Path) -> NodeGroup:
    """One node: what processes started here may use. `data`: where they write, whose disk is their scratch space."""
    found = None
    if gpus:
        usable = alike(gpus)
        if len(usable) < len(gpus):
            _log.warning("GPUs of other models than %s are left out", model_name(gpus[0].name))
        found = Gpus(model_name(gpus[0].name), len(usable), int(min(gpu.memory_total for gpu in usable)) << 20)
    return NodeGroup(
        name=host_name(),
        count=1,
        cpu=len(os.sched_getaffinity(0)) * 1000,
        memory=memory_total(),
        gpus=found,
        labels={"kubernetes.io/arch": _arch()},
        resources={"ephemeral-storage": shutil.disk_usage(data).free >> 30 << 30},
    )


def model_name(product: str) -> str:
    """As jobs ask for it: ``NVIDIA A100-SXM4-80GB`` is an ``A100``, ``NVIDIA GeForce RTX 4090`` an ``RTX-4090``."""
    words = [word for word in product.replace("-", " ").split() if word.upper() not in ("NVIDIA", "TESLA", "GEFORCE")]
    if len(words) > 1 and words[0].upper() in ("RTX", "GTX", "QUADRO", "TITAN"):
        return "-".join(words[:2])
    return words[0] if words else product.replace(" ", "-")


def memory_total() -> int:
    """Bytes."""
    return int(_meminfo().get("MemTotal", 0)) or os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _meminfo(path: Path = Path("/proc/meminfo")) -> dict[str, int]:
    found = {}
    for line in path.read_text().splitlines():
        name, _, rest = line.partition(":")
        number = rest.split()
        if number and number[0].isdigit():
            found[name] = int(number[0]) * (1024 if number[-1] == "kB" else 1)
    return found


def memory_available() -> int:
    """Bytes."""
    return _meminfo().get("MemAvailable", 0)


def host_name() -> str:
    """As a node may be called."""
    name = "".join(c if c.isalnum() and c.isascii() else "-" for c in socket.gethostname().lower()).strip("-")
    return name[:63].strip("-") or "node"


def host_address() -> str:
    """The address others would reach this machine by; nothing is sent to find it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
            return str(probe.getsockname()[0])
        except OSError:
            return "127.0.0.1"


def _arch() -> str:
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine)


async def read_gpus() -> list[GpuReading]:
    """All GPUs of the machine now; none where there is no nvidia-smi, or none that answers."""
    smi = shutil.which("nvidia-smi")
    if smi is None:
        return []
    try:
        process = await asyncio.create_subprocess_exec(
            smi, f"--query-gpu={_FIELDS}", "--format=csv,noheader,nounits",
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
    except OSError:
        return []
    try:
        async with asyncio.timeout(_SMI_SECONDS):
            output, _ = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        _log.warning("nvidia-smi does not answer: GPUs are not known")
        return []
    return parse_smi(output.decode(errors="replace")) if process.returncode == 0 else []


def parse_smi(text: str) -> list[GpuReading]:
    """Lines that cannot be read are left out."""
    found = []
    for line in text.splitlines():
        parts = [part.strip() for part in line.split(",")]
        if len(parts) != len(_FIELDS.split(",")) or not parts[0].isdecimal():
            continue
        total, used, free, use, heat, power = (_number(part) for part in parts[3:9])
        if total is None:
            continue
        found.append(
            GpuReading(int(parts[0]), parts[1], parts[2], total, used or 0.0, free or 0.0, use, heat, power, parts[9])
        )
    return found


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
