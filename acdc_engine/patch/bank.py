"""What senders changed by in a run, kept at the positions where somebody reads it, and the sums receivers read."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from acdc_engine.model.work import Work
from acdc_engine.patch.plan import Known


@dataclass
class Bank:
    """Changes `current_u - ablated_u` of some senders, under one or many masks.

    Attributes:
        everywhere: Senders kept at all positions, in order of computation.
        all: All senders, in order of computation.
        values: Of `everywhere` `[masks, senders, batch, pos, d_model]`.
        at_reads: Of `all` at the reading positions `[masks, senders, batch, d_model]`.
    """

    everywhere: tuple[int, ...]
    all: tuple[int, ...]
    values: Tensor
    at_reads: Tensor

    @staticmethod
    def empty(everywhere: Sequence[int], all_senders: Sequence[int], n_masks: int, like: Tensor) -> "Bank":
        """Room for the senders of a run, for residual streams `[batch, pos, d_model]` like the one given."""
        n, pos, d_model = like.shape
        values = like.new_empty(n_masks, len(everywhere), n, pos, d_model)
        at_reads = like.new_empty(n_masks, len(all_senders), n, d_model)
        return Bank(tuple(everywhere), tuple(all_senders), values, at_reads)

    def store(self, senders: Sequence[int], delta: Tensor, read_at: Int[Tensor, "batch"]) -> None:
        """Puts in what a step computed: `[masks, senders, batch, positions, d_model]`, all positions or only one."""
        first = self.all.index(senders[0])
        places = slice(first, first + len(senders))
        if delta.shape[3] == 1 and senders[0] not in self.everywhere:
            self.at_reads[:, places] = delta[:, :, :, 0]
            return
        wide = self.everywhere.index(senders[0])
        self.values[:, wide : wide + len(senders)] = delta
        self.at_reads[:, places] = delta[:, :, torch.arange(len(read_at), device=delta.device), read_at]


@dataclass(frozen=True)
class Nearby:
    """A mask that was run, with what it left, for masks that differ from it in few edges.

    Attributes:
        mask: The mask.
        bank: `input` and all senders that the mask needed.
    """

    mask: Bool[Tensor, "senders receivers"]
    bank: Bank

    def known(self) -> Known:
        """Which senders there are."""
        return Known(self.mask, frozenset(self.bank.everywhere), frozenset(self.bank.all))


def joined(first: Bank, second: Bank) -> Bank:
    """One bank of two, of the same masks."""
    return Bank(
        first.everywhere + second.everywhere,
        first.all + second.all,
        torch.cat([first.values, second.values], 1),
        torch.cat([first.at_reads, second.at_reads], 1),
    )


@dataclass(frozen=True)
class Reads:
    """What some receivers read.

    Attributes:
        moving: Receivers that read something else under every mask.
        values: What those read `[masks, moving, batch, positions, d_model]`.
        steady: Receivers that read the same under all masks.
        same: What those read `[1, steady, batch, positions, d_model]`.
    """

    moving: list[int]
    values: Tensor
    steady: list[int]
    same: Tensor


def reads(
    rows: list[int],
    base: Float[Tensor, "*rest"],
    shared: Float[Tensor, "1 some *rest"],
    weights: Shaped[Tensor, "masks rows some"],
    own: Float[Tensor, "masks others *rest"],
    own_weights: Shaped[Tensor, "masks rows others"],
    work: Work,
) -> Reads:
    """Sums up what receivers read: the baseline, and weight times change of every sender.

    What all masks have in common is added up once. Masks that differ from most in a shared sender are corrected.

    Args:
        rows: The receivers.
        base: What they read when nothing is kept.
        shared: Changes of the senders that are the same under all masks.
        weights: Their edges, of every mask.
        own: Changes of the senders that were run under every mask.
        own_weights: Their edges.
        work: Counts what is computed.
    """
    usual = weights.median(0, keepdim=True).values
    odd = (weights != usual).any(2)
    moves = (own_weights != 0).any(2).any(0) | odd.any(0) | (len(weights) == 1)
    common = _added(usual, shared, work) + base
    moving, steady = moves.nonzero().flatten(), (~moves).nonzero().flatten()
    flat, used = common[0, moving].flatten(1), (own_weights != 0).flatten(0, 1).any(0)
    if bool(used.any()):
        own_weights, own = _cut(own_weights[:, moving], own, used)
        work.product(*own_weights.shape, base.numel())
        values = torch.baddbmm(flat.expand(len(weights), -1, -1), own_weights, own.flatten(2))
    else:
        values = flat.repeat(len(weights), 1, 1)
    if bool(odd.any()):
        masks, places = odd[:, moving].nonzero(as_tuple=True)
        change = weights[masks, moving[places]] - usual[0, moving[places]]
        values[masks, places] += _added(change[None], shared, work)[0].flatten(1)
    values = values.view(*values.shape[:2], *base.shape)
    return Reads([rows[i] for i in moving.tolist()], values, [rows[i] for i in steady.tolist()], common[:, steady])


def _added(
    weights: Float[Tensor, "1 rows senders"], values: Float[Tensor, "1 senders *rest"], work: Work
) -> Float[Tensor, "1 rows *rest"]:
    """Sum over senders of weight times value."""
    cut, some = _cut(weights, values, (weights != 0).flatten(0, 1).any(0))
    work.product(*cut.shape, some[0, :1].numel())
    return (cut[0] @ some[0].flatten(1)).view(1, weights.shape[1], *values.shape[2:])


def _cut(weights: Tensor, values: Tensor, used: Tensor) -> tuple[Tensor, Tensor]:
    """Leaves out senders that nobody uses: by a slice, or by copying the others where they lie far apart."""
    places = used.nonzero().flatten()
    if not len(places):
        return weights[:, :, :0], values[:, :0]
    first, last = int(places[0]), int(places[-1]) + 1
    if last - first <= 3 * len(places):
        return weights[:, :, first:last], values[:, first:last]
    return weights[:, :, places], values[:, places]
