"""What circuits need of every batch, in the host's memory where an accelerator has no room for it.

Batches stay on the device as long as there is room; the others go to the host, and come back one at a time.
"""

from collections.abc import Iterable, Iterator
from itertools import starmap
from typing import Generic, TypeVar

import torch
from torch import Tensor

from acdc_engine.model.devices import mapped, storage_of

T = TypeVar("T")
_Home = tuple[torch.device, torch.Size] | None
"""Where a tensor was made, and its shape; None where it stays there."""


class Kept(Generic[T]):
    """Things that hold tensors, such as a batch with its baseline, to be gone through one after the other.

    What has gone to the host comes back as it is asked for; let go of one (a loop's variable holds on to it) before the
    next, or both are on the device.

    Args:
        things: Made one by one, so that no more is on the device at once than is kept there and one besides.
        room: Bytes that may stay on the device.
        device: It; tensors on devices of other kinds (layers on the CPU) take nothing of it, and stay where they are.

    Attributes:
        on_host: How many of the things are in the host's memory.
    """

    def __init__(self, things: Iterable[T], room: int, device: torch.device) -> None:
        self._things, self.on_host = list[tuple[T, list[_Home]]](), 0
        taken, known = 0, set[int]()
        for thing in things:
            own = {storage: size for storage, size in _storages(thing, device).items() if storage not in known}
            if taken + sum(own.values()) <= room:
                taken += sum(own.values())
                known |= own.keys()
                self._things.append((thing, []))
            else:
                self._things.append(_on_host(thing, known, device))
                self.on_host += 1
            del thing  # before the next is made

    def __iter__(self) -> Iterator[T]:
        """All of them, each with all of its tensors where they were made."""
        return starmap(_back, self._things)


def _storages(thing: object, device: torch.device) -> dict[int, int]:
    """Bytes of each piece of memory behind its tensors on devices of that kind."""
    found = dict[int, int]()

    def note(tensor: Tensor) -> Tensor:
        if tensor.device.type == device.type:
            found[storage_of(tensor)] = tensor.untyped_storage().nbytes()
        return tensor

    mapped(thing, note)
    return found


def _on_host(thing: T, known: set[int], device: torch.device) -> tuple[T, list[_Home]]:
    """Its tensors in the host's memory, what is repeated in them once; where each was, and of which shape.

    Those stay that others share, and whole numbers, such as tokens: they take little, and prompts that do not move are
    not looked at again, which would wait for the device.
    """
    homes = list[_Home]()

    def away(tensor: Tensor) -> Tensor:
        stays = tensor.device.type != device.type or storage_of(tensor) in known or not tensor.is_floating_point()
        homes.append(None if stays else (tensor.device, tensor.shape))
        if stays:
            return tensor
        there = tensor[tuple(slice(None if step else 1) for step in tensor.stride())].cpu()
        return there.pin_memory() if tensor.device.type == "cuda" else there  # copies back do not wait

    return mapped(thing, away), homes


def _back(thing: T, homes: list[_Home]) -> T:
    left = iter(homes)

    def back(tensor: Tensor) -> Tensor:
        home = next(left)
        return tensor if home is None else tensor.to(home[0], non_blocking=True).expand(home[1])

    found: T = mapped(thing, back) if homes else thing
    return found
