"""Devices and number formats by name; how many prompts run at once on one; how much has been computed."""

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

import torch

from acdc_engine.errors import DeviceError, nearest

if TYPE_CHECKING:
    from acdc_engine.model.view import TransformerView

_DEVICES = ("auto", "cpu", "cuda", "mps")
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16, "float64": torch.float64}
ROOM = {"cpu": 4 * 2**30, "cuda": 16 * 2**30}
"""Bytes that scoring one batch may take, by kind of device. Fixed, so that batches, and with them the last bits of all
results, are the same whatever else the machine is doing."""


def pick_device(name: str = "auto") -> torch.device:
    """The device of a name: "auto" (CUDA, then MPS, then CPU), "cpu", "cuda", "cuda:1" or "mps".

    Raises:
        DeviceError: For an unknown name and for a device this machine does not have.
    """
    kind, _, index = name.partition(":")
    if kind not in _DEVICES or (index and not index.isdigit()):
        raise DeviceError(f"Unknown device {name!r}.{nearest(kind, _DEVICES)}")
    if kind == "auto":
        kind = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    count = {"cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}.get(kind, 1)
    if count == 0:
        raise DeviceError(
            f"Device {name!r} was asked for, but torch {torch.__version__} sees no {kind.upper()} device here. "
            "Use --device auto or --device cpu, or install a build of torch for it."
        )
    if kind == "cuda" and index and int(index) >= count:
        raise DeviceError(f"Device {name!r} was asked for, but CUDA device numbers here run from 0 to {count - 1}.")
    return torch.device(f"{kind}:{index}" if index else kind)


def pick_dtype(name: str = "float32") -> torch.dtype:
    """The number format of a name, a DeviceError for an unknown one."""
    if name not in DTYPES:
        raise DeviceError(f"Unknown dtype {name!r}.{nearest(name, DTYPES)}")
    return DTYPES[name]


def fitting_prompts(view: "TransformerView", pos: int) -> int:
    """How many prompts of `pos` tokens may run at once; at least one."""
    room = ROOM.get(view.device.type, ROOM["cuda"])
    return max(1, room // (pos * scoring_bytes(view, pos)))


def scoring_bytes(view: "TransformerView", pos: int) -> int:
    """About how many bytes scoring takes for each token of a batch of prompts of `pos` tokens."""
    return sum(twin.numbers(pos) for twin in view.twins) * view.unembed_weight.element_size()


def kept_bytes(view: "TransformerView") -> int:
    """About how many bytes an evaluator keeps for each token of its prompts: the ablated model, and a circuit's run."""
    numbers = sum(view.d_model + sum(twin.block.feeds.shape) * twin.width for twin in view.twins)
    return (numbers + view.graph.n_senders * view.d_model) * view.unembed_weight.element_size()


@dataclass
class Work:
    """How much has been computed: the unit in which costs are told, the same on every machine and under any load.

    Counted by formula where the work is done: a counter that watches torch would take longer than small operations do.

    Attributes:
        operations: Floating-point operations of matrix products, a multiplication and an addition counted as two, of
            attention among them. Everything else (norms, activations, sums) grows with them and is left out.
    """

    operations: int = 0

    def product(self, *sizes: int) -> None:
        """Counts a matrix product `[a, b] x [b, c]`, or several of them, given all sizes that are multiplied."""
        self.operations += 2 * prod(sizes)

    def mix(self, heads: int, queries: int, keys: int, d_head: int) -> None:
        """Counts attention of `heads` heads: scores, and weighted values. Queries are those of all examples."""
        self.product(2, heads, queries, keys, d_head)
