"""What a circuit file holds: the model, the task, the search, nodes and edges, cost and environment.

The texts below the fields are those of `graphs/schema.json`. What a file says of how well its circuit does is in
`evidence_records.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_serializer, model_validator

from acdc_engine.graph.spans import Spans

SIGN_CONVENTION = "positive: the edge supports the behaviour"
MODEL_SIZES = ("n_layers", "n_heads", "n_kv_heads", "d_model", "d_vocab", "parallel", "mlps", "ungrouped_kv")
"""Fields of a model's record that are the same in two records of the same model, whatever it is called."""
OF_EDGES = ("effect", "without", "stability", "necessity")
"""Figures of an edge that depend on the other edges of the circuit; its score does not."""
FIGURES = ("score", *OF_EDGES, "inclusion")
"""Numbers that are known of an edge."""
COLUMNS = ("sender", "receiver", "kind", *FIGURES, "sender_role", "receiver_role")
"""Of a table of edges: `kind` is q, k, v, mlp or logits; the others are those of `CircuitEdge`."""
_MOST_NODES = 30_000
"""Heads and MLPs of a model at most (twice those of Llama 3.1 405B): masks have a cell for each pair of them."""


class Record(BaseModel):
    """A part of a circuit file: unknown keys, NaN and infinities are refused, and it does not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)
    _left_out: ClassVar[tuple[str, ...]] = ()  # fields without a line in the file while they have their default

    @model_serializer(mode="wrap")
    def _without_the_usual(self, handler: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
        content = handler(self)
        if self._left_out:
            fields = type(self).model_fields
            for name in self._left_out:
                if name in content and getattr(self, name) == fields[name].default:
                    del content[name]
        return content


class ModelRecord(Record):
    """The model that the circuit is part of, and what fixes its graph."""

    _left_out: ClassVar[tuple[str, ...]] = ("d_vocab_in",)

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

    def differing(self, other: ModelRecord) -> list[str]:
        """Which of `MODEL_SIZES` differ from those of another model."""
        return [key for key in MODEL_SIZES if getattr(self, key) != getattr(other, key)]

    @model_validator(mode="after")
    def _fits_into_memory(self) -> ModelRecord:
        """A file of one line must not ask for gigabytes."""
        nodes = self.n_layers * (self.n_heads + 1)
        if nodes > _MOST_NODES:
            raise ValueError(
                f"{self.n_layers:,} layers of {self.n_heads:,} heads are more than the {_MOST_NODES:,} nodes of a "
                "model that is read"
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

    def __str__(self) -> str:
        """As a sentence."""
        why = "; ".join(f"{kind} ({count})" for kind, count in self.reasons.items())
        return f"{self.count} of the {self.of} pairs do not fit the model and are left out: {why}."


class TaskRecord(Record):
    """The behaviour, and the prompts that showed it."""

    _left_out: ClassVar[tuple[str, ...]] = ("n_pool", "n_validation", "left_out")

    name: str
    """Name of the task card."""
    card_hash: str | None = None
    """SHA-256 of the task card."""
    prompts_hash: str | None = None
    """SHA-256 over the prompts of each split, as tokens: discovery, held-out, validation where there are any."""
    n_discovery: int = Field(ge=0)
    """Prompt pairs that the search saw."""
    n_pool: int | None = Field(default=None, ge=1)
    """Discovery prompts that were there, where the search needed fewer. Left out of the file where it saw all."""
    n_validation: int = Field(default=0, ge=0)
    """Prompts that said when the search may end. Left out of the file where there are none."""
    n_held_out: int = Field(ge=0)
    """Prompt pairs that it did not see."""
    seed: int
    """Seed of the prompts and of their split."""
    left_out: LeftOutRecord | None = None
    """Pairs that did not fit the model. Left out of the file where all did."""


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

    stage: Literal["search", "edge tests", "repeats"]
    """What had not ended: the search, the exact tests of its circuit's edges, some of which might still go, or the
    repeats of both."""
    minutes: float | None = Field(default=None, gt=0)
    """Time the run was given. Null where it was interrupted."""


class Validated(Record):
    """A circuit that a search came to, on prompts that it did not see."""

    n_discovery: int = Field(ge=1)
    """Discovery prompts that were in use."""
    edges: int = Field(ge=1)
    """Of the circuit."""
    value: float
    """The objective on the validation prompts; where each template counts, of the one farthest from 1."""
    standard_error: float = Field(ge=0)
    """How far that strays with the prompts."""


def nearest(tried: Sequence[Validated]) -> Validated:
    """The one nearest to 1 on the validation prompts, the first of equals."""
    return min(tried, key=lambda one: abs(one.value - 1.0))


Objective = Literal["faithfulness", "kl", "prompts"]
"""What a target is about: faithfulness in the metric, the share of the KL divergence recovered, or the share of the
metric's squared difference recovered, which is prompt by prompt."""


