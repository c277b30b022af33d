"""The file of `acdc diff`: two models on one task, and which edges carry what tuning added."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from acdc_engine.graph.evidence_records import Interval
from acdc_engine.graph.files import Result
from acdc_engine.graph.records import Environment, ModelRecord, Record, RoleName

Which = Literal["base", "tuned"]
"""One of the two models."""
Status = Literal["kept", "gained", "lost"]
"""In the circuits of both models, of the tuned one alone, of the base model alone."""

ALPHA = 0.05
"""Effects differ where p is no more, after correction."""


class DiffModel(Record):
    """One of the two models, by itself on the held-out prompts."""

    model: ModelRecord
    metric_clean: float
    """Mean metric on the clean prompts."""
    metric_corrupt: float
    """Mean metric on the corrupt prompts (of the fully ablated model, under other ablations)."""
    accuracy: float | None = None
    """Share of the clean prompts that it answers rightly: right answers first. Null without answers."""
    doubt: str | None = None
    """Why a circuit for it would mean little, such as that it does not show the behaviour. Null where nothing does."""
    edges: int | None = None
    """Of its circuit. Null where there is none."""
    reason: str | None = None
    """Why it has no circuit. Null where it has one."""


class DiffCell(Record):
    """The circuit of one model, judged in one of the models on the held-out prompts."""

    circuit: Which
    model: Which
    faithfulness: float
    """In the metric. 1 is that model, 0 that model ablated."""
    faithfulness_interval: Interval | None = None
    """How far it can be trusted."""
    kl_recovered: float
    """The share of the KL divergence from that model's output that the circuit recovers."""


class DiffEffect(Record):
    """What an edge or a node does in the two models, to first order: by how much the metric falls without it."""

    name: str
    base: float
    """Mean over the discovery prompts."""
    tuned: float
    difference: float
    """Tuned minus base."""
    interval: Interval | None = None
    """Of the difference, over prompts, by itself."""
    p: float = Field(ge=0, le=1)
    """Of no difference: paired t-test over prompts, corrected for all edges or nodes by Holm's method."""
    status: Status | None = None
    """Whether the circuits of the two models have it. Null where neither does."""


class DiffEffects(Record):
    """Effects of all edges or of all nodes, those that are worth a look."""

    n_tested: int = Field(ge=1)
    """How many there are."""
    n_changed: int = Field(ge=0)
    """Those whose effects differ, at 5 % after correction."""
    shown: tuple[DiffEffect, ...]
    """The changed ones with the largest differences, and all that a circuit has; largest difference first."""


class DiffRole(Record):
    """What a node of either circuit does in the two models."""

    name: str
    status: Status
    base: RoleName | None = None
    """The role it is called by in the base model; null where no score reaches its threshold."""
    tuned: RoleName | None = None
    """Likewise in the tuned one."""
    base_direct: float | None = None
    """Its direct effect on the answer in the base model: mean over the held-out clean prompts, in logits. Null where
    the task has no right answers."""
    tuned_direct: float | None = None
    """Likewise in the tuned one."""


class CarriedEdge(Record):
    """An edge that carries a part of the change."""

    name: str
    score: float | None = None
    """Its predicted share, in units of the metric; positive where it carries what tuning did."""
    effect: float | None = None
    """By how much the share that is carried falls without it, run exactly. Null where it was not tested."""


class Carried(Record):
    """Which edges carry what tuning added: removed edges carry what the base model writes on the same prompts."""

    metric_base: float
    """Mean metric of the base model, held-out prompts; so the following."""
    metric_none: float
    """Of the base model's writes read by the tuned model's last norm and unembedding: no edge carries a change."""
    metric_tuned: float
    """Of the tuned model: all edges do."""
    changed_nodes: int
    """Nodes whose own weights differ: paths begin there."""
    edges: tuple[CarriedEdge, ...] = ()
    """A minimal circuit of the change. Empty where there is a `reason`."""
    begins: tuple[str, ...] = ()
    """Its nodes that no kept edge leads into: they differ by their own weights alone. Others may by both."""
    faithfulness: float | None = None
    """Share of the change (tuned minus none) that the circuit alone carries."""
    faithfulness_interval: Interval | None = None
    undone: float | None = None
    """Share of the change that is gone where just these edges carry what the base model writes, and all others stay."""
    undone_interval: Interval | None = None
    undone_random: tuple[float, ...] = ()
    """The same for as many edges, drawn from all that carry any change."""
    reason: str | None = None
    """Why there is no circuit. Null where there is one."""


class ModelsResult(Result):
    """Several models on one task, with the same prompts for all."""

    format: str
    version: int = Field(default=1, ge=1, le=1)
    task: str
    metric: str
    ablation: str
    """Under which each model's own circuit was found."""
    n_discovery: int = Field(ge=1)
    n_held_out: int = Field(ge=1)
    seed: int
    remarks: tuple[str, ...] = ()
    """What a reader should know."""
    environment: Environment
    """Where it was run."""


class Diff(ModelsResult):
    """What `acdc diff` finds."""

    format: Literal["acdc-engine/diff"] = "acdc-engine/diff"
    base: DiffModel
    tuned: DiffModel
    judged: tuple[DiffCell, ...] = ()
    """Each circuit in each model."""
    edges: DiffEffects | None = None
    """Null where scores of single prompts took too much memory."""
    nodes: DiffEffects | None = None
    roles: tuple[DiffRole, ...] = ()
    """Of all nodes of the two circuits but logits, in the model's order. Empty where neither model has a circuit."""
    carried: Carried
    seconds: float = Field(ge=0)
    """Wall-clock time, with loading."""
    forward_passes: float = Field(ge=0)
    """All that was computed, in plain forward passes over the discovery prompts."""
