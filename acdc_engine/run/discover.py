"""From a behaviour and a model to a circuit with its evidence, and the folder of the run."""

import time
from functools import partial
from pathlib import Path
from typing import Any, Unpack

import torch

from acdc_engine.experiment import Selection
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.files import SO_FAR
from acdc_engine.graph.records import SIGN_CONVENTION, Unfinished
from acdc_engine.model.load import DEFAULT_MODEL
from acdc_engine.patch.judge import Target
from acdc_engine.patch.memory import remembering
from acdc_engine.prompts.find import find_task
from acdc_engine.run.folder import RunFolder, asked_facts, loaded_facts, newest_unfinished
from acdc_engine.run.meter import Meter, forward_seconds, memory_note
from acdc_engine.run.prepare import Prepared, look_before_loading, metric_for, prepare
from acdc_engine.run.progress import Reporter, reporter_of
from acdc_engine.run.settings import DiscoverSettings, Settings, command_of, run_file_text, shows_settings
from acdc_engine.run.steps import Deadline, Steps
from acdc_engine.score import EdgeScores
from acdc_engine.search import Found


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
        out: Folder for `circuit.json`, `scores.safetensors` and `trace.jsonl`; None to write nothing. An unfinished run
            of the same task, model and settings in it is gone on with. `Report(folder).save("report.html")` makes a
            report of it, as `acdc report` does.
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
        metric_for(card, chosen)
        look_before_loading(card, model, chosen)
    trace = None if folder is None else folder.trace
    evaluator = partial(remembering, trace=trace, before_run=deadline.check)
    prepared = prepare(card, model, chosen, report, evaluator)
    run = _Run(prepared, folder, deadline, report, command_of(task, model, chosen))
    again = run_file_text(task, model, chosen, torch.get_num_threads()) if isinstance(model, str | Path) else None
    return run.whole(started, again)


def unfinished_run(
    task: str | Path, model: Any, runs: Path, name: str, **settings: Unpack[DiscoverSettings]
) -> Path | None:
    """The newest folder `runs/NAME-...` with an unfinished run of this task, model and settings, or None.

    Raises:
        AcdcError: Bad settings or task.
    """
    asked = asked_facts(find_task(task), Settings.of(settings), model)
    return newest_unfinished(runs, name, asked)


