"""The graph the tensors are laid out by: everything per edge is a dense [senders, receivers] tensor."""

import torch
from jaxtyping import Bool
from torch import Tensor

from acdc_engine.graph.layout import GraphShape, Layout

__all__ = ["Graph", "GraphShape"]


class Graph(Layout):
    """A transformer's graph: index arithmetic of `Layout`, and which edges exist as a tensor.

    Attributes:
        exists: True where an edge joins the sender to the receiver `[senders, receivers]`, on the CPU. Shared
            by all users of the graph: do not write to it.
    """

    def __init__(self, shape: GraphShape) -> None:
        """Builds the graph of a transformer of this shape."""
        super().__init__(shape)
        sender, before = torch.arange(self.n_senders), torch.tensor(self.senders_before)
        self.exists: Bool[Tensor, "senders receivers"] = sender[:, None] < before[None, :]
