"""The files of `acdc curve` and of `acdc compare`.

A curve is faithfulness against size for several methods, with a random baseline; a comparison says how well scores, or
a circuit, find the edges and nodes of a known circuit.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from acdc_engine.graph.evidence_records import Interval
from acdc_engine.graph.files import Result
from acdc_engine.graph.records import Environment, MetricRecord, ModelRecord, Record, TaskRecord

Scope = Literal["edges", "nodes"]
Rank = Literal["absolute", "signed", "rms"]
"""By |score|, by score (edges against the behaviour last), or by root mean square over prompts."""

_NODE_SCORES = "a node's score is the largest score of its outgoing edges (absolute: of their |score|)"
"""In a circuit without loose ends a node is kept only if one of its outgoing edges is."""


class Area(Record):
    """The two areas of a curve (Mueller et al. 2025, arXiv 2504.13151)."""

    cpr: float
    """Area under the faithfulness; larger is better."""
    cmd: float = Field(ge=0)
    """Area between the faithfulness and 1; smaller is better."""


class Areas(Record):
    """The areas over both ways of counting a circuit's edges."""

    requested: Area
    """Over the fraction of edges asked for, as MIB publishes it."""
    actual: Area
    """Over the fraction left after cleaning."""


class _CurveSize(Record):
    """One size of a curve."""

    requested_fraction: float = Field(gt=0, le=1)
    """Share of the graph's edges asked for."""
    requested_edges: int = Field(ge=0)
    """The same in edges, rounded down."""


class CurvePoint(_CurveSize):
    """The circuit that a method's strongest edges make at one size, judged on the held-out prompts."""

    edges: int = Field(ge=0)
    """Edges left after cleaning. 0: no path joins input and logits, and the circuit is the ablated model."""
    faithfulness: float
    """Held out. 1 is the model, 0 the ablated model, more than 1 overshoots."""
    faithfulness_interval: Interval | None = None
    """How far it can be trusted. Null where there are too few prompts, and for the empty circuit."""
    kl_recovered: float
    """1 - KL(model || circuit) / KL(model || ablated), held out. 1 is perfect and the most there is."""


class CurveSeries(Record):
    """One way of choosing edges, at all sizes."""

    method: str
    """How edges were scored, such as eap-ig."""
    alphas: tuple[float, ...]
    """The points at which the method takes gradients."""
    rank: Rank
    """Whether edges count as strong by |score| or by score."""
    strategy: Literal["top-k", "greedy"]
    """The strongest edges, or grown from the logits."""
    points: tuple[CurvePoint, ...]
    """One per size, in growing order."""
    areas: Areas
    """CPR and CMD."""

    @property
    def name(self) -> str:
        """In tables and legends."""
        return f"{self.method}, {self.rank}" + (", greedy" if self.strategy == "greedy" else "")


class RandomPoint(_CurveSize):
    """Random clean circuits of one size, judged on the held-out prompts."""

    edges: int = Field(ge=0)
    """Edges of each of them."""
    faithfulness: tuple[float, ...] = Field(min_length=1)
    """Of each of them."""
    kl_recovered: tuple[float, ...] = Field(min_length=1)
    """Of each of them."""

    @property
    def mean(self) -> float:
        """Mean faithfulness."""
        return sum(self.faithfulness) / len(self.faithfulness)


class RandomSeries(Record):
    """The random baseline at all sizes."""

    seed: int
    """Of the draw."""
    points: tuple[RandomPoint, ...]
    """One per size, in growing order."""
    areas: Areas
    """CPR of the mean faithfulness, CMD of the mean distance to 1."""


class KnownCircuit(Record):
    """A circuit from a file, as a point to compare the curves with."""

    name: str
    """The file's name."""
    edges: int = Field(ge=1)
    strategy: str | None = None
    """How it was found."""
    n_held_out: int = Field(ge=1)
    """Held-out prompts of its own run."""
    faithfulness: float
    """On those prompts."""
    faithfulness_interval: Interval | None = None
    """How far it can be trusted."""
    kl_recovered: float
    """On those prompts."""
    same_prompts: bool
    """Whether they are the prompts of the curves."""


