"""S-inhibition: heads that turn the name movers away from the wrong answer and to the right one.

Wang et al. 2022, arXiv 2211.00593, section 3.2: path patching from a head to the name movers' queries. Defined in
docs/roles.md.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from acdc_engine.evaluation.movers import Places
from acdc_engine.models.forward import Record, effective_w_o
from acdc_engine.models.patterns import Heads, pattern_row
from acdc_engine.models.view import TransformerView
from acdc_engine.prompts.prompt_set import PromptSet

Head = tuple[int, int]
"""Layer and number."""


@dataclass(frozen=True)
class Reading:
    """What a batch leaves behind of the circuit's layers at the position read; tensors by layer.

    Attributes:
        at: The position.
        lean: 1 where a right answer stands, -1 where a wrong one does.
        both: Prompts in which both occur.
        residual: What the heads read there.
        q: Raw queries there.
        k: Raw keys, everywhere.
        change: Heads' outputs there, clean less corrupt.
    """

    at: Int[Tensor, "batch"]
    lean: Float[Tensor, "batch pos"]
    both: Bool[Tensor, "batch"]
    residual: dict[int, Tensor]
    q: dict[int, Tensor]
    k: dict[int, Tensor]
    change: dict[int, Tensor]

    @staticmethod
    def of(batch: PromptSet, places: Places, clean: Record, corrupt: Record, heads: Heads) -> "Reading":
        """Keeps what a batch's runs say about the layers of some heads."""
        at, rows = batch.read_at, torch.arange(len(batch), device=batch.device)

        def kept(values: Sequence[Tensor]) -> dict[int, Tensor]:
            return {layer: values[layer][rows, at] for layer in heads}

        before, after = kept(corrupt.z), kept(clean.z)
        return Reading(
            at=at,
            lean=places.answers.float() - places.wrong.float(),
            both=places.answers.any(1) & places.wrong.any(1),
            residual=kept(clean.attention_in),
            q=kept(clean.q),
            k={layer: clean.k[layer] for layer in heads},
            change={layer: after[layer] - before[layer] for layer in heads},
        )


def inhibition(view: TransformerView, readings: Sequence[Reading], head: Head, movers: Sequence[Head]) -> float | None:
    """How much a head's write turns movers to the right answer, through their queries alone.

    Args:
        view: The model.
        readings: Of the prompts, batch by batch.
        head: The head that writes.
        movers: Heads whose queries read it, where they are in later layers.

    Returns:
        Mean over movers and prompts of what their attention on right answers less that on wrong ones loses when their
        queries read the head's corrupt write instead of its clean one. None without a later mover, or without a prompt
        in which both answers occur.
    """
    later = [mover for mover in movers if mover[0] > head[0]]
    n_prompts = sum(int(reading.both.sum()) for reading in readings)
    if not later or not n_prompts:
        return None
    lost = [sum(_lost(view, reading, head, mover) for reading in readings) / n_prompts for mover in later]
    return fmean(lost)


def _lost(view: TransformerView, reading: Reading, head: Head, mover: Head) -> float:
    """Sum over one batch's prompts."""
    layer = mover[0]
    change = reading.change[head[0]][:, head[1]] @ effective_w_o(view.layers[head[0]])[head[1]]
    residual = reading.residual[layer]
    rotation = view.rotations(reading.k[layer].shape[1])[layer]

    def lean(read: Tensor) -> Tensor:
        q = reading.q[layer][:, None]
        row = pattern_row(view, mover, read, q, reading.k[layer], rotation, reading.at)
        return (row * reading.lean).sum(1)

    return float((lean(residual) - lean(residual - change))[reading.both].double().sum())
