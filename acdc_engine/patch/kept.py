"""What circuits need of every batch, in the host's memory where an accelerator has no room for it.

Batches stay on the device as long as there is room; the others go to the host, and come back one at a time.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar, overload

import torch
from torch import Tensor

from acdc_engine.model.devices import mapped, storage_of

T = TypeVar("T")


class Kept(Sequence[T]):
    """Things that hold tensors, such as a batch with its baseline, one after the other.

    Args:
        things: Made one by one, so that no more is on the device at once than is kept there and one besides.
        room: Bytes that may stay on the device.

    Attributes:
        on_host: How many of the things are in the host's memory.
    """

    def __init__(self, things: Iterable[T], room: int) -> None:
        """See the class."""
        self._things, self.on_host = list[tuple[T, list[torch.device | None]]](), 0
        taken, known = 0, set[int]()
        for thing in things:
            own = {storage: size for storage, size in _storages(thing).items() if storage not in known}
            if taken + sum(own.values()) <= room:
                taken += sum(own.values())
                known |= own.keys()
                self._things.append((thing, []))
            else:
                self._things.append(_on_host(thing, known))
                self.on_host += 1

    def __len__(self) -> int:
        """How many things."""
        return len(self._things)

    @overload
    def __getitem__(self, place: int) -> T: ...

    @overload
    def __getitem__(self, place: slice) -> Sequence[T]: ...

    def __getitem__(self, place: int | slice) -> T | Sequence[T]:
        """One of them, with all of its tensors where they were made."""
        if isinstance(place, slice):
            return [self[one] for one in range(len(self))[place]]
        thing, homes = self._things[place]
        return _back(thing, iter(homes)) if homes else thing


def _storages(thing: object) -> dict[int, int]:
    """Bytes of each piece of memory behind its tensors."""
    found = dict[int, int]()

    def note(tensor: Tensor) -> Tensor:
        found[storage_of(tensor)] = tensor.untyped_storage().nbytes()
        return tensor

    mapped(thing, note)
    return found


def _on_host(thing: T, known: set[int]) -> tuple[T, list[torch.device | None]]:
    """Its tensors in the host's memory but for those that others share, and where each was (None for these)."""
    homes = list[torch.device | None]()

    def away(tensor: Tensor) -> Tensor:
        stays = storage_of(tensor) in known
        homes.append(None if stays else tensor.device)
        if stays:
            return tensor
        there = tensor.cpu()
        return there.pin_memory() if tensor.device.type == "cuda" else there  # copies back do not wait

    return mapped(thing, away), homes


def _back(thing: T, homes: Iterator[torch.device | None]) -> T:
    def back(tensor: Tensor) -> Tensor:
        home = next(homes)
        return tensor if home is None else tensor.to(home, non_blocking=True)

    found: T = mapped(thing, back)
    return found