class Curve(Result):
    """What `acdc curve` finds. Edges are scored on discovery prompts, every figure is of held-out prompts."""

    _left_out: ClassVar[tuple[str, ...]] = ("places",)
    _indent: ClassVar[int] = 2

    format: Literal["acdc-engine/curve"] = "acdc-engine/curve"
    version: int = Field(default=1, ge=1, le=1)
    model: ModelRecord
    task: TaskRecord
    """The behaviour and its prompts."""
    metric: MetricRecord
    """The number that measures the behaviour."""
    ablation: str
    """What edges outside a circuit carry."""
    n_edges: int = Field(ge=1)
    """Edges of the whole graph."""
    places: tuple[str, ...] = ()
    """Places in the prompt, at each of which an edge counts by itself. Left out of the file where it does not."""
    target: float = Field(gt=0, le=1)
    """Lower end t of the band [t, 2 - t] in which a circuit counts as faithful."""
    series: tuple[CurveSeries, ...] = ()
    """One per method, rank and strategy."""
    random: RandomSeries | None = None
    """Random circuits. Null where none were asked for or the run was interrupted before."""
    circuits: tuple[KnownCircuit, ...] = ()
    """Circuits to compare with."""
    complete: bool = False
    """False where the run was interrupted and series are missing."""
    seconds: float = Field(ge=0)
    """Wall-clock time, with loading."""
    environment: Environment
    """Where it was run."""


class Counted(Record):
    """What is counted."""

    _left_out: ClassVar[tuple[str, ...]] = ("places",)

    scope: Scope
    """Edges, or nodes without input and logits."""
    mlps: bool
    """Whether MLPs, and edges that start or end at one, are counted."""
    places: bool = False
    """Whether each counts once for every place in the prompt. Left out of the file where it does not."""

    @property
    def name(self) -> str:
        """In tables and legends."""
        return f"{self.scope}{' at places' if self.places else ''}{'' if self.mlps else ', no MLPs'}"


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
    """As in a9.h9->logits, or at a place a9.h9->logits@end."""
    score: float | None
    """Positive: it supports the behaviour."""
    place: int | None = Field(ge=1)
    """Among all edges of the graph by |score|; 1 is the strongest."""
    sender_role: str | None = None
    """In the known circuit."""
    receiver_role: str | None = None
    """In the known circuit."""


class Comparison(Result):
    """What `acdc compare` finds."""

    format: Literal["acdc-engine/comparison"] = "acdc-engine/comparison"
    version: int = Field(default=1, ge=1, le=1)
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
    node_scores: str = _NODE_SCORES
    """How nodes are scored."""
    rankings: tuple[Ranking, ...]
    """Empty without scores. Where both circuits have the same places, without places and then with them."""
    overlaps: tuple[Overlap, ...]
    """Edges and nodes, with and without MLPs; without places and with them likewise."""
    classes: tuple[ClassResult, ...]
    """Class by class; empty where the known circuit has no roles. At places where both circuits have the same."""
    missing: tuple[EditEdge, ...]
    """Known edges that were not found, strongest first; at places likewise."""
    extra: tuple[EditEdge, ...]
    """Found edges that are not known, strongest first; at places likewise."""
    remarks: tuple[str, ...] = ()
    """What a reader should know."""

    @property
    def places(self) -> bool:
        """Whether both tell the same places in the prompt apart, and were compared with them, too."""
        return any(row.places for row in self.overlaps)

    @property
    def other_task(self) -> str:
        """That the two are for different tasks, in words; empty where they are not, or a file does not say."""
        if None in (self.found_task, self.known_task) or self.found_task == self.known_task:
            return ""
        return f"different tasks: {self.found_task} and {self.known_task}"


class Claim(Record):
    """One thing a circuit file claims, and what was found."""

    what: str
    """What it is about."""
    edge: str | None = None
    """The edge, for claims made of every edge."""
    claimed: str
    """What the file says."""
    found: str
    """What came out."""
    holds: bool
    """Whether that is the same, within the tolerance."""
    deviation: float | None = Field(default=None, ge=0)
    """How far a number is off: as a share of it, or of its natural unit where that is larger (1 for shares and
    faithfulness, |m(clean) - m(corrupt)| in units of the metric). Null where no number was compared."""


class Verification(Result):
    """All claims of a circuit file."""

    _indent: ClassVar[int] = 2

    path: str
    """The file, or "the circuit" where it was given as an object."""
    tolerance: float
    """Largest deviation that counts as the same."""
    claims: tuple[Claim, ...]
    """What was recomputed."""
    unclaimed: tuple[str, ...]
    """What such a file can claim and this one does not."""
    unchecked: tuple[str, ...]
    """What the file says and nobody recomputed."""
    remarks: tuple[str, ...]
    """What a reader should know besides."""

    @property
    def holds(self) -> bool:
        """Whether every claim does."""
        return all(claim.holds for claim in self.claims)

    @property
    def failing(self) -> tuple[Claim, ...]:
        """The claims that do not."""
        return tuple(claim for claim in self.claims if not claim.holds)

    @property
    def largest_deviation(self) -> float:
        """The largest of all numbers compared."""
        return max((claim.deviation for claim in self.claims if claim.deviation is not None), default=0.0)
