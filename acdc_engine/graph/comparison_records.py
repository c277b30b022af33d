"""The file of `acdc compare`: how well scores, or a circuit, find the edges and nodes of a known circuit."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from acdc_engine.display import html_of, line_of
from acdc_engine.graph.circuit_records import ModelRecord
from acdc_engine.graph.files import write_text
from acdc_engine.graph.record import Record

Scope = Literal["edges", "nodes"]
Rank = Literal["absolute", "signed", "rms"]

NODE_SCORES = "a node's score is the largest score of its outgoing edges (absolute: of their |score|)"
"""In a circuit without loose ends a node is kept only if one of its outgoing edges is."""


class Counted(Record):
    """What is counted."""

    scope: Scope
    """Edges, or nodes without input and logits."""
    mlps: bool
    """Whether MLPs, and edges that start or end at one, are counted."""

    @property
    def name(self) -> str:
        """What it is called in tables and legends."""
        return self.scope if self.mlps else f"{self.scope}, no MLPs"


class Ranking(Counted):
    """A ranking by scores against a known circuit: ROC and precision-recall in one.

    Lowering the threshold past the next score adds all edges of that score at once. Points at which only wrong ones
    were added before and after are left out: they lie on a level stretch of both curves.
    """

    rank: Rank
    """Ranked by |score|, by score (edges against the behaviour last), or by root mean square over prompts."""
    n_true: int = Field(ge=1)
    """In the known circuit."""
    n_false: int = Field(ge=1)
    """In the graph, not in the known circuit."""
    auc: float = Field(ge=0, le=1)
    """Area under the ROC curve. 0.5 is chance."""
    average_precision: float = Field(ge=0, le=1)
    """Sum over thresholds of precision x gain in recall. Chance is n_true / (n_true + n_false)."""
    true_positives: tuple[int, ...]
    """Of the known circuit above each threshold, from none to all."""
    false_positives: tuple[int, ...]
    """Of the rest, above the same thresholds."""

    @property
    def roc(self) -> tuple[list[float], list[float]]:
        """False positive rates and true positive rates."""
        return [n / self.n_false for n in self.false_positives], [n / self.n_true for n in self.true_positives]

    @property
    def precision_recall(self) -> tuple[list[float], list[float]]:
        """Recalls and precisions, without the empty selection, which has no precision."""
        pairs = [(t, f) for t, f in zip(self.true_positives, self.false_positives, strict=True) if t + f]
        return [t / self.n_true for t, _ in pairs], [t / (t + f) for t, f in pairs]


class Overlap(Counted):
    """The found circuit against the known one. Null: nothing was found, or there is nothing to find."""

    n: int = Field(ge=0)
    """In the graph."""
    n_true: int = Field(ge=0)
    """In the known circuit."""
    n_found: int = Field(ge=0)
    """In the found circuit."""
    n_both: int = Field(ge=0)
    """In both."""
    precision: float | None
    """Share of what was found that is known."""
    recall: float | None
    """Share of what is known that was found."""
    f1: float | None
    """Harmonic mean of the two."""
    jaccard: float | None
    """In both, of those in either."""

    @property
    def false_positive_rate(self) -> float | None:
        """Share of what is not known that was found."""
        wrong = self.n - self.n_true
        return (self.n_found - self.n_both) / wrong if wrong else None


class ClassResult(Record):
    """One head class of the known circuit: its nodes, and the known edges that start or end at one of them."""

    role: str
    """Such as name mover."""
    mlps: bool
    """Whether edges that start or end at an MLP are counted."""
    nodes: int = Field(ge=1)
    """Of the class."""
    nodes_found: int = Field(ge=0)
    """Of them in the found circuit."""
    edges: int = Field(ge=0)
    """Known edges of the class."""
    edges_found: int = Field(ge=0)
    """Of them in the found circuit."""
    auc: float | None
    """Area under the ROC curve of these edges against all that are not in the known circuit, by |score|."""


class EditEdge(Record):
    """An edge to add to the found circuit, or to remove from it, to get the known one."""

    edge: str
    """As in a9.h9->logits."""
    score: float | None
    """Positive: it supports the behaviour."""
    place: int | None = Field(ge=1)
    """Among all edges of the graph by |score|; 1 is the strongest."""
    sender_role: str | None = None
    """In the known circuit."""
    receiver_role: str | None = None
    """In the known circuit."""


class Comparison(Record):
    """What `acdc compare` finds."""

    format: Literal["acdc-engine/comparison"] = "acdc-engine/comparison"
    """Says that this is a comparison."""
    version: int = Field(default=1, ge=1, le=1)
    """Version of the format."""
    found: str
    """The file that was compared."""
    known: str
    """The known circuit."""
    known_source: str | None
    """Where the known circuit comes from."""
    found_task: str | None = None
    """What the found circuit is for. Null where its file does not say."""
    known_task: str | None = None
    """What the known circuit is for."""
    model: ModelRecord
    """The model of the known circuit."""
    scores: str | None
    """Where the scores of all edges come from. Null: there are none, and the found circuit is one point."""
    node_scores: str = NODE_SCORES
    """How nodes are scored."""
    rankings: tuple[Ranking, ...]
    """Empty without scores."""
    overlaps: tuple[Overlap, ...]
    """Edges and nodes, with and without MLPs."""
    classes: tuple[ClassResult, ...]
    """Class by class; empty where the known circuit has no roles."""
    missing: tuple[EditEdge, ...]
    """Known edges that were not found, strongest first."""
    extra: tuple[EditEdge, ...]
    """Found edges that are not known, strongest first."""
    remarks: tuple[str, ...] = ()
    """What a reader should know."""

    @property
    def other_task(self) -> str:
        """That the two are for different tasks, in words; empty where they are not, or a file does not say."""
        if None in (self.found_task, self.known_task) or self.found_task == self.known_task:
            return ""
        return f"different tasks: {self.found_task} and {self.known_task}"

    def __repr__(self) -> str:
        """One line: a comparison holds every edge that is missing or extra."""
        return line_of(self)

    __str__ = __repr__

    def _repr_html_(self) -> str:
        """What a notebook shows: the picture, overlaps, areas, and what is missing and extra."""
        return html_of(self)

    def save(self, path: Path, *, overwrite: bool = False) -> None:
        """Writes the file, complete or not at all.

        Raises:
            CircuitFileError: The file exists, or cannot be written.
        """
        write_text(path, self.model_dump_json(indent=1) + "\n", overwrite=overwrite)