class _Run:
    """One run: its experiment, its folder, its clock."""

    def __init__(
        self, prepared: Prepared, folder: RunFolder | None, deadline: Deadline, report: Meter, command: str
    ) -> None:
        self.prepared, self.lab, self.settings = prepared, prepared.lab, prepared.settings
        self.folder, self.deadline, self.report, self.command = folder, deadline, report, command

    def whole(self, started: float, run_file: str | None) -> Circuit:
        """Everything after the prompts are there; goes on with what the folder holds of the same run."""
        self._begin()
        if self.folder is None:
            return self._search()
        with self.report.stage("Which run this is"):
            facts = loaded_facts(self.lab)
        with self.folder.open(facts, started) as earlier:
            if run_file is not None:
                self.folder.save_run_file(run_file)
            if earlier is not None:
                done = f"{earlier.evaluations} evaluations are there already"
                self.report.note(f"Going on with the unfinished run in {self.folder.path}: {done}.")
                self.report.go_on(earlier.passes, earlier.seconds, earlier.cpu_seconds)
            self.folder.trace.spent = self.report.spent
            return self._search()

    def _begin(self) -> None:
        """Runs the model on both splits: what cannot be run or judged is found out before anything long."""
        from acdc_engine.evidence.resampling import MIN_PROMPTS

        lab, report, batch_size, held_out = self.lab, self.report, self.lab.batch_size, self.lab.held_out
        assert held_out is not None, "a task gives both"
        report.begin(lab.view, lab.prompts, batch_size)
        much = memory_note(lab.view, lab.prompts, held_out, batch_size=batch_size)
        if much is not None:
            report.note(much)
        with report.stage("Running the model"):
            _ = lab.judge, lab.held_out_judge
            if self.settings.minutes is not None:
                unit = forward_seconds(lab.view, lab.prompts, batch_size)
                # About what everything behind the search costs, in plain forward passes over the discovery prompts.
                share = len(held_out) / len(lab.prompts)
                self.deadline.keep((15 + share * (40 + self.settings.n_random)) * unit)
        behaviour = lab.check(self.settings.force)
        report.note(behaviour.in_words(f"{lab.metric.name} on {len(lab.prompts)} discovery prompts"))
        if len(held_out) < MIN_PROMPTS:
            report.note(
                f"{len(held_out)} held-out prompts are too few for intervals; at least {MIN_PROMPTS} are needed "
                "(--n-held-out)."
            )

    def _search(self) -> Circuit:
        """Scores, prunes, tests every edge and concludes; what is known is in the folder at any time."""
        scores = self._scores()
        target = Target(self.settings.faithfulness) if self.settings.choice.aims else None
        steps = Steps(self.lab, target, self.folder, self.deadline, partial(self._so_far, scores))
        found = self._tested(self._found(scores, steps), steps)
        self.deadline.armed = False  # what follows is never cut short
        if self.folder is not None:
            bare = self._so_far(scores, Found(found.mask, found.value), steps.unfinished)
            self.folder.save_circuit(bare, SO_FAR)
        circuit = self.lab.judged(found, n_random=self.settings.n_random, progress=self.report.stage)
        circuit = self._of_task(circuit, steps.unfinished)
        if self.folder is not None:  # with its evidence, whatever becomes of the rest
            self.folder.save_circuit(self._with_cost(circuit), SO_FAR)
        circuit = self._with_cost(self.lab.described(circuit, scores, progress=self.report.stage))
        if self.folder is not None:
            self.folder.save_circuit(circuit)
        return circuit

    def _scores(self) -> EdgeScores:
        """Scores all edges, unless a killed run has left the scores in the folder."""
        settings, lab, folder = self.settings, self.lab, self.folder
        if folder is not None and (known := folder.load_scores()) is not None:
            return known
        with self.report.stage("Scoring all edges", len(lab.prompts)) as stage:
            how: dict[str, Any] = {} if settings.steps is None else {"steps": settings.steps}
            scores = lab.score(settings.method, progress=stage.advance, **how)
        if folder is not None:
            folder.save_scores(scores, {"metric": lab.objective_metric.name, "sign": SIGN_CONVENTION})
        return scores

    def _found(self, scores: EdgeScores, steps: Steps) -> Selection:
        """Prunes; out of time it is the best circuit so far."""
        settings, choice = self.settings, self.settings.choice
        known = self.lab.view.graph.n_edges if choice.strategy == "acdc" else None
        with self.report.stage("Pruning", known) as stage, steps.watched(stage):
            return self.lab.search(
                scores, settings.faithfulness, choice, report=steps.take, note=self.report.note, progress=stage.at
            )
        return self._selection(steps.best, scores)

    def _tested(self, found: Selection, steps: Steps) -> Selection:
        """Removes every edge by itself, exactly, and for good where the target holds without it."""
        from acdc_engine.evidence.hypotheses import EDGES_UP_TO

        lab, choice = self.lab, self.settings.choice
        drops = choice.parameters.minimal and choice.aims
        if steps.unfinished or not self.settings.edge_tests or (found.size > EDGES_UP_TO and not drops):
            return found
        tested = None
        with self.report.stage("Testing every edge", found.size) as stage, steps.watched(stage, of_edges=True):
            if drops:
                tested = lab.minimal(found, report=steps.take, progress=stage.at)
            else:
                tested = lab.test_edges(found, stage.at)
            tested = lab.with_effects(tested, stage.at)
        if tested is None and drops:
            assert found.scores is not None, "it was found by them"
            return self._selection(steps.best, found.scores)
        return tested or found

    def _selection(self, found: Found, scores: EdgeScores) -> Selection:
        return self.lab.chosen(found, scores, self.settings.choice, self.settings.faithfulness)

    def _so_far(self, scores: EdgeScores, found: Found, unfinished: Unfinished | None) -> Circuit:
        """A circuit with its provenance, and nothing measured."""
        return self._of_task(self.lab.bare(self._selection(found, scores)), unfinished)

    def _of_task(self, circuit: Circuit, unfinished: Unfinished | None) -> Circuit:
        """The circuit with what only this run knows of it."""
        assert circuit.search is not None, "a search has found it"
        asked = {"edge_tests": self.settings.edge_tests, "unfinished": unfinished}
        search = circuit.search.model_copy(update=asked)
        task = self.prepared.task_record()
        return circuit.model_copy(update={"task": task, "search": search, "command": self.command})

    def _with_cost(self, circuit: Circuit) -> Circuit:
        """The circuit with what everything so far took."""
        cost = self.report.cost(self.lab.exact_evaluations, self.lab.view.device)
        return circuit.model_copy(update={"cost": cost})
