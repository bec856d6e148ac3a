"""What every benchmark shares: timing side by side, the machine's description, and the committed result files.

A benchmark states its method in its docstring, runs rivals and ours in turn within one process run (A B C A B C ...),
so that a drift of the machine meets all of them, repeats at least five times, and quotes the median with minimum and
maximum. Machines are shared and noisy: read ratios, not seconds.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

RESULTS = Path(__file__).parent / "results"


os.environ["SMARTAUG_COMPILE"] = "wait"  # what is measured is the compiled code, also in an empty cache


def machine() -> dict[str, Any]:
    """Processor, cores, memory in GiB, operating system, accelerator and Python: what a figure depends on."""
    processor = platform.processor()
    memory = None
    if platform.system() == "Linux":
        names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
        processor = names[0].partition(":")[2].strip() if names else processor
        memory = round(int(Path("/proc/meminfo").read_text().split()[1]) / 2**20, 1)
    accelerator = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "processor": processor,
        "cores": torch.multiprocessing.cpu_count(),
        "memory_gib": memory,
        "system": f"{platform.system()} {platform.machine()}",
        "accelerator": accelerator,
        "python": platform.python_version(),
    }


def versions(*packages: str) -> dict[str, str]:
    """Installed versions of ``packages`` by their distribution names; those not installed are left out."""
    found = {}
    for package in ("torch", "numpy", *packages):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def summary(values: list[float], digits: int = 5) -> dict[str, Any]:
    """Median, minimum, maximum and number of the values."""

    def rounded(value: float) -> float:
        return float(f"{value:.{digits}g}")

    return {
        "median": rounded(statistics.median(values)),
        "min": rounded(min(values)),
        "max": rounded(max(values)),
        "n": len(values),
    }


def spread(values: list[float]) -> dict[str, Any]:
    """Mean, standard deviation over seeds (0 of one) and number."""
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return {"mean": round(statistics.mean(values), 2), "sd": round(deviation, 2), "n": len(values)}


def side_by_side(
    contestants: dict[str, Callable[[], Any]], *, repeats: int = 5, warmup: int = 1, seconds: float = 0.2
) -> dict[str, list[float]]:
    """Seconds per call of each contestant, ``repeats`` figures each, taken in turn.

    Each figure is the mean over as many calls as fill about ``seconds``, at least one; CUDA is waited for.
    """
    calls = {}
    for name, run in contestants.items():
        for _ in range(warmup):
            run()
        calls[name] = max(1, round(seconds / max(_timed(run, 1), 1e-9)))
    figures: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(repeats):
        for name, run in contestants.items():
            figures[name].append(_timed(run, calls[name]))
    return figures


def _timed(run: Callable[[], Any], calls: int) -> float:
    started = time.perf_counter()
    for _ in range(calls):
        run()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return (time.perf_counter() - started) / calls


def write(name: str, method: str, results: Any, *, packages: tuple[str, ...] = (), **facts: Any) -> Path:
    """Write ``results/name.json`` with method, machine and versions beside the results; returns its path."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    content = {
        "benchmark": name,
        "method": " ".join(method.split()),
        "date": time.strftime("%Y-%m-%d"),
        "machine": machine(),
        "versions": versions(*packages),
        **facts,
        "results": results,
    }
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n")
    return path


def arguments(description: str | None, *, threads: int = 1, **defaults: Any) -> argparse.Namespace:
    """The options every benchmark has (``--repeats``, ``--threads``), and one ``--name`` for each of ``defaults``."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=threads)
    for name, value in defaults.items():
        kind = str if value is None else type(value)
        parser.add_argument(f"--{name.replace('_', '-')}", type=kind, default=value)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    return options