class SearchRecord(Record):
    """How the circuit was chosen from the scores."""

    _left_out: ClassVar[tuple[str, ...]] = (
        "each_template",
        "aim",
        "corrections",
        "validated",
        "edge_tests",
        "unfinished",
    )

    strategy: str
    """Such as iterative."""
    objective: Objective = "faithfulness"
    """What the target is about."""
    each_template: bool = False
    """Whether the target is about each template by itself. Left out of the file where it is about the mean."""
    target_faithfulness: float | None = None
    """The target, in the objective: the circuit's is to lie between this and 2 minus this."""
    aim: float | None = None
    """Lower end of the narrower band that the circuit keeps to on the discovery prompts, so that the target holds on
    others. Left out of the file where that is the target's."""
    corrections: tuple[float, ...] = ()
    """What is added to the objective on the discovery prompts, for each template that is judged by itself, by name: how
    much higher it was on the validation prompts for the circuit that the search went on from. Left out of the file
    where it did not go on from one."""
    validated: tuple[Validated, ...] = ()
    """The circuits tried on the validation prompts, each found by going on from the one before; `kept` is this one.
    Left out of the file without validation prompts."""
    settings: dict[str, JsonValue] = Field(default_factory=dict)
    """The strategy's settings."""
    edge_tests: bool = True
    """Whether the circuit's edges were to be tested singly. Left out of the file where they were."""
    unfinished: Unfinished | None = None
    """Set where the search was stopped before its end. Left out of the file where it was not."""

    @property
    def kept(self) -> Validated | None:
        """Of the circuits tried on the validation prompts that nearest to 1 there."""
        return nearest(self.validated) if self.validated else None


RoleName = Literal[
    "previous token",
    "duplicate token",
    "induction",
    "S-inhibition",
    "name mover",
    "negative name mover",
    "copying",
    "copy suppression",
]
"""Roles that are measured, named as in the literature; docs/roles.md defines each."""


class RoleScore(Record):
    """How much a head behaves as heads of one role do."""

    role: RoleName
    """The role."""
    value: float
    """The measured score; what it is a share or a difference of says docs/roles.md."""
    threshold: float
    """From here on the head counts as one of that role."""
    prompts: Literal["task", "random"]
    """Measured on the task's own held-out prompts, or on random tokens that are repeated once."""

    @property
    def holds(self) -> bool:
        """Whether the head counts as one of that role."""
        return self.value >= self.threshold


class DirectEffect(Record):
    """What a node writes to the answer directly, at the position read: its direct logit attribution.

    The node's write goes through the final norm, with the scale of that very run, and the unembedding; counted is the
    mean logit of the right answers less that of the wrong ones, or, where there are none, less the mean of all logits.
    """

    clean: float
    """Mean over the held-out clean prompts, in logits. Positive: it speaks for the right answer."""
    corrupt: float
    """The same on the corrupt prompts, with the clean prompts' answers."""
    n_prompts: int = Field(ge=1)
    """Prompts."""


class CircuitNode(Record):
    """A node of the circuit."""

    _left_out: ClassVar[tuple[str, ...]] = ("span", "role_scores", "direct_effect", "inclusion")

    name: str
    """input, a5.h3 (head 3 of layer 5), m4 (the MLP of layer 4) or logits; in a circuit with spans at one of them, as
    in a5.h3@B.2."""
    kind: Literal["input", "head", "mlp", "logits"]
    """What the node is."""
    layer: int | None = Field(default=None, ge=0)
    """Layer of a head or MLP."""
    span: str | None = None
    """The place in the prompt. Left out of the file where the circuit does not tell places apart."""
    role: str | None = None
    """What the node does in the circuit, if known, such as name mover: in known circuits the head's class in the
    literature, in found ones the measured role (docs/roles.md says which of several)."""
    role_scores: tuple[RoleScore, ...] = ()
    """Of heads, measured. Left out of the file where they are not known."""
    direct_effect: DirectEffect | None = None
    """What the node writes to the answer directly. Left out of the file where it is not known."""
    inclusion: float | None = Field(default=None, ge=0, le=1)
    """Of heads and MLPs: share of the repeats of the search whose circuit has the node. Left out of the file where the
    search was not repeated."""

    @property
    def sender(self) -> str:
        """The node wherever it is: its name without a place."""
        return self.name.partition("@")[0]


