"""The pipeline: from a behaviour and a model to a circuit with its evidence."""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any, Unpack

import torch

from acdc_engine.errors import AcdcError
from acdc_engine.evidence import MIN_PROMPTS, check_behaviour, evaluate
from acdc_engine.evidence.minimality import EDGES_UP_TO
from acdc_engine.evidence.sizes import sizes_of
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.circuit_records import Cost
from acdc_engine.graph.find import SO_FAR
from acdc_engine.graph.from_mask import edges_of_mask
from acdc_engine.model.load import load_model
from acdc_engine.model.sources import DEFAULT_MODEL
from acdc_engine.patch import CircuitEvaluator
from acdc_engine.patch.judge import Judge, Target
from acdc_engine.prompts.find import find_task
from acdc_engine.prompts.metrics import get_metric
from acdc_engine.prompts.prompt_set import PromptSet
from acdc_engine.run.command import command_of
from acdc_engine.run.deadline import Deadline
from acdc_engine.run.describe import describe
from acdc_engine.run.edge_records import edge_evidence, edge_records, in_metric, per_example_fits, stability_of
from acdc_engine.run.fingerprint import asked_facts, loaded_facts
from acdc_engine.run.folder import RunFolder, newest_unfinished
from acdc_engine.run.known_for import against_known
from acdc_engine.run.measure import Meter, forward_seconds, memory_note
from acdc_engine.run.progress import Reporter, reporter_of
from acdc_engine.run.prompts import look_before_loading, prompts_of
from acdc_engine.run.recorded import RecordedEvaluator
from acdc_engine.run.records import Run, circuit_of
from acdc_engine.run.run_file import run_file_text
from acdc_engine.run.settings import DiscoverSettings, Settings, shows_settings
from acdc_engine.run.steps import Steps
from acdc_engine.score import EdgeScores, check_metric, get_method, score_edges
from acdc_engine.search import MINIMAL, Found, Minimal, find_circuit, minimal, singles
from acdc_engine.show.report.page import report_html


@shows_settings
def discover(
    task: str | Path,
    model: Any = DEFAULT_MODEL,
    *,
    out: str | Path | None = None,
    overwrite: bool = False,
    progress: bool | Reporter = False,
    **settings: Unpack[DiscoverSettings],
) -> Circuit:
    """Finds a small circuit of a model that still shows a behaviour.

    Args:
        task: Name of a shipped task, or the path of a task card.
        model: Name, folder, loaded Hugging Face model, or view; see `load_model`.
        out: Folder for `circuit.json`, `report.html`, `scores.safetensors` and `trace.jsonl`; None to write nothing. An
            unfinished run of the same task, model and settings in it is gone on with.
        overwrite: Replace an earlier run in that folder, if it is finished or another one.
        progress: Show progress on stderr, or on a reporter of one's own (`acdc_engine.run.progress`).
        **settings: What `acdc discover --help` lists; more of each in `acdc_engine.run.settings.Settings`.
            *Scoring:* method ("eap-ig", "eap", "clean-corrupted"), steps (integration points).
            *Pruning:* strategy ("iterative", "top-k", "greedy", "threshold", "acdc"), objective ("faithfulness", "kl"),
            faithfulness (the target, 0.9), size (edges), threshold, candidates, rank ("absolute", "signed", "rms"),
            ablation ("patch", "mean", "zero"), edge_tests (test every edge singly), minutes (end the search in time).
            *Prompts:* n (32, which the search sees), n_held_out (64), drop_misfits (leave out what does not fit), seed,
            metric (None: the task's), prepend_bos, force (go on although the model does not show the behaviour).
            *Running:* n_random (random circuits to compare with), batch_size, device, dtype, ungroup_kv (one k and v
            per query head).

    Returns:
        The circuit, judged on discovery and held-out prompts, with other sizes, roles and examples.

    Raises:
        AcdcError: Bad settings, task, prompts, model or behaviour (before any long computation), scores that are not
            finite, or a target that no circuit reaches. The message says what to do.
        KeyboardInterrupt: Scores, trace and the best circuit in the target so far, if any, are in the folder by then.
    """
    chosen = Settings.of(settings)
    report, deadline = Meter(reporter_of(progress)), Deadline(chosen.minutes)
    started = time.perf_counter()
    with report.stage("Reading the task"):
        card = find_task(task)
        folder = None if out is None else RunFolder(out, overwrite, asked_facts(card, chosen, model))
        metric = get_metric(chosen.metric or card.metric)
        aim = get_metric("kl") if chosen.objective == "kl" else metric
        check_metric(aim, get_method(chosen.method, chosen.steps))
        look_before_loading(card, model, chosen)
    with report.stage("Loading the model"):
        view = load_model(model, device=chosen.device, dtype=chosen.dtype, ungroup_kv=chosen.ungroup_kv)
    with report.stage("Prompts"):
        card, prompts = prompts_of(card, view, chosen)
    for note in prompts.notes:
        report.note(note)
    run = Run(view, card, chosen, metric, prompts, started, command_of(task, model, chosen))
    again = run_file_text(task, model, chosen, torch.get_num_threads()) if isinstance(model, str | Path) else None
    return _run(run, folder, deadline, report, again)


