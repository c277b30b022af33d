"""A model at several points of its training, on one task: how its circuit grows and changes. `acdc diff --models`.

Only one model is in memory at a time. With a folder, what is known of a model is written as soon as it is, and the same
command takes it up again.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from pydantic import JsonValue

from acdc_engine.errors import BehaviourError, MethodError
from acdc_engine.evidence.comparison import overlaps
from acdc_engine.evidence.figures import figures_of
from acdc_engine.evidence.resampling import check_enough_prompts
from acdc_engine.experiment import Experiment
from acdc_engine.graph.checkpoint_records import Checkpoint, Checkpoints, Shared
from acdc_engine.graph.circuit import Circuit
from acdc_engine.model.alike import OneOfMany, alike
from acdc_engine.model.load import load_model
from acdc_engine.model.pair import check_sizes, sizes_of
from acdc_engine.model.view import TransformerView
from acdc_engine.prompts.card import TaskCard
from acdc_engine.prompts.find import find_task
from acdc_engine.prompts.metrics import Metric, accuracy
from acdc_engine.provenance import environment
from acdc_engine.run.checkpoint_folder import CheckpointFolder, Known
from acdc_engine.run.folder import asked_facts
from acdc_engine.run.one_model import one_model
from acdc_engine.run.prepare import look_before_loading, metric_for, prompts_of
from acdc_engine.run.progress import Reporter, reporter_of
from acdc_engine.run.settings import DIFF_SETTINGS, Settings

SETTINGS = tuple(name for name in DIFF_SETTINGS if name not in ("adapter", "n_random"))
_VERSIONS = ("acdc-engine", "torch", "transformers")


def checkpoints(
    task: str | Path,
    models: Sequence[Any],
    *,
    out: str | Path | None = None,
    overwrite: bool = False,
    progress: bool | Reporter = False,
    **settings: Any,
) -> Checkpoints:
    """Finds the circuit of each of several models of one shape, and says how it grows, changes and holds.

    All run on the same prompts, and are searched with the same settings. Each circuit is set against that of the model
    before it and that of the last one, and is judged in the last model.

    Args:
        task: Name or path of a task card.
        models: In order, as for `load_model`; the folder of an adapter stands for the first model with it merged in.
        out: Folder to write: checkpoints.json and a circuit file of each model, each when it is found. What is there of
            the same settings and weights is taken up again, and what of it is not named stays. None to write nothing.
        overwrite: Replace a comparison of other settings there, and files of others that have names of these.
        progress: Show progress on stderr, or on a reporter of one's own (`acdc_engine.run.progress`).
        **settings: Those of `Settings` that `SETTINGS` names.

    Raises:
        AcdcError: Settings, task, prompts or models that do not fit; a folder of other settings; before any model runs.
        KeyboardInterrupt: What was finished by then is in the folder.
    """
    report, chosen = reporter_of(progress), _checked(models, settings)
    card = find_task(task)
    metric, facts = metric_for(card, chosen), _facts(card, chosen)
    with report.stage("Looking at the models"):
        asked = alike(models)
        look_before_loading(card, models[0], chosen)
    folder = None if out is None else CheckpointFolder.at(Path(out), [one.name for one in asked], facts, overwrite)
    series, lab = _Series(card, metric, chosen, report), None
    for one in asked:
        lab = None  # its model goes before the next one comes
        lab = series.load(one)
        known = None if folder is None else folder.known_of(lab.view.model_record())
        record, circuit = known or series.measured(one.name, lab)
        if folder is not None and circuit is not None:
            record = record.model_copy(update={"file": folder.file_of(record, one.name, series.found)})
        series.add(record, circuit)
        if folder is not None:
            folder.save(series.result(lab, facts), circuit)
    assert lab is not None, "there are two at least"
    series.judge_in_last(lab)
    found = series.result(lab, facts).model_copy(update={"complete": True})
    return found if folder is None else folder.save(found)


def _checked(models: Sequence[Any], settings: dict[str, Any]) -> Settings:
    """What is wrong whatever the models are is said before any is looked at."""
    if isinstance(models, str | Path) or len(models) < 2:
        raise MethodError(
            "A curve across checkpoints takes two models or more, in order, and one is given: name the others behind "
            "it. For the circuit of one model there is acdc discover."
        )
    if odd := sorted(set(settings) - set(SETTINGS)):
        adapters = " Behind --models an adapter's folder is a model of its own: the first one with it merged in."
        raise MethodError(
            f"A comparison across checkpoints takes no setting {odd[0]!r}. It takes {', '.join(SETTINGS)}."
            f"{adapters if odd[0] == 'adapter' else ''}"
        )
    chosen = Settings.of({**settings, "n_validation": 0})
    if chosen.ablation == "base":
        raise MethodError("The ablation base is that of two models. Use --ablation patch, mean or zero.")
    for count in (chosen.n, chosen.n_held_out):
        if count is not None:
            check_enough_prompts(count)
    return chosen


def _facts(card: TaskCard, chosen: Settings) -> dict[str, JsonValue]:
    """What fixes a model's figures beside its weights."""
    versions = {name: metadata.version(name) for name in _VERSIONS}
    return {**asked_facts(card, chosen, None), "threads": torch.get_num_threads(), **versions}


