"""The file of `acdc curve`: faithfulness against size for several methods, with a random baseline."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from acdc_engine.display import html_of, line_of
from acdc_engine.graph.circuit_records import Environment, MetricRecord, ModelRecord, TaskRecord
from acdc_engine.graph.evidence_records import Interval
from acdc_engine.graph.files import write_text
from acdc_engine.graph.record import Record


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


class CurveSize(Record):
    """One size of a curve."""

    requested_fraction: float = Field(gt=0, le=1)
    """Share of the graph's edges asked for."""
    requested_edges: int = Field(ge=0)
    """The same in edges, rounded down."""


class CurvePoint(CurveSize):
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
    rank: Literal["absolute", "signed", "rms"]
    """Whether edges count as strong by |score| or by score."""
    strategy: Literal["top-k", "greedy"]
    """The strongest edges, or grown from the logits."""
    points: tuple[CurvePoint, ...]
    """One per size, in growing order."""
    areas: Areas
    """CPR and CMD."""

    @property
    def name(self) -> str:
        """What the series is called in tables and legends."""
        return f"{self.method}, {self.rank}" + (", greedy" if self.strategy == "greedy" else "")


class RandomPoint(CurveSize):
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
    """Edges."""
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


class Curve(Record):
    """What `acdc curve` finds. Edges are scored on discovery prompts, every figure is of held-out prompts."""

    format: Literal["acdc-engine/curve"] = "acdc-engine/curve"
    """Says that this is a curve file."""
    version: int = Field(default=1, ge=1, le=1)
    """Version of the format."""
    model: ModelRecord
    """The model."""
    task: TaskRecord
    """The behaviour and its prompts."""
    metric: MetricRecord
    """The number that measures the behaviour."""
    ablation: Literal["patch", "mean", "zero"]
    """What edges outside a circuit carry."""
    n_edges: int = Field(ge=1)
    """Edges of the whole graph."""
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

    def __repr__(self) -> str:
        """One line: a curve holds hundreds of numbers."""
        return line_of(self)

    __str__ = __repr__

    def _repr_html_(self) -> str:
        """What a notebook shows: the picture, and the areas."""
        return html_of(self)

    def save(self, path: Path) -> None:
        """Writes the file, complete or not at all; one of that name is replaced.

        Raises:
            CircuitFileError: It cannot be written.
        """
        write_text(path, self.model_dump_json(indent=2) + "\n", overwrite=True)
