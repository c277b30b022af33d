"""What a circuit file holds, part by part. The texts below the fields are those of `graphs/schema.json`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from pydantic import Field, JsonValue, model_serializer, model_validator

from acdc_engine.display import html_of, line_of
from acdc_engine.graph.evidence_records import Completeness, HypothesisTest, Interval, RandomCircuits
from acdc_engine.graph.figure_records import AnswerFigures, TemplateFigures
from acdc_engine.graph.record import Record, without_empty
from acdc_engine.graph.role_records import DirectEffect, RoleScore

SIGN_CONVENTION = "positive: the edge supports the behaviour"
MODEL_SIZES = ("n_layers", "n_heads", "n_kv_heads", "d_model", "d_vocab", "parallel", "mlps", "ungrouped_kv")
"""Fields of a model's record that are the same in two records of the same model, whatever it is called."""
MOST_NODES = 30_000
"""Heads and MLPs of a model at most (twice those of Llama 3.1 405B): masks have a cell for each pair of them."""


class ModelRecord(Record):
    """The model that the circuit is part of, and what fixes its graph."""

    name: str
    """As it was loaded: a Hugging Face name or a path."""
    revision: str | None = None
    """Commit of the repository on the hub."""
    weights_hash: str | None = None
    """SHA-256 over the weights."""
    architecture: str | None = None
    """Class of the model in transformers, such as LlamaForCausalLM."""
    n_layers: int = Field(ge=1)
    """Transformer blocks."""
    n_heads: int = Field(ge=1)
    """Query heads per block."""
    n_kv_heads: int = Field(ge=1)
    """Key/value heads per block, as in the model."""
    d_model: int = Field(ge=1)
    """Width of the residual stream."""
    d_vocab: int = Field(ge=1)
    """Number of logits: the size of the vocabulary."""
    d_vocab_in: int | None = Field(default=None, ge=1)
    """Number of tokens that prompts are made of, where it is another: the model answers in words of its own. Left out
    of the file where it is not."""
    parallel: bool = False
    """Attention and MLP of a block read the same residual stream."""
    mlps: bool = True
    """False for attention-only models."""
    ungrouped_kv: bool = False
    """The graph has one k and v receiver per query head although the model's heads share them."""

    @model_serializer(mode="wrap")
    def _without_the_usual(self, handler: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
        """Most models answer with the tokens that they read."""
        return without_empty(handler(self), "d_vocab_in")

    @model_validator(mode="after")
    def _fits_into_memory(self) -> ModelRecord:
        """A file of one line must not ask for gigabytes."""
        nodes = self.n_layers * (self.n_heads + 1)
        if nodes > MOST_NODES:
            raise ValueError(
                f"{self.n_layers:,} layers of {self.n_heads:,} heads are more than the {MOST_NODES:,} nodes of a model "
                "that is read"
            )
        return self


class LeftOutRecord(Record):
    """Pairs that did not fit the model and were left out."""

    count: int = Field(ge=1)
    """How many."""
    of: int = Field(ge=1)
    """Of how many that were looked at."""
    reasons: dict[str, int]
    """How many for each reason; a pair counts once."""


class TaskRecord(Record):
    """The behaviour, and the prompts that showed it."""

    name: str
    """Name of the task card."""
    card_hash: str | None = None
    """SHA-256 of the task card."""
    prompts_hash: str | None = None
    """SHA-256 over all prompts of both splits, as tokens."""
    n_discovery: int = Field(ge=0)
    """Prompt pairs that the search saw."""
    n_held_out: int = Field(ge=0)
    """Prompt pairs that it did not see."""
    seed: int
    """Seed of the prompts and of their split."""
    left_out: LeftOutRecord | None = None
    """Pairs that did not fit the model. Left out of the file where all did."""

    @model_serializer(mode="wrap")
    def _without_nothing_left_out(self, handler: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
        """As in files of before."""
        return without_empty(handler(self), "left_out")


class MetricRecord(Record):
    """The number per prompt that measures the behaviour."""

    name: str
    """Such as logit_diff."""
    sign: Literal[1, -1]
    """1: higher supports the behaviour. -1: lower does."""


class AttributionRecord(Record):
    """How the edges were scored."""

    method: str
    """Such as eap-ig."""
    settings: dict[str, JsonValue] = Field(default_factory=dict)
    """The method's settings."""


class Unfinished(Record):
    """A search that was stopped before its end: the circuit is the best it had found by then."""

    stage: Literal["search", "edge tests"]
    """What had not ended: the search, or the exact tests of its circuit's edges, some of which might still go."""
    minutes: float | None = Field(default=None, gt=0)
    """Time the run was given. Null where it was interrupted."""


class SearchRecord(Record):
    """How the circuit was chosen from the scores."""

    strategy: str
    """Such as iterative."""
    objective: Literal["faithfulness", "kl"] = "faithfulness"
    """What the target is about: faithfulness in the metric, or the share of the KL divergence recovered."""
    target_faithfulness: float | None = None
    """What the search aimed at on the discovery prompts, in the objective."""
    settings: dict[str, JsonValue] = Field(default_factory=dict)
    """The strategy's settings."""
    edge_tests: bool = True
    """Whether the circuit's edges were to be tested singly. Left out of the file where they were."""
    unfinished: Unfinished | None = None
    """Set where the search was stopped before its end. Left out of the file where it was not."""

    @model_serializer(mode="wrap")
    def _without_the_usual(self, handler: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
        """Most searches end, and test their edges."""
        content = without_empty(handler(self), "unfinished")
        return {key: value for key, value in content.items() if key != "edge_tests" or not value}


class CircuitNode(Record):
    """A node of the circuit."""

    name: str
    """input, a5.h3 (head 3 of layer 5), m4 (the MLP of layer 4) or logits."""
    kind: Literal["input", "head", "mlp", "logits"]
    """What the node is."""
    layer: int | None = Field(default=None, ge=0)
    """Layer of a head or MLP."""
    role: str | None = None
    """What the node does in the circuit, if known, such as name mover: in known circuits the head's class in the
    literature, in found ones the measured role (docs/roles.md says which of several)."""
    role_scores: tuple[RoleScore, ...] = ()
    """Of heads, measured. Left out of the file where they are not known."""
    direct_effect: DirectEffect | None = None
    """What the node writes to the answer directly. Left out of the file where it is not known."""

    @model_serializer(mode="wrap")
    def _without_unknown(self, handler: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
        """Hand-written circuits know neither."""
        return without_empty(handler(self), "role_scores", "direct_effect")


class CircuitEdge(Record):
    """An edge of the circuit."""

    sender: str
    """The node that writes: input, a5.h3 or m4."""
    receiver: str
    """What reads it: a7.h3<q>, a7.h3<k>, a7.h3<v>, m7 or logits. Heads that share k and v: a7.kv1<k>."""
    score: float | None = None
    """What attribution says the metric would lose without it. Positive: it supports the behaviour."""
    effect: float | None = None
    """What the metric loses, exactly, without this one edge. Positive: it supports the behaviour."""
    without: float | None = None
    """The search's objective on the discovery prompts without this one edge: outside the target if it is needed."""
    stability: float | None = Field(default=None, ge=0, le=1)
    """Share of bootstrap resamples of the discovery prompts whose scores select the edge (see the method's page)."""
    necessity: float | None = Field(default=None, ge=0, le=1)
    """Share of bootstrap resamples of the discovery prompts in which the target is missed without the edge, among those
    in which the circuit itself meets it."""
    sender_role: str | None = None
    """Role of the sender, as at the node. Left out of the file where it is not known."""
    receiver_role: str | None = None
    """Role of the node that reads; several, joined by " / ", where heads that share k and v differ."""

    @model_serializer(mode="wrap")
    def _without_unknown_roles(self, handler: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
        """Most circuits have no roles: two nulls at every edge would say nothing."""
        return without_empty(handler(self), "sender_role", "receiver_role")


class Figures(Record):
    """How well the circuit does the task, on one set of prompts. Means over prompts."""

    n_prompts: int = Field(ge=1)
    """Prompt pairs."""
    metric_clean: float
    """Metric of the whole model on the clean prompts."""
    metric_corrupt: float
    """Metric of the fully ablated model: the corrupt prompts, under patch ablation."""
    metric_circuit: float
    """Metric when every receiver reads ablated values over all edges outside the circuit."""
    faithfulness: float
    """(circuit - corrupt) / (clean - corrupt), of the metrics above. 1 is perfect, more overshoots."""
    kl_recovered: float
    """1 - KL(model || circuit) / KL(model || corrupt). 1 is perfect and the most there is."""
    agreement: float = Field(ge=0, le=1)
    """Share of the prompts that circuit and model judge alike: same sign of the metric, or, for metrics of one sign
    (kl, nll), the same most likely token."""
    normalised_error: float = Field(ge=0)
    """Mean over prompts of |circuit - clean|, divided by |clean - corrupt| of the means."""
    accuracy_clean: float | None = Field(default=None, ge=0, le=1)
    """Share of the clean prompts on which the whole model puts the best right answer above the best wrong one; without
    wrong answers, on which a right answer is its most likely token. Null without right answers."""
    faithfulness_interval: Interval | None = None
    """How far the faithfulness can be trusted. Null where there are too few prompts."""
    kl_interval: Interval | None = None
    """The same for KL recovered."""
    answers_clean: AnswerFigures | None = None
    """The answers under the whole model. Null, and left out of the file, without right answers."""
    answers_corrupt: AnswerFigures | None = None
    """The same under the fully ablated model."""
    answers_circuit: AnswerFigures | None = None
    """The same under the circuit."""
    templates: tuple[TemplateFigures, ...] = ()
    """The figures of each template, or group of a pairs file. Left out of the file where there is only one."""

    @model_serializer(mode="wrap")
    def _without_unknown(self, handler: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
        """Older files know none of them."""
        return without_empty(handler(self), "answers_clean", "answers_corrupt", "answers_circuit", "templates")


class Evaluation(Record):
    """Figures on the prompts the search saw and on those it did not."""

    discovery: Figures
    """Prompts that the search saw: flattering."""
    held_out: Figures
    """Prompts that the search did not see."""
    random_circuits: RandomCircuits | None = None
    """Random circuits of the same size on the held-out prompts."""
    completeness: Completeness | None = None
    """The circuit's complement on the held-out prompts."""
    tests: tuple[HypothesisTest, ...] = ()
    """Hypothesis tests on the held-out prompts."""

    def __repr__(self) -> str:
        """One line: the two figures to read first."""
        return line_of(self)

    __str__ = __repr__

    def _repr_html_(self) -> str:
        """What a notebook shows: all figures and what stands beside them."""
        return html_of(self)


class StageCost(Record):
    """What one stage of finding the circuit took."""

    name: str
    """As it was called while it ran."""
    forward_passes: float = Field(ge=0)
    """As of the whole."""
    seconds: float = Field(ge=0)
    """Wall-clock time."""
    cpu_seconds: float = Field(ge=0)
    """Time of all processors together."""


class Cost(Record):
    """What finding the circuit took, with all its evidence, other sizes, roles and examples."""

    seconds: float = Field(ge=0)
    """Wall-clock time."""
    cpu_seconds: float | None = Field(default=None, ge=0)
    """Time of all processors together. Left out of the file where it is not known."""
    peak_memory_bytes: int = Field(ge=0)
    """Largest memory of the process, or of the accelerator where there is one."""
    forward_passes: float = Field(ge=0)
    """Floating-point operations of all matrix products, over those of one plain forward pass of the model over the
    discovery prompts with logits at all positions: the same on every machine. In files without stages: time after
    loading, in units of such a pass, without what stands around the circuit."""
    exact_evaluations: int = Field(ge=0)
    """Circuits that were run."""
    stages: tuple[StageCost, ...] = ()
    """What it is made of, in order; what earlier processes of a resumed run took is one of them. Left out of the file
    where it is not known."""

    @model_serializer(mode="wrap")
    def _without_unknown(self, handler: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
        """Earlier files know neither."""
        return without_empty(handler(self), "cpu_seconds", "stages")


class Environment(Record):
    """Where the circuit was found."""

    versions: dict[str, str] = Field(default_factory=dict)
    """Libraries and their versions."""
    python: str
    """Version of Python."""
    platform: str
    """Operating system and processor."""
    device: str
    """Such as cpu or cuda."""
    dtype: str
    """Number format of the model."""
    threads: int = Field(ge=1)
    """CPU threads."""
    created: str
    """When, as ISO 8601 with time zone."""
