"""From a behaviour and a model to a circuit with its evidence, and the folder of the run."""

import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import torch

from acdc_engine import ranks
from acdc_engine.display import counted
from acdc_engine.errors import MethodError
from acdc_engine.experiment import Experiment
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.evidence_records import LARGEST
from acdc_engine.graph.files import CIRCUIT, SO_FAR
from acdc_engine.graph.records import SIGN_CONVENTION, TaskRecord, Unfinished
from acdc_engine.model.find import DEFAULT_MODEL
from acdc_engine.patch.judge import Target
from acdc_engine.patch.memory import remembering
from acdc_engine.patch.trace import Facts, Recorded, Trace
from acdc_engine.prompts.find import find_task
from acdc_engine.run.folder import RunFolder, asked_facts, loaded_facts, newest_unfinished
from acdc_engine.run.meter import Meter, forward_seconds, memory_note
from acdc_engine.run.prepare import look_before_loading, metric_for, prepare
from acdc_engine.run.progress import Reporter, reporter_of
from acdc_engine.run.settings import DiscoverSettings, Settings, command_of, run_file_text, shows_settings
from acdc_engine.run.steps import Deadline, OutOfTime, Steps
from acdc_engine.score import EdgeScores
from acdc_engine.search import Found
from acdc_engine.search.strategies import Selection

