"""What a circuit file says of further searches: the one before it, the same one on halves, those for other circuits."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from acdc_engine.graph.evidence_records import Figures
from acdc_engine.graph.files import checksum_of
from acdc_engine.graph.records import CircuitEdge, Objective, Record

if TYPE_CHECKING:
    from acdc_engine.graph.circuit import Circuit


class Included(Record):
    """An edge or node that the circuit does not have, and repeats do."""

    name: str
    """Of the edge, such as a5.h5->a7.h3<q>, or of the node."""
    inclusion: float = Field(ge=0, le=1)
    """Share of the repeats whose circuit has it."""


class Part(Record):
    """Some edges, as a circuit by themselves."""

    edges: tuple[str, ...]
    """Their names."""
    nodes: int = Field(ge=0)
    """Heads and MLPs that they join."""
    figures: Figures | None = None
    """How well they do the task by themselves, on the held-out prompts. Null for no edges, and where that was not
    measured."""


class Core(Part):
    """The edges of at least 90 % of the repeats, less those that then lie on no path from input to logits.

    An edge may be among them that the circuit does not have.
    """


class Inner(Part):
    """A smaller circuit of the same task that the search went around: it tried to drop none of its edges."""

    _left_out: ClassVar[tuple[str, ...]] = ("source",)

    source: str | None = None
    """The file, folder of a run or name that it was read from, as it was given. Left out of the file where it was an
    object."""
    checksum: str
    """Of its own file."""
    objective: Objective | None = None
    """What its own search's target was about. Null where no search found it."""
    target_faithfulness: float | None = None
    """That target. Null where its search had none."""

    @classmethod
    def of(cls, circuit: Circuit, source: str | None = None) -> Inner:
        """A circuit, as the one inside another; without figures, which are those on the other's held-out prompts."""
        search = circuit.search
        return cls(
            edges=tuple(edge.name for edge in circuit.edges),
            nodes=sum(node.kind in ("head", "mlp") for node in circuit.nodes),
            source=source,
            checksum=checksum_of(circuit.model_dump(mode="json")),
            objective=None if search is None else search.objective,
            target_faithfulness=None if search is None else search.target_faithfulness,
        )


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


class CircuitFigures(Record):
    """How well a set of edges does the task; without effects, intervals and tests."""

    n_edges: int = Field(ge=0)
    """Edges on paths from input to logits. 0: nothing is left, and it is the ablated model."""
    discovery: float
    """Faithfulness on the discovery prompts."""
    held_out: float
    """Faithfulness on the held-out prompts."""
    kl_recovered: float
    """KL recovered on the held-out prompts."""
    templates: dict[str, float | None] = Field(default_factory=dict)
    """Held-out faithfulness of each template, where there are several; null where it is undefined."""


class Alternative(CircuitFigures):
    """Another circuit that meets the target on the discovery prompts."""

    edges: tuple[CircuitEdge, ...] = Field(min_length=1)
    """Its edges, with their scores."""
    overlaps: tuple[float, ...] = Field(min_length=1)
    """Edges in common with the circuit of the file, and with each alternative before this one, as a share of the
    smaller circuit's."""


class Alternatives(Record):
    """Circuits with few edges in common, and how hard others were searched for."""

    asked: int = Field(ge=1)
    """How many were to be found."""
    overlap: float = Field(ge=0, lt=1)
    """Largest overlap that was allowed with each circuit found before."""
    found: tuple[Alternative, ...] = ()
    """In the order in which they were found."""
    searches: int = Field(ge=0)
    """Searches that were made for all of them: with none of the earlier circuits' edges allowed, then with more."""
    evaluations: int = Field(ge=0)
    """Circuits that they ran."""
    closest: float | None = None
    """Objective of the circuit nearest to the target among those that the last search ran, where it found none. Null
    where all were found, or nothing was run."""
    stopped: bool = False
    """Whether time was over before the searches were."""
    union: CircuitFigures | None = None
    """All circuits together, that of the file included. Null where no alternative was found."""
    intersection: CircuitFigures | None = None
    """The edges that all of them have."""
