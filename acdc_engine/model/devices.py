"""Devices and number formats by name; how much room pieces of work have there; how much has been computed."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, is_dataclass, replace
from math import prod
from operator import is_
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor, nn

from acdc_engine.errors import DeviceError, nearest

if TYPE_CHECKING:
    from acdc_engine.model.twins import Twin
    from acdc_engine.model.view import TransformerView

T = TypeVar("T")
_GIB = 2**30
_TRIAL = 64
"""Tokens of the prompt on which it is counted what a run keeps."""
_UNITS = {"KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": _GIB}
_DEVICES = ("auto", "cpu", "cuda", "mps")
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16, "float64": torch.float64}


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


@dataclass(frozen=True)
class Room:
    """Bytes that pieces of work may take, each by itself. They decide how work is cut, not what comes of it.

    Fixed for a model on a device: batches, and with them the last bits of all results, are the same whatever else the
    machine is doing.

    Attributes:
        scoring: One batch of prompts with what a backward pass keeps of it.
        circuits: What the circuits of one patched run hold; one runs whatever it takes.
        block: What the senders write for one block of tokens, as it is contracted with gradients. On a CPU a block that
            stays in the cache is half again as fast as one that does not; a GPU wants large products.
        kept: What circuits need of one set of prompts for as long as a run goes; more of it goes to the host's memory.
            None on a CPU, which is the host.
    """

    scoring: int
    circuits: int
    block: int
    kept: int | None = None

    @staticmethod
    def on(device: torch.device, weights: int, memory: int | None = None) -> Room:
        """Of a model with so many bytes of weights.

        Args:
            device: Where the model is.
            weights: Bytes.
            memory: Bytes that everything may take there, weights included; None for all of an accelerator, and on a
                CPU for pieces that any laptop has room for.

        Raises:
            DeviceError: The weights alone take more than nine tenths of it.
        """
        whole = accelerator_bytes(device) if memory is None else memory
        if whole is None:
            return Room(4 * _GIB, 256 * 2**20, 24 * 2**20)
        left = whole - weights
        if left < whole / 10:
            raise DeviceError(
                f"The weights take {weights / 1e9:.2f} GB on {device}, and {whole / 1e9:.2f} GB are there for all that "
                f"a run takes: it needs {weights / 0.9e9:.2f} GB at least. Use --memory with more than that, --dtype "
                "bfloat16, or a device with more memory."
            )
        if device.type == "cpu":
            return Room(left // 2, left // 16, 24 * 2**20)
        # A quarter for what is kept, of discovery, validation and held-out prompts; as much for runs near a circuit.
        return Room(left // 2, left // 4, min(2 * _GIB, left // 16), left // 12)

    def prompts(self, bytes_each: int) -> int:
        """How many prompts may run at once that take so much each as they are scored; at least one."""
        return max(1, self.scoring // bytes_each)

    def keeps(self, bytes_wanted: int) -> int:
        """How many of the bytes that circuits need of a set of prompts stay on the device."""
        return bytes_wanted if self.kept is None else min(self.kept, bytes_wanted)


def accelerator_bytes(device: torch.device) -> int | None:
    """Memory of an accelerator; None on a CPU, or where it does not tell."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    return int(torch.mps.recommended_max_memory()) if device.type == "mps" else None


