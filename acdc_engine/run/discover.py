"""From a behaviour and a model to a circuit with its evidence, and the folder of the run."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, Unpack

import torch

from acdc_engine.evidence.repeats import check_kept, check_room
from acdc_engine.experiment import Experiment, Selection
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.connectivity import clean
from acdc_engine.graph.files import CIRCUIT, SO_FAR
from acdc_engine.graph.records import SIGN_CONVENTION, TaskRecord, Unfinished
from acdc_engine.model.load import DEFAULT_MODEL
from acdc_engine.patch.judge import Target
from acdc_engine.patch.memory import remembering
from acdc_engine.prompts.find import find_task
from acdc_engine.run.folder import RunFolder, asked_facts, loaded_facts, newest_unfinished
from acdc_engine.run.meter import Meter, forward_seconds, memory_note
from acdc_engine.run.prepare import look_before_loading, metric_for, prepare
from acdc_engine.run.progress import Clock, Reporter, Stage, duration, reporter_of
from acdc_engine.run.repeats import repeated, with_repeats
from acdc_engine.run.settings import DiscoverSettings, Settings, command_of, run_file_text, shows_settings
from acdc_engine.score import EdgeScores
from acdc_engine.search import Found

_MOST_KEPT = 0.5
"""Share of the time that is kept for the evidence, at most."""


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
            each_template (the target holds in each one), alternatives (further circuits to search for, 0) and overlap
            (what they may share, 0.3), ablation ("patch", "mean", "zero"), edge_tests (test every
            edge singly), minutes (end the search in time).
            *Prompts:* n (32, which the search sees), n_held_out (64), drop_misfits (leave out what does not fit), seed,
            metric (None: the task's), prepend_bos, force (go on although the model does not show the behaviour).
            *Running:* repeats (searches on halves of the prompts), n_random (random circuits to compare with),
            batch_size, device, dtype, ungroup_kv (one k and v per query head).

    Returns:
        The circuit, judged on discovery and held-out prompts, with other sizes, roles and examples.

    Raises:
        AcdcError: Bad settings, task, prompts, model or behaviour (before any long computation), scores that are not
            finite, or a target that no circuit reaches. The message says what to do.
        KeyboardInterrupt: Scores, trace and the best circuit in the target so far, if any, are in the folder by then.
    """
    chosen = Settings.of(settings)
    report, deadline = Meter(reporter_of(progress)), _Deadline(chosen.minutes)
    started = time.perf_counter()
    with report.stage("Reading the task"):
        card = find_task(task)
        folder = None if out is None else RunFolder(out, overwrite, asked_facts(card, chosen, model))
        metric_for(card, chosen)
        look_before_loading(card, model, chosen)
    trace = None if folder is None else folder.trace
    evaluator = partial(remembering, trace=trace, before_run=deadline.check)
    lab, record = prepare(card, model, chosen, report, evaluator)
    run = _Run(lab, record, chosen, folder, deadline, report, command_of(task, model, chosen))
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


class _OutOfTime(Exception):
    """The search's time is over. Never leaves a run."""


class _Deadline:
    """Ends a search in time: `check` is called before every run of a circuit.

    It waits until it is `armed`, which is when there is a circuit to deliver, and does nothing once it is disarmed.
    `minutes` is the time of the whole run, from now on; None is all the time there is.
    """

    def __init__(self, minutes: float | None, clock: Clock = time.monotonic) -> None:
        self.minutes, self.armed = minutes, False
        self._clock, self._started, self._kept = clock, clock(), 0.0

    def keep(self, seconds: float) -> None:
        """Keeps so much time for what follows the search, and not more than half of all."""
        if self.minutes is not None:
            self._kept = min(seconds, _MOST_KEPT * 60 * self.minutes)

    def check(self) -> None:
        """Ends the search where its time is over.

        Raises:
            _OutOfTime: It is.
        """
        if self.armed and self._left() <= 0:
            raise _OutOfTime

    def left(self) -> str:
        """What is left for the search, in words; empty without a limit."""
        return "" if self.minutes is None else f"at most {duration(self._left())} left"

    def _left(self) -> float:
        whole = math.inf if self.minutes is None else 60 * self.minutes
        return whole - self._kept - (self._clock() - self._started)