@dataclass
class _Series:
    """Models one after the other: what is known of each, and its circuit."""

    card: TaskCard
    metric: Metric
    chosen: Settings
    report: Reporter
    found: list[Checkpoint] = field(default_factory=list)
    circuits: list[Circuit | None] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    first: tuple[str, dict[str, Any]] | None = None

    def load(self, one: OneOfMany) -> Experiment:
        """The next model, which must have the sizes of the first, with its prompts, which are the same for all."""
        chosen = self.chosen
        how: dict[str, Any] = {"device": chosen.device, "dtype": chosen.dtype, "memory": chosen.memory}
        with self.report.stage(f"Loading {one.name}"):
            view: TransformerView = load_model(one.model, adapter=one.adapter, **how)
            name, sizes = self.first = self.first or (view.name, sizes_of(view))
            check_sizes(sizes, sizes_of(view), f"{name!r} and {view.name!r}")
        card, prompts = prompts_of(self.card, view, chosen)
        if not self.found:
            self.remarks += prompts.notes
        how = {"seed": chosen.seed, "batch_size": chosen.batch_size, "name": card.name}
        parts = prompts.discovery, prompts.held_out
        return Experiment(view, *parts, metric=self.metric, ablation=chosen.ablation, **how)

    def measured(self, name: str, lab: Experiment) -> Known:
        """A model's behaviour and its circuit."""
        started = time.perf_counter()
        try:
            _ = lab.held_out_judge
        except BehaviourError as error:
            return _without(lab, str(error), started), None
        one = one_model(name, lab, self.chosen, self.report)
        about = one.record.model_dump() | {"seconds": time.perf_counter() - started}
        if one.circuit is None:
            return Checkpoint(**about), None
        assert one.circuit.evaluation is not None, "of held-out prompts"
        figures = one.circuit.evaluation.held_out
        worst = max(
            ((abs(f - 1), t.name, f) for t in figures.templates if (f := t.faithfulness) is not None), default=None
        )
        kept = Checkpoint(
            **about,
            nodes=sum(node.kind in ("head", "mlp") for node in one.circuit.nodes),
            faithfulness=figures.faithfulness,
            faithfulness_interval=figures.faithfulness_interval,
            worst=None if worst is None else worst[2],
            worst_template=None if worst is None else worst[1],
        )
        return kept, one.circuit

    def add(self, record: Checkpoint, circuit: Circuit | None) -> None:
        """Takes what is known of the next model, and sets its circuit against that of the one before."""
        before = shared(circuit, self.circuits[-1]) if self.circuits else None
        self.found.append(record.model_copy(update={"before": before}))
        self.circuits.append(circuit)

    def judge_in_last(self, lab: Experiment) -> None:
        """Sets every circuit against that of the last model, and judges it there."""
        with self.report.stage("Each circuit in the last model", len(self.found)) as stage:
            try:
                judge = lab.held_out_judge
            except BehaviourError:
                self.remarks.append(
                    f"No circuit is judged in the last model, {lab.view.name}, where the metric cannot fall."
                )
                judge = None
            for place, circuit in enumerate(self.circuits):
                update: dict[str, Any] = {"last": shared(circuit, self.circuits[-1])}
                if circuit is not None and judge is not None:
                    figures = figures_of(judge, circuit.mask(), lab.seed)
                    update |= {"in_last": figures.faithfulness, "in_last_interval": figures.faithfulness_interval}
                self.found[place] = self.found[place].model_copy(update=update)
                stage.advance()

    def result(self, lab: Experiment, facts: dict[str, JsonValue]) -> Checkpoints:
        """What is known so far."""
        assert lab.held_out is not None, "a task gives both"
        return Checkpoints(
            task=lab.name,
            metric=lab.metric.name,
            ablation=lab.ablation,
            n_discovery=len(lab.prompts),
            n_held_out=len(lab.held_out),
            seed=lab.seed,
            models=tuple(self.found),
            facts=facts,
            remarks=tuple(self.remarks),
            environment=environment(lab.view),
        )


def shared(one: Circuit | None, other: Circuit | None) -> Shared | None:
    """How much two circuits of one graph share; None where one of them is missing."""
    if one is None or other is None:
        return None
    return Shared(**{part.scope: part.jaccard for part in overlaps(one, other) if part.mlps})


def _without(lab: Experiment, reason: str, started: float) -> Checkpoint:
    """A model in which the metric is the same on clean and corrupt prompts: there is nothing to find."""
    evaluator = lab.held_out_evaluator
    prompts, logits = evaluator.prompts, evaluator.clean_logits()
    clean, corrupt = (float(lab.metric(one, prompts, logits).mean()) for one in (logits, evaluator.ablated_logits()))
    return Checkpoint(
        model=lab.view.model_record(),
        metric_clean=clean,
        metric_corrupt=corrupt,
        accuracy=float(accuracy(logits, prompts).float().mean()) if prompts.answers.shape[1] else None,
        reason=reason,
        seconds=time.perf_counter() - started,
    )
