"""The file of `acdc transfer`: circuits of one model by tasks and ablations."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from acdc_engine.graph.evidence_records import Interval
from acdc_engine.graph.files import Result
from acdc_engine.graph.records import Environment, ModelRecord, Record


class TransferCircuit(Record):
    """A row: a circuit, as its file has it."""

    name: str
    """What it is called here: its run's folder, its file, or a number."""
    edges: int = Field(ge=1)
    task: str | None = None
    """What it was found for. Null where its file does not say."""
    ablation: str | None = None
    """What edges outside it carried then."""


class TransferCell(Record):
    """One circuit on the prompts of one task, under one ablation."""

    faithfulness: float
    """In the task's metric. 1 is the model, 0 the ablated model, more than 1 overshoots."""
    faithfulness_interval: Interval | None = None
    """How far it can be trusted."""
    kl_recovered: float
    """1 - KL(model || circuit) / KL(model || ablated). 1 is perfect and the most there is."""
    kl_interval: Interval | None = None
    """How far it can be trusted."""
    agreement: float = Field(ge=0, le=1)
    """Share of the prompts on which the most likely token of the whole vocabulary is the model's."""
    agreement_interval: Interval | None = None
    """How far it can be trusted."""
    random: tuple[float, ...] = ()
    """Faithfulness of random circuits of as many edges. Empty where none were asked for."""


class TransferColumn(Record):
    """A task under an ablation: the model on its prompts, and every circuit."""

    task: str
    ablation: str
    """What edges outside the circuits carry."""
    metric: str
    """The task's."""
    n_prompts: int = Field(ge=1)
    """No circuit's search has seen any of them, as far as the files say which it saw."""
    prompts_hash: str
    """SHA-256 over them, as tokens."""
    metric_clean: float | None = None
    """Mean metric of the model on the clean prompts."""
    metric_ablated: float | None = None
    """Mean metric of the fully ablated model: of the corrupt prompts, under patch ablation."""
    accuracy: float | None = None
    """Share of the clean prompts that the model answers rightly: a right answer before all wrong ones, or, without
    wrong ones, before all other tokens. Null without right answers."""
    most_likely: float | None = None
    """Share on which a right answer is the model's most likely token. Null without right answers."""
    agreement_ablated: float | None = None
    """Share on which the most likely token of the fully ablated model is the model's: that of an empty circuit."""
    reason: str | None = None
    """Why there are no figures: the metric does not tell the model from the ablated one. Null where there are."""
    doubt: str | None = None
    """Why figures say little: the model does not show the behaviour. Null where it does."""
    cells: tuple[TransferCell, ...] = ()
    """One per circuit, in their order; none where there is a `reason`."""


class Transfer(Result):
    """What `acdc transfer` finds."""

    format: Literal["acdc-engine/transfer"] = "acdc-engine/transfer"
    version: int = Field(default=1, ge=1, le=1)
    model: ModelRecord
    seed: int
    """Of the prompts and of all draws."""
    circuits: tuple[TransferCircuit, ...] = Field(min_length=1)
    """The rows."""
    columns: tuple[TransferColumn, ...] = Field(min_length=1)
    """Task by task, each with all its ablations."""
    complete: bool = False
    """False where the run was interrupted and columns are missing."""
    remarks: tuple[str, ...] = ()
    """What a reader should know."""
    seconds: float = Field(ge=0)
    """Wall-clock time, with loading."""
    environment: Environment
    """Where it was run."""

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of the tasks, in order."""
        return tuple(dict.fromkeys(column.task for column in self.columns))

    @property
    def ablations(self) -> tuple[str, ...]:
        """Names of the ablations, in order."""
        return tuple(dict.fromkeys(column.ablation for column in self.columns))

    def cell(self, circuit: int, task: str, ablation: str) -> TransferCell | None:
        """What the circuit of that row does there; None where that is not defined, or was not come to."""
        for column in self.columns:
            if (column.task, column.ablation) == (task, ablation) and column.cells:
                return column.cells[circuit]
        return None