if TYPE_CHECKING:
    from acdc_engine.act.causal import Asked
    from acdc_engine.prompts.card import TaskCard
    from acdc_engine.run.around import InnerFile
    from acdc_engine.run.causal import Others


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
            *Scoring:* method ("eap-ig", "eap-ig-path", "eap", "gim", "clean-corrupted"), steps (integration points).
            *Pruning:* strategy ("iterative", "top-k", "greedy", "threshold", "acdc"), objective ("faithfulness", "kl"),
            faithfulness (the target, 0.9), size (edges), threshold, candidates, rank ("absolute", "signed", "rms"),
            each_template (None: the target holds in each one), alternatives (further circuits to search for, 0) and
            overlap (what they may share, 0.3), around (a circuit found before, to search around), ablation ("patch",
            "mean", "zero"), edge_tests (test every edge singly), minutes (end the search in time).
            *Prompts:* n (which the search sees), n_validation (512, which say when it may end), n_held_out (64, which
            judge the result), drop_misfits (leave out what does not fit), where ("none"; "spans" or "tokens" for edges
            at places in the prompt), seed, metric (None: the task's), prepend_bos, force (go on although the model does
            not show the behaviour).
            *Running:* repeats (searches on halves of the prompts), n_random (random circuits to compare with), causal
            (knock the circuit's heads out, here and on other_tasks), batch_size, device, dtype, memory (for everything
            there, such as "20GB"), device_map (for a model that is larger than one device), adapter (folder of one of
            peft's), ungroup_kv (one k and v per query head).

    Returns:
        The circuit, judged on discovery and held-out prompts, with other sizes, roles and examples.

    Raises:
        AcdcError: Bad settings, task, prompts, model or behaviour (before any long computation), scores that are not
            finite, or a target that no circuit reaches. The message says what to do.
        KeyboardInterrupt: Scores, trace and the best circuit in the target so far, if any, are in the folder by then.
    """
    chosen = Settings.of(settings)
    report = Meter(reporter_of(False if ranks.rank() else progress))
    deadline = Deadline(None if ranks.rank() else chosen.minutes)  # all ranks end when rank 0 does
    started = time.perf_counter()
    with report.stage("Reading the task"):
        card = find_task(task)
        others = _others(card.name, chosen)
        inner = _inner(card, chosen)
        folder = ranks.together(lambda: _folder_of(out, overwrite, asked_facts(card, chosen, model)))
        metric_for(card, chosen)
        look_before_loading(card, model, chosen)
        if others is not None:
            others.look_before_loading(model, chosen)
    trace = folder.trace if folder is not None else Trace(Path("rank 0 has it")) if ranks.rank() else None
    evaluator = partial(remembering, trace=trace, before_run=deadline.check)
    lab, record = prepare(card, model, chosen, report, evaluator)
    if inner is not None:
        lab = inner.placed(lab, record, report)
    run = Run(lab, record, chosen, folder, trace, deadline, report, command_of(task, model, chosen))
    if others is not None:
        with report.stage("Prompts of other tasks"):
            run.others = others.prompts(lab.view, chosen)
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


def _folder_of(out: str | Path | None, overwrite: bool, asked: Facts) -> RunFolder | None:
    """The folder of a run; none where nothing is to be written, and on other ranks than 0."""
    return None if out is None or ranks.rank() else RunFolder(out, overwrite, asked)


def _inner(card: "TaskCard", settings: Settings) -> "InnerFile | None":
    """The circuit to search around, where one was given."""
    if settings.around is None:
        return None
    from acdc_engine.run.around import InnerFile

    return InnerFile.read(settings.around, card, settings)


def _others(own: str, settings: Settings) -> "Others | None":
    """The other tasks of the causal check, where one was asked for."""
    if not settings.causal:
        return None
    from acdc_engine.run.causal import Others

    return Others.of(settings.other_tasks).beside(own)


class Run:
    """One run: its experiment, its folder, its clock."""

    def __init__(
        self,
        lab: Experiment,
        task: TaskRecord,
        settings: Settings,
        folder: RunFolder | None,
        trace: Trace | None,
        deadline: Deadline,
        report: Meter,
        command: str,
    ) -> None:
        self.pool, self.rows = lab.prompts, list(range(len(lab.prompts)))
        if lab.validation is not None:  # begins with few of them
            from acdc_engine.search.margin import first_rows

            self.rows = first_rows(self.pool)
        self.lab, self.task, self.settings, self.folder = lab.on(self.pool.select(self.rows)), task, settings, folder
        self.trace, self.deadline, self.report, self.command = trace, deadline, report, command
        self.aim: Target | None = None  # the narrower band that the search keeps to, if any
        self.others: tuple[list[Asked], list[str]] | None = None  # of the causal check, if any

    def whole(self, started: float, run_file: str | None) -> Circuit:
        """Everything after the prompts are there; goes on with what the folder holds of the same run."""
        self._begin()
        facts = None
        if self.folder is not None:
            with self.report.stage("Which run this is"):
                facts = loaded_facts(self.lab)
        with ExitStack() as opened:
            earlier = ranks.told(ranks.together(lambda: self._opened(opened, facts, started)))
            if ranks.rank() and self.trace is not None:
                self.trace.earlier = earlier
            if self.folder is not None and run_file is not None:
                self.folder.save_run_file(run_file)
            if self.folder is not None and earlier is not None:
                done = f"{earlier.evaluations} evaluations are there already"
                self.report.note(f"Going on with the unfinished run in {self.folder.path}: {done}.")
                self.report.go_on(earlier.passes, earlier.seconds, earlier.cpu_seconds)
            if self.trace is not None:
                self.trace.spent = self.report.spent
            return self._search()

    def _opened(self, opened: ExitStack, facts: Facts | None, started: float) -> Recorded | None:
        """What an earlier process has left in the folder, which is open from now on."""
        if self.folder is None or facts is None:
            return None
        return opened.enter_context(self.folder.open(facts, started))

    def _begin(self) -> None:
        """Runs the model on both splits: what cannot be run or judged is found out before anything long."""
        from acdc_engine.evidence.resampling import MIN_PROMPTS

        lab, report, batch_size, held_out = self.lab, self.report, self.lab.batch_size, self.lab.held_out
        assert held_out is not None, "a task gives both"
        report.begin(lab.view, lab.prompts, batch_size)
        validation = [] if lab.validation is None else [lab.validation]
        if much := memory_note(lab.view, self.pool, held_out, *validation, batch_size=batch_size):
            report.note(much)
        with report.stage("Running the model"):
            _ = lab.judge, lab.objective, lab.held_out_judge
            if lab.validation is not None:
                _ = lab.validation_judge
            if self.settings.minutes is not None:
                unit = forward_seconds(lab.view, lab.prompts, batch_size)
                # About what everything behind the search costs, in plain forward passes over the discovery prompts.
                share = len(held_out) / len(lab.prompts)
                self.deadline.keep((20 + share * (40 + self.settings.n_random) + self._causal_passes()) * unit)
        if self.settings.repeats:
            from acdc_engine.evidence.repeats import check_room

            check_room(lab.graph, len(lab.prompts))
        behaviour = lab.check(self.settings.force)
        report.note(behaviour.in_words(f"{lab.metric.name} on {len(lab.prompts)} discovery prompts"))
        if len(held_out) < MIN_PROMPTS:
            report.note(
                f"{len(held_out)} held-out prompts are too few for intervals; at least {MIN_PROMPTS} are needed "
                "(--n-held-out)."
            )

    def _search(self) -> Circuit:
        """Scores, prunes, tests every edge and concludes; what is known is in the folder at any time."""
        scores, validates = self._scores(), self.lab.validation is not None
        if self.settings.repeats:
            from acdc_engine.evidence.repeats import check_kept

            check_kept(scores)
        target = Target(self.settings.faithfulness) if self.settings.choice.aims else None
        self.aim = target.inner_half if validates and target is not None else None
        if self.lab.kept is not None:
            from acdc_engine.run.around import look_inside

            look_inside(self.lab, self.aim or target, self.report)
        so_far = partial(self._so_far, scores)
        steps = Steps(self.lab, self.aim or target, self.folder, self.deadline, so_far)
        found = self.tested(self.pruned(scores, steps), steps)
        if validates:
            from acdc_engine.run.validated import validated

            found = validated(self, found, steps)
        self.deadline.armed = False  # what follows is never cut short
        if self.folder is not None and found.scores is not None and found.scores is not scores:
            scores = found.scores
            self._save_scores(self.folder, scores)
        self._save(so_far(found, steps.unfinished), SO_FAR)
        circuit = self.lab.judged(found, n_random=self.settings.n_random, progress=self.report.stage)
        circuit = self._of_task(circuit, steps.unfinished)
        self._save(self._with_cost(circuit), SO_FAR)  # with its evidence, whatever becomes of the rest
        circuit = self._with_cost(self.lab.described(circuit, scores, progress=self.report.stage))
        circuit = self._causal(circuit)
        if self.settings.repeats and steps.unfinished is None:
            circuit = self._repeated(circuit, found)
        circuit = self._alternatives(circuit, found, scores)
        self._save(circuit, CIRCUIT)
        return circuit

    def _causal_passes(self) -> float:
        """About what the causal check costs, in plain forward passes over the discovery prompts."""
        if self.others is None:
            return 0.0
        from acdc_engine.run.causal import causal_passes

        return causal_passes(len(self.others[0]), len(self.lab.prompts))

    def _causal(self, circuit: Circuit) -> Circuit:
        """The circuit with its causal check, where one was asked for."""
        if self.others is None:
            return circuit
        from acdc_engine.run.causal import with_causal

        self._save(circuit, SO_FAR)
        others, unasked = self.others
        try:
            checked = with_causal(self.lab, circuit, others, unasked=unasked, progress=self.report.stage)
        except MethodError as error:  # it has no heads, or without them answers are no numbers
            self.report.note(f"The causal check is left out: {error}")
            return circuit
        return self._with_cost(checked)

    def _repeated(self, circuit: Circuit, found: Selection) -> Circuit:
        """Searches again on halves of the prompts; stopped, what was repeated by then counts."""
        from acdc_engine.run.repeats import repeated, with_repeats

        asked, again, unfinished = self.settings.repeats, list[Selection | None](), None
        self._save(circuit, SO_FAR)
        self.deadline.keep(0.0)
        self.deadline.armed = True
        with self.report.stage("Repeating the search", asked) as stage:

            def told(what: str, one: Found, met: bool) -> None:
                stage.say("; ".join(word for word in (counted(one.size, "edge"), what, self.deadline.left()) if word))

            try:
                for one in repeated(self.lab, found, asked, told):
                    again.append(one)
                    stage.advance()
            except OutOfTime:
                unfinished = Unfinished(stage="repeats", minutes=self.deadline.minutes)
                if self.folder is not None:
                    self.folder.trace.close()
            except KeyboardInterrupt:
                so_far = with_repeats(self.lab, circuit, again, asked, judged=False)
                self._save(self._of_task(so_far, Unfinished(stage="repeats")), SO_FAR)
                raise
        self.deadline.armed = False
        return self._with_cost(self._of_task(with_repeats(self.lab, circuit, again, asked), unfinished))

    def _alternatives(self, circuit: Circuit, found: Selection, scores: EdgeScores) -> Circuit:
        """The circuit with others beside it; as many as there are when the time is over."""
        from acdc_engine.run.alternatives import Alternation

        if not self.settings.alternatives or circuit.search is None or circuit.search.unfinished is not None:
            return circuit
        self._save(circuit, SO_FAR)
        others, stopped = Alternation(self.lab, found, scores, self.settings, self.report), False
        self.deadline.keep(0.0)
        self.deadline.armed = True
        try:
            others.search()
        except OutOfTime:
            stopped = True
        self.deadline.armed = False
        return self._with_cost(circuit.model_copy(update={"alternatives": others.record(stopped)}))

    def _save(self, circuit: Circuit, name: str) -> None:
        if self.folder is not None:
            self.folder.save_circuit(circuit, name)

    def _scores(self) -> EdgeScores:
        """Scores all edges, unless a killed run has left the scores in the folder."""
        folder, prompts = self.folder, self.lab.prompts.fingerprint()
        known = ranks.told(ranks.together(lambda: None if folder is None else folder.load_scores(prompts)))
        if known is not None:
            return known
        scores = self.scored(self.lab)
        if folder is not None:
            self._save_scores(folder, scores)
        return scores

    def _save_scores(self, folder: RunFolder, scores: EdgeScores) -> None:
        lab = self.lab
        about = {"metric": lab.objective_metric.name, "sign": SIGN_CONVENTION, "prompts": lab.prompts.fingerprint()}
        folder.save_scores(scores, about)

    def scored(self, lab: Experiment) -> EdgeScores:
        """Scores all edges by the method that was asked for."""
        with self.report.stage("Scoring all edges", len(lab.prompts)) as stage:
            return lab.score(self.settings.method, steps=self.settings.steps, progress=stage.advance)

    def pruned(self, scores: EdgeScores, steps: Steps, start: Found | None = None) -> Selection:
        """Prunes, for a narrower band than the target's where there is one; out of time it is the best so far."""
        settings, choice = self.settings, self.settings.choice
        known = self.lab.graph.n_edges if choice.strategy == "acdc" else None
        with self.report.stage("Pruning", known) as stage, steps.watched(stage):
            return self.lab.search(
                scores,
                settings.faithfulness,
                choice,
                aim=None if self.aim is None else self.aim.faithfulness,
                start=start,
                report=steps.take,
                note=self.report.note,
                progress=stage.at,
            )
        return self.selection(steps.best, scores)

    def tested(self, found: Selection, steps: Steps) -> Selection:
        """Removes every edge by itself, exactly, and for good where the target holds without it."""
        from acdc_engine.evidence.hypotheses import EDGES_UP_TO

        lab, choice = self.lab, self.settings.choice
        drops = choice.parameters.minimal and choice.aims
        too_many = found.size > (LARGEST if drops else EDGES_UP_TO)
        if steps.unfinished or not self.settings.edge_tests or too_many:
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
            return self.selection(steps.best, found.scores)
        return tested or found

    def selection(self, found: Found, scores: EdgeScores) -> Selection:
        """What a search has found, with how."""
        if isinstance(found, Selection):
            return found
        aim = None if self.aim is None else self.aim.faithfulness
        return self.lab.chosen(found, scores, self.settings.choice, self.settings.faithfulness, aim)

    def _so_far(self, scores: EdgeScores, found: Found, unfinished: Unfinished | None) -> Circuit:
        """A circuit with its provenance, and nothing measured."""
        return self._of_task(self.lab.bare(self.selection(found, scores)), unfinished)

    def _of_task(self, circuit: Circuit, unfinished: Unfinished | None) -> Circuit:
        """The circuit with what only this run knows of it."""
        assert circuit.search is not None and circuit.task is not None, "a search has found it"
        asked = {"edge_tests": self.settings.edge_tests, "unfinished": unfinished}
        search = circuit.search.model_copy(update=asked)
        used = {name: getattr(circuit.task, name) for name in ("n_discovery", "prompts_hash")}
        used["n_pool"] = self.task.n_discovery if self.task.n_discovery > circuit.task.n_discovery else None
        task = self.task.model_copy(update=used)
        return circuit.model_copy(update={"task": task, "search": search, "command": self.command})

    def _with_cost(self, circuit: Circuit) -> Circuit:
        """The circuit with what everything so far took."""
        cost = self.report.cost(self.lab.exact_evaluations, self.lab.view.device)
        return circuit.model_copy(update={"cost": cost})