def parse_bytes(text: str) -> int:
    """Bytes of "20GB", "512 MiB" or a number.

    Raises:
        DeviceError: It is none of these.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", text)
    if found is None or (found[2] and found[2].upper() not in _UNITS):
        raise DeviceError(f"Memory is a number with {', '.join(_UNITS)}, such as 20GB, not {text!r}.")
    return int(float(found[1]) * _UNITS.get(found[2].upper(), 1))


def halving(rows: list[int], work: Callable[[list[int]], T]) -> Iterator[tuple[list[int], T]]:
    """Does some work on rows together, or on halves of them where an accelerator's memory runs out.

    Yields:
        Rows that were done together, and what came of it.

    Raises:
        DeviceError: It runs out with a single row.
    """
    left = [rows]
    while left:
        some, done = left.pop(0), list[T]()
        try:
            done.append(work(some))
        except torch.OutOfMemoryError as error:
            if len(some) == 1:
                raise out_of_memory("a single prompt") from error
        if done:
            yield some, done[0]
        else:  # outside of the handler: the error holds on to the tensors of where it came from
            torch.cuda.empty_cache()
            left[:0] = [some[: len(some) // 2], some[len(some) // 2 :]]


def out_of_memory(what: str) -> DeviceError:
    """What to raise where the smallest piece of work is too large."""
    return DeviceError(
        f"The accelerator's memory is not enough for {what} at a time. Use shorter prompts, fewer of them (--n, "
        "--n-held-out, --n-validation), --dtype bfloat16, or a device with more memory."
    )


def scoring_bytes(view: TransformerView, pos: int, points: int = 5) -> int:
    """Bytes that scoring takes for each token of a batch of prompts of `pos` tokens, at the start of a backward pass.

    What autograd keeps and what is recorded is counted in a trial run of one prompt through one layer of each kind;
    added are the senders of another run and the sums of gradients at up to so many integration points.
    """
    size, total, known = view.unembed_weight.element_size(), 0, dict[Any, int]()
    wide = max(size, 4)
    for twin in view.twins:
        block, layer = twin.block, twin.layer
        weights = [] if layer.mlp is None else [weight.shape for weight in layer.mlp.parameters()]
        key = block.kind, layer.attention.softcap, layer.attention.w_q.shape, *weights
        if key not in known:
            known[key] = _kept_per_token(view, twin, pos)
        receivers, senders = block.feeds.shape
        of_points = min(points, 5) * (view.d_model + receivers) * size if block.kind == "attention" else 0
        total += known[key] + receivers * twin.width * wide + of_points + senders * twin.width * size
    return total + 4 * view.d_model * size


def _kept_per_token(view: TransformerView, twin: Twin, pos: int) -> int:
    """Found with short prompts; where attention weights are written out they grow with the length, and are added."""
    short = min(pos, _TRIAL)
    found = _kept_of_a_run(view, twin, short) // short
    if twin.layer.attention.softcap is None or pos == short:
        return found
    growth = _kept_of_a_run(view, twin, 2 * short) // (2 * short) - found
    return found + growth * (pos - short) // short


def _kept_of_a_run(view: TransformerView, twin: Twin, pos: int) -> int:
    """Bytes that autograd and a record keep of one block's run of one prompt, weights apart."""
    from acdc_engine.model.twins import Record

    weights = {storage_of(weight) for weight in tensors_in(twin.layer)}
    rotation = view.rotations(pos)[twin.block.layer]
    weights |= {storage_of(table) for table in rotation or ()}
    kept = dict[int, int]()

    def note(tensor: Tensor) -> Tensor:
        if (storage := storage_of(tensor)) not in weights:
            kept[storage] = tensor.untyped_storage().nbytes()
        return tensor

    x = torch.zeros(1, pos, view.d_model, dtype=view.dtype, device=view.device, requires_grad=True)
    record = Record(x)
    counted = view.work.operations
    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        twin.run(x + 0, rotation, record, True)
    view.work.operations = counted
    for part in record.blocks:
        for tensor in (part.values, *part.inputs, *(() if part.x is None else (part.x,))):
            note(tensor)
    return sum(kept.values())


def running_bytes(view: TransformerView) -> int:
    """Bytes for each token of a batch as all nodes run: their changes, and as much again for gradients at them."""
    return 2 * view.graph.n_senders * view.d_model * view.unembed_weight.element_size()


def tensors_in(value: Any) -> Iterator[Tensor]:
    """Tensors of modules, and of whatever holds them."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, nn.Module):
        yield from value.state_dict().values()
    elif isinstance(value, tuple):
        for item in value:
            yield from tensors_in(item)
    elif is_dataclass(value):
        for part in fields(value):
            yield from tensors_in(getattr(value, part.name))


def mapped(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """Tensors, and what tuples, lists and dataclasses hold of them, each changed; always in the same order.

    What holds nothing that changes is the same object: prompts are not looked at again.
    """
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, (tuple, list)):
        items = [mapped(item, change) for item in value]
        return value if all(map(is_, items, value)) else type(value)(items)
    if is_dataclass(value) and not isinstance(value, type):
        parts = {part.name: mapped(getattr(value, part.name), change) for part in fields(value) if part.init}
        changed = {name: part for name, part in parts.items() if part is not getattr(value, name)}
        return replace(value, **changed) if changed else value
    return value


def moved(value: Any, device: torch.device) -> Any:
    """The same on a device; what is there already is not copied."""
    return mapped(value, lambda tensor: tensor.to(device))


def storage_of(tensor: Tensor) -> int:
    """What tells the memory behind a tensor from others."""
    return int(tensor.untyped_storage()._cdata)


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
