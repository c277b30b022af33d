"""Heads told by what they move: name movers, heads that copy, and heads that turn name movers to the right answer.

Wang et al. 2022, arXiv 2211.00593, sections 3.1 (copying score) and 3.2 (S-inhibition: path patching from a head to the
name movers' queries); McDougall et al. 2023, arXiv 2310.04625 (copy suppression). Defined in docs/roles.md.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import fmean

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from acdc_engine.graph.blocks import Graph
from acdc_engine.graph.records import RoleName
from acdc_engine.model.layers import Rotation
from acdc_engine.model.twins import Record
from acdc_engine.model.view import TransformerView
from acdc_engine.prompts.prompt_set import NO_ANSWER, PromptSet

_AMONG = 5
"""A head copies a token if it is among so many with the largest logits of what the head moves from it."""
_BLOCK_NUMBERS = 2**24
"""Logits held at once."""
Head = tuple[int, int]
"""Layer and number."""
_Heads = Mapping[int, Sequence[int]]
"""Layers, and which heads of each."""


@dataclass(frozen=True)
class Places:
    """Which positions of the prompts hold a right answer, or a wrong one, as far as the position read can look."""

    answers: Bool[Tensor, "batch pos"]
    wrong: Bool[Tensor, "batch pos"]

    @staticmethod
    def of(prompts: PromptSet, causal: bool, same_words: bool = True) -> "Places":
        """Finds them in the clean prompts; nowhere where answers are not words of the prompts (`same_words`)."""
        place = torch.arange(prompts.clean.shape[1], device=prompts.device)
        last = prompts.read_at + 1 if causal else prompts.lengths
        seen = (place < last[:, None]) & same_words

        def holds(ids: Tensor) -> Tensor:
            same = (prompts.clean[:, :, None] == ids[:, None, :]) & (ids != NO_ANSWER)[:, None, :]
            return same.any(-1) & seen

        return Places(holds(prompts.answers), holds(prompts.wrong_answers))


class MoverTally:
    """What heads move from the answer's positions to the position read, added up batch by batch."""

    def __init__(self, view: TransformerView) -> None:
        self._view, self._sums = view, dict[Head, Tensor]()
        self._all = self._prompts = self._positions = 0

    def count(self, places: Places) -> None:
        """Counts the prompts of a batch, once, before its layers are added."""
        self._all += len(places.answers)
        self._prompts += int(places.answers.any(1).sum())
        self._positions += int(places.answers.sum())

    def add(
        self,
        layer: int,
        heads: Sequence[int],
        rows: Float[Tensor, "batch heads pos"],
        batch: PromptSet,
        clean: Record,
        places: Places,
    ) -> None:
        """Counts some heads of a layer; `rows` is where they look from the position read."""
        row, position = places.answers.nonzero(as_tuple=True)
        if not len(row):
            return
        tokens = batch.clean[row, position]
        values = clean.of(self._view.graph, "attention", layer).inputs[2][row, position]
        # Together, so that the unembedding is gone through once per layer.
        writes = torch.cat([moved(self._view, layer, head, values) for head in heads])
        copies, falls = (which.view(len(heads), -1) for which in copied(self._view, writes, tokens.repeat(len(heads))))
        for i, (head, raised, lowered) in enumerate(zip(heads, copies, falls, strict=True)):
            looked = rows[row, i, position].double()
            sums = (looked * raised).sum(), (looked * lowered).sum(), raised.sum().double(), lowered.sum().double()
            found = torch.stack(sums).cpu()
            self._sums[layer, head] = self._sums.get((layer, head), torch.zeros_like(found)) + found

    def means(self, layer: int, head: int) -> Mapping[RoleName, float]:
        """Scores of one head; nothing where a right answer occurs in less than half of the prompts."""
        if not self._prompts or self._prompts < self._all / 2:
            return {}
        up, down, raised, lowered = self._sums[layer, head].tolist()
        return {
            "name mover": up / self._prompts,
            "negative name mover": down / self._prompts,
            "copying": raised / self._positions,
            "copy suppression": lowered / self._positions,
        }


