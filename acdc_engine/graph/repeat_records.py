"""What a circuit file says of the search repeated on halves of the discovery prompts."""

from __future__ import annotations

from pydantic import Field

from acdc_engine.graph.evidence_records import Figures
from acdc_engine.graph.records import Record


class Included(Record):
    """An edge or node that the circuit does not have, and repeats do."""

    name: str
    """Of the edge, such as a5.h5->a7.h3<q>, or of the node."""
    inclusion: float = Field(ge=0, le=1)
    """Share of the repeats whose circuit has it."""


class Core(Record):
    """The edges of at least 90 % of the repeats, less those that then lie on no path from input to logits."""

    edges: tuple[str, ...]
    """Their names. An edge may be among them that the circuit does not have."""
    nodes: int = Field(ge=0)
    """Heads and MLPs that they join."""
    figures: Figures | None = None
    """How well the core does the task, on the held-out prompts. Null for a core without edges, and where that was not
    measured."""


class Repeats(Record):
    """The search, repeated on halves of the discovery prompts, with everything that belongs to it.

    Halves come in pairs without a common prompt. Overlaps are mean Jaccard indices of two circuits: what both have, as
    a share of what either has; nodes are heads and MLPs.
    """

    asked: int = Field(ge=2)
    """Repeats that were to be made."""
    failed: int = Field(default=0, ge=0)
    """Those in which no circuit met the target; they count in no other figure."""
    n_prompts: int = Field(ge=1)
    """Prompt pairs of a half, at least."""
    sizes: tuple[int, ...]
    """Edges of the circuit of each repeat, in the order in which they were made."""
    edge_overlap: float | None = Field(default=None, ge=0, le=1)
    """Of edges, over all pairs of repeats. Null for fewer than two."""
    node_overlap: float | None = Field(default=None, ge=0, le=1)
    """The same of nodes."""
    core: Core | None = None
    """What the repeats agree on. Null for fewer than two."""
    other_edges: tuple[Included, ...] = ()
    """Edges that the circuit does not have and at least half of the repeats do, the most frequent first."""
    other_nodes: tuple[Included, ...] = ()
    """Heads and MLPs, likewise."""

    @property
    def made(self) -> int:
        """Repeats that were made."""
        return len(self.sizes) + self.failed
