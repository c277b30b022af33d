"""Blocks whose weights are on another device than the view's, for models that are larger than one device.

All that the engine keeps (residual streams, senders' values and changes, masks, scores) is on the view's device. Such a
block is given what it reads where its weights are, and what it writes is brought back: what crosses is the residual
stream. What it recomputes with (raw q, k and v, its ground) and gradients at its receivers stay with it. So nobody but
`Away` knows of more than one device.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from acdc_engine.model.devices import Work, moved
from acdc_engine.model.gradients import ReceiverSums
from acdc_engine.model.layers import Residual, Rotation
from acdc_engine.model.twins import BlockRecord, Ground, Patched, Record, Twin


class Away(Twin):
    """The twin of a block elsewhere: takes tensors of the view's device, and gives such."""

    def __init__(self, twin: Twin, home: torch.device) -> None:
        """Of a twin with weights elsewhere, and the view's device."""
        super().__init__(twin.layer, twin.block)
        self.width, self.coupled, self.entangled = twin.width, twin.coupled, twin.entangled
        self._twin, self._home, self._there = twin, home, twin.layer.device

    def count(self, work: Work, batch: int, pos: int, past: int = 0) -> None:
        """As `Twin`; so the others."""
        self._twin.count(work, batch, pos, past)

    def run(self, x: Residual, rotation: Rotation | None, record: Record | None, keep: bool) -> Residual:
        """As `Twin`."""
        write = self._twin.run(x.to(self._there), moved(rotation, self._there), record, keep)
        if record is not None:
            left = record.blocks[-1]
            left.values = left.values.to(self._home)
        return write.to(self._home)

    def write_out(self, values: Tensor, out: Tensor, work: Work) -> None:
        """As `Twin`."""
        there = torch.empty_like(out, device=self._there)
        self._twin.write_out(values.to(self._there), there, work)
        out.copy_(there)

    def sums(self, points: int, batch: int, pos: int, like: Tensor) -> ReceiverSums:
        """As `Twin`."""
        there = like.new_empty(like.shape[-1:], device=self._there)
        return _AwaySums(self._twin.sums(points, batch, pos, there), self._there)

    def ground(
        self, x: Residual, values: Tensor, rotation: Rotation | None, work: Work, past: BlockRecord | None
    ) -> tuple[Ground, Residual]:
        """As `Twin`."""
        x_there, own, turns, before = moved((x, values, rotation, past), self._there)
        ground, write = self._twin.ground(x_there, own, turns, work, before)
        return replace(ground, x=x), write.to(self._home)

    def change(self, patched: Patched, ground: Ground, work: Work) -> Tensor:
        """As `Twin`."""
        return self._twin.change(moved(patched, self._there), moved(ground, self._there), work).to(self._home)


class _AwaySums(ReceiverSums):
    """Sums that are made where the block is, and expanded on the view's device."""

    def __init__(self, sums: ReceiverSums, there: torch.device) -> None:
        self._sums, self._there, self.total = sums, there, sums.total

    def add(self, x: Tensor, inputs: Sequence[Tensor], gradients: Sequence[Tensor]) -> None:
        self._sums.add(x, inputs, gradients)
        self.points = self._sums.points

    def clear(self) -> None:
        self._sums.clear()
        self.points = 0

    def expand(self, examples: slice, positions: slice, out: Tensor, work: Work) -> None:
        there = torch.empty_like(out, device=self._there)
        self._sums.expand(examples, positions, there, work)
        out.copy_(there)