def unfinished_run(
    task: str | Path, model: Any, runs: Path, name: str, **settings: Unpack[DiscoverSettings]
) -> Path | None:
    """The newest folder `runs/NAME-...` with an unfinished run of this task, model and settings, or None.

    Raises:
        AcdcError: Bad settings or task.
    """
    asked = asked_facts(find_task(task), Settings.of(settings), model)
    return newest_unfinished(runs, name, asked)


def _run(run: Run, folder: RunFolder | None, deadline: Deadline, report: Meter, run_file: str | None) -> Circuit:
    """Everything after the prompts are there; goes on with what the folder holds of the same run."""
    report.begin(run.view, run.discovery, run.settings.batch_size)
    much = memory_note(run.view, run.discovery, run.held_out, batch_size=run.settings.batch_size)
    if much is not None:
        report.note(much)
    with report.stage("Running the model"):
        # Both now: held-out prompts that cannot be run or judged are found out before anything long.
        judge, held_out = _judge(run, run.discovery, folder), _judge(run, run.held_out, folder)
        if run.settings.minutes is not None:
            unit = forward_seconds(run.view, run.discovery, run.settings.batch_size)
            deadline.keep(_evidence_forwards(run) * unit)
        judge.evaluator.before_run = deadline.check
    behaviour = check_behaviour(judge, run.settings.force)
    report.note(behaviour.in_words(f"{run.metric.name} on {len(run.discovery)} discovery prompts"))
    if len(run.held_out) < MIN_PROMPTS:
        report.note(
            f"{len(run.held_out)} held-out prompts are too few for intervals; at least {MIN_PROMPTS} are needed "
            "(--n-held-out)."
        )
    if folder is None:
        return _search(run, judge, held_out, None, deadline, report)
    with report.stage("Which run this is"):
        facts = loaded_facts(run)
    with folder.open(facts, run.started) as earlier:
        if run_file is not None:
            folder.save_run_file(run_file)
        if earlier is not None:
            done = f"{earlier.evaluations} evaluations are there already"
            report.note(f"Going on with the unfinished run in {folder.path}: {done}.")
            report.go_on(earlier.passes, earlier.seconds, earlier.cpu_seconds)
        folder.trace.spent = report.spent
        return _search(run, judge, held_out, folder, deadline, report)


def _search(
    run: Run,
    judge: Judge,
    held_out: Judge,
    folder: RunFolder | None,
    deadline: Deadline,
    report: Meter,
) -> Circuit:
    """Scores, prunes, tests every edge and concludes; what is known is in the folder at any time."""
    objective = Judge(judge.evaluator, run.objective)
    scores = _score(run, folder, report)
    steps = Steps(run, scores.mean, folder, deadline)
    found = _find(run, objective, scores, steps, report)
    found, tested, by_metric = _test_edges(run, objective, judge, found, steps, report)
    deadline.armed = False  # what follows is never cut short
    run = replace(run, unfinished=steps.unfinished)
    if folder is not None:
        folder.save_circuit(circuit_of(run, edges_of_mask(run.view.graph, found.mask, scores.mean)), SO_FAR)
    circuit = _conclude(run, (judge, held_out, objective), scores, found, (tested, by_metric), report)
    if folder is not None:  # with its evidence, whatever becomes of the rest
        folder.save_circuit(circuit, SO_FAR)
    circuit = _describe(run, circuit, (judge, held_out), scores, report)
    circuit = circuit.model_copy(update={"cost": _cost(run, (judge, held_out), report)})
    if folder is not None:
        _report(folder.save_circuit(circuit), circuit, folder, report)
    return circuit


def _report(path: Path, circuit: Circuit, folder: RunFolder, report: Reporter) -> None:
    """Writes the report. The run is over by now: what goes wrong here is told, and takes nothing from it."""
    try:
        with report.stage("Report"):
            comparison, known = against_known(path, circuit) or (None, None)
            folder.save_report(report_html(circuit, comparison=comparison, known=known))
    except AcdcError as error:
        report.note(f"The report could not be written: {error} acdc report {folder.path} tries it again.")


