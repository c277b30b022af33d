"""Devices and number formats by name, checked before anything is loaded."""

import torch

from acdc_engine.errors import DeviceError, nearest

DEVICES = ("auto", "cpu", "cuda", "mps")
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16, "float64": torch.float64}


def pick_device(name: str = "auto") -> torch.device:
    """Turns a device name into a device that is there.

    Args:
        name: "auto" (CUDA, then MPS, then CPU), "cpu", "cuda", "cuda:1" or "mps".

    Raises:
        DeviceError: For an unknown name and for a device this machine does not have.
    """
    kind, _, index = name.partition(":")
    if kind not in DEVICES or (index and not index.isdigit()):
        raise DeviceError(f"Unknown device {name!r}.{nearest(kind, DEVICES)}")
    if kind == "auto":
        kind = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    if kind == "cuda" and not torch.cuda.is_available():
        raise DeviceError(
            f"Device {name!r} was asked for, but torch {torch.__version__} sees no CUDA device here. "
            "Use --device auto or --device cpu, or install a CUDA build of torch."
        )
    if kind == "cuda" and index and int(index) >= torch.cuda.device_count():
        count = torch.cuda.device_count()
        raise DeviceError(f"Device {name!r} was asked for, but CUDA device numbers here run from 0 to {count - 1}.")
    if kind == "mps" and not torch.backends.mps.is_available():
        raise DeviceError(f"Device {name!r} was asked for, but torch sees no MPS device here. Use --device auto.")
    return torch.device(f"{kind}:{index}" if index else kind)


def pick_dtype(name: str = "float32") -> torch.dtype:
    """Turns the name of a number format into a torch dtype.

    Raises:
        DeviceError: For an unknown name.
    """
    if name not in DTYPES:
        raise DeviceError(f"Unknown dtype {name!r}.{nearest(name, DTYPES)}")
    return DTYPES[name]
