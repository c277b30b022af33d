"""S-inhibition: heads that turn the name movers away from the wrong answer and to the right one.

Wang et al. 2022, arXiv 2211.00593, section 3.2: path patching from a head to the name movers' queries. Defined in
docs/roles.md.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from statistics import fmean

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from acdc_engine.evidence.movers import Places
from acdc_engine.graph.blocks import Graph
from acdc_engine.model.layers import Rotation, effective_w_o
from acdc_engine.model.patterns import Heads, pattern_row
from acdc_engine.model.twins import Record
from acdc_engine.model.view import TransformerView
from acdc_engine.prompts.prompt_set import PromptSet

Head = tuple[int, int]
"""Layer and number."""


@dataclass(frozen=True)
class Turning:
    """What is kept of a batch until the movers are known.

    Their keys are not: at all positions of all prompts they can be gigabytes, so the clean run is made again.

    Attributes:
        batch: The prompts.
        lean: 1 where a right answer stands, -1 where a wrong one does.
        both: Prompts in which both occur; the others do not count.
        change: Heads' outputs at the position read, clean less corrupt, by layer.
    """

    batch: PromptSet
    lean: Float[Tensor, "batch pos"]
    both: Bool[Tensor, "batch"]
    change: dict[int, Float[Tensor, "batch heads d_head"]]

    @staticmethod
    def of(batch: PromptSet, places: Places, clean: Record, corrupt: Record, heads: Heads, graph: Graph) -> "Turning":
        """Keeps what a batch's runs say about the layers of some heads."""
        rows, at = _rows(batch)
        z = {
            layer: [run.of(graph, "attention", layer).values[:, rows, at] for run in (clean, corrupt)]
            for layer in heads
        }
        return Turning(
            batch=batch,
            lean=places.answers.float() - places.wrong.float(),
            both=places.answers.any(1) & places.wrong.any(1),
            change={layer: (ours - theirs).transpose(0, 1) for layer, (ours, theirs) in z.items()},
        )


class InhibitionTally:
    """How much heads turn movers to the right answer, through the movers' queries alone, added up batch by batch.

    Args:
        view: The model.
        heads: The heads that write, by layer.
        movers: Heads whose queries read them, where they are in later layers.
    """

    def __init__(self, view: TransformerView, heads: Heads, movers: Sequence[Head]) -> None:
        """See the class."""
        self._view, self._heads, self._movers = view, heads, movers
        self._lost: dict[tuple[Head, Head], float] = {}
        self._prompts = 0

    def add(self, turning: Turning, clean: Record) -> None:
        """Counts a batch; `clean` is its clean run, with `keep_inputs`."""
        self._prompts += int(turning.both.sum())
        rows, at = _rows(turning.batch)
        rotations = self._view.rotations(turning.lean.shape[1])
        for mover in self._movers:
            stream = clean.of(self._view.graph, "attention", mover[0]).x
            assert stream is not None, "the clean run has kept its inputs"
            residual = stream[rows, at]
            lean = partial(_lean, self._view, turning, clean, mover, rotations[mover[0]])
            before = lean(residual)
            for layer in (layer for layer in self._heads if layer < mover[0]):
                w_o = effective_w_o(self._view.layers[layer])
                for head in self._heads[layer]:
                    lost = before - lean(residual - turning.change[layer][:, head] @ w_o[head])
                    pair = (layer, head), mover
                    self._lost[pair] = self._lost.get(pair, 0.0) + float(lost[turning.both].double().sum())

    def mean(self, head: Head) -> float | None:
        """The score of a head.

        Returns:
            Mean over movers and prompts of what their attention on right answers less that on wrong ones loses when
            their queries read the head's corrupt write instead of its clean one. None without a later mover, or without
            a prompt in which both answers occur.
        """
        later = [mover for mover in self._movers if mover[0] > head[0]]
        return fmean(self._lost[head, mover] / self._prompts for mover in later) if later and self._prompts else None


def _lean(
    view: TransformerView,
    turning: Turning,
    clean: Record,
    mover: Head,
    rotation: Rotation | None,
    read: Float[Tensor, "batch d_model"],
) -> Float[Tensor, "batch"]:
    """A mover's attention on right answers less that on wrong ones when its query reads `read`."""
    layer, (rows, at) = mover[0], _rows(turning.batch)
    q, k, _ = clean.of(view.graph, "attention", layer).inputs
    return (pattern_row(view, mover, read, q[rows, at][:, None], k, rotation, at) * turning.lean).sum(1)


def _rows(batch: PromptSet) -> tuple[Tensor, Tensor]:
    """Index of every prompt's position read."""
    return torch.arange(len(batch), device=batch.device), batch.read_at