def _score(run: Run, folder: RunFolder | None, report: Reporter) -> EdgeScores:
    """Scores all edges, unless a killed run has left the scores in the folder."""
    settings, graph = run.settings, run.view.graph
    known = None if folder is None else folder.load_scores()
    if known is not None:
        return EdgeScores(known["scores"], known["rms"], known.get("per_example"))
    with report.stage("Scoring all edges", len(run.discovery)) as stage:
        scores = score_edges(
            run.view,
            run.discovery,
            run.objective,
            get_method(settings.method, settings.steps),
            batch_size=settings.batch_size,
            rms=True,
            per_example=per_example_fits(graph, len(run.discovery)),
            progress=stage.advance,
        )
    if folder is not None:
        per_example = {} if scores.per_example is None else {"per_example": scores.per_example}
        folder.save_scores({"scores": scores.mean, "rms": scores.both[1].clone(), **per_example}, run.score_labels())
    return scores


def _evidence_forwards(run: Run) -> float:
    """About what everything behind the search costs, in plain forward passes over the discovery prompts."""
    held_out = len(run.held_out) / len(run.discovery)
    return 15 + held_out * (40 + run.settings.n_random)


def _find(run: Run, objective: Judge, scores: EdgeScores, steps: Steps, report: Reporter) -> Found:
    """Prunes; out of time it is the best circuit so far."""
    target, choice = Target(run.settings.faithfulness), run.settings.choice
    known = run.view.graph.n_edges if choice.strategy == "acdc" else None
    with report.stage("Pruning", known) as stage, steps.watched(stage):
        return find_circuit(
            run.view.graph, scores.both, objective, target, choice, steps.take, note=report.note, progress=stage.at
        )
    return steps.best


def _test_edges(
    run: Run, objective: Judge, judge: Judge, found: Found, steps: Steps, report: Reporter
) -> tuple[Found, Minimal | None, Minimal | None]:
    """Removes every edge by itself, exactly, and for good where the target holds without it.

    Returns:
        The circuit, and the tests of its edges by the objective and by the metric; None where they were not made.
    """
    graph, choice = run.view.graph, run.settings.choice
    drops = choice.strategy in MINIMAL and choice.searches
    if steps.unfinished or not run.settings.edge_tests or (found.size > EDGES_UP_TO and not drops):
        return found, None, None
    tested, by_metric = None, None
    with report.stage("Testing every edge", found.size) as stage, steps.watched(stage, of_edges=True):
        if drops:
            target = Target(run.settings.faithfulness)
            tested = minimal(graph, found, objective, target, steps.take, stage.at)
        else:
            tested = singles(graph, found, objective, run.target, stage.at)
        by_metric = in_metric(tested, objective, judge, stage.at)
    if tested is None:
        return steps.best if drops else found, None, None
    return tested.found, tested, by_metric


def _conclude(
    run: Run,
    judges: tuple[Judge, Judge, Judge],
    scores: EdgeScores,
    found: Found,
    tests: tuple[Minimal | None, Minimal | None],
    report: Meter,
) -> Circuit:
    """Judges the circuit on both splits and writes down what it took."""
    settings, (judge, held_out, objective), (tested, by_metric) = run.settings, judges, tests
    rank = settings.choice.rank if settings.choice.takes_rank else objective.ranks[0]
    with report.stage("Evidence of each edge"):
        evidence = None if tested is None else edge_evidence(tested, by_metric, objective, run.target, settings.seed)
        stability = stability_of(scores.per_example, found.mask, rank, settings.seed)
    evaluation = evaluate(
        judge, held_out, found.mask, n_random=settings.n_random, tests=False, seed=settings.seed, progress=report.stage
    )
    cost = _cost(run, (judge, held_out), report)
    edges = edge_records(judge, found.mask, scores.mean, evidence, stability)
    return circuit_of(run, edges, evaluation, None if evidence is None else evidence.certificate, cost)


def _cost(run: Run, judges: tuple[Judge, Judge], report: Meter) -> Cost:
    """What everything so far took."""
    return report.cost(sum(judge.evaluator.exact_evaluations for judge in judges), run.view.device)


def _describe(run: Run, circuit: Circuit, judges: tuple[Judge, Judge], scores: EdgeScores, report: Reporter) -> Circuit:
    """Adds what stands around the circuit: other sizes, what its nodes do, examples."""
    settings, (judge, held_out) = run.settings, judges
    ranked = scores.both[1] if run.objective.zero_gradient_at_clean else scores.mean
    sizes = sizes_of(held_out, circuit, ranked, seed=settings.seed, progress=report.stage)
    circuit = circuit.model_copy(update={"sizes": sizes})
    return describe(circuit, judge, held_out, seed=settings.seed, batch_size=settings.batch_size, progress=report.stage)


def _judge(run: Run, prompts: PromptSet, folder: RunFolder | None) -> Judge:
    """Judges circuits; what the model answers is in the folder's trace."""
    arguments = run.view, prompts, run.settings.ablation, run.settings.batch_size
    evaluator = CircuitEvaluator(*arguments) if folder is None else RecordedEvaluator(folder.trace, *arguments)
    return Judge(evaluator, run.metric)
