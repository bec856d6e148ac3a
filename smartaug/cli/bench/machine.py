"""The conditions of a measurement: the machine, versions of packages, and the memory of processes."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Iterable
from pathlib import Path

import torch

_PACKAGES = ("smartaug", "torch", "torchvision", "numpy", "numba", "pillow", "albumentations", "timm", "kornia")


def machine() -> dict[str, str | int | float | None]:
    """Processor, cores that this process may use, memory in GiB, system, accelerator, Python and torch's threads."""
    processor, memory = platform.processor(), None
    if platform.system() == "Linux":
        names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
        processor = names[0].partition(":")[2].strip() if names else processor
        memory = round(int(Path("/proc/meminfo").read_text().split()[1]) / 2**20, 1)
    return {
        "processor": processor,
        "cores": cores(),
        "memory_gib": memory,
        "system": f"{platform.system()} {platform.machine()}",
        "accelerator": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        "torch_threads": torch.get_num_threads(),
    }


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def versions(packages: Iterable[str] = _PACKAGES) -> dict[str, str]:
    """Installed versions of ``packages`` by their distribution names; those not installed are left out."""
    found = {}
    for package in packages:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def memory_of(processes: Iterable[int]) -> int | None:
    """Memory of these processes in bytes, each shared page divided among its users (Linux's PSS); None: not known."""
    total = 0
    for process in processes:
        try:
            lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
        except OSError:  # not Linux, or the process has ended
            return None
        total += next(1024 * int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total