class CircuitEdge(Record):
    """An edge of the circuit."""

    _left_out: ClassVar[tuple[str, ...]] = ("span", "inclusion", "sender_role", "receiver_role")

    sender: str
    """The node that writes: input, a5.h3 or m4."""
    receiver: str
    """What reads it: a7.h3<q>, a7.h3<k>, a7.h3<v>, m7 or logits. Heads that share k and v: a7.kv1<k>."""
    span: str | None = None
    """The place in the prompt: an edge is between what is written and what is read there. Left out of the file where
    the circuit does not tell places apart."""
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
    inclusion: float | None = Field(default=None, ge=0, le=1)
    """Share of the repeats of the search whose circuit has the edge. Left out of the file where it was not repeated."""
    sender_role: str | None = None
    """Role of the sender, as at the node. Left out of the file where it is not known."""
    receiver_role: str | None = None
    """Role of the node that reads; several, joined by " / ", where heads that share k and v differ."""

    @property
    def name(self) -> str:
        """As in `a5.h3->a7.h1<v>`, or with spans `a5.h3->a7.h1<v>@B.2`."""
        return f"{self.sender}->{self.into}"

    @property
    def out_of(self) -> str:
        """Name of the node that writes, as the circuit's nodes are called: `a5.h3`, or `a5.h3@B.2`."""
        return self.sender if self.span is None else f"{self.sender}@{self.span}"

    @property
    def into(self) -> str:
        """Name of what reads, as graphs call it: `a7.h1<v>`, or `a7.h1<v>@B.2`."""
        return self.receiver if self.span is None else f"{self.receiver}@{self.span}"


class SpansRecord(Record):
    """Places in the prompts, named sets of tokens: what a circuit tells apart that says where."""

    names: tuple[str, ...]
    """Their names, in the order in which they stand in a prompt, on the whole."""
    leads: tuple[tuple[bool, ...], ...]
    """For each of them, which can look back at it: those with a token at or behind one of its own in some prompt."""
    end: int = Field(ge=0)
    """Which of them the logits are read at, counted from 0."""

    @staticmethod
    def of(spans: Spans | None) -> SpansRecord | None:
        """Of some spans; None of none."""
        return None if spans is None else SpansRecord(names=spans.names, leads=spans.leads, end=spans.end)

    @property
    def read(self) -> str:
        """Name of the one that the logits are read at."""
        return self.names[self.end]

    def same_places(self, other: SpansRecord | None) -> bool:
        """Whether others are the same by name, in whatever order: that depends on the prompts they are of."""
        return other is not None and {*self.names} == {*other.names} and self.read == other.read


class AttentionPath(Record):
    """What a head brings from one place in the prompt to another: from values at a source to its writes at a target.

    There is one for every place at which the circuit has the head, and every place that it looks back at from there.
    """

    _left_out: ClassVar[tuple[str, ...]] = ("effect",)

    head: str
    """Such as a7.h3."""
    target: str
    """The place that the head writes at."""
    source: str
    """The place that it looks at."""
    weight: float = Field(ge=0, le=1)
    """Share of the head's attention: from a token of the target to all tokens of the source, mean over the target's
    tokens and over the discovery prompts that have any, in the clean run of the whole model."""
    weight_corrupt: float = Field(ge=0, le=1)
    """The same in the corrupt run."""
    score: float
    """What attribution says the metric would lose, in the circuit, if the head saw the ablated model's values there.
    Positive: the path supports the behaviour."""
    effect: float | None = None
    """What the metric loses, exactly, if in the circuit the head sees the ablated model's values there, with its
    attention as it is. Positive: the path supports the behaviour. Left out of the file where it was not measured: it is
    for the strongest by score."""

    @property
    def node(self) -> str:
        """The node that writes, as the circuit's nodes are called: a7.h3@end."""
        return f"{self.head}@{self.target}"


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

    _left_out: ClassVar[tuple[str, ...]] = ("cpu_seconds", "stages")

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