def moved(
    view: TransformerView, layer: int, head: int, v: Float[Tensor, "rows kv d_head"]
) -> Float[Tensor, "rows d_model"]:
    """What a head would write if it looked at one position only, up to the scale of a norm after attention.

    `v` has the values of all groups at the position, one row per prompt.
    """
    attention = view.layers[layer].attention
    group = head * attention.w_v.shape[0] // attention.w_q.shape[0]
    return v[:, group] @ view.layers[layer].effective_w_o[head]


def copied(
    view: TransformerView, writes: Float[Tensor, "rows d_model"], tokens: Int[Tensor, "rows"]
) -> tuple[Bool[Tensor, "rows"], Bool[Tensor, "rows"]]:
    """Whether each token is among the few whose logits a write raises most, or lowers most.

    The few are five, or a twentieth of a small vocabulary (at least one). The write goes through the final norm's gain
    and the unembedding; the norm's scale changes no order. Ties count against: a head that writes nothing copies
    nothing.

    Returns:
        Raised, lowered.
    """
    few = max(1, min(_AMONG, view.d_vocab // 20))
    wide = writes.to(torch.float64 if writes.dtype == torch.float64 else torch.float32, copy=True)
    view.final_norm.to_standardized(wide)
    weight = view.unembed_weight
    view.work.product(len(tokens), view.d_vocab, view.d_model)
    own = (wide * weight[tokens].to(wide.dtype)).sum(-1, keepdim=True)
    above, below = torch.zeros_like(tokens), torch.zeros_like(tokens)
    step = max(1, _BLOCK_NUMBERS // max(1, len(tokens)))
    for start in range(0, len(weight), step):
        logits = wide @ weight[start : start + step].to(wide.dtype).T
        itself = torch.arange(start, start + logits.shape[1], device=tokens.device) == tokens[:, None]
        above += ((logits >= own) & ~itself).sum(1)
        below += ((logits <= own) & ~itself).sum(1)
    return above < few, below < few


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
    def of(batch: PromptSet, places: Places, clean: Record, corrupt: Record, heads: _Heads, graph: Graph) -> "Turning":
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

    The heads, by layer, write; movers read them where they are in later layers.
    """

    def __init__(self, view: TransformerView, heads: _Heads, movers: Sequence[Head]) -> None:
        self._view, self._heads, self._movers = view, heads, movers
        self._lost, self._prompts = dict[tuple[Head, Head], float](), 0

    def add(self, turning: Turning, clean: Record) -> None:
        """Counts a batch; `clean` is its clean run, with `keep_inputs`."""
        self._prompts += int(turning.both.sum())
        rows, at = _rows(turning.batch)
        rotations = self._view.rotations(turning.lean.shape[1])
        for mover in self._movers:
            residual = clean.of(self._view.graph, "attention", mover[0]).x
            assert residual is not None, "kept in this run"
            residual = residual[rows, at]
            lean = partial(_lean, self._view, turning, clean, mover, rotations[mover[0]])
            before = lean(residual)
            for layer in (layer for layer in self._heads if layer < mover[0]):
                w_o = self._view.layers[layer].effective_w_o
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
    view: TransformerView, turning: Turning, clean: Record, mover: Head, rotation: Rotation | None, read: Tensor
) -> Float[Tensor, "batch"]:
    """A mover's attention on right answers less that on wrong ones when its query reads `read` `[batch, d_model]`."""
    rows, at = _rows(turning.batch)
    q, k, _ = clean.of(view.graph, "attention", mover[0]).inputs
    row = view.layers[mover[0]].pattern_row(mover[1], read, q[rows, at][:, None], k, rotation, at)
    return (row * turning.lean).sum(1)


def _rows(batch: PromptSet) -> tuple[Tensor, Tensor]:
    """Index of every prompt's position read."""
    return torch.arange(len(batch), device=batch.device), batch.read_at