class _Steps:
    """Takes note of every circuit that a search runs, and ends it in time.

    The best circuit is the smallest that meets the target; as long as there is none, the one nearest to the target.
    Without a target (the size is given) it is the latest. `circuit_of` makes the circuit that goes into the folder;
    `unfinished` says what the search was stopped in, once it was.
    """

    def __init__(
        self,
        lab: Experiment,
        target: Target | None,
        folder: RunFolder | None,
        deadline: _Deadline,
        circuit_of: Callable[[Found, Unfinished], Circuit],
    ) -> None:
        self._graph, self._target, self._folder, self._deadline = lab.view.graph, target, folder, deadline
        self._circuit_of = circuit_of
        self._best: tuple[Found, bool] | None = None
        self._stage = Stage()
        self._called = "KL recovered" if lab.aim == "kl" else "f"
        self.unfinished: Unfinished | None = None

    @contextmanager
    def watched(self, stage: Stage, of_edges: bool = False) -> Iterator[None]:
        """Remarks go to this stage: the search, or the tests of its edges. An interruption leaves the best circuit."""
        self._stage = stage
        part: Literal["search", "edge tests"] = "edge tests" if of_edges else "search"
        try:
            yield
        except _OutOfTime:
            # From now on there is all the time, and nothing goes into the trace: it ends where the search did.
            self._deadline.armed = False
            if self._folder is not None:
                self._folder.trace.close()
            self.unfinished = Unfinished(stage=part, minutes=self._deadline.minutes)
        except KeyboardInterrupt:
            if self._best is not None and self._folder is not None:
                self._folder.save_circuit(self._circuit_of(self.best, Unfinished(stage=part)), SO_FAR)
            raise

    @property
    def best(self) -> Found:
        """The best circuit so far, clean."""
        assert self._best is not None, "a search is stopped when there is a circuit"
        found = self._best[0]
        return replace(found, mask=clean(self._graph, found.mask))

    def take(self, what: str, found: Found, met: bool) -> None:
        """Notes a circuit that was run; a `Report`."""
        if self._better(found, met):
            self._best, self._deadline.armed = (found, met), True
        remark = [self._words(found)]
        if self._best is not None and self._best[0] is not found:
            remark.append(f"best {self._words(self._best[0])}".replace(" edges", ""))
        self._stage.say("; ".join(word for word in (*remark, what, self._deadline.left()) if word))
        if self._folder is not None:
            self._folder.trace.step(what, found.size, found.faithfulness, met)

    def _words(self, found: Found) -> str:
        return f"{found.size:,} edges, {self._called} {found.faithfulness:.2f}"

    def _better(self, found: Found, met: bool) -> bool:
        target = self._target
        if not found.size or not math.isfinite(found.faithfulness):
            return False
        if target is None:
            return True
        if found.size == self._graph.n_edges:  # no result of a search: see `find_circuit`
            return False
        if self._best is None:
            return True
        best, best_met = self._best
        if met or best_met:
            return met and (not best_met or found.size < best.size)
        return target.distance(found.faithfulness) < target.distance(best.faithfulness)


class _Run:
    """One run: its experiment, its folder, its clock."""

    def __init__(
        self,
        lab: Experiment,
        task: TaskRecord,
        settings: Settings,
        folder: RunFolder | None,
        deadline: _Deadline,
        report: Meter,
        command: str,
    ) -> None:
        self.lab, self.task, self.settings, self.folder = lab, task, settings, folder
        self.deadline, self.report, self.command = deadline, report, command

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
        if much := memory_note(lab.view, lab.prompts, held_out, batch_size=batch_size):
            report.note(much)
        with report.stage("Running the model"):
            _ = lab.judge, lab.objective, lab.held_out_judge
            if self.settings.minutes is not None:
                unit = forward_seconds(lab.view, lab.prompts, batch_size)
                # About what everything behind the search costs, in plain forward passes over the discovery prompts.
                share = len(held_out) / len(lab.prompts)
                self.deadline.keep((20 + share * (40 + self.settings.n_random)) * unit)
        if self.settings.repeats:
            check_room(lab.view.graph, len(lab.prompts))
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
        if self.settings.repeats:
            check_kept(scores)
        target = Target(self.settings.faithfulness) if self.settings.choice.aims else None
        steps = _Steps(self.lab, target, self.folder, self.deadline, partial(self._so_far, scores))
        found = self._tested(self._found(scores, steps), steps)
        self.deadline.armed = False  # what follows is never cut short
        self._save(self._so_far(scores, found, steps.unfinished), SO_FAR)
        circuit = self.lab.judged(found, n_random=self.settings.n_random, progress=self.report.stage)
        circuit = self._of_task(circuit, steps.unfinished)
        self._save(self._with_cost(circuit), SO_FAR)  # with its evidence, whatever becomes of the rest
        circuit = self._with_cost(self.lab.described(circuit, scores, progress=self.report.stage))
        if self.settings.repeats and steps.unfinished is None:
            circuit = self._repeated(circuit, found)
        circuit = self._alternatives(circuit, found, scores)
        self._save(circuit, CIRCUIT)
        return circuit

    def _repeated(self, circuit: Circuit, found: Selection) -> Circuit:
        """Searches again on halves of the prompts; stopped, what was repeated by then counts."""
        asked, again, unfinished = self.settings.repeats, list[Selection | None](), None
        self._save(circuit, SO_FAR)
        self.deadline.keep(0.0)
        self.deadline.armed = True
        with self.report.stage("Repeating the search", asked) as stage:

            def told(what: str, one: Found, met: bool) -> None:
                stage.say("; ".join(word for word in (f"{one.size:,} edges", what, self.deadline.left()) if word))

            try:
                for one in repeated(self.lab, found, asked, told):
                    again.append(one)
                    stage.advance()
            except _OutOfTime:
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
        except _OutOfTime:
            stopped = True
        self.deadline.armed = False
        return self._with_cost(circuit.model_copy(update={"alternatives": others.record(stopped)}))

    def _save(self, circuit: Circuit, name: str) -> None:
        if self.folder is not None:
            self.folder.save_circuit(circuit, name)

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

    def _found(self, scores: EdgeScores, steps: _Steps) -> Selection:
        """Prunes; out of time it is the best circuit so far."""
        settings, choice = self.settings, self.settings.choice
        known = self.lab.view.graph.n_edges if choice.strategy == "acdc" else None
        with self.report.stage("Pruning", known) as stage, steps.watched(stage):
            return self.lab.search(
                scores, settings.faithfulness, choice, report=steps.take, note=self.report.note, progress=stage.at
            )
        return self._selection(steps.best, scores)

    def _tested(self, found: Selection, steps: _Steps) -> Selection:
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
        return circuit.model_copy(update={"task": self.task, "search": search, "command": self.command})

    def _with_cost(self, circuit: Circuit) -> Circuit:
        """The circuit with what everything so far took."""
        cost = self.report.cost(self.lab.exact_evaluations, self.lab.view.device)
        return circuit.model_copy(update={"cost": cost})
