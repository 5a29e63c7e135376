"""The machine that a benchmark ran on, in a few words that say what its numbers depend on."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import time
from pathlib import Path

import torch

import kryptondb

PEERS = ("captum", "monai")


def describe_machine(device: str) -> dict[str, str]:
    """Asked of the machine itself; by name, in the order in which it is printed."""
    name = platform.processor() or platform.machine()
    information = Path("/proc/cpuinfo")
    if information.is_file():
        lines = [line for line in information.read_text().splitlines() if line.startswith("model name")]
        name = lines[0].split(":", 1)[1].strip() if lines else name
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    machine = {
        "processor": name,
        "cores": str(cores),
        "vector instructions": torch.backends.cpu.get_cpu_capability(),
        "system": f"{platform.system()} {platform.machine()}",
    }
    if device.startswith("cuda"):
        machine["device"] = torch.cuda.get_device_name(device)
    machine["python"] = platform.python_version()
    machine["torch"] = torch.__version__
    machine["threads"] = str(torch.get_num_threads())
    machine["kryptondb"] = kryptondb.__version__
    for package in PEERS:
        if importlib.util.find_spec(package):
            machine[package] = importlib.metadata.version(package)
    if hasattr(os, "getloadavg"):
        machine["load"] = f"{os.getloadavg()[0]:.1f}"
    machine["date"] = time.strftime("%Y-%m-%d %H:%M")
    return machine
