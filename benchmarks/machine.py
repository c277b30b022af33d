"""What a figure was measured on: enough to compare, nothing that names a person's machine."""

import os
import platform
from pathlib import Path

import torch
import transformers


def describe_machine(device: str = "cpu") -> dict[str, str | int]:
    """Describes processor, memory, libraries and threads; no host names, no paths.

    Args:
        device: Where the model ran; a CUDA device is described too.

    Returns:
        JSON-ready facts.
    """
    facts: dict[str, str | int] = {
        "cpu": _cpu_model(),
        "cores": os.cpu_count() or 1,
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "threads": torch.get_num_threads(),
    }
    if torch.device(device).type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        facts["gpu"] = properties.name
        facts["gpu_memory_gb"] = round(properties.total_memory / 1e9)
        facts["cuda"] = str(torch.version.cuda)
    return facts


def _cpu_model() -> str:
    """The processor's name; platform.processor() says no more than "x86_64" on Linux."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
