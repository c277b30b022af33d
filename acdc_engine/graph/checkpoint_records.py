"""The file of `acdc diff --models`: a model at several points of its training, each with its circuit for one task."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, JsonValue

from acdc_engine.graph.diff_records import DiffModel, ModelsResult
from acdc_engine.graph.evidence_records import Interval
from acdc_engine.graph.records import Record


class Shared(Record):
    """How much two circuits share: the Jaccard index, of what either has the share that both have."""

    edges: float | None = Field(default=None, ge=0, le=1)
    nodes: float | None = Field(default=None, ge=0, le=1)
    """Heads and MLPs. Null where neither circuit has any."""


class Checkpoint(DiffModel):
    """One of the models, and its circuit."""

    file: str | None = Field(default=None, pattern=r"^[^/\\]+\.json$")
    """The circuit's, beside this one. Null where there is none."""
    nodes: int | None = None
    """Heads and MLPs of its circuit. Null where there is none; so all that follows, but `seconds`."""
    faithfulness: float | None = None
    """Of its circuit, on the held-out prompts. 1 is this model, 0 this model ablated."""
    faithfulness_interval: Interval | None = None
    """How far it can be trusted."""
    worst: float | None = None
    """The same in the template where it lies farthest from 1. Null where the task has one template."""
    worst_template: str | None = None
    """Which that is."""
    before: Shared | None = None
    """What its circuit shares with that of the model before it. Null where that has none, and for the first."""
    last: Shared | None = None
    """What it shares with that of the last model."""
    in_last: float | None = None
    """Faithfulness of its circuit in the last model: 1 is that model, 0 that model ablated."""
    in_last_interval: Interval | None = None
    """How far it can be trusted."""
    seconds: float = Field(ge=0)
    """For its behaviour and its circuit."""


class Checkpoints(ModelsResult):
    """What `acdc diff --models` finds."""

    format: Literal["acdc-engine/checkpoints"] = "acdc-engine/checkpoints"
    models: tuple[Checkpoint, ...] = Field(min_length=1)
    """In the order in which they were given."""
    complete: bool = False
    """False where the run was interrupted: models are missing, and what circuits share with that of the last one."""
    others: tuple[Checkpoint, ...] = ()
    """Known from an earlier run of the same settings and not in this row: named again, they are not measured again."""
    facts: dict[str, JsonValue]
    """What was asked for, and with which versions: the same command goes on with what is here, another does not."""
