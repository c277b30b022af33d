"""How much a model has computed: the unit in which costs are told, the same on every machine and under any load.

Counted by formula where the work is done: a counter that watches torch would take longer than small operations do.
"""

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from acdc_engine.model.view import TransformerView


@dataclass
class Work:
    """What has been computed with one view so far.

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

    def unembedding(self, view: "TransformerView", rows: int, logits: int | None = None) -> None:
        """Counts logits: those of the whole vocabulary, or so many."""
        self.product(rows, view.d_vocab if logits is None else logits, view.d_model)


def plain_forward(view: "TransformerView", batch: int, pos: int) -> int:
    """Operations of a plain forward pass over one batch, logits at all positions: as a model is run anywhere."""
    work = Work()
    for twin in view.twins:
        twin.count(work, batch, pos)
    work.unembedding(view, batch * pos)
    return work.operations
