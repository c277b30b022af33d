"""What a run took and where it ran."""

import os
import platform
import time
from datetime import datetime
from importlib import metadata
from pathlib import Path

import torch

from acdc_engine.graph.circuit_records import Environment
from acdc_engine.models.view import TransformerView
from acdc_engine.prompts.prompt_set import PromptSet

PACKAGES = ("acdc-engine", "torch", "transformers", "transformer-lens", "numpy", "scipy", "networkx", "safetensors")


def peak_memory(device: torch.device) -> int:
    """Largest memory so far in bytes: of the accelerator where there is one, of the process otherwise (0: unknown)."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    status = Path("/proc/self/status")
    if status.is_file():  # ru_maxrss would start at the peak of the process that started this one
        kilobytes = next(line.split()[1] for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(kilobytes) * 1024
    try:
        import resource
    except ImportError:  # Windows
        return 0
    return int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)  # macOS counts bytes


def forward_seconds(view: TransformerView, prompts: PromptSet, batch_size: int) -> float:
    """Seconds of one plain forward pass over a set of prompts: the unit in which costs are told."""
    batches = [batch.clean for batch in prompts.to(view.device).batches(batch_size)]
    start = time.perf_counter()
    for tokens in batches:
        logits = view.logits(tokens)
    if view.device.type == "cuda":
        torch.cuda.synchronize(view.device)
    else:
        float(logits[0, 0, 0])
    return time.perf_counter() - start


def environment(view: TransformerView) -> Environment:
    """Describes machine and libraries, without names of hosts, users or folders."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:  # run from a checkout that is not installed
            versions[package] = "not installed"
    device = view.device.type
    return Environment(
        versions=versions,
        python=platform.python_version(),
        platform=f"{platform.system()} {platform.machine()}",
        device=torch.cuda.get_device_name(view.device) if device == "cuda" else device,
        dtype=str(view.dtype).removeprefix("torch."),
        threads=torch.get_num_threads() if device == "cpu" else (os.cpu_count() or 1),
        created=datetime.now().astimezone().isoformat(timespec="seconds"),
    )
