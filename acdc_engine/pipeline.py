"""The pipeline: from a behaviour and a model to a circuit with its evidence."""

import itertools
import time
from pathlib import Path
from typing import Any

from torch import Tensor

from acdc_engine.attribution import EdgeScores, check_metric, get_method, score_edges
from acdc_engine.errors import ModelError
from acdc_engine.evaluation import check_behaviour, figures_of
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.circuit_records import Cost, Evaluation
from acdc_engine.models.load import DEFAULT_MODEL, load_model
from acdc_engine.models.view import TransformerView
from acdc_engine.patching import CircuitEvaluator
from acdc_engine.patching.effects import edge_effects
from acdc_engine.patching.judge import Judge, Target
from acdc_engine.prompts.build import build_splits
from acdc_engine.prompts.find import find_task
from acdc_engine.prompts.metrics import get_metric
from acdc_engine.prompts.prompt_set import PromptSet
from acdc_engine.pruning import Found, find_circuit
from acdc_engine.run.folder import SO_FAR, RunFolder
from acdc_engine.run.measure import forward_seconds, peak_memory
from acdc_engine.run.progress import Reporter, RichReporter
from acdc_engine.run.records import Run, circuit_of
from acdc_engine.run.settings import Settings

EFFECTS_UP_TO = 1000
"""Circuits of more edges are written without exact effects: each costs one exact evaluation."""


def discover(
    task: str | Path,
    model: Any = DEFAULT_MODEL,
    *,
    out: str | Path | None = None,
    overwrite: bool = False,
    progress: bool = False,
    **settings: Any,
) -> Circuit:
    """Finds a small circuit of a model that still shows a behaviour.

    Args:
        task: Name of a shipped task, or the path of a task card.
        model: Name, folder, loaded Hugging Face model, or view; see `load_model`.
        out: Folder for `circuit.json`, `scores.safetensors` and `trace.jsonl`; None to write nothing.
        overwrite: Replace an earlier run in that folder.
        progress: Show progress bars on stderr.
        **settings: See `acdc_engine.run.settings.Settings`; e.g. `faithfulness=0.95, n=64, method="eap"`.

    Returns:
        The circuit, judged on discovery and held-out prompts.

    Raises:
        AcdcError: Bad settings, task, prompts, model or behaviour (before any long computation), scores that are not
            finite, or a target that no circuit reaches. The message says what to do.
        KeyboardInterrupt: Scores, trace and the best circuit so far are in the folder by then.
    """
    chosen = Settings.of(settings)
    folder = None if out is None else RunFolder(out, overwrite)
    card = find_task(task)
    if chosen.prepend_bos is not None:
        card = card.model_copy(update={"prepend_bos": chosen.prepend_bos})
    metric = get_metric(chosen.metric or card.metric)
    check_metric(metric, get_method(chosen.method, chosen.steps))
    report: Reporter = RichReporter() if progress else Reporter()
    started = time.perf_counter()
    with report.stage("Loading the model"):
        view = load_model(model, device=chosen.device, dtype=chosen.dtype, ungroup_kv=chosen.ungroup_kv)
    loaded = time.perf_counter()
    discovery, held_out = build_splits(card, _tokenizer(view), chosen.n, chosen.n_held_out, chosen.seed)
    run = Run(view, card, chosen, metric, discovery, held_out, started, loaded)
    return _search(run, folder, report)


def _search(run: Run, folder: RunFolder | None, report: Reporter) -> Circuit:
    """Everything after the prompts are there."""
    settings, view = run.settings, run.view
    with report.stage("Running the model"):
        judge = _judge(run, run.discovery)
        unit = forward_seconds(view, run.discovery, settings.batch_size)
    behaviour = check_behaviour(judge, settings.force)
    right = "" if behaviour.accuracy is None else f", {behaviour.accuracy:.0%} right"
    report.note(
        f"{run.metric.name}: clean {behaviour.metric_clean:.3f}{right}, corrupt {behaviour.metric_ablated:.3f} "
        f"on {len(run.discovery)} discovery prompts"
    )

    with report.stage("Scoring all edges", len(run.discovery)) as stage:
        method = get_method(settings.method, settings.steps)
        scores = score_edges(
            view, run.discovery, run.metric, method, batch_size=settings.batch_size, progress=stage.advance
        )
    if folder is None:
        found = _find(run, judge, scores, None, report)
        return _conclude(run, judge, scores, found, unit, report)
    with folder:
        folder.save_scores({"scores": scores.mean}, run.score_labels())
        found = _find(run, judge, scores, folder, report)
        folder.save_circuit(circuit_of(run, found.mask, scores.mean), SO_FAR)
        circuit = _conclude(run, judge, scores, found, unit, report)
        folder.save_circuit(circuit)
    return circuit


def _find(run: Run, judge: Judge, scores: EdgeScores, folder: RunFolder | None, report: Reporter) -> Found:
    """Prunes; keeps a trace, and the best circuit so far when interrupted."""
    settings, numbers = run.settings, itertools.count(1)
    best: list[Found] = []
    with report.stage("Pruning") as stage:

        def step(what: str, found: Found, met: bool) -> None:
            if met and (not best or found.size < best[-1].size):
                best.append(found)
            smallest = f"; smallest in the band: {best[-1].size}" if best else ""
            stage.say(f"{found.size} edges: f {found.faithfulness:.3f}{smallest}")
            if folder is not None:
                folder.trace(
                    {
                        "step": next(numbers),
                        "what": what,
                        "edges": found.size,
                        "faithfulness": found.faithfulness,
                        "meets_target": met,
                        "seconds": round(time.perf_counter() - run.started, 3),
                    }
                )

        try:
            return find_circuit(
                run.view.graph, scores.mean, judge, Target(settings.faithfulness), settings.choice, step
            )
        except KeyboardInterrupt:
            if best and folder is not None:
                folder.save_circuit(circuit_of(run, best[-1].mask, scores.mean), SO_FAR)
            raise


def _conclude(run: Run, judge: Judge, scores: EdgeScores, found: Found, unit: float, report: Reporter) -> Circuit:
    """Judges the circuit on both splits and writes down what it took."""
    effects: Tensor | None = None
    if found.size <= EFFECTS_UP_TO:
        with report.stage("Exact effect of each edge", found.size) as stage:
            effects = edge_effects(judge, found.mask, stage.advance)
    with report.stage("Held-out prompts"):
        evaluations = judge.evaluator.exact_evaluations
        evaluation = Evaluation(
            discovery=figures_of(judge, found.mask), held_out=figures_of(_judge(run, run.held_out), found.mask)
        )
    now = time.perf_counter()
    cost = Cost(
        seconds=now - run.started,
        peak_memory_bytes=peak_memory(run.view.device),
        forward_passes=(now - run.loaded) / unit,
        exact_evaluations=evaluations,
    )
    return circuit_of(run, found.mask, scores.mean, effects, evaluation, cost)


def _judge(run: Run, prompts: PromptSet) -> Judge:
    settings = run.settings
    return Judge(CircuitEvaluator(run.view, prompts, settings.ablation, settings.batch_size), run.metric)


def _tokenizer(view: TransformerView) -> Any:
    if view.tokenizer is None:
        raise ModelError(
            f"Model {view.name!r} came without a tokenizer, which task cards need. Load it with "
            "load_model(hf_model, tokenizer=...) and pass the view as model."
        )
    return view.tokenizer
