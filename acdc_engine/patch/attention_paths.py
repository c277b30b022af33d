"""Attention as a path: what heads bring from one place in the prompt to another, and what becomes of it without.

A head mixes z(t) = sum over s of A(t, s) v(s). With places in the prompt the sum falls apart by the span of t, at which
the head writes, and the span of s, which it looks at. A path is such a part, less what it is with the values of the
ablated model: formulas in docs/method.md, "Attention as a path".
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor

from acdc_engine.graph.blocks import Block
from acdc_engine.model.mixed import Mixed, Watch
from acdc_engine.patch.places import are_of


class HeadPath(NamedTuple):
    """A part of what a head mixes.

    Attributes:
        head: The sender.
        target: The span that it writes at.
        source: The span that it looks at.
    """

    head: int
    target: int
    source: int


_Targets = Int[Tensor, "batch positions"]
"""The spans of the positions at which heads are computed, -1 where it is none."""
_Sources = Int[Tensor, "batch pos"]
"""The same of all positions."""
Watches = Callable[[Block, _Targets, _Sources], Watch]
"""Given a block, the spans of the positions at which its heads are computed, and of all positions: what watches it."""


class Gains:
    """Adds up what each path of some heads gains, to first order: the gradient at z times the path. `Watches`.

    Attributes:
        sums: Sum over the prompts seen, float32 `[heads, targets, sources]`.
    """

    def __init__(self, heads: Sequence[int], n_spans: int) -> None:
        """Nothing yet."""
        self._heads, self._n_spans = list(heads), n_spans
        self.sums = torch.zeros(len(heads), n_spans, n_spans, dtype=torch.float32)

    def __call__(self, block: Block, targets: _Targets, sources: _Sources) -> Watch:
        """Watches a block of a run that is differentiated, with one mask."""

        def watch(z: Tensor, mixed: Mixed) -> Tensor:
            if z.requires_grad:
                z.register_hook(partial(self._add, mixed, block.writes.start, targets, sources))
            return z

        return watch

    @torch.no_grad()
    def _add(self, mixed: Mixed, first: int, targets: _Targets, sources: _Sources, gradient: Tensor) -> None:
        to, come = (are_of(spans.to(gradient.device), self._n_spans) for spans in (targets, sources))
        for place, head in enumerate(mixed.heads):
            if first + head not in self._heads:
                continue
            looks, change = mixed.seen(head, 0)
            of_tokens = looks * (gradient[0, place] @ change.transpose(1, 2))
            found = torch.einsum("bqt,bqs,bsu->tu", to, of_tokens.float(), come)
            self.sums[self._heads.index(first + head)] += found.cpu()


class Withheld:
    """Takes one path away under each mask: there the head sees the ablated model's values. `Watches`.

    `paths` are as many as masks.
    """

    def __init__(self, paths: Sequence[HeadPath]) -> None:
        self._paths = paths

    def __call__(self, block: Block, targets: _Targets, sources: _Sources) -> Watch:
        """Watches a block of a run."""

        def watch(z: Tensor, mixed: Mixed) -> Tensor:
            heads = [block.writes.start + head for head in mixed.heads]
            here = [(mask, path) for mask, path in enumerate(self._paths) if path.head in heads]
            z = z.clone() if here else z
            for mask, (head, target, source) in here:
                place = heads.index(head)
                looks, change = mixed.seen(mixed.heads[place], mask)
                to, come = (targets == target).to(z.device), (sources == source).to(z.device)
                there = looks * to[:, :, None] * come[:, None, :]
                z[mask, place] -= there.to(change.dtype) @ change
            return z

        return watch
